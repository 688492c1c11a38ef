"""A corpus in the MuSe layout: recordings, their subjects and their label files.

CORPUS/raw_data/audio/<Id>.(wav|flac|ogg|mp3|...), see valence.formats
CORPUS/label_segments/<valence|arousal|physio-arousal>/<Id>.csv
CORPUS/metadata/partition.csv       Id,Proposal with train, devel, test
CORPUS/metadata/subjects.csv        Id,subject; optional
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from valence.config import Target
from valence.errors import CorpusError
from valence.formats import ALL_SUFFIXES
from valence.storage import Location
from valence.tables import read_pairs

Partition = Literal["train", "devel", "test"]
Suffix = Literal["_train", "_devel", "_test"]

TARGETS: tuple[Target, ...] = ("valence", "arousal")

_LABEL_FOLDERS: dict[Target, tuple[str, ...]] = {
    "valence": ("valence",),
    "arousal": ("arousal", "physio-arousal"),
}
_SUFFIXES: tuple[Suffix, ...] = ("_train", "_devel", "_test")
_PARTITIONS: dict[str, Partition] = {
    "train": "train",
    "devel": "devel",
    "dev": "devel",
    "validation": "devel",
    "test": "test",
}


@dataclass(frozen=True)
class Recording:
    """A recording: where its audio and its labels lie, and who speaks.

    Attributes
    ----------
    id
        Name of the audio file less its suffix.
    audio
        The audio file.
    subject
        Who speaks.
    partition
        What `metadata/partition.csv` says, or None where it does not name the recording.
    labels
        Label file of each target that has one.
    remarks
        What was odd about its files.
    """

    id: str
    audio: Location
    subject: str
    partition: Partition | None = None
    labels: Mapping[Target, Location] = field(default_factory=dict)
    remarks: tuple[str, ...] = ()

    @property
    def suffix(self) -> Suffix | None:
        """`_train`, `_devel` or `_test` where the Id ends so, else None."""
        return _suffix(self.id)


@dataclass(frozen=True)
class Corpus:
    """The recordings under `root`, sorted by Id.

    Attributes
    ----------
    missing
        Ids that a label file or `partition.csv` names and that have no audio file.
    remarks
        What was odd about the corpus as a whole.
    """

    root: Location
    recordings: tuple[Recording, ...]
    missing: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()


def read_corpus(root: Location) -> Corpus:
    """List the recordings of a corpus; no audio and no label file is opened.

    Each folder is listed once, however many recordings it holds.

    Raises
    ------
    CorpusError
        If there is no audio in the layout, or a file of `metadata/` cannot be used.
    """
    audio, other = _list_audio(root)
    partition = _read_partition(root / "metadata/partition.csv")
    subjects = _read_subjects(root / "metadata/subjects.csv")
    labels = _list_labels(root)
    recordings = []
    for name in sorted(audio):
        chosen, *unused = audio[name]
        remarks = []
        if unused:
            also = ", ".join(f"'{file.name}'" for file in unused)
            remarks.append(
                f"has {len(unused) + 1} audio files; '{chosen.name}' is used, not {also}"
            )
        if partition and name not in partition:
            remarks.append("is not named in metadata/partition.csv")
        recordings.append(
            Recording(
                id=name,
                audio=chosen,
                subject=subjects.get(name, subject_of(name)),
                partition=partition.get(name),
                labels=labels.get(name, {}),
                remarks=tuple(remarks),
            )
        )
    missing = tuple(sorted((partition.keys() | labels.keys()) - audio.keys()))
    remarks = []
    if other:
        remarks.append(f"raw_data/audio has {_count(other, 'file')} that {_are(other)} no audio")
    if missing:
        told = f"{_count(missing, 'recording')} {_are(missing)} named elsewhere and"
        remarks.append(f"{told} {'has' if len(missing) == 1 else 'have'} no audio")
    if unknown := sorted(subjects.keys() - audio.keys()):
        remarks.append(f"metadata/subjects.csv names {_count(unknown, 'recording')} without audio")
    if not any("valence" in known for known in labels.values()):
        remarks.append("label_segments/valence holds no label file")
    return Corpus(root, tuple(recordings), missing, tuple(remarks))


def subject_of(recording: str) -> str:
    """The subject that an Id stands for: the Id less `_train`, `_devel`, `_test`.

    >>> subject_of("8_devel"), subject_of("12")
    ('8', '12')
    """
    return recording.removesuffix(_suffix(recording) or "")


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
    for file in _list(folder, entries=True):
        if file.suffix in ALL_SUFFIXES:
            audio[file.stem].append(file)
        else:
            other.append(file.name)
    if not audio:
        raise CorpusError(
            f"'{root}' is no corpus: {_what_is_there(root)}. Expected the MuSe layout, with "
            "raw_data/audio/<Id>.wav (or flac, ogg, mp3) and label_segments/valence/<Id>.csv; give "
            "the folder that holds raw_data."
        )
    for files in audio.values():
        files.sort(key=lambda file: ALL_SUFFIXES.index(file.suffix))
    return audio, other


def _what_is_there(root: Location) -> str:
    if not root.exists():
        return "there is no such folder"
    if not root.is_folder():
        return "it is a file"
    if not (root / "raw_data/audio").is_folder():
        return "it has no folder raw_data/audio"
    return "raw_data/audio holds no audio file"


def _list_labels(root: Location) -> dict[str, dict[Target, Location]]:
    labels: dict[str, dict[Target, Location]] = defaultdict(dict)
    for target, folders in _LABEL_FOLDERS.items():
        for folder in folders:
            for file in _list(root / "label_segments" / folder, entries=True):
                if file.suffix == ".csv":
                    labels[file.stem].setdefault(target, file)
    return dict(labels)


def _read_partition(file: Location) -> dict[str, Partition]:
    partition: dict[str, Partition] = {}
    lines: dict[str, int] = {}
    for line, name, text in read_pairs(file, "id", "proposal", values=_PARTITIONS):
        value = _PARTITIONS.get(text.lower())
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


def _read_subjects(file: Location) -> dict[str, str]:
    subjects: dict[str, str] = {}
    for line, name, subject in read_pairs(file, "id", "subject"):
        if not subject or subjects.setdefault(name, subject) != subject:
            found = f"has subject '{subject}'" if subject else "has no subject"
            raise CorpusError(
                f"'{file}', line {line}: recording '{name}' {found}. Expected one subject for each "
                "recording; correct that line."
            )
    return subjects


def _count(names: Sequence[str], what: str, most: int = 3) -> str:
    shown = ", ".join(f"'{name}'" for name in names[:most])
    more = ", …" if len(names) > most else ""
    return f"{len(names)} {what}{'' if len(names) == 1 else 's'} ({shown}{more})"


def _are(names: Sequence[object]) -> str:
    return "is" if len(names) == 1 else "are"
