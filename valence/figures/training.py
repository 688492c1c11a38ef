"""Learning curves over epochs, one line a seed."""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from valence.figures.drawing import (
    BLUE,
    GREEN,
    INK,
    MUTED,
    PURPLE,
    VERMILION,
    Drawing,
    is_narrow,
    new_figure,
    quiet_grid,
)

_SEED_COLOURS = (BLUE, VERMILION, GREEN, PURPLE, MUTED, INK)


def learning_curves(history: pd.DataFrame) -> Drawing:
    """Loss and CCC over epochs, for every seed of a run's `history.csv`.

    Parameters
    ----------
    history
        Columns `seed`, `epoch`, `train_loss`, `train_ccc`, `validation_ccc`.
    """
    runs = {int(seed): history[history["seed"] == seed] for seed in history["seed"].unique()}
    best = {seed: _best(rows) for seed, rows in runs.items()}

    def draw(width: float) -> Figure:
        narrow = is_narrow(width)
        figure = new_figure(width, 1.05 * width if narrow else 0.36 * width)
        losses, scores = figure.subplots(*((2, 1) if narrow else (1, 2)), sharex=True)
        for colour, (seed, rows) in zip(_cycle(len(runs)), runs.items(), strict=True):
            losses.plot(rows["epoch"], rows["train_loss"], color=colour)
            scores.plot(
                rows["epoch"], rows["train_ccc"], color=colour, linewidth=1.1, linestyle=(0, (3, 2))
            )
            scores.plot(rows["epoch"], rows["validation_ccc"], color=colour)
            scores.plot(*best[seed], marker="o", color=colour)
        losses.set_title("training loss, 1 − CCC")
        scores.set_title("CCC")
        # A single epoch has no line to draw, and ticks must be whole epochs.
        for axes in (losses, scores):
            axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
            quiet_grid(axes)
        scores.set_xlabel("epoch")
        if not narrow:
            losses.set_xlabel("epoch")
        losses.set_ylabel("loss")
        scores.set_ylabel("CCC")
        handles = [
            Line2D([], [], color=colour, label=f"seed {seed}")
            for colour, seed in zip(_cycle(len(best)), best, strict=True)
        ]
        handles += [
            Line2D([], [], color=INK, label="validation"),
            Line2D([], [], color=INK, linewidth=1.1, linestyle=(0, (3, 2)), label="training"),
            Line2D([], [], color=INK, marker="o", linestyle="none", label="best epoch"),
        ]
        figure.legend(handles=handles, loc="outside upper right", ncols=3 if narrow else 6)
        return figure

    told = "; ".join(
        f"seed {seed}: best validation CCC {ccc:.3f} in epoch {epoch}"
        for seed, (epoch, ccc) in best.items()
    )
    first, last = history["train_loss"].iloc[0], history["train_loss"].iloc[-1]
    alt = (
        f"Learning curves over {history['epoch'].nunique()} epochs. {told}. The training loss goes "
        f"from {first:.3f} to {last:.3f}."
    )
    return Drawing("learning-curves", alt, draw)


def _best(rows: pd.DataFrame) -> tuple[int, float]:
    at = int(rows["validation_ccc"].to_numpy().argmax())
    return int(rows["epoch"].iloc[at]), float(rows["validation_ccc"].iloc[at])


def _cycle(n: int) -> list[str]:
    return [_SEED_COLOURS[i % len(_SEED_COLOURS)] for i in range(n)]
