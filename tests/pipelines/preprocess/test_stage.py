from __future__ import annotations

import json
import os
import re
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import soundfile

from pipelines.preprocess.tasks import process_recordings
from tests.helpers.consoles import RecordedConsole, quiet
from tests.helpers.exported import exported
from tests.helpers.processes import wait_for
from tests.helpers.raters import trace
from valence.chain import require_own_config
from valence.config import Config, FuseConfig
from valence.corpus.muse import read_corpus
from valence.corpus.splits import assign_splits
from valence.errors import ClusterError, CorpusError, DamagedError, StaleError, ValenceError
from valence.fusion.gold_standard import fuse_traces
from valence.fusion.record import write_fusion
from valence.run import Run
from valence.segments.preprocessing import Job, process_recording
from valence.segments.store import SegmentStore
from valence.storage.location import Location

pytestmark = [
    pytest.mark.ray,
    # Ray Data warns of its own settings, and leaves sockets to the collector.
    pytest.mark.filterwarnings("ignore:.*deprecated", "ignore::ResourceWarning"),
]

_SR = 16_000


def _preprocess(
    corpus: Path, run: Path, config: Config, *, overwrite: bool = False
) -> dict[str, object]:
    from pipelines.preprocess.stage import preprocess

    return preprocess(
        Location.parse(corpus), Run.at(str(run)), config, overwrite=overwrite, console=quiet()
    )


def _files(run: Path) -> dict[str, bytes]:
    """Content of all that is stored, the record of when and how long aside."""
    return {
        file.name: file.read_bytes()
        for file in sorted((run / "segments").iterdir())
        if file.name != "stage.json"
    }


def _inodes(run: Path) -> dict[str, int]:
    return {file.stem: file.stat().st_ino for file in (run / "segments").glob("*.parquet")}


@pytest.fixture
def corpus(tiny_corpus: Location, tmp_path: Path) -> Path:
    """A copy of the tiny corpus that a test may damage."""
    folder = tmp_path / "corpus"
    shutil.copytree(tiny_corpus.path, folder)
    return folder


