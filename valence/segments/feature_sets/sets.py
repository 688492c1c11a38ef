"""Find the feature sets of a corpus, and read a recording's features on the segment grid.

CORPUS/feature_segments/<set>/<Id>.csv (or .parquet)    a row for each segment
CORPUS/feature_sequences/<set>/<Id>.csv (or .parquet)   a row for each sequence, for the sweep alone
CORPUS/feature_s.../<set>/set.json                      how the set was made; needed for sequences
"""

from __future__ import annotations

import difflib
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from valence.errors import FeatureError, UsageError
from valence.formatting import plural, some
from valence.segments.feature_sets.columns import agreed_columns
from valence.segments.feature_sets.files import SUFFIXES, FeatureRows, Stamps, read_rows
from valence.storage.filenames import normal, printable
from valence.storage.kept_file import MOST_BYTES, parse_json, read_at_most
from valence.storage.location import Location
from valence.storage.manifest import digest_of

Folder = Literal["feature_segments", "feature_sequences"]

FOLDER: Folder = "feature_segments"
"""The folder of a corpus that holds sets with a row for each segment."""

ABOUT = "set.json"
"""Name of the file in a set's folder that says how the set was made."""

# Features and audio that differ in length by more than this are joined with a remark.
_TOLERANCE_MS = 1000
_AT_ONCE = 8


@dataclass(frozen=True)
class Joined:
    """The features of a recording on its segments.

    Attributes
    ----------
    value
        float32 `[segments, features]`; NaN where the file has no row or an empty cell.
    remarks
        Oddities of the file. One says that features and recording differ in length by more than a
        second.
    stamps
        Whether the file's timestamps name the start or the end of a segment.
    """

    value: NDArray[np.float32]
    remarks: tuple[str, ...]
    stamps: Stamps


def require_equal_stamps(name: str, stamps: Mapping[str, Stamps]) -> None:
    """Refuse files of a set whose timestamps name different ends of a segment.

    A file that begins at 500 ms has lost its first row, or states ends. Alone it does not tell
    which, and its rows would be a segment off.

    Parameters
    ----------
    name
        Name of the set.
    stamps
        The ends by recording.

    Raises
    ------
    FeatureError
        If there are both.
    """
    starts, ends = (sorted(k for k, v in stamps.items() if v == end) for end in ("start", "end"))
    if starts and ends:
        raise FeatureError(
            f"Files of the feature set '{name}' begin at 0 ms ({some(starts)}) and others a "
            f"segment later ({some(ends)}). Expected the same in all: 0 and later are starts of "
            "segments, and a file that begins later may lack its first row. Add that row with "
            "empty values, or make the files again by one program."
        )


def require_fit(chosen: FeatureSet, length: int, *, of: str) -> None:
    """Refuse a set whose segments or sequences are not those that are needed.

    Parameters
    ----------
    chosen
        The set, opened for segments of the length that is needed.
    length
        Number of segments in a sequence.
    of
        Whose segments and sequences are needed, for the message.

    Raises
    ------
    FeatureError
        If the set was made for others.
    """
    step_ms = chosen.about.get("settings", {}).get("segment_ms", chosen.step_ms)
    if step_ms != chosen.step_ms:
        raise FeatureError(
            f"The feature set '{chosen.name}' was made for segments of {step_ms} ms, and those of "
            f"{of} have {chosen.step_ms} ms. Expected equal ones; make the set for segments of "
            f"{chosen.step_ms} ms, under another name."
        )
    if chosen.length not in (1, length):
        raise FeatureError(
            f"The feature set '{chosen.name}' describes sequences of {chosen.length} segments, and "
            f"those of {of} have {length}. Expected equal ones; make the set for sequences of "
            f"{length} segments, under another name."
        )


