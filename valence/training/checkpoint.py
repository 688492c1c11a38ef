"""Save the state of a training after each epoch, and load it to resume.

The file of a state holds no code, and torch's weights-only loader reads it. The file ends with its
own digest, so that its damage shows without any other file.
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
import torch

from valence.config import Config
from valence.errors import ConfigError, ModelError, TrainingError
from valence.model.serialization import (
    FORMAT,
    MOST_BYTES,
    ModelSections,
    Weights,
    expected_weights,
    values_bytes,
)
from valence.provenance import fingerprint
from valence.storage.archives import member_sizes
from valence.storage.kept_file import TooLargeError, parse_json, read_at_most, require_table
from valence.storage.location import Location

_STATE = "state.pt"
_NEXT = "state.next.pt"
_PREVIOUS = "state.previous.pt"
_INDEX = "state.json"
_DIGEST_BYTES = hashlib.sha256().digest_size

# A state holds four tensors for each weight: the weight after the last epoch and after the best
# one, and two moments of the optimizer.
_STATE_COPIES = 4
# Room for the rest of a state: 200 bytes for each epoch, and 15 KB of generators for each worker.
_STATE_REST_BYTES = 64 * 2**20


@dataclass(frozen=True, eq=False)
class TrainingState:
    """All that a training needs to resume as if it had never stopped.

    The seed and the epoch determine the order of the data, so the order itself is not saved.

    Attributes
    ----------
    made_of
        Configuration and fingerprint of the segments, JSON-like. A training resumes only from a
        state with equal ones.
    standardizer
        Standardisation fitted on the training recordings, JSON-like.
    seed_index
        Index of the current seed in `train.seeds`.
    epoch
        Number of finished epochs of this seed.
    model, optimizer, scheduler
        The states of model, optimizer and scheduler.
    best_ccc, best_epoch, bad_epochs
        Early stopping: the best validation CCC of this seed, its epoch, and the number of epochs
        since then.
    best
        Weights of the best epoch over all seeds so far.
    best_record
        The `seed`, `epoch` and `validation_ccc` of the best epoch over all seeds so far.
    history
        One row for each epoch, over all seeds so far.
    random
        For each worker, the states of all its random generators.
    threads
        Number of torch's threads; only with the same number, results are equal to the last bit.
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
    """Return the states of the generators of Python, NumPy, torch and `device`.

    The states are plain values and tensors. A GPU that the training does not use is not touched.
    """
    version, numbers, gauss = random.getstate()
    # Libraries draw from NumPy's legacy generator by default, so its state is the one to save.
    legacy = np.random.get_state(legacy=False)  # noqa: NPY002
    keys = torch.from_numpy(legacy["state"]["key"].astype(np.int64))
    return {
        "python": [version, torch.tensor(numbers, dtype=torch.int64), gauss],
        "numpy": [keys, legacy["state"]["pos"], legacy["has_gauss"], legacy["gauss"]],
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state(device) if device.type == "cuda" else None,
    }


def set_random_state(state: Mapping[str, Any], device: torch.device) -> None:
    """Set the generators to the states that `random_state` returned.

    The state of a GPU is left out if `device` is not one.
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
    """Write `state` as the newest in `folder`, and keep the state before it.

    Parameters
    ----------
    folder
        `RUN/train`.
    state
        State to write.
    progress
        Progress for those who watch the training, JSON-like. It is written to `state.json`, and a
        training never resumes from it.

    Raises
    ------
    TrainingError
        If the state cannot be written; the last state is then still there.
    """
    buffer = io.BytesIO()
    content = {field.name: getattr(state, field.name) for field in fields(state)}
    torch.save({"format": FORMAT, **content}, buffer)
    data = buffer.getvalue()
    try:
        (folder / _NEXT).write_bytes(data + hashlib.sha256(data).digest())
        # A damaged state must not replace the good one before it.
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
    """Return whether `folder` holds a state whose `state.json` is missing or damaged."""
    return (folder / _STATE).exists() and read_progress(folder) is None


def restore_progress(
    folder: Location, state: TrainingState, *, progress: Mapping[str, Any]
) -> None:
    """Write `state.json` again if it is missing or damaged.

    Parameters
    ----------
    folder
        `RUN/train`.
    state
        The newest state in the folder.
    progress
        The known entries of the progress that `save_state` was given. History and best epoch are
        taken from the state.

    Raises
    ------
    OSError
        If the file cannot be written.
    """
    if not lacks_progress(folder):
        return
    data = _whole(folder / _STATE, _STATE_COPIES * MOST_BYTES)
    if data is not None:
        whole = {**progress, "history": state.history, "best": state.best_record}
        _write_index(folder, state, hashlib.sha256(data).hexdigest(), whole)


def load_state(
    folder: Location, *, most: int = _STATE_COPIES * MOST_BYTES
) -> tuple[TrainingState | None, tuple[str, ...]]:
    """Load the newest undamaged state in `folder`, or None if no state was ever written.

    Parameters
    ----------
    folder
        `RUN/train`.
    most
        Most bytes that a state may have, such as `state_bytes` of the configuration.

    Returns
    -------
    The state, and a remark on each newer state that is damaged.

    Raises
    ------
    ModelError
        If all states in the folder are damaged, or the state is of another version.
    """
    remarks: list[str] = []
    # A state that was written but not yet moved to its place is newer than the one there.
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


def state_bytes(config: Config, columns: int = 0) -> int:
    """Return the most bytes that the state of a training with this configuration may have.

    `columns` is the number of features, if the model takes features.
    """
    return _STATE_COPIES * _weights_bytes(config, columns) + _STATE_REST_BYTES


def require_size(config: Config, columns: int = 0) -> None:
    """Refuse a configuration whose model would be too large to load again.

    Parameters
    ----------
    config
        The whole configuration.
    columns
        Number of features, if the model takes features.

    Raises
    ------
    ConfigError
        If the weights take more bytes than this program reads.
    """
    needed = _weights_bytes(config, columns)
    if needed > MOST_BYTES:
        raise ConfigError(
            f"[model] asks for weights of {needed:,} bytes. Expected at most {MOST_BYTES:,}. Lower "
            "model.lstm_hidden, model.lstm_layers or model.channels."
        )


def _weights_bytes(config: Config, columns: int) -> int:
    sections = ModelSections(**{name: getattr(config, name) for name in ModelSections.model_fields})
    return values_bytes(expected_weights(sections, None, columns=columns))


def _whole(file: Location, most: int) -> bytes | None:
    """Read a state's file without the digest at its end; None if missing or damaged."""
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
        # torch's own message is not shown, because it suggests to let the file run its code.
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
    """Refuse a state whose entries are not of the kinds that a training needs."""
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
    """Read the progress that the last `save_state` wrote, or None if missing or damaged."""
    try:
        index = parse_json(read_at_most(folder / _INDEX, _STATE_REST_BYTES))
        require_table(index, {"progress": dict})
        # Older versions wrote no digest.
        digest = index.pop("digest", None)
        if digest is not None and digest != fingerprint(index):
            return None
    except (OSError, ValueError):
        return None
    progress: dict[str, Any] = index["progress"]
    return progress


def _move(folder: Location, name: str, to: str) -> None:
    (folder / name).rename(folder / to)
