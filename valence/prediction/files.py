"""Write the files of a predicted recording: CSV, Parquet and a figure, each made once."""

from __future__ import annotations

import errno
import hashlib
import json
import time
import warnings
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from valence.audio.decoding import Witness, checksum, on_disk
from valence.corpus.annotations import join_annotation, read_annotation
from valence.corpus.labels import digest_of_labels
from valence.errors import (
    AudioError,
    CorpusError,
    OutputError,
    PredictionError,
    ValenceError,
    first_line,
)
from valence.figures import timeline
from valence.metrics import ConstantWarning, concordance
from valence.prediction.inputs import PredictionTask
from valence.prediction.predictor import Predictor, Stamps, Timeline
from valence.provenance import fingerprint
from valence.storage.filenames import normal, printable
from valence.storage.kept_file import parse_json
from valence.storage.location import Location
from valence.storage.manifest import digest_of
from valence.storage.seal import read_sealed, write_sealed

Status = Literal["ok", "skipped", "stale", "failed"]

# The version of these files' content. Raise it when the same input gives other files.
_FORMAT = 4
_METADATA = b"valence"

_OTHER = "files of another model, sound, annotation or version of this program stand there"

WEIGHTING = (
    "A sequence begins at every segment; a segment's value is the mean, with equal weights, of the "
    "predictions of all sequences that hold it."
)


@dataclass(frozen=True)
class PredictionOutcome:
    """The result of predicting one recording.

    Attributes
    ----------
    name, audio
        Name and audio file of the task.
    status
        `ok`: it was predicted; `skipped`: its files existed already; `stale`: files of another
        model or sound exist and may not be replaced; `failed`: its own file cannot be predicted.
    reason
        Why there is no prediction, why existing files are stale, or what was unusual.
    rows
        Rows of its timeline.
    short
        Whether the recording is shorter than a sequence.
    sound_seconds, seconds
        Length of the predicted sound, and how long the prediction took.
    ccc
        Agreement with the annotation, by target, or None without an annotation.
    remarks
        Facts about the sound that a reader must know, such as a rate below the model's.
    timestamp
        Which end of a segment the table's `timestamp` names. With labels it is the end that they
        name. Without labels it is the start, and the column `end` names the end.
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
    remarks: Sequence[str] = ()
    timestamp: Stamps = "start"

    def to_json(self) -> dict[str, Any]:
        """Return a dictionary for JSON; `PredictionOutcome(**content)` reads it back."""
        return {**asdict(self), "remarks": list(self.remarks)}


def predict_task(
    predictor: Predictor, task: PredictionTask, out: Location, *, overwrite: bool = False
) -> PredictionOutcome:
    """Predict a recording and write its files, unless the same files exist already.

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
        # An error in one recording must not stop the prediction of the others.
        reason = (
            f"'{task.audio}' could not be predicted, for a reason that was not foreseen: "
            f"{type(error).__name__}: {error}"
        )
    return PredictionOutcome(task.name, str(task.audio), "failed", reason)


def _predict(
    predictor: Predictor, task: PredictionTask, out: Location, *, overwrite: bool
) -> PredictionOutcome:
    began = time.monotonic()
    known: dict[str, Any] = {"name": task.name, "audio": str(task.audio)}
    with on_disk(task.audio) as path:
        witness = Witness.of(path, task.audio)
        predictor.require_input(given=task.features is not None)
        made_of = _made_of(predictor, task, path)
        before = _read_about(out, task.name)
        if before is not None and before.get("made_of") == made_of:
            # The figure states the model's quality, which a later evaluation can change.
            quality = json.loads(json.dumps(predictor.quality.to_json()))
            if before["whole"] and before.get("quality") == quality:
                return PredictionOutcome(**{**before["outcome"], "status": "skipped"})
        elif before is not None and not overwrite:
            return PredictionOutcome(**known, status="stale", reason=before.get("why_not", _OTHER))
        features = None if task.features is None else task.read_features
        predicted = predictor.predict_path(path, name=task.audio, features=features)
        witness.require_unchanged()
    annotation, remarks, stamps = _read_labels(task, len(predicted), predictor)
    step = predictor.config.preprocess.segment_seconds
    outcome = PredictionOutcome(
        **known,
        status="ok",
        reason="; ".join(remarks),
        rows=len(predicted),
        short=predicted.short,
        sound_seconds=len(predicted) * step,
        seconds=time.monotonic() - began,
        ccc=_agreement(predicted, annotation) or None,
        remarks=predicted.remarks,
        timestamp=stamps or "start",
    )
    _write(out, outcome, predicted, annotation, made_of, stamps=stamps, predictor=predictor)
    return outcome


