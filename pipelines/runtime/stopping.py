"""End on a signal: Ctrl-C, a scheduler's SIGTERM, and the SIGHUP of a terminal that is closed.

The first signal raises `Stopped` in the main thread, so that the running work cleans up. A second
signal ends the process at once, and so does the end of the grace time.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType
from typing import Any

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

# Time to clean up. Schedulers, for example Kubernetes, kill after 30 s.
_GRACE_SECONDS = 25.0
# `timeout`, for example, signals the process and also its group: both count as one signal.
_SAME_SECONDS = 1.0

_SHOW_CURSOR = "\x1b[?25h"


class Stopped(KeyboardInterrupt):
    """The exception that a signal raises in the main thread to end the program."""


def exit_status(signum: int) -> int:
    """Return the exit status that shells expect: 130 for Ctrl-C, 143 for SIGTERM, 129 for SIGHUP.

    >>> exit_status(signal.SIGTERM)
    143
    """
    return 128 + signum


def in_words(signum: int) -> str:
    """Say how the command ended.

    >>> in_words(signal.SIGTERM)
    'Stopped (SIGTERM). What is finished is kept; the same command goes on from there.'
    """
    name = "" if signum == signal.SIGINT else f" ({signal.Signals(signum).name})"
    return f"Stopped{name}. What is finished is kept; the same command goes on from there."


class Stopping:
    """Turns signals into `Stopped` for the length of a `with` block, in the main thread.

    Attributes
    ----------
    signum
        The first signal; None until one arrives. The number stays set even if a library swallows
        the exception.
    """

    def __init__(self) -> None:
        self.signum: int | None = None
        self._before: dict[int, object] = {}
        # The interpreter writes a signal's number to this socket as soon as the signal arrives,
        # even while the main thread is busy. A second thread reads it.
        self._news, self._inlet = socket.socketpair()
        self._inlet.setblocking(False)
        self._guardian = threading.Thread(target=self._guard, daemon=True)

    def __enter__(self) -> Stopping:
        for signum in SIGNALS:
            handler = signal.getsignal(signum)
            # Keep ignoring ignored signals, set by nohup or a shell that starts background jobs.
            if handler != signal.SIG_IGN:
                self._before[signum] = handler
                signal.signal(signum, self._stop)
        signal.set_wakeup_fd(self._inlet.fileno(), warn_on_full_buffer=False)
        self._guardian.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        signal.set_wakeup_fd(-1)
        for signum, handler in self._before.items():
            signal.signal(signum, handler)  # type: ignore[arg-type]
        self._inlet.close()
        # The thread ends at once, since its socket is closed.
        self._guardian.join()
        self._news.close()

    def _stop(self, signum: int, frame: FrameType | None) -> None:
        if self.signum is None:
            self.signum = signum
            raise Stopped

    def _guard(self) -> None:
        """End the process on a second signal, or when the grace time is over."""
        first: int | None = None
        came = 0.0
        while True:
            left = None if first is None else max(0.0, came + _GRACE_SECONDS - time.monotonic())
            self._news.settimeout(left)
            try:
                numbers = self._news.recv(1)
            except TimeoutError:
                break
            if not numbers:
                return
            if numbers[0] not in self._before:
                continue
            if first is None:
                first, came = numbers[0], time.monotonic()
            elif time.monotonic() - came > _SAME_SECONDS:
                break
        assert first is not None, "only a signal sets a limit"
        _end_at_once(first)


def _end_at_once(signum: int) -> None:
    """End the process and its child processes, without any cleaning up."""
    with contextlib.suppress(OSError):
        cursor = _SHOW_CURSOR if os.isatty(2) else ""
        os.write(2, f"{cursor}valence: {in_words(signum)}\n".encode())
    # Ray starts processes that would stay for some time; psutil comes with Ray.
    psutil = sys.modules.get("psutil")
    if psutil is not None:
        for child in psutil.Process().children(recursive=True):
            with contextlib.suppress(psutil.Error):
                child.kill()
    os._exit(exit_status(signum))


@contextmanager
def undisturbed() -> Iterator[None]:
    """Delay signals until a block has ended, and keep libraries from taking over the handlers.

    A signal that came raises `Stopped` after the block. Use this for work that leaves processes
    behind if it is interrupted, for example the start of Ray. Without the program's own signal
    handlers, the block runs unprotected.
    """
    own = {signum for signum in SIGNALS if isinstance(_owner(signum), Stopping)}
    if not own or threading.current_thread() is not threading.main_thread():
        yield
        return
    handlers = {signum: signal.getsignal(signum) for signum in own}
    came: list[int] = []
    install = signal.signal

    def refuse(signum: int, handler: Any) -> Any:
        return signal.getsignal(signum) if signum in own else install(signum, handler)

    for signum in own:
        install(signum, lambda number, _: came.append(number))
    signal.signal = refuse  # type: ignore[assignment]
    try:
        yield
    finally:
        signal.signal = install
        for signum, handler in handlers.items():
            install(signum, handler)
    if came:
        # Sending the signal again would count as a second signal.
        _owner(came[0])._stop(came[0], None)


def _owner(signum: int) -> Any:
    return getattr(signal.getsignal(signum), "__self__", None)
