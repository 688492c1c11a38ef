from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from valence.audio.standardization import MelMoments, fit
from valence.errors import DamagedError, MissingStageError
from valence.provenance import fingerprint
from valence.segments.store import RECORDING_COLUMNS, Segments, SegmentStore, Stored
from valence.stage import Stage
from valence.storage.location import Location

_N_MELS, _N_FRAMES = 6, 9


def _store(folder: Path) -> SegmentStore:
    return SegmentStore(Location.parse(folder / "segments"))


def _block(n: int, *, copy: int = 0, first: int = 0, dtype: str = "float16") -> Segments:
    rng = np.random.default_rng(100 * copy + first)
    return Segments(
        "ab_devel",
        copy,
        np.arange(first, first + n, dtype=np.int64) * 500,
        rng.random(n, dtype=np.float32),
        np.full(n, np.nan, np.float32),
        rng.normal(-40, 9, (n, _N_MELS, _N_FRAMES)).astype(dtype),
    )


def _stored(blocks: list[Segments], copies: int) -> Stored:
    moments = []
    for copy in range(copies + 1):
        merged = MelMoments.empty(_N_MELS)
        for block in blocks:
            if block.copy == copy:
                merged = merged.merge(MelMoments.from_mel(block.mel))
        moments.append(merged)
    n = sum(len(block) for block in blocks if block.copy == 0)
    return Stored("settings", "content", "checksum", n / 2, n, tuple(moments))


