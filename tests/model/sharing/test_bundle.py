"""A model in one file: the same bytes each time, and only whole files of this kind are opened."""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from valence.errors import ModelError, UsageError
from valence.model.sharing.bundle import bundle_bytes, opened_model, read_bundle
from valence.provenance import fingerprint
from valence.storage.location import Location

_FILES = {
    "model/model.json": b'{"a": 1}\n',
    "model/model.safetensors": bytes(range(256)) * 5,
    "sweep/best/regressor.json": b"{}",
}


def _written(tmp_path: Path, content: bytes, name: str = "model.zip") -> Location:
    file = Location.parse(tmp_path / name)
    file.write_bytes(content)
    return file


def _zipped(files: dict[str, bytes], **options: int) -> bytes:
    """An archive of another program, with a list that fits."""
    listed = {
        n: {"size": len(c), "sha256": hashlib.sha256(c).hexdigest()} for n, c in files.items()
    }
    content = {"format": options.pop("version", 1), "files": listed}
    text = json.dumps({**content, "digest": fingerprint(content)}).encode()
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", **options) as archive:  # type: ignore[call-overload]
        for name, part in {"bundle.json": text, **files}.items():
            archive.writestr(name, part)
    return target.getvalue()


def test_the_same_files_give_the_same_bytes_in_any_order() -> None:
    content = bundle_bytes(_FILES, name="run")
    assert bundle_bytes(dict(reversed(_FILES.items())), name="run") == content
    # By hand: a member takes 30 bytes and its name, its entry 46 and its name, the end 22.
    listed = zipfile.ZipFile(io.BytesIO(content)).read("bundle.json")
    parts = {"bundle.json": listed, **_FILES}
    assert len(content) == 22 + sum(76 + 2 * len(name) + len(p) for name, p in parts.items())
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        assert archive.namelist() == [
            "bundle.json",
            "model/model.json",
            "model/model.safetensors",
            "sweep/best/regressor.json",
        ]
        assert {member.date_time for member in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}
        assert archive.testzip() is None


def test_a_bundle_is_read_like_the_folder_that_it_was(tmp_path: Path) -> None:
    file = _written(tmp_path, bundle_bytes(_FILES, name="run"))
    assert read_bundle(file) == _FILES
    root = opened_model(file)
    assert (root.local, str(root / "model/model.json")) == (
        None,
        f"zip://{tmp_path}/model.zip/model/model.json",
    )
    assert root.is_folder()
    assert [each.name for each in root.everything()] == ["model", "sweep"]
    assert [each.name for each in (root / "model").files()] == ["model.json", "model.safetensors"]
    assert (root / "sweep/best").is_folder()
    assert not (root / "sweep/worst").exists()
    assert not (root / "mode").exists()
    assert (root / "model/model.safetensors").read_bytes() == _FILES["model/model.safetensors"]
    with pytest.raises(FileNotFoundError):
        (root / "model/absent").open()
    for write in (lambda: (root / "new").write_bytes(b"1"), (root / "model/model.json").delete):
        with pytest.raises(UsageError, match="which is only read"):
            write()


def test_a_folder_and_nothing_are_left_as_they_are(tmp_path: Path) -> None:
    for root in (Location.parse(tmp_path), Location.parse(tmp_path / "absent")):
        assert opened_model(root) is root


def _without_list() -> bytes:
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w") as archive:
        archive.writestr("model/model.json", b"{}")
        archive.writestr("model/model.safetensors", b"1")
    return target.getvalue()


def _twice() -> bytes:
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w") as archive:
        archive.writestr("model/model.json", b"{}")
        with pytest.warns(UserWarning, match="Duplicate"):
            archive.writestr("model/model.json", b"{}")
    return target.getvalue()