def _write(
    out: Location,
    outcome: PredictionOutcome,
    predicted: Timeline,
    annotation: Mapping[str, NDArray[np.float32]],
    made_of: str,
    *,
    stamps: Stamps | None,
    predictor: Predictor,
) -> None:
    quality = predictor.quality
    notes = [f"CCC {value:.2f}" for value in (outcome.ccc or {}).values()]
    if predicted.short:
        notes.append(f"shorter than a sequence: one prediction of {outcome.sound_seconds:g} s")
    drawing = timeline(
        predicted.time,
        predicted.values,
        targets=predicted.targets,
        envelope=(predicted.envelope[0], predicted.envelope[1]),
        name=printable(outcome.name),
        step=predicted.step,
        note=", ".join(notes),
        caption=[*quality.lines, *(f"Sound: {remark}." for remark in predicted.remarks)],
        annotation=annotation,
    ).png()
    frame = predicted.to_frame(stamps=stamps)
    table = pa.Table.from_pandas(frame, preserve_index=False)
    # The duration is left out, so that the same input gives the same bytes.
    repeatable = replace(outcome, seconds=0.0).to_json()
    text = frame.to_csv(index=False)
    parquet, csv, png = _files(out, outcome.name)
    about = {
        "format": _FORMAT,
        "made_of": made_of,
        **_predictor_of(predictor),
        "outcome": repeatable,
        "weighting": WEIGHTING,
        "quality": quality.to_json(),
        "beside": {
            suffix: hashlib.sha256(content).hexdigest()
            for suffix, content in ((csv.suffix, text.encode()), (png.suffix, drawing))
        },
    }
    try:
        # The Parquet is written first, because it marks the files beside it as this program's:
        # another program's table of that name is never taken for one. The old files beside it are
        # deleted before, because a new Parquet does not describe them.
        csv.delete()
        png.delete()
        with parquet.writer() as target:
            write_sealed(
                target,
                table.replace_schema_metadata(
                    {**(table.schema.metadata or {}), _METADATA: json.dumps(about)}
                ),
            )
        csv.write_text(text)
        png.write_bytes(drawing)
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            raise PredictionError(
                f"'{outcome.audio}' has a name that is too long for files beside it in '{out}': "
                f"{error}. Rename it, or choose a folder on another file system."
            ) from error
        raise OutputError(
            f"'{out}' could not be written: {error}. What was finished is there; make room or "
            "restore the access, and run the command again to go on."
        ) from error


def _files(out: Location, name: str) -> tuple[Location, Location, Location]:
    parquet, csv, png = (out / f"{name}{suffix}" for suffix in (".parquet", ".csv", ".png"))
    return parquet, csv, png


def listed_row(outcome: PredictionOutcome, predictor: Predictor) -> dict[str, Any]:
    """Build a row of `prediction.json`: the outcome, the predictor and its quality."""
    return {
        **outcome.to_json(),
        **_predictor_of(predictor),
        "quality": " ".join(predictor.quality.lines),
    }


def _predictor_of(predictor: Predictor) -> dict[str, Any]:
    return {
        "model": predictor.description.sha256,
        "regressor": predictor.regressor and predictor.regressor.about["steps"],
    }


def standing_rows(out: Location, *, but: Collection[str] = ()) -> list[dict[str, Any]]:
    """Rebuild the rows of `prediction.json` from the files in `out`, sorted by name.

    The model and the regressor are None where an older version made the files. Incomplete files
    and files of other programs give no row. Files of the names in `but` are not read.
    """
    rows = []
    for file in sorted(out.files(), key=lambda each: each.name):
        if file.suffix != ".parquet":
            continue
        name = file.name.removesuffix(".parquet")
        about = None if name in but else _read_about(out, name)
        if about is None or not about["whole"]:
            continue
        quality = about.get("quality") or {}
        warnings = (f"Warning: {warning}" for warning in quality.get("warnings", ()))
        rows.append(
            {
                **about["outcome"],
                "model": about.get("model"),
                "regressor": about.get("regressor"),
                "quality": " ".join((quality.get("sentence", ""), *warnings)).strip(),
            }
        )
    return rows


