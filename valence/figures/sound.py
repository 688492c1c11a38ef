"""Draw sound: the mel of a segment and of a sequence, and the attention over a sequence."""

from __future__ import annotations

import librosa
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from numpy.typing import NDArray

from valence.figures.drawing import (
    BLUE,
    INK,
    MUTED,
    OVER_DARK,
    SOUND_MAP,
    Drawing,
    is_narrow,
    new_figure,
    quiet_grid,
)

# The colour map ends this many decibels below the loudest value; otherwise silence would take most
# of its colours.
_RANGE_DB = 80.0
_TICKS_KHZ = (0.25, 0.5, 1, 2, 4, 8, 16)


def segment_mel(
    mel: NDArray[np.floating], *, sr: int, hop_length: int, segment_seconds: float
) -> Drawing:
    """Draw the log-mel spectrogram of one segment, `[n_mels, n_frames]` in dB."""
    n_mels, n_frames = mel.shape
    milliseconds = 1000 * hop_length / sr
    sound = 1000 * segment_seconds

    def draw(width: float) -> Figure:
        figure = new_figure(width, 0.62 * width if is_narrow(width) else 0.36 * width)
        axes = figure.add_subplot()
        image = _show(axes, mel, end=n_frames * milliseconds)
        axes.axvline(sound, color=OVER_DARK, linewidth=1.2, linestyle=(0, (4, 3)))
        axes.set_xticks([*np.linspace(0, sound, 6)[:-1], sound])
        axes.set_xlabel(f"time [ms]; the sound ends at {sound:g} ms, zeros follow")
        _frequency_axis(axes, n_mels, sr)
        _level_bar(figure, axes, image)
        return figure

    alt = (
        f"Log-mel spectrogram of one segment of {segment_seconds:g} s: {n_mels} mel bands up to "
        f"{sr / 2000:g} kHz by {n_frames} frames of {milliseconds:g} ms, the last of which reach "
        f"into zeros behind the sound, from {mel.min():.0f} to {mel.max():.0f} dB. "
        f"{_loudest_band(mel, sr)}"
    )
    return Drawing("mel-segment", alt, draw)


def sequence_mel(mel: NDArray[np.floating], *, sr: int, segment_seconds: float) -> Drawing:
    """Draw the log-mels of a sequence side by side, `[segments, n_mels, n_frames]` in dB."""
    n_segments, n_mels, _ = mel.shape
    joined = np.concatenate(list(mel), axis=1)
    seconds = n_segments * segment_seconds

    def draw(width: float) -> Figure:
        figure = new_figure(width, 0.55 * width if is_narrow(width) else 0.3 * width)
        axes = figure.add_subplot()
        image = _show(axes, joined, end=seconds)
        axes.set_xlabel("time [s]")
        _frequency_axis(axes, n_mels, sr)
        _level_bar(figure, axes, image)
        return figure

    alt = (
        f"Log-mel spectrogram of one sequence: {n_segments} segments, {seconds:g} s of speech, "
        f"{n_mels} mel bands up to {sr / 2000:g} kHz, from {joined.min():.0f} to "
        f"{joined.max():.0f} dB. {_loudest_band(joined, sr)}"
    )
    return Drawing("mel-sequence", alt, draw)


def attention(
    mel: NDArray[np.floating],
    weights: NDArray[np.floating],
    *,
    sr: int,
    segment_seconds: float,
    recording: str,
    start_seconds: float,
) -> Drawing:
    """Draw the attention over one sequence, `[segments]` summing to 1, below its mel in dB."""
    n_segments, n_mels, _ = mel.shape
    joined = np.concatenate(list(mel), axis=1)
    end = start_seconds + n_segments * segment_seconds
    edges = start_seconds + segment_seconds * np.arange(n_segments + 1)
    uniform = 1 / n_segments
    peak = int(np.argmax(weights))

    def draw(width: float) -> Figure:
        figure = new_figure(width, 0.85 * width if is_narrow(width) else 0.42 * width)
        upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(3, 2))
        image = _show(upper, joined, start=start_seconds, end=end)
        _frequency_axis(upper, n_mels, sr)
        _level_bar(figure, upper, image)
        lower.stairs(100 * weights, edges, fill=True, color=BLUE)
        lower.axhline(100 * uniform, color=INK, linewidth=1, linestyle=(0, (4, 3)))
        lower.annotate(
            "equal weights",
            (start_seconds, 100 * uniform),
            xytext=(4, 3),
            textcoords="offset points",
            fontsize=8,
            color=INK,
        )
        lower.set_ylim(0, 1.15 * 100 * max(float(weights.max()), uniform))
        lower.set_ylabel("attention [%]")
        lower.set_xlabel("time in the recording [s]")
        quiet_grid(lower)
        return figure

    alt = (
        f"Attention over the sequence of recording {recording} from {start_seconds:g} to {end:g} "
        f"s. The most, {100 * weights[peak]:.1f} %, lies on the segment at {edges[peak]:g} s; the "
        f"least is {100 * weights.min():.1f} %; equal weights would be {100 * uniform:.1f} %."
    )
    return Drawing("attention", alt, draw)


def _show(axes: Axes, mel: NDArray[np.floating], *, end: float, start: float = 0.0) -> AxesImage:
    top = float(mel.max())
    return axes.imshow(
        mel.astype(np.float32),
        origin="lower",
        aspect="auto",
        cmap=SOUND_MAP,
        interpolation="nearest",
        extent=(start, end, -0.5, mel.shape[0] - 0.5),
        vmin=max(float(mel.min()), top - _RANGE_DB),
        vmax=top,
    )


def _band_centres(n_mels: int, sr: int) -> NDArray[np.float64]:
    """Compute the centre frequencies of the mel bands in Hz, `[n_mels]`."""
    return np.asarray(librosa.mel_frequencies(n_mels + 2, fmin=0, fmax=sr / 2)[1:-1], np.float64)


def _frequency_axis(axes: Axes, n_mels: int, sr: int) -> None:
    kilohertz = _band_centres(n_mels, sr) / 1000
    ticks = [khz for khz in _TICKS_KHZ if kilohertz[0] <= khz <= kilohertz[-1]]
    axes.set_yticks(np.interp(ticks, kilohertz, np.arange(n_mels)), [f"{khz:g}" for khz in ticks])
    axes.set_ylabel("frequency [kHz], mel scale")


def _level_bar(figure: Figure, axes: Axes, image: AxesImage) -> None:
    bar = figure.colorbar(image, ax=axes, pad=0.015, fraction=0.06, aspect=18)
    bar.set_label("level [dB]", color=MUTED)
    bar.outline.set_visible(False)


def _loudest_band(mel: NDArray[np.floating], sr: int) -> str:
    power = np.mean(10 ** (mel.astype(np.float64) / 10), axis=1)
    band = int(np.argmax(power))
    hertz = _band_centres(mel.shape[0], sr)[band]
    return f"Most energy lies around {hertz:.0f} Hz."
