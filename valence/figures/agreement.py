"""Draw predicted against annotated values: all together, over time and by subject."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import NDArray

from valence.figures.drawing import (
    BLUE,
    BLUE_ON_ANY,
    GREEN,
    GRID,
    INK,
    MUTED,
    Drawing,
    is_narrow,
    new_figure,
    quiet_grid,
)
from valence.formatting import number, plural, spread
from valence.metrics import Scores

Values = NDArray[np.floating]

# Most panels in one figure, because more do not fit on a sheet of paper.
MOST_PANELS = 30
_FEW = 200
_BINS = 30


@dataclass(frozen=True)
class Track:
    """Annotated and predicted values of one recording over time.

    Attributes
    ----------
    name
        Id of the recording.
    seconds, label, prediction
        Times and values `[n]`, in order of time; `label` is NaN without an annotation.
    ccc
        CCC of the predictions, or None without labels.
    """

    name: str
    seconds: Values
    label: Values
    prediction: Values
    ccc: float | None


def scatter(label: Values, prediction: Values, scores: Scores, *, target: str) -> Drawing:
    """Draw predicted against annotated values, `[n]` each."""
    low, high = _limits(label, prediction)
    slope, offset = _line(label, prediction)

    def draw(width: float) -> Figure:
        side = min(width, 5.4)
        figure = new_figure(side, 0.94 * side)
        axes = figure.add_subplot()
        axes.plot([low, high], [low, high], color=MUTED, linewidth=1, linestyle=(0, (4, 3)))
        axes.plot(
            label,
            prediction,
            linestyle="none",
            marker="o",
            markersize=4.5 if len(label) < _FEW else 3.2,
            markeredgewidth=0,
            color=BLUE_ON_ANY,
            # Thousands of points must still show where they are dense.
            alpha=float(np.clip(12 / math.sqrt(len(label)), 0.12, 0.8)),
            rasterized=True,
        )
        axes.plot([low, high], [offset + slope * low, offset + slope * high], color=INK)
        axes.set(xlim=(low, high), ylim=(low, high), aspect="equal")
        axes.set_xlabel(f"annotated {target}")
        axes.set_ylabel(f"predicted {target}")
        axes.legend(
            handles=[
                Line2D([], [], color=MUTED, linewidth=1, linestyle=(0, (4, 3)), label="equal"),
                Line2D([], [], color=INK, label="least squares"),
            ],
            loc="upper left",
        )
        quiet_grid(axes, "both")
        return figure

    alt = (
        f"Predicted against annotated {target} for {scores.n} sequences: CCC {scores.ccc:.3f}, "
        f"PCC {scores.pcc:.3f}. Annotations span {label.min():.2f} to {label.max():.2f}, "
        f"predictions {prediction.min():.2f} to {prediction.max():.2f}; the least-squares line has "
        f"the slope {slope:.2f}."
    )
    return Drawing("predicted-against-target", alt, draw)


@dataclass(frozen=True)
class Shares:
    """The distributions of labels and predictions, in the same equal bins for all splits.

    Attributes
    ----------
    edges
        Edges of the bins, `[bins + 1]`.
    label, prediction
        `{split: share of its sequences in each bin in percent}`, `[bins]` each.
    moments
        `{split: {"label": (mean, sd), "prediction": (mean, sd)}}`.
    n
        Number of sequences of each split.
    """

    edges: Values
    label: Mapping[str, Values]
    prediction: Mapping[str, Values]
    moments: Mapping[str, Mapping[str, tuple[float, float]]]
    n: Mapping[str, int]

    @classmethod
    def of(cls, groups: Mapping[str, tuple[Values, Values]]) -> Shares:
        """Compute the shares of `{split: (label, prediction)}`, each `[n]` and not empty."""
        every = [values for pair in groups.values() for values in pair]
        edges = np.linspace(*(_limits(*every) if every else (-1.0, 1.0)), _BINS + 1)

        def share(values: Values) -> Values:
            return 100 * np.histogram(values, edges)[0] / len(values)

        return cls(
            edges=edges,
            label={split: share(label) for split, (label, _) in groups.items()},
            prediction={split: share(values) for split, (_, values) in groups.items()},
            moments={
                split: {"label": _moments(label), "prediction": _moments(values)}
                for split, (label, values) in groups.items()
            },
            n={split: len(label) for split, (label, _) in groups.items()},
        )

    def to_json(self) -> dict[str, Any]:
        """Return the content for `metrics.json`, with shares in percent."""
        return {
            "edges": self.edges.tolist(),
            "splits": {
                split: {
                    "n": n,
                    **{
                        name: {
                            "mean": self.moments[split][name][0],
                            "sd": self.moments[split][name][1],
                            "percent": values[split].tolist(),
                        }
                        for name, values in (("label", self.label), ("prediction", self.prediction))
                    },
                }
                for split, n in self.n.items()
            },
        }


def over_time(tracks: Sequence[Track], *, target: str) -> list[Drawing]:
    """Draw annotated and predicted values over time, one panel per recording, on one scale.

    Returns as many figures as the panels of all recordings need.
    """
    every = np.concatenate([np.concatenate([t.label, t.prediction]) for t in tracks])
    limits = _limits(every[np.isfinite(every)])
    parts = [tracks[k : k + MOST_PANELS] for k in range(0, len(tracks), MOST_PANELS)]
    return [
        _panels(part, "over-time" + (f"-{place}" if place > 1 else ""), limits, target)
        for place, part in enumerate(parts, start=1)
    ]


def _panels(
    tracks: Sequence[Track], name: str, limits: tuple[float, float], target: str
) -> Drawing:
    def draw(width: float) -> Figure:
        columns = 1 if is_narrow(width) else min(3, len(tracks))
        rows = math.ceil(len(tracks) / columns)
        panel = 1.35 if is_narrow(width) else (1.55 if columns > 1 else 2.4)
        figure = new_figure(width, panel * rows + 0.7)
        grid = figure.subplots(rows, columns, sharey=True, squeeze=False)
        for axes, track in zip(grid.flat, tracks, strict=False):
            _track(axes, track, limits)
        for axes in list(grid.flat)[len(tracks) :]:
            axes.set_visible(False)
        for axes in grid[:, 0]:
            axes.set_ylabel(target)
        for column in range(columns):
            last = max(row for row in range(rows) if row * columns + column < len(tracks))
            grid[last, column].set_xlabel("time [s]")
        figure.legend(
            handles=[
                Line2D([], [], color=INK, linewidth=1.3, label="annotated"),
                Line2D([], [], color=BLUE, linewidth=1.8, label="predicted"),
            ],
            loc="outside upper right",
            ncols=2,
        )
        return figure

    scored = [(track.ccc, track.name) for track in tracks if track.ccc is not None]
    alt = f"Annotated and predicted {target} over time for {plural(len(tracks), 'recording')}"
    if scored:
        best, worst = max(scored), min(scored)
        alt += (
            f". Their CCC goes from {number(worst[0], 2)} (recording {worst[1]}) to "
            f"{number(best[0], 2)} (recording {best[1]})"
        )
    return Drawing(name, f"{alt}.", draw)


def by_subject(
    scores: Sequence[tuple[str, str, float]], *, target: str, unit: str = "subject"
) -> Drawing:
    """Draw the CCC of each subject as a dot, best first; colour and mark show the split.

    Parameters
    ----------
    scores
        One `(subject, split, CCC)` for each dot.
    target
        Name of the predicted target.
    unit
        The noun for what counts as a subject.
    """
    ordered = sorted(scores, key=lambda each: (-each[2], each[0], each[1]))
    values = np.array([ccc for _, _, ccc in ordered])
    names = sorted({split for _, split, _ in ordered})
    colours = {"test": BLUE, "validation": GREEN}
    marks = {"test": "o", "validation": "D"}

    def draw(width: float) -> Figure:
        figure = new_figure(min(width, 7.0), 0.24 * len(ordered) + 1.1)
        axes = figure.add_subplot()
        axes.axvline(0, color=MUTED, linewidth=0.8)
        axes.hlines(range(len(ordered)), np.minimum(values, 0), np.maximum(values, 0), color=GRID)
        for row, (_, split, ccc) in enumerate(ordered):
            axes.plot(ccc, row, marker=marks[split], markersize=6, color=colours[split])
        axes.set_yticks(range(len(ordered)), [subject for subject, _, _ in ordered])
        axes.set_ylim(len(ordered) - 0.4, -0.6)
        axes.set_xlim(min(-0.1, float(values.min()) - 0.05), max(1.0, float(values.max()) + 0.05))
        axes.set_xlabel(f"CCC of {target}")
        axes.set_ylabel(unit)
        axes.legend(
            handles=[
                Line2D([], [], linestyle="none", marker=marks[s], color=colours[s], label=s)
                for s in names
            ],
            loc="lower right",
        )
        quiet_grid(axes, "x")
        return figure

    alt = (
        f"CCC of {target} for {plural(len(ordered), unit)}: from {number(values[-1], 2)} "
        f"({unit} {ordered[-1][0]}) to {number(values[0], 2)} ({unit} {ordered[0][0]}), median "
        f"{number(float(np.median(values)), 2)}."
    )
    return Drawing("ccc-per-subject", alt, draw)


def distributions(shares: Shares, *, target: str) -> Drawing:
    """Draw the distributions of labels and predictions, one panel per split."""

    def draw(width: float) -> Figure:
        narrow = is_narrow(width)
        rows, columns = (len(shares.n), 1) if narrow else (1, len(shares.n))
        figure = new_figure(width, 1.6 * rows + 0.6 if narrow else 0.3 * width)
        grid = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
        for axes, (split, n) in zip(grid.flat, shares.n.items(), strict=True):
            axes.stairs(shares.label[split], shares.edges, fill=True, color=MUTED, alpha=0.35)
            axes.stairs(shares.prediction[split], shares.edges, color=BLUE, linewidth=1.8)
            axes.set_title(f"{split}, {plural(n, 'sequence')}")
            quiet_grid(axes)
        for axes in grid[-1]:
            axes.set_xlabel(target)
        for axes in grid[:, 0]:
            axes.set_ylabel("sequences [%]")
        figure.legend(
            handles=[
                Line2D([], [], color=MUTED, alpha=0.5, linewidth=6, label="annotated"),
                Line2D([], [], color=BLUE, linewidth=1.8, label="predicted"),
            ],
            loc="outside upper right",
            ncols=2,
        )
        return figure

    moments = "; ".join(
        f"{split}: annotated {spread(*of['label'])}, predicted {spread(*of['prediction'])}"
        for split, of in shares.moments.items()
    )
    alt = (
        f"Distribution of annotated and predicted {target}, mean and standard deviation: {moments}."
    )
    return Drawing("distributions", alt, draw)


def _track(axes: Axes, track: Track, limits: tuple[float, float]) -> None:
    axes.axhline(0, color=GRID, linewidth=0.8)
    axes.plot(track.seconds, track.label, color=INK, linewidth=1.3)
    # The line of a single window has no length, so a marker shows it.
    marker = "o" if len(track.seconds) == 1 else ""
    axes.plot(track.seconds, track.prediction, color=BLUE, linewidth=1.8, marker=marker)
    score = "" if track.ccc is None else f"CCC {number(track.ccc, 2)}"
    axes.set_title(track.name)
    axes.set_title(score, loc="right", fontweight="normal", color=MUTED)
    axes.set_ylim(*limits)
    quiet_grid(axes)


def _limits(*arrays: Values) -> tuple[float, float]:
    low = min(float(values.min()) for values in arrays)
    high = max(float(values.max()) for values in arrays)
    margin = 0.06 * (high - low) or 0.1
    return low - margin, high + margin


def _line(x: Values, y: Values) -> tuple[float, float]:
    """Compute slope and offset of the least-squares line; flat where `x` does not vary."""
    dx = x.astype(np.float64) - x.mean(dtype=np.float64)
    below = float(dx @ dx)
    slope = float(dx @ y.astype(np.float64)) / below if below > 0 else 0.0
    return slope, float(y.mean(dtype=np.float64)) - slope * float(x.mean(dtype=np.float64))


def _moments(values: Values) -> tuple[float, float]:
    return float(values.mean(dtype=np.float64)), float(values.std(dtype=np.float64))
