"""Stand in for figures where a test is about something else: drawing takes most of a report."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from unittest.mock import patch

from valence.figures.drawing import Drawing

_SVG = '<svg viewBox="0 0 9 9"/>'


@contextmanager
def undrawn() -> Iterator[None]:
    """Let every drawing give its words instead of its pixels."""
    with (
        patch.object(Drawing, "png", lambda drawing, *_: f"{drawing.name}: {drawing.alt}".encode()),
        patch.object(Drawing, "svg", lambda *_: _SVG),
    ):
        yield
