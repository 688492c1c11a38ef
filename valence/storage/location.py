"""Read and write a corpus or a run at a path of a file system or a URI of an object store.

One type, `Location`, stands for both. A file that is written through it appears whole or not at
all. On a file system, it is written beside the target and then renamed; on an object store, it is
uploaded only when it is complete.
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
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO
from urllib.parse import quote

from pyarrow import fs

from valence.storage import addresses
from valence.storage.filenames import begin, is_utf8, printable

_SPOOL_BYTES = 64 * 2**20
# The name of a partial file begins with this many bytes of the target's name, to leave room for an
# id.
_PARTIAL_NAME_BYTES = 48
# On a file system without locks, a partial file that is older than this has no writer any more.
_ABANDONED_SECONDS = 86_400.0
# Git-LFS and git-annex leave a short text with such a beginning in place of content.
_ADDRESSES = (b"version https://git-lfs", b"/annex/objects/")
# Errors of the operating system for a path that leads to nothing; links can form a circle.
_NOWHERE = (errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG, errno.ELOOP)


def is_address(content: bytes) -> bool:
    """Tell whether a file holds only the address of its content.

    >>> is_address(b"version https://git-lfs.github.com/spec/v1"), is_address(b"Id,subject")
    (True, False)
    """
    return content.startswith(_ADDRESSES)


@dataclass(frozen=True)
class FileEntry:
    """The size and the time of a file in the listing of its folder.

    Attributes
    ----------
    size
        Size in bytes.
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
        The pyarrow file system that holds it. It can be pickled and sent to a worker.
    path
        Absolute path on that file system, `/`-separated, without a trailing slash.
    scheme
        `""` for the local file system, else the scheme of the URI (`s3`, `gs`, ...).
    query
        The query of the URI with its question mark (such as `?endpoint_override=...`), or `""`. A
        key or a token is not in it, so that no message or record holds one.
    authority
        The part of the URI before the path, where the path alone does not lead there (`account@`).
    """

    filesystem: fs.FileSystem
    path: str
    scheme: str = ""
    query: str = ""
    authority: str = ""

    @classmethod
    def parse(cls, text: str | os.PathLike[str]) -> Location:
        """Read a path (made absolute) or a URI (`s3://bucket/run`, `gs://...`, `file:///...`).

        Raises
        ------
        UsageError
            If nothing reads the scheme of the URI, a package for it is missing, or the URI names
            no bucket.

        >>> Location.parse("/data/corpus").name
        'corpus'
        """
        text = os.fspath(text)
        if not addresses.is_address(text):
            local = Path(addresses.local_path(text)).expanduser().absolute()
            return cls(fs.LocalFileSystem(), local.as_posix())
        found = addresses.open_address(text)
        return cls(found.filesystem, found.path, found.scheme, found.query, found.authority)

    def __truediv__(self, name: str) -> Location:
        """Return the entry `name` of this folder; `name` may contain slashes."""
        return replace(self, path=f"{self.path}/{name}")

    def __hash__(self) -> int:
        # Pyarrow's file systems can be compared but not hashed.
        return hash((self.scheme, self.path))

    def __str__(self) -> str:
        """Return the address for messages, with escapes for unprintable characters."""
        return self.uri if self.scheme else printable(self.path)

    @property
    def uri(self) -> str:
        """Return the URI that `parse` reads back, or the path on the local file system."""
        if not self.scheme:
            return self.path
        # The hub's addresses are no escaped URIs, and an '@' in them names a revision.
        path = self.path if self.scheme == addresses.HUB else quote(self.path)
        return f"{self.scheme}://{self.authority}{path}{self.query}"

    @property
    def local(self) -> Path | None:
        """Return the path on the local file system, or None on an object store."""
        return None if self.scheme else Path(self.path)

    @property
    def name(self) -> str:
        """Return the last part of the path."""
        return PurePosixPath(self.path).name

    @property
    def parent(self) -> Location:
        """The folder that this entry lies in.

        >>> str(Location.parse("/data/run/report").parent)
        '/data/run'
        """
        return replace(self, path=self.path.rpartition("/")[0])

    @property
    def stem(self) -> str:
        """Return the last part of the path without its suffix."""
        return PurePosixPath(self.path).stem

    @property
    def suffix(self) -> str:
        """Return the suffix with its dot, in lower case."""
        return PurePosixPath(self.path).suffix.lower()

    def exists(self) -> bool:
        """Tell whether a file or folder exists here."""
        return bool(self.info().type != fs.FileType.NotFound)

    def is_named(self) -> bool:
        """Tell whether an entry of this name exists, even if it cannot be read.

        A link that leads nowhere and a path behind such a link count as existing: content that was
        not fetched is not absent.
        """
        if self.local is None:
            return self.exists()
        try:
            self.local.lstat()
        except OSError as error:
            return error.errno not in _NOWHERE or any(map(_leads_nowhere, self.local.parents))
        return True

    def is_folder(self) -> bool:
        """Tell whether a folder exists here."""
        return bool(self.info().type == fs.FileType.Directory)

    def info(self) -> fs.FileInfo:
        """Return type, size and time of modification; type NotFound if nothing exists."""
        if self.local is None:
            return self.filesystem.get_file_info(self.path)
        # Pyarrow accepts only names in UTF-8, but files with other names exist too.
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
        """List the files of this folder by name, without hidden ones; empty if it is absent."""
        return self._visible(self._file_names())

    def entries(self) -> list[Location]:
        """List files like `files`, and also links that lead nowhere, pipes and some folders.

        A folder is listed only if its name contains a dot, because it may stand in a file's place.
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
        """List the files and folders of this folder, also hidden ones, by name."""
        if self.local is not None:
            inside = self.local.iterdir() if self.local.is_dir() else ()
            return [self / name for name in sorted(path.name for path in inside)]
        selector = fs.FileSelector(self.path, allow_not_found=True)
        infos = self.filesystem.get_file_info(selector)
        return [self / name for name in sorted(info.base_name for info in infos)]

    def listing(self) -> dict[str, FileEntry]:
        """List the files of this folder by name, also hidden ones; empty if it is absent.

        This takes one request, however many files there are.
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
                # A file that was deleted in the meantime is left out.
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
        # The entries of the folder tell files from folders. Pyarrow would send a request for each
        # entry, which is slow over NFS.
        try:
            with os.scandir(self.local) as entries:
                return [entry.name for entry in entries if _is_file(entry)]
        except FileNotFoundError:
            return []

    def open(self) -> BinaryIO:
        """Open the file for random-access reading, in bytes.

        Raises
        ------
        OSError
            If the file cannot be read; if it is a pipe or a device, because opening one could wait
            for ever; or if its path is not UTF-8.
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
            # A caller may show the error without knowing which file it concerns.
            error.add_note(f"'{self}'")
            raise error
        return self.filesystem.open_input_file(self.path)  # type: ignore[no-any-return]

    def read_bytes(self) -> bytes:
        """Read the whole content."""
        with self.open() as file:
            return file.read()

    def read_text(self) -> str:
        """Read the whole content as UTF-8; a byte order mark is dropped."""
        return self.read_bytes().decode("utf-8-sig")

    def read_json(self) -> Any:
        """Read the content as JSON."""
        return json.loads(self.read_text())

    @contextmanager
    def writer(self) -> Iterator[BinaryIO]:
        """Open a binary file that appears here as a whole when the block ends without an error.

        Raises
        ------
        OSError
            If the file cannot be written, or a folder has this name.
        """
        if self.local is not None:
            if self.local.is_dir():
                raise IsADirectoryError(
                    errno.EISDIR, "a folder stands where a file is to be written", str(self)
                )
            folder = self.local.parent
            folder.mkdir(parents=True, exist_ok=True)
            # A name may have 255 bytes, so the partial file takes only a part of a long name.
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
        """Write the whole content atomically."""
        with self.writer() as file:
            file.write(content)

    def write_text(self, content: str) -> None:
        """Write text as UTF-8 atomically."""
        self.write_bytes(content.encode())

    def write_json(self, content: Any) -> None:
        """Write indented JSON atomically; NaN is refused, because JSON has none."""
        self.write_text(json.dumps(content, indent=2, allow_nan=False) + "\n")

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Lock this file for the block; another process that asks for the lock waits.

        The lock is the file `.NAME.lock` beside this file. Only processes of this program respect
        the lock. On an object store nothing is locked, because it has no locks.

        Raises
        ------
        OSError
            If the file of the lock cannot be made.
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
        """Remove the file, or the folder with its content; do nothing if it is absent."""
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
        """Write the names in this folder to the disk, so that they survive a loss of power."""
        if self.local is None:
            return
        folder = os.open(self.local, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    def set_aside(self) -> Location | None:
        """Rename this file to `NAME.damaged`, and return the new place; None if that fails."""
        try:
            self.rename(self.aside)
        except OSError:
            return None
        return self.aside

    def rename(self, target: Location) -> None:
        """Rename this file to `target` on the same file system, in place of a file there.

        Raises
        ------
        OSError
            If the file cannot be renamed.
        """
        try:
            self.filesystem.move(self.path, target.path)
        except NotImplementedError:
            # Azure's accounts without hierarchical namespaces copy within the store.
            self.filesystem.copy_file(self.path, target.path)
            self.filesystem.delete_file(self.path)

    @property
    def aside(self) -> Location:
        """Return `NAME.damaged`, the name that `set_aside` gives to this file."""
        return replace(self, path=f"{self.path}.damaged")

    def remove_partial_files(self) -> int:
        """Remove partial files of interrupted writers in this folder, and return their number.

        The file of a writer that is still at work stays. If the folder cannot be written, all its
        files stay.
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
    """Tell whether an entry is a folder or a link that leads to a folder."""
    try:
        return entry.is_dir()
    except OSError:
        # One link that cannot be followed must not stop the listing; opening it gives the error.
        return False


def _is_file(entry: os.DirEntry[str]) -> bool:
    """Tell whether an entry is a file or a link that leads to a file."""
    try:
        return entry.is_file()
    except OSError:
        if not entry.is_symlink():
            raise
        return False


def _leads_nowhere(path: Path) -> bool:
    """Tell whether this is a link whose target does not exist."""
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
    """Open a new file that stays locked while it is written, so that no cleaning removes it."""
    while True:
        with partial.open("wb") as file:
            with suppress(OSError):  # Some network file systems know no locks.
                fcntl.flock(file, fcntl.LOCK_EX)
            # Another process may have removed the file before it was locked; then try again.
            if os.fstat(file.fileno()).st_nlink:
                yield file
                return


def _is_abandoned(partial: Path) -> bool:
    """Tell whether no writer works on a partial file any more."""
    with partial.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        except OSError:
            return time.time() - partial.stat().st_mtime > _ABANDONED_SECONDS
    return True
