"""Pack a model into one file, and open such a file as a folder.

The file is a ZIP archive without compression, so that the same model gives the same bytes on every
machine. Its first member, `bundle.json`, lists the others with size and digest. A file of another
kind, with more in it or less, is refused from its directory, before its content is read.
"""

from __future__ import annotations

import hashlib
import io
import json
import struct
import zipfile
from collections.abc import Mapping
from typing import Any, BinaryIO, NoReturn

import pyarrow as pa
from pyarrow import fs

from valence.errors import ModelError, UsageError
from valence.provenance import fingerprint
from valence.storage.kept_file import parse_json
from valence.storage.location import Location

_FORMAT = 1
_LIST = "bundle.json"
# The files that a bundle can have, with the most bytes of each. Weights and pipeline have limits of
# their own, far smaller for most models, which hold when they are loaded.
_MOST = {
    _LIST: 2**16,
    "configuration.toml": 2**20,
    "model/model.json": 2**24,
    "model/model.safetensors": 2**32,
    "model/evaluation.json": 2**20,
    "model/README.md": 2**20,
    "sweep/best/regressor.json": 2**24,
    "sweep/best/pipeline.skops": 2**32,
}
_NEEDED = ("model/model.json", "model/model.safetensors")
# The sizes of the archive's own parts without names: a member, its entry in the directory, the end.
_MEMBER_BYTES, _ENTRY_BYTES = 30, 46
_END = struct.Struct("<4s4H2LH")
# A larger archive would need another form of ZIP.
_MOST_BYTES = 2**32 - 2**20
_BUFFER_BYTES = 2**20
_REMEDY = "Copy the file again, or make it with 'valence model RUN --out FILE.zip'."
_EXPECTED = (
    "Expected a file that 'valence model' wrote, the folder of a run, or the folder of a model."
)


def bundle_bytes(files: Mapping[str, bytes], *, name: str) -> bytes:
    """Pack files into the bytes of a bundle; the same files give the same bytes.

    Parameters
    ----------
    files
        Content by name, with the names that a bundle can have.
    name
        Name of the model, for a message.

    Raises
    ------
    ModelError
        If a file is larger than a bundle can hold.
    """
    assert files.keys() < _MOST.keys(), "a bundle has only files that it can have"
    listed = {
        each: {"size": len(files[each]), "sha256": hashlib.sha256(files[each]).hexdigest()}
        for each in _MOST
        if each in files
    }
    content = {"format": _FORMAT, "files": listed}
    text = json.dumps({**content, "digest": fingerprint(content)}, indent=2) + "\n"
    whole = {_LIST: text.encode(), **{each: files[each] for each in listed}}
    total = sum(map(len, whole.values()))
    if total > _MOST_BYTES or any(len(part) > _MOST[each] for each, part in whole.items()):
        raise ModelError(
            f"'{name}' takes {total:,} bytes. Expected at most {_MOST_BYTES:,}, which one file "
            "holds. Copy its folder instead."
        )
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as archive:
        for each, part in whole.items():
            # Time, system and rights are the same on every machine.
            member = zipfile.ZipInfo(each, (1980, 1, 1, 0, 0, 0))
            member.create_system, member.external_attr = 3, 0o100644 << 16
            archive.writestr(member, part)
    return target.getvalue()


def opened_model(root: Location) -> Location:
    """Return `root` if it is a folder; if it is a bundle, the folder in it, held in memory.

    Raises
    ------
    ModelError
        If `root` is a file and no whole bundle.
    """
    info = root.info()
    if info.type in (fs.FileType.Directory, fs.FileType.NotFound):
        return root
    if info.type != fs.FileType.File:
        raise ModelError(f"'{root}' is a pipe or a device. {_EXPECTED} {_REMEDY}")
    return Location(fs.PyFileSystem(_Members(root.path, read_bundle(root))), root.path, "zip")


def read_bundle(file: Location) -> dict[str, bytes]:
    """Read the files of a bundle, after checking its directory.

    Raises
    ------
    ModelError
        If the file is damaged, or is no bundle.
    """
    try:
        # An object store answers each read with a request, so small reads are gathered.
        with (
            io.BufferedReader(file.open(), _BUFFER_BYTES) as source,  # type: ignore[type-var]
            zipfile.ZipFile(_checked(source, file)) as archive,
        ):
            _require_own_members(archive, file)
            listed = _listed(archive, file)
            return {
                name: _member(archive, file, name, entry["size"], entry["sha256"])
                for name, entry in listed.items()
            }
    except (zipfile.BadZipFile, NotImplementedError, EOFError, UnicodeDecodeError) as error:
        _refuse(file, f"is damaged: {error}")


def _refuse(file: Location, why: str) -> NoReturn:
    raise ModelError(f"'{file}' {why}. {_EXPECTED} {_REMEDY}")


def _checked(source: BinaryIO, file: Location) -> BinaryIO:
    """Check the end of an archive, which says how large its directory is, before it is read."""
    size = source.seek(0, io.SEEK_END)
    source.seek(max(0, size - _END.size))
    end = source.read(_END.size)
    if len(end) < _END.size or not end.startswith(b"PK\x05\x06"):
        source.seek(0)
        is_archive = source.read(4) == b"PK\x03\x04"
        why = "is damaged: its end is missing" if is_archive else "is a file and holds no model"
        _refuse(file, why)
    _, disk, first, here, members, directory, start, comment = _END.unpack(end)
    if size > _MOST_BYTES + 2**20 or members > len(_MOST) or directory > 2**16:
        _refuse(file, f"has {members:,} members and {size:,} bytes, more than a model's file")
    if disk or first or comment or here != members or start + directory + _END.size != size:
        _refuse(file, "is an archive of another program, or damaged")
    source.seek(0)
    return source


