"""Draw the architecture of the model from its configuration."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch

from valence.config import Config
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
)


@dataclass(frozen=True)
class _Stage:
    title: str
    detail: str
    shape: str
    colour: str
    per_segment: bool


def architecture(config: Config, columns: int = 0) -> Drawing:
    """Draw the layers from a sequence's input to its value, with the shapes between them.

    Parameters
    ----------
    config
        The whole configuration.
    columns
        Number of features of a segment, if the model takes a set of features; 0 for mel.
    """
    stages = _stages(config, columns)

    def draw(width: float) -> Figure:
        return _column(stages, config, width) if is_narrow(width) else _flow(stages, config, width)

    layers = "; ".join(f"{s.title} ({' '.join(s.detail.split())}): {s.shape}" for s in stages)
    alt = (
        f"Architecture of the model for sequences of {config.sequence.length} segments. The first "
        f"{_stages_each(stages)} on each segment alone, the others on the sequence. {layers}."
    )
    return Drawing("architecture", alt, draw)


def _stages(config: Config, columns: int) -> list[_Stage]:
    first = _of_features(config, columns) if columns else _of_mel(config)
    return [*first, *_of_sequence(config)]


def _stages_each(stages: Sequence[_Stage]) -> str:
    n = sum(stage.per_segment for stage in stages)
    return f"{n} stages work" if n > 1 else "stage works"


def _of_features(config: Config, columns: int) -> list[_Stage]:
    detail = f"{config.model.input},\nstandardised by column"
    return [_Stage("Features", detail, f"{columns}", MUTED, True)]


def _of_mel(config: Config) -> list[_Stage]:
    mel, model = config.mel, config.model
    bands, frames = mel.n_mels, mel.n_frames
    seconds = config.preprocess.segment_seconds
    scopes = {"global": "as a whole", "mel_band": "by mel band", "segment_minmax": "by segment"}
    stages = [
        _Stage(
            "Log-mel",
            f"{seconds:g} s of sound,\nstandardised {scopes[config.standardize.scope]}",
            f"1 × {bands} × {frames}",
            MUTED,
            True,
        )
    ]
    for channels in model.channels:
        bands, frames = bands // 2, frames // 2
        detail = "conv 3 × 3, batch norm,\nELU, max pool 2"
        stages.append(_Stage("Convolution", detail, f"{channels} × {bands} × {frames}", BLUE, True))
    flat = model.channels[-1] * bands * frames
    stages.append(_Stage("Flatten", "one vector a segment", f"{flat}", BLUE, True))
    return stages


def _of_sequence(config: Config) -> list[_Stage]:
    model, length = config.model, config.sequence.length
    both = 2 * model.lstm_hidden
    layers = f"{model.lstm_layers} layer" + ("s" if model.lstm_layers > 1 else "")
    return [
        _Stage(
            "BiLSTM",
            f"{layers},\n{model.lstm_hidden} units a direction",
            f"{length} × {both}",
            VERMILION,
            False,
        ),
        _Stage("Attention", "linear, softmax over\ntime, weighted sum", f"{both}", GREEN, False),
        _Stage(
            "Join",
            "context and\nlast hidden state",
            f"{both} + {both} = {2 * both}",
            GREEN,
            False,
        ),
        _Stage(
            "Linear",
            " and ".join(model.targets),
            f"{len(model.targets)} value" + ("s" if len(model.targets) > 1 else ""),
            PURPLE,
            False,
        ),
    ]


def _canvas(width: float, height: float) -> tuple[Figure, Axes]:
    figure = new_figure(width, height)
    axes = figure.add_subplot()
    axes.set_axis_off()
    axes.set(xlim=(0, width), ylim=(height, 0))
    return figure, axes


def _flow(stages: Sequence[_Stage], config: Config, width: float) -> Figure:
    """Draw two rows from left to right: the stages for a segment, then those for a sequence."""
    figure, axes = _canvas(width, 3.5)
    for top, per_segment in ((0.35, True), (2.1, False)):
        row = [stage for stage in stages if stage.per_segment == per_segment]
        _caption(axes, 0.05, top - 0.16, config, per_segment=per_segment)
        gap = 0.26
        box = (width - 0.1 - gap * (len(row) - 1)) / max(len(row), 4)
        for place, stage in enumerate(row):
            left = 0.05 + place * (box + gap)
            _box(axes, stage, left, top, box, 0.98)
            if place:
                _arrow(axes, (left - gap, top + 0.49), (left, top + 0.49))
    return figure


def _column(stages: Sequence[_Stage], config: Config, width: float) -> Figure:
    step, high, margin = 0.98, 0.76, 0.35
    figure, axes = _canvas(width, step * len(stages) + 2 * margin)
    offset = 0.0
    for place, stage in enumerate(stages):
        first_of_kind = place == 0 or stages[place - 1].per_segment != stage.per_segment
        offset += margin if first_of_kind else 0.0
        top = place * step + offset
        if first_of_kind:
            _caption(axes, 0.05, top - 0.13, config, per_segment=stage.per_segment)
        _box(axes, stage, 0.05, top, width - 0.1, high, beside=True)
        if place:
            above = top - step + high - (margin if first_of_kind else 0.0)
            _arrow(axes, (width / 2, above), (width / 2, top))
    return figure


def _caption(axes: Axes, x: float, y: float, config: Config, *, per_segment: bool) -> None:
    text = (
        f"each of {config.sequence.length} segments" if per_segment else "the sequence of segments"
    )
    axes.text(x, y, text, fontsize=8.5, color=MUTED, va="center", style="italic")


def _box(
    axes: Axes,
    stage: _Stage,
    left: float,
    top: float,
    width: float,
    height: float,
    *,
    beside: bool = False,
) -> None:
    """Draw a stage as a box, with its shape below the text or, if `beside`, to the right of it."""
    axes.add_patch(
        FancyBboxPatch(
            (left, top),
            width,
            height,
            boxstyle="round,pad=0,rounding_size=0.06",
            facecolor=stage.colour,
            alpha=0.13,
            linewidth=0,
        )
    )
    axes.plot(
        [left + 0.012, left + 0.012],
        [top + 0.07, top + height - 0.07],
        color=stage.colour,
        linewidth=2.4,
    )
    x = left + 0.12
    axes.text(x, top + 0.19, stage.title, fontsize=9.5, fontweight="bold", color=INK, va="center")
    for line, text in enumerate(stage.detail.splitlines()):
        axes.text(x, top + 0.39 + 0.17 * line, text, fontsize=8, color=MUTED, va="center")
    across, down = (left + width - 0.12, top + height / 2) if beside else (x, top + height - 0.16)
    axes.text(
        across,
        down,
        stage.shape,
        fontsize=9,
        color=INK,
        va="center",
        ha="right" if beside else "left",
    )


def _arrow(axes: Axes, start: tuple[float, float], end: tuple[float, float]) -> None:
    axes.add_patch(
        FancyArrowPatch(
            start, end, arrowstyle="-|>", mutation_scale=9, color=MUTED, shrinkA=2, shrinkB=2
        )
    )
