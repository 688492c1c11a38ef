"""Corpus and run on an S3-compatible store, and on a disk that fills up."""

from __future__ import annotations

import io
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile

from pipelines.preprocess.tasks import process_recordings
from tests.helpers.consoles import quiet
from valence.config import Config
from valence.corpus.muse import Recording
from valence.errors import StaleError, ValenceError
from valence.run import Run
from valence.segments.preprocessing import Job, process_recording
from valence.segments.store import SegmentStore
from valence.storage.location import Location

pytestmark = [
    pytest.mark.ray,
    pytest.mark.filterwarnings("ignore:.*deprecated", "ignore::ResourceWarning"),
]


def _upload(folder: Path, target: Location) -> None:
    for file in folder.rglob("*"):
        if file.is_file():
            (target / file.relative_to(folder).as_posix()).write_bytes(file.read_bytes())


@pytest.fixture
def bucket(object_store: str) -> Location:
    """A folder of a bucket, with the credentials in its address."""
    return Location.parse(
        "s3://key:secret@shared/preprocessing"
        f"?endpoint_override={object_store}&scheme=http&region=us-east-1"
    )


def test_corpus_and_run_on_an_object_store(
    ray_local: None,
    bucket: Location,
    prepared_run: Callable[[str], Run],
    tiny_corpus: Location,
    tiny_config: Config,
) -> None:
    from pipelines.preprocess.stage import preprocess

    expected = SegmentStore(prepared_run("run").folder("segments"))
    corpus, run = bucket / "corpus", Run(bucket / "runs/a")
    _upload(Path(tiny_corpus.path), corpus)
    summary = preprocess(corpus, run, tiny_config, overwrite=False, console=quiet())
    assert summary["processed"] == 6
    store = SegmentStore(run.folder("segments"))
    for name in expected.recordings()["Id"]:
        assert store.file(name).read_bytes() == expected.file(name).read_bytes()
    assert store.digest() == expected.digest()
    # A second time there is nothing to do, and what is missing is made alone.
    again = preprocess(corpus, run, tiny_config, overwrite=False, console=quiet())
    assert again == summary
    store.file("02").delete()
    run.stage("segments").file.delete()
    resumed = preprocess(corpus, run, tiny_config, overwrite=False, console=quiet())
    assert (resumed["processed"], resumed["skipped"]) == (1, 5)
    assert store.file("02").read_bytes() == expected.file("02").read_bytes()
    # Changed audio is noticed there too.
    changed = (corpus / "raw_data/audio/04.wav").read_bytes()
    (corpus / "raw_data/audio/04.wav").write_bytes(changed[:-2000] + bytes(2000))
    with pytest.raises(StaleError, match="'04'"):
        preprocess(corpus, run, tiny_config, overwrite=False, console=quiet())


def test_a_long_recording_on_an_object_store(
    ray_local: None, bucket: Location, tiny_config: Config, tmp_path: Path
) -> None:
    # At a rate at which hours are soon worked through.
    config = Config.resolve(
        tiny_config,
        assignments=["preprocess.sr=1000", "mel.n_fft=64", "mel.hop_length=16", "mel.n_mels=8"],
    )
    y = np.random.default_rng(8).normal(0, 0.1, 9000 * 1000)
    soundfile.write(tmp_path / "08.wav", y, 1000)
    audio = bucket / "long/08.wav"
    audio.write_bytes((tmp_path / "08.wav").read_bytes())
    job = Job(Recording("08", audio, "8"), "test", 0)
    alone, store = SegmentStore(bucket / "long/alone"), SegmentStore(bucket / "long/store")
    assert process_recording(job, alone, config).status == "ok"
    came = list(process_recordings([job], store, config, sizes={}, selector={}, replace=False))
    made = ["PartOutcome", "PartOutcome", "RecordingOutcome"]
    assert [type(each).__name__ for each in came] == made
    assert store.file("08").read_bytes() == alone.file("08").read_bytes()
    assert not (store.root / "parts/08").exists()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 3 MiB."""
    folder = tmp_path / "small"
    folder.mkdir()
    mount = shutil.which("mount")
    command = [str(mount), "-t", "tmpfs", "-o", "size=3m", "tmpfs", str(folder)]
    if mount is None or subprocess.run(command, capture_output=True).returncode:
        pytest.skip("no file system may be mounted here")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_what_cannot_be_read_now_costs_nothing_that_is_stored(
    bucket: Location, small_disk: Path, tiny_config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    audio = bucket / "speech/07.wav"
    with io.BytesIO() as sound:
        y = np.random.default_rng(7).normal(0, 0.1, 25 * 16_000)
        soundfile.write(sound, y, 16_000, format="WAV")
        audio.write_bytes(sound.getvalue())
    store = SegmentStore(bucket / "speech/store")
    job = Job(Recording("07", audio, "7"), "test", 0)
    assert process_recording(job, store, tiny_config).status == "ok"
    content = store.file("07").read_bytes()
    # No room here for the copy that is decoded: that is no fault of the recording's.
    (small_disk / "filler").write_bytes(bytes(5 * 2**19))
    monkeypatch.setattr(tempfile, "tempdir", str(small_disk))
    with pytest.raises(OSError, match=r"No space left on device, while 's3:.*07\.wav"):
        process_recording(job, store, tiny_config)
    monkeypatch.undo()
    # Nor does a file that is away for a while cost what was made of it, even to overwrite.
    audio.delete()
    outcome = process_recording(job, store, tiny_config, replace=True)
    assert (outcome.status, outcome.checksum) == ("rejected", "")
    assert "cannot be read" in outcome.reason
    assert store.file("07").read_bytes() == content


@pytest.mark.faults
def test_a_full_disk_keeps_whole_files_and_nothing_else(
    ray_local: None, small_disk: Path, tiny_corpus: Location, tiny_config: Config
) -> None:
    from pipelines.preprocess.stage import preprocess

    run = Run.at(str(small_disk))
    with pytest.raises(ValenceError, match="No space left on device"):
        preprocess(tiny_corpus, run, tiny_config, overwrite=False, console=quiet())
    store = SegmentStore(run.folder("segments"))
    whole = [file.stem for file in store.root.files() if file.suffix == ".parquet"]
    assert 0 < len(whole) < 6
    for name in whole:
        stored = store.stored(name)
        assert stored is not None
        assert len(store.read(name)) == stored.segments == 80
    assert not (store.root / "recordings.parquet").exists()
    # With more room the work goes on where it stopped.
    subprocess.run(["mount", "-o", "remount,size=30m", str(small_disk)], check=True)
    summary = preprocess(tiny_corpus, run, tiny_config, overwrite=False, console=quiet())
    assert summary["skipped"] == len(whole)
    assert not list(Path(store.root.path).glob(".*"))
