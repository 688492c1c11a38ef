"""Kill processes by SIGKILL at a chosen step of their changes to a run's files.

On a disk a step is a system call that makes, renames or removes a file or folder. Python's audit
hook reports each call before it is made. On an object store a step is a request that changes what
other processes see. The server kills the sender before it answers the request.
"""

from __future__ import annotations

import gc
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from pyarrow import fs
from werkzeug.serving import make_server

from valence.storage.location import Location

# The fork server loads these modules once. Children are its copies, so they start without the
# imports, which would take most of their time. The product itself loads the last ones late.
_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(
    [
        *("pytest", "tests.helpers.replacing"),
        *("librosa.display", "numba.core.decorators", "skops.io", "torch.utils.data"),
        *("sklearn.decomposition", "sklearn.ensemble", "sklearn.feature_selection"),
        *("sklearn.linear_model", "sklearn.pipeline", "sklearn.preprocessing", "sklearn.svm"),
    ]
)

_CHANGES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
_ENDED_SECONDS = 120.0
_MOST_FIGURES = 2


@dataclass(frozen=True)
class Killed:
    """The result of a process that was killed at the chosen step."""


def in_child(
    work: Callable[..., Any],
    *arguments: Any,
    step: int | None = None,
    at: Location | KillingServer | None = None,
) -> Any:
    """Call `work` in a separate process; return its result, which must be picklable, or `Killed`.

    Parameters
    ----------
    work
        A function at the top level of a module, followed by its arguments.
    step
        Number of the change at which the process is killed, from 1; None never kills it.
    at
        Place whose changes count: a folder on a disk, or an object store.
    """
    here, there = _CONTEXT.Pipe()
    folder = at.path if isinstance(at, Location) else None
    child = _CONTEXT.Process(target=_child, args=(there, folder, step, work, arguments))
    child.start()
    there.close()
    if isinstance(at, KillingServer):
        at.arm(child.pid, step)
    here.send("go")
    try:
        kind, answer = here.recv()
    except EOFError:
        kind, answer = "killed", None
    finally:
        here.close()
        if isinstance(at, KillingServer):
            at.arm(None, None)
    child.join(_ENDED_SECONDS)
    if kind == "killed":
        assert child.exitcode == -signal.SIGKILL, f"it ended with {child.exitcode}"
        return Killed()
    assert child.exitcode == 0
    if kind == "raised":
        raise answer
    return answer


def _child(
    there: Connection, root: str | None, step: int | None, work: Callable[..., Any], arguments: Any
) -> None:
    # Garbage collection would write to, and so copy, the memory shared with the fork server.
    gc.disable()
    there.recv()
    if root is not None and step is not None:
        _die_at(step, root)
    try:
        there.send(("done", work(*arguments)))
    except Exception as error:
        there.send(("raised", error))


class _Steps:
    """A countdown of changes to the one that kills the process."""

    def __init__(self, step: int) -> None:
        self._left, self._figures = step, 0

    def take(self, path: str) -> bool:
        """Count a change of `path`, and return whether it is the one that kills."""
        if "/figures/" in path:
            # A dozen figures are written one after the other; two kills among them suffice.
            self._figures += 1
            if self._figures > _MOST_FIGURES:
                return False
        self._left -= 1
        return self._left == 0


def _die_at(step: int, root: str) -> None:
    """Kill this process before its change number `step` under `root`."""
    steps = _Steps(step)

    def change(path: str) -> None:
        if path.startswith(f"{root}/") and steps.take(path):
            os.kill(os.getpid(), signal.SIGKILL)

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        match event, arguments:
            case "open", (str() | bytes() as path, _, int(flags)) if flags & _CHANGES:
                # A partial file becomes visible when it is renamed, and that step is counted.
                if not (place := _absolute(path)).endswith(".partial"):
                    change(place)
            case "os.remove" | "os.rmdir", (path, folder):
                # Removing a missing file changes nothing.
                if os.path.lexists(place := _absolute(path, folder)):
                    change(place)
            case "os.mkdir", (path, _, folder):
                if not os.path.lexists(place := _absolute(path, folder)):
                    change(place)
            case "os.rename", (_, path, _, folder):
                change(_absolute(path, folder))
            case _:
                pass

    sys.addaudithook(hook)

    class Counting(fs.LocalFileSystem):
        """Arrow's file system with counted moves, which Python's audit hook does not see."""

        def move(self, source: str, target: str) -> None:
            change(target)
            super().move(source, target)

    fs.LocalFileSystem = Counting


def _absolute(path: str | bytes | os.PathLike[str], folder: int = -1) -> str:
    """Make a path absolute that is relative to an open folder or to the working folder."""
    place = Path(os.fsdecode(path))
    if folder >= 0:
        place = Path(f"/proc/self/fd/{folder}").readlink() / place
    return str(place.absolute())


class KillingServer:
    """An S3 server in this process that can kill the sender of a request.

    Attributes
    ----------
    endpoint
        Host and port.
    methods
        Method of each request, in order.
    """

    def __init__(self) -> None:
        from moto.server import DomainDispatcherApplication, create_backend_app

        self._serve = DomainDispatcherApplication(create_backend_app)
        self._lock = threading.Lock()
        self._victim, self._steps = 0, _Steps(0)
        self.methods: list[str] = []
        self._server = make_server("127.0.0.1", 0, self._answer, threaded=True)
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()
        self.endpoint = f"127.0.0.1:{self._server.server_port}"

    def arm(self, process: int | None, step: int | None) -> None:
        """Kill `process` at its change number `step`; None never kills it."""
        with self._lock:
            self._victim, self._steps = process or 0, _Steps(step or 0)

    def stop(self) -> None:
        """Stop the server."""
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def _answer(self, request: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        with self._lock:
            self.methods.append(request["REQUEST_METHOD"])
            if _changes(request) and self._steps.take(request["PATH_INFO"]):
                os.kill(self._victim, signal.SIGKILL)
                start_response("503 Service Unavailable", [])
                return []
        found: Iterable[bytes] = self._serve(request, start_response)
        return found


def _changes(request: dict[str, Any]) -> bool:
    """Return whether a request changes what others see; parts of an upload do not."""
    query = request["QUERY_STRING"]
    match request["REQUEST_METHOD"]:
        case "DELETE":
            return True
        case "PUT":
            return "partNumber" not in query
        case "POST":
            return "uploads" not in query
    return False


@contextmanager
def killing_server() -> Iterator[KillingServer]:
    """Run a server with the bucket `shared` for the block; any credentials are accepted."""
    import boto3

    server = KillingServer()
    try:
        boto3.client(
            "s3",
            endpoint_url=f"http://{server.endpoint}",
            region_name="us-east-1",
            aws_access_key_id="key",
            aws_secret_access_key="secret",
        ).create_bucket(Bucket="shared")
        yield server
    finally:
        server.stop()
