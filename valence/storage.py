"""Where a corpus or a run lies: a path on a file system or a URI of an object store.

One type, `Location`, stands for both. Whatever is written through it appears whole or not at all:
on a file system by writing beside the target and renaming, on an object store by uploading only
what is complete.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO
from urllib.parse import quote, unquote, urlsplit

from pyarrow import fs

from valence.errors import UsageError

_SPOOL_BYTES = 64 * 2**20


@dataclass(frozen=True)
class Location:
    """A file or folder on a file system or an object store.

    Parameters
    ----------
    filesystem
        The pyarrow file system that reaches it; it can be pickled and sent to a worker.
    path
        Absolute path on that file system, `/`-separated, without a trailing slash.
    scheme
        `""` for the local file system, else the URI's scheme (`s3`, `gs`, ...).
    query
        The URI's query with its question mark (such as `?endpoint_override=...`), or `""`.
    """

    filesystem: fs.FileSystem
    path: str
    scheme: str = ""
    query: str = ""

    @classmethod
    def parse(cls, text: str | os.PathLike[str]) -> Location:
        """Read a path (made absolute) or a URI (`s3://bucket/run`, `gs://...`, `file:///...`).

        Raises
        ------
        UsageError
            If the URI's scheme is not one that pyarrow serves.

        >>> Location.parse("/data/corpus").name
        'corpus'
        """
        text = os.fspath(text)
        if "://" not in text or text.startswith("file://"):
            local = Path(unquote(urlsplit(text).path) if text.startswith("file://") else text)
            return cls(fs.LocalFileSystem(), local.expanduser().absolute().as_posix())
        try:
            filesystem, path = fs.FileSystem.from_uri(text.replace(" ", "%20"))
            if not path.strip("/"):
                raise ValueError("it names no bucket")
        except (ValueError, OSError) as error:
            raise UsageError(
                f"'{text}' is not a storage address that can be used: {error}. Expected a path, "
                "or a URI such as s3://bucket/folder or gs://bucket/folder."
            ) from error
        parts = urlsplit(text)
        query = f"?{parts.query}" if parts.query else ""
        return cls(filesystem, path.rstrip("/"), parts.scheme, query)

    def __truediv__(self, name: str) -> Location:
        """The entry `name` (which may hold slashes) under this folder."""
        return Location(self.filesystem, f"{self.path}/{name}", self.scheme, self.query)

    def __hash__(self) -> int:
        # pyarrow's file systems compare and do not hash.
        return hash((self.scheme, self.path))

    def __str__(self) -> str:
        return self.uri if self.scheme else self.path

    @property
    def uri(self) -> str:
        """The URI that `parse` reads back, or the plain path on the local file system."""
        return f"{self.scheme}://{quote(self.path)}{self.query}" if self.scheme else self.path

    @property
    def local(self) -> Path | None:
        """The path on the local file system, or None on an object store."""
        return None if self.scheme else Path(self.path)

    @property
    def name(self) -> str:
        """Last part of the path."""
        return PurePosixPath(self.path).name

    @property
    def stem(self) -> str:
        """Last part of the path less its suffix."""
        return PurePosixPath(self.path).stem

    @property
    def suffix(self) -> str:
        """Suffix with its dot, in lower case."""
        return PurePosixPath(self.path).suffix.lower()

    def exists(self) -> bool:
        """Whether a file or folder is there."""
        return bool(self.info().type != fs.FileType.NotFound)

    def is_folder(self) -> bool:
        """Whether a folder is there."""
        return bool(self.info().type == fs.FileType.Directory)

    def info(self) -> fs.FileInfo:
        """Type, size and time of modification; of type NotFound if nothing is there."""
        return self.filesystem.get_file_info(self.path)

    def files(self) -> list[Location]:
        """The files of this folder, sorted by name, hidden ones left out; empty if it is absent."""
        return self._visible(self._file_names())

    def entries(self) -> list[Location]:
        """As `files`, with what is no file too: links to nothing, pipes, and folders.

        Folders are left out unless their names have a suffix: they stand where files should.
        """
        if self.local is None:
            return self.files()
        try:
            with os.scandir(self.local) as found:
                names = [entry.name for entry in found if not entry.is_dir() or "." in entry.name]
        except FileNotFoundError:
            return []
        return self._visible(names)

    def _visible(self, names: Iterable[str]) -> list[Location]:
        found = (
            Location(self.filesystem, f"{self.path}/{name}", self.scheme, self.query)
            for name in names
            if not name.startswith(".")
        )
        return sorted(found, key=lambda file: file.name)

    def everything(self) -> list[Location]:
        """Files and folders of this folder, hidden ones too, sorted by name."""
        selector = fs.FileSelector(self.path, allow_not_found=True)
        infos = self.filesystem.get_file_info(selector)
        return [self / name for name in sorted(info.base_name for info in infos)]

    def _file_names(self) -> list[str]:
        if self.local is None:
            selector = fs.FileSelector(self.path, allow_not_found=True)
            infos = self.filesystem.get_file_info(selector)
            return [info.base_name for info in infos if info.type == fs.FileType.File]
        # The folder's own entries tell files from folders; pyarrow asks for each, slow over NFS.
        try:
            with os.scandir(self.local) as entries:
                return [entry.name for entry in entries if entry.is_file()]
        except FileNotFoundError:
            return []

    def open(self) -> BinaryIO:
        """Open for random-access reading, in bytes.

        Raises
        ------
        OSError
            If it cannot be read, or is a pipe or a device, which would be waited for.
        """
        if self.local is not None and self.local.exists() and not self.local.is_file():
            kind = "a folder" if self.local.is_dir() else "a pipe, a socket or a device"
            raise OSError(f"it is {kind} and no file")
        return self.filesystem.open_input_file(self.path)  # type: ignore[no-any-return]

    def read_bytes(self) -> bytes:
        """The whole content."""
        with self.open() as file:
            return file.read()

    def read_text(self) -> str:
        """The whole content, decoded from UTF-8 (a byte order mark is dropped)."""
        return self.read_bytes().decode("utf-8-sig")

    def read_json(self) -> Any:
        """The content as JSON."""
        return json.loads(self.read_text())

    @contextmanager
    def writer(self) -> Iterator[BinaryIO]:
        """A binary file that takes this place, whole, when the block ends without an error."""
        if self.local is not None:
            folder = self.local.parent
            folder.mkdir(parents=True, exist_ok=True)
            partial = folder / f".{self.name}.{uuid.uuid4().hex}.partial"
            try:
                with partial.open("wb") as file:
                    yield file
                    file.flush()
                    os.fsync(file.fileno())
                partial.replace(self.local)
            finally:
                partial.unlink(missing_ok=True)
            return
        # Closing an upload publishes it, so an object is sent only once it is complete.
        with tempfile.SpooledTemporaryFile(max_size=_SPOOL_BYTES) as spool:
            yield spool  # type: ignore[misc]
            spool.seek(0)
            with self.filesystem.open_output_stream(self.path) as upload:
                shutil.copyfileobj(spool, upload, 2**20)

    def write_bytes(self, content: bytes) -> None:
        """Write the whole content, atomically."""
        with self.writer() as file:
            file.write(content)

    def write_text(self, content: str) -> None:
        """Write text in UTF-8, atomically."""
        self.write_bytes(content.encode())

    def write_json(self, content: Any) -> None:
        """Write JSON, indented, atomically; NaN is refused because JSON has none."""
        self.write_text(json.dumps(content, indent=2, allow_nan=False) + "\n")

    def delete(self) -> None:
        """Remove the file, or the folder and all it holds; nothing happens if it is absent."""
        kind = self.info().type
        if kind == fs.FileType.Directory:
            self.filesystem.delete_dir(self.path)
        elif kind != fs.FileType.NotFound:
            self.filesystem.delete_file(self.path)

    def listing(self) -> dict[str, fs.FileInfo]:
        """The files of this folder by name, with size and time of modification; one request."""
        selector = fs.FileSelector(self.path, allow_not_found=True)
        infos = self.filesystem.get_file_info(selector)
        return {info.base_name: info for info in infos if info.type == fs.FileType.File}

    def settle(self) -> None:
        """Bring the names in this folder to the disk, so that a loss of power forgets none."""
        if self.local is None:
            return
        folder = os.open(self.local, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    def set_aside(self) -> Location | None:
        """Rename this file to `NAME.damaged`; returns where it is, or None if that is refused."""
        aside = Location(self.filesystem, f"{self.path}.damaged", self.scheme, self.query)
        try:
            self.filesystem.move(self.path, aside.path)
        except OSError:
            return None
        return aside

    def remove_partial_files(self) -> int:
        """Remove what interrupted writers left in this folder; returns how many files."""
        if self.local is None or not self.local.is_dir():
            return 0
        partial = list(self.local.glob(".*.partial"))
        for file in partial:
            file.unlink(missing_ok=True)
        return len(partial)
