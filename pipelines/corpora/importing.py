"""Run `valence import`: make a corpus in the MuSe layout from one in another form."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from pipelines.runtime.console import Console
from valence.config import Target
from valence.corpus.muse import Corpus, read_corpus
from valence.errors import AnnotationError, AudioError, CorpusError, UsageError
from valence.formatting import plural, sentence, some
from valence.importing.declaration import Declaration
from valence.importing.grid import end_of, require_units, to_grid
from valence.importing.joining import join_subjects
from valence.importing.layout import Labels, segments_of, write_corpus
from valence.importing.recognition import choose_declaration, fitting_forms
from valence.importing.recordings import SourceRecording, find_recordings
from valence.importing.sounds import Length, Placing, measure
from valence.importing.traces import Trace, places_of, read_traces
from valence.storage.location import Location

# More lines than this are only counted; metadata/import.json has all of them.
_MOST_SHOWN = 20
# A check of a folder such as a home directory looks at no more files than this.
_MOST_FILES = 100_000


@dataclass(frozen=True)
class ImportOptions:
    """The options of `valence import`.

    Attributes
    ----------
    form
        Name of a shipped form or path of a declaration; None if the form is to be found.
    assignments
        Values that override the declaration's.
    audio
        The folder with the audio files; None if the source holds them.
    placing
        Whether audio files are linked or copied.
    """

    form: str | None = None
    assignments: tuple[str, ...] = ()
    audio: Location | None = None
    placing: Placing = "link"


def import_corpus(
    source: Location, out: Location, options: ImportOptions, *, console: Console
) -> Corpus:
    """Make a corpus in the MuSe layout, and read it once.

    Raises
    ------
    UsageError
        If no form fits, several do, or recordings have ratings of several raters.
    CorpusError
        If nothing in the source can be used, or it cannot be read as declared.
    OutputError
        If `out` holds something else.
    """
    gathered = gather(
        source, out, options, console, verb="import", choose=partial(_of_one_rater, source, out)
    ).joined()
    labels = {
        (each.id, each.target): Labels(gathered.on_grid(each), (each.file,), each.remarks)
        for each in gathered.traces
    }
    notes = gathered.write(out, labels, console, placing=options.placing)
    return tell_of_corpus(out, notes, console)


@dataclass(frozen=True)
class Gathered:
    """Whatever a source gives for a corpus.

    Attributes
    ----------
    traces
        Labels whose recording has sound.
    recordings, lengths
        Recordings that have labels and sound, and the lengths of their sound, by Id.
    notes
        What was set aside, and remarks.
    declaration
        How the source was read.
    record
        JSON-like origin of the corpus.
    """

    traces: tuple[Trace, ...]
    recordings: Mapping[str, SourceRecording]
    lengths: Mapping[str, Length]
    notes: tuple[str, ...]
    declaration: Declaration
    record: Mapping[str, Any]

    def joined(self) -> Gathered:
        """Join the files of a subject to one recording, if the declaration says so."""
        if self.declaration.join != "subject":
            return self
        recordings, traces, lengths = join_subjects(self.recordings, self.traces, self.lengths)
        return replace(self, recordings=recordings, traces=tuple(traces), lengths=lengths)

    def on_grid(self, trace: Trace) -> NDArray[np.float32]:
        """Bring a trace to the segments of its recording, `[segments]`.

        Labels behind the end of the sound stay visible to the writer, which remarks on them.
        """
        total = self.lengths[trace.id].total
        return to_grid(trace, segments_of(total) + max(0, segments_of(end_of(trace) - total)))

    def write(
        self,
        out: Location,
        labels: Mapping[tuple[str, Target], Labels],
        console: Console,
        *,
        placing: Placing,
    ) -> list[str]:
        """Write the corpus with labels by Id and target; return what is to be said of it."""
        by_id: dict[str, dict[Target, Labels]] = {}
        for (recording, target), each in labels.items():
            by_id.setdefault(recording, {})[target] = each
        with console.bar("write", len(self.recordings)) as bar:
            return write_corpus(
                out,
                self.recordings,
                by_id,
                placing=placing,
                record=self.record,
                lengths=self.lengths,
                set_aside=self.notes,
                advance=lambda: bar.advance(1),
            )


def gather(
    source: Location,
    out: Location,
    options: ImportOptions,
    console: Console,
    *,
    verb: Literal["import", "fuse"],
    choose: Callable[[list[Trace]], tuple[list[Trace], list[str]]],
) -> Gathered:
    """Read labels, find their recordings, and measure these.

    Parameters
    ----------
    source, out, options, console
        As for `import_corpus`.
    verb
        The command, for messages.
    choose
        Function that chooses traces among all, and gives remarks; it may refuse them.

    Raises
    ------
    UsageError, CorpusError
        As `import_corpus`.
    """
    require_apart(source, out)
    declaration = choose_declaration(source, options.form, options.assignments)
    console.say(f"{verb}: '{source}' in the form {declaration.name} ({declaration.title})")
    aside: list[str] = []
    traces, remarks = choose(list(read_traces(source, declaration, aside)))
    ids = sorted({trace.id for trace in traces})
    recordings = find_recordings(source, declaration, ids, audio=options.audio, remarks=remarks)
    if silent := [name for name in ids if name not in recordings]:
        places = places_of(source, declaration, set(silent))
        aside += [
            f"'{name}', named in {places.get(name, source)}, has no audio file" for name in silent
        ]
    with console.bar("read", len(recordings)) as bar:
        recordings, lengths = measured(recordings, aside, lambda: bar.advance(1))
    usable = in_right_units(traces, lengths, aside, command=verb)
    record = {
        "command": verb,
        "source": source.uri,
        "audio": None if options.audio is None else options.audio.uri,
        "declaration": declaration.model_dump(mode="json", exclude_none=True),
    }
    notes = (*aside, *remarks)
    return Gathered(tuple(usable), recordings, lengths, notes, declaration, record)


def _of_one_rater(
    source: Location, out: Location, traces: list[Trace]
) -> tuple[list[Trace], list[str]]:
    """Refuse ratings of several raters, which have to be fused first.

    Returns
    -------
    The traces, and a remark if the labels are ratings of single raters.

    Raises
    ------
    UsageError
        If a recording has several traces of one target.
    """
    raters: dict[tuple[str, Target], list[str]] = {}
    for trace in traces:
        raters.setdefault((trace.id, trace.target), []).append(trace.rater or "(gold standard)")
    several = {key: names for key, names in raters.items() if len(names) > 1}
    if several:
        (recording, target), names = next(iter(several.items()))
        raise UsageError(
            f"'{source}' holds ratings of several raters: '{recording}' has {target} of "
            f"{some(sorted(names))}, and {len(several)} of {len(raters)} curves are such. Expected "
            f"one curve; fuse the raters: valence fuse '{source}' --out '{out}'."
        )
    alone = sorted({trace.rater for trace in traces if trace.rater is not None})
    if not alone:
        return traces, []
    return traces, [
        f"the labels are ratings of single raters ({some(alone)}), and no gold standard"
    ]


def hint_of_import(corpus: Location) -> str | None:
    """Say which import reads a folder that is no corpus in the MuSe layout; None if none does."""
    if not corpus.is_folder() or (corpus / "raw_data").exists():
        return None
    try:
        forms = fitting_forms(corpus, most=_MOST_FILES)
    except CorpusError:
        # The check itself says what is wrong with the folder.
        return None
    if not forms:
        return None
    known = " or ".join(f"{each.name} ({each.title})" for each in forms)
    return (
        f"'{corpus}' is not in the MuSe layout: it is in the form {known}. Expected a corpus that "
        f"was imported; run: valence import '{corpus}' --form {forms[0].name} --out CORPUS"
    )


def require_apart(source: Location, out: Location) -> None:
    """Refuse an output inside of the source, which later imports would read."""
    if out.scheme == source.scheme and f"{out.path}/".startswith(f"{source.path}/"):
        raise UsageError(
            f"The corpus would be written to '{out}', which lies in the source '{source}'. "
            "Expected a folder outside of it; name another one (--out)."
        )


def measured(
    recordings: dict[str, SourceRecording],
    aside: list[str],
    advance: Callable[[], object] = lambda: None,
) -> tuple[dict[str, SourceRecording], dict[str, Length]]:
    """Measure the sound of recordings; one that cannot be read is set aside with its reason."""
    lengths = {}
    for name, recording in recordings.items():
        advance()
        try:
            lengths[name] = measure(recording.sounds)
        except AudioError as error:
            aside.append(f"'{name}': {error}")
    return {name: recordings[name] for name in lengths}, lengths


def in_right_units(
    traces: Sequence[Trace],
    lengths: dict[str, Length],
    aside: list[str],
    *,
    command: str,
) -> list[Trace]:
    """Set labels aside whose times count another unit; all of them are an error."""
    usable, first = [], None
    for trace in traces:
        if trace.id not in lengths:
            continue
        try:
            require_units(trace, lengths[trace.id].total)
            usable.append(trace)
        except AnnotationError as error:
            first = first or error
            aside.append(str(error))
    if first is not None and not usable:
        raise first
    if not usable:
        raise CorpusError(
            "No recording has labels and sound that can be read. The first reason: "
            f"{sentence((aside or ['no Id has an audio file'])[0])} Correct what it names, and run "
            f"'valence {command}' again."
        )
    return usable


def tell_of_corpus(
    out: Location, notes: Sequence[str], console: Console, *, verb: str = "import"
) -> Corpus:
    """Print what was made and what was set aside."""
    for note in notes[:_MOST_SHOWN]:
        console.say(f"{verb}: {note}")
    if len(notes) > _MOST_SHOWN:
        console.say(
            f"{verb}: {len(notes) - _MOST_SHOWN} more notes are in '{out / 'metadata/import.json'}'"
        )
    corpus = read_corpus(out)
    console.say(
        f"{verb}: {plural(len(corpus.recordings), 'recording')} in '{out}'; next: valence check "
        f"'{out}'"
    )
    if not any(recording.partition for recording in corpus.recordings):
        console.say(
            f"{verb}: the source names no partition: write metadata/partition.csv (Id,Proposal "
            "with train, devel, test) before a run"
        )
    return corpus
