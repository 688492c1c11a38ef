"""What a run found: scores of the deep model and the regressors, in the form of `metrics.json`."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from valence.features import Features
from valence.figures import Track
from valence.metrics import ConstantWarning, Scores, concordance, score
from valence.report.evidence import Evidence

SCORED = ("validation", "test")

# The study's deep model and its best regressors, on its own test set.
PAPER_DEEP = {"ccc": 0.3359, "mse": 0.0802, "mae": 0.2246}
PAPER_REGRESSORS = {
    ("none", "selectkbest", "svr"): 0.400,
    ("none", "none", "linear"): 0.380,
    ("none", "none", "ensemble"): 0.362,
    ("minmax", "none", "ridge"): 0.325,
    ("none", "none", "svr"): 0.324,
}


@dataclass(frozen=True)
class Findings:
    """Scores of a run.

    Attributes
    ----------
    deep
        `{target: {split: scores}}` of the deep model; None where a split has no labels.
    subjects
        `{split: {subject: scores}}` for the first target.
    tracks
        `{split: tracks}`: predictions of every recording over time, for the first target.
    """

    deep: Mapping[str, Mapping[str, Scores | None]]
    subjects: Mapping[str, Mapping[str, Scores]]
    tracks: Mapping[str, tuple[Track, ...]]


def find(evidence: Evidence) -> Findings:
    """Score everything that a run predicted and has labels for."""
    features = evidence.features
    sweep = evidence.config.sweep

    def of(split: str, column: int) -> Scores | None:
        rows = features.of(split)
        if not len(rows):
            return None
        with _constant_is_no_fault():
            return score(
                rows.target[:, column],
                rows.prediction[:, column],
                subjects=rows.subject,
                bootstrap=sweep.bootstrap,
                seed=sweep.seed,
            )

    return Findings(
        deep={
            target: {split: of(split, column) for split in SCORED}
            for column, target in enumerate(features.targets)
        },
        subjects={split: _by_subject(features.of(split)) for split in SCORED},
        tracks={
            split: _tracks(features.of(split, labelled=False), evidence)
            for split in (*SCORED, "unlabelled")
        },
    )


def metrics_json(evidence: Evidence, findings: Findings, **more: Any) -> dict[str, Any]:
    """The content of `metrics.json`: `deep` and `best_regressor`, and what else the page tells."""
    selection = evidence.selection
    first, *others = (
        {split: _json(scores) for split, scores in by_split.items()}
        for by_split in findings.deep.values()
    )
    further = dict(zip(evidence.features.targets[1:], others, strict=True))
    return {
        "deep": first,
        "best_regressor": None if selection is None else dict(selection["best"]),
        "target": evidence.target,
        "synthetic": evidence.synthetic,
        "protocol": evidence.protocol,
        "select_on": evidence.config.sweep.select_on,
        "subject_overlap_allowed": evidence.config.split.allow_subject_overlap,
        "further_targets": further,
        "baselines": None if selection is None else selection["baselines"],
        "regressor_less_deep": None if selection is None else selection["paired"],
        "subjects": {
            split: {subject: scores.to_json() for subject, scores in by_subject.items()}
            for split, by_subject in findings.subjects.items()
        },
        "recordings": {
            split: {track.name: track.ccc for track in tracks if track.ccc is not None}
            for split, tracks in findings.tracks.items()
        },
        **more,
    }


def predictions(evidence: Evidence) -> pd.DataFrame:
    """Every sequence with its labels and predictions, a row each.

    Columns: `recording, subject, split, start` (segment)`, timestamp` (of its start, in ms), then
    each target and its prediction.
    """
    features = evidence.features
    columns: dict[str, Any] = {
        "recording": features.recording,
        "subject": features.subject,
        "split": features.split,
        "start": features.start,
        "timestamp": features.start.astype(np.int64) * evidence.config.preprocess.segment_ms,
    }
    for column, target in enumerate(features.targets):
        columns[target] = features.target[:, column]
        name = "prediction" if column == 0 else f"prediction_{target}"
        columns[name] = features.prediction[:, column]
    return pd.DataFrame(columns)


def _by_subject(rows: Features) -> dict[str, Scores]:
    scores = {}
    for subject in np.unique(rows.subject):
        own = rows.rows(rows.subject == subject)
        with _constant_is_no_fault():
            scores[str(subject)] = score(own.target[:, 0], own.prediction[:, 0])
    return scores


def _tracks(rows: Features, evidence: Evidence) -> tuple[Track, ...]:
    config = evidence.config
    middle = config.sequence.length / 2
    tracks = []
    for name in dict.fromkeys(rows.recording.tolist()):
        own = rows.rows(rows.recording == name)
        label, prediction = own.target[:, 0], own.prediction[:, 0]
        known = np.isfinite(label)
        with _constant_is_no_fault():
            ccc = concordance(label[known], prediction[known]) if known.any() else None
        seconds = (own.start + middle) * config.preprocess.segment_seconds
        tracks.append(Track(name, seconds, label, prediction, ccc))
    return tuple(tracks)


def _json(scores: Scores | None) -> dict[str, Any] | None:
    return None if scores is None else scores.to_json()


@contextmanager
def _constant_is_no_fault() -> Iterator[None]:
    """A subject whose label stays the same has a CCC of 0; that is a finding, not a fault."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConstantWarning)
        yield
