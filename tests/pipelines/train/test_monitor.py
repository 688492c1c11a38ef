"""What a user sees of a training holds the history's own values, wherever the run lies."""

from __future__ import annotations

import re
import urllib.request
from pathlib import Path
from typing import Any

import pytest
import ray
from pyarrow import fs

from pipelines.train.monitor import TrainingMonitor
from tests.helpers.processes import wait_for
from tests.pipelines.conftest import ON_RAY
from valence.config import Config
from valence.storage.location import Location

pytestmark = ON_RAY

_CONFIG = Config.resolve(Config(), assignments=["train.epochs=3", "train.seeds=[3, 5]"])
_SCORES = ("train_loss", "train_ccc", "validation_ccc", "validation_mse", "validation_mae")
_ROW = ("epoch", *_SCORES, "learning_rate")


@pytest.fixture(autouse=True)
def _every_note_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipelines.runtime.console._PLAIN_SECONDS", 0.0)


def _row(seed: int, epoch: int) -> dict[str, Any]:
    values = {name: seed - epoch / 10 + k / 100 for k, name in enumerate(_SCORES)}
    return {"seed": seed, "epoch": epoch, **values, "learning_rate": 0.01 / epoch, "seconds": 2.0}


def _tell(folder: Location, rows: list[dict[str, Any]], **more: Any) -> None:
    output = {"sequences_per_second": 123.0, "constant": 0, "remarks": [], **more}
    (folder / "state.json").write_json({"progress": {**output, "history": rows}})


def _watch(folder: Location, report: Any, rows: list[dict[str, Any]], **more: Any) -> None:
    folder.filesystem.create_dir(folder.path)
    with TrainingMonitor(folder, _CONFIG, None, report):
        _tell(folder, rows[:1], **more)
        wait_for(lambda: any("epoch 1:" in line for line in report.lines), "the first epoch")
        _tell(folder, rows, **more)


def _curves(folder: Path) -> dict[str, list[tuple[int, float]]]:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder))
    events.Reload()
    return {
        name: [(each.step, each.value) for each in events.Scalars(name)]
        for name in events.Tags()["scalars"]
    }


@pytest.mark.parametrize("scheme", ["", "store"], ids=["local", "object store"])
def test_tensorboard_shows_the_history(tmp_path: Path, console: Any, scheme: str) -> None:
    where = tmp_path / "run"
    (where / "tensorboard" / "seed-3").mkdir(parents=True)
    (where / "tensorboard" / "seed-5").mkdir()
    # What has a scheme is no path for the writer of TensorBoard's files, whatever serves it.
    folder = Location(fs.LocalFileSystem(), str(where), scheme)
    rows = [_row(3, 1), _row(3, 2), _row(3, 3), _row(5, 1), _row(5, 2)]
    _watch(folder, console, rows)
    # Beside the rows: the best of all seeds so far, and what is left of six epochs of two seconds.
    beside = {
        "sequences_per_second": [123.0] * 5,
        "best_validation_ccc": [2.92, 2.92, 2.92, 4.92, 4.92],
        "seconds_left": [10.0, 8.0, 6.0, 4.0, 2.0],
    }
    expected = {name: [row[name] for row in rows] for name in _ROW} | beside
    for seed, mine in ((3, slice(0, 3)), (5, slice(3, 5))):
        found = _curves(where / "tensorboard" / f"seed-{seed}")
        assert found.keys() == expected.keys()
        for name, values in found.items():
            assert [step for step, _ in values] == [row["epoch"] for row in rows[mine]]
            told_values = [value for _, value in values]
            assert told_values == pytest.approx(expected[name][mine], rel=1e-6)
    assert console.lines[-1].endswith(
        "seed 5 epoch 2: CCC train 4.810 validation 4.820 (best 4.920), 123 sequences/s, "
        "at most 2 s left"
    )


def test_remarks_are_told_once_and_constant_batches_each_time(tmp_path: Path, console: Any) -> None:
    folder = Location.parse(tmp_path / "run")
    rows = [_row(3, 1), _row(3, 2)]
    _watch(folder, console, rows, remarks=["segments are held on the device"], constant=4)
    said = "train: segments are held on the device"
    assert console.lines[0] == said
    assert console.lines.count(said) == 1
    noted = [
        line for line in console.lines if "constant predictions or labels in 4 batches" in line
    ]
    assert len(noted) == 2


def test_metrics_of_ray_hold_the_last_epoch(tmp_path: Path, console: Any) -> None:
    _watch(Location.parse(tmp_path / "run"), console, [_row(3, 1), _row(3, 2)])
    node = ray.nodes()[0]
    address = f"http://{node['NodeManagerAddress']}:{node['MetricsExportPort']}/metrics"
    expected = {name: float(_row(3, 2)[name]) for name in _ROW}
    # Two of six epochs of two seconds each.
    expected |= {
        "sequences_per_second": 123.0,
        "best_validation_ccc": 2.92,
        "seconds_left": 8.0,
    }
    found: dict[str, float] = {}

    def has_come() -> bool:
        with urllib.request.urlopen(address, timeout=10) as answer:
            text = answer.read().decode()
        for name in expected:
            pattern = rf'^ray_valence_{name}{{[^}}]*seed="3"[^}}]*}} (\S+)$'
            for value in re.findall(pattern, text, flags=re.MULTILINE):
                found[name] = float(value)
        return found == pytest.approx(expected)

    wait_for(has_come, "the last epoch's values")
