"""What training leaves on disk: its state after each epoch, and the exported model.

Neither holds code. States are read by torch's weights-only loader and end with their own digest, so
that each is whole or not whatever became of the files beside it; models are safetensors and JSON.
"""

from __future__ import annotations

import hashlib
import io
import pickle
import random
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import safetensors.torch
import torch

from valence.archives import member_sizes
from valence.config import (
    Config,
    LabelsConfig,
    MelConfig,
    ModelConfig,
    PreprocessConfig,
    Sections,
    SequenceConfig,
    StandardizeConfig,
    versions,
)
from valence.errors import ConfigError, ModelError, TrainingError
from valence.kept_file import KeptFile, TooLargeError, parse_json, read_at_most, require_table
from valence.model import ValenceModel
from valence.model_card import Card
from valence.run import Run, fingerprint
from valence.standardization import Standardizer
from valence.storage import Location
from valence.weights import MOST_BYTES, Weights, most_bytes, read_weights, values_bytes

# Raised when a state or model of an older version cannot be read any more.
FORMAT = 1
# The card of a model, in its folder.
CARD = "README.md"

_STATE = "state.pt"
_NEXT = "state.next.pt"
_PREVIOUS = "state.previous.pt"
_INDEX = "state.json"
_DIGEST_BYTES = hashlib.sha256().digest_size
_WEIGHTS = "model.safetensors"
_DESCRIPTION = "model.json"
_REMEDY = "Copy the model folder again, or make it with 'valence train'."

# Of the weights: those of the last epoch and of the best, and two moments of the optimizer.
_STATE_COPIES = 4
# What else a state holds: 200 bytes an epoch, and 15 KB of generators a worker.
_STATE_REST_BYTES = 64 * 2**20


@dataclass(frozen=True, eq=False)
class TrainingState:
    """All that training needs to go on as if it had never stopped.

    The data order is a function of the seed and the epoch, so those two stand for it.

    Attributes
    ----------
    made_of
        Configuration and fingerprint of the segments, JSON-like: what a run must share to go on.
    standardizer
        Of the training recordings, JSON-like.
    seed_index
        Which of `train.seeds` is being trained.
    epoch
        Epochs of it that are finished.
    model, optimizer, scheduler
        Their states.
    best_ccc, best_epoch, bad_epochs
        Early stopping: the best validation CCC of this seed, when, and epochs since.
    best
        Weights of the best epoch over all seeds so far, and what `best_record` says of it.
    best_record
        `seed`, `epoch`, `validation_ccc`.
    history
        A row an epoch, over all seeds so far.
    random
        Of each worker, the states of all its generators.
    threads
        Threads of torch; results are the same to the last bit only for the same number.
    """

    made_of: dict[str, Any]
    standardizer: dict[str, Any]
    seed_index: int
    epoch: int
    model: Weights
    optimizer: dict[str, Any]
    scheduler: dict[str, Any]
    best_ccc: float
    best_epoch: int
    bad_epochs: int
    best: Weights
    best_record: dict[str, Any]
    history: list[dict[str, Any]]
    random: list[dict[str, Any]]
    threads: int


def random_state(device: torch.device) -> dict[str, Any]:
    """States of the generators of Python, NumPy, torch and `device`, as plain values and tensors.

    A GPU that is not trained on is not touched.
    """
    version, numbers, gauss = random.getstate()
    # The generator that libraries draw from unasked; a new one would not be what they use.
    legacy = np.random.get_state(legacy=False)  # noqa: NPY002
    keys = torch.from_numpy(legacy["state"]["key"].astype(np.int64))
    return {
        "python": [version, torch.tensor(numbers, dtype=torch.int64), gauss],
        "numpy": [keys, legacy["state"]["pos"], legacy["has_gauss"], legacy["gauss"]],
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state(device) if device.type == "cuda" else None,
    }


