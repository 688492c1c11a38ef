"""Bring traces to the segment grid: one label for each half second."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from valence.importing.traces import Trace


def to_grid(trace: Trace, segments: int) -> NDArray[np.float32]:
    """Compute the label of each segment as the mean of its samples, on the scale of [-1, 1].

    Returns
    -------
    float32 `[segments]`; NaN where no sample has a value.
    """
    raise NotImplementedError((trace, segments))
