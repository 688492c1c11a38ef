"""Cut audio files into recordings, and bring traces from a file's time to a recording's."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np

from valence.errors import CorpusError
from valence.importing.declaration import PER_SECOND, Cut, Declaration
from valence.importing.readers.columns import NamedTable, read_named_table
from valence.importing.readers.identity import recording_id
from valence.importing.readers.trace import Trace
from valence.importing.sources.lookups import read_lookup
from valence.importing.sources.patterns import Tree, fill, first_matching
from valence.storage.filenames import bare, normal
from valence.storage.location import Location

_MOST_CHANNELS = 1024


@dataclass(frozen=True)
class Sound:
    """A stretch of an audio file.

    Attributes
    ----------
    file
        The audio file.
    start, end
        Seconds; None for the end of the file.
    channel
        The number of the channel, from 0; None for all channels.
    """

    file: Location
    start: float = 0.0
    end: float | None = None
    channel: int | None = None


@dataclass(frozen=True)
class Stretch:
    """A row of a table that cuts audio files.

    Attributes
    ----------
    start, end
        Seconds in the audio file; None for its end.
    channel
        The number of the channel, from 0; None for all channels.
    audio
        Name of the audio file without its ending, or None if the Id says it.
    """

    start: float
    end: float | None
    channel: int | None
    audio: str | None


def read_stretches(
    tree: Tree, declaration: Declaration, aside: list[str] | None = None
) -> dict[str, tuple[Stretch, ...]]:
    """Read the stretches of each recording, in the order of time.

    Parameters
    ----------
    tree
        The files of the source.
    declaration
        Its form.
    aside
        Gets a message for each row whose audio file has no known begin; the row is then left out.
        None if the first such row is an error.

    Raises
    ------
    CorpusError
        If no table is there, a row cannot be read, stretches of a recording overlap, or only the
        last one may lack its end and another does. The message names the line.
    """
    cut = declaration.cut
    assert cut is not None
    files = list(first_matching(tree, cut.file))
    if not files:
        raise CorpusError(
            f"'{tree.root}' has no table {' or '.join(cut.file)}, which cuts its audio files into "
            "recordings. Expected one; restore it, or name its path in a declaration (cut.file)."
        )
    origin = None if cut.origin is None else read_lookup(tree, cut.origin)
    if cut.origin is not None and origin is None:
        raise CorpusError(
            f"'{tree.root}' has no table '{cut.origin.file}', which says when its audio files "
            "begin. Expected it beside the table of stretches; restore it."
        )
    found: dict[str, list[tuple[int, Stretch]]] = {}
    for file, _ in files:
        table = read_named_table(file, cut)
        for recording, line, stretch in _read(table, declaration, cut, origin, aside):
            found.setdefault(recording, []).append((line, stretch))
    for recording, rows in found.items():
        rows.sort(key=lambda row: row[1].start)
        _require_in_turn(tree.root, recording, rows)
        if len(rows) > 1 and cut.times == "recording":
            raise CorpusError(
                f"'{tree.root}': '{recording}' has {len(rows)} stretches, and its labels count "
                "time from its begin. Expected one stretch; declare cut.times = 'file' if labels "
                "count time from the begin of the audio file."
            )
    return {recording: tuple(stretch for _, stretch in rows) for recording, rows in found.items()}


def to_recording_time(trace: Trace, stretches: tuple[Stretch, ...]) -> Trace:
    """Bring a trace from the time of its audio file to the time of the recording.

    Samples whose middle lies in no stretch are left out; a sample is cut where its stretch ends.

    >>> times = np.arange(4.0)
    >>> trace = Trace("1", "valence", None, times, times + 1, times, (0, 3), None)
    >>> cut = (Stretch(0, 1, None, None), Stretch(3, 4, None, None))
    >>> to_recording_time(trace, cut).start.tolist()
    [0.0, 1.0]
    """
    if not np.isfinite(trace.end).any() and not trace.start.any():
        # A value of the whole recording is in no file's time.
        return trace
    starts, ends, values, offset = [], [], [], 0.0
    finite = np.where(np.isfinite(trace.end), trace.end, trace.start)
    middle = (trace.start + finite) / 2
    for stretch in stretches:
        last = math.inf if stretch.end is None else stretch.end
        inside = (middle >= stretch.start) & (middle < last)
        moved = offset - stretch.start
        starts.append(np.maximum(trace.start[inside], stretch.start) + moved)
        ends.append(np.minimum(trace.end[inside], last) + moved)
        values.append(trace.value[inside])
        offset += last - stretch.start
    return replace(
        trace,
        start=np.concatenate(starts),
        end=np.concatenate(ends),
        value=np.concatenate(values),
    )


def _read(
    table: NamedTable,
    declaration: Declaration,
    cut: Cut,
    origin: dict[str, str] | None,
    aside: list[str] | None,
) -> list[tuple[str, int, Stretch]]:
    factor = 1 / PER_SECOND[cut.unit]
    start = table.numbers(cut.start, expected="a time") if cut.start else [0.0] * len(table.rows)
    end = table.numbers(cut.end, expected="a time") if cut.end else [math.nan] * len(table.rows)
    channels: list[float] = (
        table.numbers(cut.channel, expected="the number of a channel, from 0")
        if cut.channel
        else [math.nan] * len(table.rows)
    )
    columns = {name: place for place, name in enumerate(table.names)}
    read = []
    for (line, cells), begin, finish, channel in zip(table.rows, start, end, channels, strict=True):
        place = f"'{table.table.file}', line {line}"
        own = {name: table.text(cells, column) for name, column in columns.items()}
        recording = recording_id(fill(cut.id, own), table.table.file, line)
        zero = 0.0
        if cut.origin is not None and origin is not None:
            key = fill(cut.origin.key, declaration.parts_of(recording)) or ""
            try:
                zero = _number(place, key, origin.get(normal(bare(key))))
            except CorpusError as error:
                if aside is None:
                    raise
                aside.append(str(error))
                continue
        begin = (begin - zero) * factor
        last = None if math.isnan(finish) else (finish - zero) * factor
        # A rounded time may lie a little before the begin of the audio file.
        if math.isnan(begin) or begin < -0.01 or (last is not None and last <= begin):
            raise CorpusError(
                f"{place}: '{recording}' is cut from {begin:g} s to {last} s of its audio file. "
                "Expected a begin from 0 on and an end after it; correct that line."
            )
        if not math.isnan(channel) and not (channel.is_integer() and 0 <= channel < _MOST_CHANNELS):
            raise CorpusError(
                f"{place}: the channel is {channel:g}. Expected a whole number from 0 on; correct "
                "that line."
            )
        chosen = None if math.isnan(channel) else int(channel)
        audio = None
        if cut.audio:
            audio = normal(bare(table.text(cells, table.column(cut.audio))))
        read.append((recording, line, Stretch(max(0.0, begin), last, chosen, audio)))
    return read


def _number(place: str, key: str, text: str | None) -> float:
    try:
        return float(text or "")
    except ValueError:
        raise CorpusError(
            f"{place}: the begin of the audio file '{key}' is '{text or 'not named'}'. Expected a "
            "time in the table that says when audio files begin; correct one of the tables."
        ) from None


def _require_in_turn(root: Location, recording: str, rows: list[tuple[int, Stretch]]) -> None:
    for (line, before), (later, after) in pairwise(rows):
        if before.end is None or (before.end > after.start + 1e-6 and before.audio == after.audio):
            raise CorpusError(
                f"'{root}': '{recording}' is cut in line {line} up to {before.end or 'the end'} s, "
                f"and in line {later} from {after.start:g} s. Expected stretches one after the "
                "other; correct one of the lines."
            )