def _require_own_members(archive: zipfile.ZipFile, file: Location) -> None:
    """Refuse members that a bundle does not have, and bytes that belong to none."""
    members = archive.infolist()
    names = [member.filename for member in members]
    for name in names:
        if name not in _MOST:
            shown = name.encode("unicode_escape").decode()[:100]
            _refuse(file, f"holds '{shown}', which no model's file has")
    if len(set(names)) < len(names):
        _refuse(file, f"holds '{next(n for n in names if names.count(n) > 1)}' twice")
    if absent := [name for name in (_LIST, *_NEEDED) if name not in names]:
        _refuse(file, f"is no whole model: {absent[0]} is missing in it")
    for member in members:
        if member.compress_type != zipfile.ZIP_STORED or member.flag_bits & 1:
            _refuse(file, f"holds '{member.filename}' compressed or encrypted")
        if member.file_size != member.compress_size or member.file_size > _MOST[member.filename]:
            _refuse(
                file,
                f"holds '{member.filename}' of {member.file_size:,} bytes, where at most "
                f"{_MOST[member.filename]:,} are possible",
            )
    own = _END.size + sum(
        _MEMBER_BYTES + _ENTRY_BYTES + 2 * len(member.filename) + member.file_size
        for member in members
    )
    size = file.info().size
    if own != size:
        _refuse(file, f"has {size:,} bytes, and its members account for {own:,}")


def _listed(archive: zipfile.ZipFile, file: Location) -> dict[str, dict[str, Any]]:
    """Read the list of a bundle, and compare it with the directory."""
    try:
        content = parse_json(archive.read(_LIST))
        digest, version, files = content.pop("digest"), content["format"], content["files"]
        sizes = {name: entry["size"] for name, entry in files.items()}
        if any(not isinstance(entry["sha256"], str) for entry in files.values()):
            raise TypeError("a digest is no text")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        _refuse(file, f"is damaged: its {_LIST} cannot be read ({error})")
    if fingerprint(content) != digest:
        _refuse(file, f"is damaged: the digest of its {_LIST} is another")
    if version != _FORMAT:
        raise ModelError(
            f"'{file}' is of format {version}. Expected format {_FORMAT}, which this version "
            "reads. Use the version that wrote it, or pack the model again."
        )
    held = {each.filename: each.file_size for each in archive.infolist() if each.filename != _LIST}
    if sizes != held:
        _refuse(file, f"is damaged: it does not hold what its {_LIST} lists")
    found: dict[str, dict[str, Any]] = files
    return found


def _member(archive: zipfile.ZipFile, file: Location, name: str, size: int, sha256: str) -> bytes:
    with archive.open(name) as source:
        # One more than listed, in case that the member's own header declares more.
        content = source.read(size + 1)
    if len(content) != size or hashlib.sha256(content).hexdigest() != sha256:
        _refuse(file, f"is damaged: the digest of '{name}' in it is another")
    return content


class _Members(fs.FileSystemHandler):  # type: ignore[misc]
    """The files of a bundle behind pyarrow's interface, for reading alone.

    Parameters
    ----------
    root
        Path of the bundle; the paths of its files begin with it.
    files
        Content by name.
    """

    def __init__(self, root: str, files: Mapping[str, bytes]) -> None:
        self._root, self._files = root, files

    def get_type_name(self) -> str:
        """Return the name of this kind of file system."""
        return "bundle"

    def normalize_path(self, path: str) -> str:
        """Return the path as it is."""
        return path

    def get_file_info(self, paths: list[str]) -> list[fs.FileInfo]:
        """Return type and size of each path."""
        return [self._info(self._name(path), path) for path in paths]

    def get_file_info_selector(self, selector: fs.FileSelector) -> list[fs.FileInfo]:
        """List a folder."""
        folder = self._name(selector.base_dir)
        start = f"{folder}/" if folder else ""
        inside = {
            name[len(start) :].partition("/")[0] for name in self._files if name.startswith(start)
        }
        return [
            self._info(f"{start}{name}", f"{selector.base_dir}/{name}") for name in sorted(inside)
        ]

    def _name(self, path: str) -> str:
        return path.removeprefix(self._root).strip("/")

    def _info(self, name: str, path: str) -> fs.FileInfo:
        if name in self._files:
            return fs.FileInfo(path, fs.FileType.File, size=len(self._files[name]))
        is_folder = not name or any(each.startswith(f"{name}/") for each in self._files)
        return fs.FileInfo(path, fs.FileType.Directory if is_folder else fs.FileType.NotFound)

    def open_input_file(self, path: str) -> pa.NativeFile:
        """Open a file for random access."""
        name = self._name(path)
        if name not in self._files:
            raise FileNotFoundError(path)
        return pa.BufferReader(self._files[name])

    def open_input_stream(self, path: str) -> pa.NativeFile:
        """Open a file for reading from its beginning."""
        return self.open_input_file(path)

    def _refuse(self, path: str, *_: Any) -> Any:
        raise UsageError(
            f"'{path}' lies in a model's file, which is only read. Expected a folder to write to. "
            "Unpack the file first."
        )

    create_dir = delete_dir = delete_dir_contents = delete_file = _refuse
    move = copy_file = open_output_stream = open_append_stream = _refuse

    def delete_root_dir_contents(self) -> None:
        """Refuse to delete."""
        self._refuse(self._root)
