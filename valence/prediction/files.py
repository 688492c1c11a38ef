"""Write the files of a predicted recording, each made once: Parquet, CSV, figure and more."""

from __future__ import annotations

import errno
import hashlib
import json
import time
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from valence.audio.decoding import Witness, checksum, on_disk
from valence.audio.speech import DEFAULT, SpeechSettings, silent_steps, speech_method
from valence.corpus.annotations import join_annotation, read_annotation
from valence.corpus.labels import digest_of_labels
from valence.errors import AudioError, CorpusError, OutputError, PredictionError, ValenceError
from valence.metrics import ConstantWarning, concordance
from valence.prediction.inputs import PredictionTask
from valence.prediction.outputs.predicted import Output, Predicted, PredictionOutcome
from valence.prediction.outputs.registry import ALWAYS, OUTPUTS
from valence.prediction.predictor import Predictor, Stamps, Timeline
from valence.prediction.standing import METADATA, read_about, states_of, why_kept
from valence.provenance import fingerprint
from valence.storage.filenames import normal, printable
from valence.storage.location import Location
from valence.storage.manifest import digest_of
from valence.storage.seal import write_sealed

# The version of these files' content. Raise it when the same input gives other files.
_FORMAT = 5

_OTHER = "files of another model, sound, annotation or version of this program stand there"

WEIGHTING = (
    "A sequence begins at every segment; a segment's value is the mean, with equal weights, of the "
    "predictions of all sequences that hold it."
)


