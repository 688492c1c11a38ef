"""Where a corpus or a run lies: a path on a file system or a URI of an object store.

One type, `Location`, stands for both. Whatever is written through it appears whole or not at all:
on a file system by writing beside the target and renaming, on an object store by uploading only
what is complete.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import shutil
import stat
import tempfile
import time
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO
from urllib.parse import quote, unquote, urlsplit

from pyarrow import fs

from valence.errors import UsageError
from valence.storage.filenames import begin, is_utf8, printable

_SPOOL_BYTES = 64 * 2**20
# Bytes of a file's name that the name of its partial file begins with: the rest is for the id.
_PARTIAL_NAME_BYTES = 48
# Where a file system knows no locks, a partial file that is older has no writer any more.
_ABANDONED_SECONDS = 86_400.0
# How the short text begins that git-LFS and git-annex leave in place of content.
_ADDRESSES = (b"version https://git-lfs", b"/annex/objects/")
# What the operating system says of a path that leads to nothing; a link can go round in a circle.
_NOWHERE = (errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG, errno.ELOOP)


def is_address(content: bytes) -> bool:
    """Whether a file holds the address of its content in place of it.

    >>> is_address(b"version https://git-lfs.github.com/spec/v1"), is_address(b"Id,subject")
    (True, False)
    """
    return content.startswith(_ADDRESSES)


@dataclass(frozen=True)
class FileEntry:
    """What the listing of a folder says of a file.

    Attributes
    ----------
    size
        Bytes.
    mtime_ns
        Time of modification in nanoseconds.
    """

    size: int
    mtime_ns: int


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
        """The address as a message shows it: what cannot be printed stands there as escapes."""
        return self.uri if self.scheme else printable(self.path)

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
    def parent(self) -> Location:
        """The folder that this entry lies in.

        >>> str(Location.parse("/data/run/report").parent)
        '/data/run'
        """
        return Location(self.filesystem, self.path.rpartition("/")[0], self.scheme, self.query)

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

    def is_named(self) -> bool:
        """Whether something bears this name, even if it cannot be read.

        This includes a link that leads nowhere and whatever lies behind such a link: what was not
        fetched is not absent.
        """
        if self.local is None:
            return self.exists()
        try:
            self.local.lstat()
        except OSError as error:
            return error.errno not in _NOWHERE or any(map(_leads_nowhere, self.local.parents))
        return True

    def is_folder(self) -> bool:
        """Whether a folder is there."""
        return bool(self.info().type == fs.FileType.Directory)

    def info(self) -> fs.FileInfo:
        """Type, size and time of modification; of type NotFound if nothing is there."""
        if self.local is None:
            return self.filesystem.get_file_info(self.path)
        # pyarrow takes names in UTF-8 alone, and a file that is named otherwise is there, too.
        try:
            found = self.local.stat()
        except OSError as error:
            if error.errno in _NOWHERE:
                return fs.FileInfo(printable(self.path), type=fs.FileType.NotFound)
            raise
        kind = (
            fs.FileType.Directory
            if stat.S_ISDIR(found.st_mode)
            else fs.FileType.File
            if stat.S_ISREG(found.st_mode)
            else fs.FileType.Unknown
        )
        return fs.FileInfo(
            printable(self.path), type=kind, size=found.st_size, mtime_ns=found.st_mtime_ns
        )

    def files(self) -> list[Location]:
        """The files of this folder, sorted by name, hidden ones left out; empty if it is absent."""
        return self._visible(self._file_names())

    def entries(self) -> list[Location]:
        """As `files`, with what is no file too: links that lead nowhere, pipes, and folders.

        Folders are left out unless their names have a suffix: they stand where files should.
        """
        if self.local is None:
            return self.files()
        try:
            with os.scandir(self.local) as found:
                names = [e.name for e in found if "." in e.name or not _is_folder(e)]
        except FileNotFoundError:
            return []
        return self._visible(names)

    def _visible(self, names: Iterable[str]) -> list[Location]:
        found = (self / name for name in names if not name.startswith("."))
        return sorted(found, key=lambda file: file.name)

    def everything(self) -> list[Location]:
        """Files and folders of this folder, hidden ones too, sorted by name."""
        if self.local is not None:
            inside = self.local.iterdir() if self.local.is_dir() else ()
            return [self / name for name in sorted(path.name for path in inside)]
        selector = fs.FileSelector(self.path, allow_not_found=True)
        infos = self.filesystem.get_file_info(selector)
        return [self / name for name in sorted(info.base_name for info in infos)]

    def listing(self) -> dict[str, FileEntry]:
        """The files of this folder by name, hidden ones too; empty if it is absent.

        One request, however many there are.
        """
        if self.local is None:
            selector = fs.FileSelector(self.path, allow_not_found=True)
            return {
                info.base_name: FileEntry(int(info.size), int(info.mtime_ns or 0))
                for info in self.filesystem.get_file_info(selector)
                if info.type == fs.FileType.File
            }
        found = {}
        with suppress(FileNotFoundError), os.scandir(self.local) as entries:
            for entry in entries:
                # One that is deleted meanwhile is not there.
                with suppress(FileNotFoundError):
                    if _is_file(entry):
                        about = entry.stat()
                        found[entry.name] = FileEntry(about.st_size, about.st_mtime_ns)
        return found

    def _file_names(self) -> list[str]:
        if self.local is None:
            selector = fs.FileSelector(self.path, allow_not_found=True)
            infos = self.filesystem.get_file_info(selector)
            return [info.base_name for info in infos if info.type == fs.FileType.File]
        # The folder's own entries tell files from folders; pyarrow asks for each, slow over NFS.
        try:
            with os.scandir(self.local) as entries:
                return [entry.name for entry in entries if _is_file(entry)]
        except FileNotFoundError:
            return []

    def open(self) -> BinaryIO:
        """Open for random-access reading, in bytes.

        Raises
        ------
        OSError
            If it cannot be read, is a pipe or a device, which would be waited for, or has a path
            that is not UTF-8.
        """
        if not is_utf8(self.path):
            raise OSError(errno.EILSEQ, "a path that is not UTF-8", printable(self.path))
        if self.local is not None and _leads_nowhere(self.local):
            target = printable(str(self.local.readlink()))
            raise FileNotFoundError(
                f"it is a link to '{target}', which leads nowhere; its content may not have been "
                "fetched"
            )
        if self.local is not None and self.local.exists() and not self.local.is_file():
            error = (
                IsADirectoryError("it is a folder and no file")
                if self.local.is_dir()
                else OSError("it is a pipe, a socket or a device and no file")
            )
            # For whoever tells the error without knowing of which file.
            error.add_note(f"'{self}'")
            raise error
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
        """A binary file that takes this place, whole, when the block ends without an error.

        Raises
        ------
        OSError
            If it cannot be written, or a folder stands there.
        """
        if self.local is not None:
            if self.local.is_dir():
                raise IsADirectoryError(
                    errno.EISDIR, "a folder stands where a file is to be written", str(self)
                )
            folder = self.local.parent
            folder.mkdir(parents=True, exist_ok=True)
            # A name may have 255 bytes, and that of the partial file must not have more.
            name = begin(self.name, _PARTIAL_NAME_BYTES)
            partial = folder / f".{name}.{uuid.uuid4().hex}.partial"
            try:
                with _claimed(partial) as file:
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

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold this file for the block: another process that asks for it waits.

        The lock is `.NAME.lock` beside the file and counts among processes of this program. An
        object store has no locks, and there nothing is held.

        Raises
        ------
        OSError
            If the lock's file cannot be made.
        """
        if self.local is None:
            yield
            return
        self.local.parent.mkdir(parents=True, exist_ok=True)
        name = begin(self.name, _PARTIAL_NAME_BYTES)
        with (self.local.parent / f".{name}.lock").open("ab") as file:
            with suppress(OSError):  # Some network file systems know no locks.
                fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def delete(self) -> None:
        """Remove the file, or the folder and all it holds; nothing happens if it is absent."""
        if self.local is not None:
            with suppress(FileNotFoundError, NotADirectoryError):
                if self.local.is_dir() and not self.local.is_symlink():
                    shutil.rmtree(self.local)
                else:
                    self.local.unlink()
            return
        kind = self.info().type
        if kind == fs.FileType.Directory:
            self.filesystem.delete_dir(self.path)
        elif kind != fs.FileType.NotFound:
            self.filesystem.delete_file(self.path)

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
        try:
            self.filesystem.move(self.path, self.aside.path)
        except OSError:
            return None
        return self.aside

    @property
    def aside(self) -> Location:
        """`NAME.damaged`, where `set_aside` puts this file."""
        return Location(self.filesystem, f"{self.path}.damaged", self.scheme, self.query)

    def remove_partial_files(self) -> int:
        """Remove what interrupted writers left in this folder; returns how many files.

        The file of a writer that is still at work stays. So does everything in a folder that
        cannot be written.
        """
        if self.local is None or not self.local.is_dir():
            return 0
        removed = 0
        for file in self.local.glob(".*.partial"):
            try:
                if _is_abandoned(file):
                    file.unlink()
                    removed += 1
            except OSError as error:
                if error.errno not in (errno.ENOENT, errno.EACCES, errno.EPERM, errno.EROFS):
                    raise
        return removed


