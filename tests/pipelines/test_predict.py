"""`predict`, in this process and on Ray: the same files, and bad ones set aside."""

from __future__ import annotations

import inspect
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import soundfile
import torch
from click.testing import Result
from typer.testing import CliRunner

from pipelines import cli
from pipelines import predict as stage
from pipelines.cli import app
from pipelines.runtime.console import Console
from tests.helpers.processes import kill_with_descendants, wait_for
from valence.audio.speech import LEAST_SHARE
from valence.audio.standardization import Standardizer
from valence.config import Config
from valence.errors import CorpusError, ModelError, StaleError, UsageError, ValenceError
from valence.model.network import ValenceModel
from valence.model.quality import write_evaluation
from valence.model.serialization import export_model, read_description
from valence.prediction.averaging import OverlapAverage
from valence.prediction.outputs.registry import OUTPUTS
from valence.run import Run
from valence.segments.store import SegmentStore
from valence.storage.location import Location
from valence.sweep.features import read_features

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
    summary = stage.predict([str(audio)], model, Location.parse(out), console=Console())
    assert {name: len(rows) for name, rows in _rows(out).items()} == {"a": 28, "b": 66, "c": 12}
    status = {row["name"]: row["status"] for row in summary["recordings"]}
    assert status == {"a": "ok", "b": "ok", "c": "ok", "blink": "failed", "d": "failed"}
    assert [row["short"] for row in summary["recordings"] if row["name"] == "c"] == [True]
    assert json.loads((out / "prediction.json").read_text()) == summary
    output = capsys.readouterr()
    assert output.out == ""
    assert "shorter than 0.5 s" in output.err
    assert "3 predicted" in output.err
    assert "one value holds throughout: 'c'" in output.err

    again = stage.predict([str(audio)], model, Location.parse(out), console=Console())
    assert [row["status"] for row in again["recordings"]].count("skipped") == 3


def test_the_listing_keeps_what_earlier_calls_left(
    model: Location, audio: Path, tmp_path: Path
) -> None:
    out = Location.parse(tmp_path / "out")
    stage.predict([str(audio / "a.flac")], model, out, console=Console())
    stage.predict([str(audio / "c.ogg"), str(audio / "d.wav")], model, out, console=Console())
    rows = (out / "prediction.json").read_json()["recordings"]
    assert [(row["name"], row["status"]) for row in rows] == [
        ("a", "ok"),
        ("c", "ok"),
        ("d", "failed"),
    ]


