"""Hold the result of predicting one recording."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from valence.prediction.predictor import Stamps

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
