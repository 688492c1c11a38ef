from __future__ import annotations

import os
import pickle
from pathlib import Path

import numpy as np
import pytest

from tests.helpers.killing import killing_server
from valence.config import Config
from valence.corpus.muse import read_corpus
from valence.corpus.synthetic import write_corpus
from valence.errors import UsageError
from valence.segments.inspection import check_corpus
from valence.storage.location import Location


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("/data/corpus", "/data/corpus"),
        ("/data/corpus/", "/data/corpus"),
        ("file:///data/my%20corpus", "/data/my corpus"),
        ("/data/my%20corpus", "/data/my%20corpus"),
    ],
)
def test_local_paths(text: str, path: str) -> None:
    location = Location.parse(text)
    assert location.path == location.uri == str(location) == path
    assert location.local == Path(path)
    assert Location.parse(location.uri) == location


def test_a_relative_path_becomes_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert Location.parse("runs/a").path == f"{tmp_path}/runs/a"
    assert Location.parse(Path("runs/a")).path == f"{tmp_path}/runs/a"
    assert Location.parse("~/a").path == f"{Path.home()}/a"


@pytest.mark.parametrize("text", ["nowhere://bucket/run", "http://host/run", "s3://"])
def test_an_address_that_nothing_serves_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="is not a storage address that can be used"):
        Location.parse(text)


def test_parts_of_a_path() -> None:
    file = Location.parse("/data") / "raw_data/audio" / "a.b.WAV"
    assert file.path == "/data/raw_data/audio/a.b.WAV"
    assert (file.name, file.stem, file.suffix) == ("a.b.WAV", "a.b", ".wav")


def test_locations_compare_hash_and_travel() -> None:
    one, same, other = (Location.parse(text) for text in ("/a/b", "/a/b/", "/a/c"))
    assert one == same != other
    assert len({one, same, other}) == 2
    assert pickle.loads(pickle.dumps(one)) == one


def test_files_are_sorted_and_folders_and_hidden_files_left_out(tmp_path: Path) -> None:
    for name in ("10.wav", "2.wav", ".hidden", "folder/inside.wav"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    folder = Location.parse(tmp_path)
    assert [file.path for file in folder.files()] == [f"{tmp_path}/10.wav", f"{tmp_path}/2.wav"]
    assert (folder / "absent").files() == []
    with pytest.raises(NotADirectoryError):
        (folder / "2.wav").files()


def _link(path: Path, kind: str) -> None:
    """Make a link that cannot be followed."""
    (path.parent / "plain").touch()
    targets = {
        "to nothing": "absent",
        "to itself": path.name,
        "of a long target": "n" * 300,
        "behind a file": "plain/x",
    }
    path.symlink_to(targets[kind])


@pytest.mark.parametrize("kind", ["to nothing", "to itself", "of a long target", "behind a file"])
def test_a_link_that_cannot_be_followed_costs_no_other_entry(tmp_path: Path, kind: str) -> None:
    _link(tmp_path / "link.wav", kind)
    _link(tmp_path / "link", kind)
    (tmp_path / "talk.wav").write_bytes(b"12")
    (tmp_path / "folder").mkdir()
    folder = Location.parse(tmp_path)
    assert [f.name for f in folder.entries()] == ["link", "link.wav", "plain", "talk.wav"]
    assert [file.name for file in folder.files()] == ["plain", "talk.wav"]
    assert {name: entry.size for name, entry in folder.listing().items()} == {
        "plain": 0,
        "talk.wav": 2,
    }
    link = folder / "link.wav"
    assert (link.exists(), link.is_named()) == (False, True)
    with pytest.raises(OSError, match=r"is a link to .* which leads nowhere"):
        link.open()


def test_what_lies_behind_a_link_to_nothing_is_not_absent(tmp_path: Path) -> None:
    (tmp_path / "metadata").symlink_to("not-fetched")
    folder = Location.parse(tmp_path)
    assert (folder / "metadata/table.csv").is_named()
    assert not (folder / "other/table.csv").is_named()
    assert not (folder / ("n" * 300)).is_named()


def test_content_comes_back(tmp_path: Path) -> None:
    file = Location.parse(tmp_path) / "deep/er/file.json"
    assert not file.exists()
    file.write_json({"grüße": [1, None]})
    assert file.read_json() == {"grüße": [1, None]}
    file.write_bytes(b"\xef\xbb\xbfwith a mark")
    assert file.read_text() == "with a mark"
    assert file.info().size == 14
    assert [found.name for found in (Location.parse(tmp_path) / "deep/er").files()] == ["file.json"]
    with pytest.raises(ValueError, match="JSON"):
        file.write_json(float("nan"))
    assert file.read_text() == "with a mark"


def test_a_failed_write_leaves_what_was_there_and_nothing_else(tmp_path: Path) -> None:
    file = Location.parse(tmp_path) / "file"
    file.write_text("before")

    def fail_half_way() -> None:
        with file.writer() as target:
            target.write(b"half")
            raise RuntimeError("the disk is gone")

    with pytest.raises(RuntimeError, match="the disk is gone"):
        fail_half_way()
    assert file.read_text() == "before"
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]


