"""TextGrids, read by praatio."""

from __future__ import annotations

from pathlib import Path

import pytest
from praatio import textgrid

from tests.helpers.predicted import VALENCE, made_predicted
from valence.prediction.outputs.textgrid import render


def test_praatio_reads_values_and_passages(tmp_path: Path) -> None:
    file = tmp_path / "talk.TextGrid"
    file.write_bytes(render(made_predicted("/d/talk.wav", targets=("arousal", "valence"))))
    grid = textgrid.openTextgrid(str(file), includeEmptyIntervals=True, reportingMode="error")
    assert grid.tierNames == ("arousal", "arousal passages", "valence", "valence passages")
    assert (grid.minTimestamp, grid.maxTimestamp) == (0, 10)
    values = grid.getTier("valence").entries
    assert [(e.start, e.end) for e in values] == [(i / 2, i / 2 + 0.5) for i in range(20)]
    assert [float(e.label) for e in values[:19]] == pytest.approx(VALENCE[:19].tolist(), abs=5e-4)
    # Praat has no gaps: where there is no value, there is an empty interval.
    assert values[19].label == ""
    assert [tuple(e) for e in grid.getTier("valence passages").entries] == [
        (0, 0.5, ""),
        (0.5, 2.5, "high 0.438"),
        (2.5, 6, ""),
        (6, 8, "low -0.425"),
        (8, 10, ""),
    ]


def test_the_beginning_is_that_of_praat_itself() -> None:
    lines = render(made_predicted("/d/talk.wav")).decode("ascii").splitlines()
    assert lines[:14] == [
        'File type = "ooTextFile"',
        'Object class = "TextGrid"',
        "",
        "xmin = 0",
        "xmax = 10",
        "tiers? <exists>",
        "size = 2",
        "item []:",
        "    item [1]:",
        '        class = "IntervalTier"',
        '        name = "valence"',
        "        xmin = 0",
        "        xmax = 10",
        "        intervals: size = 20",
    ]