def _is_folder(entry: os.DirEntry[str]) -> bool:
    """Whether an entry is a folder, or a link that can be followed to one."""
    try:
        return entry.is_dir()
    except OSError:
        # One link that cannot be followed costs no other entry: whoever opens it is told why.
        return False


def _is_file(entry: os.DirEntry[str]) -> bool:
    """Whether an entry is a file, or a link that can be followed to one."""
    try:
        return entry.is_file()
    except OSError:
        if not entry.is_symlink():
            raise
        return False


def _leads_nowhere(path: Path) -> bool:
    """Whether there is a link of this name, and nothing that it leads to."""
    try:
        path.lstat()
    except OSError:
        return False
    try:
        path.stat()
    except OSError as error:
        return error.errno in _NOWHERE
    return False


@contextmanager
def _claimed(partial: Path) -> Iterator[BinaryIO]:
    """A new file, locked for as long as it is written: whoever clears the folder leaves it."""
    while True:
        with partial.open("wb") as file:
            with suppress(OSError):  # Some network file systems know no locks.
                fcntl.flock(file, fcntl.LOCK_EX)
            # It may have been cleared away before it was locked.
            if os.fstat(file.fileno()).st_nlink:
                yield file
                return


def _is_abandoned(partial: Path) -> bool:
    """Whether no writer is at work on a partial file any more."""
    with partial.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        except OSError:
            return time.time() - partial.stat().st_mtime > _ABANDONED_SECONDS
    return True
