"""Put together what a page shows: its words, its paths and its numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from valence.formatting import duration, number, plural
from valence.model.quality import Quality
from valence.prediction.outputs.predicted import Predicted
from valence.prediction.page.curves import (
    MOST_DRAWN,
    Scale,
    Tick,
    area_path,
    band_path,
    clock,
    held_path,
    marks,
    quiet_runs,
    thinned,
    wave_path,
)
from valence.prediction.passages import RULE, Passage, find_passages
from valence.prediction.predictor import Timeline

MOST_STEPS = 50_000
"""Most values that a page carries of each curve: seven hours of half seconds."""
QUIET_SECONDS = 1.0
"""Shortest silence that is drawn over the curves; shorter ones would only be stripes."""
MOST_PASSAGES = 4
"""Most passages of a kind that a page lists."""


@dataclass(frozen=True)
class Curve:
    """A target's curve, as paths, with its axis and its passages."""

    target: str
    alt: str
    predicted: str
    annotated: str
    band: str
    ticks: tuple[Tick, ...]
    high: tuple[Passage, ...]
    low: tuple[Passage, ...]
    high_marks: tuple[tuple[float, float], ...]
    low_marks: tuple[tuple[float, float], ...]


@dataclass(frozen=True)
class Picture:
    """All that is drawn of a recording.

    Attributes
    ----------
    width
        Units of the paths' box: drawn steps.
    step
        Seconds of a segment.
    seconds
        Length of the predicted sound.
    wave
        Path of the sound's level.
    speech
        Path of the share of speech, or an empty string if it is not known.
    quiet
        First step and length of each run in which nobody speaks.
    curves
        A curve for each target.
    data
        Numbers for the script: the values under the cursor.
    words
        Sentences that say how to read the page.
    """

    width: int
    step: float
    seconds: float
    wave: str
    speech: str
    quiet: tuple[tuple[int, int], ...]
    curves: tuple[Curve, ...]
    data: Mapping[str, Any]
    words: tuple[str, ...]