@dataclass(frozen=True)
class FeatureSet:
    """A set of features made elsewhere: a row for each segment of each recording.

    Attributes
    ----------
    name
        Name of the set's folder.
    columns
        Names of the features: those that most recordings' files have.
    root
        The folder of the set, such as `CORPUS/feature_segments/<name>`.
    step_ms
        Milliseconds of a segment.
    files
        Files by the Id of their recording, in composed Unicode form (NFC).
    length
        Number of segments that a row describes: 1, or those of a sequence.
    about
        Content of `set.json`; empty if there is none.
    first
        Where the columns come from, in words: a file or a model.
    stamps
        The end of a segment that timestamps must name; None if a file may name either.
    recordings
        Ids of the recordings in use, in composed Unicode form (NFC); empty if they are unknown.
    """

    name: str
    columns: tuple[str, ...]
    root: Location
    step_ms: int = 500
    files: Mapping[str, tuple[Location, ...]] = field(
        default_factory=dict, repr=False, compare=False
    )
    length: int = 1
    about: Mapping[str, Any] = field(default_factory=dict, repr=False, compare=False)
    first: str = ""
    stamps: Stamps | None = None
    recordings: frozenset[str] = field(default=frozenset(), repr=False, compare=False)

    def has(self, recording: str) -> bool:
        """Tell whether the set has a file for a recording."""
        return normal(recording) in self.files

    def read(self, recording: str, segments: int) -> NDArray[np.float32]:
        """Read the features of a recording's segments.

        Parameters
        ----------
        recording
            Id of the recording.
        segments
            Number of its segments.

        Returns
        -------
        float32 `[segments, features]`; NaN where the file has no row or an empty cell.

        Raises
        ------
        FeatureError
            If the set has no file for the recording or two, or the file cannot be used.
        """
        return self.joined(recording, segments).value

    def joined(self, recording: str, segments: int) -> Joined:
        """Read features like `read`, together with what the file says of itself.

        A remark says that features and recording differ in length by more than a second.
        """
        assert self.length == 1, "the rows of a set of sequences describe no segments"
        file, rows = self._rows(recording)
        if self.stamps not in (None, rows.stamps):
            begin = {"start": 0, "end": self.step_ms}
            raise FeatureError(
                f"'{file}' begins at {begin[rows.stamps]} ms, and the files of {self.first} at "
                f"{begin[self.stamps]} ms. Expected the same: its rows would be a segment off, or "
                "its first row is missing. Write that row too, with empty values if there are none."
            )
        found = np.full((segments, len(self.columns)), np.nan, np.float32)
        inside = rows.segment < segments
        found[rows.segment[inside]] = rows.value[inside]
        excess_ms = (int(rows.segment[-1]) + 1 - segments) * self.step_ms
        if abs(excess_ms) <= _TOLERANCE_MS:
            return Joined(found, rows.remarks, rows.stamps)
        compared = "longer" if excess_ms > 0 else "shorter"
        remark = f"'{file.name}' is {abs(excess_ms) / 1000:g} s {compared} than the recording"
        return Joined(found, (*rows.remarks, remark), rows.stamps)

    def read_sequences(self, recording: str, starts: NDArray[np.integer]) -> NDArray[np.float32]:
        """Read the rows of a set of sequences that describe those at `starts` [segments].

        Returns
        -------
        float32 `[starts, features]`; NaN where the file has no row.
        """
        _, rows = self._rows(recording)
        place = np.searchsorted(rows.segment, starts).clip(max=len(rows.segment) - 1)
        there = rows.segment[place] == starts
        return np.where(there[:, None], rows.value[place], np.float32(np.nan))

    def file(self, recording: str) -> Location:
        """Return the file of a recording.

        Raises
        ------
        FeatureError
            If there is none, or more than one.
        """
        files = self.files.get(normal(recording), ())
        if not files:
            # The file of another recording is no mistake in a name.
            near = _nearest(recording, self.files.keys() - self.recordings)
            hint = "" if near is None else f" The nearest name there is '{printable(near)}'."
            raise FeatureError(
                f"The feature set '{self.name}' has no file for the recording '{recording}'.{hint} "
                f"Expected '{self.root}/{printable(recording)}.csv' or .parquet; make the features "
                "for it too."
            )
        if len(files) > 1:
            names = " and ".join(f"'{printable(file.name)}'" for file in files)
            raise FeatureError(
                f"The feature set '{self.name}' has {names} for the recording '{recording}'. "
                "Expected one file for each recording; remove the others."
            )
        return files[0]

    def digest(self, recording: str) -> str:
        """Compute the SHA-256 of the file of a recording.

        Raises
        ------
        FeatureError
            If there is no such file or two, or it cannot be read.
        """
        file = self.file(recording)
        try:
            return digest_of(file)
        except OSError as error:
            raise FeatureError(
                f"'{file}' cannot be read: {error}. Expected the features of '{recording}'. Check "
                "that it is there and may be read."
            ) from error

    def digests(self, recordings: Iterable[str]) -> dict[str, str]:
        """Compute the SHA-256 of the file of each recording, by Id, sorted.

        Raises
        ------
        FeatureError
            As `digest`.
        """
        names = sorted(recordings)
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            return dict(zip(names, pool.map(self.digest, names), strict=True))

    def _rows(self, recording: str) -> tuple[Location, FeatureRows]:
        """Read a recording's file, with its columns in the order of the set."""
        file = self.file(recording)
        rows = read_rows(file, step_ms=self.step_ms, sparse=self.length > 1)
        place = {name: number for number, name in enumerate(rows.columns)}
        lacking = [name for name in self.columns if name not in place]
        own = set(self.columns)
        surplus = [name for name in rows.columns if name not in own]
        if lacking or surplus:
            which = f"lacks '{lacking[0]}'" if lacking else f"also has '{surplus[0]}'"
            raise FeatureError(
                f"'{file}' has {plural(len(rows.columns), 'feature')} and {which}. Expected the "
                f"{plural(len(self.columns), 'column')} of {self.first}; make the file again."
            )
        order = [place[name] for name in self.columns]
        return file, replace(rows, columns=self.columns, value=rows.value[:, order])


