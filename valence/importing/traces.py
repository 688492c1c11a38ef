"""Read the traces of a source: each rater's course of a target over a recording."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from contextlib import suppress

import numpy as np

from valence.errors import AnnotationError, CorpusError
from valence.importing.declaration import Declaration, LabelsForm
from valence.importing.readers.audformat import read_audformat_traces
from valence.importing.readers.nova import read_nova_traces
from valence.importing.readers.table import ids_in, read_table_traces, target_of
from valence.importing.readers.trace import Trace as Trace
from valence.importing.sources.patterns import Tree, first_matching, list_tree
from valence.importing.sources.stretches import read_stretches, to_recording_time
from valence.storage.location import Location


def read_traces(
    source: Location, declaration: Declaration, aside: list[str] | None = None
) -> Iterator[Trace]:
    """Read the traces of a source, file by file in the order of their paths.

    Parameters
    ----------
    source
        The folder that holds the files.
    declaration
        The form of the files.
    aside
        Gets the message of each file or row that cannot be used; such a file is then left out. None
        if the first such file is an error.

    Raises
    ------
    CorpusError
        If no file has the declared path; if a file cannot be read as declared and `aside` is None,
        or no file can; or if two files give the same rater, target and recording. The message names
        the file and the line.
    """
    tree = list_tree(source)
    kept = [] if aside is None else aside
    cut = declaration.cut
    moved = cut is not None and cut.times == "file"
    stretches = read_stretches(tree, declaration, aside) if moved else {}
    seen: dict[tuple[str, str, str | None], Location] = {}
    read = files = 0
    for form in declaration.labels:
        for file, fields in label_files(tree, form):
            files += 1
            try:
                traces = list(_read(file, fields, form, kept))
            except AnnotationError as error:
                if aside is None:
                    raise
                kept.append(str(error))
                continue
            for trace in traces:
                _require_new(seen, trace)
                if not np.isfinite(trace.value).any():
                    # A table of a database has a cell for each rater, also for those who saw
                    # other files.
                    if form.reader != "audformat" or trace.rater is None:
                        kept.append(
                            f"'{file}' has no value of {trace.target} for '{trace.id}'. Expected "
                            "one at least; fill it in, or leave it out."
                        )
                    continue
                read += 1
                if moved and trace.id in stretches:
                    yield to_recording_time(trace, stretches[trace.id])
                else:
                    yield trace
    if not files:
        patterns = ", ".join(f"'{each}'" for form in declaration.labels for each in form.files)
        raise CorpusError(
            f"'{source}' has no label file in the form {declaration.name} ({patterns}). Expected "
            "some; give the folder that holds them, or another form (--form)."
        )
    if not read and kept:
        raise CorpusError(
            f"None of {files} label files in '{source}' can be used in the form "
            f"{declaration.name}. The first reason: {kept[0]}"
        )


def places_of(source: Location, declaration: Declaration, ids: Collection[str]) -> dict[str, str]:
    """Find the file, and the line of a table, that names each of some Ids."""
    places: dict[str, str] = {}
    tree = list_tree(source)
    for form in declaration.labels:
        for file, fields in label_files(tree, form):
            if form.reader == "audformat":
                places |= dict.fromkeys(ids, f"'{file}'")
                continue
            # A file that cannot be read gave no Id.
            with suppress(AnnotationError):
                found = ids_in(file, fields, form)
                places |= {name: place for name, place in found.items() if name in ids}
    return places


def label_files(tree: Tree, form: LabelsForm) -> Iterator[tuple[Location, Mapping[str, str]]]:
    """Find the files with labels, each with the named parts of its path.

    Files whose path names another quantity than a target, such as dominance, are left out.
    """
    for file, fields in first_matching(tree, form.files):
        if "target" not in fields or target_of(fields, form) is not None:
            yield file, fields


def _read(
    file: Location, fields: Mapping[str, str], form: LabelsForm, aside: list[str]
) -> Iterator[Trace]:
    match form.reader:
        case "table" | "lines" | "arff":
            return read_table_traces(file, fields, form, aside)
        case "nova":
            return read_nova_traces(file, fields, form)
        case "audformat":
            return read_audformat_traces(file, form)


def _require_new(seen: dict[tuple[str, str, str | None], Location], trace: Trace) -> None:
    key = (trace.id, trace.target, trace.rater)
    if key in seen:
        rater = "a gold standard" if trace.rater is None else f"ratings of '{trace.rater}'"
        raise CorpusError(
            f"'{trace.file}' gives {rater} of {trace.target} for '{trace.id}', and so does "
            f"'{seen[key]}'. Expected one; remove one of them, or give a declaration whose Ids or "
            "raters differ (--form FILE.toml)."
        )
    seen[key] = trace.file