def test_partial_files_of_a_killed_writer_are_removed(tmp_path: Path) -> None:
    folder = Location.parse(tmp_path)
    (tmp_path / ".a.parquet.0123.partial").touch()
    (tmp_path / "a.parquet").touch()
    assert folder.files() == [folder / "a.parquet"]
    assert folder.remove_partial_files() == 1
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.parquet"]
    assert (folder / "absent").remove_partial_files() == 0


def test_a_name_of_255_bytes_is_written_and_read(tmp_path: Path) -> None:
    file = Location.parse(tmp_path) / ("é" * 127 + "a")
    file.write_text("whole")
    assert file.read_text() == "whole"
    assert [entry.name for entry in tmp_path.iterdir()] == [file.name]


def test_the_partial_file_of_a_writer_at_work_stays(tmp_path: Path) -> None:
    folder = Location.parse(tmp_path)
    with (folder / "a").writer() as target:
        target.write(b"whole")
        assert folder.remove_partial_files() == 0
    assert (folder / "a").read_text() == "whole"


def test_a_name_that_is_not_utf8_costs_no_listing(tmp_path: Path) -> None:
    bad = tmp_path / os.fsdecode(b"caf\xe9.wav")
    bad.write_text("sound")
    (tmp_path / "good.wav").write_text("good sound")
    folder = Location.parse(tmp_path)
    assert [str(file) for file in folder.files()] == [
        f"{tmp_path}/caf\\xe9.wav",
        f"{tmp_path}/good.wav",
    ]
    assert sorted(entry.size for entry in folder.listing().values()) == [5, 10]
    file = folder.files()[0]
    assert file.exists()
    assert file.info().size == 5
    with pytest.raises(OSError, match="not UTF-8"):
        file.open()
    file.delete()
    assert not bad.exists()


def test_delete(tmp_path: Path) -> None:
    root = Location.parse(tmp_path)
    for name in ("a/b/c", "a/d", "e"):
        (root / name).write_text(name)
    (root / "a").delete()
    (root / "e").delete()
    (root / "never").delete()
    assert list(tmp_path.iterdir()) == []


# The same on an object store.