_OWN = bundle_bytes(_FILES, name="run")


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: b"", "is a file and holds no model"),
        (lambda: b"RIFF" + bytes(100), "is a file and holds no model"),
        (lambda: _OWN[:-1], "is damaged: its end is missing"),
        (lambda: _OWN[:900], "is damaged: its end is missing"),
        (lambda: _OWN[500:], "is an archive of another program, or damaged"),
        (lambda: _OWN + b"more", "is damaged: its end is missing"),
        (_without_list, "is no whole model: bundle.json is missing"),
        (_twice, "holds 'model/model.json' twice"),
        (lambda: _zipped({"model/model.json": b"{}"}), "model/model.safetensors is missing"),
        (lambda: _zipped({**_FILES, "holiday.jpg": b"1"}), "holds 'holiday.jpg', which no model"),
        (lambda: _zipped({**_FILES, "../run/config.toml": b"1"}), "holds '../run/config.toml'"),
        (lambda: _zipped({**_FILES, "/etc/passwd": b"1"}), "holds '/etc/passwd'"),
        (lambda: _zipped({**_FILES, "a\nb": b"1"}), r"holds 'a\nb'"),
        (
            lambda: _zipped(_FILES, compression=zipfile.ZIP_DEFLATED),
            "holds 'bundle.json' compressed or encrypted",
        ),
        (
            lambda: _zipped({**_FILES, "model/README.md": bytes(2**20 + 1)}),
            "holds 'model/README.md' of 1,048,577 bytes, where at most 1,048,576 are possible",
        ),
        (lambda: _zipped(_FILES, version=2), "is of format 2. Expected format 1"),
        (
            lambda: _zipped({f"{n}": b"1" for n in range(60)}),
            "has 61 members",
        ),
    ],
)
def test_a_file_that_is_no_whole_bundle_is_refused(
    tmp_path: Path, make: Callable[[], bytes], words: str
) -> None:
    file = _written(tmp_path, make())
    with pytest.raises(ModelError) as raised:
        opened_model(file)
    message = str(raised.value)
    assert words in message
    assert message.startswith(f"'{file}' ")
    assert "Expected" in message
    assert "\n" not in message


def test_compressed_content_is_refused_before_it_is_unpacked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = _zipped({**_FILES, "model/README.md": bytes(2**26)}, compression=zipfile.ZIP_DEFLATED)
    assert len(content) < 2**17
    file = _written(tmp_path, content)

    def never(*_: object) -> None:
        raise AssertionError("a member was read")

    monkeypatch.setattr(zipfile.ZipFile, "open", never)
    with pytest.raises(ModelError, match="compressed or encrypted"):
        read_bundle(file)


def test_every_changed_byte_is_noticed(tmp_path: Path) -> None:
    whole = _written(tmp_path, _OWN)
    assert read_bundle(whole) == _FILES
    # Of the values every byte, of the long weights every 64th.
    start = _OWN.index(_FILES["model/model.safetensors"])
    places = {*range(start), *range(start, start + 1280, 64), *range(start + 1280, len(_OWN))}
    unnoticed = []
    for place in sorted(places):
        changed = bytearray(_OWN)
        changed[place] ^= 0xFF
        file = _written(tmp_path, bytes(changed), "changed.zip")
        try:
            found = read_bundle(file)
        except ModelError:
            continue
        if found != _FILES:
            unnoticed.append(place)
    assert unnoticed == []


def test_a_name_that_is_no_utf8_is_refused(tmp_path: Path) -> None:
    changed = bytearray(_OWN)
    entry = changed.rfind(b"PK\x01\x02")
    # The entry says that its name is UTF-8.
    changed[entry + 9] |= 0x08
    changed[entry + 46] = 0xFF
    with pytest.raises(ModelError, match="is damaged"):
        read_bundle(_written(tmp_path, bytes(changed)))


def test_hidden_bytes_between_members_are_refused(tmp_path: Path) -> None:
    # A member with an extra field hides bytes that no list names.
    target = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(_OWN)) as own, zipfile.ZipFile(target, "w") as archive:
        for member in own.infolist():
            copy = zipfile.ZipInfo(member.filename, member.date_time)
            copy.extra = b"\x99\x99\x04\x00abcd" if member.filename.endswith("json") else b""
            archive.writestr(copy, own.read(member))
    with pytest.raises(ModelError, match="its members account for"):
        read_bundle(_written(tmp_path, target.getvalue()))


def test_a_file_larger_than_a_bundle_is_refused_by_its_end(tmp_path: Path) -> None:
    path = tmp_path / "large.zip"
    with path.open("wb") as file:
        file.write(b"PK\x03\x04")
        file.truncate(2**32 + 2**21)
        file.seek(0, io.SEEK_END)
        file.write(_OWN[-22:])
    with pytest.raises(ModelError, match="more than a model's file"):
        opened_model(Location.parse(path))
