"""Provide consoles whose output nobody sees."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console as RichConsole

from pipelines.runtime.console import Bar, Console


def quiet() -> Console:
    """Return a console on a terminal in memory."""
    return Console(RichConsole(file=io.StringIO(), force_terminal=True))


class RecordedConsole(Console):
    """A console that keeps its lines and has no terminal."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def say(self, text: str) -> None:
        self.lines.append(text)

    @contextmanager
    def bar(self, title: str, total: float | None = None) -> Iterator[Bar]:
        yield Bar(self, title, total, None, None)
