"""Bring the traces of a recording's raters to one grid of time and to the scale of [-1, 1]."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from valence.config import Target
from valence.errors import AnnotationError, CorpusError
from valence.formatting import some
from valence.importing.grid import SEGMENT_SECONDS
from valence.importing.traces import Trace
from valence.storage.location import Location

Values = NDArray[np.float64]

FINEST_SECONDS = 0.02
"""The finest grid in use; denser samples are averaged."""

# Times are sums of decimal steps; a middle that is short of its step by rounding belongs to it.
_ROUNDING = 1e-9


@dataclass(frozen=True)
class Ratings:
    """The values of all raters of one recording and target, on one grid of time.

    Attributes
    ----------
    id
        Id of the recording.
    target
        `"valence"` or `"arousal"`.
    step
        Seconds of a step of the grid; step i spans [i `step`, (i + 1) `step`).
    raters
        Names of the raters, `[raters]`, in natural order.
    values
        float64 `[raters, steps]`; NaN where a rater has no value.
    files
        The files that the values come from.
    remarks
        Oddities that were accepted on the way.
    """

    id: str
    target: Target
    step: float
    raters: tuple[str, ...]
    values: Values
    files: tuple[Location, ...] = ()
    remarks: tuple[str, ...] = ()

    @property
    def coverage(self) -> Values:
        """Compute the share of steps in which each rater has a value, `[raters]`."""
        return np.asarray(np.isfinite(self.values).mean(axis=1))

    def only(self, raters: Iterable[str]) -> Ratings:
        """Return the ratings of some raters, in the order of this object."""
        chosen = set(raters)
        rows = [row for row, name in enumerate(self.raters) if name in chosen]
        names = tuple(self.raters[row] for row in rows)
        return replace(self, raters=names, values=self.values[rows])

    def with_remarks(self, remarks: Iterable[str]) -> Ratings:
        """Return the same ratings with further remarks."""
        return replace(self, remarks=(*self.remarks, *remarks))


def gather(
    traces: Iterable[Trace], *, step: float | None = None, delay: float = 0.0
) -> list[Ratings]:
    """Bring traces to a common grid, and to [-1, 1] by the scale that their source states.

    A step's value is the mean of its samples: those no longer than a step whose middle lies in it,
    and longer ones that cover the middle of the step. `valence.importing.grid.to_grid` has the same
    rule.

    Parameters
    ----------
    traces
        The traces of all recordings.
    step
        Seconds of a step; None for the shortest median step of the raters of a target, but at least
        `FINEST_SECONDS` and at most a segment, for which labels are made.
    delay
        Seconds by which every rater lags behind the sound; the traces begin so much earlier.

    Returns
    -------
    One `Ratings` for each recording and target, sorted by target and Id.

    Raises
    ------
    CorpusError
        If no trace has a rater, or a rater has two traces of the same recording and target.
    AnnotationError
        If a value lies outside the stated scale.
    """
    grouped: dict[tuple[Target, str], dict[str, Trace]] = defaultdict(dict)
    without: list[Trace] = []
    for trace in traces:
        if trace.rater is None:
            without.append(trace)
            continue
        raters = grouped[trace.target, trace.id]
        if trace.rater in raters:
            raise CorpusError(
                f"'{raters[trace.rater].file}' and '{trace.file}' both hold the {trace.target} "
                f"that rater '{trace.rater}' gave to the recording '{trace.id}'. Expected one "
                "trace; remove the other, or tell the raters apart in the declaration."
            )
        raters[trace.rater] = trace
    if without:
        raise CorpusError(
            f"{some([str(trace.file) for trace in without])} hold the {without[0].target} of "
            "recordings without naming a rater. Expected traces of several raters; import a ready "
            "gold standard with 'valence import', or name the raters in the declaration."
        )
    of_target: dict[Target, list[Trace]] = defaultdict(list)
    for (target, _), raters in grouped.items():
        of_target[target] += raters.values()
    steps = {target: step or _own_step(members) for target, members in of_target.items()}
    return [
        _on_one_grid(grouped[target, id], steps[target], delay) for target, id in sorted(grouped)
    ]


def sampled(trace: Trace, step: float, steps: int, *, end: float | None = None) -> Values:
    """Bring the values of a trace to a grid, on the scale of the trace, float64 `[steps]`.

    Parameters
    ----------
    trace
        The trace; samples that begin before 0 count where their middle lies.
    step
        Seconds of a step.
    steps
        Number of steps.
    end
        Seconds at which the last trace of the recording ends; the middle of the last step is that
        of its part up to there. None for the end of the grid.
    """
    known = np.isfinite(trace.value)
    begin, finish, value = trace.start[known], trace.end[known], trace.value[known]
    long = finish - begin > step * (1 + 1e-6)
    middle = (begin[~long] + finish[~long]) / 2
    place = np.floor(middle / step + _ROUNDING).astype(np.int64)
    inside = (place >= 0) & (place < steps)
    # A longer sample belongs to all steps from the first middle that it covers to the last.
    centre = (np.arange(steps) + 0.5) * step
    if steps and end is not None:
        centre[-1] = ((steps - 1) * step + min(end, steps * step)) / 2
    slack = _ROUNDING * step
    first = np.searchsorted(centre, begin[long] - slack)
    after = np.searchsorted(centre, finish[long] - slack)
    covered = [np.arange(*bounds) for bounds in zip(first, after, strict=True)]
    places = np.concatenate([place[inside], *covered]).astype(np.int64)
    given = np.concatenate([value[~long][inside], np.repeat(value[long], after - first)])
    count = np.bincount(places, minlength=steps)
    total = np.bincount(places, weights=given, minlength=steps)
    values = np.full(steps, np.nan)
    values[count > 0] = total[count > 0] / count[count > 0]
    return values


def names_of(group: Sequence[Ratings]) -> list[str]:
    """List the raters of several recordings, each once."""
    return list(dict.fromkeys(name for ratings in group for name in ratings.raters))


def pooled(group: Sequence[Ratings]) -> Values:
    """Join recordings to one row for each rater of `names_of`, float64 `[raters, steps]`."""
    names = names_of(group)
    parts = [np.full((len(names), ratings.values.shape[1]), np.nan) for ratings in group]
    for part, ratings in zip(parts, group, strict=True):
        part[[names.index(name) for name in ratings.raters]] = ratings.values
    return np.concatenate(parts, axis=1) if parts else np.empty((0, 0))


def divided(values: Values, group: Sequence[Ratings]) -> list[Ratings]:
    """Divide joined values again, in the form of `pooled`, and put them in place of a group's."""
    names, first, parts = names_of(group), 0, []
    for ratings in group:
        end = first + ratings.values.shape[1]
        rows = [names.index(name) for name in ratings.raters]
        parts.append(replace(ratings, values=values[rows, first:end]))
        first = end
    return parts