def predict_task(
    predictor: Predictor,
    task: PredictionTask,
    out: Location,
    *,
    outputs: Sequence[Output] = (),
    speech: SpeechSettings = DEFAULT,
    overwrite: bool = False,
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
    outputs
        Outputs to write beside the Parquet, the CSV and the figure. Where only these are missing,
        the recording is predicted again.
    speech
        How speech is found, and whether values are left out where nobody speaks.
    overwrite
        Whether files of another model, regressor, sound or annotation may be replaced, and files
        that somebody has changed.

    Raises
    ------
    OutputError
        If `out` cannot be written.
    ModelError
        If the model cannot be used on any recording.
    """
    try:
        speech = replace(speech, by=speech_method(speech.by))
        return _predict(predictor, task, out, outputs=outputs, speech=speech, overwrite=overwrite)
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
    predictor: Predictor,
    task: PredictionTask,
    out: Location,
    *,
    outputs: Sequence[Output],
    speech: SpeechSettings,
    overwrite: bool,
) -> PredictionOutcome:
    began = time.monotonic()
    known: dict[str, Any] = {"name": task.name, "audio": str(task.audio)}
    with on_disk(task.audio) as path:
        witness = Witness.of(path, task.audio)
        predictor.require_input(given=task.features is not None)
        made_of = _made_of(predictor, task, path, speech)
        before = read_about(out, task.name)
        states = states_of(out, task.name, before, OUTPUTS.values())
        if before is not None and before.get("made_of") == made_of:
            # The figure states the model's quality, which a later evaluation can change.
            quality = json.loads(json.dumps(predictor.quality.to_json()))
            whole = before["whole"] and before.get("quality") == quality
            if whole and all(states[output.suffix] == "intact" for output in outputs):
                return PredictionOutcome(**{**before["outcome"], "status": "skipped"})
        elif before is not None and not overwrite:
            reason = before.get("why_not") or _why_other(before, speech)
            return PredictionOutcome(**known, status="stale", reason=reason)
        taken = [output for output in outputs if states[output.suffix] in ("changed", "foreign")]
        if taken and not overwrite:
            reason = why_kept(task.name, taken[0].suffix, states[taken[0].suffix])
            return PredictionOutcome(**known, status="stale", reason=reason)
        features = None if task.features is None else task.read_features
        timeline = predictor.predict_path(
            path, name=task.audio, features=features, speech=speech.by
        )
        silent = silent_steps(timeline.speech, speech.least_share)
        assert silent is not None, "speech was looked for"
        if silent.all():
            nobody = f"no speech was found in it (by {timeline.speech_by})"
            timeline = replace(timeline, remarks=(*timeline.remarks, nobody))
        annotation, remarks, stamps = _read_labels(task, len(timeline), predictor)
        outcome = PredictionOutcome(
            **known,
            status="ok",
            reason="; ".join(remarks),
            rows=len(timeline),
            short=timeline.short,
            sound_seconds=len(timeline) * predictor.config.preprocess.segment_seconds,
            seconds=time.monotonic() - began,
            ccc=_agreement(timeline, annotation) or None,
            remarks=timeline.remarks,
            timestamp=stamps or "start",
            ccc_speech=_agreement(timeline, annotation, but=silent) or None,
            spoken=int((~silent).sum()),
            speech_by=timeline.speech_by,
            masked=speech.mask,
        )
        if speech.mask:
            timeline = replace(
                timeline, values=np.where(silent[:, None], np.float32(np.nan), timeline.values)
            )
        predicted = Predicted(
            name=task.name,
            audio=task.audio,
            path=path,
            timeline=timeline,
            annotation=annotation,
            stamps=stamps,
            outcome=outcome,
            quality=predictor.quality,
            channel=predictor.config.preprocess.channel,
            out=out,
            least_speech=speech.least_share,
        )
        # Files of an earlier call that nobody has changed are made anew too, so that none tells
        # of another prediction than the table.
        chosen = [
            output
            for output in OUTPUTS.values()
            if output in outputs or states[output.suffix] == "intact"
        ]
        content = {each.suffix: each.render(predicted) for each in (*ALWAYS, *chosen)}
        witness.require_unchanged()
    noted = (before or {}).get("beside") or {}
    # The digest of a file that somebody has changed stays noted, so that it is known as changed.
    kept = {
        suffix: noted[suffix]
        for suffix, state in states.items()
        if state == "changed" and suffix not in content
    }
    _write(out, predicted, content, kept, made_of, predictor=predictor)
    return outcome


def _write(
    out: Location,
    predicted: Predicted,
    content: Mapping[str, bytes],
    kept: Mapping[str, str],
    made_of: str,
    *,
    predictor: Predictor,
) -> None:
    """Write the Parquet, and the `content` of the files beside it by their suffix.

    `kept` holds the noted digests of files beside it that are left as they are.
    """
    outcome = predicted.outcome
    frame = predicted.timeline.to_frame(stamps=predicted.stamps)
    table = pa.Table.from_pandas(frame, preserve_index=False)
    # The duration is left out, so that the same input gives the same bytes.
    repeatable = replace(outcome, seconds=0.0).to_json()
    about = {
        "format": _FORMAT,
        "made_of": made_of,
        **_predictor_of(predictor),
        "outcome": repeatable,
        "weighting": WEIGHTING,
        "quality": predictor.quality.to_json(),
        "speech": {
            "by": outcome.speech_by,
            "least_share": predicted.least_speech,
            "masked": outcome.masked,
        },
        "beside": {
            **{suffix: hashlib.sha256(each).hexdigest() for suffix, each in content.items()},
            **kept,
        },
    }
    files = {suffix: out / f"{outcome.name}{suffix}" for suffix in content}
    try:
        # The Parquet is written first, because it marks the files beside it as this program's:
        # another program's table of that name is never taken for one. The old files beside it are
        # deleted before, because a new Parquet does not describe them.
        for file in files.values():
            file.delete()
        with (out / f"{outcome.name}.parquet").writer() as target:
            write_sealed(
                target,
                table.replace_schema_metadata(
                    {**(table.schema.metadata or {}), METADATA: json.dumps(about)}
                ),
            )
        for suffix, file in files.items():
            file.write_bytes(content[suffix])
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


def _why_other(before: Mapping[str, Any], speech: SpeechSettings) -> str:
    """Say why files of another input stand there, and in which way their speech was found."""
    then = before.get("speech") or {}
    by = then.get("by", speech.by)
    if by == speech.by:
        if then.get("masked", speech.mask) != speech.mask:
            way = "out" if then["masked"] else "in"
            return f"{_OTHER}; they leave values of silence {way} (--mask-silence)"
        return _OTHER
    return f"{_OTHER}; their speech was found by '{by}', and here by '{speech.by}' (--speech)"


def _made_of(predictor: Predictor, task: PredictionTask, path: Path, speech: SpeechSettings) -> str:
    return fingerprint(
        {
            "format": _FORMAT,
            "model": predictor.description.sha256,
            "regressor": predictor.regressor and predictor.regressor.about["sha256"],
            "config": predictor.config.model_dump(mode="json", exclude_none=True),
            "audio": _checksum(path, task),
            "labels": {name: digest_of_labels(file) for name, file in task.labels.items()},
            "stamps": task.stamps,
            "speech": asdict(speech),
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
    predicted: Timeline,
    annotation: Mapping[str, NDArray[np.float32]],
    *,
    but: NDArray[np.bool_] | None = None,
) -> dict[str, float]:
    """Compute the CCC of each annotated target, without the steps in `but`; none without steps."""
    scores = {}
    for column, target in enumerate(predicted.targets):
        if target in annotation:
            known = np.isfinite(annotation[target])
            if but is not None:
                known &= ~but
            if not known.any():
                continue
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ConstantWarning)
                scores[target] = concordance(
                    annotation[target][known], predicted.values[known, column]
                )
    return scores