def set_random_state(state: Mapping[str, Any], device: torch.device) -> None:
    """Put the generators into the states that `random_state` told.

    The state of another kind of device than `device` is left out.
    """
    version, numbers, gauss = state["python"]
    random.setstate((version, tuple(numbers.tolist()), gauss))
    keys, position, has_gauss, cached = state["numpy"]
    legacy = ("MT19937", keys.numpy().astype(np.uint32), position, has_gauss, cached)
    np.random.set_state(legacy)  # noqa: NPY002
    torch.set_rng_state(state["torch"])
    if state["cuda"] is not None and device.type == "cuda":
        torch.cuda.set_rng_state(state["cuda"], device)


def save_state(folder: Location, state: TrainingState, *, progress: Mapping[str, Any]) -> None:
    """Make `state` the newest in `folder`; the one that was stays beside it.

    Parameters
    ----------
    folder
        `RUN/train`.
    state
        To be written.
    progress
        JSON-like; stands in `state.json`, for whoever watches: nothing goes on from it.

    Raises
    ------
    TrainingError
        If it cannot be written; what was there is still there.
    """
    buffer = io.BytesIO()
    content = {field.name: getattr(state, field.name) for field in fields(state)}
    torch.save({"format": FORMAT, **content}, buffer)
    data = buffer.getvalue()
    try:
        (folder / _NEXT).write_bytes(data + hashlib.sha256(data).digest())
        # A damaged state does not take the place of the good one before it.
        if _is_whole(folder / _STATE):
            _move(folder, _STATE, _PREVIOUS)
        _move(folder, _NEXT, _STATE)
        _write_index(folder, state, hashlib.sha256(data).hexdigest(), progress)
    except OSError as error:
        raise TrainingError(
            f"The state of the training could not be written to '{folder}': {error}. The last one "
            "is still there; make room and run the same command again to go on from it."
        ) from error


def _write_index(
    folder: Location, state: TrainingState, sha256: str, progress: Mapping[str, Any]
) -> None:
    index = {
        "format": FORMAT,
        "seed_index": state.seed_index,
        "epoch": state.epoch,
        "sha256": sha256,
        "progress": dict(progress),
        "made_of": state.made_of,
    }
    (folder / _INDEX).write_json({**index, "digest": fingerprint(index)})


def lacks_progress(folder: Location) -> bool:
    """Whether a state stands in `folder` whose `state.json` is missing or damaged."""
    return (folder / _STATE).exists() and read_progress(folder) is None


def restore_progress(
    folder: Location, state: TrainingState, *, progress: Mapping[str, Any]
) -> None:
    """Write `state.json` again where it is missing or damaged.

    Parameters
    ----------
    folder
        `RUN/train`.
    state
        The newest there.
    progress
        What is still known of what `save_state` was given; the epochs are those of the state.

    Raises
    ------
    OSError
        If it cannot be written.
    """
    if not lacks_progress(folder):
        return
    data = _whole(folder / _STATE, _STATE_COPIES * MOST_BYTES)
    if data is not None:
        told = {**progress, "history": state.history, "best": state.best_record}
        _write_index(folder, state, hashlib.sha256(data).hexdigest(), told)


def load_state(
    folder: Location, *, most: int = _STATE_COPIES * MOST_BYTES
) -> tuple[TrainingState | None, tuple[str, ...]]:
    """The newest state in `folder` that is whole, or None if none was ever written.

    Parameters
    ----------
    folder
        `RUN/train`.
    most
        The bytes that a state may have, such as `state_bytes` tells of a configuration.

    Returns
    -------
    The state, and a remark on each newer one that is damaged.

    Raises
    ------
    ModelError
        If states were written and none of them is whole, or they are of another version.
    """
    remarks: list[str] = []
    # What was written and is not yet in its place is newer than what stands there.
    for file in (folder / name for name in (_NEXT, _STATE, _PREVIOUS)):
        if not file.exists():
            continue
        try:
            data = _whole(file, most)
        except TooLargeError as error:
            remarks.append(f"'{file}' is no state of this training: {error}")
            continue
        if data is not None:
            return _parse_state(file, data), tuple(remarks)
        remarks.append(
            f"'{file}' is damaged or was never finished (it is not what its digest says); the "
            "state before it is used"
        )
    if not remarks:
        return None, ()
    raise ModelError(
        f"No training state in '{folder}' is whole: {'; '.join(remarks)}. Restore the folder from "
        "a copy, or train again with --overwrite."
    )


