"""Find the recordings to predict and their label files."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from glob import has_magic
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from valence.corpus.annotations import read_annotation
from valence.errors import CorpusError, FeatureError, UsageError
from valence.prediction.predictor import Stamps
from valence.segments.feature_sets import FeatureSet
from valence.storage.audio_suffixes import ALL_SUFFIXES
from valence.storage.filenames import is_utf8, normal, printable, shortened
from valence.storage.location import Location

_SUFFIX_BYTES = len(".parquet") + len("_9999")
# Number of label files that are read to find which end of a segment their timestamps name, for
# recordings whose own labels do not show it.
_ASKED_FILES = 10
_LABEL_FOLDERS = {"valence": ("valence",), "arousal": ("arousal", "physio-arousal")}


@dataclass(frozen=True)
class PredictionTask:
    """A recording to predict.

    Attributes
    ----------
    audio
        The recording's file.
    name
        Stem of the files that the prediction writes.
    labels
        Annotations to draw beside the prediction, by target.
    stamps
        Which end of a segment the labels' timestamps name, for a recording whose own labels do not
        show it; None if unknown.
    namesakes
        Number of recordings of the same call with the audio's name, including this one. Label
        files are found by name, so with two or more namesakes nobody knows to which recording the
        labels belong. Names that differ only in their Unicode form count as one name.
    scale
        The lowest and highest value of the labels' scale; None for the model's own.
    features
        The set that holds the recording's features, for a model that takes such a set.
    """

    audio: Location
    name: str
    labels: Mapping[str, Location]
    stamps: Stamps | None = None
    namesakes: int = 1
    scale: tuple[float, float] | None = None
    features: FeatureSet | None = None

    def read_features(self, segments: int) -> tuple[NDArray[np.float32], tuple[str, ...]]:
        """Read the features of the recording's segments, `[segments, columns]`, and remarks.

        Raises
        ------
        FeatureError
            If the file is missing, ambiguous or unusable.
        """
        self.features_file()
        assert self.features is not None, "the model takes features"
        found = self.features.joined(self.audio.stem, segments)
        return found.value, found.remarks

    def features_file(self) -> Location:
        """Return the file of the recording's features.

        Raises
        ------
        FeatureError
            If the file is missing, or if several recordings of the call have this name.
        """
        assert self.features is not None, "the model takes features"
        if self.namesakes > 1:
            raise FeatureError(
                f"{self.namesakes} recordings are called '{printable(self.audio.stem)}', and which "
                "of them the features belong to is not known. Expected one; predict them in calls "
                "of their own."
            )
        return self.features.file(self.audio.stem)


def find_audio(texts: Sequence[str]) -> list[Location]:
    """Find the audio files that arguments name: files, folders, glob patterns and URIs.

    A folder stands for the audio files directly in it; a pattern with `**` also finds files in its
    subfolders. Broken links, pipes and folders with an audio suffix are found too, so that they are
    listed as failed.

    Raises
    ------
    UsageError
        If an argument names nothing.
    """
    found: dict[str, Location] = {}
    for text in texts:
        place = Location.parse(text)
        if _is_folder(place):
            files = [file for file in place.entries() if file.suffix in ALL_SUFFIXES]
        elif place.is_named():
            # An existing file's name is used literally, even if it looks like a pattern.
            files = [place]
        else:
            files = _matching(Path(text).expanduser().absolute())
        if not files:
            raise UsageError(
                f"'{printable(text)}' names no audio. Expected a file, a folder with files such as "
                f"{', '.join(ALL_SUFFIXES[:6])}, or a pattern that matches some."
            )
        found |= {file.uri: file for file in files}
    return list(found.values())


def _matching(pattern: Path) -> list[Location]:
    """Find all entries that a pattern matches, including broken links and pipes."""
    anchor, name = Path(pattern.anchor), pattern.name
    if not has_magic(str(pattern)):
        return []
    if has_magic(name):
        paths = list(anchor.glob(str(pattern.relative_to(anchor))))
        if not name.startswith("."):
            paths = [path for path in paths if not path.name.startswith(".")]
    else:
        # `Path.glob` omits broken links if the name has no wildcard, so only the folders use it.
        folders = anchor.glob(str(pattern.parent.relative_to(anchor)))
        paths = [folder / name for folder in folders]
    found = [Location.parse(path) for path in sorted(paths)]
    return [
        file
        for file in found
        if file.is_named() and (file.suffix in ALL_SUFFIXES or not _is_folder(file))
    ]


def _is_folder(place: Location) -> bool:
    try:
        return place.is_folder()
    except OSError:
        # The error is reported when the recording is read.
        return False


def make_tasks(
    audio: Sequence[Location],
    labels: Location | None = None,
    *,
    scale: tuple[float, float] | None = None,
) -> list[PredictionTask]:
    """Make a task for each file, with a unique name.

    The name is the file's stem. If several files share a stem, the name begins with the folder's
    name; if it is still not unique, a number follows. A name that is too long for the suffixes is
    shortened.

    Parameters
    ----------
    audio
        The audio files.
    labels
        A CSV (for a single audio file) or a folder. The folder holds `<target>/<stem>.csv`, such as
        a corpus or its `label_segments`, or it holds `<stem>.csv`. The latter are labels of the
        target that the folder is named after, or of valence if the folder has another name.
    scale
        The lowest and highest value of the labels' scale; None for the model's own.

    Raises
    ------
    UsageError
        If `labels` does not exist, is one CSV for several files, or is a folder without labels for
        any of them; or if `scale` is not a finite, ascending pair or is given without labels.
    """
    ascends = scale is None or (all(map(math.isfinite, scale)) and scale[0] < scale[1])
    if scale is not None and (labels is None or not ascends):
        found = "without labels" if labels is None else f"as {scale[0]:g} {scale[1]:g}"
        raise UsageError(
            f"The range of the labels was given {found}. Expected the lowest and the highest value "
            "of their scale, beside --labels."
        )
    if labels is not None and not labels.exists():
        raise UsageError(f"There are no labels at '{labels}'. Expected a CSV or a folder of them.")
    single = labels is not None and not labels.is_folder()
    if single and len(audio) > 1:
        raise UsageError(
            f"'{labels}' is one file of labels for {len(audio)} recordings. Expected a folder with "
            "valence/<name>.csv for each."
        )
    stems = [file.stem for file in audio]
    often = Counter(stems)
    # Label files are matched regardless of the Unicode form of their names.
    namesakes = Counter(map(normal, stems))
    known = {} if labels is None or single else _label_files(labels)
    taken: set[str] = set()
    tasks = []
    for file, stem in zip(audio, stems, strict=True):
        name = stem if often[stem] == 1 else f"{file.path.split('/')[-2]}_{stem}"
        # A name that is not UTF-8 is made printable; it appears only in messages, because its
        # recording is set aside.
        name = name if is_utf8(name) else printable(name)
        name = base = shortened(name, suffix_bytes=_SUFFIX_BYTES)
        number = 2
        # Some file systems hold one file for names that differ only in case or Unicode form.
        while _alike(name) in taken:
            name, number = f"{base}_{number}", number + 1
        taken.add(_alike(name))
        own = {
            # Among several files, the one whose name is spelled like the audio's is preferred.
            target: min(files, key=lambda each: (each.stem != stem, not each.name.endswith(".csv")))
            for target, files in known.get(normal(stem), {}).items()
        }
        if labels is not None and single:
            own = {"valence": labels}
        tasks.append(
            PredictionTask(file, name, own, namesakes=namesakes[normal(stem)], scale=scale)
        )
    if any(task.labels for task in tasks):
        stamps = _common_stamps(tasks)
        tasks = [replace(task, stamps=stamps) for task in tasks]
    if labels is not None and not any(task.labels for task in tasks):
        raise UsageError(
            f"'{labels}' holds no labels for any of the {len(audio)} recordings. "
            f"Expected {printable(stems[0])}.csv there, or in a folder 'valence' or 'arousal' "
            "there, and so on."
        )
    return tasks


def _label_files(labels: Location) -> dict[str, dict[str, list[Location]]]:
    """List the label files of a folder, by composed stem and by target.

    Each folder is listed only once, even for many recordings. Broken links are listed too; their
    recordings get a remark.
    """
    known: dict[str, dict[str, list[Location]]] = defaultdict(dict)
    for target, folders in _LABEL_FOLDERS.items():
        for folder in folders:
            for place in (labels / folder, labels / "label_segments" / folder):
                for stem, files in _tables_in(place).items():
                    known[stem].setdefault(target, files)
    named = [target for target, folders in _LABEL_FOLDERS.items() if labels.name in folders]
    for stem, files in _tables_in(labels).items():
        if stem not in known:
            known[stem] = {named[0] if named else "valence": files}
    return known


def _tables_in(folder: Location) -> dict[str, list[Location]]:
    """List the CSVs of a folder by composed stem, so that both forms of an accent match."""
    found: dict[str, list[Location]] = defaultdict(list)
    try:
        files = folder.entries()
    except NotADirectoryError:
        return {}
    except OSError as error:
        raise UsageError(
            f"The labels in '{folder}' cannot be listed: {error}. Check that you may read it."
        ) from error
    for file in files:
        if file.suffix == ".csv":
            found[normal(file.stem)].append(file)
    return found


def _common_stamps(tasks: Sequence[PredictionTask]) -> Stamps | None:
    """Find which end of a segment the first readable label files name; None if they disagree."""
    found: list[Stamps] = []
    for file in (file for task in tasks for file in task.labels.values()):
        with suppress(CorpusError):
            stamps = read_annotation(file).stamps
            if stamps is not None:
                found.append(stamps)
        if len(found) == _ASKED_FILES:
            break
    return found[0] if len(set(found)) == 1 else None


def _alike(name: str) -> str:
    """Return a key that is equal for names that some file systems treat as the same."""
    return normal(name).casefold()