@pytest.fixture(scope="module")
def made(
    ray_local: None,
    tiny_corpus: Location,
    tiny_config: Config,
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    """What one run of the stage makes of the tiny corpus."""
    run = tmp_path_factory.mktemp("made") / "run"
    _preprocess(Path(tiny_corpus.path), run, tiny_config)
    return run


def test_every_recording_once(made: Path, tiny_corpus: Location, tiny_config: Config) -> None:
    store = SegmentStore(Location.parse(made / "segments"))
    frame = store.recordings()
    found = read_corpus(tiny_corpus)
    splits = assign_splits(found, tiny_config.split)
    assert frame["Id"].tolist() == sorted(recording.id for recording in found.recordings)
    assert frame["split"].tolist() == [splits[name] for name in frame["Id"]]
    assert (frame["status"] == "ok").all()
    assert (frame["segments"] == 80).all()
    assert frame["copies"].tolist() == [int(split == "train") for split in frame["split"]]
    for row in frame.itertuples():
        for copy in range(row.copies + 1):
            assert len(store.read(row.Id, copy)) == 80
    summary = json.loads((made / "segments/stage.json").read_text())["summary"]
    assert summary["subjects"] == {"known_by": "synthetic", "remark": ""}


def test_standardization_is_numpys_over_all_training_segments(made: Path) -> None:
    store = SegmentStore(Location.parse(made / "segments"))
    frame = store.recordings()
    mel = np.concatenate(
        [
            store.read(row.Id, copy).mel.astype(np.float64)
            for row in frame[frame["split"] == "train"].itertuples()
            for copy in range(row.copies + 1)
        ]
    )
    over_all, by_band = store.standardizer(), store.standardizer("mel_band")
    np.testing.assert_allclose(over_all.mean, [mel.mean()], rtol=1e-6)
    np.testing.assert_allclose(over_all.std, [mel.std()], rtol=1e-6)
    np.testing.assert_allclose(by_band.mean, mel.mean(axis=(0, 2)), rtol=1e-6)
    np.testing.assert_allclose(by_band.std, mel.std(axis=(0, 2)), rtol=1e-6)


@pytest.mark.parametrize("setting", ["preprocess.tasks=1", "preprocess.cpus_per_task=0.5"])
def test_the_same_bytes_one_after_another_four_and_eight_at_a_time(
    made: Path, tiny_corpus: Location, tiny_config: Config, tmp_path: Path, setting: str
) -> None:
    config = Config.resolve(tiny_config, assignments=[setting])
    _preprocess(Path(tiny_corpus.path), tmp_path / "run", config)
    assert _files(tmp_path / "run") == _files(made)


def test_the_same_bytes_alone_and_in_another_order(
    made: Path, tiny_corpus: Location, tiny_config: Config, tmp_path: Path
) -> None:
    found = read_corpus(tiny_corpus)
    splits = assign_splits(found, tiny_config.split)
    store = SegmentStore(Location.parse(tmp_path))
    for recording in reversed(found.recordings):
        copies = int(splits[recording.id] == "train")
        process_recording(Job(recording, splits[recording.id], copies), store, tiny_config)
        there = made / "segments" / f"{recording.id}.parquet"
        assert store.file(recording.id).read_bytes() == there.read_bytes()


def test_the_same_bytes_after_half_was_lost(
    made: Path, tiny_corpus: Location, tiny_config: Config, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    shutil.copytree(made, run)
    for name in ("stage.json", "recordings.parquet", "standardization.json", "02.parquet"):
        (run / "segments" / name).unlink()
    # What an interrupted writer leaves, and a file of which the end is missing.
    (run / "segments" / ".02.parquet.0a1b.partial").write_bytes(b"PAR1")
    whole = (run / "segments" / "04.parquet").read_bytes()
    (run / "segments" / "04.parquet").write_bytes(whole[: len(whole) // 2])
    before = _inodes(run)
    summary = _preprocess(Path(tiny_corpus.path), run, tiny_config)
    assert (summary["processed"], summary["skipped"]) == (2, 4)
    assert _files(run) == _files(made)
    after = _inodes(run)
    assert {name for name in before if before[name] == after.get(name)} == {"01", "03", "05", "06"}


def test_nothing_to_do(made: Path, tiny_corpus: Location, tiny_config: Config) -> None:
    before = {file: file.stat().st_mtime_ns for file in (made / "segments").iterdir()}
    summary = _preprocess(Path(tiny_corpus.path), made, tiny_config)
    assert summary["processed"] == 6
    assert {file: file.stat().st_mtime_ns for file in (made / "segments").iterdir()} == before


def test_the_store_says_of_which_corpus_and_settings_it_is(
    made: Path, tiny_corpus: Location, corpus: Path, tiny_config: Config, tmp_path: Path
) -> None:
    folder, run = tmp_path / "run", Run.at(str(tmp_path / "run"))
    shutil.copytree(made, folder)
    assert run.record() == {"corpus": str(tiny_corpus), "synthetic": True}
    assert require_own_config(run) == tiny_config
    # The same recordings elsewhere, divided by a rule that comes to the same.
    assignments = ["preprocess.tasks=2", "split.protocol=partition"]
    other = Config.resolve(tiny_config, assignments=assignments)
    for file in Path(tiny_corpus.path).rglob("*.*"):
        there = corpus / file.relative_to(tiny_corpus.path)
        os.utime(there, ns=(file.stat().st_atime_ns, file.stat().st_mtime_ns))
    _preprocess(corpus, folder, other)
    assert _files(folder) == _files(made)
    assert run.record()["corpus"] == str(corpus)
    assert require_own_config(run) == other
    run.write_config(other, {**run.record(), "synthetic": False})
    with pytest.raises(DamagedError, match=r"run\.synthetic is True there and False here"):
        require_own_config(run)
    # The command itself says again what the corpus is.
    _preprocess(corpus, folder, other)
    assert require_own_config(run) == other


def test_the_store_says_how_well_raters_agree_as_long_as_their_labels_stand(
    made: Path, tiny_corpus: Location, corpus: Path, tiny_config: Config, tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    shutil.copytree(made, folder)
    for file in Path(tiny_corpus.path).rglob("*.*"):
        there = corpus / file.relative_to(tiny_corpus.path)
        os.utime(there, ns=(file.stat().st_atime_ns, file.stat().st_mtime_ns))
    wave = np.sin(np.arange(40) / 5)
    settings = FuseConfig(standardize="none", align="none", smooth="none")
    found = fuse_traces([trace(0.5 * wave, rater=name) for name in "ab"], settings)
    write_fusion(Location.parse(corpus), found, settings, set_aside=[])
    assert "agreement" not in _preprocess(Path(tiny_corpus.path), folder, tiny_config)
    summary = _preprocess(corpus, folder, tiny_config)
    assert summary["agreement"]["valence"]["as_rated"]["ccc"] == 1  # type: ignore[index]
    record = Run.at(str(folder)).stage("segments").require()
    assert record["summary"]["agreement"] == summary["agreement"]
    assert _files(folder) == _files(made)
    (corpus / "metadata/pairs.csv").write_text("edited")
    assert "agreement" not in _preprocess(corpus, folder, tiny_config)


@pytest.mark.parametrize("share", [None, 0.5])
def test_a_file_that_a_finished_store_lost_is_made_again(
    made: Path, tiny_corpus: Location, tiny_config: Config, tmp_path: Path, share: float | None
) -> None:
    run = tmp_path / "run"
    shutil.copytree(made, run)
    file = run / "segments/02.parquet"
    content = file.read_bytes()
    if share is None:
        file.unlink()
    else:
        file.write_bytes(content[: int(share * len(content))])
    summary = _preprocess(Path(tiny_corpus.path), run, tiny_config)
    assert (summary["processed"], summary["skipped"]) == (1, 5)
    assert _files(run) == _files(made)


def test_another_scope_needs_no_new_extraction(
    made: Path, tiny_corpus: Location, tiny_config: Config, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    shutil.copytree(made, run)
    before = _inodes(run)
    config = Config.resolve(tiny_config, assignments=["standardize.scope=mel_band"])
    summary = _preprocess(Path(tiny_corpus.path), run, config)
    store = SegmentStore(Location.parse(run / "segments"))
    assert _inodes(run) == before
    assert store.standardizer().scope == "mel_band"
    assert summary["digest"] == store.digest()


def test_touched_files_are_compared_and_left(
    made: Path, corpus: Path, tiny_config: Config, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    shutil.copytree(made, run)
    before = _inodes(run)
    for file in corpus.rglob("*.wav"):
        file.touch()
    summary = _preprocess(corpus, run, tiny_config)
    assert (summary["processed"], summary["skipped"]) == (0, 6)
    assert {k: v for k, v in _inodes(run).items() if k != "recordings"} == {
        k: v for k, v in before.items() if k != "recordings"
    }
    assert _files(run) == _files(made)


def _loud(corpus: Path, name: str) -> None:
    file = corpus / f"raw_data/audio/{name}.wav"
    y, sr = soundfile.read(file, dtype="float32")
    soundfile.write(file, y[::-1], sr)


def test_changed_audio_is_refused_and_made_again_alone(
    made: Path, corpus: Path, tiny_config: Config, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    shutil.copytree(made, run)
    before, content = _inodes(run), _files(run)
    _loud(corpus, "03")
    with pytest.raises(StaleError, match=r"1 recordings .* changed since: '03'"):
        _preprocess(corpus, run, tiny_config)
    assert _files(run) == content
    assert Run.at(str(run)).stage("segments").require()["status"] == "done"
    summary = _preprocess(corpus, run, tiny_config, overwrite=True)
    assert (summary["processed"], summary["skipped"]) == (1, 5)
    after = _inodes(run)
    assert {name for name in before if before[name] != after[name]} == {"03", "recordings"}
    assert _files(run)["03.parquet"] != content["03.parquet"]


def test_overwrite_looks_into_files_that_seem_untouched(
    made: Path, corpus: Path, tiny_config: Config, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    shutil.copytree(made, run)
    file = corpus / "raw_data/audio/03.wav"
    times = file.stat()
    content = file.read_bytes()
    file.write_bytes(content[:-2000] + bytes(2000))
    os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))
    _preprocess(corpus, run, tiny_config)
    assert _files(run) == _files(made)
    summary = _preprocess(corpus, run, tiny_config, overwrite=True)
    assert (summary["processed"], summary["skipped"]) == (1, 5)


def test_a_refused_call_changes_no_configuration_and_an_accepted_one_does_at_once(
    made: Path, corpus: Path, tiny_config: Config, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    shutil.copytree(made, run)
    config = Config.resolve(tiny_config, assignments=["preprocess.level=rms"])
    with pytest.raises(StaleError):
        _preprocess(corpus, run, config)
    assert Run.at(str(run)).config().preprocess.level == "peak"
    # The work cannot be done, and a resumed call shall go on with what was accepted.
    (run / "segments/05.parquet").unlink()
    (run / "segments/05.parquet/in_the_way").mkdir(parents=True)
    with pytest.raises(ValenceError, match="Preprocessing could not go on"):
        _preprocess(corpus, run, config, overwrite=True)
    assert Run.at(str(run)).config().preprocess.level == "rms"


def test_changed_configuration_is_refused_and_makes_again_what_depends_on_it(
    made: Path, tiny_corpus: Location, tiny_config: Config, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    shutil.copytree(made, run)
    before = _inodes(run)
    config = Config.resolve(tiny_config, assignments=["augment.copies=2"])
    with pytest.raises(StaleError, match=r"augment\.copies is 1 there and 2 here"):
        _preprocess(Path(tiny_corpus.path), run, config)
    summary = _preprocess(Path(tiny_corpus.path), run, config, overwrite=True)
    frame = SegmentStore(Location.parse(run / "segments")).recordings()
    train = set(frame["Id"][frame["split"] == "train"])
    after = _inodes(run)
    changed = {name for name in before if before[name] != after[name]}
    assert changed == train | {"recordings"}
    assert summary["processed"] == len(train)


def test_recordings_that_the_corpus_lost_leave_the_store(
    made: Path, corpus: Path, tiny_config: Config, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    shutil.copytree(made, run)
    (corpus / "raw_data/audio/01.wav").unlink()
    with pytest.raises(StaleError, match=r"corpus\.recordings is 6 there and 5 here"):
        _preprocess(corpus, run, tiny_config)
    summary = _preprocess(corpus, run, tiny_config, overwrite=True)
    assert (summary["processed"], summary["skipped"]) == (0, 5)
    assert "01" not in _inodes(run)


def test_a_bad_recording_costs_no_good_one(
    ray_local: None, corpus: Path, tiny_config: Config, tmp_path: Path
) -> None:
    (corpus / "raw_data/audio/02.wav").write_bytes(b"no audio at all")
    (corpus / "label_segments/valence/04.csv").write_text("timestamp,value\n500,glad\n")
    config = Config.resolve(tiny_config, assignments=["preprocess.max_rejected_share=0.5"])
    run = tmp_path / "run"
    summary = _preprocess(corpus, run, config)
    assert (summary["processed"], summary["rejected"]) == (4, 2)
    frame = SegmentStore(Location.parse(run / "segments")).recordings().set_index("Id")
    assert frame.loc[["02", "04"], "status"].tolist() == ["rejected"] * 2
    assert "not audio" in frame.loc["02", "reason"]
    assert "line 2" in frame.loc["04", "reason"]
    assert (frame.drop(index=["02", "04"])["reason"] == "").all()


def test_too_many_rejected_ends_the_run_after_all_is_done(
    ray_local: None, corpus: Path, tiny_config: Config, tmp_path: Path
) -> None:
    (corpus / "raw_data/audio/02.wav").write_bytes(b"no audio at all")
    run = tmp_path / "run"
    with pytest.raises(CorpusError, match=r"1 of 6 recordings \(17%\) were rejected: '02'"):
        _preprocess(corpus, run, tiny_config)
    store = SegmentStore(Location.parse(run / "segments"))
    assert (store.recordings()["status"] == "ok").sum() == 5
    assert store.standardizer().std > 0
    record = Run.at(str(run)).stage("segments").record()
    assert record is not None
    assert record["status"] == "running"
    # A larger share is not another configuration of what is stored.
    config = Config.resolve(tiny_config, assignments=["preprocess.max_rejected_share=0.2"])
    summary = _preprocess(corpus, run, config)
    assert (summary["processed"], summary["skipped"], summary["rejected"]) == (0, 5, 1)


def test_no_usable_validation_recording(
    ray_local: None, corpus: Path, tiny_config: Config, tmp_path: Path
) -> None:
    splits = assign_splits(read_corpus(Location.parse(corpus)), tiny_config.split)
    for name, split in splits.items():
        if split == "validation":
            (corpus / f"label_segments/valence/{name}.csv").unlink()
    config = Config.resolve(tiny_config, assignments=["preprocess.max_rejected_share=1"])
    with pytest.raises(CorpusError, match="No usable validation recording is left"):
        _preprocess(corpus, tmp_path / "run", config)


def test_a_failing_write_ends_the_run_and_says_so(
    ray_local: None, corpus: Path, tiny_config: Config, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    # A folder where a file should go: it can neither be read nor replaced.
    (run / "segments/05.parquet/in_the_way").mkdir(parents=True)
    with pytest.raises(ValenceError, match="run the command again") as caught:
        _preprocess(corpus, run, tiny_config)
    assert type(caught.value) is ValenceError
    (run / "segments/05.parquet/in_the_way").rmdir()
    (run / "segments/05.parquet").rmdir()
    assert _preprocess(corpus, run, tiny_config)["recordings"] == 6
    assert not list((run / "segments").glob(".*"))


def test_more_cpus_than_any_node_has(
    ray_local: None, tiny_corpus: Location, tiny_config: Config, tmp_path: Path
) -> None:
    config = Config.resolve(tiny_config, assignments=["preprocess.cpus_per_task=64"])
    with pytest.raises(ClusterError, match=r"= 64, and of 1 nodes the largest has 4 CPUs"):
        _preprocess(Path(tiny_corpus.path), tmp_path / "run", config)


def test_summary_and_progress(
    ray_local: None,
    tiny_corpus: Location,
    tiny_config: Config,
    console: RecordedConsole,
    tmp_path: Path,
) -> None:
    from pipelines.preprocess.stage import preprocess

    corpus = Location.parse(shutil.copytree(tiny_corpus.path, tmp_path / "corpus"))
    (tmp_path / "corpus/label_segments/valence/gone.csv").write_text("timestamp,value\n0,0\n")
    # A telephone's sound, and labels whose name is written otherwise.
    y = np.random.default_rng(0).uniform(-0.1, 0.1, 40 * 8000)
    (tmp_path / "corpus/raw_data/audio/06.wav").unlink()
    soundfile.write(tmp_path / "corpus/raw_data/audio/F06.wav", y, 8000)
    (tmp_path / "corpus/label_segments/valence/06.csv").rename(
        tmp_path / "corpus/label_segments/valence/f06.csv"
    )
    partition = tmp_path / "corpus/metadata/partition.csv"
    partition.write_text(partition.read_text().replace("06,", "F06,"))
    run = Run.at(str(tmp_path / "run"))
    summary = preprocess(corpus, run, tiny_config, overwrite=False, console=console)
    low = (
        "  remark on 1 of 6 recordings, 'F06': its sample rate of 8000 Hz is below 16000 Hz: it "
        "holds nothing above 4000 Hz"
    )
    case = "differ in capital and small letters only: 'f06' ('F06')"
    assert console.lines.count(low) == sum(case in line for line in console.lines) == 1
    again = RecordedConsole()
    assert preprocess(corpus, run, tiny_config, overwrite=False, console=again) == summary
    assert low in again.lines
    assert "nothing to do" in again.lines[-1]
    assert any("('06', 'f06', 'gone')" in line for line in console.lines)
    assert summary["audio_hours"] == pytest.approx(6 * 40 / 3600)
    assert summary["audio_hours_per_hour"] > 0
    assert summary["stored_bytes"] == sum(
        file.stat().st_size
        for file in (tmp_path / "run/segments").glob("*.parquet")
        if file.stem != "recordings"
    )
    steps = summary["step_seconds"]
    assert set(steps) == {"fetch", "check", "decode", "level", "augment", "mel", "store"}
    assert all(value > 0 for value in steps.values())
    assert any(line.startswith("preprocess: 6/6 0.07 h of audio") for line in console.lines)
    assert any("6 recordings made, 0 skipped, 0 rejected" in line for line in console.lines)
    assert any(re.search(r"\d+ audio-hours per hour", line) for line in console.lines)
    record = Run.at(str(tmp_path / "run")).stage("segments").require()
    assert record["summary"] == summary


def test_counters_for_prometheus(
    made: Path, corpus: Path, tiny_config: Config, tmp_path: Path
) -> None:
    (corpus / "raw_data/audio/03.wav").write_bytes(b"no sound")
    config = Config.resolve(tiny_config, assignments=["preprocess.max_rejected_share=0.2"])
    assert _preprocess(corpus, tmp_path / "run", config)["rejected"] == 1
    wait_for(
        lambda: (
            exported("ray_valence_audio_seconds_total")[""] >= 11 * 40
            and exported("ray_valence_recordings_total")["rejected"] >= 1
        ),
        "the counters",
    )
    assert exported("ray_valence_recordings_total")["ok"] >= 11
    steps = exported("ray_valence_step_seconds_total")
    assert {"fetch", "check", "decode", "level", "augment", "mel", "store"} <= set(steps)
    assert all(seconds > 0 for seconds in steps.values())


def test_real_speech(ray_local: None, nemo: Location, tmp_path: Path) -> None:
    summary = _preprocess(
        Path(nemo.path), tmp_path, Config.resolve(Config(), assignments=["augment.copies=0"])
    )
    assert (summary["recordings"], summary["rejected"]) == (13, 0)
    assert summary["audio_hours"] == pytest.approx(0.75)
    frame = SegmentStore(Location.parse(tmp_path / "segments")).recordings().set_index("Id")
    assert frame["segments"].sum() == 5400
    assert (frame.loc[["8_test", "9_test"], "split"] == "unlabelled").all()
    assert isinstance(frame, pd.DataFrame)
    table = pq.read_table(tmp_path / "segments/1.parquet", columns=["valence"])
    assert np.isfinite(table["valence"].to_numpy()).all()


# Cheap, so that hours can be worked through.
_HOURS = [
    "preprocess.sr=1000",
    "mel.n_fft=64",
    "mel.hop_length=16",
    "mel.n_mels=8",
    "augment.probability=0",
]


def _hours_of_noise(
    corpus: Path, name: str, *, hours: float = 2.5, damaged_at: float | None = None
) -> None:
    """Make the recording `name` of `corpus` a long one, with a NaN after so many hours."""
    y = np.random.default_rng(0).normal(0, 0.1, int(hours * 3600) * 1000).astype(np.float32)
    if damaged_at is not None:
        y[int(damaged_at * 3600) * 1000] = np.nan
    (corpus / f"raw_data/audio/{name}.wav").unlink()
    soundfile.write(corpus / f"raw_data/audio/{name}.wav", y, 1000, subtype="FLOAT")


def _names(corpus: Path, split: str, config: Config) -> list[str]:
    splits = assign_splits(read_corpus(Location.parse(corpus)), config.split)
    return sorted(name for name, part in splits.items() if part == split)


def test_a_long_recording_is_made_by_several_tasks(
    ray_local: None, corpus: Path, tiny_config: Config, tmp_path: Path
) -> None:
    config = Config.resolve(tiny_config, assignments=_HOURS)
    name = _names(corpus, "train", config)[0]
    _hours_of_noise(corpus, name)
    jobs = [
        Job(recording, "train", 1)
        for recording in read_corpus(Location.parse(corpus)).recordings
        if recording.id == name
    ]
    alone = SegmentStore(Location.parse(tmp_path / "alone"))
    process_recording(jobs[0], alone, config)
    store = SegmentStore(Location.parse(tmp_path / "parts"))
    came = list(process_recordings(jobs, store, config, sizes={}, selector={}, replace=False))
    assert [type(each).__name__ for each in came] == [
        "PartOutcome",
        "PartOutcome",
        "RecordingOutcome",
    ]
    assert store.file(name).read_bytes() == alone.file(name).read_bytes()
    summary = _preprocess(corpus, tmp_path / "run", config)
    assert summary["rejected"] == 0
    frame = SegmentStore(Location.parse(tmp_path / "run/segments")).recordings()
    assert summary["audio_hours"] == pytest.approx(frame["duration"].sum() / 3600)
    there = (tmp_path / f"run/segments/{name}.parquet").read_bytes()
    assert there == alone.file(name).read_bytes()


def test_a_long_recording_that_is_damaged_costs_no_other(
    ray_local: None, corpus: Path, tiny_config: Config, tmp_path: Path
) -> None:
    config = Config.resolve(tiny_config, assignments=[*_HOURS, "preprocess.max_rejected_share=0.5"])
    name = _names(corpus, "train", config)[0]
    # Of its three parts the last two fail, while the first is still being made.
    _hours_of_noise(corpus, name, hours=5, damaged_at=5 / 3 + 0.01)
    summary = _preprocess(corpus, tmp_path / "run", config)
    assert summary["rejected"] == 1
    frame = SegmentStore(Location.parse(tmp_path / "run/segments")).recordings().set_index("Id")
    assert "NaN" in frame.loc[name, "reason"]
    assert frame.loc[name, "fingerprint"]
    assert (frame.drop(index=name)["status"] == "ok").all()
    # What was made of its first part is in no store.
    others = frame.drop(index=name)["duration"].sum() / 3600
    assert summary["audio_hours"] == pytest.approx(others)
    assert not (tmp_path / "run/segments/parts").exists()
    assert not (tmp_path / f"run/segments/{name}.parquet").exists()
