"""Run `valence fuse`: make a corpus in the MuSe layout from the traces of several raters."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import numpy as np

from pipelines.corpora.importing import Gathered, ImportOptions, gather, tell_of_corpus
from pipelines.runtime.console import Console
from valence import figures
from valence.config import FuseConfig
from valence.corpus.muse import Corpus
from valence.errors import UsageError
from valence.formatting import number, plural, raters_agree, some
from valence.fusion.gold_standard import Fused, fuse_traces
from valence.fusion.record import write_fusion
from valence.importing.layout import Labels
from valence.importing.sounds import Length
from valence.importing.traces import Trace
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
    gathered = gather(
        source, out, options, console, verb="fuse", choose=partial(_of_raters, source, out)
    )
    console.say(
        f"fuse: {plural(len(gathered.traces), 'trace')} of "
        f"{plural(len(gathered.recordings), 'recording')}; {_in_words(settings)}"
    )
    found = fuse_traces(
        [_ended(each, gathered.lengths[each.id]) for each in gathered.traces], settings
    )
    fused = _fused(gathered, found, settings)
    files = {(each.id, each.rated.target): each.rated.files for each in found}
    labels = {
        (each.id, each.target): Labels(
            fused.on_grid(each),
            files.get((each.id, each.target), (each.file,)),
            tuple(f"{each.target}: {remark}" for remark in each.remarks),
        )
        for each in fused.traces
    }
    notes = fused.write(out, labels, console, placing=options.placing)
    agreement = write_fusion(out, found, settings, set_aside=fused.notes)
    _draw(out, found, settings.figures, console)
    for target, of in agreement.items():
        if of["as_rated"]["ccc"] is None:
            console.say(f"fuse: {raters_agree(agreement, target)}")
            continue
        rated, ready = (number(of[key]["ccc"]) for key in ("as_rated", "as_fused"))
        console.say(
            f"fuse: {target}: {plural(of['raters'], 'rater')} agree at CCC {rated} as they rated "
            f"({plural(of['recordings_rated'], 'recording')}), and at {ready} after all steps "
            f"({plural(of['recordings'], 'recording')})"
        )
    return tell_of_corpus(out, notes, console, verb="fuse")


def _of_raters(
    source: Location, out: Location, traces: list[Trace]
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


def _fused(gathered: Gathered, found: Sequence[Fused], settings: FuseConfig) -> Gathered:
    """Put the curves in the place of the traces, joined by subject if the form says so."""
    problems = [
        f"'{each.id}' has no fused {each.rated.target}: {each.problem}"
        for each in found
        if each.problem
    ]
    curves = replace(
        gathered, traces=tuple(each.trace() for each in found if not each.problem)
    ).joined()
    # The reason why a recording has no curve is known; that it has no label need not be said.
    refused = {each.id for each in found} - {each.id for each in curves.traces}
    return replace(
        curves,
        recordings={name: each for name, each in curves.recordings.items() if name not in refused}
        or curves.recordings,
        notes=(*gathered.notes, *problems),
        record={
            **gathered.record,
            # The number of figures changes no label.
            "fuse": settings.model_dump(mode="json", exclude_none=True, exclude={"figures"}),
        },
    )


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
