"""The files of a prediction: what they hold, when they are made again, and what is set aside."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import soundfile
import torch

from valence.audio.speech import SpeechSettings
from valence.audio.standardization import Standardizer
from valence.config import Config
from valence.errors import UsageError
from valence.metrics import concordance
from valence.model.network import ValenceModel
from valence.model.quality import Quality
from valence.model.serialization import export_model
from valence.prediction.files import listed_row, predict_task
from valence.prediction.inputs import find_audio, make_tasks
from valence.prediction.outputs.predicted import PredictionOutcome
from valence.prediction.outputs.registry import chosen_outputs
from valence.prediction.predictor import Predictor, Timeline
from valence.prediction.standing import standing_rows
from valence.storage.location import Location

SR = 16_000

pytestmark = pytest.mark.usefixtures("speech_by_energy")


@pytest.fixture(scope="module")
def predictor(tmp_path_factory: pytest.TempPathFactory, tiny_config: Config) -> Predictor:
    return _predictor(tmp_path_factory.mktemp("model"), tiny_config, seed=0)


def _predictor(folder: Path, config: Config, *, seed: int) -> Predictor:
    torch.manual_seed(seed)
    standardizer = Standardizer("global", np.array([-20], np.float32), np.array([15], np.float32))
    model = ValenceModel(config.model, n_mels=128, n_frames=34, standardizer=standardizer)
    export_model(Location.parse(folder), model, config, {})
    return Predictor.load(folder)


def _write_audio(file: Path, seconds: float, *, sr: int = SR) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(1)
    soundfile.write(file, 0.1 * rng.standard_normal(round(seconds * sr)), sr)
    return file


def _write_labels(file: Path, values: list[float]) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    rows = [f"{500 * i},{value},1" for i, value in enumerate(values)]
    file.write_text("\n".join(["timestamp,value,segment_id", *rows]) + "\n")
    return file


def test_files_folders_and_patterns_are_found_once(tmp_path: Path) -> None:
    for name in ("b.wav", "a.flac", "sub/c.ogg"):
        _write_audio(tmp_path / name, 1)
    (tmp_path / "notes.txt").write_text("no audio")
    odd = _write_audio(tmp_path / "odd [1].wav", 1)
    folder = find_audio([str(tmp_path)])
    assert [file.name for file in folder] == ["a.flac", "b.wav", "odd [1].wav"]
    assert [file.name for file in find_audio([str(tmp_path / "*.flac"), str(tmp_path)])] == [
        "a.flac",
        "b.wav",
        "odd [1].wav",
    ]
    assert [file.name for file in find_audio([str(tmp_path / "**" / "*.ogg")])] == ["c.ogg"]
    assert [file.name for file in find_audio([str(odd)])] == ["odd [1].wav"]
    for nothing in ("*.mp3", "absent.wav", "sub/empty"):
        (tmp_path / "sub" / "empty").mkdir(exist_ok=True)
        with pytest.raises(UsageError, match="names no audio"):
            find_audio([str(tmp_path / nothing)])


def test_a_pattern_finds_what_a_folder_lists(tmp_path: Path) -> None:
    folder = tmp_path / "talks"
    _write_audio(folder / "a.wav", 1)
    os.mkfifo(folder / "pipe.wav")
    (folder / "gone.wav").symlink_to("absent.wav")
    (folder / "round.wav").symlink_to("round.wav")
    (folder / "dir.wav").mkdir()
    (folder / "dir").mkdir()
    (folder / "._a.wav").touch()
    names = ["a.wav", "dir.wav", "gone.wav", "pipe.wav", "round.wav"]
    for text in ("talks", "talks/*", "talks/*.wav", "t*/*.wav", "**/*.wav"):
        assert [file.name for file in find_audio([str(tmp_path / text)])] == names
    # A name without a wildcard behind one with.
    for name in names:
        assert [file.name for file in find_audio([str(tmp_path / "*" / name)])] == [name]
    assert [file.name for file in find_audio([str(folder / "._*")])] == ["._a.wav"]
    with pytest.raises(UsageError, match="names no audio"):
        find_audio([str(tmp_path / "*" / "absent.wav")])


def test_every_recording_has_a_name_of_its_own() -> None:
    files = [Location.parse(f"/d/{name}") for name in ("x/a.wav", "y/a.wav", "y/a.ogg", "y/b.wav")]
    assert [task.name for task in make_tasks(files)] == ["x_a", "y_a", "y_a_2", "b"]


def test_csv_parquet_and_figure(predictor: Predictor, tmp_path: Path) -> None:
    audio = _write_audio(tmp_path / "talk.wav", 13.7, sr=22_050)
    (task,) = make_tasks([Location.parse(audio)])
    out = tmp_path / "out"
    outcome = predict_task(predictor, task, Location.parse(out))
    assert (outcome.status, outcome.rows, outcome.short) == ("ok", 27, False)
    assert sorted(file.name for file in out.iterdir()) == ["talk.csv", "talk.parquet", "talk.png"]
    csv = pd.read_csv(out / "talk.csv")
    assert csv.columns.tolist() == ["timestamp", "valence", "end", "speech"]
    assert csv["timestamp"].tolist() == [500 * i for i in range(27)]
    assert csv["end"].tolist() == [500 * (i + 1) for i in range(27)]
    expected = predictor.predict_file(task.audio).to_frame()
    np.testing.assert_allclose(csv["valence"], expected["valence"], atol=1e-6)
    parquet = pd.read_parquet(out / "talk.parquet")
    pd.testing.assert_frame_equal(parquet, csv, check_dtype=False, atol=1e-6)
    about = json.loads(pq.read_schema(out / "talk.parquet").metadata[b"valence"])
    assert "equal weights" in about["weighting"]
    assert (out / "talk.png").read_bytes().startswith(b"\x89PNG")


def test_files_are_made_again_only_for_another_input(
    predictor: Predictor, tiny_config: Config, tmp_path: Path
) -> None:
    audio = _write_audio(tmp_path / "talk.wav", 12)
    (task,) = make_tasks([Location.parse(audio)])
    out = Location.parse(tmp_path / "out")
    first = predict_task(predictor, task, out)
    stamp = (tmp_path / "out" / "talk.csv").stat().st_mtime_ns
    again = predict_task(predictor, task, out)
    assert (again.status, again.rows) == ("skipped", first.rows)
    assert (tmp_path / "out" / "talk.csv").stat().st_mtime_ns == stamp

    (tmp_path / "out" / "talk.png").unlink()
    assert predict_task(predictor, task, out).status == "ok"

    other = _predictor(tmp_path / "other", tiny_config, seed=5)
    before = (tmp_path / "out" / "talk.csv").read_text()
    refused = predict_task(other, task, out)
    assert refused.status == "stale"
    assert "another model, sound, annotation or version" in refused.reason
    assert (tmp_path / "out" / "talk.csv").read_text() == before
    assert predict_task(other, task, out, overwrite=True).status == "ok"
    assert (tmp_path / "out" / "talk.csv").read_text() != before

    _write_audio(audio, 14)
    assert predict_task(other, task, out).status == "stale"


@pytest.mark.parametrize("foreign", ["csv", "png", "parquet"])
def test_a_file_of_that_name_from_elsewhere_stays(
    predictor: Predictor, tmp_path: Path, foreign: str
) -> None:
    audio = _write_audio(tmp_path / "talk.wav", 12)
    (task,) = make_tasks([Location.parse(audio)])
    mine = tmp_path / f"talk.{foreign}"
    if foreign == "parquet":
        pd.DataFrame({"mine": [1]}).to_parquet(mine)
    else:
        mine.write_text("mine")
    before = mine.read_bytes()
    outcome = predict_task(predictor, task, Location.parse(tmp_path))
    assert outcome.status == "stale"
    assert (
        outcome.reason
        == {
            "csv": "'talk.csv' stands there without the 'talk.parquet' that says what made it",
            "png": "'talk.png' stands there without the 'talk.parquet' that says what made it",
            "parquet": "'talk.parquet' was not written by this program",
        }[foreign]
    )
    assert mine.read_bytes() == before
    assert sorted(file.name for file in tmp_path.iterdir()) == sorted(["talk.wav", mine.name])
    replaced = predict_task(predictor, task, Location.parse(tmp_path), overwrite=True)
    assert replaced.status == "ok"
    assert mine.read_bytes() != before


def test_what_an_interrupted_writer_left_is_made_again(
    predictor: Predictor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (task,) = make_tasks([Location.parse(_write_audio(tmp_path / "talk.wav", 12))])
    out = Location.parse(tmp_path / "out")
    with monkeypatch.context() as patch:
        patch.setattr(Location, "write_bytes", _interrupted)
        with pytest.raises(KeyboardInterrupt):
            predict_task(predictor, task, out)
    assert [file.name for file in out.files()] == ["talk.parquet"]
    assert predict_task(predictor, task, out).status == "ok"
    assert len(out.files()) == 3


def _interrupted(*arguments: object) -> None:
    raise KeyboardInterrupt


@pytest.mark.parametrize("damage", ["truncated", "scrambled", "flipped", "empty"])
def test_a_damaged_parquet_costs_only_its_own_recording(
    predictor: Predictor, tmp_path: Path, damage: str
) -> None:
    (task,) = make_tasks([Location.parse(_write_audio(tmp_path / "talk.wav", 12))])
    out = Location.parse(tmp_path / "out")
    predict_task(predictor, task, out)
    parquet = tmp_path / "out" / "talk.parquet"
    good = parquet.read_bytes()
    match damage:
        case "truncated":
            parquet.write_bytes(good[: len(good) // 2])
        case "scrambled":
            # The footer's length is right and what it holds is not.
            parquet.write_bytes(good[:-200] + bytes(192) + good[-8:])
        case "flipped":
            parquet.write_bytes(good[:50] + bytes([good[50] ^ 1]) + good[51:])
        case _:
            parquet.write_bytes(b"")
    outcome = predict_task(predictor, task, out)
    assert outcome.status == "stale"
    assert outcome.reason.startswith(
        "'talk.parquet' is damaged, or was not written by this program"
    )
    assert predict_task(predictor, task, out, overwrite=True).status == "ok"
    assert parquet.read_bytes() == good


def test_what_was_changed_since_is_made_again_or_refused(
    predictor: Predictor, tmp_path: Path
) -> None:
    (task,) = make_tasks([Location.parse(_write_audio(tmp_path / "talk.wav", 12))])
    out = Location.parse(tmp_path / "out")
    first = predict_task(predictor, task, out)
    files = {file: file.read_bytes() for file in sorted((tmp_path / "out").iterdir())}
    csv, parquet, png = files
    for file in (csv, png):
        changed = bytearray(files[file])
        changed[-20] ^= 1
        file.write_bytes(changed)
        assert predict_task(predictor, task, out).status == "ok"
        assert file.read_bytes() == files[file]
    # A digit of the number of rows, which a second call hands on.
    more = files[parquet].replace(b'"rows": %d' % first.rows, b'"rows": %d' % (first.rows + 1))
    assert more != files[parquet]
    parquet.write_bytes(more)
    assert predict_task(predictor, task, out).status == "stale"
    assert predict_task(predictor, task, out, overwrite=True).rows == first.rows
    assert parquet.read_bytes() == files[parquet]


def test_the_rows_of_a_listing_stand_in_the_files_themselves(
    predictor: Predictor, tmp_path: Path
) -> None:
    out = Location.parse(tmp_path / "out")
    rows = []
    for name, seconds in (("long", 14), ("short", 6), ("cut", 12), ("old", 12)):
        (task,) = make_tasks([Location.parse(_write_audio(tmp_path / f"{name}.wav", seconds))])
        rows.append(listed_row(predict_task(predictor, task, out), predictor))
    csv = tmp_path / "out" / "cut.csv"
    csv.write_bytes(csv.read_bytes()[:-5])
    for suffix in ("csv", "parquet", "png"):
        (tmp_path / "out" / f"old.{suffix}").rename(tmp_path / "out" / f"new.{suffix}")
    pd.DataFrame({"theirs": [1]}).to_parquet(tmp_path / "out" / "theirs.parquet")
    # How long it took is in no file.
    expected = [json.loads(json.dumps({**row, "seconds": 0.0})) for row in rows[:2]]
    assert standing_rows(out) == expected
    assert standing_rows(out, but={"long"}) == expected[1:]
    assert standing_rows(Location.parse(tmp_path / "absent")) == []


def test_files_that_were_renamed_are_made_again_under_their_name(
    predictor: Predictor, tmp_path: Path
) -> None:
    (task,) = make_tasks([Location.parse(_write_audio(tmp_path / "old.wav", 12))])
    out = Location.parse(tmp_path / "out")
    predict_task(predictor, task, out)
    (tmp_path / "old.wav").rename(tmp_path / "new.wav")
    for suffix in ("csv", "parquet", "png"):
        (tmp_path / "out" / f"old.{suffix}").rename(tmp_path / "out" / f"new.{suffix}")
    (task,) = make_tasks([Location.parse(tmp_path / "new.wav")])
    again = predict_task(predictor, task, out)
    assert (again.status, again.name, again.audio) == ("ok", "new", str(task.audio))
    assert predict_task(predictor, task, out).name == "new"


@pytest.mark.parametrize("name", [r"take$1_$2 \frac{", "会議 été", "a\nb <&>", "-x"])
def test_a_name_is_a_name(predictor: Predictor, tmp_path: Path, name: str) -> None:
    (task,) = make_tasks([Location.parse(_write_audio(tmp_path / f"{name}.wav", 12))])
    outcome = predict_task(predictor, task, Location.parse(tmp_path / "out"))
    assert (outcome.status, outcome.reason) == ("ok", "")
    assert (tmp_path / "out" / f"{name}.png").exists()


def test_what_nobody_foresaw_is_set_aside_with_its_name(
    predictor: Predictor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (task,) = make_tasks([Location.parse(_write_audio(tmp_path / "talk.wav", 12))])
    monkeypatch.setattr("valence.prediction.outputs.figure.timeline", lambda *_, **__: 1 / 0)
    outcome = predict_task(predictor, task, Location.parse(tmp_path / "out"))
    assert outcome.status == "failed"
    assert "not foreseen: ZeroDivisionError" in outcome.reason
    assert not (tmp_path / "out").exists()


def test_what_cannot_be_predicted_is_set_aside(predictor: Predictor, tmp_path: Path) -> None:
    (tmp_path / "text.wav").write_text("this is no sound")
    _write_audio(tmp_path / "blink.wav", 0.4)
    _write_audio(tmp_path / "short.wav", 3)
    tasks = make_tasks(find_audio([str(tmp_path)]))
    out = tmp_path / "out"
    blink, short, text = (predict_task(predictor, task, Location.parse(out)) for task in tasks)
    assert blink.status == "failed"
    assert "shorter than 0.5 s" in blink.reason
    assert (short.status, short.short, short.rows) == ("ok", True, 6)
    marked = pd.read_csv(out / "short.csv")
    assert marked.columns.tolist() == ["timestamp", "valence", "end", "speech", "short"]
    assert marked["short"].all()
    assert text.status == "failed"
    assert "text.wav" in text.reason
    assert sorted(file.name for file in out.iterdir()) == [
        "short.csv",
        "short.parquet",
        "short.png",
    ]


def test_media_that_cannot_be_decoded_is_listed(predictor: Predictor, tmp_path: Path) -> None:
    _write_audio(tmp_path / "a.wav", 1)
    (tmp_path / "memo.m4a").write_bytes(bytes.fromhex("0000001c667479704d344120") + bytes(900))
    tasks = make_tasks(find_audio([str(tmp_path)]))
    assert [task.name for task in tasks] == ["a", "memo"]
    outcome = predict_task(predictor, tasks[1], Location.parse(tmp_path / "out"))
    assert outcome.status == "failed"
    assert "is not audio that can be decoded" in outcome.reason


@pytest.mark.parametrize("kind", ["pipe", "folder", "link", "round"])
def test_what_is_no_file_ends_at_once(predictor: Predictor, tmp_path: Path, kind: str) -> None:
    _write_audio(tmp_path / "a.wav", 1)
    odd = tmp_path / "b.wav"
    match kind:
        case "pipe":
            os.mkfifo(odd)
        case "folder":
            odd.mkdir()
        case "round":
            odd.symlink_to("b.wav")
        case _:
            odd.symlink_to("absent.wav")
    tasks = make_tasks(find_audio([str(tmp_path)]))
    assert [task.name for task in tasks] == ["a", "b"]
    outcome = predict_task(predictor, tasks[1], Location.parse(tmp_path / "out"))
    said = {
        "pipe": "is a named pipe",
        "folder": "is a folder",
        "link": "was not fetched",
        "round": "Too many levels",
    }
    assert (outcome.status, said[kind] in outcome.reason) == ("failed", True)


def test_audio_that_is_replaced_meanwhile(
    predictor: Predictor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    audio = _write_audio(tmp_path / "talk.wav", 12)
    other = _write_audio(tmp_path / "other.wav", 12.5)
    (task,) = make_tasks([Location.parse(audio)])
    found = Predictor.predict_path

    def replaced(self: Predictor, path: Path, **names: Any) -> Timeline:
        Path(other).replace(path)
        return found(self, path, **names)

    monkeypatch.setattr(Predictor, "predict_path", replaced)
    outcome = predict_task(predictor, task, Location.parse(tmp_path / "out"))
    assert outcome.status == "failed"
    assert "was changed while it was being worked on" in outcome.reason
    assert not (tmp_path / "out").exists()


def test_labels_that_cannot_be_read_are_a_remark(predictor: Predictor, tmp_path: Path) -> None:
    audio = _write_audio(tmp_path / "talk.wav", 12)
    (tmp_path / "labels" / "valence" / "talk.csv").mkdir(parents=True)
    (task,) = make_tasks([Location.parse(audio)], Location.parse(tmp_path / "labels"))
    outcome = predict_task(predictor, task, Location.parse(tmp_path / "out"))
    assert outcome.status == "ok"
    assert "valence labels not used" in outcome.reason
    assert "cannot be read" in outcome.reason


def test_annotations_are_joined_and_scored(predictor: Predictor, tmp_path: Path) -> None:
    audio = _write_audio(tmp_path / "talk.wav", 12)
    timeline = predictor.predict_file(Location.parse(audio)).to_frame()
    labels = tmp_path / "labels"
    values = timeline["valence"].tolist()
    _write_labels(labels / "label_segments" / "valence" / "talk.csv", values)
    (labels / "physio-arousal").mkdir()
    (labels / "physio-arousal" / "talk.csv").write_text("timestamp,value\n0,high\n")
    (task,) = make_tasks([Location.parse(audio)], Location.parse(labels))
    assert sorted(task.labels) == ["arousal", "valence"]
    outcome = predict_task(predictor, task, Location.parse(tmp_path / "out"))
    assert outcome.ccc == {"valence": pytest.approx(1.0, abs=1e-3)}
    assert "arousal labels not used" in outcome.reason

    single = _write_labels(tmp_path / "one.csv", [0.1, 0.2, 0.3])
    (task,) = make_tasks([Location.parse(audio)], Location.parse(single))
    outcome = predict_task(predictor, task, Location.parse(tmp_path / "out2"))
    assert outcome.status == "ok"
    with pytest.raises(UsageError, match="one file of labels for 2"):
        make_tasks([Location.parse(audio)] * 2, Location.parse(single))
    with pytest.raises(UsageError, match="no labels"):
        make_tasks([Location.parse(audio)], Location.parse(tmp_path / "absent"))


def test_labels_that_fit_two_recordings_are_of_neither(
    predictor: Predictor, tmp_path: Path
) -> None:
    files = []
    for folder in ("north", "south"):
        (tmp_path / folder).mkdir()
        files.append(Location.parse(_write_audio(tmp_path / folder / "talk.wav", 1.5)))
    labels = Location.parse(tmp_path / "labels")
    _write_labels(tmp_path / "labels" / "valence" / "talk.csv", [0.1, 0.2, 0.3])
    for task in make_tasks(files, labels):
        outcome = predict_task(predictor, task, Location.parse(tmp_path / "out"))
        assert outcome.status == "ok"
        assert outcome.ccc is None
        assert "2 recordings are called 'talk'" in outcome.reason


@pytest.mark.parametrize("labels", [["Zo\u00eb"], ["Zo\u00eb", "Zoe\u0308"]])
def test_labels_are_of_neither_where_names_differ_in_their_unicode_form(
    predictor: Predictor, tmp_path: Path, labels: list[str]
) -> None:
    for name in ("Zo\u00eb", "Zoe\u0308", "ben"):
        _write_audio(tmp_path / "talks" / f"{name}.wav", 1.5)
    for name in (*labels, "ben"):
        _write_labels(tmp_path / "labels" / f"{name}.csv", [0.1, 0.2, 0.3])
    files = find_audio([str(tmp_path / "talks")])
    scored = {}
    for task in make_tasks(files, Location.parse(tmp_path / "labels")):
        outcome = predict_task(predictor, task, Location.parse(tmp_path / "out"))
        scored[task.audio.stem] = outcome.ccc is not None
        assert outcome.status == "ok"
        assert ("2 recordings are called" in outcome.reason) == (task.audio.stem != "ben")
    assert scored == {"Zo\u00eb": False, "Zoe\u0308": False, "ben": True}


def test_labels_that_were_not_fetched_are_a_remark(predictor: Predictor, tmp_path: Path) -> None:
    files = [Location.parse(_write_audio(tmp_path / f"{name}.wav", 1.5)) for name in "ab"]
    _write_labels(tmp_path / "labels/valence/b.csv", [0.1, 0.2, 0.3])
    (tmp_path / "labels/valence/a.csv").symlink_to("absent.csv")
    (tmp_path / "labels/valence/c.csv").symlink_to("c.csv")
    tasks = make_tasks(files, Location.parse(tmp_path / "labels"))
    a, b = (predict_task(predictor, task, Location.parse(tmp_path / "out")) for task in tasks)
    assert (a.status, a.ccc) == ("ok", None)
    assert "valence labels not used" in a.reason
    assert "a link to 'absent.csv', which leads nowhere" in a.reason
    assert b.ccc is not None


def test_labels_of_another_scale_are_scored_on_it(predictor: Predictor, tmp_path: Path) -> None:
    audio = [Location.parse(_write_audio(tmp_path / "talk.wav", 12))]
    values = [(i % 7) / 3 - 1 for i in range(24)]
    plain = Location.parse(_write_labels(tmp_path / "plain.csv", values))
    sevens = _write_labels(tmp_path / "sevens.csv", [4 + 3 * value for value in values])
    seven = Location.parse(sevens)

    def outcome(labels: Location, scale: tuple[float, float] | None, out: str) -> PredictionOutcome:
        (task,) = make_tasks(audio, labels, scale=scale)
        return predict_task(predictor, task, Location.parse(tmp_path / out))

    expected = (outcome(plain, None, "plain").ccc or {})["valence"]
    unknown = outcome(seven, None, "out")
    assert "outside [-1, 1]; if they are of another scale" in unknown.reason
    assert "--labels-range LOWEST HIGHEST with predict" in unknown.reason
    # Another scale gives other files.
    assert outcome(seven, (1.0, 7.0), "out").status == "stale"
    stated = outcome(seven, (1.0, 7.0), "stated")
    assert stated.ccc == {"valence": pytest.approx(expected, rel=1e-4)}
    assert stated.reason == ""
    assert "the value is '1.0'" in outcome(seven, (2.0, 7.0), "narrow").reason
    for scale in ((7.0, 1.0), (float("nan"), 1.0), (1.0, float("inf"))):
        with pytest.raises(UsageError, match="Expected the lowest and the highest"):
            make_tasks(audio, seven, scale=scale)
    with pytest.raises(UsageError, match="without labels"):
        make_tasks(audio, scale=(1.0, 7.0))


def test_folders_of_labels(tmp_path: Path) -> None:
    audio = [Location.parse(tmp_path / f"{name}.wav") for name in ("talk", "song")]
    for folder, target in (
        ("valence", "valence"),
        ("arousal", "arousal"),
        ("physio-arousal", "arousal"),
        ("mine", "valence"),
    ):
        file = _write_labels(tmp_path / folder / "talk.csv", [0.1, 0.2])
        talk, song = make_tasks(audio, Location.parse(tmp_path / folder))
        assert talk.labels == {target: Location.parse(file)}
        assert song.labels == {}
    (tmp_path / "none").mkdir()
    with pytest.raises(UsageError, match=r"no labels for any of the 2.*Expected talk\.csv"):
        make_tasks(audio, Location.parse(tmp_path / "none"))


def test_names_that_no_file_can_have_are_shortened_and_told_apart(
    predictor: Predictor, tmp_path: Path
) -> None:
    long = ["n" * 247 + end for end in ("a.wav", "b.wav")]
    for name in long:
        _write_audio(tmp_path / name, 12)
    for name in ("Case.wav", "case.wav"):
        _write_audio(tmp_path / name, 12)
    tasks = make_tasks(find_audio([str(tmp_path)]))
    assert len({task.name.casefold() for task in tasks}) == 4
    out = Location.parse(tmp_path / "out")
    assert [predict_task(predictor, task, out).status for task in tasks] == ["ok"] * 4
    assert len(out.files()) == 12


def test_a_name_that_is_not_utf8_costs_its_own_recording_alone(
    predictor: Predictor, tmp_path: Path
) -> None:
    shutil.copy(_write_audio(tmp_path / "good.wav", 12), tmp_path / os.fsdecode(b"caf\xe9.wav"))
    (tmp_path / "labels").mkdir()
    _write_labels(tmp_path / "labels" / "good.csv", [0.1] * 24)
    bad, good = make_tasks(find_audio([str(tmp_path)]), Location.parse(tmp_path / "labels"))
    out = Location.parse(tmp_path / "out")
    outcome = predict_task(predictor, bad, out)
    assert (outcome.status, outcome.name) == ("failed", "caf\\xe9")
    assert "caf\\xe9.wav' has a path that is not UTF-8" in outcome.reason
    json.dumps(outcome.to_json()).encode()
    assert predict_task(predictor, good, out).status == "ok"


@pytest.mark.parametrize(("first", "stamps"), [(0, "start"), (500, "end")])
def test_timestamps_follow_the_labels(
    predictor: Predictor, tmp_path: Path, first: int, stamps: str
) -> None:
    audio = [_write_audio(tmp_path / f"{n}.wav", 12) for n in ("empty", "talk", "unlabelled")]
    labels = tmp_path / "corpus" / "label_segments" / "valence" / "talk.csv"
    labels.parent.mkdir(parents=True)
    labels.with_stem("empty").write_text("timestamp,value\n")
    rows = [f"{first + 500 * i},{i / 50}" for i in range(24)]
    labels.write_text("\n".join(["timestamp,value", *rows]))
    tasks = make_tasks(
        [Location.parse(file) for file in audio], Location.parse(tmp_path / "corpus")
    )
    out = tmp_path / "out"
    for task in tasks:
        assert predict_task(predictor, task, Location.parse(out)).timestamp == stamps
        csv = pd.read_csv(out / f"{task.name}.csv")
        assert csv.columns.tolist() == ["timestamp", "valence", "speech"]
        assert csv["timestamp"].tolist() == [first + 500 * i for i in range(24)]
        assert pd.read_parquet(out / f"{task.name}.parquet")["timestamp"].tolist()[0] == first
    merged = pd.read_csv(labels).merge(pd.read_csv(out / "talk.csv"), on="timestamp")
    assert len(merged) == 24


def test_labels_of_two_conventions_leave_both_ends_named(
    predictor: Predictor, tmp_path: Path
) -> None:
    audio = [_write_audio(tmp_path / f"{name}.wav", 12) for name in ("a", "b", "c")]
    (tmp_path / "labels").mkdir()
    for name, first in (("a", 0), ("b", 500)):
        rows = [f"{first + 500 * i},0.1" for i in range(24)]
        (tmp_path / "labels" / f"{name}.csv").write_text("\n".join(["timestamp,value", *rows]))
    files = [Location.parse(file) for file in audio]
    tasks = make_tasks(files, Location.parse(tmp_path / "labels"))
    first_rows = []
    for task in tasks:
        predict_task(predictor, task, Location.parse(tmp_path / "out"))
        csv = pd.read_csv(tmp_path / "out" / f"{task.name}.csv")
        first_rows.append(csv.drop(columns=["valence", "speech"]).iloc[0].to_dict())
    assert first_rows == [{"timestamp": 0}, {"timestamp": 500}, {"timestamp": 0, "end": 500}]


@pytest.mark.parametrize("seconds", [12, 3])
@pytest.mark.parametrize("weight", [3e38, 1e20])
def test_predictions_that_are_no_numbers_fail_their_file(
    tmp_path: Path, tiny_config: Config, seconds: float, weight: float
) -> None:
    predictor = _predictor(tmp_path / "model", tiny_config, seed=0)
    (task,) = make_tasks([Location.parse(_write_audio(tmp_path / "talk.wav", seconds))])
    # Finite weights, which a model's file may hold, and sums that are not.
    with torch.no_grad():
        predictor.model.output.weight.fill_(weight)
        predictor.model.output.bias.fill_(weight)
    outcome = predict_task(predictor, task, Location.parse(tmp_path / "out"))
    assert outcome.status == "failed"
    assert "talk.wav' has no prediction that is a number" in outcome.reason
    assert "sequences, the first at 0 s" in outcome.reason
    assert not (tmp_path / "out").exists()


def test_a_figure_is_drawn_again_once_the_model_is_evaluated(
    tmp_path: Path, tiny_config: Config
) -> None:
    predictor = _predictor(tmp_path / "model", tiny_config, seed=0)
    (task,) = make_tasks([Location.parse(_write_audio(tmp_path / "talk.wav", 12))])
    out = Location.parse(tmp_path / "out")
    predict_task(predictor, task, out)
    png, csv = ((tmp_path / "out" / f"talk.{kind}").read_bytes() for kind in ("png", "csv"))
    predictor.quality = Quality(corpus="nemo", ccc=-0.04, test_subjects=2)
    assert predict_task(predictor, task, out).status == "ok"
    assert (tmp_path / "out" / "talk.png").read_bytes() != png
    assert (tmp_path / "out" / "talk.csv").read_bytes() == csv
    about = json.loads(pq.read_schema(tmp_path / "out" / "talk.parquet").metadata[b"valence"])
    assert "do not use it" in about["quality"]["warnings"][0]
    assert predict_task(predictor, task, out).status == "skipped"


def test_what_is_remarked_of_the_sound_stands_in_every_file(
    predictor: Predictor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (task,) = make_tasks([Location.parse(_write_audio(tmp_path / "talk.wav", 12))])
    heard = predictor.predict_path

    def remarking(*arguments: Any, **named: Any) -> Any:
        return replace(heard(*arguments, **named), remarks=("its channels were mixed",))

    monkeypatch.setattr(predictor, "predict_path", remarking)
    outcome = predict_task(predictor, task, Location.parse(tmp_path / "out"))
    assert outcome.to_json()["remarks"] == ["its channels were mixed"]
    csv = pd.read_csv(tmp_path / "out" / "talk.csv")
    assert csv.columns.tolist() == ["timestamp", "valence", "end", "speech", "remarks"]
    about = json.loads(pq.read_schema(tmp_path / "out" / "talk.parquet").metadata[b"valence"])
    assert about["outcome"]["remarks"] == ["its channels were mixed"]


def test_labels_in_another_unicode_form_are_joined_with_a_remark(
    predictor: Predictor, tmp_path: Path
) -> None:
    audio = _write_audio(tmp_path / "Zoe\u0308.wav", 12)
    _write_labels(tmp_path / "labels" / "valence" / "Zo\u00eb.csv", [i / 30 for i in range(24)])
    (task,) = make_tasks([Location.parse(audio)], Location.parse(tmp_path / "labels"))
    outcome = predict_task(predictor, task, Location.parse(tmp_path / "out"))
    assert "another Unicode form" in outcome.reason
    assert set(outcome.ccc or {}) == {"valence"}


FORMATS = ("eaf", "textgrid", "audacity", "audformat")
NAMES = {"talk.eaf", "talk.TextGrid", "talk.labels.txt", "talk.audformat.csv"}


def test_formats_add_files_and_change_no_other(predictor: Predictor, tmp_path: Path) -> None:
    (task,) = make_tasks([Location.parse(_write_audio(tmp_path / "talk.wav", 12))])
    plain, more = tmp_path / "plain", tmp_path / "more"
    predict_task(predictor, task, Location.parse(plain))
    outputs = chosen_outputs(FORMATS)
    assert predict_task(predictor, task, Location.parse(more), outputs=outputs).status == "ok"
    assert {file.name for file in more.iterdir()} - {f.name for f in plain.iterdir()} == NAMES
    for name in ("talk.csv", "talk.png"):
        assert (plain / name).read_bytes() == (more / name).read_bytes()
    csv = pd.read_csv(more / "talk.csv")
    table = pd.read_csv(more / "talk.audformat.csv")
    assert table["valence"].tolist() == csv["valence"].tolist()
    again = predict_task(predictor, task, Location.parse(more), outputs=outputs)
    assert again.status == "skipped"


def test_a_format_asked_for_later_is_added(predictor: Predictor, tmp_path: Path) -> None:
    (task,) = make_tasks([Location.parse(_write_audio(tmp_path / "talk.wav", 12))])
    out, folder = Location.parse(tmp_path / "out"), tmp_path / "out"
    predict_task(predictor, task, out)
    csv = (folder / "talk.csv").read_bytes()
    for name in FORMATS:
        assert predict_task(predictor, task, out, outputs=chosen_outputs([name])).status == "ok"
    assert {file.name for file in folder.iterdir()} >= NAMES
    assert (folder / "talk.csv").read_bytes() == csv
    # All are known as this program's, whatever the last call asked for.
    all_of_them = chosen_outputs(FORMATS)
    assert predict_task(predictor, task, out, outputs=all_of_them).status == "skipped"
    (folder / "talk.eaf").unlink()
    assert predict_task(predictor, task, out).status == "skipped"
    assert predict_task(predictor, task, out, outputs=all_of_them).status == "ok"
    assert (folder / "talk.eaf").exists()


def test_the_work_of_an_annotator_stays(
    predictor: Predictor, tiny_config: Config, tmp_path: Path
) -> None:
    (task,) = make_tasks([Location.parse(_write_audio(tmp_path / "talk.wav", 12))])
    out, folder = Location.parse(tmp_path / "out"), tmp_path / "out"
    eaf, grid = chosen_outputs(["eaf"]), chosen_outputs(["textgrid"])
    predict_task(predictor, task, out, outputs=eaf)
    written = (folder / "talk.eaf").read_bytes()
    (folder / "talk.eaf").write_text("edited")
    # It costs the other files nothing.
    assert predict_task(predictor, task, out).status == "skipped"
    assert predict_task(predictor, task, out, outputs=grid).status == "ok"
    assert (folder / "talk.eaf").read_text() == "edited"
    refused = predict_task(predictor, task, out, outputs=eaf)
    assert refused.status == "stale"
    assert refused.reason == "'talk.eaf' has been changed since this program wrote it"
    assert (folder / "talk.eaf").read_text() == "edited"
    # Another model replaces what is this program's own, and the rest only where it is asked for.
    other = _predictor(tmp_path / "other", tiny_config, seed=5)
    before = (folder / "talk.TextGrid").read_bytes()
    assert predict_task(other, task, out, overwrite=True).status == "ok"
    assert (folder / "talk.eaf").read_text() == "edited"
    assert (folder / "talk.TextGrid").read_bytes() != before
    assert predict_task(predictor, task, out, outputs=eaf, overwrite=True).status == "ok"
    assert (folder / "talk.eaf").read_bytes() == written
    assert (folder / "talk.TextGrid").read_bytes() == before


@pytest.mark.parametrize("predicted_before", [False, True])
def test_a_file_of_an_annotator_is_never_taken_for_one_of_this_program(
    predictor: Predictor, tmp_path: Path, predicted_before: bool
) -> None:
    (task,) = make_tasks([Location.parse(_write_audio(tmp_path / "talk.wav", 12))])
    out, mine = Location.parse(tmp_path / "out"), tmp_path / "out" / "talk.TextGrid"
    if predicted_before:
        predict_task(predictor, task, out)
    mine.parent.mkdir(exist_ok=True)
    mine.write_text("mine")
    outputs = chosen_outputs(["textgrid", "eaf"])
    refused = predict_task(predictor, task, out, outputs=outputs)
    assert refused.status == "stale"
    assert refused.reason == "'talk.TextGrid' stands there, and this program has not written it"
    assert mine.read_text() == "mine"
    assert not (tmp_path / "out" / "talk.eaf").exists()
    assert predict_task(predictor, task, out, outputs=outputs, overwrite=True).status == "ok"
    assert mine.read_text().startswith("File type")


def test_what_a_writer_of_formats_left_is_made_again(
    predictor: Predictor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (task,) = make_tasks([Location.parse(_write_audio(tmp_path / "talk.wav", 12))])
    out, outputs = Location.parse(tmp_path / "out"), chosen_outputs(FORMATS)
    whole = Location.write_bytes

    def interrupted(self: Location, content: bytes) -> None:
        if self.name.endswith(".TextGrid"):
            raise KeyboardInterrupt
        whole(self, content)

    with monkeypatch.context() as patch:
        patch.setattr(Location, "write_bytes", interrupted)
        with pytest.raises(KeyboardInterrupt):
            predict_task(predictor, task, out, outputs=outputs)
    assert (tmp_path / "out" / "talk.eaf").exists()
    assert predict_task(predictor, task, out, outputs=outputs).status == "ok"
    assert predict_task(predictor, task, out, outputs=outputs).status == "skipped"


def test_a_format_that_is_not_known_is_named() -> None:
    with pytest.raises(UsageError, match=r"'elan', 'praat' is not known\. Expected one of eaf, "):
        chosen_outputs(["praat", "eaf", "elan"])


def _half_silent(file: Path) -> Path:
    """Write twelve seconds of noise of which the third to the sixth are silent."""
    rng = np.random.default_rng(1)
    y = 0.1 * rng.standard_normal(12 * SR)
    y[2 * SR : 6 * SR] = 0
    soundfile.write(file, y, SR, subtype="FLOAT")
    return file


# The eight silent steps, by hand.
SILENT = np.repeat([False, True, False], [4, 8, 12])


def test_speech_is_a_column_and_its_method_is_named(predictor: Predictor, tmp_path: Path) -> None:
    (task,) = make_tasks([Location.parse(_half_silent(tmp_path / "talk.wav"))])
    outcome = predict_task(predictor, task, Location.parse(tmp_path / "out"))
    assert (outcome.spoken, outcome.speech_by, outcome.masked) == (16, "energy", False)
    csv = pd.read_csv(tmp_path / "out" / "talk.csv")
    assert (csv["speech"] < 0.1).tolist() == SILENT.tolist()
    assert csv["valence"].notna().all()
    parquet = tmp_path / "out" / "talk.parquet"
    np.testing.assert_allclose(pd.read_parquet(parquet)["speech"], csv["speech"], atol=1e-6)
    about = json.loads(pq.read_schema(parquet).metadata[b"valence"])
    assert about["speech"] == {"by": "energy", "least_share": 0.1, "masked": False}
    with pytest.raises(UsageError, match="silero-vad and onnxruntime"):
        predict_task(predictor, task, Location.parse(tmp_path), speech=SpeechSettings("silero"))


def test_silence_is_masked_in_every_file(predictor: Predictor, tmp_path: Path) -> None:
    (task,) = make_tasks([Location.parse(_half_silent(tmp_path / "talk.wav"))])
    whole, masked = tmp_path / "whole", tmp_path / "masked"
    outputs, mask = chosen_outputs(FORMATS), SpeechSettings(mask=True)
    predict_task(predictor, task, Location.parse(whole), outputs=outputs)
    out = Location.parse(masked)
    outcome = predict_task(predictor, task, out, outputs=outputs, speech=mask)
    assert (outcome.status, outcome.masked, outcome.rows) == ("ok", True, 24)
    before, after = pd.read_csv(whole / "talk.csv"), pd.read_csv(masked / "talk.csv")
    assert after["valence"].isna().tolist() == SILENT.tolist()
    assert after["valence"][~SILENT].tolist() == before["valence"][~SILENT].tolist()
    pd.testing.assert_frame_equal(after.drop(columns="valence"), before.drop(columns="valence"))
    assert pq.read_table(masked / "talk.parquet")["valence"].null_count == 8
    assert pd.read_csv(masked / "talk.audformat.csv")["valence"].isna().sum() == 8
    eaf = (masked / "talk.eaf").read_text()
    assert (whole / "talk.eaf").read_text().count('TIME_VALUE="3000"') == 2
    assert 'TIME_VALUE="3000"' not in eaf
    # The same files without the mask are other files.
    assert predict_task(predictor, task, out, speech=mask).status == "skipped"
    assert predict_task(predictor, task, out).status == "stale"


def test_scores_without_silence_stand_beside_the_full_ones(
    predictor: Predictor, tmp_path: Path
) -> None:
    audio = Location.parse(_half_silent(tmp_path / "talk.wav"))
    predicted = predictor.predict_file(audio).to_frame()["valence"].to_numpy()
    # The annotation is the prediction itself where somebody speaks, and its mirror elsewhere.
    labels = np.where(SILENT, 2 * predicted.mean() - predicted, predicted) + np.where(
        SILENT, 0.3, 0
    )
    file = _write_labels(tmp_path / "labels.csv", labels.tolist())
    (task,) = make_tasks([audio], Location.parse(file))
    for name, mask in (("plain", False), ("masked", True)):
        out = Location.parse(tmp_path / name)
        outcome = predict_task(predictor, task, out, speech=SpeechSettings(mask=mask))
        # Masking changes the files, and neither score.
        assert outcome.ccc == {"valence": pytest.approx(concordance(labels, predicted), abs=1e-4)}
        assert outcome.ccc["valence"] < 0.5
        assert outcome.ccc_speech == {"valence": pytest.approx(1, abs=1e-3)}
        (row,) = standing_rows(out)
        assert (row["ccc"], row["ccc_speech"]) == (outcome.ccc, outcome.ccc_speech)


def test_the_least_share_is_a_setting(predictor: Predictor, tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    # A quarter of every second step is noise.
    y = 0.1 * rng.standard_normal((12, SR))
    y[:, SR // 2 + SR // 8 :] = 0
    soundfile.write(tmp_path / "talk.wav", y.ravel(), SR, subtype="FLOAT")
    (task,) = make_tasks([Location.parse(tmp_path / "talk.wav")])
    for share, spoken in ((0.1, 24), (0.4, 12), (1.0, 12)):
        speech = SpeechSettings(least_share=share)
        out = Location.parse(tmp_path / str(share))
        assert predict_task(predictor, task, out, speech=speech).spoken == spoken


def test_a_recording_in_which_nobody_speaks(predictor: Predictor, tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    soundfile.write(tmp_path / "talk.wav", 1e-5 * rng.standard_normal(12 * SR), SR, subtype="FLOAT")
    labels = _write_labels(tmp_path / "labels.csv", [i / 24 for i in range(24)])
    (task,) = make_tasks([Location.parse(tmp_path / "talk.wav")], Location.parse(labels))
    out = Location.parse(tmp_path / "out")
    outputs = chosen_outputs(FORMATS)
    outcome = predict_task(predictor, task, out, outputs=outputs, speech=SpeechSettings(mask=True))
    assert (outcome.status, outcome.spoken, outcome.ccc_speech) == ("ok", 0, None)
    assert outcome.ccc is not None
    assert outcome.remarks == ("no speech was found in it (by energy)",)
    csv = pd.read_csv(tmp_path / "out" / "talk.csv")
    assert csv["valence"].isna().all()
    assert (csv["remarks"] == "no speech was found in it (by energy)").all()
    assert (tmp_path / "out" / "talk.labels.txt").read_bytes() == b""


def test_files_whose_speech_was_found_otherwise_say_so(
    predictor: Predictor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (task,) = make_tasks([Location.parse(_write_audio(tmp_path / "talk.wav", 12))])
    out = Location.parse(tmp_path / "out")
    predict_task(predictor, task, out)
    monkeypatch.setattr("valence.prediction.files.speech_method", lambda _: "silero-vad 6.2.3")
    outcome = predict_task(predictor, task, out)
    assert outcome.status == "stale"
    assert "found by 'energy', and here by 'silero-vad 6.2.3' (--speech)" in outcome.reason


def test_files_that_were_masked_otherwise_say_so(predictor: Predictor, tmp_path: Path) -> None:
    (task,) = make_tasks([Location.parse(_write_audio(tmp_path / "talk.wav", 12))])
    out = Location.parse(tmp_path / "out")
    predict_task(predictor, task, out)
    masked = SpeechSettings("energy", mask=True)
    predict_task(predictor, task, out, speech=SpeechSettings("energy"), overwrite=True)
    outcome = predict_task(predictor, task, out, speech=masked)
    assert outcome.status == "stale"
    assert "they leave values of silence in (--mask-silence)" in outcome.reason


def test_a_name_that_is_too_long_for_a_format_alone_is_said(
    predictor: Predictor, tmp_path: Path
) -> None:
    (task,) = make_tasks([Location.parse(_write_audio(tmp_path / f"{'n' * 240}.wav", 12))])
    out = Location.parse(tmp_path / "out")
    outcome = predict_task(predictor, task, out, outputs=chosen_outputs(["audformat"]))
    assert outcome.status == "ok"
    (task,) = make_tasks([Location.parse(_write_audio(tmp_path / f"{'n' * 242}.wav", 12))])
    outcome = predict_task(predictor, task, out, outputs=chosen_outputs(["audformat"]))
    assert outcome.status == "failed"
    assert "has a name that is too long for files beside it" in outcome.reason
    assert predict_task(predictor, task, out).status == "ok"


def test_a_timeline_need_not_look_for_speech(predictor: Predictor, tmp_path: Path) -> None:
    audio = Location.parse(_half_silent(tmp_path / "talk.wav"))
    without = predictor.predict_file(audio, speech=None)
    assert (without.speech, without.speech_by) == (None, "")
    assert "speech" not in without.to_frame()
    found = predictor.predict_file(audio)
    assert found.speech is not None
    assert (found.speech < 0.1).tolist() == SILENT.tolist()
    np.testing.assert_array_equal(found.values, without.values)
    y, sr = soundfile.read(audio.path, dtype="float32")
    np.testing.assert_array_equal(predictor(y, sr=sr).speech, found.speech)
