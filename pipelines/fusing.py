"""Run `valence fuse`: make a corpus in the MuSe layout from the traces of several raters."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from pipelines.importing import (
    ImportOptions,
    in_right_units,
    measured,
    require_apart,
    segments_behind,
    tell_of_corpus,
)
from pipelines.runtime.console import Console
from valence import figures
from valence.config import FuseConfig, Target
from valence.corpus.muse import Corpus
from valence.errors import UsageError
from valence.formatting import number, plural, some
from valence.fusion.gold_standard import Fused, fuse_traces
from valence.fusion.record import write_fusion
from valence.importing.declaration import Declaration
from valence.importing.grid import to_grid
from valence.importing.joining import join_subjects
from valence.importing.layout import Labels, segments_of, write_corpus
from valence.importing.recognition import choose_declaration
from valence.importing.recordings import SourceRecording, find_recordings
from valence.importing.sounds import Length
from valence.importing.traces import Trace, places_of, read_traces
from valence.storage.location import Location

FIGURES = "metadata/raters"


def fuse_corpus(
    source: Location,
    out: Location,
    options: ImportOptions,
    settings: FuseConfig,
    *,
    console: Console,
) -> Corpus:
    """Fuse the traces of a source, write the corpus with their agreement, and read it once.

    Parameters
    ----------
    source
        The folder with the traces.
    out
        The folder of the corpus: absent, empty, or written before by the same call.
    options
        How the source is read, as for `valence import`.
    settings
        The steps from traces to a curve.
    console
        Progress output.

    Raises
    ------
    UsageError
        If no form fits, several do, or no trace names its rater.
    CorpusError
        If nothing in the source can be used, or it cannot be read as declared.
    OutputError
        If `out` holds something else.
    """
    require_apart(source, out)
    declaration = choose_declaration(source, options.form, options.assignments)
    console.say(f"fuse: '{source}' in the form {declaration.name} ({declaration.title})")
    aside: list[str] = []
    traces, remarks = _of_raters(list(read_traces(source, declaration, aside)), source, out)
    ids = sorted({trace.id for trace in traces})
    recordings = find_recordings(source, declaration, ids, audio=options.audio, remarks=remarks)
    if silent := [name for name in ids if name not in recordings]:
        places = places_of(source, declaration, set(silent))
        aside += [f"'{name}', named in {places[name]}, has no audio file" for name in silent]
    with console.bar("read", len(recordings)) as bar:
        recordings, lengths = measured(recordings, aside, lambda: bar.advance(1))
    traces = in_right_units(traces, lengths, aside, command="fuse")
    usable = [_ended(each, lengths[each.id]) for each in traces]
    console.say(
        f"fuse: {plural(len(usable), 'trace')} of {plural(len(recordings), 'recording')}; "
        f"{_in_words(settings)}"
    )
    found = fuse_traces(usable, settings)
    aside += [
        f"'{each.id}' has no fused {each.rated.target}: {each.problem}"
        for each in found
        if each.problem
    ]
    labels, recordings, lengths = _labels(found, declaration, recordings, lengths)
    # The reason why a recording has no curve is known; that it has no label need not be said.
    refused = {each.id for each in found} - labels.keys()
    recordings = {
        name: each for name, each in recordings.items() if name not in refused
    } or recordings
    with console.bar("write", len(recordings)) as bar:
        notes = write_corpus(
            out,
            recordings,
            labels,
            placing=options.placing,
            record=_record(source, declaration, options, settings),
            lengths=lengths,
            set_aside=[*aside, *remarks],
            advance=lambda: bar.advance(1),
        )
    agreement = write_fusion(out, found, settings, set_aside=[*aside, *remarks])
    _draw(out, found, settings.figures, console)
    for target, of in agreement.items():
        rated, ready = (number(of[key]["ccc"]) for key in ("as_rated", "as_fused"))
        console.say(
            f"fuse: {target}: {plural(of['raters'], 'rater')} agree at CCC {rated} as they rated "
            f"({plural(of['recordings_rated'], 'recording')}), and at {ready} after all steps "
            f"({plural(of['recordings'], 'recording')})"
        )
    return tell_of_corpus(out, notes, console, verb="fuse")


def _of_raters(
    traces: Sequence[Trace], source: Location, out: Location
) -> tuple[list[Trace], list[str]]:
    """Return the traces of raters, and a remark on ready gold standards beside them."""
    rated = [trace for trace in traces if trace.rater is not None]
    if not rated:
        raise UsageError(
            f"'{source}' holds {plural(len(traces), 'curve')} and names no rater. Expected traces "
            f"of several raters; import a ready gold standard: valence import '{source}' --out "
            f"'{out}'."
        )
    ready = sorted({trace.id for trace in traces if trace.rater is None})
    if not ready:
        return rated, []
    return rated, [f"ready gold standards ({some(ready)}) are left out: raters are fused anew"]


def _ended(trace: Trace, length: Length) -> Trace:
    """Let a value of a whole recording end where the recording ends."""
    if np.isfinite(trace.end).all():
        return trace
    return replace(trace, end=np.where(np.isfinite(trace.end), trace.end, length.total))


def _in_words(settings: FuseConfig) -> str:
    """Name the steps, as the settings name them."""
    names = ("scope", "standardize", "align", "smooth", "contrary", "method")
    return ", ".join(f"{name} {getattr(settings, name)}" for name in names)


def _labels(
    found: Sequence[Fused],
    declaration: Declaration,
    recordings: dict[str, SourceRecording],
    lengths: dict[str, Length],
) -> tuple[dict[str, dict[Target, Labels]], dict[str, SourceRecording], dict[str, Length]]:
    """Bring fused curves to the segment grid, joined by subject if the form says so."""
    files = {(each.id, each.rated.target): each.rated.files for each in found}
    curves = [each.trace() for each in found if not each.problem]
    if declaration.join == "subject":
        recordings, curves, lengths = join_subjects(recordings, curves, lengths)
    labels: dict[str, dict[Target, Labels]] = {}
    for curve in curves:
        segments = segments_of(lengths[curve.id].total) + segments_behind(curve, lengths[curve.id])
        labels.setdefault(curve.id, {})[curve.target] = Labels(
            to_grid(curve, segments),
            files.get((curve.id, curve.target), (curve.file,)),
            tuple(f"{curve.target}: {remark}" for remark in curve.remarks),
        )
    return labels, recordings, lengths


def _record(
    source: Location, declaration: Declaration, options: ImportOptions, settings: FuseConfig
) -> dict[str, Any]:
    return {
        "command": "fuse",
        "source": source.uri,
        "audio": None if options.audio is None else options.audio.uri,
        "placing": options.placing,
        "declaration": declaration.model_dump(mode="json", exclude_none=True),
        # The number of figures changes no label.
        "fuse": settings.model_dump(mode="json", exclude_none=True, exclude={"figures"}),
    }


def _draw(out: Location, found: Sequence[Fused], most: int, console: Console) -> None:
    """Draw the raters of the first recordings of each target."""
    chosen = []
    for target in sorted({each.rated.target for each in found}):
        of = [each for each in found if each.rated.target == target]
        chosen += of[:most]
        if len(of) > most > 0:
            console.say(
                f"fuse: figures of the first {most} of {plural(len(of), 'recording')} for {target} "
                "(fuse.figures)"
            )
    with console.bar("figures", len(chosen)) as bar:
        for each in chosen:
            drawing = figures.raters(
                each.rated.values,
                each.ratings.values,
                each.curve,
                step=each.rated.step,
                names=each.rated.raters,
                contrary=[part.name for part in each.parts if part.contrary],
                name=each.id,
                target=each.rated.target,
                agreement=(each.as_rated.ccc, each.as_fused.ccc),
            )
            file = out / f"{FIGURES}/{each.rated.target}/{each.id}.png"
            file.write_bytes(drawing.png())
            bar.advance(1)
