"""Render a prediction as a table of audformat.

The form is described in audformat's documentation (docs/data-tables.rst): the columns `file`,
`start` and `end` are the index of a segmented table, with times in pandas' own writing.
"""

from __future__ import annotations

import pandas as pd

from valence.prediction.outputs.predicted import Predicted


def render(predicted: Predicted) -> bytes:
    """Write a prediction as CSV that `audformat.utils.read_csv` reads as a segmented table.

    `file` is the full path of the recording, or its URI. A column for each target follows the
    index, empty where a segment has no value, and the column `speech` if there is one.
    """
    timeline, audio = predicted.timeline, predicted.audio
    found = timeline.to_frame()
    table = pd.DataFrame(
        {
            "file": audio.uri if audio.local is None else audio.path,
            "start": pd.to_timedelta(found["timestamp"], unit="ms"),
            "end": pd.to_timedelta(found["end"], unit="ms"),
        }
    )
    wanted = [*timeline.targets, *(["speech"] if timeline.speech is not None else [])]
    return str(table.join(found[wanted]).to_csv(index=False)).encode()
