"""Show progress on standard error: live bars on a terminal, plain lines elsewhere."""

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
    """Call `look` every so many seconds, in a thread of its own, while the block runs."""
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
    """A column for a note, which is cut to one line; other lines are never cut."""

    def render(self, task: Task) -> Text:
        """Render the note so that it leaves room for the columns beside it."""
        text = super().render(task)
        text.no_wrap, text.overflow = True, "ellipsis"
        return text


class Console:
    """The output for the progress of a stage."""

    def __init__(self, console: RichConsole | None = None) -> None:
        self._console = console or PlainConsole(stderr=True)
        self._live = self._console.is_terminal

    def say(self, text: str) -> None:
        """Print one line now."""
        if self._live:
            self._console.print(printable(text))
        else:
            print(printable(text), file=sys.stderr, flush=True)

    @contextmanager
    def bar(self, title: str, total: float | None = None) -> Iterator[Bar]:
        """Show a bar for a piece of work whose total may be unknown; elsewhere, plain lines."""
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
    """The progress of one piece of work."""

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
        """Count `amount` more as done; `note` is shown beside the count."""
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
