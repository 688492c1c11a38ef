"""Find the subject of a recording by a rule on its Id: a known corpus's, or the user's own.

Sources of the rules: EmoDB, "positions 1-2: number of speaker" (Burkhardt et al., Interspeech
2005); RAVDESS, seventh part "actor" (Livingstone and Russo, PLOS ONE 2018); CREMA-D, first part
"actor id" (Cao et al., IEEE TAC 2014); MSP-IMPROV, fourth part, gender and session (Busso et al.,
IEEE TAC 2017). The Ids of MSP-Podcast name the podcast; only its label table names the speaker.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from valence.errors import ConfigError
from valence.formatting import UNKNOWN
from valence.storage.filenames import normal

SubjectSource = Literal["file", "rule", "id", "synthetic", "unknown"]
"""The source of the subjects: `file` is `metadata/subjects.csv`, `rule` is `corpus.subjects`, `id`
is the Ids (several recordings share an Id apart from its suffix), `synthetic` is the embedded
synthesis, and `unknown` is no source at all."""


@dataclass(frozen=True)
class KnownCorpus:
    """A corpus whose form of Ids is known.

    Attributes
    ----------
    name
        The name of the corpus in messages.
    pattern
        Regular expression that matches a whole Id. Its group, if it has one, is the subject.
    """

    name: str
    pattern: str

    @property
    def names_subject(self) -> bool:
        """Tell whether the Ids say who speaks."""
        return re.compile(self.pattern).groups == 1


KNOWN = {
    "emodb": KnownCorpus("EmoDB", r"(\d\d)[ab]\d\d[NWAFTELnwaftel][a-z]?"),
    "ravdess": KnownCorpus("RAVDESS", r"(?:\d\d-){6}(\d\d)"),
    "crema-d": KnownCorpus("CREMA-D", r"(1\d{3})_[A-Z]{3}_[A-Z]{3}_[A-Z]{1,2}"),
    "msp-improv": KnownCorpus(
        "MSP-IMPROV", r"(?:MSP|UTD)-IMPROV-S\d\d[A-Z]-([FM]\d\d)-[A-Z]-[A-Z]{2}\d{2,3}"
    ),
    "msp-podcast": KnownCorpus("MSP-Podcast", r"MSP-PODCAST_\d{4}_\d{4}(?:_\d{4})?"),
}
RULES = tuple(name for name, corpus in KNOWN.items() if corpus.names_subject)


def subjects_by_rule(names: Sequence[str], rule: str) -> dict[str, str]:
    """Find the subject of every Id by a rule.

    Parameters
    ----------
    names
        Ids without `_train`, `_devel` or `_test`.
    rule
        The name of a known corpus, or a regular expression that matches a whole Id and has one
        group, the subject.

    Raises
    ------
    ConfigError
        If the rule is neither of these, or does not match every Id.

    >>> subjects_by_rule(["03a01Fa", "16b10Wb"], "emodb")
    {'03a01Fa': '03', '16b10Wb': '16'}
    """
    known = ", ".join(f"'{name}'" for name in RULES)
    offered = f"Expected one of {known}, or a regular expression with one group, the subject"
    pattern = KNOWN[rule].pattern if rule in RULES else rule
    try:
        compiled = re.compile(pattern)
    except re.error as cause:
        raise ConfigError(
            f"corpus.subjects = '{rule}' is no regular expression: {cause}. {offered}; correct it."
        ) from cause
    if compiled.groups != 1:
        raise ConfigError(
            f"corpus.subjects = '{rule}' has {compiled.groups} groups. {offered}; correct it."
        )
    found = {name: match for name in names if (match := compiled.fullmatch(name)) and match[1]}
    if others := [name for name in names if name not in found]:
        raise ConfigError(
            f"corpus.subjects = '{rule}' finds no subject in {len(others)} of {len(names)} Ids "
            f"({_some(others)}). Expected a rule that matches every Id as a whole; correct it, or "
            "write metadata/subjects.csv with Id,subject instead."
        )
    return {name: normal(match[1]) for name, match in found.items()}


def known_corpus(names: Sequence[str]) -> str | None:
    """Find the known corpus whose form most Ids have; return its key in `KNOWN`, or None.

    >>> known_corpus(["03-01-06-01-02-01-12", "03-01-06-01-02-01-13"]), known_corpus(["1", "2"])
    ('ravdess', None)
    """
    for key, corpus in KNOWN.items():
        matches = sum(bool(re.fullmatch(corpus.pattern, name)) for name in names)
        if 2 * matches > len(names):
            return key
    return None


def unknown_subjects(names: Sequence[str]) -> str:
    """Word the remark that the subjects are unknown, what follows, and what to do.

    Parameters
    ----------
    names
        All Ids, without `_train`, `_devel` or `_test`.
    """
    remark = (
        f"{UNKNOWN}: metadata/subjects.csv is absent and the Ids carry no subject, so "
        f"each of the {len(set(names))} recordings counts as a subject of its own. If a person "
        "speaks in several, that person may stand in training and in test, and scores and "
        "intervals promise too much; "
    )
    key = known_corpus(names)
    if key is None:
        return remark + "name the subjects in metadata/subjects.csv (Id,subject)"
    looks = f"the Ids look like {KNOWN[key].name}'s"
    if not KNOWN[key].names_subject:
        return (
            f"{remark}{looks}, which do not say who speaks: take the speakers from that corpus's "
            "label table (SpkrID) into metadata/subjects.csv (Id,subject)"
        )
    return f"{remark}{looks}: accept that corpus's rule with corpus.subjects = '{key}'"


def _some(names: Sequence[str], most: int = 3) -> str:
    return ", ".join(f"'{name}'" for name in names[:most]) + (", …" if len(names) > most else "")
