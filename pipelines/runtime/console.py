"""Progress on standard error: live bars on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console as RichConsole
from rich.progress import BarColumn, Progress, Task, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Column
from rich.text import Text

from pipelines.runtime.terminal import PlainConsole
from valence.storage.filenames import printable

_PLAIN_SECONDS = 10.0


@contextmanager
def every(seconds: float, look: Callable[[], None]) -> Iterator[None]:
    """Call `look` again and again, in a thread of its own, while the block is at work."""
    over = threading.Event()

    def run() -> None:
        while not over.wait(seconds):
            look()

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


class _NoteColumn(TextColumn):
    """A note on one line, cut where it is long; what is said on lines of its own never is."""

    def render(self, task: Task) -> Text:
        """Give way to the columns beside it."""
        text = super().render(task)
        text.no_wrap, text.overflow = True, "ellipsis"
        return text


class Console:
    """Tells what a stage is doing."""

    def __init__(self, console: RichConsole | None = None) -> None:
        self._console = console or PlainConsole(stderr=True)
        self._live = self._console.is_terminal

    def say(self, text: str) -> None:
        """One line, now."""
        if self._live:
            self._console.print(printable(text))
        else:
            print(printable(text), file=sys.stderr, flush=True)

    @contextmanager
    def bar(self, title: str, total: float | None = None) -> Iterator[Bar]:
        """A piece of work of a known or unknown total; a line at its beginning where plain."""
        if not self._live:
            yield Bar(self, title, total, None, None)
            return
        columns = (
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            _NoteColumn("{task.fields[note]}", markup=False, table_column=Column()),
            TimeElapsedColumn(),
        )
        with Progress(*columns, console=self._console) as progress:
            task = progress.add_task(title, total=total, note="")
            yield Bar(self, title, total, progress, task)


class Bar:
    """How far a piece of work has come."""

    def __init__(
        self,
        console: Console,
        title: str,
        total: float | None,
        progress: Progress | None,
        task: TaskID | None,
    ) -> None:
        self._console, self._title, self._total = console, title, total
        self._progress, self._task = progress, task
        self._done = 0.0
        self._said = time.monotonic()

    def advance(self, amount: float, note: str = "") -> None:
        """Count `amount` more as done; `note` says what is worth knowing now."""
        self._done += amount
        if self._progress is not None and self._task is not None:
            self._progress.update(self._task, completed=self._done, note=printable(note))
            return
        now = time.monotonic()
        finished = self._total is not None and self._done >= self._total
        if finished or now - self._said >= _PLAIN_SECONDS:
            self._said = now
            of = "" if self._total is None else f"/{self._total:g}"
            self._console.say(f"{self._title}: {self._done:g}{of} {note}".rstrip())