def _write(store: SegmentStore, blocks: list[Segments], copies: int, dtype: str) -> Stored:
    stored = _stored(blocks, copies)
    with store.writer("ab_devel", shape=(_N_MELS, _N_FRAMES), dtype=dtype) as writer:
        for block in blocks:
            writer.write(block, first_segment=int(block.timestamp[0]) // 500)
        writer.finish(stored)
    return stored


@pytest.mark.parametrize("dtype", ["float16", "float32"])
@pytest.mark.parametrize("copies", [0, 2])
def test_what_is_written_is_read(tmp_path: Path, dtype: str, copies: int) -> None:
    store = _store(tmp_path)
    blocks = [
        _block(n, copy=copy, first=first, dtype=dtype)
        for first, n in ((0, 5), (5, 5), (10, 3))
        for copy in range(copies + 1)
    ]
    stored = _write(store, blocks, copies, dtype)
    for copy in range(copies + 1):
        mine = [block for block in blocks if block.copy == copy]
        read = store.read("ab_devel", copy)
        assert (read.recording, read.copy, len(read)) == ("ab_devel", copy, 13)
        assert read.mel.dtype == np.dtype(dtype)
        assert read.timestamp.tolist() == [500 * i for i in range(13)]
        assert np.array_equal(read.mel, np.concatenate([block.mel for block in mine]))
        assert np.array_equal(read.valence, np.concatenate([block.valence for block in mine]))
        assert np.isnan(read.arousal).all()
        assert [len(block) for block in store.blocks("ab_devel", copy)] == [5, 5, 3]
    again = store.stored("ab_devel")
    assert again is not None
    assert (again.copies, again.segments, again.settings) == (copies, 13, "settings")
    for there, here in zip(again.moments, stored.moments, strict=True):
        assert np.array_equal(there.m2, here.m2)


def test_anyone_can_read_the_columns(tmp_path: Path) -> None:
    store = _store(tmp_path)
    block = _block(4)
    _write(store, [block], 0, "float16")
    table = pq.read_table(store.file("ab_devel").path)
    names = ["recording", "copy", "segment", "timestamp", "valence", "arousal", "mel"]
    assert table.column_names == names
    assert table["recording"].to_pylist() == ["ab_devel"] * 4
    assert table["segment"].to_pylist() == [0, 1, 2, 3]
    output = table.schema.field("mel").metadata
    assert output == {b"shape": f"[{_N_MELS}, {_N_FRAMES}]".encode(), b"dtype": b"float16"}
    row = np.frombuffer(table["mel"][2].as_py(), "<f2").reshape(_N_MELS, _N_FRAMES)
    assert np.array_equal(row, block.mel[2])


def test_the_same_bytes_twice(tmp_path: Path) -> None:
    blocks = [_block(5, copy=copy) for copy in (0, 1)]
    one, two = _store(tmp_path / "1"), _store(tmp_path / "2")
    for store in (one, two):
        _write(store, blocks, 1, "float16")
    assert one.file("ab_devel").read_bytes() == two.file("ab_devel").read_bytes()


def test_a_copy_that_is_not_there(tmp_path: Path) -> None:
    store = _store(tmp_path)
    _write(store, [_block(3)], 0, "float16")
    with pytest.raises(MissingStageError, match="copy 1 was asked for"):
        store.read("ab_devel", 1)


def test_an_error_leaves_nothing(tmp_path: Path) -> None:
    store = _store(tmp_path)

    def fail() -> None:
        with store.writer("ab_devel", shape=(_N_MELS, _N_FRAMES), dtype="float16") as writer:
            writer.write(_block(3), first_segment=0)
            raise RuntimeError("half way")

    with pytest.raises(RuntimeError, match="half way"):
        fail()
    assert list(Path(store.root.path).iterdir()) == []
    assert store.stored("ab_devel") is None


def test_an_error_leaves_what_stood_there(tmp_path: Path) -> None:
    store = _store(tmp_path)
    _write(store, [_block(3)], 0, "float16")
    before = store.file("ab_devel").read_bytes()

    def fail() -> None:
        with store.writer("ab_devel", shape=(_N_MELS, _N_FRAMES), dtype="float16"):
            raise RuntimeError("at once")

    with pytest.raises(RuntimeError, match="at once"):
        fail()
    assert store.file("ab_devel").read_bytes() == before


@pytest.mark.parametrize("share", [0.0, 0.5, 0.99])
def test_a_half_file_is_none(tmp_path: Path, share: float) -> None:
    store = _store(tmp_path)
    _write(store, [_block(30)], 0, "float16")
    content = store.file("ab_devel").read_bytes()
    Path(store.file("ab_devel").path).write_bytes(content[: int(share * len(content))])
    assert store.stored("ab_devel") is None


def test_a_foreign_parquet_file_is_none(tmp_path: Path) -> None:
    store = _store(tmp_path)
    Path(store.root.path).mkdir()
    pd.DataFrame({"a": [1]}).to_parquet(store.file("ab_devel").path)
    assert store.stored("ab_devel") is None


def _rows() -> list[dict[str, object]]:
    row = {
        "subject": "1",
        "split": "train",
        "duration": 20.5,
        "segments": 41,
        "labelled": 40,
        "copies": 1,
        "status": "ok",
        "reason": "",
        "remarks": ["a", "b"],
        "checksum": "c",
        "fingerprint": "f",
    }
    return [row | {"Id": name} for name in ("10", "2", "1_devel")]


def test_table_of_recordings(tmp_path: Path) -> None:
    store = _store(tmp_path)
    with pytest.raises(MissingStageError, match="valence preprocess"):
        store.recordings()
    store.write_recordings(_rows())
    frame = store.recordings()
    assert tuple(frame.columns) == RECORDING_COLUMNS
    assert frame["Id"].tolist() == ["10", "1_devel", "2"]
    assert frame["remarks"][0].tolist() == ["a", "b"]
    assert frame["duration"].dtype == np.float64


def test_digest_tells_of_what_later_stages_read(tmp_path: Path) -> None:
    store = _store(tmp_path)
    store.write_recordings(_rows())
    digest = store.digest()
    store.write_recordings(list(reversed(_rows())))
    assert store.digest() == digest
    for change in ({"split": "test"}, {"fingerprint": "g"}, {"status": "rejected"}):
        store.write_recordings([*_rows()[:2], _rows()[2] | change])
        assert store.digest() != digest


def test_any_scope_comes_from_the_stored_moments(tmp_path: Path) -> None:
    store = _store(tmp_path)
    with pytest.raises(MissingStageError, match=r"standardization\.json"):
        store.standardizer()
    moments = MelMoments.from_mel(_block(20).mel)
    store.write_standardizer(moments, "mel_band")
    assert store.standardizer().scope == "mel_band"
    for scope in ("global", "mel_band", "segment_minmax"):
        expected = fit(moments, scope)
        found = store.standardizer(scope)
        assert found.scope == scope
        assert np.array_equal(found.mean, expected.mean)
        assert np.array_equal(found.std, expected.std)


def test_reserved_names(tmp_path: Path) -> None:
    assert "a file of the store itself" in str(_store(tmp_path).why_not("recordings"))
    assert _store(tmp_path).why_not("recording") is None
    assert _store(tmp_path).why_not("r" * 247) is None
    assert "has an Id of 248 bytes" in str(_store(tmp_path).why_not("r" * 248))


_TABLES = ("recordings.parquet", "standardization.json")


@pytest.mark.parametrize("name", _TABLES)
@pytest.mark.parametrize("damage", ["empty", "cut", "other", "folder"])
def test_a_table_that_is_damaged_is_refused_by_name(tmp_path: Path, name: str, damage: str) -> None:
    store = SegmentStore(Location.parse(tmp_path))
    store.write_recordings([])
    store.write_standardizer(MelMoments.from_mel(np.array([[[1.0, 3.0], [2.0, 6.0]]])), "global")
    file = tmp_path / name
    whole = file.read_bytes()
    file.unlink()
    match damage:
        case "empty":
            file.write_bytes(b"")
        case "cut":
            file.write_bytes(whole[: len(whole) // 2])
        case "other":
            file.write_bytes(b'{"scope": "global"}')
        case _:
            file.mkdir()
    with pytest.raises(DamagedError, match=f"{name}' is damaged: .*valence preprocess CORPUS"):
        store.recordings() if name == _TABLES[0] else store.standardizer("mel_band")


def test_a_number_of_the_standardisation_that_changed_is_noticed(tmp_path: Path) -> None:
    store = SegmentStore(Location.parse(tmp_path))
    store.write_standardizer(MelMoments.from_mel(np.array([[[1.0, 3.0], [2.0, 6.0]]])), "global")
    file = tmp_path / "standardization.json"
    assert store.standardizer().mean.tolist() == [3.0]
    file.write_text(file.read_text().replace("3.0", "3.5", 1))
    with pytest.raises(DamagedError, match="its digest is not the one"):
        store.standardizer()


@pytest.mark.parametrize("name", _TABLES)
def test_a_table_of_another_run_is_refused_whatever_its_size_and_time(
    tmp_path: Path, name: str
) -> None:
    kept = []
    for folder, subject, mean in (("ours", "s1", 2.0), ("theirs", "s2", 4.0)):
        store = SegmentStore(Location.parse(tmp_path / folder / "segments"))
        stage = Stage("segments", store.root)
        stage.begin({"mean": mean})
        store.write_recordings([row | {"subject": subject} for row in _rows()])
        store.write_standardizer(MelMoments.from_mel(np.array([[[mean, mean], [0, 0]]])), "global")
        stage.finish({"seconds": 0.0}, _TABLES)
        kept.append(tmp_path / folder / "segments" / name)
    ours, theirs = kept
    store = SegmentStore(Location.parse(ours.parent))

    def read() -> None:
        store.recordings() if name == _TABLES[0] else store.standardizer("mel_band")

    read()
    times, size = ours.stat(), ours.stat().st_size
    ours.write_bytes(theirs.read_bytes())
    os.utime(ours, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert ours.stat().st_size == size
    assert Stage("segments", store.root).amiss() == {}
    with pytest.raises(DamagedError, match=f"{name}' is damaged: its digest.*valence preprocess"):
        read()


def test_every_flipped_bit_is_noticed_and_the_file_set_aside(tmp_path: Path) -> None:
    store = _store(tmp_path)
    _write(store, [_block(60, copy=copy) for copy in (0, 1)], 1, "float16")
    file = Path(store.file("ab_devel").path)
    content = file.read_bytes()
    for bit in np.random.default_rng(5).choice(8 * len(content), 200, replace=False).tolist():
        flipped = bytearray(content)
        flipped[bit // 8] ^= 1 << bit % 8
        file.write_bytes(bytes(flipped))
        assert store.checked("ab_devel") is None
        with pytest.raises(DamagedError, match=r"ab_devel\.parquet' is damaged.*preprocess"):
            [store.read("ab_devel", copy) for copy in (0, 1)]
        assert not file.exists()


def test_a_file_of_the_same_name_made_of_something_else_is_refused(tmp_path: Path) -> None:
    store = _store(tmp_path)
    _write(store, [_block(5)], 0, "float16")
    made_of = fingerprint({"settings": "settings", "content": "content"})
    store.write_recordings([{**_rows()[0], "Id": "ab_devel", "fingerprint": made_of}])
    assert len(store.read("ab_devel")) == 5
    store.write_recordings([{**_rows()[0], "Id": "ab_devel", "fingerprint": "of others"}])
    with pytest.raises(DamagedError, match="made of other audio, labels or settings"):
        store.read("ab_devel")


def test_a_recording_that_is_lost_or_a_folder_is_named_with_what_mends_it(tmp_path: Path) -> None:
    store = _store(tmp_path)
    store.write_recordings(_rows())
    file = store.file("2")
    file.local.mkdir(parents=True)
    for says in (r"is damaged: it is a folder\. It was renamed to", r"is missing\. It was damaged"):
        with pytest.raises(DamagedError, match=rf"2\.parquet' {says}.*valence preprocess .* --out"):
            list(store.blocks("2"))
