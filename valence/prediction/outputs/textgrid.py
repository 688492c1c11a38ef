"""Render a prediction as a TextGrid for Praat.

The form is described on the page "TextGrid file formats" of Praat's manual. The long text form is
written, in which every program that reads TextGrids begins.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from valence.prediction.outputs.predicted import Predicted
from valence.prediction.outputs.tiers import Interval, end_of, tiers_of


def render(predicted: Predicted) -> bytes:
    """Write the tiers of a prediction as a TextGrid, which ends with the last segment."""
    tiers, end = tiers_of(predicted), end_of(predicted.timeline)
    lines = [
        'File type = "ooTextFile"',
        'Object class = "TextGrid"',
        "",
        *_range(0, end),
        "tiers? <exists>",
        f"size = {len(tiers)}",
        "item []:",
    ]
    for number, tier in enumerate(tiers, 1):
        intervals = list(_filled(tier.intervals, end))
        lines += [
            f"    item [{number}]:",
            '        class = "IntervalTier"',
            f"        name = {_quoted(tier.name)}",
            *(f"        {line}" for line in _range(0, end)),
            f"        intervals: size = {len(intervals)}",
        ]
        for place, interval in enumerate(intervals, 1):
            lines += [
                f"        intervals [{place}]:",
                *(f"            {line}" for line in _range(interval.start, interval.end)),
                f"            text = {_quoted(interval.text)}",
            ]
    return "".join(f"{line}\n" for line in lines).encode()


def _filled(intervals: Sequence[Interval], end: int) -> Iterator[Interval]:
    """Yield intervals without gaps from 0 to `end`; Praat knows a gap as an empty text."""
    at = 0
    for interval in intervals:
        if interval.start > at:
            yield Interval(at, interval.start, "")
        yield interval
        at = interval.end
    if at < end:
        yield Interval(at, end, "")


def _range(start: int, end: int) -> tuple[str, str]:
    return f"xmin = {_seconds(start)}", f"xmax = {_seconds(end)}"


def _seconds(ms: int) -> str:
    """Write milliseconds as seconds without needless zeros.

    >>> _seconds(0), _seconds(1500), _seconds(12000)
    ('0', '1.5', '12')
    """
    return f"{ms / 1000:.3f}".rstrip("0").rstrip(".")


def _quoted(text: str) -> str:
    """Put text in quotation marks, and double those within.

    >>> print(_quoted('a "b" c'))
    "a ""b"" c"
    """
    return '"' + text.replace('"', '""') + '"'
