"""Write a corpus in the MuSe layout from recordings and labels of another form.

`metadata/import.json` records where each file comes from. While a corpus is written, it says
`"complete": false`. The same import into the same folder writes again what has changed.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from valence.config import Target
from valence.corpus.annotations import STEP_MS
from valence.corpus.muse import subject_of
from valence.errors import AudioError, CorpusError
from valence.formatting import plural, sentence
from valence.importing.grid import SEGMENT_SECONDS
from valence.importing.record import checksum, require_free, require_own, write_record
from valence.importing.recordings import SourceRecording
from valence.importing.sounds import Length, Placing, ending_of, measure, place
from valence.importing.sources.stretches import Sound
from valence.storage.location import Location

_DIGITS = 6


@dataclass(frozen=True)
class Labels:
    """The labels of one target of a recording, on the segment grid.

    Attributes
    ----------
    value
        float32 `[n]` in [-1, 1]; NaN where there is no label. Segment i spans
        [0.5 i, 0.5 (i + 1)) seconds of the recording. An array that is shorter than the recording
        is continued with NaN; what lies behind the recording's end is dropped, with a remark.
    files
        The files that the labels come from.
    remarks
        Oddities that were accepted on the way.
    """

    value: NDArray[np.float32]
    files: tuple[Location, ...] = ()
    remarks: tuple[str, ...] = ()


def segments_of(seconds: float) -> int:
    """Count the whole segments of a recording.

    >>> segments_of(1.4999999), segments_of(1.2)
    (3, 2)
    """
    return int(np.floor(round(seconds / SEGMENT_SECONDS, _DIGITS)))


def write_corpus(
    out: Location,
    recordings: Mapping[str, SourceRecording],
    labels: Mapping[str, Mapping[Target, Labels]],
    *,
    placing: Placing = "link",
    record: Mapping[str, Any],
    lengths: Mapping[str, Length] | None = None,
    set_aside: Sequence[str] = (),
    advance: Callable[[], object] = lambda: None,
) -> list[str]:
    """Write audio, labels, partition, subjects and the record of origin.

    Parameters
    ----------
    out
        The folder of the corpus: absent, empty, or written before with an equal `record`.
    recordings
        The recordings by Id (`find_recordings`).
    labels
        The labels of each recording by target; a recording without any label is set aside.
    placing
        `link` sets links to audio files that are taken whole, if both places are folders of this
        machine; else they are copied. Files that are cut are always written.
    record
        What `metadata/import.json` says beside the origin of every file: command, source,
        declaration, settings.
    lengths
        Lengths that are known already, by Id.
    set_aside
        What was set aside before, kept in the record.
    advance
        Is called for each recording.

    Returns
    -------
    The remarks on recordings and what was set aside, also kept in the record.

    Raises
    ------
    OutputError
        If `out` holds something else, or a file that was changed since it was written.
    CorpusError
        If no recording can be used.
    """
    before = require_own(out, record)
    aside, remarks = list(set_aside), []
    entries: dict[str, dict[str, Any]] = {}
    written: dict[str, str] = {}
    used: dict[str, SourceRecording] = {}
    planned = list(_planned(recordings, labels))
    require_free(out, before, planned, command=record["command"])
    # If this import is killed, the next one knows which files may be its own.
    may_be_ours = dict.fromkeys((*before, *planned), "")
    write_record(out, record, {}, may_be_ours, aside, [], complete=False)
    for name in sorted(recordings):
        advance()
        recording, length = recordings[name], (lengths or {}).get(name)
        try:
            entry = _write_recording(out, recording, labels.get(name, {}), length, placing, written)
        except AudioError as error:
            aside.append(f"'{name}': {error}")
            continue
        used[name], entries[name] = recording, entry
        remarks += [f"'{name}' {remark}" for remark in dict.fromkeys(entry["remarks"])]
    if not used:
        raise CorpusError(
            f"None of {len(recordings)} recordings can be used. The first reason: "
            f"{sentence((aside or ['no recording has labels'])[0])} Correct what it names, and run "
            f"'valence {record['command']}' again."
        )
    for path, text in _tables(used).items():
        _write_text(out, path, text, written)
    for path in before.keys() - written.keys():
        (out / path).delete()
    remarks += [*_about_suffixes(used), *_about_shared_sound(used)]
    write_record(out, record, entries, written, aside, remarks, complete=True)
    return [*aside, *remarks]


def _write_recording(
    out: Location,
    recording: SourceRecording,
    labels: Mapping[Target, Labels],
    length: Length | None,
    placing: Placing,
    written: dict[str, str],
) -> dict[str, Any]:
    """Write the sound and the labels of a recording, and describe their origin.

    Raises
    ------
    AudioError
        If the sound cannot be read, has no whole segment, or no segment has a label.
    """
    length = length or measure(recording.sounds)
    segments = segments_of(length.total)
    if segments == 0:
        raise AudioError(
            f"it lasts {length.total:g} s. Expected {SEGMENT_SECONDS:g} s at least, the length of "
            "a segment; leave it out."
        )
    known = {
        target: each for target, each in labels.items() if np.isfinite(each.value[:segments]).any()
    }
    if not known:
        raise AudioError(
            f"it has no label in {segments} segments ({length.total:g} s). Expected one at least; "
            "it takes no part until there is one."
        )
    placed = place(recording.sounds, out / _audio_path(recording), placing)
    written[_audio_path(recording)] = ""
    remarks = list(length.remarks)
    for target, each in known.items():
        value, about = _fit(each, segments, target)
        _write_text(out, f"label_segments/{target}/{recording.id}.csv", _text(value), written)
        remarks += [*each.remarks, *about]
    return _entry(recording, known, placed, segments, remarks)


def _fit(labels: Labels, segments: int, target: Target) -> tuple[NDArray[np.float32], list[str]]:
    """Bring labels to the recording's number of segments."""
    value = np.full(segments, np.nan, np.float32)
    shared = min(segments, len(labels.value))
    value[:shared] = labels.value[:shared]
    behind = np.isfinite(labels.value[segments:])
    if not behind.any():
        return value, []
    # One label may stand for the part of a segment at the end of the recording.
    seconds = (int(np.flatnonzero(behind)[-1]) + 1) * SEGMENT_SECONDS
    if seconds <= 2 * SEGMENT_SECONDS:
        return value, []
    return value, [f"has {target} labels for {seconds:g} s behind its end, which are dropped"]


