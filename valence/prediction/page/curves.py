"""Draw curves, sound level and speech as paths of an SVG that stretches with the page.

All paths lie in a box that is as many units wide as there are drawn steps, and `HEIGHT` high.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from valence.formatting import number
from valence.prediction.passages import Passage

HEIGHT = 1000
MOST_DRAWN = 2400
"""Most steps of a drawn curve; more cannot be told apart on a screen."""

_MOST_PARTS = 1200
_TIME_STEPS = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 43200, 86400)
_MOST_TIMES = 6
# An axis is at least so high, so that a flat curve looks flat.
_LEAST_RANGE = 0.2
_MARGIN = 0.08

Values = NDArray[np.floating]


@dataclass(frozen=True)
class Tick:
    """A mark on an axis: its place in percent from the left or the top, and its text."""

    place: float
    text: str


@dataclass(frozen=True)
class Scale:
    """The range of values that an axis shows."""

    low: float
    high: float

    @classmethod
    def of(cls, *shown: Values) -> Scale:
        """Choose a range for all finite values, with a margin."""
        every = np.concatenate([np.ravel(values) for values in shown])
        every = every[np.isfinite(every)]
        low, high = (float(every.min()), float(every.max())) if len(every) else (0.0, 0.0)
        room = max(_LEAST_RANGE - (high - low), 0) / 2 + _MARGIN * max(high - low, _LEAST_RANGE)
        return cls(low - room, high + room)

    def places(self, values: Values) -> NDArray[np.float64]:
        """Compute the distance from the top, 0 to `HEIGHT`; NaN stays NaN."""
        places: NDArray[np.float64] = (
            HEIGHT * (self.high - np.asarray(values, np.float64)) / (self.high - self.low)
        )
        return places

    def ticks(self) -> tuple[Tick, ...]:
        """Choose round values to mark."""
        found = MaxNLocator(nbins=6, steps=[1, 2, 5, 10]).tick_values(self.low, self.high)
        digits = 1 if np.allclose(found, np.round(found, 1)) else 2
        return tuple(
            Tick(round(float(place) / HEIGHT * 100, 2), number(float(value), digits))
            for value, place in zip(found, self.places(np.asarray(found)), strict=True)
            if self.low <= value <= self.high
        )


def thinned(values: Values, most: int) -> tuple[Values, int]:
    """Average as many neighbours as bring values `[n]` to `most` or fewer, leaving NaN out.

    Returns
    -------
    The means, and how many neighbours each stands for.
    """
    size = -(-len(values) // most)
    if size == 1:
        return values, 1
    starts = np.arange(0, len(values), size)
    known = np.isfinite(values)
    counts = np.add.reduceat(known.astype(np.int64), starts)
    sums = np.add.reduceat(np.where(known, values, 0).astype(np.float64), starts)
    means = np.where(counts > 0, sums / np.maximum(counts, 1), np.nan)
    return means.astype(values.dtype), size


def held_path(values: Values, scale: Scale) -> str:
    """Draw values that each hold for a step, with a gap at NaN.

    >>> held_path(np.array([1.0, 0.5, np.nan, 0.0]), Scale(0, 1))
    'M0 0H1V500H2M3 1000H4'
    """
    parts = []
    drawn = False
    for step, place in enumerate(scale.places(values)):
        if not np.isfinite(place):
            drawn = False
            continue
        parts.append(f"V{round(place)}" if drawn else f"M{step} {round(place)}")
        parts.append(f"H{step + 1}")
        drawn = True
    return "".join(parts)


def band_path(values: Values, width: float, scale: Scale) -> str:
    """Draw the area from `width` below to `width` above values that each hold for a step."""
    above, below = scale.places(values + width), scale.places(values - width)
    parts = []
    for first, end in _runs(np.isfinite(values)):
        parts.append(f"M{first} {round(above[first])}")
        parts += [f"V{round(above[step])}H{step + 1}" for step in range(first, end)]
        parts += [f"V{round(below[step])}H{step}" for step in reversed(range(first, end))]
        parts.append("Z")
    return "".join(parts)


def wave_path(envelope: Values, width: int) -> str:
    """Draw the lowest and highest samples `[2, parts]`, in [-1, 1], as one area of this width."""
    size = -(-envelope.shape[1] // _MOST_PARTS)
    starts = np.arange(0, envelope.shape[1], size)
    scale = Scale(-1, 1)
    low = scale.places(np.minimum.reduceat(envelope[0], starts))
    high = scale.places(np.maximum.reduceat(envelope[1], starts))
    x = np.append(starts, envelope.shape[1]) * width / envelope.shape[1]
    corners = [f"{(a + b) / 2:.4g} {round(y)}" for (a, b), y in zip(pairwise(x), high, strict=True)]
    corners += reversed(
        [f"{(a + b) / 2:.4g} {round(y)}" for (a, b), y in zip(pairwise(x), low, strict=True)]
    )
    return f"M{'L'.join(corners)}Z"


def area_path(shares: Values) -> str:
    """Draw shares `[n]` from 0 to 1 as an area above the lower edge; NaN counts as 0."""
    corners = held_path(np.nan_to_num(shares), Scale(0, 1)).replace("M0 ", f"M0 {HEIGHT}V")
    return f"{corners}V{HEIGHT}Z"


def quiet_runs(
    silent: NDArray[np.bool_], *, size: int = 1, least: int = 1
) -> tuple[tuple[int, int], ...]:
    """Find the runs of at least `least` drawn steps in which nobody speaks.

    Parameters
    ----------
    silent
        Whether nobody speaks in a segment, `[n]`.
    size
        Segments of a drawn step, which is silent if all of them are.
    least
        Drawn steps of the shortest run.

    Returns
    -------
    First step and length of each run.

    >>> quiet_runs(np.array([False, True, False, True, True, True]), least=2)
    ((3, 3),)
    >>> quiet_runs(np.array([False, True, True, True, True]), size=2)
    ((1, 2),)
    """
    drawn = np.logical_and.reduceat(silent, np.arange(0, len(silent), size))
    return tuple((first, end - first) for first, end in _runs(drawn) if end - first >= least)


def time_ticks(seconds: float) -> tuple[Tick, ...]:
    """Choose round times to mark on an axis of this many seconds."""
    step = next((each for each in _TIME_STEPS if seconds / each <= _MOST_TIMES), _TIME_STEPS[-1])
    times = np.arange(0, seconds - 0.04 * seconds, step)
    return tuple(Tick(round(100 * float(time) / seconds, 3), clock(float(time))) for time in times)


def clock(seconds: float) -> str:
    """Write a time as on a player's clock.

    >>> clock(5), clock(75.5), clock(3661)
    ('0:05', '1:15.5', '1:01:01')
    """
    tenths = round(10 * seconds)
    whole, rest = divmod(tenths, 10)
    minutes, second = divmod(whole, 60)
    hours, minute = divmod(minutes, 60)
    text = f"{hours}:{minute:02d}:{second:02d}" if hours else f"{minutes}:{second:02d}"
    return f"{text}.{rest}" if rest else text


def marks(passages: Sequence[Passage], size: int) -> tuple[tuple[float, float], ...]:
    """Place passages of segments in drawn steps of `size` segments, as first step and length."""
    return tuple(
        (round(each.first / size, 2), round((each.stop - each.first) / size, 2))
        for each in passages
    )


def _runs(flags: NDArray[np.bool_]) -> list[tuple[int, int]]:
    """Find the runs of true flags `[n]`, as pairs of first and end."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], flags, [False]]).astype(np.int8)))
    return [(int(first), int(end)) for first, end in edges.reshape(-1, 2)]
