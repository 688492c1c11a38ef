"""Write a corpus in the MuSe layout from recordings and labels of another form.

`metadata/import.json` records where each file comes from. While a corpus is written, it says
`"complete": false`. The same import into the same folder writes again what has changed.
"""

from __future__ import annotations

import csv
import hashlib
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from valence.config import Target
from valence.corpus.annotations import STEP_MS
from valence.corpus.muse import subject_of
from valence.errors import AudioError, CorpusError, OutputError
from valence.importing.grid import SEGMENT_SECONDS
from valence.importing.recordings import SourceRecording
from valence.importing.sounds import Length, Placing, measure, place
from valence.storage.location import Location

RECORD = "metadata/import.json"
_FORMAT = 1
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
    before = _require_own(out, record)
    aside, remarks = list(set_aside), []
    entries: dict[str, dict[str, Any]] = {}
    written: dict[str, str] = {}
    used: dict[str, SourceRecording] = {}
    _write_record(out, record, {}, written | before, aside, [], complete=False)
    for name in sorted(recordings):
        recording, of = recordings[name], labels.get(name, {})
        known = {target: each for target, each in of.items() if np.isfinite(each.value).any()}
        try:
            length = (lengths or {}).get(name) or measure(recording.sounds)
            segments = segments_of(length.total)
            if not known or segments == 0:
                lacks = "no label" if segments else f"no whole segment in {length.total:g} s"
                aside.append(f"'{name}' has {lacks}, so it takes no part")
                continue
            placed = place(recording.sounds, out / "raw_data/audio", name, placing)
        except AudioError as error:
            aside.append(f"'{name}': {error}")
            continue
        own = list(length.remarks)
        for target, each in known.items():
            path = f"label_segments/{target}/{name}.csv"
            value, about = _fit(each, segments, target)
            _write_text(out, path, _labels_text(value), before, written)
            own += [*each.remarks, *about]
        used[name] = recording
        entries[name] = _entry(recording, known, placed, segments, own)
        remarks += [f"'{name}' {remark}" for remark in dict.fromkeys(own)]
    if not used:
        raise CorpusError(
            f"None of {len(recordings)} recordings can be used. The first reason: "
            f"{(aside or ['no recording has labels'])[0]}. Correct what it names, and import again."
        )
    _write_tables(out, used, before, written)
    _remove_stale(out, before, written, set(entries))
    remarks += _about_suffixes(used)
    _write_record(out, record, entries, written, aside, remarks, complete=True)
    return [*aside, *remarks]


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


def _labels_text(value: NDArray[np.float32]) -> str:
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


def _write_tables(
    out: Location,
    used: Mapping[str, SourceRecording],
    before: Mapping[str, str],
    written: dict[str, str],
) -> None:
    """Write the partition and the subjects, as far as they are known."""
    columns: dict[str, tuple[str, dict[str, str | None]]] = {
        "metadata/partition.csv": ("Proposal", {n: r.partition for n, r in used.items()}),
        "metadata/subjects.csv": ("subject", {n: r.subject for n, r in used.items()}),
    }
    for path, (title, values) in columns.items():
        rows = [(name, value) for name, value in values.items() if value is not None]
        if rows:
            text = io.StringIO()
            csv.writer(text, lineterminator="\n").writerows([("Id", title), *rows])
            _write_text(out, path, text.getvalue(), before, written)


def _about_suffixes(used: Mapping[str, SourceRecording]) -> list[str]:
    """Remark on Ids whose endings decide how a corpus is divided."""
    ending = [name for name in used if subject_of(name) != name]
    if not ending:
        return []
    return [
        f"{len(ending)} Ids ('{ending[0]}' first) end in _train, _devel or _test, which divides "
        "the corpus as in the study; --set split.protocol=partition follows metadata/partition.csv"
    ]


def _write_text(
    out: Location, path: str, text: str, before: Mapping[str, str], written: dict[str, str]
) -> None:
    """Write a text unless it is there already; a text that somebody changed is an error."""
    file = out / path
    if path in before and file.exists():
        found = _checksum(file.read_bytes())
        if found == _checksum(text.encode()):
            written[path] = found
            return
        if before[path] and found != before[path]:
            raise OutputError(
                f"'{file}' was changed since it was imported. Expected it unchanged, because the "
                "import would overwrite it; move it away, or import to another folder."
            )
    # The checksum is recorded before the file is written: a file of an import that was killed is
    # then known as the import's own.
    written[path] = _checksum(text.encode())
    file.write_text(text)


def _checksum(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _require_own(out: Location, record: Mapping[str, Any]) -> dict[str, str]:
    """Return the texts that an earlier import wrote here, with their checksums.

    An import that did not finish recorded no checksums, so its files have "" in their place.
    """
    file = out / RECORD
    if not file.exists():
        if out.exists() and (not out.is_folder() or out.everything()):
            raise OutputError(
                f"'{out}' is not empty, and no import made it. Expected a new or empty folder; "
                "name another one (--out)."
            )
        return {}
    try:
        earlier = file.read_json()
        same = all(earlier.get(key) == record[key] for key in record)
    except (OSError, ValueError, AttributeError):
        earlier, same = {}, False
    if not same:
        raise OutputError(
            f"'{out}' was imported from another source or in another form. Expected the same, or "
            "a new folder; name another one (--out), or delete it first."
        )
    if not earlier.get("complete"):
        return {path: earlier.get("files", {}).get(path, "") for path in _texts(out)}
    return dict(earlier.get("files", {}))


def _texts(out: Location) -> list[str]:
    """List the texts of the layout that are there."""
    folders = ("label_segments/valence", "label_segments/arousal")
    found = [f"{folder}/{file.name}" for folder in folders for file in (out / folder).files()]
    tables = ("metadata/partition.csv", "metadata/subjects.csv")
    return found + [path for path in tables if (out / path).exists()]


def _remove_stale(
    out: Location, before: Mapping[str, str], written: Mapping[str, str], names: set[str]
) -> None:
    """Remove what an earlier import wrote and this one does not."""
    for path in before.keys() - written.keys():
        (out / path).delete()
    if before:
        for file in (out / "raw_data/audio").entries():
            if file.stem not in names:
                file.delete()


def _write_record(
    out: Location,
    record: Mapping[str, Any],
    entries: Mapping[str, Any],
    written: Mapping[str, str],
    aside: Sequence[str],
    remarks: Sequence[str],
    *,
    complete: bool,
) -> None:
    content = {
        "format": _FORMAT,
        **record,
        "complete": complete,
        "set_aside": list(aside),
        "remarks": list(remarks),
        "recordings": dict(entries),
        "files": dict(written),
    }
    (out / RECORD).write_json(content)