def open_set(
    corpus: Location,
    name: str,
    recordings: Collection[str],
    *,
    step_ms: int = 500,
    folder: Folder = FOLDER,
) -> FeatureSet:
    """Open a feature set of a corpus; its folder is listed once, and headers are read.

    Parameters
    ----------
    corpus
        The corpus.
    name
        Name of the set.
    recordings
        Ids of the recordings in use; files of others say nothing about the set's columns.
    step_ms
        Milliseconds of a segment.
    folder
        Whether a row describes a segment or a sequence.

    Raises
    ------
    UsageError
        If there is no such set; the message names the nearest.
    FeatureError
        If it has no file of these recordings or none can be used, if files differ in their columns
        and no kind is that of more than half, or if `set.json` is damaged or lacks what is needed.
    """
    known = list_sets(corpus, folder)
    if name not in known:
        near = _nearest(name, known)
        hint = "" if near is None else f" Did you mean '{printable(near)}'?"
        there = f"It has {', '.join(known)}." if known else f"It has no folder {folder} with sets."
        if name and (corpus / folder / name).is_folder():
            there = f"The folder {folder}/{name} is there and holds no CSV or Parquet file."
        raise UsageError(
            f"'{corpus}' has no feature set '{name}'.{hint} {there} Expected files "
            f"{folder}/{name}/<Id>.csv with the columns timestamp and the features; give the name "
            "of such a folder."
        )
    root = corpus / folder / name
    files, about = files_of(root), _about(root)
    length = about.get("length") if folder == "feature_sequences" else 1
    if not isinstance(length, int) or length < 1:
        raise FeatureError(
            f"'{root / ABOUT}' does not say how long the sequences are. Expected "
            '{"length": 40} for sequences of 40 segments; write it there.'
        )
    if about.get("complete") is False:
        raise FeatureError(
            f"'{root}' is not finished: 'valence features' was interrupted there, so files of "
            "other sound or settings may be among them. Expected a whole set; run the same command "
            "again, which goes on."
        )
    own = {each: files[each][0] for each in map(normal, recordings) if each in files}
    if not own:
        some_name = min(recordings, default="<Id>")
        raise FeatureError(
            f"The feature set '{name}' has no file of any of {plural(len(recordings), 'recording')}"
            f"; its files belong to {some(sorted(map(printable, files)))}. Expected "
            f"'{root}/{printable(some_name)}.csv' or .parquet and so on; name the files by the Ids "
            "of the recordings."
        )
    columns, first = agreed_columns(name, own)
    return FeatureSet(
        name,
        columns,
        root,
        step_ms,
        files,
        length,
        about,
        first,
        recordings=frozenset(map(normal, recordings)),
    )


def files_of(folder: Location) -> dict[str, tuple[Location, ...]]:
    """List the files of a set by the Id of their recording, in composed Unicode form (NFC)."""
    files: dict[str, list[Location]] = defaultdict(list)
    for file in folder.entries():
        if file.suffix in SUFFIXES:
            files[normal(file.stem)].append(file)
    return {name: tuple(each) for name, each in files.items()}


def open_any(
    corpus: Location, name: str, recordings: Collection[str], *, step_ms: int = 500
) -> FeatureSet:
    """Open a feature set of segments or of sequences, like `open_set`.

    Raises
    ------
    UsageError
        If there is no such set, or one of each kind.
    FeatureError
        As `open_set`.
    """
    sequences = list_sets(corpus, "feature_sequences")
    segments = list_sets(corpus)
    if name in sequences and name in segments:
        raise UsageError(
            f"'{corpus}' has a set '{name}' in feature_segments and another in feature_sequences. "
            "Expected each name once; rename one of the two folders."
        )
    if name in sequences:
        return open_set(corpus, name, recordings, step_ms=step_ms, folder="feature_sequences")
    return open_set(corpus, name, recordings, step_ms=step_ms)


def list_sets(corpus: Location, folder: Folder = FOLDER) -> list[str]:
    """List the names of the feature sets of a corpus: folders that hold a CSV or Parquet file."""
    place = corpus / folder
    if not place.is_folder():
        return []
    return [
        entry.name
        for entry in place.everything()
        if not entry.name.startswith(".")
        and entry.is_folder()
        and any(file.suffix in SUFFIXES for file in entry.entries())
    ]


def _nearest(name: str, known: Iterable[str]) -> str | None:
    """Find the name that is most like `name`; one that differs by an end such as `_devel` is."""
    folded = {normal(each).casefold(): each for each in sorted(known)}
    sought = normal(name).casefold()
    if (same := next((each for each in folded if _bare(each) == _bare(sought)), None)) is not None:
        return folded[same]
    close = difflib.get_close_matches(sought, list(folded), n=1, cutoff=0.5)
    return folded[close[0]] if close else None


def _bare(folded: str) -> str:
    for ending in ("_train", "_devel", "_test"):
        folded = folded.removesuffix(ending)
    return folded


def _about(root: Location) -> Mapping[str, Any]:
    file = root / ABOUT
    if not file.exists():
        return {}
    try:
        found = parse_json(read_at_most(file, MOST_BYTES))
        if not isinstance(found, dict):
            raise ValueError("it is no JSON object")
    except (OSError, ValueError) as error:
        raise FeatureError(
            f"'{file}' cannot be used: {error}. Expected what 'valence features' writes there; "
            "make the set again, or remove the file if another program made the set."
        ) from error
    return found
