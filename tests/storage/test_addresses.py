"""Addresses: which are read, which are refused with words, and what is never written down."""

from __future__ import annotations

import pickle
import sys
from types import SimpleNamespace

import pytest
from pyarrow import fs

from valence.errors import UsageError
from valence.storage.addresses import without_secrets
from valence.storage.location import Location


def _refusal(text: str) -> str:
    with pytest.raises(UsageError) as raised:
        Location.parse(text)
    message = str(raised.value)
    assert "\n" not in message
    assert "Expected" in message
    return message


@pytest.mark.parametrize(
    ("text", "remedy"),
    [
        ("s3a://bucket/run", "Write s3://bucket/run."),
        ("s3n://bucket/run", "Write s3://bucket/run."),
        ("az://box/run", "Write abfs://account@container/folder."),
        ("wasbs://box@me.blob.core.windows.net/run", "Write abfs://account@container/folder."),
        ("ftp://host/run", "Download what lies there, and give its folder."),
        ("https://host/run", "Download what lies there, and give its folder."),
        ("nowhere://host/run", "Unrecognized filesystem type"),
        ("abfs://box/run", "Name the account too: abfs://account@container/folder."),
        ("gs://", "it names no bucket"),
        ("abfs://me@", "abfs://account@container/folder"),
        ("file://host/run", "it names the machine 'host'"),
        # Without both slashes these would be folders of such a name beside the caller.
        ("hf:user/model", "Write hf://user/model, or ./hf:user/model"),
        ("s3:/bucket/run", "Write s3://bucket/run, or ./s3:/bucket/run"),
    ],
)
def test_an_address_that_cannot_be_used_is_refused_with_a_remedy(text: str, remedy: str) -> None:
    assert remedy in _refusal(text)


def test_hadoop_without_its_client_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    # pyarrow says in one line for each place where it looked for Java.
    def without_java(uri: str) -> None:
        raise OSError(
            "Unable to load libjvm\ndlopen(/usr/lib/libjvm.so) failed\ndlopen(...) failed"
        )

    stand_in = SimpleNamespace(FileSystem=SimpleNamespace(from_uri=without_java))
    monkeypatch.setattr("valence.storage.addresses.fs", stand_in)
    message = _refusal("hdfs://host:8020/run")
    assert "Hadoop's client (libhdfs, with Java) cannot be used: Unable to load libjvm." in message


@pytest.mark.parametrize("text", ["hf://user/model", "HF://datasets/user/corpus"])
def test_the_hub_without_its_package_says_what_to_install(
    text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(sys.modules, "valence.storage.hub", raising=False)
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    message = _refusal(text)
    assert "needs the package huggingface_hub, which is not installed" in message
    assert "run: pip install -e '.[hub]'" in message


def test_another_package_that_is_missing_is_named() -> None:
    # fsspec knows a hundred schemes, each with a package of its own; Ray brings fsspec alone.
    pytest.importorskip("fsspec")
    message = _refusal("fsspec+dropbox://folder/run")
    assert "a package that it needs is not installed" in message
    assert "dropbox" in message


@pytest.mark.parametrize(
    ("text", "path", "uri"),
    [
        # The four forms of Azure's addresses; pyarrow keeps the account beside the path.
        ("abfs://box@me.dfs.core.windows.net/a/run", "box/a/run", "abfs://me@box/a/run"),
        ("abfss://me.blob.core.windows.net/box/run/", "box/run", "abfss://me@box/run"),
        ("abfs://me@box/my run", "box/my run", "abfs://me@box/my%20run"),
        (
            "abfs://me@127.0.0.1:10000/box/run?enable_tls=false",
            "box/run",
            "abfs://me@127.0.0.1:10000/box/run?enable_tls=false",
        ),
    ],
)
def test_addresses_of_azure_come_back(text: str, path: str, uri: str) -> None:
    found = Location.parse(text)
    assert isinstance(found.filesystem, fs.AzureFileSystem)
    assert (found.path, found.uri, str(found)) == (path, uri, uri)
    assert Location.parse(uri) == found
    assert pickle.loads(pickle.dumps(found)) == found
    assert (found / "x").parent == found
    assert (found / "x").uri.partition("?")[0].endswith("run/x")


def test_what_is_secret_is_used_and_not_written_down() -> None:
    token = "sv=2024-11-04&ss=b&srt=sco&sp=rl&sig=c2VjcmV0"
    found = Location.parse(f"abfs://me@127.0.0.1:10000/box/run?enable_tls=false&{token}")
    assert found.uri == "abfs://me@127.0.0.1:10000/box/run?enable_tls=false"
    # The file system has it: without the token it is another one.
    assert found != Location.parse(found.uri)
    client = Location.parse(
        "abfs://me@box/run?tenant_id=t&client_id=c&client_secret=c2VjcmV0&enable_tls=true"
    )
    assert client.uri == "abfs://me@box/run?enable_tls=true"
    assert "c2VjcmV0" not in repr(found) + repr(client)
    # A key in the address would be ignored by pyarrow, and printed by others.
    message = _refusal("abfs://me:c2VjcmV0@box/run")
    assert "holds a key of the account" in message
    assert "c2VjcmV0" not in message
    assert "c2VjcmV0" not in _refusal("nowhere://me:c2VjcmV0@box/run?sig=c2VjcmV0")


def test_googles_client_gives_up_within_a_minute() -> None:
    found = Location.parse("gs://bucket/my run")
    assert "seconds=60" in repr(found.filesystem.__reduce__())
    # The limit is no part of the address, and a limit of the user's own stays.
    assert (found.path, found.uri) == ("bucket/my run", "gs://bucket/my%20run")
    own = Location.parse("gs://bucket/run?retry_limit_seconds=5")
    assert "seconds=5)" in repr(own.filesystem.__reduce__())
    assert own.uri == "gs://bucket/run?retry_limit_seconds=5"


def test_schemes_may_be_written_in_capitals() -> None:
    assert Location.parse("GS://bucket/run") == Location.parse("gs://bucket/run")
    assert Location.parse("FILE:///data/run") == Location.parse("/data/run")
    assert Location.parse("file://localhost/data/run") == Location.parse("/data/run")


def test_a_message_repeats_no_token() -> None:
    told = "Failed: https://me.blob.core.windows.net/box?se=2027&sig=c2VjcmV0%3D&sp=rl Azure Error"
    assert without_secrets(told) == told.replace("c2VjcmV0%3D", "...")


def test_a_store_that_cannot_rename_copies() -> None:
    fsspec = pytest.importorskip("fsspec")

    class Flat(fs.FSSpecHandler):
        def move(self, src: str, dest: str) -> None:
            raise NotImplementedError("as Azure's accounts without hierarchical namespaces")

    memory = fsspec.filesystem("memory")
    folder = Location(fs.PyFileSystem(Flat(memory)), "/flat-store", "abfs")
    memory.pipe({"/flat-store/state": b"new", "/flat-store/kept": b"old"})
    (folder / "state").rename(folder / "kept")
    assert memory.cat("/flat-store/kept") == b"new"
    assert not memory.exists("/flat-store/state")
    assert (folder / "kept").set_aside() == folder / "kept.damaged"
    assert memory.cat("/flat-store/kept.damaged") == b"new"
    memory.rm("/flat-store", recursive=True)
