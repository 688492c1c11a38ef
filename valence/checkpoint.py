"""What training leaves on disk: its state after each epoch, and the exported model.

Neither holds code. States are read by torch's weights-only loader and end with their own digest, so
that each is whole or not whatever became of the files beside it; models are safetensors and JSON.
"""

from __future__ import annotations

import hashlib
import io
import json
import pickle
import random
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import safetensors
import safetensors.torch
import torch
from torch import Tensor

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
from valence.errors import ModelError, TrainingError
from valence.model import ValenceModel
from valence.model_card import Card
from valence.run import fingerprint
from valence.standardization import Standardizer
from valence.storage import Location

# Raised when a state or model of an older version cannot be read any more.
FORMAT = 1

_STATE = "state.pt"
_NEXT = "state.next.pt"
_PREVIOUS = "state.previous.pt"
_INDEX = "state.json"
_DIGEST_BYTES = hashlib.sha256().digest_size
_WEIGHTS = "model.safetensors"
_DESCRIPTION = "model.json"
_CARD = "README.md"
_REMEDY = "Copy the model folder again, or make it with 'valence train'."

Weights = dict[str, Tensor]


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
    index = {
        "format": FORMAT,
        "seed_index": state.seed_index,
        "epoch": state.epoch,
        "sha256": hashlib.sha256(data).hexdigest(),
        "progress": dict(progress),
        "made_of": state.made_of,
    }
    try:
        (folder / _NEXT).write_bytes(data + hashlib.sha256(data).digest())
        # A damaged state does not take the place of the good one before it.
        if _whole(folder / _STATE) is not None:
            _move(folder, _STATE, _PREVIOUS)
        _move(folder, _NEXT, _STATE)
        (folder / _INDEX).write_json(index)
    except OSError as error:
        raise TrainingError(
            f"The state of the training could not be written to '{folder}': {error}. The last one "
            "is still there; make room and run the same command again to go on from it."
        ) from error


def load_state(folder: Location) -> tuple[TrainingState | None, tuple[str, ...]]:
    """The newest state in `folder` that is whole, or None if none was ever written.

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
        data = _whole(file)
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


def _whole(file: Location) -> bytes | None:
    """What a state's file holds, less the digest that it ends with, or None if that is another."""
    if not file.exists():
        return None
    content = file.read_bytes()
    data, digest = content[:-_DIGEST_BYTES], content[-_DIGEST_BYTES:]
    return data if hashlib.sha256(data).digest() == digest else None


def _parse_state(file: Location, data: bytes) -> TrainingState:
    try:
        content = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
        found = content.pop("format")
        if found == FORMAT:
            return TrainingState(**content)
    except (
        pickle.UnpicklingError,
        RuntimeError,
        TypeError,
        AttributeError,
        KeyError,
        EOFError,
    ) as error:
        raise ModelError(
            f"'{file}' is not a training state: {error}. Restore it from a copy, or train again "
            "with --overwrite."
        ) from error
    raise ModelError(
        f"'{file}' is a training state of format {found}, and this version reads format {FORMAT}. "
        "Go on with the version that wrote it, or train again with --overwrite."
    )


def read_progress(folder: Location) -> dict[str, Any] | None:
    """What the newest `save_state` told as progress, or None."""
    try:
        index = (folder / _INDEX).read_json()
        progress: dict[str, Any] = index["progress"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
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
        (folder / _CARD).write_text(card.markdown())
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
    file = folder / _WEIGHTS
    data = _read(file)
    if hashlib.sha256(data).hexdigest() != description.sha256:
        raise ModelError(
            f"'{file}' is damaged, or belongs to another {_DESCRIPTION}: its digest is not the one "
            f"given there. {_REMEDY}"
        )
    sections = description.config
    try:
        tensors = safetensors.torch.load(data)
        # On the device without memory: shapes are compared before anything of that size is made.
        with torch.device("meta"):
            expected = _build(sections, standardizer).state_dict()
        _compare_shapes(tensors, expected)
        for name, tensor in tensors.items():
            if tensor.dtype != expected[name].dtype or not tensor.isfinite().all():
                raise ValueError(f"{name} is {tensor.dtype} or holds a value that is not finite")
        model = _build(sections, standardizer)
        model.load_state_dict(tensors)
    except (safetensors.SafetensorError, RuntimeError, ValueError) as error:
        raise ModelError(
            f"'{file}' does not hold the weights of the model that {_DESCRIPTION} describes: "
            f"{error}. {_REMEDY}"
        ) from error
    return model.eval(), description


def _build(sections: ModelSections, standardizer: Standardizer) -> ValenceModel:
    mel = sections.mel
    return ValenceModel(
        sections.model, n_mels=mel.n_mels, n_frames=mel.n_frames, standardizer=standardizer
    )


def _compare_shapes(found: Weights, expected: Weights) -> None:
    for name in sorted(found | expected):
        have = list(found[name].shape) if name in found else "absent"
        need = list(expected[name].shape) if name in expected else "absent"
        if have != need:
            raise ValueError(f"{name} is {have} and should be {need}")


def _read(file: Location) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise ModelError(
            f"'{file}' cannot be read: {error}. Expected the folder of a model, with {_WEIGHTS} "
            f"and {_DESCRIPTION}. {_REMEDY}"
        ) from error


def _read_description(folder: Location) -> tuple[ModelDescription, Standardizer]:
    file = folder / _DESCRIPTION
    data = _read(file)
    try:
        content = json.loads(data)
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
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, ModelError) as error:
        raise ModelError(f"'{file}' is damaged: {error!r}. {_REMEDY}") from error
    if not sound:
        raise ModelError(f"'{file}' is damaged: its digest is not the one it gives. {_REMEDY}")
    raise ModelError(
        f"'{file}' is of format {version}, and this version reads format {FORMAT}. Use the version "
        "that wrote it, or train the model again."
    )
