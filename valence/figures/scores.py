"""Draw scores: the sweep as a heatmap, and CCC with intervals under several conditions."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from numpy.typing import NDArray

from valence.figures.drawing import (
    BLUE,
    GRID,
    INK,
    MUTED,
    OVER_DARK,
    OVER_LIGHT,
    SCORE_MAP,
    Drawing,
    is_narrow,
    new_figure,
    quiet_grid,
)
from valence.formatting import number

Grid = NDArray[np.float64]


@dataclass(frozen=True)
class Bar:
    """A CCC with its 95 % interval, if there is one."""

    label: str
    ccc: float
    interval: tuple[float, float] | None


def sweep_heatmap(
    results: pd.DataFrame, order: Sequence[str] = (), *, target: str = "valence"
) -> Drawing:
    """Draw the CCC of every combination of scaler, reducer and regressor, by split.

    A split without any CCC has no panel.

    Parameters
    ----------
    results
        Columns `scaler`, `reducer`, `regressor`, `ccc_validation`, `ccc_test`, as in a run's
        `results.csv`; NaN where a combination could not be scored.
    order
        Names of scalers, reducers and regressors in the desired order; others follow
        alphabetically.
    target
        Name of the predicted target.
    """
    scalers, reducers, columns = (
        _ordered(results[role], order) for role in ("scaler", "reducer", "regressor")
    )
    rows = list(product(scalers, reducers))
    grids: dict[str, Grid] = {}
    for split in ("validation", "test"):
        keys = zip(results["scaler"], results["reducer"], results["regressor"], strict=True)
        scores = dict(zip(keys, results[f"ccc_{split}"].astype(float), strict=True))
        grid = np.array([[scores.get((*row, name), math.nan) for name in columns] for row in rows])
        if np.isfinite(grid).any():
            grids[split] = grid
    assert grids, "a sweep has at least one combination that can be scored"
    every = np.concatenate([grid.ravel() for grid in grids.values()])
    norm = Normalize(float(np.nanmin(every)), float(np.nanmax(every)))

    def draw(width: float) -> Figure:
        narrow = is_narrow(width)
        shape = (len(grids), 1) if narrow else (1, len(grids))
        high = 0.27 * len(rows) + 0.8
        figure = new_figure(
            width if len(grids) > 1 or narrow else 0.66 * width, high * shape[0] + 0.1
        )
        panels = figure.subplots(*shape, sharey=True, squeeze=False)
        for axes, (split, grid) in zip(panels.flat, grids.items(), strict=True):
            _cells(axes, grid, norm)
            axes.set_ylim(len(rows), 0)
            axes.set_title(f"CCC, {split}")
            axes.set_xticks(np.arange(len(columns)) + 0.5, columns)
            if narrow:
                axes.tick_params(axis="x", rotation=35)
            axes.set_xlabel("regressor")
        for axes in panels[:, 0]:
            axes.set_yticks(np.arange(len(rows)) + 0.5, [" + ".join(row) for row in rows])
            axes.set_ylabel("scaler + reducer")
        if not narrow:
            # Only on wide figures: a phone lacks the room, and every cell shows its number.
            map_ = ScalarMappable(norm, SCORE_MAP)
            bar = figure.colorbar(map_, ax=panels, fraction=0.04, pad=0.02, aspect=24)
            bar.set_label(f"CCC of {target}", color=MUTED)
            bar.outline.set_visible(False)
        return figure

    ranges = []
    for split, grid in grids.items():
        row, column = divmod(int(np.nanargmax(grid)), len(columns))
        ranges.append(
            f"{split}: from {np.nanmin(grid):.3f} to {np.nanmax(grid):.3f} "
            f"({' + '.join(rows[row])} + {columns[column]}), median {np.nanmedian(grid):.3f}"
        )
    alt = (
        f"CCC of {target} for {len(results)} combinations of scaler, reducer and regressor. "
        f"{'; '.join(ranges)}."
    )
    return Drawing("sweep-heatmap", alt, draw)


def intervals(name: str, bars: Sequence[Bar], *, title: str, target: str) -> Drawing:
    """Draw the CCC under several conditions, one per row, with 95 % intervals if known.

    Parameters
    ----------
    name
        Stem of the figure's file.
    bars
        The conditions. The first one is the reference, and a line marks its CCC.
    title
        One word for the kind of condition, as the label of the axis.
    target
        Name of the predicted target.
    """
    low = min([0.0, *(bar.interval[0] if bar.interval else bar.ccc for bar in bars)])
    high = max([0.1, *(bar.interval[1] if bar.interval else bar.ccc for bar in bars)])
    margin = 0.05 * (high - low)

    def draw(width: float) -> Figure:
        figure = new_figure(min(width, 7.4), 0.36 * len(bars) + 0.9)
        axes = figure.add_subplot()
        axes.axvline(0, color=MUTED, linewidth=0.8)
        axes.axvline(bars[0].ccc, color=GRID, linewidth=1.4, linestyle=(0, (4, 3)))
        for row, bar in enumerate(bars):
            if bar.interval is not None:
                axes.hlines(row, *bar.interval, color=BLUE, linewidth=2)
            axes.plot(bar.ccc, row, marker="o", markersize=7, color=BLUE)
            axes.annotate(
                number(bar.ccc),
                (bar.ccc, row),
                xytext=(0, 6),
                textcoords="offset points",
                ha="center",
                fontsize=8.5,
                color=INK,
            )
        axes.set_yticks(range(len(bars)), [bar.label for bar in bars])
        axes.set_ylim(len(bars) - 0.5, -0.8)
        axes.set_xlim(low - margin, high + margin)
        axes.set_xlabel(f"CCC of {target}")
        axes.set_ylabel(title)
        quiet_grid(axes, "x")
        return figure

    values = "; ".join(
        f"{bar.label} {bar.ccc:.3f}"
        + ("" if bar.interval is None else f" ({bar.interval[0]:.3f} to {bar.interval[1]:.3f})")
        for bar in bars
    )
    return Drawing(name, f"CCC of {target} by {title}: {values}.", draw)


def _ordered(column: pd.Series[str], order: Sequence[str]) -> list[str]:
    rank = {name: place for place, name in reversed(list(enumerate(order)))}
    return sorted(set(column.astype(str)), key=lambda name: (rank.get(name, len(rank)), name))


def _cells(axes: Axes, grid: Grid, norm: Normalize) -> None:
    colours = mpl.colormaps[SCORE_MAP]
    axes.pcolormesh(grid, cmap=colours, norm=norm, edgecolors="none")
    for (row, column), value in np.ndenumerate(grid):
        known = bool(np.isfinite(value))
        red, green, blue, _ = colours(norm(value)) if known else (1, 1, 1, 1)
        bright = 0.2126 * red + 0.7152 * green + 0.0722 * blue > 0.45
        axes.text(
            column + 0.5,
            row + 0.5,
            number(value, 2),
            ha="center",
            va="center",
            fontsize=8.5,
            color=MUTED if not known else OVER_LIGHT if bright else OVER_DARK,
        )
    axes.tick_params(length=0)
    for spine in axes.spines.values():
        spine.set_visible(False)
