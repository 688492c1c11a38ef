"""Reports that nobody sees."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console as RichConsole

from pipelines.runtime.console import Bar, Console


def quiet() -> Console:
    """A console on a terminal of its own."""
    return Console(RichConsole(file=io.StringIO(), force_terminal=True))


class Told(Console):
    """Remembers what was said, as where there is no terminal."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def say(self, text: str) -> None:
        self.lines.append(text)

    @contextmanager
    def bar(self, title: str, total: float | None = None) -> Iterator[Bar]:
        yield Bar(self, title, total, None, None)
