"""Write the card of a model: its kind, its origin, its quality, and the uses it is not made for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from valence.formatting import Unit, count, number, plural, raters_agree, unit_of
from valence.model.network import FeatureInput
from valence.model.quality import Quality, quality_of_record
from valence.model.sharing.card_head import Result, card_head
from valence.provenance import versions
from valence.storage.addresses import name_of

_UNKNOWN_LICENCE = "that of the corpus; ask those who gave it what may be done with a model of it"


@dataclass(frozen=True)
class Card:
    """The content of a model's card.

    Attributes
    ----------
    targets
        Targets that the model predicts.
    parameters
        Number of the model's parameters.
    segment_seconds, length
        Seconds of a segment, and segments of a sequence.
    record
        The model's origin, from `model.json`; any entry may be missing.
    protocol
        Protocol that divided the corpus.
    overlap
        Whether a subject may be in more than one split.
    splits
        One line for each split: recordings, subjects, sound.
    scores
        Rows of the table of scores, as text: `target, split, ccc, interval, pcc, mse, mae, n,
        subjects`. Empty before there is a report.
    results
        The same scores as numbers, for the head that the Hugging Face hub reads.
    remarks
        Lines that follow the scores.
    features
        The set of features that the model takes; None if it takes mel.
    quality
        The quality that the first line states; by default that of a model with this record that is
        not yet evaluated.
    """

    targets: Sequence[str]
    parameters: int
    segment_seconds: float
    length: int
    record: Mapping[str, Any]
    protocol: str
    overlap: bool
    splits: Sequence[str] = ()
    scores: Sequence[Mapping[str, str]] = ()
    results: Sequence[Result] = ()
    remarks: Sequence[str] = ()
    quality: Quality | None = None
    features: FeatureInput | None = None

    def markdown(self) -> str:
        """Return the text of the model's `README.md`, which contains no path of this machine.

        It begins with the head that the Hugging Face hub reads.
        """
        # Markdown is not HTML, so no character has to be escaped.
        environment = Environment(
            loader=PackageLoader("valence.model", "."),
            autoescape=False,
            undefined=StrictUndefined,
            keep_trailing_newline=True,
        )
        corpus = self.record.get("corpus")
        quality = self.quality or Quality(
            **quality_of_record(self.record),
            target=self.targets[0],
            not_evaluated="'valence report' writes its scores here",
        )
        corpus_name = name_of(corpus) if corpus else None
        head = card_head(
            targets=self.targets,
            corpus=corpus_name,
            protocol=self.protocol,
            overlap=self.overlap,
            window_seconds=self.length * self.segment_seconds,
            results=self.results,
        )
        return head + environment.get_template("card.md.j2").render(
            card=self,
            quality=" ".join([quality.sentence, *quality.warnings]),
            targets=" and ".join(self.targets),
            parameters=count(self.parameters),
            version=versions()["valence"],
            corpus=corpus_name or "not recorded",
            licence=self.record.get("licence", _UNKNOWN_LICENCE),
            splits=self.splits or _splits(self.record),
            reached=_reached(self.record),
            subjects_remark=self.record.get("subjects_remark", ""),
            raters=[
                text
                for target in self.targets
                if (text := raters_agree(self.record.get("agreement"), target))
            ],
            unit=unit_of(self.record.get("subjects_remark")),
            features=self.features,
            step=f"{self.segment_seconds:g}",
            window=f"{self.length * self.segment_seconds:g}",
        )


def _splits(record: Mapping[str, Any]) -> list[str]:
    recordings, unit = record.get("recordings", {}), unit_of(record.get("subjects_remark"))
    return [
        f"{split}: "
        + sources(len(recordings[split]) if split in recordings else None, len(subjects), unit)
        + "."
        for split, subjects in record.get("subjects", {}).items()
    ]


def sources(recordings: int | None, subjects: int, unit: Unit) -> str:
    """State the number of subjects, and of recordings where they are counted.

    >>> sources(3, 2, unit_of(""))
    '3 recordings, 2 subjects'
    >>> sources(3, 3, unit_of("subjects are unknown: nobody says who speaks"))
    '3 recordings (subjects unknown)'
    """
    if unit.one == "recording":
        return unit.count(subjects if recordings is None else recordings)
    of = [] if recordings is None else [plural(recordings, "recording")]
    return ", ".join([*of, unit.count(subjects)])


def _reached(record: Mapping[str, Any]) -> str:
    if "validation_ccc" not in record:
        return ""
    return (
        f"In training it reached a validation CCC of {number(record['validation_ccc'])} (seed "
        f"{record['seed']}, epoch {record['epoch']}), by which it was chosen. "
    )
