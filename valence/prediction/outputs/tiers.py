"""Turn a prediction into tiers of labelled intervals, the form in which annotators work."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from valence.prediction.outputs.predicted import Predicted
from valence.prediction.passages import find_passages
from valence.prediction.predictor import Timeline


@dataclass(frozen=True)
class Interval:
    """A labelled stretch of time, from `start` to `end` in milliseconds."""

    start: int
    end: int
    text: str


@dataclass(frozen=True)
class Tier:
    """Intervals in the order of time that do not overlap."""

    name: str
    intervals: tuple[Interval, ...]


def tiers_of(predicted: Predicted) -> tuple[Tier, ...]:
    """Make two tiers for each target: its values, and its high and low passages.

    Parameters
    ----------
    predicted
        The recording, with its timeline.

    Returns
    -------
    For each target, a tier named after it with an interval for each segment, whose text is the
    value with three decimals; and a tier `<target> passages`, whose texts are `high` or `low` and
    the passage's mean. A segment without a value has no interval.
    """
    tiers, timeline = [], predicted.timeline
    for column, target in enumerate(timeline.targets):
        values = timeline.values[:, column]
        steps = [
            Interval(_ms(start), _ms(start + timeline.step), _decimal(value))
            for start, value in zip(timeline.time, values, strict=True)
            if np.isfinite(value)
        ]
        passages = [
            Interval(_ms(each.start), _ms(each.end), f"{each.kind} {_decimal(each.mean)}")
            for each in find_passages(values, step=timeline.step, silent=predicted.silent)
        ]
        tiers += [Tier(target, tuple(steps)), Tier(f"{target} passages", tuple(passages))]
    return tuple(tiers)


def end_of(timeline: Timeline) -> int:
    """Return the end of the last segment in milliseconds."""
    return _ms(float(timeline.time[-1]) + timeline.step)


def _ms(seconds: float) -> int:
    return round(1000 * seconds)


def _decimal(value: float) -> str:
    # Adding zero turns -0.0 into 0.0.
    return f"{round(float(value), 3) + 0:.3f}"
