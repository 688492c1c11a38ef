"""The files that a prediction leaves for a recording: CSV, Parquet and a figure, made once."""

from __future__ import annotations

import hashlib
import json
import time
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from valence.annotation import join_annotation, read_annotation
from valence.audio import Witness, checksum, on_disk
from valence.errors import AudioError, CorpusError, OutputError, UsageError, ValenceError
from valence.figures import timeline
from valence.formats import ALL_SUFFIXES
from valence.metrics import ConstantWarning, concordance
from valence.prediction import Predictor, Timeline
from valence.run import fingerprint
from valence.storage import Location

Status = Literal["ok", "skipped", "stale", "failed"]

# The version of what these files hold: raised when the same input gives other files.
_FORMAT = 3
_METADATA = b"valence"
_LABEL_FOLDERS = {"valence": ("valence",), "arousal": ("arousal", "physio-arousal")}

WEIGHTING = (
    "A sequence begins at every segment; a segment's value is the mean, with equal weights, of the "
    "predictions of all sequences that hold it."
)


@dataclass(frozen=True)
class Task:
    """A recording to predict.

    Attributes
    ----------
    audio
        Its file.
    name
        Stem of the files that it gets.
    labels
        Annotations to draw beside the prediction, by target.
    """

    audio: Location
    name: str
    labels: Mapping[str, Location]


@dataclass(frozen=True)
class Outcome:
    """What became of a recording.

    Attributes
    ----------
    name, audio
        As in the task.
    status
        `ok`; `skipped`: its files stood there already; `stale`: files of another model or sound
        stand there and were not to be replaced; `failed`, for a reason that lies in its file.
    reason
        Why there is no prediction, or what was odd.
    rows
        Rows of its timeline.
    short
        Whether it is shorter than a sequence.
    sound_seconds, seconds
        Length of what was predicted, and how long that took.
    ccc
        Agreement with the annotation, by target, where there is one.
    """

    name: str
    audio: str
    status: Status
    reason: str = ""
    rows: int = 0
    short: bool = False
    sound_seconds: float = 0.0
    seconds: float = 0.0
    ccc: Mapping[str, float] | None = None

    def to_json(self) -> dict[str, Any]:
        """A dictionary for JSON; `Outcome(**content)` reads it back."""
        return asdict(self)


def find_audio(texts: Sequence[str]) -> list[Location]:
    """The audio files that arguments name: files, folders (the audio in them), globs, URIs.

    Folders within a folder are left alone; a pattern with `**` goes down into them. Links to
    nothing, pipes and folders under the name of audio are found too, so that they are listed as
    failed.

    Raises
    ------
    UsageError
        If an argument names nothing.
    """
    found: dict[str, Location] = {}
    for text in texts:
        place = Location.parse(text)
        if place.is_folder():
            files = [file for file in place.entries() if file.suffix in ALL_SUFFIXES]
        elif place.exists() or (place.local is not None and place.local.is_symlink()):
            files = [place]
        else:
            # What is a file's own name is taken as such, even if it looks like a pattern.
            pattern = Path(text).expanduser().absolute()
            matches = Path(pattern.anchor).glob(str(pattern.relative_to(pattern.anchor)))
            files = [Location.parse(match) for match in sorted(matches) if match.is_file()]
        if not files:
            raise UsageError(
                f"'{text}' names no audio. Expected a file, a folder with files such as "
                f"{', '.join(ALL_SUFFIXES[:6])}, or a pattern that matches some."
            )
        found |= {str(file): file for file in files}
    return list(found.values())


