"""Find the passages of a timeline in which its values are highest and lowest.

The rule: a step is high if its value lies in the upper fifth of the recording's own values and
above their median, and low if it lies in the lower fifth and below the median. A passage is a run
of high, or of low, steps. A gap of at most one second within a run belongs to it. Passages of less
than two seconds are left out. Steps without a value belong to none. A recording whose values are
all the same has no passage. A value in a step where nobody speaks is about no voice, so such a
step counts for nothing but a gap.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.floating]

# Share of a recording's values that counts as high, and as low.
SHARE = 0.2
# A run may be interrupted for so long, and must last for so long, in seconds.
GAP_SECONDS = 1.0
LEAST_SECONDS = 2.0

RULE = (
    f"A passage is high (low) where the values lie in the upper (lower) {SHARE:.0%} of the "
    f"recording's own for at least {LEAST_SECONDS:g} s. Steps without speech do not count."
)


@dataclass(frozen=True)
class Passage:
    """A stretch of a recording with high or low values.

    Attributes
    ----------
    kind
        `"high"` or `"low"`, measured against the recording's own values.
    first, stop
        Its first step, and the first one after it.
    start, end
        Its ends in seconds.
    mean
        Mean of its values, those of steps without speech left out.
    """

    kind: Literal["high", "low"]
    first: int
    stop: int
    start: float
    end: float
    mean: float


def find_passages(
    values: Values,
    *,
    step: float,
    silent: NDArray[np.bool_] | None = None,
    most: int | None = None,
) -> tuple[Passage, ...]:
    """Find the passages with the highest and the lowest values of a recording.

    Parameters
    ----------
    values
        Values of one target, `[n]`, NaN where there is none.
    step
        Length of a step in seconds.
    silent
        Steps in which nobody speaks, `[n]`; None if that is not known.
    most
        Greatest number of high passages, and of low ones; those with the most extreme means are
        kept. None keeps all.

    Returns
    -------
    The passages in the order of time. High and low passages do not overlap.

    >>> found = find_passages(np.array([0, 0, 0, 0, 1, 1, 1, 1, 0, 0, 0, 0.0]), step=0.5)
    >>> [(each.kind, each.start, each.end) for each in found]
    [('high', 2.0, 4.0)]
    """
    absent = ~np.isfinite(values) if silent is None else ~np.isfinite(values) & ~silent
    spoken = values if silent is None else np.where(silent, np.nan, values)
    voiced = spoken[np.isfinite(spoken)].astype(np.float64)
    if not voiced.size:
        return ()
    low, middle, high = np.quantile(voiced, [SHARE, 0.5, 1 - SHARE])
    found: list[Passage] = []
    # Comparisons with NaN are false, so that a step without a value is neither high nor low.
    of_kind: tuple[tuple[Literal["high", "low"], NDArray[np.bool_]], ...] = (
        ("high", (spoken >= high) & (spoken > middle)),
        ("low", (spoken <= low) & (spoken < middle)),
    )
    (_, above), (_, below) = of_kind
    for kind, inside in of_kind:
        other = below if kind == "high" else above
        runs = _runs(_closed(inside, barred=other | absent, most=round(GAP_SECONDS / step)))
        passages = [
            Passage(
                kind, a, b, a * step, b * step, float(np.nanmean(spoken[a:b], dtype=np.float64))
            )
            for a, b in runs
            if (b - a) * step >= LEAST_SECONDS
        ]
        passages.sort(key=lambda each: -each.mean if each.kind == "high" else each.mean)
        found += passages[:most]
    return tuple(sorted(found, key=lambda each: each.first))


def _runs(inside: NDArray[np.bool_]) -> list[tuple[int, int]]:
    """List the runs of true values, each by its first place and the first one after it."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], inside, [False]]).astype(np.int8)))
    return [(int(a), int(b)) for a, b in zip(edges[::2], edges[1::2], strict=True)]


def _closed(
    inside: NDArray[np.bool_], *, barred: NDArray[np.bool_], most: int
) -> NDArray[np.bool_]:
    """Fill the gaps of at most `most` places between true values that hold no barred place."""
    closed = inside.copy()
    runs = _runs(inside)
    for (_, end), (start, _) in pairwise(runs):
        if start - end <= most and not barred[end:start].any():
            closed[end:start] = True
    return closed