def draw(predicted: Predicted) -> Picture:
    """Draw the timeline of a prediction with its annotations."""
    timeline, annotation = predicted.timeline, predicted.annotation
    n, step = len(timeline), timeline.step
    silent = predicted.silent
    size = -(-n // MOST_DRAWN)
    width = -(-n // size)
    speech = timeline.speech
    least = max(1, round(QUIET_SECONDS / (step * size)))
    quiet = () if silent is None else quiet_runs(silent, size=size, least=least)
    drawn_speech = None if speech is None else thinned(speech, MOST_DRAWN)[0]
    curves = tuple(
        _curve(target, timeline.values[:, column], annotation.get(target), predicted)
        for column, target in enumerate(timeline.targets)
    )
    return Picture(
        width=width,
        step=step,
        seconds=n * step,
        wave=wave_path(timeline.envelope, width),
        speech="" if drawn_speech is None else area_path(drawn_speech),
        quiet=quiet,
        curves=curves,
        data=_data(timeline, annotation, speech),
        words=_words(predicted, curves, quiet=bool(quiet)),
    )


def rmse_of(quality: Quality, target: str) -> float | None:
    """Return the model's error on its test set, if its record states one for this target."""
    return quality.rmse if target == quality.target else None


def _curve(
    target: str,
    values: NDArray[np.float32],
    annotated: NDArray[np.float32] | None,
    predicted: Predicted,
) -> Curve:
    step, error = predicted.timeline.step, rmse_of(predicted.quality, target)
    drawn, size = thinned(values, MOST_DRAWN)
    beside = None if annotated is None else thinned(annotated, MOST_DRAWN)[0]
    shown = [drawn] if error is None else [drawn - error, drawn + error]
    scale = Scale.of(*shown, *([] if beside is None else [beside]))
    found = find_passages(values, step=step, silent=predicted.silent, most=MOST_PASSAGES)
    high = _of_kind(found, "high", -1)
    low = _of_kind(found, "low", 1)
    return Curve(
        target=target,
        alt=_in_words(target, values, step),
        predicted=held_path(drawn, scale),
        annotated="" if beside is None else held_path(beside, scale),
        band="" if error is None else band_path(drawn, error, scale),
        ticks=scale.ticks(),
        high=high,
        low=low,
        high_marks=marks(high, size),
        low_marks=marks(low, size),
    )


def _of_kind(found: Sequence[Passage], kind: str, sign: int) -> tuple[Passage, ...]:
    """Take the passages of a kind, the most extreme first."""
    own = [each for each in found if each.kind == kind]
    return tuple(sorted(own, key=lambda each: sign * each.mean))


def _in_words(target: str, values: NDArray[np.float32], step: float) -> str:
    known = np.flatnonzero(np.isfinite(values))
    if not len(known):
        return f"Predicted {target}: no value"
    found = values[known]
    low, high = int(found.argmin()), int(found.argmax())
    return (
        f"Predicted {target}: from {number(float(found[low]), 2)} at {clock(known[low] * step)} to "
        f"{number(float(found[high]), 2)} at {clock(known[high] * step)}, mean "
        f"{number(float(found.mean(dtype=np.float64)), 2)}"
    )


def _data(
    timeline: Timeline,
    annotation: Mapping[str, NDArray[np.float32]],
    speech: NDArray[np.float32] | None,
) -> dict[str, Any]:
    """Collect the numbers under the cursor with the digits of the CSV; None stands for NaN."""
    size = -(-len(timeline) // MOST_STEPS)
    return {
        "step": timeline.step * size,
        "seconds": len(timeline) * timeline.step,
        "curves": [
            {
                "name": target,
                "predicted": _numbers(timeline.values[:, column]),
                "annotated": _numbers(annotation[target]) if target in annotation else None,
            }
            for column, target in enumerate(timeline.targets)
        ],
        "speech": None if speech is None else _numbers(speech),
    }


def _numbers(values: NDArray[np.float32]) -> list[float | None]:
    means, _ = thinned(values, MOST_STEPS)
    # The shortest digits that tell a float32, as in the CSV, and not those of its double.
    return [float(str(value)) if np.isfinite(value) else None for value in means]


def _words(predicted: Predicted, curves: Sequence[Curve], *, quiet: bool) -> tuple[str, ...]:
    """Say how to read the page."""
    timeline, quality, silent = predicted.timeline, predicted.quality, predicted.silent
    n, step = len(timeline), timeline.step
    targets = " and ".join(timeline.targets)
    words = [f"Each value is the predicted {targets} of {step:g} s, on the labels' scale."]
    if timeline.short:
        words.append(
            "The recording is shorter than a sequence of the model, so one value holds throughout."
        )
    for curve in curves:
        error = rmse_of(quality, curve.target)
        words.append(
            f"The model gives no doubt of its own for {curve.target}, and its record states no "
            "test error, so no band is drawn."
            if error is None
            else f"The band is {curve.target} ± {number(error, 2)}: the model's root mean square "
            "error on the sequences of its test set. It is the same everywhere, and no interval "
            "for a single value."
        )
    if any(curve.high or curve.low for curve in curves):
        words.append(f"{RULE} The lists name {MOST_PASSAGES} of each at most.")
    if predicted.annotation:
        words.append("The thin line shows the annotations.")
    if silent is not None:
        text = (
            f"Nobody speaks in {duration(float(silent.sum() * step))} of the recording: the steps "
            f"with less than {predicted.least_speech:.0%} of speech, found by "
            f"{timeline.speech_by}."
        )
        if quiet:
            text += f" Such stretches of {QUIET_SECONDS:g} s and more are grey."
        left_out = "Values there are left out." if predicted.outcome.masked else ""
        words.append(f"{text} {left_out or 'A value there is not about a voice.'}")
    drawn, carried = -(-n // MOST_DRAWN), -(-n // MOST_STEPS)
    if drawn > 1:
        words.append(
            f"The recording is long: each drawn step is the mean of {plural(drawn, 'value')}."
        )
    if carried > 1:
        words.append(
            f"The value under the cursor is the mean of {plural(carried, 'value')}; the table "
            "beside this page has all."
        )
    return tuple(words)
