"""Make a recording with a known curve, as a page takes it: a tone that stops for a while."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import soundfile
from numpy.typing import NDArray

from valence.model.quality import Quality
from valence.prediction.outputs.predicted import Predicted, PredictionOutcome
from valence.prediction.predictor import Timeline
from valence.storage.location import Location

SR = 16_000
STEP = 0.5
TONE_HZ = 1000.0
# Segments without sound.
SILENT = slice(12, 18)


def made_sound(file: Path, *, n: int = 40, sr: int = SR) -> NDArray[np.float32]:
    """Write a tone of `n` segments, silent for three seconds, and return its samples."""
    seconds = np.arange(round(n * STEP * sr)) / sr
    y = (0.5 * np.sin(2 * np.pi * TONE_HZ * seconds)).astype(np.float32)
    size = round(STEP * sr)
    y[SILENT.start * size : SILENT.stop * size] = 0
    file.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(file, y, sr)
    return y


def made_page_input(
    file: Path,
    *,
    name: str = "talk",
    n: int = 40,
    speech: bool = True,
    annotation: Mapping[str, NDArray[np.float32]] | None = None,
    quality: Quality | None = None,
    out: Path | None = None,
    audio: str | None = None,
) -> Predicted:
    """Write a sound of `n` segments to `file`, and give it a curve whose digits are odd."""
    y = made_sound(file, n=n)
    values = (0.4 * np.sin(np.arange(n) / 5) + 0.01234567).astype(np.float32)
    parts = y.reshape(10 * n, -1)
    share = np.ones(n, np.float32)
    share[SILENT] = 0
    timeline = Timeline(
        time=np.arange(n) * STEP,
        values=values[:, None],
        targets=("valence",),
        short=False,
        envelope=np.stack([parts.min(axis=1), parts.max(axis=1)]) / 0.5,
        step=STEP,
        speech=share if speech else None,
        speech_by="a made share" if speech else "",
    )
    where = Location.parse(audio or str(file))
    return Predicted(
        name=name,
        audio=where,
        path=file,
        timeline=timeline,
        annotation=annotation or {},
        stamps=None,
        outcome=PredictionOutcome(name, str(where), "ok", rows=n, sound_seconds=n * STEP),
        quality=quality or Quality(corpus="made", not_evaluated="a test"),
        out=None if out is None else Location.parse(str(out)),
    )
