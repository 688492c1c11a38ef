"""Score the deep model and the regressors of a run, for the page and for `metrics.json`."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from valence.figures import Shares, Track
from valence.metrics import ConstantWarning, Scores, concordance, score
from valence.report.analysis.results import SPLITS, Evidence
from valence.report.analysis.seeds import Seeds, by_seed
from valence.sweep.features import Features

SCORED = ("validation", "test")
STEPS = ("scaler", "reducer", "regressor")

# Scores of the study's deep model and best regressors on the study's own test set.
PAPER_DEEP = {"ccc": 0.3359, "mse": 0.0802, "mae": 0.2246}
PAPER_REGRESSORS = {
    ("none", "selectkbest", "svr"): 0.400,
    ("none", "none", "linear"): 0.380,
    ("none", "none", "ensemble"): 0.362,
    ("minmax", "none", "ridge"): 0.325,
    ("none", "none", "svr"): 0.324,
}
# For other regressors the study gives limits: all with PCA stay below 0.25, XGBoost reaches 0.24.
PAPER_PCA_BELOW, PAPER_XGBOOST = 0.25, 0.24


@dataclass(frozen=True)
class Findings:
    """Scores of a run.

    Attributes
    ----------
    deep
        Scores of the deep model, `{target: {split: scores}}`; None if a split has no labels.
    subjects
        Scores of each subject, `{split: {subject: scores}}`, for the first target.
    tracks
        Predictions of every recording over time, `{split: tracks}`, for the first target.
    shares
        Distributions of labels and predictions of the first target in each split with labels.
    seeds
        Scores of the training with each seed, or None if it kept no history.
    """

    deep: Mapping[str, Mapping[str, Scores | None]]
    subjects: Mapping[str, Mapping[str, Scores]]
    tracks: Mapping[str, tuple[Track, ...]]
    shares: Shares
    seeds: Seeds | None

    @property
    def headline(self) -> str:
        """Return the split of the page's headline: test if it has labels, else validation."""
        first = next(iter(self.deep.values()))
        return "test" if first["test"] is not None else "validation"


def find(evidence: Evidence) -> Findings:
    """Score all labelled predictions of a run."""
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
        shares=Shares.of(
            {
                split: (own.target[:, 0], own.prediction[:, 0])
                for split in ("train", *SCORED)
                if len(own := features.of(split))
            }
        ),
        seeds=None
        if evidence.history is None or not len(evidence.history)
        else by_seed(evidence.history),
    )


def metrics_json(evidence: Evidence, findings: Findings, **more: Any) -> dict[str, Any]:
    """Build the content of `metrics.json`: `deep`, `best_regressor` and all facts on the page."""
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
        "select_on": evidence.select_on,
        "subjects_known_by": evidence.subjects_known["known_by"],
        "subjects_remark": evidence.subjects_known["remark"],
        "raters": evidence.agreement,
        "subject_overlap_allowed": evidence.config.split.allow_subject_overlap,
        "further_targets": further,
        "baselines": None if selection is None else selection["baselines"],
        "regressor_less_deep": None if selection is None else selection["paired"],
        "deep_less_baseline": None if selection is None else selection.get("deep_less_baseline"),
        "study": _study() if evidence.protocol == "paper" else None,
        "subjects": {
            split: {subject: scores.to_json() for subject, scores in by_subject.items()}
            for split, by_subject in findings.subjects.items()
        },
        "recordings": {
            split: {track.name: track.ccc for track in tracks if track.ccc is not None}
            for split, tracks in findings.tracks.items()
        },
        "distribution": findings.shares.to_json(),
        "sweep": None if evidence.results is None else sweep_rows(evidence),
        "training": None
        if findings.seeds is None or evidence.history is None
        else {**findings.seeds.to_json(), "history": _rows(evidence.history)},
        "corpus": _corpus(evidence),
        **more,
    }


def sweep_rows(evidence: Evidence) -> list[dict[str, Any]]:
    """Return the rows of `results.csv`, with intervals for the combinations that have them."""
    assert evidence.results is not None
    leaders = (evidence.selection or {}).get("leaders", ())
    known = {tuple(each[name] for name in STEPS): each for each in leaders}
    rows = _rows(evidence.results)
    for row in rows:
        of = known.get(tuple(row[name] for name in STEPS), {})
        for split in SCORED:
            row[f"ccc_{split}_ci"] = (of.get(split) or {}).get("ccc_ci")
    return rows


def split_rows(evidence: Evidence) -> list[dict[str, Any]]:
    """Count recordings, subjects and sequences of each split that has a recording, one row each."""
    usable, rejected = evidence.usable, evidence.rejected
    rows = []
    for split in SPLITS:
        own, lost = usable[usable["split"] == split], rejected[rejected["split"] == split]
        if len(own) or len(lost):
            rows.append(
                {
                    "split": split,
                    "subjects": int(own["subject"].nunique()),
                    "recordings": len(own),
                    "seconds": float(own["duration"].sum()),
                    "segments": int(own["segments"].sum()),
                    "sequences": int((evidence.features.split == split).sum()),
                    "rejected": len(lost),
                }
            )
    return rows


def _corpus(evidence: Evidence) -> dict[str, Any]:
    columns = ["Id", "subject", "split", "duration", "segments", "labelled"]
    return {
        "recordings": len(evidence.recordings),
        "subjects": int(evidence.recordings["subject"].nunique()),
        "seconds": float(evidence.usable["duration"].sum()),
        "splits": split_rows(evidence),
        "usable": [
            {**row, "remarks": [str(remark) for remark in remarks]}
            for row, remarks in zip(
                _rows(evidence.usable[columns]), evidence.usable["remarks"], strict=True
            )
        ],
        "rejected": _rows(evidence.rejected[["Id", "split", "reason"]]),
    }


def _study() -> dict[str, Any]:
    return {
        "deep": dict(PAPER_DEEP),
        "regressors": {" + ".join(names): ccc for names, ccc in PAPER_REGRESSORS.items()},
        "pca_below": PAPER_PCA_BELOW,
        "xgboost": PAPER_XGBOOST,
    }


def _rows(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """Convert a table to rows for JSON, with None for NaN, which JSON lacks."""
    return [
        {
            str(name): None
            if isinstance(value, float) and not math.isfinite(value)
            else value.item()
            if isinstance(value, np.generic)
            else value
            for name, value in row.items()
        }
        for row in frame.to_dict("records")
    ]


def predictions(evidence: Evidence) -> pd.DataFrame:
    """Build a table of all sequences with their labels and predictions, one row each.

    The columns are `recording`, `subject`, `split`, `start` (first segment), `timestamp` (start of
    the sequence in ms; label files may name the end of a segment instead), and then each target
    with its prediction.
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
    """Ignore warnings of constant labels: a CCC of 0 for such a subject is a valid result."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConstantWarning)
        yield
