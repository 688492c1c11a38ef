"""Write a corpus in the MuSe layout from recordings and labels of another form."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from valence.config import Target
from valence.importing.recordings import SourceRecording
from valence.storage.location import Location

Placing = Literal["link", "copy"]


@dataclass(frozen=True)
class Labels:
    """The labels of one target of a recording, on the segment grid.

    Attributes
    ----------
    value
        float32 `[n]` in [-1, 1]; NaN where there is no label. Segment i spans
        [0.5 i, 0.5 (i + 1)) seconds of the recording. An array that is shorter than the recording
        is continued with NaN; what lies behind the recording's end is dropped, with a remark.
    files
        The files that the labels come from.
    remarks
        Oddities that were accepted on the way.
    """

    value: NDArray[np.float32]
    files: tuple[Location, ...] = ()
    remarks: tuple[str, ...] = ()


def write_corpus(
    out: Location,
    recordings: Mapping[str, SourceRecording],
    labels: Mapping[str, Mapping[Target, Labels]],
    *,
    placing: Placing = "link",
    record: Mapping[str, Any],
) -> list[str]:
    """Write audio, labels, partition, subjects and the record of origin.

    Parameters
    ----------
    out
        The folder of the corpus; absent or empty.
    recordings
        The recordings by Id (`find_recordings`).
    labels
        The labels of each recording by target; a recording without labels takes no part.
    placing
        `link` sets links to audio files that are taken whole, if both places are folders of this
        machine; else they are copied. Files that are cut are always written.
    record
        What `metadata/import.json` says beside the origin of every file: command, declaration,
        settings.

    Returns
    -------
    The remarks, also kept in the record.

    Raises
    ------
    OutputError
        If `out` holds something.
    """
    raise NotImplementedError((out, recordings, labels, placing, record))
