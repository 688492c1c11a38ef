"""`predict`, in this process and on Ray: the same files, and bad ones set aside."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile
import torch

from pipelines import predict as stage
from pipelines.progress import Report
from valence.checkpoint import export_model
from valence.config import Config
from valence.errors import CorpusError, ModelError, StaleError, UsageError, ValenceError
from valence.model import ValenceModel
from valence.standardization import Standardizer
from valence.storage import Location

SR = 16_000


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory, tiny_config: Config) -> Location:
    return _export(tmp_path_factory.mktemp("run") / "model", tiny_config, seed=1)


def _export(folder: Path, config: Config, *, seed: int) -> Location:
    torch.manual_seed(seed)
    standardizer = Standardizer("global", np.array([-20], np.float32), np.array([15], np.float32))
    made = ValenceModel(config.model, n_mels=128, n_frames=34, standardizer=standardizer)
    export_model(Location.parse(folder), made, config, {})
    return Location.parse(folder)


@pytest.fixture
def audio(tmp_path: Path) -> Path:
    folder = tmp_path / "audio"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for name, seconds in (("a.flac", 14.2), ("b.wav", 33), ("c.ogg", 6), ("blink.wav", 0.3)):
        soundfile.write(folder / name, 0.1 * rng.standard_normal(round(seconds * SR)), SR)
    (folder / "d.wav").write_bytes(b"RIFF and nothing else")
    return folder


def _rows(folder: Path) -> dict[str, pd.DataFrame]:
    return {file.stem: pd.read_csv(file) for file in sorted(folder.glob("*.csv"))}


def test_good_files_are_predicted_and_bad_ones_set_aside(
    model: Location, audio: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    summary = stage.predict([str(audio)], model, Location.parse(out), report=Report())
    assert {name: len(rows) for name, rows in _rows(out).items()} == {"a": 28, "b": 66, "c": 12}
    status = {row["name"]: row["status"] for row in summary["recordings"]}
    assert status == {"a": "ok", "b": "ok", "c": "ok", "blink": "failed", "d": "failed"}
    assert [row["short"] for row in summary["recordings"] if row["name"] == "c"] == [True]
    assert json.loads((out / "prediction.json").read_text()) == summary
    told = capsys.readouterr()
    assert told.out == ""
    assert "shorter than 0.5 s" in told.err
    assert "3 predicted" in told.err
    assert "one value holds throughout: 'c'" in told.err

    again = stage.predict([str(audio)], model, Location.parse(out), report=Report())
    assert [row["status"] for row in again["recordings"]].count("skipped") == 3


def test_the_listing_keeps_what_earlier_calls_left(
    model: Location, audio: Path, tmp_path: Path
) -> None:
    out = Location.parse(tmp_path / "out")
    stage.predict([str(audio / "a.flac")], model, out, report=Report())
    stage.predict([str(audio / "c.ogg"), str(audio / "d.wav")], model, out, report=Report())
    rows = (out / "prediction.json").read_json()["recordings"]
    assert [(row["name"], row["status"]) for row in rows] == [
        ("a", "ok"),
        ("c", "ok"),
        ("d", "failed"),
    ]


@pytest.mark.parametrize("content", ["mine", "[]", '{"recordings": []}'])
def test_a_listing_from_elsewhere_stays(
    model: Location, audio: Path, tmp_path: Path, content: str
) -> None:
    mine = tmp_path / "prediction.json"
    mine.write_text(content)
    files, out = [str(audio / "a.flac")], Location.parse(tmp_path)
    with pytest.raises(StaleError, match="not written by this program"):
        stage.predict(files, model, out, report=Report())
    assert mine.read_text() == content
    assert not (tmp_path / "a.csv").exists()
    stage.predict(files, model, out, overwrite=True, report=Report())
    assert json.loads(mine.read_text())["recordings"][0]["name"] == "a"


def test_nothing_usable_is_an_error(model: Location, audio: Path, tmp_path: Path) -> None:
    out = Location.parse(tmp_path / "out")
    with pytest.raises(CorpusError, match="Nothing could be predicted"):
        stage.predict([str(audio / "blink.wav"), str(audio / "d.wav")], model, out, report=Report())
    with pytest.raises(UsageError, match="names no audio"):
        stage.predict([str(audio / "absent.wav")], model, out, report=Report())
    with pytest.raises(ModelError, match="holds no model"):
        stage.predict([str(audio)], Location.parse(tmp_path), out, report=Report())


def test_predictions_of_another_model_are_not_replaced_unasked(
    model: Location, audio: Path, tmp_path: Path, tiny_config: Config
) -> None:
    out = Location.parse(tmp_path / "out")
    stage.predict([str(audio / "a.flac")], model, out, report=Report())
    before = _rows(tmp_path / "out")["a"]
    other = _export(tmp_path / "other", tiny_config, seed=2)
    files = [str(audio / "a.flac"), str(audio / "b.wav")]
    with pytest.raises(StaleError, match="'a'"):
        stage.predict(files, other, out, report=Report())
    rows = _rows(tmp_path / "out")
    pd.testing.assert_frame_equal(rows["a"], before)
    assert len(rows["b"]) == 66
    stage.predict(files, other, out, overwrite=True, report=Report())
    assert abs(_rows(tmp_path / "out")["a"]["valence"] - before["valence"]).min() > 0


def test_a_folder_that_cannot_be_written_is_said(
    model: Location, audio: Path, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(ValenceError, match="could not be written"):
        stage.predict(
            [str(audio / "a.flac")],
            model,
            Location.parse(tmp_path / "file" / "out"),
            report=Report(),
        )


@pytest.mark.ray
# Ray Data warns of its own settings as it copies them, and leaves files to the collector.
@pytest.mark.filterwarnings("ignore:.*deprecated", "ignore::ResourceWarning")
def test_ray_gives_the_same_files(
    ray_local: None,
    model: Location,
    audio: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    stage.predict([str(audio)], model, Location.parse(here), report=Report())
    monkeypatch.setattr(stage, "RAY_SECONDS", 0.1)
    # What one process finished, Ray does not do again.
    there.mkdir()
    stage.predict([str(audio / "b.wav")], model, Location.parse(there), report=Report())
    summary = stage.predict([str(audio)], model, Location.parse(there), report=Report())
    status = {row["name"]: row["status"] for row in summary["recordings"]}
    assert status == {"a": "ok", "b": "skipped", "c": "ok", "blink": "failed", "d": "failed"}
    ours, theirs = _rows(here), _rows(there)
    assert list(ours) == list(theirs)
    for file in sorted(here.iterdir()):
        if file.name != "prediction.json":  # It tells times and paths.
            assert file.read_bytes() == (there / file.name).read_bytes(), file.name


@pytest.mark.ray
@pytest.mark.filterwarnings("ignore:.*deprecated", "ignore::ResourceWarning")
def test_on_ray_too_a_folder_that_cannot_be_written_is_said(
    ray_local: None,
    model: Location,
    audio: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(stage, "RAY_SECONDS", 0.1)
    (tmp_path / "file").write_text("in the way")
    out = Location.parse(tmp_path / "file" / "out")
    with pytest.raises(ValenceError, match="could not be written"):
        stage.predict([str(audio / "a.flac"), str(audio / "c.ogg")], model, out, report=Report())


def test_a_few_files_start_no_ray(model: Location, audio: Path, tmp_path: Path) -> None:
    script = (
        "import sys\n"
        "from pipelines.predict import predict\n"
        "from pipelines.progress import Report\n"
        "from valence.storage import Location\n"
        f"predict([{str(audio / 'a.flac')!r}], Location.parse({str(model)!r}),"
        f" Location.parse({str(tmp_path / 'out')!r}), report=Report())\n"
        "assert 'ray' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True)