def state_bytes(config: Config) -> int:
    """The bytes that the state of a training of this configuration may have."""
    sections = ModelSections(**{name: getattr(config, name) for name in ModelSections.model_fields})
    return _STATE_COPIES * values_bytes(_expected(sections, None)) + _STATE_REST_BYTES


def require_size(config: Config) -> None:
    """See that the model of a configuration is one that can be loaded again.

    Raises
    ------
    ConfigError
        If its weights take more than this program reads.
    """
    sections = ModelSections(**{name: getattr(config, name) for name in ModelSections.model_fields})
    needed = values_bytes(_expected(sections, None))
    if needed > MOST_BYTES:
        raise ConfigError(
            f"[model] asks for weights of {needed:,} bytes. Expected at most {MOST_BYTES:,}. Lower "
            "model.lstm_hidden, model.lstm_layers or model.channels."
        )


def _whole(file: Location, most: int) -> bytes | None:
    """What a state's file holds, less the digest that it ends with, or None if that is another."""
    try:
        content = read_at_most(file, most)
    except FileNotFoundError:
        return None
    except IsADirectoryError as error:
        raise ModelError(
            f"'{file}' is a folder. Expected the state of a training. Move it away and run the "
            "same command again, which goes on from the state before it if there is one."
        ) from error
    data, digest = content[:-_DIGEST_BYTES], content[-_DIGEST_BYTES:]
    return data if hashlib.sha256(data).digest() == digest else None


def _is_whole(file: Location) -> bool:
    try:
        return _whole(file, _STATE_COPIES * MOST_BYTES) is not None
    except TooLargeError:
        return False


def _parse_state(file: Location, data: bytes) -> TrainingState:
    try:
        member_sizes(data)
        content = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
        require_table(content, {"format": int})
        found = content.pop("format")
        if found == FORMAT:
            state = TrainingState(**content)
            _require_kinds(state)
            return state
    except pickle.UnpicklingError as error:
        # torch's own words advise to let the file run its code.
        raise _no_state(file, "it holds code, or objects that no training writes") from error
    except (ValueError, TypeError) as error:
        raise _no_state(file, str(error)) from error
    except (RuntimeError, AttributeError, LookupError, EOFError, MemoryError) as error:
        raise _no_state(file, f"torch cannot read it ({type(error).__name__})") from error
    raise ModelError(
        f"'{file}' is a training state of format {found}, and this version reads format {FORMAT}. "
        "Go on with the version that wrote it, or train again with --overwrite."
    )


def _no_state(file: Location, why: str) -> ModelError:
    return ModelError(
        f"'{file}' is not a training state: {why}. Nothing of it was run or used. Restore the file "
        "from a copy, or run 'valence train' with --overwrite, which trains anew."
    )


def _require_kinds(state: TrainingState) -> None:
    """See that what stands in a state is of the kind that training goes on with."""
    kinds: dict[str, type | tuple[type, ...]] = {
        "int": int,
        "float": (int, float),
        "dict": dict,
        "list": list,
        "Weights": dict,
    }
    needs = {each.name: kinds[str(each.type).partition("[")[0]] for each in fields(state)}
    require_table({name: getattr(state, name) for name in needs}, needs)
    require_table(state.best_record, {"seed": int, "epoch": int, "validation_ccc": (int, float)})
    for row in state.history:
        require_table(row, {"seed": int, "epoch": int})


