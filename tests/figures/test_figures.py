"""What the figures show: read back from the drawn figure, not from their code."""

from __future__ import annotations

import io
import itertools
import re
import xml.etree.ElementTree as ET
from collections.abc import Callable

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from matplotlib._pylab_helpers import Gcf
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from matplotlib.text import Text
from numpy.typing import NDArray
from PIL import Image

from valence import figures
from valence.config import Config
from valence.figures import Bar, Drawing, Shares, Track
from valence.figures.drawing import BLUE, GREEN, INK, MUTED, PURPLE, VERMILION, new_figure
from valence.metrics import Scores, concordance, score

SR, HOP = 16_000, 256
_RNG = np.random.default_rng(0)


def _mel(segments: int = 6, n_mels: int = 32, n_frames: int = 34) -> np.ndarray:
    return (10 * _RNG.standard_normal((segments, n_mels, n_frames)) - 30).astype(np.float16)


def _results() -> pd.DataFrame:
    names = itertools.product(("none", "minmax"), ("none", "pca10", "pca20"), ("svr", "linear"))
    rows = [(*name, 0.01 * i - 0.02, 0.05 * i) for i, name in enumerate(names)]
    columns = ["scaler", "reducer", "regressor", "ccc_validation", "ccc_test"]
    return pd.DataFrame(rows, columns=columns)


def _history() -> pd.DataFrame:
    rows = [
        (seed, epoch, 1 - 0.1 * epoch, 0.1 * epoch, 0.1 * epoch - 0.15 * (epoch == 5) + 0.01 * seed)
        for seed in (3, 4)
        for epoch in range(1, 6)
    ]
    return pd.DataFrame(
        rows, columns=["seed", "epoch", "train_loss", "train_ccc", "validation_ccc"]
    )


def _tracks(n: int = 3) -> list[Track]:
    seconds = np.arange(12) * 5.0 + 10
    tracks = []
    for number in range(n):
        label = np.sin(seconds / 9 + number)
        prediction = 0.5 * label + 0.1
        tracks.append(Track(f"{number}_devel", seconds, label, prediction, 0.1 * number))
    return tracks