def make_tasks(audio: Sequence[Location], labels: Location | None = None) -> list[Task]:
    """A task for each file, each with a name of its own.

    The name is the file's stem; where two share it, the folder's name precedes it, and where even
    that is shared, a number follows.

    Parameters
    ----------
    audio
        Files.
    labels
        A CSV (of the only file), or a folder with `<target>/<stem>.csv`, such as a corpus or its
        `label_segments`, or with `<stem>.csv`: of the target that the folder is named for, else
        of valence.

    Raises
    ------
    UsageError
        If `labels` is absent, a single CSV for several files, or a folder without a file for any.
    """
    if labels is not None and not labels.exists():
        raise UsageError(f"There are no labels at '{labels}'. Expected a CSV or a folder of them.")
    if labels is not None and not labels.is_folder() and len(audio) > 1:
        raise UsageError(
            f"'{labels}' is one file of labels for {len(audio)} recordings. Expected a folder with "
            "valence/<name>.csv for each."
        )
    stems = [file.stem for file in audio]
    taken: set[str] = set()
    tasks = []
    for file, stem in zip(audio, stems, strict=True):
        name = stem if stems.count(stem) == 1 else f"{file.path.split('/')[-2]}_{stem}"
        base, number = name, 2
        while name in taken:
            name, number = f"{base}_{number}", number + 1
        taken.add(name)
        tasks.append(Task(file, name, _labels_of(stem, labels)))
    if labels is not None and not any(task.labels for task in tasks):
        raise UsageError(
            f"'{labels}' holds no labels for any of the {len(audio)} recordings. Expected "
            f"{stems[0]}.csv there, or in a folder 'valence' or 'arousal' there, and so on."
        )
    return tasks


def predict_task(
    predictor: Predictor, task: Task, out: Location, *, overwrite: bool = False
) -> Outcome:
    """Predict a recording and write its files, unless they stand there as they would be made.

    Parameters
    ----------
    predictor
        The model.
    task
        The recording.
    out
        Folder of the files.
    overwrite
        Whether files of another model, regressor, sound or annotation may be replaced.

    Raises
    ------
    OutputError
        If `out` cannot be written.
    ModelError
        If the model cannot be used on any recording.
    """
    try:
        return _predict(predictor, task, out, overwrite=overwrite)
    except CorpusError as error:
        reason = str(error)
    except ValenceError:
        raise
    except Exception as error:
        # Whatever one recording brings about, the others are still to be predicted.
        reason = (
            f"'{task.audio}' could not be predicted, for a reason that was not foreseen: "
            f"{type(error).__name__}: {error}"
        )
    return Outcome(task.name, str(task.audio), "failed", reason)


def _predict(predictor: Predictor, task: Task, out: Location, *, overwrite: bool) -> Outcome:
    began = time.monotonic()
    known: dict[str, Any] = {"name": task.name, "audio": str(task.audio)}
    with on_disk(task.audio) as path:
        witness = Witness.of(path, task.audio)
        made_of = _made_of(predictor, task, path)
        before = _read_about(out, task.name)
        if before is not None and before["made_of"] == made_of:
            if before["whole"]:
                return Outcome(**{**before["outcome"], "status": "skipped"})
        elif before is not None and not overwrite:
            return Outcome(**known, status="stale")
        predicted = predictor.predict_path(path, name=task.audio)
        witness.require_unchanged()
    annotation, remarks = _read_labels(task, len(predicted))
    step = predictor.config.preprocess.segment_seconds
    outcome = Outcome(
        **known,
        status="ok",
        reason="; ".join(remarks),
        rows=len(predicted),
        short=predicted.short,
        sound_seconds=len(predicted) * step,
        seconds=time.monotonic() - began,
        ccc=_agreement(predicted, annotation) or None,
    )
    _write(out, outcome, predicted, annotation, made_of, step=step)
    return outcome


def _write(
    out: Location,
    outcome: Outcome,
    predicted: Timeline,
    annotation: Mapping[str, NDArray[np.float32]],
    made_of: str,
    *,
    step: float,
) -> None:
    notes = [f"CCC {value:.2f}" for value in (outcome.ccc or {}).values()]
    if predicted.short:
        notes.append(f"shorter than a sequence: one prediction of {outcome.sound_seconds:g} s")
    drawing = timeline(
        predicted.time,
        predicted.values,
        targets=predicted.targets,
        envelope=(predicted.envelope[0], predicted.envelope[1]),
        name=outcome.name,
        step=step,
        note=", ".join(notes),
        annotation=annotation,
    ).png()
    frame = predicted.to_frame()
    table = pa.Table.from_pandas(frame, preserve_index=False)
    # How long it took is left out: the same input gives the same bytes.
    told = replace(outcome, seconds=0.0).to_json()
    about = {"made_of": made_of, "outcome": told, "weighting": WEIGHTING}
    parquet, csv, png = _files(out, outcome.name)
    try:
        # The Parquet comes first and says that what stands beside it is ours: another program's
        # table of that name is never taken for one. What it said before goes before it changes.
        csv.delete()
        png.delete()
        with parquet.writer() as target:
            pq.write_table(
                table.replace_schema_metadata(
                    {**(table.schema.metadata or {}), _METADATA: json.dumps(about)}
                ),
                target,
            )
        csv.write_text(frame.to_csv(index=False))
        png.write_bytes(drawing)
    except OSError as error:
        raise OutputError(
            f"'{out}' could not be written: {error}. What was finished is there; make room or "
            "restore the access, and run the command again to go on."
        ) from error