def _own_step(traces: Sequence[Trace]) -> float:
    """Find the shortest step of some traces, to the millisecond, and at most a segment."""
    steps = [float(np.median(t.end - t.start)) for t in traces if t.start.size]
    shortest = min([*steps, SEGMENT_SECONDS])
    return max(FINEST_SECONDS, round(shortest, 3))


def _on_one_grid(traces: dict[str, Trace], step: float, delay: float) -> Ratings:
    raters = sorted(traces, key=_natural)
    moved = [
        replace(trace, start=trace.start - delay, end=trace.end - delay, value=_scaled(trace))
        for trace in (traces[name] for name in raters)
    ]
    last = max((float(trace.end.max()) for trace in moved if trace.end.size), default=0.0)
    steps = max(0, int(np.ceil(last / step - _ROUNDING)))
    return Ratings(
        id=moved[0].id,
        target=moved[0].target,
        step=step,
        raters=tuple(raters),
        values=np.array([sampled(trace, step, steps, end=last) for trace in moved]),
        files=tuple(dict.fromkeys(trace.file for trace in moved)),
        remarks=tuple(dict.fromkeys(remark for trace in moved for remark in trace.remarks)),
    )


def _scaled(trace: Trace) -> Values:
    """Map the stated scale to [-1, 1]."""
    low, high = trace.scale
    outside = np.flatnonzero((trace.value < low) | (trace.value > high))
    if outside.size:
        first = outside[0]
        raise AnnotationError(
            f"'{trace.file}' holds {trace.value[first]:g} at {trace.start[first]:g} s for rater "
            f"'{trace.rater}', and {outside.size} of its values lie outside the stated scale. "
            f"Expected values from {low:g} to {high:g}; correct them, or the scale in the "
            "declaration."
        )
    # About the middle, so that values on the scale of [-1, 1] stay the same to the last digit.
    scaled = (trace.value - (low + high) / 2) / ((high - low) / 2)
    return np.asarray(np.clip(scaled, -1, 1))


def _natural(name: str) -> tuple[tuple[int, int, str], ...]:
    """Order names so that '2' comes before '10'."""
    parts = re.split(r"(\d+)", name)
    return tuple((0, int(p), "") if p.isdigit() else (1, 0, p) for p in parts if p)
