"""Look through the feature sets of a corpus before any work is done, and find their problems."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import get_args

import numpy as np

from valence.config import Config
from valence.errors import FeatureError, UsageError
from valence.formatting import plural, some
from valence.segments.feature_sets.files import SUFFIXES, Stamps
from valence.segments.feature_sets.sets import (
    FeatureSet,
    Folder,
    list_sets,
    open_set,
    require_equal_stamps,
    require_fit,
)
from valence.segments.sequences import windows
from valence.storage.filenames import printable
from valence.storage.location import Location

_CHECKED_AT_ONCE = 8
# If more recordings of a set have a fault, the others are only counted.
_MOST_SHOWN = 20


@dataclass(frozen=True)
class SetFinding:
    """The findings of `check_sets` about a feature set.

    Attributes
    ----------
    name, folder
        Name of the set, and the folder of the corpus that holds it.
    recordings
        Number of recordings of the corpus.
    columns
        Number of features; 0 if the set cannot be opened.
    length
        Number of segments that a row describes.
    used
        Number of recordings whose file can be used.
    missing
        Recordings without a file, sorted.
    hint
        What is expected for the first of them, with a stray name that is like it; or `""`.
    refused
        Reasons why files cannot be used, by recording.
    remarks
        Oddities of files that can be used.
    strays
        Names of files that belong to no recording of the corpus, sorted.
    problem
        Reason why the set as a whole cannot be used, or `""`.
    """

    name: str
    folder: Folder
    recordings: int
    columns: int = 0
    length: int = 1
    used: int = 0
    missing: tuple[str, ...] = ()
    hint: str = ""
    refused: Mapping[str, str] = field(default_factory=dict)
    remarks: tuple[str, ...] = ()
    strays: tuple[str, ...] = ()
    problem: str = ""

    def in_words(self) -> list[str]:
        """Return a line about the set, and an indented line for each thing to know of it."""
        title = f"feature set {printable(self.name)}, in {self.folder}"
        if not self.columns:
            return [f"{title}: CANNOT BE USED: {self.problem}"]
        per = "segment" if self.length == 1 else f"sequence of {self.length} segments"
        lines = [
            f"{title}: {plural(self.columns, 'column')}, a row for each {per}, files for "
            f"{self.used} of {plural(self.recordings, 'recording')}"
        ]
        if self.problem:
            lines.append(f"CANNOT BE USED: {self.problem}")
        if self.missing:
            lines.append(f"no file for {some(self.missing)}. {self.hint}")
        faults = [f"{names} NOT USED: {reason}" for names, reason in _grouped(self.refused)]
        faults += [f"remark: {remark}" for remark in self.remarks]
        lines += faults[:_MOST_SHOWN]
        if len(faults) > _MOST_SHOWN:
            lines.append(f"and {len(faults) - _MOST_SHOWN} more of this kind")
        if self.strays:
            many = f"{plural(len(self.strays), 'file')} {'are' if len(self.strays) > 1 else 'is'}"
            lines.append(f"remark: {many} of no recording, and not read: {some(self.strays)}")
        return [lines[0], *(f"  {line}" for line in lines[1:])]


def _grouped(refused: Mapping[str, str]) -> list[tuple[str, str]]:
    """Join the recordings whose files have the same fault; also returns the first one's reason."""
    groups: dict[str, dict[str, str]] = {}
    for name, reason in refused.items():
        kind = reason
        for suffix in SUFFIXES:
            kind = kind.replace(f"{printable(name)}{suffix}", "")
        groups.setdefault(kind, {})[name] = reason
    return [(some(list(each)), next(iter(each.values()))) for each in groups.values()]


def check_sets(
    corpus: Location, lengths: Mapping[str, int | None], config: Config
) -> tuple[list[SetFinding], list[str]]:
    """Read the files of every feature set of a corpus.

    Parameters
    ----------
    corpus
        The corpus.
    lengths
        Number of segments of each recording by Id; None if its sound cannot be read.
    config
        The sections `preprocess` and `sequence` say what the rows must describe.

    Returns
    -------
    A finding for each set, and remarks on what lies beside the sets.
    """
    found, remarks = [], []
    names = {folder: list_sets(corpus, folder) for folder in get_args(Folder)}
    for folder, sets in names.items():
        found += [_check_set(corpus, name, folder, lengths, config) for name in sets]
        place = corpus / folder
        beside = place.entries() if place.is_folder() else []
        loose = [printable(entry.name) for entry in beside if entry.suffix in SUFFIXES]
        if loose:
            remarks.append(
                f"{folder} holds {some(sorted(loose))} beside its folders; such files belong to no "
                f"feature set: expected {folder}/<set>/<Id>.csv"
            )
    both = sorted(set.intersection(*map(set, names.values())))
    if both:
        remarks.append(
            f"{some(both)} is the name of a set in feature_segments and of another in "
            "feature_sequences; rename one of the two folders, or 'valence sweep' refuses both"
        )
    return found, remarks


