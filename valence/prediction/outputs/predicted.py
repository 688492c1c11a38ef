"""Hold a predicted recording, its outcome and what its files show, and the form of an output."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from valence.audio.mixing import Channel
from valence.audio.speech import LEAST_SHARE, silent_steps
from valence.model.quality import Quality
from valence.prediction.predictor import Stamps, Timeline
from valence.storage.location import Location

Status = Literal["ok", "skipped", "stale", "failed"]


@dataclass(frozen=True)
class PredictionOutcome:
    """The result of predicting one recording.

    Attributes
    ----------
    name, audio
        Name and audio file of the task.
    status
        `ok`: it was predicted; `skipped`: its files existed already; `stale`: files of another
        model or sound exist and may not be replaced; `failed`: its own file cannot be predicted.
    reason
        Why there is no prediction, why existing files are stale, or what was unusual.
    rows
        Rows of its timeline.
    short
        Whether the recording is shorter than a sequence.
    sound_seconds, seconds
        Length of the predicted sound, and how long the prediction took.
    ccc
        Agreement with the annotation, by target, or None without an annotation.
    ccc_speech
        The same agreement, over the segments alone in which somebody speaks.
    spoken
        Number of those segments; None if speech was not looked for.
    speech_by
        The method that found the speech, or `""`.
    masked
        Whether the values of all other segments were left out.
    remarks
        Facts about the sound that a reader must know, such as a rate below the model's.
    timestamp
        Which end of a segment the table's `timestamp` names. With labels it is the end that they
        name. Without labels it is the start, and the column `end` names the end.
    """

    name: str
    audio: str
    status: Status
    reason: str = ""
    rows: int = 0
    short: bool = False
    sound_seconds: float = 0.0
    seconds: float = 0.0
    ccc: Mapping[str, float] | None = None
    remarks: Sequence[str] = ()
    timestamp: Stamps = "start"
    ccc_speech: Mapping[str, float] | None = None
    spoken: int | None = None
    speech_by: str = ""
    masked: bool = False

    def to_json(self) -> dict[str, Any]:
        """Return a dictionary for JSON; `PredictionOutcome(**content)` reads it back."""
        return {**asdict(self), "remarks": list(self.remarks)}


@dataclass(frozen=True, eq=False)
class Predicted:
    """A predicted recording, with all that its files show.

    Attributes
    ----------
    name
        Stem of its files.
    audio
        The recording's file, as the user named it.
    path
        The same file on this machine. It exists only while the outputs are rendered.
    timeline
        The predicted values.
    annotation
        Annotated values by target, float32 `[n]`, NaN where a segment has none.
    stamps
        Which end of a segment the annotations' timestamps name; None without annotations.
    outcome
        The result, as `prediction.json` lists it.
    quality
        The known quality of the model.
    least_speech
        A segment with a smaller share of speech counts as one in which nobody speaks.
    channel
        The channel that the model was given: a number, or `"mean"`.
    out
        Folder of the outputs, for links from them; None if it is not known.
    """

    name: str
    audio: Location
    path: Path
    timeline: Timeline
    annotation: Mapping[str, NDArray[np.float32]]
    stamps: Stamps | None
    outcome: PredictionOutcome
    quality: Quality
    least_speech: float = LEAST_SHARE
    channel: Channel = "mean"
    out: Location | None = None

    @property
    def silent(self) -> NDArray[np.bool_] | None:
        """Tell in which segments nobody speaks, bool `[n]`; None if speech was not looked for."""
        return silent_steps(self.timeline.speech, self.least_speech)


@dataclass(frozen=True)
class Output:
    """A form of file that a prediction can write.

    Attributes
    ----------
    suffix
        End of the file's name, which follows the recording's name.
    render
        Function that makes the file's content. The same recording gives the same bytes.
    """

    suffix: str
    render: Callable[[Predicted], bytes]
