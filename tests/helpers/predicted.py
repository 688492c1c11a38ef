"""Make predicted recordings by hand, for tests of their outputs."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from valence.model.quality import Quality
from valence.prediction.outputs.predicted import Predicted, PredictionOutcome
from valence.prediction.predictor import Timeline
from valence.storage.location import Location

# Twenty steps of half a second: a high passage from 0.5 to 2.5 s, a low one from 6 to 8 s, and a
# step without a value at 9.5 s.
_FIRST = [0, 0.4, 0.45, 0.5, 0.4, 0, 0.1, 0.1, 0.1, 0.1]
_LAST = [0, 0, -0.4, -0.5, -0.4, -0.4, 0, 0, -1e-5, np.nan]
VALENCE = np.array([*_FIRST, *_LAST], np.float32)
AROUSAL = np.linspace(-0.9, 0.95, 20).astype(np.float32)


def made_predicted(audio: str, *, targets: tuple[str, ...] = ("valence",)) -> Predicted:
    """Return a prediction of ten seconds; its audio file need not exist."""
    columns = {"valence": VALENCE, "arousal": AROUSAL}
    timeline = Timeline(
        time=np.arange(20) / 2,
        values=np.stack([columns[target] for target in targets], axis=1),
        targets=targets,
        short=False,
        envelope=np.stack([-np.ones(200), np.ones(200)]).astype(np.float32),
    )
    location = Location.parse(audio)
    outcome = PredictionOutcome(location.stem, str(location), "ok", rows=20, sound_seconds=10.0)
    return Predicted(
        location.stem, location, Path(location.path), timeline, {}, None, outcome, Quality()
    )
