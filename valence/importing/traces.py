"""Read the traces of a source: each rater's course of a target over a recording."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from valence.config import Target
from valence.importing.declaration import Declaration
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


def read_traces(source: Location, declaration: Declaration) -> Iterator[Trace]:
    """Read the traces of a source, file by file in the order of their names.

    Raises
    ------
    CorpusError
        If a file cannot be read as declared; the message names the file and the line.
    """
    raise NotImplementedError((source, declaration))