@pytest.fixture
def bucket(object_store: str, monkeypatch: pytest.MonkeyPatch) -> Location:
    """A folder in a bucket of a local S3 server, with the credentials in the environment."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    return Location.parse(
        f"s3://shared/storage?endpoint_override={object_store}&scheme=http&region=us-east-1"
    )


def test_an_object_store_serves_as_a_folder(bucket: Location) -> None:
    root = bucket / "my run"
    assert root.local is None
    assert not root.exists()
    assert root.files() == []
    (root / "b.txt").write_text("b")
    (root / "a.txt").write_text("a")
    (root / "deep/.hidden").write_text("c")
    assert root.is_folder()
    assert [file.name for file in root.files()] == ["a.txt", "b.txt"]
    assert (root / "deep").files() == []
    assert (root / "a.txt").read_text() == "a"
    assert Location.parse(root.uri) == root
    assert str(root).startswith("s3://shared/storage/my%20run?")
    assert pickle.loads(pickle.dumps(root)).files() == root.files()
    root.delete()
    assert root.files() == []


def test_a_failed_upload_publishes_nothing(bucket: Location) -> None:
    file = bucket / "whole/file"

    def fail_half_way() -> None:
        with file.writer() as target:
            target.write(b"half")
            raise RuntimeError("the line is cut")

    with pytest.raises(RuntimeError, match="the line is cut"):
        fail_half_way()
    assert not file.exists()


def test_a_large_file_arrives_whole(bucket: Location) -> None:
    # Large enough to be sent in parts.
    content = np.random.default_rng(0).bytes(23 * 2**20 + 17)
    file = bucket / "large"
    file.write_bytes(content)
    assert file.read_bytes() == content


@pytest.mark.parametrize(("query", "methods"), [("", ["PUT"]), ("&allow_delayed_open=false", None)])
def test_a_small_file_is_sent_in_one_request(query: str, methods: list[str] | None) -> None:
    """Unless the address says otherwise: pyarrow's own way takes several."""
    with killing_server() as server:
        place = Location.parse(
            f"s3://key:secret@shared/file?endpoint_override={server.endpoint}&scheme=http"
            f"&region=us-east-1{query}"
        )
        server.methods.clear()
        place.write_bytes(b"small")
        assert len(server.methods) > 1 if methods is None else server.methods == methods
        assert place.read_bytes() == b"small"


def test_a_corpus_is_written_read_and_checked_on_an_object_store(bucket: Location) -> None:
    root = bucket / "corpus"
    write_corpus(root, subjects=3, seconds=4.0)
    corpus = read_corpus(root)
    assert [recording.id for recording in corpus.recordings] == ["01", "02", "03"]
    (root / "raw_data/audio/02.wav").write_text("no sound")
    findings = check_corpus(corpus, Config.resolve(Config(), assignments=["sequence.length=4"]))
    assert [finding.split for finding in findings] == ["train", "validation", "test"]
    assert [finding.duration for finding in findings] == [4.0, None, 4.0]
    assert [finding.labelled for finding in findings] == [1.0, None, 1.0]
    assert "s3://shared/storage/corpus/raw_data/audio/02.wav" in str(findings[1].problem)


def test_entries_are_files_and_what_stands_where_files_should(tmp_path: Path) -> None:
    (tmp_path / "a.wav").touch()
    (tmp_path / "b.wav").symlink_to("absent")
    os.mkfifo(tmp_path / "c.wav")
    (tmp_path / "d.wav").mkdir()
    (tmp_path / "folder").mkdir()
    (tmp_path / ".hidden.wav").touch()
    place = Location.parse(tmp_path)
    assert [file.name for file in place.files()] == ["a.wav"]
    assert [file.name for file in place.entries()] == ["a.wav", "b.wav", "c.wav", "d.wav"]
    assert (place / "absent").entries() == []
    for name in ("c.wav", "d.wav"):
        with pytest.raises(OSError, match="no file"):
            (place / name).open()


def test_a_folder_in_place_of_a_file_is_named(tmp_path: Path) -> None:
    folder = Location.parse(tmp_path / "results.csv")
    (tmp_path / "results.csv").mkdir()
    with pytest.raises(IsADirectoryError, match="it is a folder") as caught:
        folder.read_bytes()
    assert caught.value.__notes__ == [f"'{folder}'"]
    with pytest.raises(IsADirectoryError, match=r"to be written: .*results\.csv"):
        folder.write_text("a")
    assert folder.set_aside() == folder.aside
    folder.write_text("a")
    assert [file.name for file in Location.parse(tmp_path).everything()] == [
        "results.csv",
        "results.csv.damaged",
    ]
