"""What a run keeps is known to be what was made: records, manifests, configuration, replacing."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from valence.config import Config
from valence.errors import DamagedError, ForeignError
from valence.run import Run
from valence.stage import Stage, StageName
from valence.storage.location import Location
from valence.sweep.features import Features, made_of, read_features, write_features


def _flip(file: Path, bit: int) -> None:
    content = bytearray(file.read_bytes())
    content[bit // 8] ^= 1 << bit % 8
    times = file.stat()
    file.write_bytes(bytes(content))
    # As rot does it, which touches no time.
    os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    """A finished stage of two files."""
    made = Run.at(str(tmp_path / "run")).stage("features")
    made.begin({"model": "old"})
    for name in ("a.parquet", "b.parquet"):
        (made.folder / name).write_text(f"old {name}")
    made.finish({"seconds": 1.5, "digest": "d"}, ["a.parquet", "b.parquet"])
    return made


def test_a_flipped_bit_in_a_record_is_noticed_and_mended(stage: Stage) -> None:
    file = Path(stage.file.path)
    content = file.read_bytes()
    for bit in np.random.default_rng(0).choice(8 * len(content), 150, replace=False).tolist():
        file.write_bytes(content)
        _flip(file, bit)
        with pytest.raises(DamagedError, match=r"stage\.json.*valence extract .*--overwrite"):
            stage.require()
    assert stage.begin({"model": "old"}, overwrite=True) == "resumed"
    assert (stage.folder / "a.parquet").exists()
    assert stage.standing({"model": "old"}) == "resumed"


@pytest.mark.parametrize("content", ["", "{}", "[]", '{"stage": "features"'])
def test_a_record_that_is_cut_is_refused(stage: Stage, content: str) -> None:
    stage.file.write_text(content)
    with pytest.raises(DamagedError, match="is damaged"):
        stage.begin({"model": "old"})


def test_files_that_are_lost_or_changed_are_named(stage: Stage) -> None:
    assert stage.amiss() == {}
    Path(stage.folder.path, "a.parquet").write_text("new a.parquet")
    Path(stage.folder.path, "b.parquet").unlink()
    assert stage.amiss() == {
        "a.parquet": "was changed since it was written",
        "b.parquet": "is missing",
    }
    with pytest.raises(DamagedError, match=r"b\.parquet' is missing.*Run 'valence extract"):
        stage.require()


def test_a_copied_run_is_read_once(stage: Stage) -> None:
    os.utime(Path(stage.folder.path, "a.parquet"), ns=(1, 1))
    before = stage.file.read_text()
    assert stage.amiss() == {}
    assert stage.file.read_text() != before
    assert stage.amiss() == {}


def test_replacing_file_by_file_is_remembered(stage: Stage) -> None:
    assert stage.begin({"model": "new"}, overwrite=True, wipe=False) == "replacing"
    assert stage.begin({"model": "new"}, wipe=False) == "replacing"
    stage.finish({})
    assert stage.begin({"model": "new"}, wipe=False) == "done"


def _features(name: str, *, of: float) -> Features:
    return Features(
        recording=np.array([name] * 3),
        subject=np.array(["s"] * 3),
        split=np.array(["test"] * 3),
        start=np.arange(3, dtype=np.int32),
        target=np.full((3, 1), of, np.float32),
        feature=np.full((3, 5), of, np.float32),
        prediction=np.full((3, 1), of, np.float32),
        targets=("valence",),
    )


@pytest.fixture
def extracted(tmp_path: Path) -> Stage:
    """Finished features of two recordings."""
    made = Run.at(str(tmp_path / "run")).stage("features")
    made.begin({"model": "m"})
    outputs = {
        f"{name}.parquet": write_features(made.folder / f"{name}.parquet", _features(name, of=0.5))
        for name in ("a", "b")
    }
    made.finish({"digest": "d"}, outputs)
    return made


def test_every_flipped_bit_in_features_is_noticed(extracted: Stage) -> None:
    file = Path(extracted.folder.path, "a.parquet")
    content, times = file.read_bytes(), file.stat()
    for bit in np.random.default_rng(3).choice(8 * len(content), 200, replace=False).tolist():
        file.write_bytes(content)
        os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))
        _flip(file, bit)
        with pytest.raises(DamagedError, match=r"a\.parquet' is damaged.*valence extract"):
            read_features(extracted.folder)
        # Set aside, so that the next extraction makes it again.
        assert extracted.amiss() == {"a.parquet": "is missing"}
        assert file.with_name("a.parquet.damaged").exists()


def test_a_foreign_file_is_not_mixed_in_and_another_of_the_name_is_refused(
    extracted: Stage,
) -> None:
    write_features(extracted.folder / "c.parquet", _features("c", of=0.5))
    assert sorted(set(read_features(extracted.folder).recording)) == ["a", "b"]
    write_features(extracted.folder / "a.parquet", _features("a", of=0.25))
    with pytest.raises(DamagedError, match="its digest is not the one that was noted"):
        read_features(extracted.folder)
    with pytest.raises(DamagedError, match=r"a\.parquet' is missing"):
        read_features(extracted.folder)


def test_a_file_with_the_sequences_of_another_recording_is_not_kept(extracted: Stage) -> None:
    a, b = (extracted.folder / f"{name}.parquet" for name in "ab")
    assert made_of(a) == made_of(b) == ""
    shutil.copy(a.path, b.path)
    assert made_of(b) is None
    # An older version noted no digests.
    extracted.begin({"model": "m"}, again=True)
    with pytest.raises(DamagedError, match=r"b\.parquet' is damaged: .* sequences of 'a'.*extract"):
        read_features(extracted.folder)


def test_features_that_an_older_version_made_are_counted(extracted: Stage) -> None:
    extracted.begin({"model": "m"}, again=True)
    extracted.finish({"digest": "d", "recordings": 2})
    assert len(read_features(extracted.folder)) == 6
    (extracted.folder / "a.parquet").delete()
    with pytest.raises(DamagedError, match=r"1 file, and 2 recordings were.*valence extract"):
        read_features(extracted.folder)


def test_a_configuration_that_was_cut_or_changed_is_refused(tmp_path: Path) -> None:
    run = Run.at(str(tmp_path / "run"))
    config = Config.resolve(Config(), assignments=["train.epochs=2"])
    run.write_config(config, {"corpus": "/data", "synthetic": False})
    file = Path(run.config_file.path)
    lines = file.read_text().splitlines(keepends=True)
    for kept in range(len(lines) - 1):
        file.write_text("".join(lines[:kept]))
        with pytest.raises(DamagedError, match=r"config\.toml' is not what was written"):
            run.config()
    file.write_text("".join(lines).replace("epochs = 2", "epochs = 3"))
    with pytest.raises(DamagedError, match=r"Copy '.*config\.copy\.toml' to its place"):
        run.config()
    # The remedy mends it.
    shutil.copy(file.with_name("config.copy.toml"), file)
    assert run.config() == config


def test_a_configuration_of_an_older_version_is_read(tmp_path: Path) -> None:
    run = Run.at(str(tmp_path / "run"))
    run.write_config(Config(), {"corpus": "/data"})
    lines = run.config_file.read_text().splitlines(keepends=True)
    Path(run.config_file.path).write_text("".join(lines[:-1]))
    assert run.config() == Config()


def _becomes_a_folder(file: Location) -> None:
    file.delete()
    assert file.local is not None
    file.local.mkdir()


def test_a_folder_in_place_of_a_record_is_named_with_what_mends_it(stage: Stage) -> None:
    _becomes_a_folder(stage.file)
    run = stage.file.path.removesuffix("/features/stage.json")
    for look in (stage.record, stage.require, lambda: stage.begin({"model": "old"})):
        with pytest.raises(DamagedError) as caught:
            look()
        assert str(caught.value) == (
            f"'{stage.file}' is a folder. Expected the record that the stage wrote. Move that "
            f"folder away first. Run 'valence extract {run}' to make it again; outputs that are "
            "whole and of this configuration stay."
        )
    with pytest.raises(OSError, match=r"a folder stands .* to be written: .*stage\.json"):
        stage.begin({"model": "old"}, overwrite=True)
    stage.file.delete()
    assert stage.begin({"model": "old"}) == "new"
    assert (stage.folder / "a.parquet").exists()


def test_a_folder_in_place_of_an_output_is_named_with_what_mends_it(stage: Stage) -> None:
    file = stage.folder / "b.parquet"
    _becomes_a_folder(file)
    with pytest.raises(DamagedError) as caught:
        stage.require()
    run = stage.folder.path.removesuffix("/features")
    assert str(caught.value) == (
        f"'{file}' is a folder. Expected what this stage wrote there. Move that folder away first. "
        f"Run 'valence extract {run}' to make it again; the rest stays."
    )
    assert stage.amiss() == {"b.parquet": "is a folder"}


@pytest.mark.parametrize("copied", [True, False])
def test_a_folder_in_place_of_the_configuration_is_named_with_what_mends_it(
    tmp_path: Path, copied: bool
) -> None:
    run = Run.at(str(tmp_path / "run"))
    run.write_config(Config(), {"corpus": "/data"})
    _becomes_a_folder(run.config_file)
    copy = run.root / "config.copy.toml"
    if not copied:
        _becomes_a_folder(copy)
    mends = f"Copy '{copy}' to its place" if copied else "Restore it from a copy; or remove it"
    for look in (run.config, run.record):
        with pytest.raises(DamagedError) as caught:
            look()
        assert str(caught.value).startswith(
            f"'{run.config_file}' is a folder. Expected the configuration of the run. Move that "
            f"folder away first. {mends}"
        )


@pytest.mark.parametrize("name", ["segments", "train", "features", "sweep"])
def test_a_lost_record_beside_outputs_is_no_stage_that_was_not_made(
    tmp_path: Path, name: StageName
) -> None:
    stage = Run.at(str(tmp_path / "run")).stage(name)
    assert stage.found() is None
    stage.begin({"of": 1})
    (stage.folder / "best" / "output").write_text("kept")
    stage.finish({}, ["best/output"])
    stage.file.delete()
    command = stage.command().split()[1]
    for read in (stage.found, stage.require):
        with pytest.raises(DamagedError, match=rf"stage\.json' is missing beside .*{command} "):
            read()
    # The command goes on with what stands there.
    assert stage.begin({"of": 1}) == "new"
    assert (stage.folder / "best" / "output").exists()


def test_the_record_of_another_stage_is_refused(tmp_path: Path) -> None:
    run = Run.at(str(tmp_path / "run"))
    for name in ("train", "features"):
        run.stage(name).begin({"of": 1})
        run.stage(name).finish({"digest": name})
    there, here = (Path(run.stage(name).file.path) for name in ("train", "features"))
    shutil.copy(there, here)
    with pytest.raises(
        ForeignError, match=r"features/stage\.json' is the record of another stage, 'train'"
    ):
        run.stage("features").require()
    assert run.stage("features").begin({"of": 1}, overwrite=True) == "resumed"
