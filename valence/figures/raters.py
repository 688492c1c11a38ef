"""Draw the traces of several raters with the curve that they were fused to."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import NDArray

from valence.figures.drawing import (
    BLUE,
    GRID,
    MUTED,
    VERMILION,
    Drawing,
    is_narrow,
    new_figure,
    quiet_grid,
)
from valence.formatting import number, plural

Values = NDArray[np.floating]
# More steps than a screen has points are averaged, so that many dense traces are drawn quickly.
_MOST_POINTS = 2000
# Bold letters of a title that fit on an inch, and those that the text beside a name takes.
_LETTERS_PER_INCH = 11
_LETTERS_BESIDE = 32


def raters(
    rated: Values,
    fused_from: Values,
    curve: Values,
    *,
    step: float,
    names: Sequence[str],
    contrary: Collection[str],
    name: str,
    target: str,
    agreement: tuple[float, float],
) -> Drawing:
    """Draw raters as they rated, and below after all steps, with the fused curve.

    Parameters
    ----------
    rated
        Ratings before any step, `[raters, steps]` in [-1, 1], with NaN.
    fused_from
        Ratings after all steps, `[used raters, steps]`.
    curve
        The fused curve, `[steps]`.
    step
        Seconds of a step.
    names
        Names of the raters of `rated`.
    contrary
        The names of those who correlate negatively with the others.
    name, target
        Id of the recording, and the target.
    agreement
        Mean CCC of the pairs of raters, as rated and after all steps; NaN if it is not defined.
    """
    width_of_point = -(-rated.shape[1] // _MOST_POINTS)
    before, after = _thinned(rated, width_of_point), _thinned(fused_from, width_of_point)
    fused = _thinned(curve[None], width_of_point)[0]
    seconds = (np.arange(before.shape[1]) + 0.5) * step * width_of_point
    odd = [place for place, each in enumerate(names) if each in contrary]

    def draw(width: float) -> Figure:
        figure = new_figure(width, 3.6 if is_narrow(width) else 4.4)
        top, bottom = figure.subplots(2, 1, sharex=True, sharey=True)
        for axes, values in ((top, before), (bottom, after)):
            axes.axhline(0, color=GRID, linewidth=0.9)
            for place, row in enumerate(values):
                against = axes is top and place in odd
                colour = VERMILION if against else MUTED
                axes.plot(
                    seconds,
                    row,
                    color=colour,
                    linewidth=1.0 if against else 0.8,
                    alpha=0.9 if against else 0.55,
                )
            axes.set_ylabel(target)
            quiet_grid(axes)
        bottom.plot(seconds, fused, color=BLUE, linewidth=2.2)
        top.set_ylim(-1.05, 1.05)
        top.set_xlim(0, max(rated.shape[1], 1) * step)
        _title(top, _shown(name, width), f"as rated, CCC of pairs {number(agreement[0])}")
        _title(bottom, "", f"after all steps, CCC of pairs {number(agreement[1])}")
        handles = [Line2D([], [], color=MUTED, linewidth=0.8, label="rater")]
        if odd:
            label = "correlates negatively"
            handles.append(Line2D([], [], color=VERMILION, linewidth=1.0, label=label))
        handles.append(Line2D([], [], color=BLUE, linewidth=2.2, label="fused"))
        bottom.legend(handles=handles, loc="upper center", ncols=3, bbox_to_anchor=(0.5, -0.28))
        bottom.set_xlabel("time [s]")
        return figure

    known = curve[np.isfinite(curve)]
    spread = (
        f"The fused curve goes from {known.min():.2f} to {known.max():.2f}."
        if known.size
        else "There is no fused curve."
    )
    against = (
        f", of whom {', '.join(names[place] for place in odd)} against the others" if odd else ""
    )
    alt = (
        f"{target.capitalize()} of {name} by {plural(len(names), 'rater')}{against}, "
        f"{rated.shape[1] * step:g} s. Mean CCC of pairs {number(agreement[0])} as rated, "
        f"{number(agreement[1])} after all steps. {spread}"
    )
    return Drawing(f"{target}-{name}", alt, draw)


def _shown(name: str, width: float) -> str:
    """Cut a name so that it leaves room for the text to the right of it."""
    most = round(_LETTERS_PER_INCH * width) - _LETTERS_BESIDE
    return name if len(name) <= most else f"{name[: most - 1]}\N{HORIZONTAL ELLIPSIS}"


def _title(axes: Axes, left: str, right: str) -> None:
    axes.set_title(left)
    axes.set_title(right, loc="right", fontweight="normal", color=MUTED)


def _thinned(values: Values, width: int) -> NDArray[np.float64]:
    """Average groups of `width` steps over their known values, `[rows, groups]`."""
    rest = -values.shape[1] % width
    padded = np.pad(values.astype(np.float64), ((0, 0), (0, rest)), constant_values=np.nan)
    groups = padded.reshape(len(values), padded.shape[1] // width, width)
    count = np.isfinite(groups).sum(axis=2)
    total = np.where(np.isfinite(groups), groups, 0.0).sum(axis=2)
    return np.asarray(np.divide(total, count, out=np.full(total.shape, np.nan), where=count > 0))
