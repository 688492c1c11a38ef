"""Find the sound, the subject and the partition of each recording of a source."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

from valence.corpus.muse import Partition
from valence.errors import AnnotationError, CorpusError
from valence.formatting import some
from valence.importing.declaration import Declaration
from valence.importing.readers.audformat import Facts, read_facts
from valence.importing.readers.table import ids_in
from valence.importing.sources.lookups import read_partition, read_property
from valence.importing.sources.patterns import Tree, compile_pattern, list_tree, names_in
from valence.importing.sources.stretches import Sound as Sound
from valence.importing.sources.stretches import Stretch, read_stretches
from valence.importing.traces import label_files
from valence.storage.audio_suffixes import ALL_SUFFIXES
from valence.storage.filenames import normal
from valence.storage.location import Location


@dataclass(frozen=True)
class SourceRecording:
    """A recording of a source in another form.

    Attributes
    ----------
    id
        Its Id in the corpus that is made.
    sounds
        The stretches of sound that follow each other in it; mostly a single whole file.
    subject
        The person who speaks, or None if the source does not say so.
    partition
        The partition, or None if the source names none.
    """

    id: str
    sounds: tuple[Sound, ...]
    subject: str | None = None
    partition: Partition | None = None


def find_recordings(
    source: Location,
    declaration: Declaration,
    ids: Collection[str],
    *,
    audio: Location | None = None,
    remarks: list[str] | None = None,
) -> dict[str, SourceRecording]:
    """Find the recordings that labels name, by Id; an Id without sound is left out.

    Parameters
    ----------
    source
        The folder of the corpus.
    declaration
        Its form.
    ids
        The Ids that labels name.
    audio
        The folder that holds the audio files; None if `source` does.
    remarks
        Gets what is odd and does no harm, such as a table that is absent.

    Raises
    ------
    CorpusError
        If no Id has sound, an Id has two audio files that may be meant, or a table of the source
        cannot be read as declared.
    """
    tree = list_tree(source)
    sound_tree = tree if audio is None else list_tree(audio, holds="sound (--audio DIR)")
    noted = [] if remarks is None else remarks
    sound_paths = frozenset(sound_tree.paths)
    facts = _facts(tree, declaration, apart=audio is not None)
    path_parts = _path_parts(tree, declaration)
    finder = _AudioFinder(sound_tree, declaration.audio)
    stretches = None
    if declaration.cut is not None:
        stretches = read_stretches(tree, declaration, remarks)
    # A path says for certain what the expression `id_parts` only finds in an Id.
    parts = {
        each: {**declaration.parts_of(each), **path_parts.get(each, {}), "id": each} for each in ids
    }
    subjects = read_property(tree, declaration.subjects, "subjects", parts, noted)
    partition = read_partition(tree, declaration.partition, parts, noted)
    found = {}
    for each in sorted(ids):
        if stretches is not None:
            sounds = _cut_sounds(finder, parts[each], stretches.get(each, ()))
        else:
            path = facts.audio.get(each)
            file = sound_tree.root / path if path in sound_paths else finder.find(parts[each])
            sounds = () if file is None else (Sound(file),)
        if sounds:
            found[each] = SourceRecording(
                each,
                sounds,
                subjects.get(each, facts.subjects.get(each)),
                partition.get(each, facts.partition.get(each)),
            )
    if not found:
        raise CorpusError(
            f"'{sound_tree.root}' holds no audio file of {some(sorted(ids))}. Expected "
            f"{' or '.join(declaration.audio)} with an ending such as .wav; give the folder with "
            "the sound (--audio DIR), or name its files in a declaration (audio = [...])."
        )
    return found


def _cut_sounds(
    finder: _AudioFinder, parts: Mapping[str, str], stretches: Sequence[Stretch]
) -> tuple[Sound, ...]:
    """Find the file of each stretch; none if one of them is absent."""
    sounds = []
    for each in stretches:
        named = {"audio": each.audio} if each.audio else {}
        file = finder.find({**parts, **named})
        if file is None:
            return ()
        sounds.append(Sound(file, each.start, each.end, each.channel))
    return tuple(sounds)


class _AudioFinder:
    """Finds audio files by the parts of their paths.

    All paths are matched once, so that a corpus of many thousand files is read in seconds.
    """

    def __init__(self, tree: Tree, patterns: Sequence[str]) -> None:
        self._patterns = patterns
        self._found: list[dict[tuple[tuple[str, str], ...], list[Location]]] = []
        for pattern in patterns:
            compiled = compile_pattern(pattern)
            index: dict[tuple[tuple[str, str], ...], list[Location]] = defaultdict(list)
            for path in tree.paths:
                stem, point, ending = path.rpartition(".")
                if f"{point}{ending}".lower() not in ALL_SUFFIXES:
                    continue
                if match := compiled.fullmatch(normal(stem)):
                    index[_key(match.groupdict())].append(tree.root / path)
            self._found.append(index)
        self._names = [sorted(compile_pattern(pattern).groupindex) for pattern in patterns]

    def find(self, parts: Mapping[str, str]) -> Location | None:
        """Find the file for the parts of an Id; None if there is none.

        Raises
        ------
        CorpusError
            If several files of one format fit.
        """
        fitting: set[Location] = set()
        for names, index in zip(self._names, self._found, strict=True):
            if all(name in parts for name in names):
                fitting.update(index.get(_key({name: parts[name] for name in names}), ()))
        if not fitting:
            return None
        ranks = {file: ALL_SUFFIXES.index(file.suffix) for file in fitting}
        best = sorted(
            (file for file in fitting if ranks[file] == min(ranks.values())),
            key=lambda file: file.path,
        )
        if len(best) > 1:
            raise CorpusError(
                f"'{parts['id']}' has {len(best)} audio files: '{best[0]}' and '{best[1]}'. "
                "Expected one; give the folder with the sound (--audio DIR), or a pattern that "
                "fits one of them (audio = [...] in a declaration)."
            )
        return best[0]


def _key(parts: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    """Make a key of named parts; blanks around a name do not count, as in an Id."""
    return tuple(sorted((name, text.strip()) for name, text in parts.items()))


def _facts(tree: Tree, declaration: Declaration, *, apart: bool) -> Facts:
    """Read what the header of a database says of its files.

    Paths of audio files are those below the source or, if sound lies `apart`, below its folder.
    """
    audio: dict[str, str] = {}
    subjects: dict[str, str] = {}
    partition: dict[str, Partition] = {}
    for form in declaration.labels:
        if form.reader != "audformat":
            continue
        for file, _ in label_files(tree, form):
            facts = read_facts(file)
            below = file.parent.path[len(tree.root.path) :].strip("/")
            home = f"{below}/" if below and not apart else ""
            audio |= {each: f"{home}{path}" for each, path in facts.audio.items()}
            subjects |= facts.subjects
            partition |= facts.partition
    return Facts(audio, subjects, partition)


def _path_parts(tree: Tree, declaration: Declaration) -> dict[str, dict[str, str]]:
    """Collect the named parts of the paths of label files, by the Id that the path gives.

    Raises
    ------
    CorpusError
        If two paths give one Id and mean different audio files.
    """
    of_audio = {name for each in declaration.audio for name in compile_pattern(each).groupindex}
    of_audio -= {"id"}
    needed = {
        name
        for lookup in (declaration.subjects, declaration.partition)
        if lookup is not None
        for name in names_in(lookup.template or lookup.key)
    } | of_audio
    if needed <= {"id"}:
        return {}
    parts: dict[str, tuple[Location, dict[str, str]]] = {}
    for form in declaration.labels:
        for file, fields in label_files(tree, form):
            if not needed & fields.keys():
                continue
            found: Collection[str] = ()
            # A file that cannot be read has given no trace, and is named where traces are read.
            with suppress(AnnotationError):
                found = ids_in(file, fields, form)
            for recording in found:
                before, known = parts.setdefault(recording, (file, dict(fields)))
                if any(known.get(name) != fields.get(name) for name in of_audio):
                    raise CorpusError(
                        f"'{before}' and '{file}' both give the Id '{recording}', and their paths "
                        "mean different audio files. Expected an Id for each; rename one of them, "
                        "or declare Ids otherwise (id = ... in a declaration)."
                    )
    return {recording: fields for recording, (_, fields) in parts.items()}
