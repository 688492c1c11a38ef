"""Read a corpus in the MuSe layout: recordings, their subjects and their label files.

CORPUS/raw_data/audio/<Id>.(wav|flac|ogg|mp3|...), see valence.storage.audio_suffixes
CORPUS/label_segments/<valence|arousal|physio-arousal>/<Id>.csv
CORPUS/metadata/partition.csv       Id,Proposal with train, devel, test
CORPUS/metadata/subjects.csv        Id,subject; optional

Names are compared in composed Unicode form (NFC), because an accent may be part of its letter or a
character of its own.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from valence.config import Target
from valence.corpus.csv_tables import is_missing
from valence.corpus.metadata import Column, Ids, Pairs, read_pairs
from valence.corpus.subjects import SubjectSource, known_corpus, subjects_by_rule, unknown_subjects
from valence.errors import ConfigError, CorpusError
from valence.formatting import UNKNOWN_IN_PART
from valence.storage.audio_suffixes import ALL_SUFFIXES
from valence.storage.filenames import bare, is_utf8, normal, printable
from valence.storage.location import Location

Partition = Literal["train", "devel", "test"]
Suffix = Literal["_train", "_devel", "_test"]

TARGETS: tuple[Target, ...] = ("valence", "arousal")

_LABEL_FOLDERS: dict[Target, tuple[str, ...]] = {
    "valence": ("valence",),
    "arousal": ("arousal", "physio-arousal"),
}
_SUFFIXES: tuple[Suffix, ...] = ("_train", "_devel", "_test")
PARTITION_WORDS: dict[str, Partition] = {
    "train": "train",
    "training": "train",
    "devel": "devel",
    "dev": "devel",
    "development": "devel",
    "val": "devel",
    "valid": "devel",
    "validation": "devel",
    "test": "test",
    "testing": "test",
}
_PARTITION_NAMES = ("proposal", "partition", "split", "splitset", "set", "subset")
_SUBJECT_NAMES = (
    *("subject", "subjectid", "speaker", "speakerid", "spkr", "spkrid", "spk", "spkid", "talker"),
    *("participant", "participantid", "person", "personid", "actor", "actorid"),
)
_PARTITION = Column("Proposal", _PARTITION_NAMES, PARTITION_WORDS, _SUBJECT_NAMES)
_SUBJECT = Column("subject", _SUBJECT_NAMES, (), _PARTITION_NAMES)
# This file marks a corpus that the embedded synthesis made, with one speaker for each recording.
SYNTHETIC = "metadata/synthetic.json"


@dataclass(frozen=True)
class Recording:
    """A recording: its audio file, its label files and its subject.

    Attributes
    ----------
    id
        Name of the audio file without its suffix.
    audio
        The audio file.
    subject
        The person who speaks.
    partition
        The partition in `metadata/partition.csv`, or None if the recording is not in it.
    labels
        Label file of each target that has one.
    remarks
        Oddities of its files.
    """

    id: str
    audio: Location
    subject: str
    partition: Partition | None = None
    labels: Mapping[Target, Location] = field(default_factory=dict)
    remarks: tuple[str, ...] = ()

    @property
    def suffix(self) -> Suffix | None:
        """Return `_train`, `_devel` or `_test` if the Id ends with it, else None."""
        return _suffix(self.id)


@dataclass(frozen=True)
class Corpus:
    """The recordings under `root`, sorted by Id.

    Attributes
    ----------
    missing
        Ids of label files or `partition.csv` that have no audio file.
    remarks
        Oddities of the corpus as a whole.
    subjects
        The source from which the subjects are known.
    subjects_remark
        A doubt about the subjects that a reader of any score must know, or `""`. It is also one of
        the `remarks`.
    """

    root: Location
    recordings: tuple[Recording, ...]
    missing: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()
    subjects: SubjectSource = "id"
    subjects_remark: str = ""


def read_corpus(root: Location, subjects: str | None = None) -> Corpus:
    """List the recordings of a corpus without opening audio or label files.

    Each folder is listed only once, however many recordings it holds.

    Parameters
    ----------
    root
        The folder of the corpus.
    subjects
        `corpus.subjects` of the configuration: a rule that finds the subject in an Id.

    Raises
    ------
    CorpusError
        If the layout holds no audio, or a file of `metadata/` cannot be used.
    ConfigError
        If the rule does not fit the Ids, or `metadata/subjects.csv` exists as well.
    """
    audio, other = _list_audio(root)
    ids = Ids(audio)
    named = read_pairs(root / "metadata/partition.csv", ids, _PARTITION)
    partition = _partition(root / "metadata/partition.csv", named)
    if partition and not partition.keys() & audio.keys():
        raise CorpusError(
            f"'{root / 'metadata/partition.csv'}' names {_some(sorted(partition))}, and none of "
            f"the {len(audio)} recordings ({_some(sorted(audio))}). Expected their Ids, the names "
            "of the audio files without ending; correct them, or remove the file."
        )
    voices = _voices(root, ids, subjects)
    labels, odd = _list_labels(root, ids)
    recordings = []
    for name in sorted(audio):
        chosen, *unused = audio[name]
        remarks = []
        if unused:
            also = ", ".join(f"'{printable(file.name)}'" for file in unused)
            used = printable(chosen.name)
            remarks.append(
                f"has {len(unused) + 1} audio files; '{used}' is used, not {also}"
                + _alike([file.name for file in audio[name]])
            )
        if partition and name not in partition:
            remarks.append("is not named in metadata/partition.csv")
        recordings.append(
            Recording(
                id=name,
                audio=chosen,
                subject=voices.subjects.get(name, subject_of(name)),
                partition=partition.get(name),
                labels=labels.get(name, {}),
                remarks=(*remarks, *odd.get(name, ())),
            )
        )
    missing = tuple(sorted((partition.keys() | labels.keys()) - audio.keys()))
    corpus_remarks = []
    if other:
        corpus_remarks.append(
            f"raw_data/audio has {_count(other, 'file')} that {_are(other)} no audio"
        )
    if missing:
        found = f"{_count(missing, 'recording')} {_are(missing)} named elsewhere and"
        corpus_remarks.append(f"{found} {'has' if len(missing) == 1 else 'have'} no audio")
        corpus_remarks += _about_case("label_segments or metadata/partition.csv", missing, audio)
    corpus_remarks += _about_partition(partition, named, audio)
    corpus_remarks += voices.remarks
    if voices.remark:
        corpus_remarks.append(voices.remark)
    if not any("valence" in known for known in labels.values()):
        corpus_remarks.append("label_segments/valence holds no label file")
    return Corpus(
        root,
        tuple(recordings),
        missing,
        tuple(corpus_remarks),
        subjects=voices.source,
        subjects_remark=voices.remark,
    )


def subject_of(recording: str) -> str:
    """Return the subject of an Id: the Id without `_train`, `_devel` or `_test`, in NFC.

    >>> subject_of("8_devel"), subject_of("12")
    ('8', '12')
    """
    return normal(recording.removesuffix(_suffix(recording) or ""))


def _suffix(recording: str) -> Suffix | None:
    return next((suffix for suffix in _SUFFIXES if recording.endswith(suffix)), None)


def _list(folder: Location, *, entries: bool = False) -> list[Location]:
    try:
        return folder.entries() if entries else folder.files()
    except NotADirectoryError:
        return []
    except OSError as error:
        raise CorpusError(
            f"'{folder}' cannot be listed: {error}. Check the address and that you may read it."
        ) from error


def _list_audio(root: Location) -> tuple[dict[str, list[Location]], list[str]]:
    folder = root / "raw_data/audio"
    audio: dict[str, list[Location]] = defaultdict(list)
    other = []
    forms: dict[str, str] = {}
    for file in _list(folder, entries=True):
        if file.suffix in ALL_SUFFIXES:
            name = _id_of(file)
            # Names that differ only in Unicode form belong to one recording.
            audio[forms.setdefault(normal(name), name)].append(file)
        else:
            other.append(printable(file.name))
    if not audio:
        raise CorpusError(
            f"'{root}' is no corpus: {_what_is_there(root)}. Expected the MuSe layout, with "
            "raw_data/audio/<Id>.wav (or flac, ogg, mp3) and label_segments/valence/<Id>.csv; give "
            "the folder that holds raw_data."
        )
    for files in audio.values():
        files.sort(key=lambda file: ALL_SUFFIXES.index(file.suffix))
    return audio, other


def _id_of(file: Location) -> str:
    """Return the Id of a file; a name that is not UTF-8 is written with escapes.

    Tables cannot hold such a name, so the recording is rejected when its audio is opened.
    """
    return file.stem if is_utf8(file.stem) else printable(file.stem)


def _what_is_there(root: Location) -> str:
    if not root.exists():
        return "there is no such folder"
    if not root.is_folder():
        return "it is a file"
    if not (root / "raw_data/audio").is_folder():
        return "it has no folder raw_data/audio"
    return "raw_data/audio holds no audio file"


def _list_labels(
    root: Location, ids: Ids
) -> tuple[dict[str, dict[Target, Location]], dict[str, list[str]]]:
    """List the label files of each recording by target, and remark on odd names."""
    labels: dict[str, dict[Target, Location]] = defaultdict(dict)
    remarks: dict[str, list[str]] = defaultdict(list)
    for target, folders in _LABEL_FOLDERS.items():
        for folder in folders:
            found: dict[str, list[Location]] = defaultdict(list)
            for file in _list(root / "label_segments" / folder, entries=True):
                if file.suffix == ".csv":
                    name = _id_of(file)
                    # No further ending is removed: 'a.wav.csv' need not be the labels of 'a'.
                    known = ids.find(name)
                    same = known is not None and normal(known) == normal(name)
                    found[known if known is not None and same else normal(name)].append(file)
            for name, files in found.items():
                if target in labels[name]:
                    continue
                # If names differ only in Unicode form, the one in the audio's form comes first.
                files.sort(key=lambda file: _id_of(file) != name)
                labels[name][target] = files[0]
                place = f"label_segments/{folder}"
                if len(files) > 1:
                    remarks[name].append(
                        f"has {len(files)} label files in {place}" + _alike([f.name for f in files])
                    )
                elif _id_of(files[0]) != name and ids.find(name) is not None:
                    remarks[name].append(
                        f"is joined to a label file in {place} whose name is written in another "
                        "Unicode form (NFC, NFD)"
                    )
    return dict(labels), dict(remarks)


def _partition(file: Location, named: Pairs) -> dict[str, Partition]:
    partition: dict[str, Partition] = {}
    lines: dict[str, int] = {}
    for line, name, text in named.rows:
        value = PARTITION_WORDS.get(text.lower())
        if value is None:
            raise CorpusError(
                f"'{file}', line {line}: recording '{name}' is given '{text}'. Expected train, "
                "devel or test; correct that line."
            )
        if partition.setdefault(name, value) != value:
            raise CorpusError(
                f"'{file}', line {line}: recording '{name}' is {value} here and {partition[name]} "
                f"in line {lines[name]}. Expected one of them; remove the other."
            )
        lines.setdefault(name, line)
    return partition


def _about_partition(
    partition: Mapping[str, Partition], named: Pairs, audio: Mapping[str, object]
) -> list[str]:
    remarks = _about_endings("partition", named)
    unnamed = [name for name in sorted(audio) if name not in partition and not _suffix(name)]
    if partition and unnamed:
        remarks.append(
            f"metadata/partition.csv does not name {len(unnamed)} of "
            f"{_count(list(audio), 'recording', 0)}: {_some(unnamed)}; under the protocol "
            "'partition' they take no part in training or scores"
        )
    return remarks


@dataclass(frozen=True)
class _Voices:
    """Subjects of the recordings that a table or a rule names, and their source."""

    source: SubjectSource
    subjects: Mapping[str, str]
    remark: str = ""
    remarks: tuple[str, ...] = ()


def _voices(root: Location, ids: Ids, rule: str | None) -> _Voices:
    file = root / "metadata/subjects.csv"
    named = read_pairs(file, ids, _SUBJECT)
    shorn = {name: subject_of(name) for name in ids.names}
    if named.rows and rule is not None:
        raise ConfigError(
            f"'{file}' says who speaks, and corpus.subjects = '{rule}' does as well. Expected one "
            "of them; leave corpus.subjects out, or remove the file."
        )
    if named.rows:
        return _voices_of(file, named, shorn)
    if rule is not None:
        found = subjects_by_rule(sorted(set(shorn.values())), rule)
        return _Voices("rule", {name: found[bare_id] for name, bare_id in shorn.items()})
    people = set(shorn.values())
    if len(shorn) < 2 or (len(people) < len(shorn) and known_corpus(sorted(people)) is None):
        return _Voices("id", {})
    if (root / SYNTHETIC).exists():
        return _Voices("synthetic", {})
    return _Voices("unknown", {}, unknown_subjects(sorted(people)))


def _voices_of(file: Location, named: Pairs, shorn: Mapping[str, str]) -> _Voices:
    """Take the subjects from `metadata/subjects.csv`."""
    said: dict[str, str] = {}
    for line, name, text in named.rows:
        subject = normal(text)
        # Pandas writes NaN for an unknown subject; NaN is no person's name.
        if is_missing(subject) or said.setdefault(name, subject) != subject:
            lacks = is_missing(subject)
            found = "has no subject" if lacks else f"has subject '{subject}'"
            also = "" if lacks else f" and '{said[name]}' in a line before"
            raise CorpusError(
                f"'{file}', line {line}: recording '{name}' {found}{also}. Expected one subject "
                "for each recording; correct that line."
            )
    subjects, inherited = _spread(said, shorn)
    used = {*shorn, *(shorn[name] for name in inherited)}
    unknown = sorted(name for name in said if name not in used and bare(name) not in used)
    if not subjects:
        raise CorpusError(
            f"'{file}' names {_some(unknown)}, and none of the {len(shorn)} recordings "
            f"({_some(sorted(shorn))}). Expected their Ids, the names of the audio files without "
            "ending; correct them, or remove the file."
        )
    remarks = _about_endings("subjects", named)
    if inherited:
        remarks.append(
            f"metadata/subjects.csv does not name {_count(inherited, 'recording')} as a whole; "
            "they take the subject of the same Id without or with another suffix"
        )
    if unknown:
        remarks.append(f"metadata/subjects.csv names {_count(unknown, 'recording')} without audio")
        remarks += _about_case("metadata/subjects.csv", unknown, shorn)
    remarks += _about_spelling(sorted(set(subjects.values())))
    # An Id with a suffix shows its subject, unless the table gives related Ids several subjects.
    several = {shorn[name] for name in shorn if name in subjects}
    unnamed = [
        name
        for name in sorted(shorn)
        if name not in subjects and (name == shorn[name] or shorn[name] in several)
    ]
    remark = ""
    if unnamed:
        remark = (
            f"{UNKNOWN_IN_PART}: metadata/subjects.csv does not name {len(unnamed)} of "
            f"{_count(list(shorn), 'recording', 0)}: {_some(unnamed)}; each counts as a subject of "
            "its own, and if one of the others speaks there, that person may stand in training and "
            "in test"
        )
    return _Voices("file", subjects, remark, tuple(remarks))


def _spread(said: Mapping[str, str], shorn: Mapping[str, str]) -> tuple[dict[str, str], list[str]]:
    """Give each recording the subject of its own Id or of a related Id.

    `8_train`, `8_devel` and `8` are recordings of one person. If the table names one of them, its
    subject holds for the others too.

    Parameters
    ----------
    said
        Subjects by the Ids of the table.
    shorn
        Each recording's Id without its suffix.

    Returns
    -------
    Subjects by Id, and the Ids whose subject comes from a related Id.
    """
    families: dict[str, set[str]] = defaultdict(set)
    for name, subject in said.items():
        families[shorn.get(name, bare(name))].add(subject)
    subjects = {name: said[name] for name in shorn if name in said}
    inherited = [
        name for name in sorted(shorn) if name not in said and len(families[shorn[name]]) == 1
    ]
    return subjects | {name: next(iter(families[shorn[name]])) for name in inherited}, inherited


def _about_spelling(subjects: Sequence[str]) -> list[str]:
    """Remark on subjects that may be one person whose name is written in two ways."""
    spellings: dict[str, list[str]] = defaultdict(list)
    for subject in subjects:
        plain = "".join(subject.casefold().split()).removesuffix(".0")
        spellings[plain.lstrip("0") if plain.isdigit() else plain].append(subject)
    alike = [names for names in spellings.values() if len(names) > 1]
    if not alike:
        return []
    return [
        f"metadata/subjects.csv writes {_some(alike[0])}, which count as {len(alike[0])} subjects; "
        "if they are one person, write the name in one way, or that person may stand in training "
        "and in test"
        + (f" ({len(alike) - 1} more names are written in several ways)" if alike[1:] else "")
    ]


def _about_case(place: str, missing: Sequence[str], audio: Iterable[str]) -> list[str]:
    """Remark on names without audio that match an audio file except for upper and lower case."""
    known = {normal(name).casefold(): name for name in audio}
    pairs = [(name, known.get(normal(name).casefold())) for name in missing]
    alike = [f"'{name}' ('{of}')" for name, of in pairs if of is not None]
    if not alike:
        return []
    one = len(alike) == 1
    return [
        f"{len(alike)} {'name' if one else 'names'} in {place} and {'that' if one else 'those'} of "
        f"the audio differ in capital and small letters only: {', '.join(alike[:3])}"
        f"{', …' if len(alike) > 3 else ''}; such files are not joined: write both names alike"
    ]


def _about_endings(table: str, named: Pairs) -> list[str]:
    if not named.changed:
        return []
    return [
        f"metadata/{table}.csv writes {_count(named.changed, 'Id')} with a folder or an ending; "
        "these parts are ignored"
    ]


def _alike(names: Sequence[str]) -> str:
    """Remark on file names that look the same to a reader."""
    if len({normal(name) for name in names}) == len(names):
        return ""
    return "; their names differ only in their Unicode form (NFC, NFD): rename or remove one"


def _some(names: Sequence[str], most: int = 3) -> str:
    return ", ".join(f"'{name}'" for name in names[:most]) + (", …" if len(names) > most else "")


def _count(names: Sequence[str], what: str, most: int = 3) -> str:
    shown = f" ({_some(names, most)})" if most else ""
    return f"{len(names)} {what}{'' if len(names) == 1 else 's'}{shown}"


def _are(names: Sequence[object]) -> str:
    return "is" if len(names) == 1 else "are"
