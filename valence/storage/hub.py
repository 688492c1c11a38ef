"""Read repositories of the Hugging Face hub; importing this module needs the extra `hub`.

pyarrow reads them through the hub's own file system. Its errors are those of the library for HTTP
below it; here they become errors that every command ends with in words.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import pyarrow as pa
from huggingface_hub import HfFileSystem
from huggingface_hub.errors import (
    HfHubHTTPError,
    HFValidationError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from pyarrow import fs

from valence.errors import UsageError

T = TypeVar("T")


def open_hub() -> fs.FileSystem:
    """Return the file system of the hub; the token and HF_ENDPOINT of the environment hold."""
    return fs.PyFileSystem(_HubHandler(HfFileSystem()))


@contextmanager
def _in_words(path: str) -> Iterator[None]:
    """Turn errors of the hub's client into errors that a command ends with.

    Raises
    ------
    UsageError
        If the repository or the revision is not there, or nobody may read it without a token.
    FileNotFoundError
        If the file is not there.
    OSError
        If the hub does not answer, or refuses.
    """
    address = f"hf://{path}"
    try:
        yield
    except FileNotFoundError as error:
        # The client's error of a repository that is not there is a file's; its cause says more.
        if isinstance(error.__cause__, (RepositoryNotFoundError, HFValidationError)):
            raise _no_repository(address) from error
        if isinstance(error.__cause__, RevisionNotFoundError):
            raise UsageError(
                f"'{address}' names a revision that its repository does not have. Expected a "
                "branch, a tag or a commit after the '@'. Correct it, or leave it out."
            ) from error
        raise
    except RepositoryNotFoundError as error:
        raise _no_repository(address) from error
    except HfHubHTTPError as error:
        # Without a token, the hub does not tell a private repository from one that is not there.
        if error.response is not None and error.response.status_code in (401, 403):
            raise _no_repository(address) from error
        raise OSError(f"the hub answered '{_first_line(error)}' to '{address}'") from error
    except OSError:
        raise
    except (ValueError, NotImplementedError) as error:
        # The client refuses a name before it asks.
        raise UsageError(
            f"'{address}' is no address of the hub: {_first_line(error).rstrip('.')}. Expected "
            "hf://user/model or hf://datasets/user/corpus. Correct the name."
        ) from error
    except Exception as error:
        # The library for HTTP below the client has changed before, and its errors with it.
        if not type(error).__module__.partition(".")[0].startswith(("http", "requests")):
            raise
        raise OSError(
            f"the hub does not answer ({type(error).__name__}: {_first_line(error)}), which "
            f"'{address}' needs"
        ) from error


def _no_repository(address: str) -> UsageError:
    return UsageError(
        f"'{address}' leads to no repository that can be read. Expected one that is public, or "
        "that your token may read. Check the name; for one that is private or gated, log in with "
        "'hf auth login' or set HF_TOKEN."
    )


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or "no message").splitlines()[0][:200]


class _HubHandler(fs.FSSpecHandler):  # type: ignore[misc]
    """The hub behind pyarrow's interface, for reading alone."""

    def get_file_info(self, paths: list[str]) -> list[fs.FileInfo]:
        """Return type and size of each path."""
        return [self._info(path) for path in paths]

    def _info(self, path: str) -> fs.FileInfo:
        try:
            with _in_words(path):
                return self._create_file_info(path, self.fs.info(path))
        except FileNotFoundError:
            return fs.FileInfo(path, fs.FileType.NotFound)

    def get_file_info_selector(self, selector: fs.FileSelector) -> list[fs.FileInfo]:
        """List a folder."""
        # pyarrow's own method takes a repository that is not there for an empty folder.
        self._info(selector.base_dir)
        with _in_words(selector.base_dir):
            found: list[fs.FileInfo] = super().get_file_info_selector(selector)
        return found

    def open_input_file(self, path: str) -> pa.NativeFile:
        """Open a file for random access."""
        if self._info(path).type != fs.FileType.File:
            raise FileNotFoundError(path)
        with _in_words(path):
            return pa.PythonFile(_HubFile(path, self.fs.open(path, mode="rb")), mode="r")

    def open_input_stream(self, path: str) -> pa.NativeFile:
        """Open a file for reading from its beginning."""
        return self.open_input_file(path)

    def _refuse(self, path: str, *_: Any) -> Any:
        raise UsageError(
            f"'hf://{path}' was named as a place to write. Expected a folder, or a bucket such as "
            "s3://bucket/folder: the hub is only read here. Write there, and then run 'hf upload "
            "user/model FOLDER'."
        )

    create_dir = delete_dir = delete_dir_contents = delete_file = _refuse
    move = copy_file = open_output_stream = open_append_stream = _refuse

    def delete_root_dir_contents(self) -> None:
        """Refuse to delete."""
        self._refuse("")


class _HubFile(io.RawIOBase):
    """A file of the hub, whose errors while it is read are in words, too."""

    def __init__(self, path: str, file: Any) -> None:
        super().__init__()
        self._path, self._file = path, file

    def _call(self, work: Callable[..., T], *given: Any) -> T:
        with _in_words(self._path):
            return work(*given)

    def readable(self) -> bool:
        """Tell that it can be read."""
        return True

    def seekable(self) -> bool:
        """Tell that any place can be read."""
        return True

    def read(self, size: int | None = -1) -> bytes:
        """Read up to `size` bytes; all that follow for -1."""
        content: bytes = self._call(self._file.read, -1 if size is None else size)
        return content

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Move to an offset, and return it from the beginning."""
        return int(self._file.seek(offset, whence))

    def tell(self) -> int:
        """Return the offset of the next byte."""
        return int(self._file.tell())

    def close(self) -> None:
        """Close the file."""
        if not self.closed:
            self._file.close()
        super().close()
