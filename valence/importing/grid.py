"""Bring traces to the segment grid: one label for each half second."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from valence.corpus.annotations import STEP_MS
from valence.errors import AnnotationError
from valence.importing.declaration import PER_SECOND
from valence.importing.readers.trace import Trace

SEGMENT_SECONDS = STEP_MS / 1000
# Times are sums of rounded steps: a middle this close to a segment's begin lies on it.
_DIGITS = 6
# Labels may end long before or after the sound; only another unit, or a fault, makes them this much
# longer.
_TIMES = 200.0
# In their right unit, labels are this many times as long as the sound, at least and at most.
_ALIKE = (0.2, 5.0)


def to_grid(trace: Trace, segments: int) -> NDArray[np.float32]:
    """Compute the label of each segment as the mean of its samples, on the scale of [-1, 1].

    A sample no longer than a segment belongs to the segment in which its middle lies. A longer one
    belongs to every segment whose middle it covers.

    Parameters
    ----------
    trace
        The samples; their scale is mapped to [-1, 1].
    segments
        Number of segments of the recording.

    Returns
    -------
    float32 `[segments]`; NaN where no sample has a value.

    >>> times = np.arange(4) * 0.25
    >>> values = np.array([1.0, 3.0, 5.0, np.nan])
    >>> trace = Trace("1", "valence", None, times, times + 0.25, values, (1.0, 5.0), None)
    >>> to_grid(trace, 3).tolist()
    [-0.5, 1.0, nan]
    """
    known = np.isfinite(trace.value)
    start, end, value = trace.start[known], trace.end[known], trace.value[known]
    sums, counts = np.zeros(segments), np.zeros(segments)
    long = end - start > SEGMENT_SECONDS * (1 + 1e-6)
    middle = (start[~long] + end[~long]) / 2
    place = np.floor(np.round(middle / SEGMENT_SECONDS, _DIGITS))
    inside = (place >= 0) & (place < segments)
    # Times that are far outside are no whole numbers of 64 bits.
    within = place[inside].astype(np.int64)
    np.add.at(sums, within, value[~long][inside])
    np.add.at(counts, within, 1)
    # Segment i is covered from the first middle at or after the begin to the last before the end.
    first = np.ceil(np.round(start[long] / SEGMENT_SECONDS - 0.5, _DIGITS))
    last = np.ceil(np.round(end[long] / SEGMENT_SECONDS - 0.5, _DIGITS))
    bounds = np.clip([first, last], 0, segments).astype(np.int64).T
    for (begin, finish), each in zip(bounds, value[long], strict=True):
        sums[begin:finish] += each
        counts[begin:finish] += 1
    low, high = trace.scale
    mean = np.divide(sums, counts, out=np.full(segments, np.nan), where=counts > 0)
    labels: NDArray[np.float32] = (2 * (mean - low) / (high - low) - 1).astype(np.float32)
    return labels


def end_of(trace: Trace) -> float:
    """Return the end of the last sample with a value in seconds; 0 if there is none.

    A sample that lasts to the end of its file, whose end is infinite, does not count.
    """
    ends = trace.end[np.isfinite(trace.value) & np.isfinite(trace.end)]
    return float(ends.max()) if ends.size else 0.0


def require_units(trace: Trace, seconds: float) -> None:
    """Refuse labels whose length shows that their times count another unit than declared.

    This also bounds the memory that the grid of a trace takes.

    Parameters
    ----------
    trace
        The labels.
    seconds
        Length of the recording.

    Raises
    ------
    AnnotationError
        If the labels are 200 times as long as the recording, or several of them fill the 200th to
        5000th part of it. The message names the unit in which they are about as long, if any.
    """
    length = end_of(trace)
    if length <= 0 or seconds <= 0:
        return
    ratio = length / seconds
    if 1 / _TIMES < ratio < _TIMES or (ratio < 1 and len(trace.value) == 1):
        return
    found = (
        f"'{trace.file}' has labels up to {length:g} s, and '{trace.id}' lasts {seconds:g} s. "
        "Expected about the same; "
    )
    for unit, each in PER_SECOND.items():
        if _ALIKE[0] <= ratio * PER_SECOND[trace.unit] / each <= _ALIKE[1]:
            raise AnnotationError(
                f"{found}the times seem to count {unit}: declare it (--declare labels.unit={unit})."
            )
    if ratio >= _ALIKE[0] / 1000:
        raise AnnotationError(f"{found}correct the times that are wrong.")
