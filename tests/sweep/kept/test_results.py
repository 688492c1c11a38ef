"""What a sweep and a training ended with is read back whole, and never as something shorter."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from valence.errors import DamagedError
from valence.storage.location import Location
from valence.storage.manifest import take_down
from valence.sweep.kept.results import (
    RESULT_COLUMNS,
    RESULTS_FILE,
    SELECTION_FILE,
    read_results,
    read_selection,
)
from valence.training.history import HISTORY_FILE, read_history
from valence.training.loop import HISTORY_COLUMNS, history_csv

_ROW = ("none", "pca10", "ridge", 0.5, 0.25, 0.125, 0.375, 1.5, "sklearn", 7, "ok", "")
_FAILED = ("none", "none", "svr", *[float("nan")] * 4, 0.0, "sklearn", 0, "failed", "why, it is")
_TABLE = pd.DataFrame([_ROW, _FAILED], columns=list(RESULT_COLUMNS))
_SELECTION: dict[str, Any] = {
    **{name: {} for name in ("best", "deep", "paired", "baselines")},
    "select_on": "validation",
    "leaders": [],
    "remarks": [],
}
_HISTORY = [dict.fromkeys(HISTORY_COLUMNS, 1 + epoch) for epoch in range(3)]


@pytest.fixture
def sweep(tmp_path: Path) -> Location:
    return Location.parse(tmp_path / "run" / "sweep")


def _record(folder: Location, *names: str, **summary: int) -> dict[str, Any]:
    return {"summary": summary, "files": take_down(folder, names).to_json()}


def test_results_come_back(sweep: Location) -> None:
    (sweep / RESULTS_FILE).write_text(_TABLE.to_csv(index=False))
    found = read_results(sweep, _record(sweep, RESULTS_FILE, combinations=2))
    pd.testing.assert_frame_equal(found, _TABLE)
    assert found.loc[1, "reason"] == "why, it is"


def test_results_that_were_cut_are_no_shorter_sweep(sweep: Location) -> None:
    file = sweep / RESULTS_FILE
    file.write_text(_TABLE.to_csv(index=False))
    record = _record(sweep, RESULTS_FILE, combinations=2)
    text = file.read_text()
    for end in range(len(text)):
        file.write_text(text[:end])
        with pytest.raises(DamagedError, match=r"results\.csv' is damaged.*Run 'valence sweep "):
            read_results(sweep, record)


def test_a_digit_that_changed_is_noticed(sweep: Location, tmp_path: Path) -> None:
    (sweep / RESULTS_FILE).write_text(_TABLE.to_csv(index=False))
    (sweep / SELECTION_FILE).write_json(_SELECTION)
    record = _record(sweep, RESULTS_FILE, SELECTION_FILE)
    assert read_selection(sweep, record) == _SELECTION
    for name, old, new in (
        ("results.csv", "0.25", "0.35"),
        ("selection.json", "validation", "test"),
    ):
        file = sweep / name
        file.write_text(file.read_text().replace(old, new))
    with pytest.raises(DamagedError, match="its digest is not the one"):
        read_results(sweep, record)
    with pytest.raises(DamagedError, match="its digest is not the one"):
        read_selection(sweep, record)


@pytest.mark.parametrize("name", [*_SELECTION])
def test_a_selection_without_its_parts_is_refused(sweep: Location, name: str) -> None:
    content = {key: value for key, value in _SELECTION.items() if key != name}
    (sweep / SELECTION_FILE).write_json(content)
    with pytest.raises(DamagedError, match=f"'{name}' is missing in it"):
        read_selection(sweep, {})


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda lines: lines[:-1], "has 2 rows, and the training had 3 epochs"),
        (lambda lines: [*lines, lines[-1]], "has 4 rows"),
        (lambda lines: [*lines[:-1], lines[1]], "its digest is not the one"),
        (lambda lines: lines[1:], "its header is"),
        (lambda lines: [], "it is empty"),
    ],
)
def test_a_history_of_other_epochs_is_refused(
    tmp_path: Path, change: Callable[[list[str]], list[str]], says: str
) -> None:
    folder = Location.parse(tmp_path / "run" / "train")
    file = folder / HISTORY_FILE
    file.write_text(history_csv(_HISTORY))
    record = _record(folder, HISTORY_FILE, epochs=3)
    assert read_history(folder, record)["epoch"].tolist() == [1, 2, 3]
    lines = file.read_text().splitlines(keepends=True)
    file.write_text("".join(change(lines)))
    with pytest.raises(DamagedError, match=f"{says}.*Run 'valence train .*run', which"):
        read_history(folder, record)
