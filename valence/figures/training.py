"""Draw learning curves over epochs, one line per seed."""

from __future__ import annotations

from typing import Any

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

# Readers cannot tell more seeds apart by colour. With more seeds only the best one is coloured; a
# table lists all of them.
_SEED_COLOURS = (BLUE, VERMILION, GREEN, PURPLE)


def learning_curves(history: pd.DataFrame) -> Drawing:
    """Draw loss and CCC over epochs, for every seed of a run's `history.csv`.

    Parameters
    ----------
    history
        Columns `seed`, `epoch`, `train_loss`, `train_ccc`, `validation_ccc`.
    """
    runs = {int(seed): history[history["seed"] == seed] for seed in history["seed"].unique()}
    best = {seed: _best(rows) for seed, rows in runs.items()}
    few = len(runs) <= len(_SEED_COLOURS)
    winner = max(best, key=lambda seed: best[seed][1])
    colours = dict(zip(runs, _SEED_COLOURS, strict=False)) if few else {winner: BLUE}

    def draw(width: float) -> Figure:
        narrow = is_narrow(width)
        figure = new_figure(width, 1.05 * width if narrow else 0.36 * width)
        losses, scores = figure.subplots(*((2, 1) if narrow else (1, 2)), sharex=True)
        # Draw the coloured seeds last, so that they lie over the grey ones.
        for seed, rows in sorted(runs.items(), key=lambda each: each[0] in colours):
            colour, alpha = colours.get(seed, MUTED), 1.0 if seed in colours else 0.5
            shown: dict[str, Any] = {"color": colour, "alpha": alpha}
            losses.plot(rows["epoch"], rows["train_loss"], **shown)
            scores.plot(
                rows["epoch"], rows["train_ccc"], linewidth=1.1, linestyle=(0, (3, 2)), **shown
            )
            scores.plot(rows["epoch"], rows["validation_ccc"], **shown)
            scores.plot(*best[seed], marker="o", **shown)
        losses.set_title("training loss, 1 − CCC")
        scores.set_title("CCC")
        # Ticks must be whole epochs, also if there is only one.
        for axes in (losses, scores):
            axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
            quiet_grid(axes)
        scores.set_xlabel("epoch")
        if not narrow:
            losses.set_xlabel("epoch")
        losses.set_ylabel("loss")
        scores.set_ylabel("CCC")
        of = "" if few else ", the best"
        handles = [
            Line2D([], [], color=colour, label=f"seed {seed}{of}")
            for seed, colour in colours.items()
        ]
        if not few:
            other = f"{len(runs) - 1} other seeds"
            handles.append(Line2D([], [], color=MUTED, alpha=0.5, label=other))
        handles += [
            Line2D([], [], color=INK, label="validation"),
            Line2D([], [], color=INK, linewidth=1.1, linestyle=(0, (3, 2)), label="training"),
            Line2D([], [], color=INK, marker="o", linestyle="none", label="best epoch"),
        ]
        figure.legend(handles=handles, loc="outside upper right", ncols=3 if narrow else 6)
        return figure

    peak = "; ".join(
        f"seed {seed}: best validation CCC {ccc:.3f} in epoch {epoch}"
        for seed, (epoch, ccc) in best.items()
    )
    first, last = history["train_loss"].iloc[0], history["train_loss"].iloc[-1]
    alt = (
        f"Learning curves over {history['epoch'].nunique()} epochs. {peak}. The training loss goes "
        f"from {first:.3f} to {last:.3f}."
    )
    return Drawing("learning-curves", alt, draw)


def _best(rows: pd.DataFrame) -> tuple[int, float]:
    at = int(rows["validation_ccc"].to_numpy().argmax())
    return int(rows["epoch"].iloc[at]), float(rows["validation_ccc"].iloc[at])
