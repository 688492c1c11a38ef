"""Hold what a rater, or a gold standard, says of a recording over time."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from valence.config import Target
from valence.importing.declaration import Unit
from valence.storage.location import Location


@dataclass(frozen=True)
class Trace:
    """One rater's course of one target over one recording, as its file gives it.

    Attributes
    ----------
    id
        Id of the recording.
    target
        `"valence"` or `"arousal"`.
    rater
        Name of the rater; None for a gold standard.
    start, end
        Seconds, float64 `[n]`, ascending: begin and end of the span that each sample describes.
    value
        float64 `[n]` on the stated scale; NaN where there is no value.
    scale
        Lowest and highest value of the stated scale.
    file
        Where it was read (Location).
    unit
        The unit in which the file counts time, as declared.
    remarks
        Oddities that reading accepted.
    """

    id: str
    target: Target
    rater: str | None
    start: NDArray[np.float64]
    end: NDArray[np.float64]
    value: NDArray[np.float64]
    scale: tuple[float, float]
    file: Location
    remarks: tuple[str, ...] = ()
    unit: Unit = "s"