def _text(value: NDArray[np.float32]) -> str:
    shown = ["" if np.isnan(each) else np.format_float_positional(each, trim="0") for each in value]
    rows = [f"{place * STEP_MS},{each}\n" for place, each in enumerate(shown)]
    return "timestamp,value\n" + "".join(rows)


def _entry(
    recording: SourceRecording,
    labels: Mapping[Target, Labels],
    placed: str,
    segments: int,
    remarks: Sequence[str],
) -> dict[str, Any]:
    """Describe the origin of a recording's files."""
    return {
        "audio": {
            "placed": placed,
            "from": [
                {
                    "file": sound.file.uri,
                    "start": sound.start,
                    "end": sound.end,
                    "channel": sound.channel,
                }
                for sound in recording.sounds
            ],
        },
        "segments": segments,
        "labels": {
            target: {
                "from": [file.uri for file in each.files],
                "labelled": int(np.isfinite(each.value[:segments]).sum()),
            }
            for target, each in labels.items()
        },
        "subject": recording.subject,
        "partition": recording.partition,
        "remarks": list(remarks),
    }


def _planned(
    recordings: Mapping[str, SourceRecording], labels: Mapping[str, Mapping[Target, Labels]]
) -> Iterator[str]:
    """List the files that may be written."""
    for name, recording in recordings.items():
        yield _audio_path(recording)
        for target in labels.get(name, {}):
            yield f"label_segments/{target}/{name}.csv"
    yield from _tables(recordings)


def _audio_path(recording: SourceRecording) -> str:
    return f"raw_data/audio/{recording.id}{ending_of(recording.sounds)}"


def _tables(recordings: Mapping[str, SourceRecording]) -> dict[str, str]:
    """Make the texts of the tables for the partition and the subjects, as far as they are known."""
    columns: dict[str, tuple[str, dict[str, str | None]]] = {
        "metadata/partition.csv": ("Proposal", {n: r.partition for n, r in recordings.items()}),
        "metadata/subjects.csv": ("subject", {n: r.subject for n, r in recordings.items()}),
    }
    tables = {}
    for path, (title, values) in columns.items():
        rows = [(name, value) for name, value in values.items() if value is not None]
        if rows:
            text = io.StringIO()
            csv.writer(text, lineterminator="\n").writerows([("Id", title), *rows])
            tables[path] = text.getvalue()
    return tables


def _about_suffixes(used: Mapping[str, SourceRecording]) -> list[str]:
    """Remark on Ids whose endings decide how a corpus is divided."""
    ending = [name for name in used if subject_of(name) != name]
    if not ending:
        return []
    verb = "ends" if len(ending) == 1 else "end"
    return [
        f"{plural(len(ending), 'Id')} ('{ending[0]}' first) {verb} in _train, _devel or _test, "
        "which divides "
        "the corpus as in the study; --set split.protocol=partition follows metadata/partition.csv"
    ]


def _about_shared_sound(used: Mapping[str, SourceRecording]) -> list[str]:
    """Remark on recordings with the same sound, which must not be divided by a split."""
    sharing: dict[tuple[Sound, ...], list[str]] = {}
    for name, recording in used.items():
        sharing.setdefault(recording.sounds, []).append(name)
    shared = [names for names in sharing.values() if len(names) > 1]
    if not shared:
        return []
    return [
        f"{sum(map(len, shared))} recordings share their sound with another one "
        f"('{shared[0][0]}' and '{shared[0][1]}' first): keep them in one partition, or a model is "
        "tested on sound that it was trained on"
    ]


def _write_text(out: Location, path: str, text: str, written: dict[str, str]) -> None:
    written[path] = checksum(text.encode())
    (out / path).write_text(text)
