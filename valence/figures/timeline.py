"""Draw the prediction of a recording: the sound above, the predicted curves below."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import NDArray

from valence.figures.drawing import (
    BLUE,
    GRID,
    INK,
    MUTED,
    VERMILION,
    Drawing,
    is_narrow,
    new_figure,
    quiet_grid,
)

Values = NDArray[np.floating]
_MOST_PARTS = 1500
_CAPTION_SIZE = 7.5
# Average number of characters per inch in DejaVu Sans at that size.
_CHARACTERS_AN_INCH = 16.5
_LINE_INCHES = 0.13
_COLOURS = {"valence": BLUE, "arousal": VERMILION}


def timeline(
    seconds: Values,
    values: Values,
    *,
    targets: Sequence[str],
    envelope: tuple[Values, Values],
    name: str,
    step: float = 0.5,
    note: str = "",
    caption: Sequence[str] = (),
    annotation: Mapping[str, Values] | None = None,
    silent: NDArray[np.bool_] | None = None,
) -> Drawing:
    """Draw the predicted values over the time of a recording.

    Parameters
    ----------
    seconds
        Start of every row in seconds, `[n]`.
    values
        Predictions, `[n, targets]`, NaN where a row has none.
    targets
        Names of the columns of `values`.
    envelope
        Lowest and highest sample of equal parts of the recording, `[parts]` each, in [-1, 1].
    name
        Name of the recording.
    step
        Length of a row in seconds.
    note
        A fact that a reader must know, such as that the recording is short.
    caption
        Lines in small print below the curves, such as the quality of the model.
    annotation
        Annotated values by target, `[n]`, NaN where a row has none.
    silent
        Whether nobody speaks in a row, bool `[n]`; such rows are grey.
    """
    edges = np.append(seconds, seconds[-1] + step)
    annotated = annotation or {}
    grey = [] if silent is None else _stretches(silent, edges)

    def draw(width: float) -> Figure:
        panels = 1 + len(targets)
        figure = new_figure(width, (0.95 + 1.75 * len(targets)) * (1 if is_narrow(width) else 1.1))
        wave, *curves = figure.subplots(
            panels, 1, sharex=True, height_ratios=(1, *[2] * len(targets))
        )
        low, high = _pooled(envelope)
        parts = np.linspace(edges[0], edges[-1], len(low) + 1)
        wave.stairs(high, parts, baseline=low, fill=True, color=MUTED)
        wave.set_ylim(-1.05, 1.05)
        wave.set_ylabel("amplitude [peak]")
        wave.set_title(name)
        wave.set_title(note, loc="right", fontweight="normal", color=MUTED)
        quiet_grid(wave)
        for axes in (wave, *curves):
            for start, end in grey:
                axes.axvspan(start, end, color=GRID, alpha=0.6, linewidth=0, zorder=0)
        for column, (axes, target) in enumerate(zip(curves, targets, strict=True)):
            colour = _COLOURS[target]
            handles = [Line2D([], [], color=colour, label="predicted")]
            axes.axhline(0, color=GRID, linewidth=0.9)
            if target in annotated:
                axes.plot(seconds + step / 2, annotated[target], color=INK, linewidth=1.2)
                handles.insert(0, Line2D([], [], color=INK, linewidth=1.2, label="annotated"))
            held = np.append(values[:, column], values[-1, column])
            axes.plot(edges, held, drawstyle="steps-post", color=colour, linewidth=1.8)
            if target not in annotated and np.isnan(held).all():
                axes.set_ylim(-1, 1)
            axes.set_ylabel(target)
            axes.set_xlim(float(edges[0]), float(edges[-1]))
            if len(handles) > 1:
                axes.legend(handles=handles, loc="best", ncols=2)
            quiet_grid(axes)
        curves[-1].set_xlabel("time [s]")
        if caption:
            columns = int(width * _CHARACTERS_AN_INCH)
            lines = [part for line in caption for part in textwrap.wrap(line, columns)]
            figure.supxlabel(
                "\n".join(lines), x=0.01, ha="left", fontsize=_CAPTION_SIZE, color=MUTED
            )
            figure.set_figheight(figure.get_figheight() + _LINE_INCHES * len(lines))
        return figure

    ranges = "; ".join(_range(target, values[:, k]) for k, target in enumerate(targets))
    alt = f"Predicted timeline of {name}, {edges[-1]:g} s: {ranges}. {note}".strip()
    alt = " ".join([alt, *caption])
    return Drawing(name, alt, draw)


def _range(target: str, values: Values) -> str:
    """Say in words between which values a curve runs."""
    known = values[np.isfinite(values)]
    if not len(known):
        return f"{target} without values"
    return f"{target} from {known.min():.2f} to {known.max():.2f}, mean {known.mean():.2f}"


def _stretches(chosen: NDArray[np.bool_], edges: Values) -> list[tuple[float, float]]:
    """List the ends of the stretches of chosen rows, in the unit of `edges`, `[n + 1]`."""
    changes = np.flatnonzero(np.diff(np.concatenate([[False], chosen, [False]]).astype(np.int8)))
    return [
        (float(edges[a]), float(edges[b])) for a, b in zip(changes[::2], changes[1::2], strict=True)
    ]


def _pooled(envelope: tuple[Values, Values]) -> tuple[Values, Values]:
    """Reduce the envelope to the number of parts that a screen can show."""
    size = -(-len(envelope[0]) // _MOST_PARTS)
    starts = np.arange(0, len(envelope[0]), size)
    return np.minimum.reduceat(envelope[0], starts), np.maximum.reduceat(envelope[1], starts)
