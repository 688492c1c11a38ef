"""Hold a predicted recording with all that its files show, and the form of an output."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from valence.audio.mixing import Channel
from valence.audio.speech import LEAST_SHARE, silent_steps
from valence.model.quality import Quality
from valence.prediction.outcome import PredictionOutcome
from valence.prediction.predictor import Stamps, Timeline
from valence.storage.location import Location


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