def _files(out: Location, name: str) -> tuple[Location, Location, Location]:
    parquet, csv, png = (out / f"{name}{suffix}" for suffix in (".parquet", ".csv", ".png"))
    return parquet, csv, png


def _read_about(out: Location, name: str) -> dict[str, Any] | None:
    """What the files of an earlier prediction say of themselves, or None where there are none.

    `whole` says whether all are there; `made_of` is None where they are not known to be ours.
    """
    parquet, csv, png = _files(out, name)
    found = [file.exists() for file in (parquet, csv, png)]
    if not any(found):
        return None
    try:
        with parquet.open() as source:
            about: dict[str, Any] = json.loads(pq.read_schema(source).metadata[_METADATA])
        return {**about, "whole": all(found), "made_of": about["made_of"]}
    except (OSError, pa.ArrowException, KeyError, TypeError, ValueError):
        # No Parquet, a damaged one, or another program's: not ours to replace without being told.
        return {"made_of": None, "whole": False}


def _made_of(predictor: Predictor, task: Task, path: Path) -> str:
    return fingerprint(
        {
            "format": _FORMAT,
            "model": predictor.description.sha256,
            "regressor": predictor.regressor and predictor.regressor.about["sha256"],
            "config": predictor.config.model_dump(mode="json", exclude_none=True),
            "audio": _checksum(path, task),
            "labels": {name: _label_digest(file) for name, file in task.labels.items()},
        }
    )


def _label_digest(file: Location) -> str:
    try:
        return hashlib.sha256(file.read_bytes()).hexdigest()
    except OSError:
        # The recording is predicted without it, and a remark says why.
        return "unreadable"


def _checksum(path: Path, task: Task) -> str:
    try:
        return checksum(path)
    except OSError as error:
        raise AudioError(
            f"'{task.audio}' cannot be read: {error}. Check that it is there and may be read."
        ) from error


def _labels_of(stem: str, labels: Location | None) -> dict[str, Location]:
    if labels is None:
        return {}
    if not labels.is_folder():
        return {"valence": labels}
    found = {}
    for target, folders in _LABEL_FOLDERS.items():
        for folder in folders:
            for file in (
                labels / folder / f"{stem}.csv",
                labels / "label_segments" / folder / f"{stem}.csv",
            ):
                if target not in found and file.exists():
                    found[target] = file
    if not found and (labels / f"{stem}.csv").exists():
        named = [target for target, folders in _LABEL_FOLDERS.items() if labels.name in folders]
        found[named[0] if named else "valence"] = labels / f"{stem}.csv"
    return found


def _read_labels(task: Task, n: int) -> tuple[dict[str, NDArray[np.float32]], list[str]]:
    """Annotated values by target, float32 `[n]`; a file that cannot be used is a remark."""
    found, remarks = {}, []
    for target, file in task.labels.items():
        try:
            values, told = join_annotation(read_annotation(file), n)
        except CorpusError as error:
            remarks.append(f"{target} labels not used: {error}")
            continue
        remarks += [f"{target}: {remark}" for remark in told]
        if np.isfinite(values).any():
            found[target] = values
    return found, remarks


def _agreement(
    predicted: Timeline, annotation: Mapping[str, NDArray[np.float32]]
) -> dict[str, float]:
    scores = {}
    for column, target in enumerate(predicted.targets):
        if target in annotation:
            known = np.isfinite(annotation[target])
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ConstantWarning)
                scores[target] = concordance(
                    annotation[target][known], predicted.values[known, column]
                )
    return scores
