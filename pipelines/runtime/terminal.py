"""Standard output and standard error as they are found: any encoding, closed, or read no more."""

from __future__ import annotations

import codecs
import io
import os
import select
import sys
from typing import TextIO

from rich.console import Console as RichConsole

# What is written of the characters that an encoding lacks; others are written as escapes.
_PLAIN = {"−": "-", "–": "-", "…": "...", "±": "+-", "\u202f": " ", "\u00a0": " "}


_WIDTH = 80


def _plain(error: UnicodeError) -> tuple[str, int]:
    """Write characters that an encoding lacks in those that it has."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    found = error.object[error.start : error.end]
    plain = "".join(_PLAIN.get(each, each) for each in found)
    return plain.encode("ascii", "backslashreplace").decode(), error.end


def prepare_streams() -> None:
    """Let standard output and standard error take every character, and be there where closed."""
    for descriptor in (0, 1, 2):
        try:
            os.fstat(descriptor)
        except OSError:
            # The lowest free one is taken, which is this one; else a file of the run would get it,
            # and what is printed with it.
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
    """Writes text as it is: no markup, no emoji, no line broken but by the terminal itself."""

    def __init__(self, *, stderr: bool = False) -> None:
        super().__init__(stderr=stderr, highlight=False, markup=False, emoji=False, soft_wrap=True)
        if self.width < 1:
            # Rich writes nothing where the environment says COLUMNS=0.
            self.width = _WIDTH

    def on_broken_pipe(self) -> None:
        """Leave a pipe that nobody reads to the program, where Rich would end it."""
        raise BrokenPipeError


def read_no_more(stream: TextIO) -> bool:
    """Say whether nobody is left to read what is written to a stream, such as after `| head`."""
    try:
        poll = select.poll()
        poll.register(stream.fileno(), 0)
        return any(found & select.POLLERR for _, found in poll.poll(0))
    except (OSError, ValueError):
        return False


def leave_quietly(stream: TextIO) -> None:
    """Write what is left, and where that cannot be, let Python's own last attempt say nothing."""
    try:
        stream.flush()
    except (OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