def require_model_input(
    corpus: Location, lengths: Mapping[str, int | None], found: list[SetFinding], config: Config
) -> None:
    """Refuse a corpus whose set cannot be what `model.input` asks of it.

    Parameters
    ----------
    corpus
        The corpus.
    lengths
        Number of segments of each usable recording, by Id.
    found
        The findings of `check_sets`.
    config
        The section `model` names the set.

    Raises
    ------
    UsageError
        If there is no such set.
    FeatureError
        If the set cannot be used, or a recording has no features.
    """
    name = config.model.feature_set
    if name is None:
        return
    mine = [each for each in found if (each.name, each.folder) == (name, "feature_segments")]
    if not mine:
        open_set(corpus, name, lengths, step_ms=config.preprocess.segment_ms)
    for each in mine:
        if each.problem:
            raise FeatureError(each.problem)
        if lacking := sorted({*each.missing, *each.refused} & lengths.keys()):
            raise FeatureError(
                f"The feature set '{name}', which model.input names, has no features that can be "
                f"used for {some(lacking)}. Expected a file for each recording; make the features "
                "for them too, or take these recordings out of the corpus."
            )


def _check_set(
    corpus: Location,
    name: str,
    folder: Folder,
    lengths: Mapping[str, int | None],
    config: Config,
) -> SetFinding:
    finding = SetFinding(name, folder, len(lengths))
    try:
        chosen = open_set(
            corpus, name, lengths, step_ms=config.preprocess.segment_ms, folder=folder
        )
    except (FeatureError, UsageError) as error:
        return replace(finding, problem=str(error))
    strays = sorted(
        f.name for key, files in chosen.files.items() if key not in chosen.recordings for f in files
    )
    missing = tuple(sorted(each for each in lengths if not chosen.has(each)))
    read = [each for each in sorted(lengths) if chosen.has(each)]
    with ThreadPoolExecutor(_CHECKED_AT_ONCE) as pool:
        results = list(pool.map(lambda each: _read(chosen, each, lengths[each], config), read))
    refused, remarks = {}, []
    stamps: dict[str, Stamps] = {}
    for each, result in zip(read, results, strict=True):
        if isinstance(result, str):
            refused[each] = result
        else:
            own_remarks, stamps[each] = result
            remarks += [f"'{each}': {remark}" for remark in own_remarks]
    return replace(
        finding,
        columns=len(chosen.columns),
        length=chosen.length,
        used=len(read) - len(refused),
        missing=missing,
        hint=_hint(chosen, missing),
        refused=refused,
        remarks=tuple(remarks),
        strays=tuple(map(printable, strays)),
        problem=_problem(chosen, stamps, config),
    )


def _read(
    chosen: FeatureSet, recording: str, segments: int | None, config: Config
) -> tuple[tuple[str, ...], Stamps] | str:
    """Read a recording's file; returns remarks and what its timestamps name, or a reason."""
    # Without sound there is no length to compare with, but the file itself can be read.
    n = 0 if segments is None else segments
    try:
        if chosen.length == 1:
            joined = chosen.joined(recording, n)
            remarks = joined.remarks if segments is not None else ()
            empty = n > 0 and bool(np.isnan(joined.value).all())
            return (*remarks, *(["holds no value"] if empty else [])), joined.stamps
        starts = windows(chosen.length, config.sequence.stride, segments=n)
        rows = chosen.read_sequences(recording, starts)
    except FeatureError as error:
        return str(error)
    lacking = int(np.isnan(rows).all(axis=1).sum())
    if not lacking or chosen.length != config.sequence.length:
        return (), "start"
    every = f"sequence.stride = {config.sequence.stride}"
    return (f"lacks rows for {lacking} of {len(starts)} sequences ({every})",), "start"


def _hint(chosen: FeatureSet, missing: tuple[str, ...]) -> str:
    if not missing:
        return ""
    try:
        chosen.file(missing[0])
    except FeatureError as error:
        return str(error).partition(". ")[2]
    raise AssertionError("it has no file")


def _problem(chosen: FeatureSet, stamps: Mapping[str, Stamps], config: Config) -> str:
    try:
        require_fit(chosen, config.sequence.length, of="this configuration")
        require_equal_stamps(chosen.name, stamps)
    except FeatureError as error:
        return str(error)
    return ""