def _raters(steps: int = 40) -> Drawing:
    """Three raters, the second rates the wrong way round, and the third has a gap."""
    wave = 0.6 * np.sin(np.arange(steps) / 6)
    third = np.where(np.arange(steps) // 5 == 3, np.nan, wave + 0.2)
    return figures.raters(
        np.array([wave, -wave, third]),
        np.array([wave, third]),
        wave + 0.1,
        step=0.25,
        names=("ann", "bob", "cy"),
        contrary=["bob"],
        name="talk",
        target="valence",
        agreement=(-0.2, 0.9),
    )


_Y = np.linspace(-1, 1, 50)
_P = 0.5 * _Y + 0.25
_DRAWINGS: dict[str, Callable[[], Drawing]] = {
    "segment": lambda: figures.segment_mel(_mel()[0], sr=SR, hop_length=HOP, segment_seconds=0.5),
    "sequence": lambda: figures.sequence_mel(_mel(), sr=SR, segment_seconds=0.5),
    "architecture": lambda: figures.architecture(Config()),
    "attention": lambda: figures.attention(
        _mel(5),
        np.array([0.1, 0.2, 0.4, 0.2, 0.1], np.float32),
        sr=SR,
        segment_seconds=0.5,
        recording="9_devel",
        start_seconds=30.0,
    ),
    "scatter": lambda: figures.scatter(_Y, _P, score(_Y, _P), target="valence"),
    "over_time": lambda: figures.over_time(_tracks(), target="valence")[0],
    "by_subject": lambda: figures.by_subject(
        [("a", "test", 0.3), ("b", "validation", -0.1), ("c", "test", 0.7)], target="valence"
    ),
    "distributions": lambda: figures.distributions(Shares.of({"test": (_Y, _P)}), target="valence"),
    "learning": lambda: figures.learning_curves(_history()),
    "heatmap": lambda: figures.sweep_heatmap(_results(), ["none", "minmax"]),
    "intervals": lambda: figures.intervals(
        "robustness",
        [Bar("clean", 0.5, (0.4, 0.6)), Bar("noise", -0.01, None)],
        title="condition",
        target="valence",
    ),
    "raters": lambda: _raters(),
    "timeline": lambda: figures.timeline(
        np.arange(5) * 0.5,
        np.linspace(-0.2, 0.2, 10).reshape(5, 2),
        targets=("valence", "arousal"),
        envelope=(np.full(5, -0.5), np.full(5, 0.5)),
        name="talk",
        annotation={"valence": np.full(5, 0.1)},
    ),
    "masked": lambda: _masked(),
    "silent": lambda: _masked(np.ones(5, bool)),
}


def _masked(silent: NDArray[np.bool_] | None = None) -> figures.Drawing:
    """A prediction of five steps whose values are left out where nobody speaks."""
    silent = np.array([True, True, False, False, True]) if silent is None else silent
    return figures.timeline(
        np.arange(5) * 0.5,
        np.where(silent, np.nan, 0.25)[:, None],
        targets=("valence",),
        envelope=(np.full(5, -0.5), np.full(5, 0.5)),
        name="talk",
        silent=silent,
    )


def test_silence_is_grey_and_has_no_curve() -> None:
    wave, curve = _masked().figure().axes
    for axes in (wave, curve):
        spans = [patch for patch in axes.patches if isinstance(patch, Rectangle)]
        ends = [(span.get_x(), span.get_x() + span.get_width()) for span in spans]
        assert ends == [(0, 1), (2, 2.5)]
    held = np.asarray(curve.get_lines()[-1].get_ydata())
    np.testing.assert_array_equal(np.isnan(held), [True, True, False, False, True, True])
    assert "valence from 0.25 to 0.25" in _masked().alt
    assert "valence without values" in _masked(np.ones(5, bool)).alt


@pytest.mark.parametrize("name", _DRAWINGS)
def test_every_figure_has_words_and_both_forms(name: str) -> None:
    drawing = _DRAWINGS[name]()
    assert len(drawing.alt) > 40
    assert re.search(r"\d", drawing.alt), "a description has numbers"
    assert "nan" not in drawing.alt.lower()
    image = Image.open(io.BytesIO(drawing.png(figures.NARROW)))
    assert image.getextrema() != ((255, 255),) * len(image.getbands())
    # Twice the pixels of its size on a page.
    assert image.width <= round(figures.NARROW * 72 * 4 / 3 * 2) + 1
    for width in (figures.WIDE, figures.NARROW):
        svg = ET.fromstring(drawing.svg(width))
        text = "".join(svg.itertext())
        assert "prefers-color-scheme:dark" in text
        assert "http" not in re.sub(r'xmlns(:\w+)?="[^"]+"', "", drawing.svg(width))
        assert drawing.svg(width) == drawing.svg(width)


def test_raters_are_drawn_as_rated_and_as_fused_and_the_contrary_one_stands_out() -> None:
    top, bottom = _raters().figure().axes
    # The zero line comes first.
    rated, ready = top.get_lines()[1:], bottom.get_lines()[1:]
    assert [line.get_color() for line in rated] == [MUTED, VERMILION, MUTED]
    assert [line.get_color() for line in ready] == [MUTED, MUTED, BLUE]
    wave = 0.6 * np.sin(np.arange(40) / 6)
    np.testing.assert_allclose(rated[1].get_ydata(), -wave)
    np.testing.assert_allclose(ready[2].get_ydata(), wave + 0.1)
    np.testing.assert_allclose(ready[2].get_xdata(), (np.arange(40) + 0.5) * 0.25)
    assert np.isnan(np.asarray(ready[1].get_ydata())).sum() == 5
    assert top.get_xlim() == (0, 10)
    assert "bob against the others" in _raters().alt


def test_dense_raters_are_averaged_to_what_a_screen_shows() -> None:
    line = _raters(9_001).figure().axes[1].get_lines()[-1]
    assert len(line.get_xdata()) == 1801
    wave = 0.6 * np.sin(np.arange(9_001) / 6) + 0.1
    assert line.get_ydata()[0] == pytest.approx(wave[:5].mean())


@pytest.mark.parametrize("steps", [40, 9_001])
def test_raters_of_whom_none_is_left_are_drawn_as_rated(steps: int) -> None:
    wave = 0.6 * np.sin(np.arange(steps) / 6)
    drawing = figures.raters(
        np.array([wave, -wave]),
        np.empty((0, steps)),
        np.full(steps, np.nan),
        step=0.25,
        names=("ann", "bob"),
        contrary=["ann", "bob"],
        name="talk",
        target="valence",
        agreement=(-1.0, np.nan),
    )
    top, bottom = drawing.figure().axes
    assert (len(top.get_lines()), len(bottom.get_lines())) == (3, 2)
    assert "There is no fused curve." in drawing.alt


def test_names_are_no_formulas() -> None:
    track = Track(
        "$1_$2", *(_tracks(1)[0].__dict__[key] for key in ("seconds", "label")), _Y[:12], 0
    )
    subjects = figures.by_subject([("$_$", "test", 0.5)], target="valence")
    assert "$1_$2" in figures.over_time([track], target="valence")[0].svg()
    assert "$_$" in subjects.svg()


def test_drawing_leaves_no_global_state() -> None:
    before = dict(mpl.rcParams)
    _DRAWINGS["learning"]().png(figures.NARROW)
    assert dict(mpl.rcParams) == before
    assert not Gcf.figs


def test_numbers_in_words_and_pictures_keep_their_digits() -> None:
    bars = [Bar("clean", 0.123456, None)]
    drawing = figures.intervals("x", bars, title="condition", target="valence")
    assert ">0.123<" in drawing.svg()
    assert "0.123" in drawing.alt


def test_the_mel_is_shown_upright_with_true_frequencies() -> None:
    mel = np.full((3, 32, 34), -60.0, np.float32)
    mel[:, 20] = 0
    figure = figures.sequence_mel(mel, sr=SR, segment_seconds=0.5).figure(figures.WIDE)
    axes = figure.axes[0]
    image = axes.images[0]
    shown = np.asarray(image.get_array())
    assert shown.shape == (32, 3 * 34)
    assert image.origin == "lower"
    assert (shown[20] == 0).all()
    assert image.get_extent()[:2] == [0, 1.5]
    ticks = dict(
        zip((t.get_text() for t in axes.get_yticklabels()), axes.get_yticks(), strict=True)
    )
    # Slaney's mel scale is linear below 1 kHz, at 15 mel; 8 kHz is 45.245 mel.
    step = 45.245 / 33
    assert ticks["1"] == pytest.approx(15 / step - 1, abs=0.01)
    assert ticks["0.5"] == pytest.approx(7.5 / step - 1, abs=0.01)
    # Band 20 of 32 has its centre at 21 steps.
    hertz = 1000 * 6.4 ** ((21 * step - 15) / 27)
    alt = figures.segment_mel(mel[0], sr=SR, hop_length=HOP, segment_seconds=0.5).alt
    found = re.search(r"around (\d+) Hz", alt)
    assert found is not None
    assert float(found[1]) == pytest.approx(hertz, rel=0.01)


def test_attention_tells_its_peak() -> None:
    alt = _DRAWINGS["attention"]().alt
    assert "40.0 %, lies on the segment at 31 s" in alt
    assert "equal weights would be 20.0 %" in alt


def test_the_scatter_has_every_point_and_the_fitted_line() -> None:
    figure = _DRAWINGS["scatter"]().figure(figures.WIDE)
    axes = figure.axes[0]
    points = next(line for line in axes.lines if line.get_marker() == "o")
    np.testing.assert_array_equal(points.get_xdata(), _Y)
    np.testing.assert_array_equal(points.get_ydata(), _P)
    assert axes.get_xlim() == axes.get_ylim()
    fitted = axes.lines[-1]
    x, y = np.asarray(fitted.get_xdata()), np.asarray(fitted.get_ydata())
    assert (y[1] - y[0]) / (x[1] - x[0]) == pytest.approx(0.5)
    assert f"CCC {concordance(_Y, _P):.3f}" in _DRAWINGS["scatter"]().alt
    assert "slope 0.50" in _DRAWINGS["scatter"]().alt


def test_each_recording_has_its_panel() -> None:
    (drawing,) = figures.over_time(_tracks(4), target="valence")
    figure = drawing.figure(figures.WIDE)
    shown = [axes for axes in figure.axes if axes.get_visible()]
    assert [axes.get_title(loc="left") for axes in shown] == [f"{n}_devel" for n in range(4)]
    track = _tracks(4)[2]
    drawn = {tuple(line.get_ydata()) for line in shown[2].lines if len(line.get_ydata()) == 12}
    assert drawn == {tuple(track.label), tuple(track.prediction)}
    assert len({axes.get_ylim() for axes in shown}) == 1


def test_every_recording_has_its_panel_however_many_there_are() -> None:
    drawings = figures.over_time(_tracks(61), target="valence")
    assert [drawing.name for drawing in drawings] == ["over-time", "over-time-2", "over-time-3"]
    drawn = [drawing.figure(figures.NARROW) for drawing in drawings]
    names = [axes.get_title(loc="left") for figure in drawn for axes in figure.axes]
    assert names == [f"{n}_devel" for n in range(61)]
    assert len({axes.get_ylim() for figure in drawn for axes in figure.axes}) == 1
    assert "for 1 recording" in drawings[2].alt


def test_unlabelled_and_single_windows_are_drawn() -> None:
    track = Track("8_test", np.array([10.0]), np.array([np.nan]), np.array([0.2]), None)
    (drawing,) = figures.over_time([track], target="valence")
    assert drawing.png(figures.NARROW)
    assert "CCC" not in drawing.alt


def test_subjects_stand_best_first() -> None:
    figure = _DRAWINGS["by_subject"]().figure(figures.WIDE)
    axes = figure.axes[0]
    assert [tick.get_text() for tick in axes.get_yticklabels()] == ["c", "a", "b"]
    bottom, top = axes.get_ylim()
    assert bottom > top, "the first row is on top"
    at = {
        float(line.get_ydata()[0]): float(line.get_xdata()[0])
        for line in axes.lines
        if line.get_marker() in ("o", "D")
    }
    assert at == {0.0: 0.7, 1.0: 0.3, 2.0: -0.1}


def test_a_subject_in_two_splits_has_a_row_in_each() -> None:
    scores = [("a", "validation", 0.3), ("a", "test", -0.1)]
    drawing = figures.by_subject(scores, target="valence")
    figure = drawing.figure(figures.WIDE)
    assert [tick.get_text() for tick in figure.axes[0].get_yticklabels()] == ["a", "a"]
    marks = [line.get_marker() for line in figure.axes[0].lines if line.get_marker() in ("o", "D")]
    assert marks == ["D", "o"]


def test_shares_are_those_of_numpy() -> None:
    label, prediction = np.array([0.0, 0.0, 1.0, 1.0]), np.array([0.0, 0.5, 0.5, 1.0])
    shares = Shares.of({"test": (label, prediction)})
    assert shares.label["test"].sum() == pytest.approx(100)
    assert sorted(shares.label["test"])[-2:] == [50, 50]
    assert sorted(shares.prediction["test"])[-3:] == [25, 25, 50]
    assert shares.edges[0] < 0
    assert shares.edges[-1] > 1
    output = shares.to_json()["splits"]["test"]
    assert output["n"] == 4
    assert (output["label"]["mean"], output["label"]["sd"]) == (0.5, 0.5)
    assert output["prediction"]["sd"] == pytest.approx(np.sqrt(0.125))


@pytest.mark.parametrize("seeds", [2, 4, 5, 9])
def test_seeds_are_told_apart_or_not_pretended_to_be(seeds: int) -> None:
    rows = _history()
    history = pd.concat(
        [rows[rows["seed"] == 3].assign(seed=n, validation_ccc=0.1 * n) for n in range(seeds)]
    )
    figure = figures.learning_curves(history).figure(figures.WIDE)
    output = {text.get_text(): line for text, line in _legend(figure)}
    named = {name: output[name].get_color() for name in output if name.startswith("seed ")}
    assert len(set(named.values())) == len(named)
    assert not set(named.values()) & {INK, MUTED}
    if seeds <= 4:
        assert len(named) == seeds
    else:
        assert list(named) == [f"seed {seeds - 1}, the best"]
        assert f"{seeds - 1} other seeds" in output


def _legend(figure: Figure) -> list[tuple[Text, Line2D]]:
    (legend,) = figure.legends
    return list(zip(legend.get_texts(), legend.get_lines(), strict=True))


def test_the_heatmaps_colours_have_a_scale_with_a_name() -> None:
    bar = figures.sweep_heatmap(_results(), target="arousal").figure(figures.WIDE).axes[-1]
    assert bar.get_ylabel() == "CCC of arousal"


def test_a_segment_tells_where_its_sound_ends() -> None:
    axes = _DRAWINGS["segment"]().figure(figures.WIDE).axes[0]
    assert "500 ms, zeros follow" in axes.get_xlabel()
    assert axes.get_xlim() == (0, pytest.approx(34 * 16))
    assert [float(line.get_xdata()[0]) for line in axes.lines] == [500]


def test_the_best_epoch_of_each_seed_is_marked() -> None:
    drawing = figures.learning_curves(_history())
    assert "seed 3: best validation CCC 0.430 in epoch 4" in drawing.alt
    figure = drawing.figure(figures.WIDE)
    dots = [
        (float(line.get_xdata()[0]), float(line.get_ydata()[0]))
        for line in figure.axes[1].lines
        if line.get_marker() == "o"
    ]
    assert dots == [(4, pytest.approx(0.43)), (4, pytest.approx(0.44))]


def test_the_heatmap_tells_every_cell() -> None:
    results = _results().sample(frac=1, random_state=1)
    drawing = figures.sweep_heatmap(results, ["none", "minmax", "pca10", "pca20"])
    figure = drawing.figure(figures.WIDE)
    axes = figure.axes[0]
    rows = [tick.get_text() for tick in axes.get_yticklabels()]
    columns = [tick.get_text() for tick in axes.get_xticklabels()]
    assert rows[:2] == ["none + none", "none + pca10"]
    output = {
        (rows[int(text.get_position()[1])], columns[int(text.get_position()[0])]): text.get_text()
        for text in axes.texts
    }
    assert len(output) == len(results)
    for row in results.itertuples():
        cell = output[f"{row.scaler} + {row.reducer}", row.regressor]
        assert float(cell.replace("−", "-")) == pytest.approx(row.ccc_validation, abs=0.005)
    bottom, top = axes.get_ylim()
    assert bottom > top
    assert "test: from 0.000 to 0.550 (minmax + pca20 + linear), median 0.275" in drawing.alt


def test_the_heatmap_leaves_out_a_split_without_scores_and_shows_failures() -> None:
    results = _results()
    results["ccc_test"] = np.nan
    results.loc[0, "ccc_validation"] = np.nan
    figure = figures.sweep_heatmap(results).figure(figures.WIDE)
    assert [axes.get_title(loc="left") for axes in figure.axes[:-1]] == ["CCC, validation"]
    assert "–" in [text.get_text() for text in figure.axes[0].texts]


def test_the_architecture_follows_the_configuration() -> None:
    alt = figures.architecture(Config()).alt
    for shape in ("1 × 128 × 34", "8 × 64 × 17", "16 × 32 × 8", "32 × 16 × 4", "2048", "40 × 256"):
        assert f": {shape}" in alt
    assert "256 + 256 = 512" in alt
    config = Config.resolve(
        Config(),
        assignments=[
            "model.channels=[4,6]",
            "model.lstm_hidden=10",
            "sequence.length=12",
            'model.targets=["valence","arousal"]',
        ],
    )
    alt = figures.architecture(config).alt
    assert "6 × 32 × 8" in alt
    assert "12 × 20" in alt
    assert "2 values" in alt


@pytest.mark.parametrize("width", [figures.WIDE, figures.NARROW])
@pytest.mark.parametrize("name", _DRAWINGS)
def test_no_text_lies_over_other_text(name: str, width: float) -> None:
    """Labels that a reader must tell apart do not overlap at the size they are shown in."""
    figure = _DRAWINGS[name]().figure(width)
    boxes = []
    for axes in figure.axes:
        labels = [axes.title, axes._right_title, axes.xaxis.label, axes.yaxis.label]
        for axis in (axes.xaxis, axes.yaxis):
            # Those that are drawn: an axis keeps more ticks than it shows.
            labels += [tick.label1 for tick in axis._update_ticks() if tick.label1.get_visible()]
        if not axes.axison:
            labels = []
        boxes += [
            (text.get_text(), text.get_window_extent())
            for text in labels
            if text.get_visible() and text.get_text() and axes.get_visible()
        ]
    for (first, a), (second, b) in itertools.combinations(boxes, 2):
        # Boxes are a little larger than the ink, those of rotated labels much.
        shared_x = min(a.x1, b.x1) - max(a.x0, b.x0)
        shared_y = min(a.y1, b.y1) - max(a.y0, b.y0)
        rotated = name == "heatmap" and width == figures.NARROW
        assert rotated or shared_x <= 4 or shared_y <= 4, f"'{first}' lies over '{second}'"


def _simulated(colour: str, matrix: list[list[float]]) -> np.ndarray:
    """A colour as someone sees it who lacks a kind of cone (Machado et al., 2009), in CIE Lab."""
    rgb = np.array([int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)])
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    seen = np.clip(np.array(matrix) @ linear, 0, 1)
    to_xyz = [[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]
    xyz = np.array(to_xyz) @ seen / [0.9505, 1, 1.089]
    f = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


@pytest.mark.parametrize(
    "matrix",
    [
        [[1, 0, 0], [0, 1, 0], [0, 0, 1]],
        [[0.152, 1.053, -0.205], [0.115, 0.786, 0.099], [-0.004, -0.048, 1.052]],
        [[0.367, 0.861, -0.228], [0.280, 0.673, 0.047], [-0.012, 0.043, 0.969]],
        [[1.256, -0.077, -0.179], [-0.078, 0.931, 0.148], [0.005, 0.691, 0.304]],
    ],
    ids=["all cones", "protanopia", "deuteranopia", "tritanopia"],
)
def test_colours_can_be_told_apart(matrix: list[list[float]]) -> None:
    seen = [_simulated(colour, matrix) for colour in (BLUE, VERMILION, GREEN, PURPLE, INK)]
    for a, b in itertools.combinations(seen, 2):
        assert np.linalg.norm(a - b) > 12


def test_new_figures_have_the_size_asked_for() -> None:
    assert tuple(new_figure(4.0, 2.5).get_size_inches()) == (4.0, 2.5)


def test_scores_are_told_as_given() -> None:
    scores = Scores(ccc=0.25, ccc_ci=None, pcc=0.5, mse=0.1, mae=0.2, n=7)
    assert "7 sequences: CCC 0.250, PCC 0.500" in figures.scatter(_Y, _P, scores, target="x").alt
