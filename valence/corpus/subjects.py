"""Who speaks in a recording, by a rule on its Id: those of known corpora, or a user's own.

Sources of the rules: EmoDB, "positions 1-2: number of speaker" (Burkhardt et al., Interspeech
2005); RAVDESS, seventh part "actor" (Livingstone and Russo, PLOS ONE 2018); CREMA-D, first part
"actor id" (Cao et al., IEEE TAC 2014); MSP-IMPROV, fourth part, gender and session (Busso et al.,
IEEE TAC 2017). MSP-Podcast names the podcast in its Ids and the speaker only in its label table.
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
"""How subjects are known: `metadata/subjects.csv`, `corpus.subjects`, several recordings that share
an Id less its suffix, the embedded synthesis; or not at all."""


@dataclass(frozen=True)
class KnownCorpus:
    """A corpus whose Ids are known.

    Attributes
    ----------
    name
        The corpus's, for people.
    pattern
        Regular expression of a whole Id; its group is the subject, where the Id has one.
    """

    name: str
    pattern: str

    @property
    def names_subject(self) -> bool:
        """Whether its Ids say who speaks."""
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


"""How the remark on unknown subjects begins, which runs and models keep."""


def subjects_by_rule(names: Sequence[str], rule: str) -> dict[str, str]:
    """Find the subject of every Id by a rule.

    Parameters
    ----------
    names
        Ids less `_train`, `_devel`, `_test`.
    rule
        The name of a known corpus, or a regular expression that matches a whole Id and has one
        group, the subject.

    Raises
    ------
    ConfigError
        If the rule is neither, or does not match every Id.

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
    """The known corpus that most of some Ids look like, as a key of `KNOWN`, or None.

    >>> known_corpus(["03-01-06-01-02-01-12", "03-01-06-01-02-01-13"]), known_corpus(["1", "2"])
    ('ravdess', None)
    """
    for key, corpus in KNOWN.items():
        matches = sum(bool(re.fullmatch(corpus.pattern, name)) for name in names)
        if 2 * matches > len(names):
            return key
    return None


def unknown_subjects(names: Sequence[str]) -> str:
    """Say that nobody knows who speaks, what follows, and what to do.

    Parameters
    ----------
    names
        All Ids, less `_train`, `_devel`, `_test`.
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