def _read_about(out: Location, name: str) -> dict[str, Any] | None:
    """Read the metadata that an earlier prediction stored, or None if it left no file.

    `whole` says whether all files are still as they were written; older versions stored no digests.
    If the files are not known to be this program's, `made_of` is absent and `why_not` gives the
    reason.
    """
    parquet, csv, png = _files(out, name)
    found = [file.exists() for file in (parquet, csv, png)]
    if not any(found):
        return None
    if not found[0]:
        other = csv if found[1] else png
        why_not = f"'{other.name}' stands there without the '{parquet.name}' that says what made it"
        return {"whole": False, "why_not": why_not}
    try:
        with parquet.open() as source:
            about: dict[str, Any] = parse_json(read_sealed(source).schema.metadata[_METADATA])
        PredictionOutcome(**about["outcome"])
        beside = about.get("beside", {})
        # Renamed files still hold the old name, in the table and in the figure.
        whole = all(found) and about["outcome"]["name"] == name
        whole = whole and all(
            file.suffix not in beside or digest_of(file) == beside[file.suffix]
            for file in (csv, png)
        )
        return {**about, "whole": whole, "made_of": about["made_of"]}
    # Another program may own these files, so they are replaced only with `overwrite`.
    except (KeyError, TypeError):
        why_not = "was not written by this program"
    except ValueError as error:
        why_not = f"is damaged, or was not written by this program ({first_line(error)})"
    except OSError as error:
        why_not = f"cannot be read ({first_line(error)})"
    return {"whole": False, "why_not": f"'{parquet.name}' {why_not}"}


def _made_of(predictor: Predictor, task: PredictionTask, path: Path) -> str:
    return fingerprint(
        {
            "format": _FORMAT,
            "model": predictor.description.sha256,
            "regressor": predictor.regressor and predictor.regressor.about["sha256"],
            "config": predictor.config.model_dump(mode="json", exclude_none=True),
            "audio": _checksum(path, task),
            "labels": {name: digest_of_labels(file) for name, file in task.labels.items()},
            "stamps": task.stamps,
            # Left out without a scale, so that the fingerprints of older predictions stay valid.
            **({} if task.scale is None else {"scale": task.scale}),
            **({} if task.features is None else {"features": digest_of(task.features_file())}),
        }
    )


def _checksum(path: Path, task: PredictionTask) -> str:
    try:
        return checksum(path)
    except OSError as error:
        raise AudioError(
            f"'{task.audio}' cannot be read: {error}. Check that it is there and may be read."
        ) from error


def _read_labels(
    task: PredictionTask, n: int, predictor: Predictor
) -> tuple[dict[str, NDArray[np.float32]], list[str], Stamps | None]:
    """Read the annotated values by target (float32 `[n]`), remarks, and which end they name.

    An unusable file adds a remark instead of an error. The last value says which end of a segment
    the timestamps name.
    """
    found, remarks = {}, []
    stamps: set[Stamps] = set()
    if task.labels and task.namesakes > 1:
        stem = printable(task.audio.stem)
        forms = "" if stem.isascii() else " (in one Unicode form or several, NFC or NFD)"
        remark = (
            f"labels not used: {task.namesakes} recordings are called '{stem}'{forms}, and which "
            "of them the labels belong to is not known; predict them in calls of their own"
        )
        return {}, [remark], task.stamps
    config = predictor.config
    scale = task.scale or (config.labels.range if config.labels else None)
    for target, file in task.labels.items():
        try:
            annotation = read_annotation(file, step_ms=config.preprocess.segment_ms, scale=scale)
        except CorpusError as error:
            remarks.append(f"{target} labels not used: {error}")
            continue
        if annotation.stamps is not None:
            stamps.add(annotation.stamps)
        values, joining = join_annotation(annotation, n)
        stem = task.audio.stem
        if file.stem != stem and normal(file.stem) == normal(stem):
            remarks.append(f"{target}: the label file's name is in another Unicode form (NFC, NFD)")
        remarks += [f"{target}: {remark}" for remark in joining]
        if np.isfinite(values).any():
            found[target] = values
    return found, remarks, stamps.pop() if len(stamps) == 1 else task.stamps


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
