"""Processes that are killed at a step of what they do to a run's files, by the signal itself.

On a disk a step is a call to the system that makes, renames or removes something; Python's own
audit hook tells of each before it is made. On an object store it is a request that changes what
others see; the server kills the process that sent it, before it does what is asked.
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

# What a process loads before it is copied for each child: that is most of what a call would cost.
_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(["pytest", "tests.helpers.replacing"])

_CHANGES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
_ENDED_SECONDS = 120.0
_MOST_FIGURES = 2


@dataclass(frozen=True)
class Killed:
    """The process was killed at the step that was asked for."""


def in_child(
    work: Callable[..., Any],
    *arguments: Any,
    step: int | None = None,
    at: Location | KillingServer | None = None,
) -> Any:
    """Do `work` in a process of its own; returns what it gives, which can be pickled, or `Killed`.

    Parameters
    ----------
    work
        A function of a module, and its arguments.
    step
        Which of its changes kills the process, from 1; None kills it at none.
    at
        Where changes count: a folder on a disk, or an object store.
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
        kind, told = here.recv()
    except EOFError:
        kind, told = "killed", None
    finally:
        here.close()
    child.join(_ENDED_SECONDS)
    if kind == "killed":
        assert child.exitcode == -signal.SIGKILL, f"it ended with {child.exitcode}"
        return Killed()
    assert child.exitcode == 0
    if kind == "raised":
        raise told
    return told


def _child(
    there: Connection, root: str | None, step: int | None, work: Callable[..., Any], arguments: Any
) -> None:
    # A collection would touch, and so copy, all that was loaded before this process was copied.
    gc.disable()
    there.recv()
    if root is not None and step is not None:
        _die_at(step, root)
    try:
        there.send(("done", work(*arguments)))
    except Exception as error:
        there.send(("raised", error))


class _Steps:
    """Counts changes down to the one that is to kill."""

    def __init__(self, step: int) -> None:
        self._left, self._figures = step, 0

    def take(self, path: str) -> bool:
        """Count a change of `path`; returns whether it is the one."""
        if "/figures/" in path:
            # A dozen files that are written one after the other: two kills among them will do.
            self._figures += 1
            if self._figures > _MOST_FIGURES:
                return False
        self._left -= 1
        return self._left == 0


def _die_at(step: int, root: str) -> None:
    """Kill this process before its change number `step` of what stands under `root`."""
    steps = _Steps(step)

    def change(path: str) -> None:
        if path.startswith(f"{root}/") and steps.take(path):
            os.kill(os.getpid(), signal.SIGKILL)

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        match event, arguments:
            case "open", (str() | bytes() as path, _, int(flags)) if flags & _CHANGES:
                # A file that takes its place once it is whole does so when it is renamed.
                if not (place := _absolute(path)).endswith(".partial"):
                    change(place)
            case "os.remove" | "os.rmdir", (path, folder):
                # One that is not there is no change.
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
        """Arrow moves files without a word to Python."""

        def move(self, source: str, target: str) -> None:
            change(target)
            super().move(source, target)

    fs.LocalFileSystem = Counting


def _absolute(path: str | bytes | os.PathLike[str], folder: int = -1) -> str:
    """Where a path is that is given relative to a folder that is open, or to this process's."""
    place = Path(os.fsdecode(path))
    if folder >= 0:
        place = Path(f"/proc/self/fd/{folder}").readlink() / place
    return str(place.absolute())


class KillingServer:
    """An S3 server of this process that can kill whoever sends it a request."""

    def __init__(self) -> None:
        from moto.server import DomainDispatcherApplication, create_backend_app

        self._serve = DomainDispatcherApplication(create_backend_app)
        self._lock = threading.Lock()
        self._victim, self._steps = 0, _Steps(0)
        self._server = make_server("127.0.0.1", 0, self._answer, threaded=True)
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()
        self.endpoint = f"127.0.0.1:{self._server.server_port}"

    def arm(self, process: int | None, step: int | None) -> None:
        """Kill `process` at its change number `step`, or let it live."""
        with self._lock:
            self._victim, self._steps = process or 0, _Steps(step or 0)

    def stop(self) -> None:
        """End the server."""
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def _answer(self, request: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        with self._lock:
            if _changes(request) and self._steps.take(request["PATH_INFO"]):
                os.kill(self._victim, signal.SIGKILL)
                start_response("503 Service Unavailable", [])
                return []
        found: Iterable[bytes] = self._serve(request, start_response)
        return found


def _changes(request: dict[str, Any]) -> bool:
    """Whether a request changes what others see; a part of an upload does not until its end."""
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
    """A server for the block, with the bucket `shared`; any credentials do."""
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
