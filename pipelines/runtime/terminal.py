"""Write to standard output and standard error, whatever their encoding, even closed or unread."""

from __future__ import annotations

import codecs
import io
import os
import select
import sys
from typing import TextIO

from rich.console import Console as RichConsole

# Substitutes for characters that an encoding lacks; all others are written as escapes.
_PLAIN = {"−": "-", "–": "-", "…": "...", "±": "+-", "\u202f": " ", "\u00a0": " "}


_WIDTH = 80


def _plain(error: UnicodeError) -> tuple[str, int]:
    """Replace characters that an encoding lacks by characters that it has."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    found = error.object[error.start : error.end]
    plain = "".join(_PLAIN.get(each, each) for each in found)
    return plain.encode("ascii", "backslashreplace").decode(), error.end


def prepare_streams() -> None:
    """Make standard output and standard error accept every character, and open them if closed."""
    for descriptor in (0, 1, 2):
        try:
            os.fstat(descriptor)
        except OSError:
            # The system hands out the lowest free descriptor, which is this one. Left free, a file
            # of the run would get it, and then receive all that is printed.
            os.open(os.devnull, os.O_RDWR)
    codecs.register_error("valence.plain", _plain)
    sys.stdout = _stream(sys.stdout, 1)
    sys.stderr = _stream(sys.stderr, 2)


def _stream(stream: TextIO | None, descriptor: int) -> TextIO:
    if stream is None:
        stream = open(descriptor, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
    if isinstance(stream, io.TextIOWrapper):
        stream.reconfigure(errors="valence.plain")
    return stream


class PlainConsole(RichConsole):
    """Writes text unchanged: without markup or emoji; only the terminal breaks lines."""

    def __init__(self, *, stderr: bool = False) -> None:
        super().__init__(stderr=stderr, highlight=False, markup=False, emoji=False, soft_wrap=True)
        if self.width < 1:
            # Rich writes nothing if the environment sets COLUMNS=0.
            self.width = _WIDTH

    def on_broken_pipe(self) -> None:
        """Raise the error of a closed pipe, so that the program handles it; Rich would exit."""
        raise BrokenPipeError


def read_no_more(stream: TextIO) -> bool:
    """Say whether a stream has lost its reader, for example after `| head`."""
    try:
        poll = select.poll()
        poll.register(stream.fileno(), 0)
        return any(found & select.POLLERR for _, found in poll.poll(0))
    except (OSError, ValueError):
        return False


def leave_quietly(stream: TextIO) -> None:
    """Flush a stream; if that fails, keep Python from reporting its own last attempt."""
    try:
        stream.flush()
    except (OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