@pytest.mark.parametrize("change", ["lost", "rows", "head"])
def test_a_listing_that_is_lost_or_changed_is_made_again_from_the_tables(
    model: Location,
    audio: Path,
    tmp_path: Path,
    change: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = Location.parse(tmp_path / "out")
    stage.predict([str(audio / "a.flac")], model, out, console=Console())
    stage.predict([str(audio / "c.ogg")], model, out, console=Console())
    listing = tmp_path / "out" / "prediction.json"
    whole = json.loads(listing.read_text())
    match change:
        case "lost":
            listing.unlink()
        case "rows":
            listing.write_text(listing.read_text().replace('"rows": 28', '"rows": 29'))
        case _:
            listing.write_text(listing.read_text().replace('"ccc": null', '"ccc": 0.9', 1))
    capsys.readouterr()
    stage.predict([str(audio / "c.ogg")], model, out, console=Console())
    again = json.loads(listing.read_text())
    assert ("not what was written" in capsys.readouterr().err) is (change != "lost")
    for content in (whole, again):
        for row in content["recordings"]:
            row["seconds"], row["status"] = 0.0, "ok"
        del content["seconds"], content["digest"]
    assert again == whole
    before = listing.read_bytes()
    stage.predict([str(audio / "a.flac"), str(audio / "c.ogg")], model, out, console=Console())
    assert listing.read_bytes() == before


@pytest.mark.parametrize("content", ["mine", "[]", '{"recordings": []}'])
def test_a_listing_from_elsewhere_stays(
    model: Location, audio: Path, tmp_path: Path, content: str
) -> None:
    mine = tmp_path / "prediction.json"
    mine.write_text(content)
    files, out = [str(audio / "a.flac")], Location.parse(tmp_path)
    with pytest.raises(StaleError, match="not written by this program"):
        stage.predict(files, model, out, console=Console())
    assert mine.read_text() == content
    assert not (tmp_path / "a.csv").exists()
    stage.predict(files, model, out, overwrite=True, console=Console())
    assert json.loads(mine.read_text())["recordings"][0]["name"] == "a"


def test_nothing_usable_is_an_error(model: Location, audio: Path, tmp_path: Path) -> None:
    out = Location.parse(tmp_path / "out")
    with pytest.raises(CorpusError, match="Nothing could be predicted"):
        stage.predict(
            [str(audio / "blink.wav"), str(audio / "d.wav")], model, out, console=Console()
        )
    with pytest.raises(UsageError, match="names no audio"):
        stage.predict([str(audio / "absent.wav")], model, out, console=Console())
    with pytest.raises(ModelError, match="holds no model"):
        stage.predict([str(audio)], Location.parse(tmp_path), out, console=Console())


def test_predictions_of_another_model_are_not_replaced_unasked(
    model: Location, audio: Path, tmp_path: Path, tiny_config: Config
) -> None:
    out = Location.parse(tmp_path / "out")
    stage.predict([str(audio / "a.flac")], model, out, console=Console())
    before = _rows(tmp_path / "out")["a"]
    listed = (out / "prediction.json").read_json()
    other = _export(tmp_path / "other", tiny_config, seed=2)
    files = [str(audio / "a.flac"), str(audio / "b.wav")]
    # Refused, it leaves what the listing says of the files that stay.
    with pytest.raises(StaleError, match="'a'"):
        stage.predict(files[:1], other, out, console=Console())
    assert (out / "prediction.json").read_json() == listed
    with pytest.raises(StaleError, match="'a'"):
        stage.predict(files, other, out, console=Console())
    mixed = (out / "prediction.json").read_json()
    assert mixed["recordings"][0] == listed["recordings"][0]
    assert mixed["sha256"] == mixed["recordings"][1]["model"] == read_description(other).sha256
    # Where the listing is lost, too: whose files these are stands in them.
    (out / "prediction.json").delete()
    with pytest.raises(StaleError, match="'a'"):
        stage.predict(files[:1], other, out, console=Console())
    found = (out / "prediction.json").read_json()
    assert (found["model"], found["sha256"]) == (None, None)
    assert {row["name"]: row["model"] for row in found["recordings"]} == {
        "a": listed["sha256"],
        "b": read_description(other).sha256,
    }
    rows = _rows(tmp_path / "out")
    pd.testing.assert_frame_equal(rows["a"], before)
    assert len(rows["b"]) == 66
    stage.predict(files, other, out, overwrite=True, console=Console())
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
            console=Console(),
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
    stage.predict([str(audio)], model, Location.parse(here), console=Console())
    monkeypatch.setattr(stage, "RAY_SECONDS", 0.1)
    # What one process finished, Ray does not do again.
    there.mkdir()
    stage.predict([str(audio / "b.wav")], model, Location.parse(there), console=Console())
    summary = stage.predict([str(audio)], model, Location.parse(there), console=Console())
    status = {row["name"]: row["status"] for row in summary["recordings"]}
    assert status == {"a": "ok", "b": "skipped", "c": "ok", "blink": "failed", "d": "failed"}
    _same_files(here, there)


@pytest.mark.ray
@pytest.mark.filterwarnings("ignore:.*deprecated", "ignore::ResourceWarning")
def test_predictions_of_a_training_corpus_are_what_its_features_say(
    ray_local: None,
    prepared_run: Callable[[str], Run],
    tiny_config: Config,
    tmp_path: Path,
) -> None:
    """`RUN/features` of stride 1, averaged, is the timeline of every recording within 1e-4."""
    from pipelines.extract import extract

    run = prepared_run("run")
    config = Config.resolve(tiny_config, assignments=["sequence.stride=1"])
    torch.manual_seed(4)
    made = ValenceModel(
        config.model,
        n_mels=128,
        n_frames=34,
        standardizer=SegmentStore(run.folder("segments")).standardizer(),
    )
    # An untrained head says nearly the same of everything, which would hide mistakes.
    torch.nn.init.normal_(made.output.weight, std=2)
    run.stage("train").begin({"made_for": "tests"})
    digest = export_model(run.model, made, config, {})
    run.stage("train").finish({"seconds": 0.0, "digest": digest})
    extract(run, config, overwrite=False, console=Console())

    corpus, out = run.record()["corpus"], tmp_path / "out"
    stage.predict([f"{corpus}/raw_data/audio"], run.root, Location.parse(out), console=Console())
    features = read_features(run.folder("features"))
    names = np.unique(features.recording)
    assert len(names) == 6
    for name in names:
        own = features.rows(features.recording == name)
        average = OverlapAverage(1, config.sequence.length)
        average.add(own.start.astype(np.int64), own.prediction)
        text = pd.read_csv(out / f"{name}.csv")
        assert len(text) == len(own) + config.sequence.length - 1 == 80
        assert np.ptp(text["valence"]) > 0.05
        np.testing.assert_allclose(text["valence"], average.values(80)[:, 0], atol=1e-4)


@pytest.mark.ray
@pytest.mark.faults
@pytest.mark.filterwarnings("ignore:.*deprecated", "ignore::ResourceWarning")
def test_a_worker_that_dies_costs_no_recording(
    ray_local: None,
    model: Location,
    audio: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    stage.predict([str(audio)], model, Location.parse(here), console=Console())
    died = tmp_path / "died"

    class Dying(stage._Worker):
        def __call__(self, batch: dict[str, Any]) -> dict[str, list[bytes]]:
            done = super().__call__(batch)
            if self._plan.tasks[batch["number"][0]].name == "b" and not died.exists():
                # Its files are written, and the driver does not know of them.
                died.touch()
                os.kill(os.getpid(), signal.SIGKILL)
            return done

    monkeypatch.setattr(stage, "_Worker", Dying)
    monkeypatch.setattr(stage, "RAY_SECONDS", 0.1)
    summary = stage.predict([str(audio)], model, Location.parse(there), console=Console())
    assert died.exists()
    status = {row["name"]: row["status"] for row in summary["recordings"]}
    assert status == {"a": "ok", "b": "skipped", "c": "ok", "blink": "failed", "d": "failed"}
    _same_files(here, there)


_DRIVER = """
import sys
import ray
from pipelines import predict as stage
from pipelines.runtime.console import Console
from valence.storage.location import Location
ray.init("local", num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
stage.RAY_SECONDS = 0.1
audio, model, out = sys.argv[1:]
stage.predict([audio], Location.parse(model), Location.parse(out), console=Console())
"""


@pytest.mark.ray
@pytest.mark.faults
@pytest.mark.cluster
@pytest.mark.skipif(sys.platform != "linux", reason="finds processes in /proc")
def test_a_killed_driver_is_gone_on_from(model: Location, audio: Path, tmp_path: Path) -> None:
    for copy in range(6):
        shutil.copy(audio / "b.wav", audio / f"more{copy}.wav")
    here, there = tmp_path / "here", tmp_path / "there"
    driver = subprocess.Popen(
        [sys.executable, "-c", _DRIVER, str(audio), str(model), str(there)],
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    wait_for(lambda: [*there.glob("*.png")] or driver.poll() is not None, "a prediction")
    kill_with_descendants(driver)
    done = len(list(there.glob("*.png")))
    assert 1 <= done < 9
    assert not (there / "prediction.json").exists()
    summary = stage.predict([str(audio)], model, Location.parse(there), console=Console())
    assert [row["status"] for row in summary["recordings"]].count("skipped") == done
    stage.predict([str(audio)], model, Location.parse(here), console=Console())
    _same_files(here, there)


def _same_files(one: Path, other: Path) -> None:
    assert [file.name for file in sorted(one.iterdir())] == [
        file.name for file in sorted(other.iterdir())
    ]
    for file in one.iterdir():
        if file.name != "prediction.json":  # It tells times and paths.
            assert file.read_bytes() == (other / file.name).read_bytes(), file.name


def test_a_cluster_of_the_environment_is_asked(
    model: Location, audio: Path, tmp_path: Path
) -> None:
    """One short file is enough, and nothing is predicted here if nobody answers."""
    arguments = [str(audio / "c.ogg"), "--model", str(model), "--out", str(tmp_path / "out")]
    ran = subprocess.run(
        [sys.executable, "-m", "pipelines", "predict", *arguments],
        env={**os.environ, "RAY_ADDRESS": "127.0.0.1:9"},
        capture_output=True,
        text=True,
    )
    assert ran.returncode == 1
    assert "Nothing answers at '127.0.0.1:9'" in ran.stderr
    assert not (tmp_path / "out" / "c.csv").exists()


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
        stage.predict([str(audio / "a.flac"), str(audio / "c.ogg")], model, out, console=Console())


def test_a_few_files_start_no_ray(model: Location, audio: Path, tmp_path: Path) -> None:
    script = (
        "import sys\n"
        "from pipelines.predict import predict\n"
        "from pipelines.runtime.console import Console\n"
        "from valence.storage.location import Location\n"
        f"predict([{str(audio / 'a.flac')!r}], Location.parse({str(model)!r}),"
        f" Location.parse({str(tmp_path / 'out')!r}), console=Console())\n"
        "assert 'ray' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True)


def test_a_model_says_how_good_it_is(
    audio: Path, tmp_path: Path, tiny_config: Config, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = _export(tmp_path / "model", tiny_config, seed=1)
    evaluation = {
        "model": read_description(folder).sha256,
        "corpus": "voices",
        "synthetic": True,
        "recordings": 3,
        "subjects": 2,
        "seconds": 90.0,
        "subjects_remark": "",
        "test": {"valence": {"ccc": -0.04, "ccc_ci": None, "subjects": 2}},
    }
    write_evaluation(folder, evaluation)
    out = Location.parse(tmp_path / "out")
    summary = stage.predict([str(audio / "a.flac")], folder, out, console=Console())
    lines = capsys.readouterr().err.splitlines()
    assert "on synthetic sound, 'voices' (3 recordings, 2 subjects, 1 min 30 s)" in lines[0]
    assert "test CCC −0.040 from 2 subjects" in lines[0]
    assert "do not use it on people" in lines[1]
    assert "no better than the mean of the labels" in lines[2]
    assert any(line.startswith("a: 28 rows") for line in lines[3:])
    listed = (out / "prediction.json").read_json()
    assert listed == json.loads(json.dumps(summary))
    assert listed["quality"]["ccc"] == -0.04
    assert listed["quality"]["synthetic"] is True
    assert "do not use it" in listed["recordings"][0]["quality"]


def test_two_calls_at_once_keep_the_rows_of_both(
    model: Location, audio: Path, tmp_path: Path
) -> None:
    script = (
        "import sys, time\n"
        "from pathlib import Path\n"
        "from pipelines import predict as stage\n"
        "from pipelines.runtime.console import Console\n"
        "from valence.storage.location import Location\n"
        "audio, model, out, ready = sys.argv[1:]\n"
        # Both have read the listing before either writes.
        "check = stage.Listing.check\n"
        "def wait(self, **named):\n"
        "    check(self, **named)\n"
        "    Path(ready, str(id(audio))).touch()\n"
        "    while len(list(Path(ready).iterdir())) < 2: time.sleep(0.02)\n"
        "stage.Listing.check = wait\n"
        "stage.predict([audio], Location.parse(model), Location.parse(out), console=Console())\n"
    )
    ready, out = tmp_path / "ready", tmp_path / "out"
    ready.mkdir()
    script = script.replace("str(id(audio))", "Path(audio).name")
    calls = [
        subprocess.Popen(
            [sys.executable, "-c", script, str(audio / name), str(model), str(out), str(ready)]
        )
        for name in ("a.flac", "b.wav")
    ]
    assert [call.wait(timeout=120) for call in calls] == [0, 0]
    rows = json.loads((out / "prediction.json").read_text())["recordings"]
    assert sorted((row["name"], row["status"]) for row in rows) == [("a", "ok"), ("b", "ok")]


@pytest.mark.parametrize("reason", [KeyboardInterrupt, SystemExit])
def test_what_is_finished_is_listed_whatever_ends_the_call(
    model: Location,
    audio: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    reason: type[BaseException],
) -> None:
    whole = stage.predict_task

    def stopped(predictor: Any, task: Any, out: Any, **named: Any) -> Any:
        if task.name == "b":
            raise reason
        return whole(predictor, task, out, **named)

    out = tmp_path / "out"
    with monkeypatch.context() as patch:
        patch.setattr(stage, "predict_task", stopped)
        with pytest.raises(reason):
            stage.predict([str(audio / "b.wav")], model, Location.parse(out), console=Console())
        assert "ended before the first of 1 recording was finished" in capsys.readouterr().err
        assert not (out / "prediction.json").exists()
        with pytest.raises(reason):
            stage.predict([str(audio)], model, Location.parse(out), console=Console())
    rows = json.loads((out / "prediction.json").read_text())["recordings"]
    assert [(row["name"], row["status"]) for row in rows] == [("a", "ok")]
    assert "ended after 1 of 5 recordings" in capsys.readouterr().err
    summary = stage.predict([str(audio)], model, Location.parse(out), console=Console())
    status = {row["name"]: row["status"] for row in summary["recordings"]}
    assert status == {"a": "skipped", "b": "ok", "blink": "failed", "c": "ok", "d": "failed"}


@pytest.mark.skipif(os.geteuid() != 0, reason="makes itself another user")
def test_a_folder_that_is_read_only_will_do_where_nothing_is_to_be_done(
    model: Location, audio: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    # One of them can never be predicted, which is nothing new either.
    files = [str(audio / name) for name in ("a.flac", "c.ogg", "d.wav")]
    stage.predict(files, model, Location.parse(out), console=Console())
    before = (out / "prediction.json").read_bytes()
    (out / ".left.0123.partial").touch()
    out.chmod(0o555)
    # pytest keeps its folders from other users.
    kept = [folder for place in (out, model.local) for folder in place.parents if _is_ours(folder)]
    for folder in kept:
        folder.chmod(0o755)
    child = os.fork()
    if not child:
        status = 1
        try:
            os.setuid(65534)
            assert not os.access(out, os.W_OK)
            stage.predict(files, model, Location.parse(out), console=Console())
            status = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(status)
    ended = os.waitpid(child, 0)[1]
    for folder in kept:
        folder.chmod(0o700)
    assert os.waitstatus_to_exitcode(ended) == 0
    assert (out / "prediction.json").read_bytes() == before


def _is_ours(folder: Path) -> bool:
    return "pytest" in folder.as_posix()


def test_one_bad_name_costs_no_other(
    model: Location, audio: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copy(audio / "b.wav", audio / os.fsdecode(b"caf\xe9.wav"))
    shutil.copy(audio / "b.wav", audio / ("n" * 251 + ".wav"))
    shutil.copy(audio / "b.wav", audio / "two\nlines \x1b[2J.wav")
    (audio / "round.wav").symlink_to("round.wav")
    out = Location.parse(tmp_path / "out")
    stage.predict([str(audio)], model, out, console=Console())
    said = capsys.readouterr().err
    assert "\x1b" not in said
    assert "caf\\xe9: set aside." in said
    rows = {row["name"]: row for row in (out / "prediction.json").read_json()["recordings"]}
    assert [name for name, row in rows.items() if row["status"] == "failed"] == [
        "blink",
        "caf\\xe9",
        "d",
        "round",
    ]
    (long,) = (name for name in rows if name.startswith("nnn"))
    for name in (long, "two\nlines \x1b[2J"):
        assert len(pd.read_csv((out / f"{name}.csv").path)) == 66


@pytest.mark.usefixtures("speech_by_energy")
def test_the_command_writes_formats_and_masks_silence(
    model: Location, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rng = np.random.default_rng(0)
    y = 0.1 * rng.standard_normal(12 * SR)
    y[2 * SR : 6 * SR] = 0
    soundfile.write(tmp_path / "talk.wav", y, SR, subtype="FLOAT")
    labels = "".join(f"{500 * i},{i % 5 / 10}\n" for i in range(24))
    (tmp_path / "labels.csv").write_text(f"timestamp,value\n{labels}")
    out = tmp_path / "out"
    options = ["--model", str(model), "--out", str(out), "--labels", str(tmp_path / "labels.csv")]
    options += ["--format", "eaf", "--format", "textgrid", "--format", "audacity"]
    options += ["--format", "audformat", "--mask-silence", "--speech-share", "0.2"]
    done = CliRunner().invoke(app, ["predict", str(tmp_path / "talk.wav"), *options])
    assert done.exit_code == 0, done.output
    assert sorted(file.name for file in out.iterdir() if not file.name.startswith(".")) == [
        "prediction.json",
        *sorted(f"talk.{end}" for end in ("TextGrid", "audformat.csv", "csv", "eaf")),
        *("talk.labels.txt", "talk.parquet", "talk.png"),
    ]
    assert pd.read_csv(out / "talk.csv")["valence"].isna().sum() == 8
    (row,) = json.loads((out / "prediction.json").read_text())["recordings"]
    assert (row["speech_by"], row["spoken"], row["masked"]) == ("energy", 16, True)
    assert {"ccc", "ccc_speech"} <= row.keys()
    ccc, spoken = row["ccc"]["valence"], row["ccc_speech"]["valence"]
    said = f"valence CCC {ccc:.3f} ({spoken:.3f} where somebody speaks)"
    assert said in done.output


@pytest.mark.usefixtures("speech_by_energy")
@pytest.mark.parametrize(
    ("option", "value", "says"),
    [
        ("--format", "elan", "eaf"),
        ("--speech-share", "1.5", "The least share of speech was given as 1.5"),
        ("--speech", "silero", "which is not installed"),
    ],
)
def test_options_that_cannot_be_are_refused_before_anything_is_done(
    model: Location, audio: Path, tmp_path: Path, option: str, value: str, says: str
) -> None:
    arguments = ["predict", str(audio), "--model", str(model), "--out", str(tmp_path / "out")]
    done = CliRunner().invoke(app, [*arguments, option, value])
    assert done.exit_code != 0
    assert says in done.output + str(done.exception)
    assert not (tmp_path / "out").exists()


def test_the_command_knows_the_formats_and_the_share_that_there_are() -> None:
    assert {each.value for each in cli._Format} == OUTPUTS.keys() - {"page"}
    options = inspect.signature(cli.predict).parameters
    assert options["speech_share"].default == LEAST_SHARE


@pytest.mark.usefixtures("speech_by_energy")
def test_pages_of_several_calls_have_one_index(
    model: Location, audio: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"

    def call(*names: str, options: Sequence[str] = ()) -> Result:
        files = [str(audio / name) for name in names]
        fixed = ["--model", str(model), "--out", str(out), "--page"]
        return CliRunner().invoke(app, ["predict", *files, *fixed, *options])

    def linked() -> list[str]:
        return re.findall(r'<a href="\./([^"]+)"', (out / "index.html").read_text())

    assert call("a.flac").exit_code == 0
    assert (out / "a.html").exists()
    assert not (out / "index.html").exists()
    done = call("c.ogg", "d.wav")
    assert done.exit_code == 0
    assert f"the pages are listed in '{out / 'index.html'}'" in done.output
    assert linked() == ["a.html", "c.html"]
    assert "Set aside" in (out / "index.html").read_text()
    # The table is that of a call without pages, and the page holds its numbers.
    page = (out / "a.html").read_text()
    (data,) = re.findall(r'<script type="application/json" id="data">(.*?)</script>', page)
    csv = pd.read_csv(out / "a.csv")
    assert json.loads(data)["curves"][0]["predicted"] == csv["valence"].tolist()
    assert json.loads(data)["speech"] == csv["speech"].tolist()

    (out / "index.html").write_text("mine")
    refused = call("b.wav")
    assert isinstance(refused.exception, StaleError)
    assert not (out / "b.html").exists(), "nothing is predicted in vain"
    assert call("b.wav", options=["--overwrite"]).exit_code == 0
    assert linked() == ["a.html", "c.html", "b.html"]


@pytest.mark.usefixtures("speech_by_energy")
def test_a_page_can_be_added_to_what_stands_there(
    model: Location, audio: Path, tmp_path: Path
) -> None:
    out, file = Location.parse(tmp_path / "out"), str(audio / "a.flac")
    stage.predict([file], model, out, console=Console())
    before = {each.name: each.read_bytes() for each in out.files() if each.suffix != ".parquet"}
    stage.predict([file], model, out, outputs=["page"], console=Console())
    after = {each.name: each.read_bytes() for each in out.files()}
    assert after["a.csv"] == before["a.csv"]
    assert after["a.png"] == before["a.png"]
    assert after["a.html"].startswith(b"<!doctype html>")
    again = stage.predict([file], model, out, outputs=["page"], console=Console())
    assert [row["status"] for row in again["recordings"]] == ["skipped"]
