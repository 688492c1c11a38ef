"""Lay out the last lines of a run: the scores of the deep model and of simpler predictors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from valence.formatting import MISSING, Unit, interval, number, plural, unit_of

_SPLITS = ("validation", "test")


def closing_lines(metrics: Mapping[str, Any]) -> list[str]:
    """Lay out the CCC of four predictors on validation and test sets, in 80 columns at most.

    Parameters
    ----------
    metrics
        Content of `metrics.json`.

    Returns
    -------
    A header with the numbers of subjects, and one line each for the deep model, the best regressor,
    ridge on plain statistics of the spectrogram, and the mean of the training labels. If subjects
    are unknown, one more line names the unit that is counted instead.
    """
    unit = unit_of(metrics["subjects_remark"])
    baselines = metrics["baselines"] or {}
    named = {
        "deep model": metrics["deep"],
        "best regressor": metrics["best_regressor"],
        "ridge baseline": baselines.get("functionals"),
        "mean of labels": baselines.get("constant"),
    }
    rows = [
        ("CCC", *(_head(metrics, split, unit) for split in _SPLITS)),
        *((name, *(_cell(scores, split) for split in _SPLITS)) for name, scores in named.items()),
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    lines = ["  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]
    return [*lines, f"Counts and intervals are over {unit.many}."] if unit.note else lines


def _head(metrics: Mapping[str, Any], split: str, unit: Unit) -> str:
    return f"{split} ({plural(len(metrics['subjects'].get(split, {})), unit.one)})"


def _cell(scores: Mapping[str, Any] | None, split: str) -> str:
    found = None if scores is None else scores.get(split)
    if found is None:
        return MISSING
    text = number(found["ccc"])
    if not text.startswith("−"):
        text = f" {text}"
    # The CCC of a constant is 0 by definition, so an interval would say nothing.
    ends = None if found.get("ccc_ci") in (None, [0.0, 0.0], (0.0, 0.0)) else found["ccc_ci"]
    return f"{text} {interval(ends)}".rstrip()