def read_progress(folder: Location) -> dict[str, Any] | None:
    """What the newest `save_state` told as progress, or None."""
    try:
        index = parse_json(read_at_most(folder / _INDEX, _STATE_REST_BYTES))
        require_table(index, {"progress": dict})
        # Older versions wrote none.
        digest = index.pop("digest", None)
        if digest is not None and digest != fingerprint(index):
            return None
    except (OSError, ValueError):
        return None
    progress: dict[str, Any] = index["progress"]
    return progress


def _move(folder: Location, name: str, to: str) -> None:
    folder.filesystem.move((folder / name).path, (folder / to).path)


class ModelSections(Sections):
    """The sections of the configuration that a prediction depends on."""

    preprocess: PreprocessConfig
    mel: MelConfig
    sequence: SequenceConfig
    standardize: StandardizeConfig
    model: ModelConfig
    labels: LabelsConfig = LabelsConfig()


@dataclass(frozen=True, eq=False)
class ModelDescription:
    """What `model.json` says.

    Attributes
    ----------
    config
        The sections of the configuration that a prediction depends on.
    record
        What the model comes from: subjects, split, scores, seed, epoch, versions, licence note.
    sha256
        Digest of `model.safetensors`.
    """

    config: ModelSections
    record: dict[str, Any]
    sha256: str


def export_model(
    folder: Location, model: ValenceModel, config: Config, record: Mapping[str, Any]
) -> str:
    """Write `model`, all that prediction needs, and its card `README.md` into `folder`.

    Parameters
    ----------
    folder
        `RUN/model`.
    model
        With its standardisation.
    config
        The configuration that it was trained with.
    record
        JSON-like: what the model comes from.

    Returns
    -------
    The SHA-256 of `model.safetensors`.

    Raises
    ------
    TrainingError
        If it cannot be written.
    """
    tensors = {
        name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()
    }
    data = safetensors.torch.save(tensors, metadata={"format": str(FORMAT)})
    digest = hashlib.sha256(data).hexdigest()
    sections = ModelSections(
        preprocess=config.preprocess,
        mel=config.mel,
        sequence=config.sequence,
        standardize=config.standardize,
        model=config.model,
        labels=config.labels,
    )
    content = {
        "format": FORMAT,
        "sha256": digest,
        "config": sections.model_dump(mode="json", exclude_none=True),
        "standardizer": model.standardizer.to_json(),
        "record": {**record, "versions": versions()},
    }
    card = Card(
        targets=config.model.targets,
        parameters=sum(each.numel() for each in model.parameters()),
        segment_seconds=config.preprocess.segment_seconds,
        length=config.sequence.length,
        record=record,
        protocol=config.split.protocol,
        overlap=config.split.allow_subject_overlap,
    )
    try:
        (folder / _WEIGHTS).write_bytes(data)
        (folder / CARD).write_text(card.markdown())
        (folder / _DESCRIPTION).write_json({**content, "digest": fingerprint(content)})
    except OSError as error:
        raise TrainingError(
            f"The model could not be written to '{folder}': {error}. Make room and run the same "
            "command again."
        ) from error
    return digest


def read_description(folder: Location) -> ModelDescription:
    """What `model.json` in `folder` says, checked against its own digest.

    Raises
    ------
    ModelError
        If it is missing, damaged or of another version.
    """
    return _read_description(folder)[0]


def load_model(folder: Location) -> tuple[ValenceModel, ModelDescription]:
    """The model in `folder`, in evaluation mode on the CPU. Nothing of it is executed.

    Raises
    ------
    ModelError
        If a file is missing or damaged, the two do not belong together, or the version is another.
    """
    description, standardizer = _read_description(folder)
    sections = description.config
    expected = _expected(sections, standardizer)
    needed = values_bytes(expected)
    if needed > MOST_BYTES:
        raise ModelError(
            f"'{folder / _DESCRIPTION}' describes weights of {needed:,} bytes, which should be "
            f"at most {MOST_BYTES:,}. {_REMEDY}"
        )
    weights = KeptFile(
        folder / _WEIGHTS,
        f"the weights of the model that {_DESCRIPTION} describes, {needed:,} bytes of values",
        _REMEDY,
        most=most_bytes(expected),
        error=ModelError,
    )
    data = weights.read()
    if hashlib.sha256(data).hexdigest() != description.sha256:
        raise weights.damaged(
            f"its digest is not the one given in {_DESCRIPTION}, or it belongs to another one"
        )
    try:
        tensors = read_weights(data, expected)
    except ValueError as error:
        raise weights.damaged(str(error)) from error
    model = _build(sections, standardizer)
    model.load_state_dict(tensors)
    return model.eval(), description


def load_own_model(run: Run) -> tuple[ValenceModel, ModelDescription]:
    """As `load_model`, the model of a run, which is the one that its training ended with.

    A run of which the model alone was kept says nothing of its training.

    Raises
    ------
    ModelError
        If it is another, or as `load_model`.
    MissingStageError
        If the training that stands there is not finished.
    DamagedError
        If the record of the training is lost or damaged.
    """
    model, description = load_model(run.model)
    stage = run.stage("train")
    record = stage.found()
    if record is not None:
        stage.require_finished(record)
        if record["summary"].get("digest", description.sha256) != description.sha256:
            raise ModelError(
                f"'{run.model}' does not hold the model that '{stage.folder}' ended with. Restore "
                f"it, or run '{stage.command()}', which writes it again from the training's state."
            )
    return model, description


def _expected(sections: ModelSections, standardizer: Standardizer | None) -> Weights:
    """Names, types and shapes of a model's weights, on the device without memory."""
    if standardizer is None:
        bands = sections.mel.n_mels if sections.standardize.scope == "mel_band" else 1
        standardizer = Standardizer(
            sections.standardize.scope, np.zeros(bands, np.float32), np.ones(bands, np.float32)
        )
    with torch.device("meta"):
        return _build(sections, standardizer).state_dict()


def _build(sections: ModelSections, standardizer: Standardizer) -> ValenceModel:
    mel = sections.mel
    return ValenceModel(
        sections.model, n_mels=mel.n_mels, n_frames=mel.n_frames, standardizer=standardizer
    )


def _read_description(folder: Location) -> tuple[ModelDescription, Standardizer]:
    file = folder / _DESCRIPTION
    expected = f"the folder of a model, with {_WEIGHTS} and {_DESCRIPTION}"
    kept = KeptFile(file, expected, _REMEDY, error=ModelError)
    content = kept.table({"digest": str, "format": int})
    try:
        digest = content.pop("digest")
        version = content["format"]
        sound = fingerprint(content) == digest
        if sound and version == FORMAT:
            sections = ModelSections.model_validate(content["config"])
            # What one section asks of another is checked where all are together.
            Config(**{name: getattr(sections, name) for name in ModelSections.model_fields})
            record, sha256 = content["record"], content["sha256"]
            standardizer = Standardizer.from_json(content["standardizer"])
            if not isinstance(record, dict) or not isinstance(sha256, str):
                raise TypeError("record is no table, or sha256 no text")
            if len(standardizer.mean) not in (1, sections.mel.n_mels):
                raise ValueError(
                    f"it has {len(standardizer.mean)} means for {sections.mel.n_mels} mel bands"
                )
            return ModelDescription(sections, record, sha256), standardizer
    except KeyError as error:
        raise kept.damaged(f"{error} is missing in it") from error
    except (ValueError, TypeError, AttributeError, ModelError) as error:
        raise kept.damaged(str(error)) from error
    if not sound:
        raise kept.damaged("its digest is not the one that it gives")
    raise ModelError(
        f"'{file}' is of format {version}, and this version reads format {FORMAT}. Use the version "
        "that wrote it, or train the model again."
    )
