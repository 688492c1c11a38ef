"""Write a trained model to a folder, and load it."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import safetensors
import safetensors.torch
import torch
from pyarrow.fs import FileType
from torch import Tensor

from valence.audio.standardization import Scope, Standardizer
from valence.config import (
    Config,
    LabelsConfig,
    MelConfig,
    ModelConfig,
    PreprocessConfig,
    Sections,
    SequenceConfig,
    StandardizeConfig,
)
from valence.errors import ModelError, TrainingError
from valence.model.card import Card
from valence.model.network import FeatureInput, ValenceModel
from valence.provenance import fingerprint, versions
from valence.run import Run
from valence.storage.kept_file import KeptFile, parse_json, require_table
from valence.storage.location import Location

Weights = dict[str, Tensor]
_LENGTH = struct.Struct("<Q")
# Most header bytes for each tensor. Its name, type, shape and place take about 100, and the
# metadata of the whole file 30.
_HEADER_BYTES_EACH = 1024
# The format's names of the types that a model's tensors have, or may have been saved in.
_TYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
    "I32": torch.int32,
    "I8": torch.int8,
}
# A thousand million parameters, 400 times the study's. Loading takes three times these bytes.
MOST_BYTES = 4 * 2**30


def values_bytes(expected: Mapping[str, Tensor]) -> int:
    """Count the bytes of the tensors' values; the tensors may be on torch's device `meta`."""
    return sum(tensor.numel() * tensor.element_size() for tensor in expected.values())


def most_bytes(expected: Mapping[str, Tensor]) -> int:
    """Return the most bytes that a file with tensors of these names, types and shapes may take."""
    return _LENGTH.size + _HEADER_BYTES_EACH * (1 + len(expected)) + values_bytes(expected)


def read_weights(content: bytes, expected: Mapping[str, Tensor]) -> Weights:
    """Read tensors that have the names, types and shapes of `expected`.

    Parameters
    ----------
    content
        Bytes of the file.
    expected
        Tensors to expect, such as a model's `state_dict` on torch's device `meta`.

    Raises
    ------
    ValueError
        If the header declares other tensors, the number of values is not the declared one, or a
        value is not finite.
    """
    header = _header(content)
    for name in sorted({*header, *expected}):
        have = header[name]["shape"] if name in header else "absent"
        need = list(expected[name].shape) if name in expected else "absent"
        if have != need:
            raise ValueError(f"{name} is {have} and should be {need}")
        kind = header[name]["dtype"]
        if _TYPES.get(kind) != expected[name].dtype:
            raise ValueError(
                f"{name} is {_TYPES.get(kind, kind)} and should be {expected[name].dtype}"
            )
    needed = values_bytes(expected)
    held = len(content) - _LENGTH.size - _LENGTH.unpack_from(content)[0]
    if held != needed:
        raise ValueError(f"it holds {held:,} bytes of values and should hold {needed:,}")
    try:
        tensors = safetensors.torch.load(content)
    except (safetensors.SafetensorError, RuntimeError) as error:
        raise ValueError(f"its tensors do not lie one after the other ({error})") from error
    for name, tensor in tensors.items():
        if not tensor.isfinite().all():
            raise ValueError(f"{name} holds a value that is not finite")
    return tensors


def _header(content: bytes) -> dict[str, dict[str, Any]]:
    """Read the type and shape that the header declares for each tensor."""
    if len(content) < _LENGTH.size:
        raise ValueError(f"it has {len(content)} bytes")
    (length,) = _LENGTH.unpack_from(content)
    if length > len(content) - _LENGTH.size:
        raise ValueError(f"its header declares {length:,} bytes and the file has {len(content):,}")
    header = parse_json(content[_LENGTH.size : _LENGTH.size + length])
    require_table(header, {})
    found = {name: each for name, each in header.items() if name != "__metadata__"}
    for each in found.values():
        require_table(each, {"dtype": str, "shape": list, "data_offsets": list})
    return found


# Increase it by 1 when this version can no longer read the states or models of older ones.
FORMAT = 1
# File name of the model's card in its folder.
CARD = "README.md"
_WEIGHTS = "model.safetensors"
_DESCRIPTION = "model.json"
# The files without which there is no model.
MODEL_FILES = (_DESCRIPTION, _WEIGHTS)
_REMEDY = "Copy the model folder again, or make it with 'valence train'."


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
    """The content of `model.json`.

    Attributes
    ----------
    config
        The sections of the configuration that a prediction depends on.
    record
        The model's origin: subjects, split, scores, seed, epoch, versions, licence note.
    sha256
        Digest of `model.safetensors`.
    features
        The set of features that the model takes; None if it takes mel.
    """

    config: ModelSections
    record: dict[str, Any]
    sha256: str
    features: FeatureInput | None = None


def export_model(
    folder: Location,
    model: ValenceModel,
    config: Config,
    record: Mapping[str, Any],
    features: FeatureInput | None = None,
) -> str:
    """Write `model`, all that prediction needs, and its card `README.md` into `folder`.

    Parameters
    ----------
    folder
        Folder to write to, `RUN/model`.
    model
        Model with its standardisation.
    config
        Configuration that the model was trained with.
    record
        The model's origin, JSON-like.
    features
        The set of features that the model takes; None if it takes mel.

    Returns
    -------
    The SHA-256 of `model.safetensors`.

    Raises
    ------
    TrainingError
        If the files cannot be written.
    """
    assert (features is not None) == model.takes_features
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
        # Absent for mel, so that the file keeps its bytes.
        **({} if features is None else {"features": features.to_json()}),
    }
    card = Card(
        targets=config.model.targets,
        parameters=sum(each.numel() for each in model.parameters()),
        segment_seconds=config.preprocess.segment_seconds,
        length=config.sequence.length,
        record=record,
        protocol=config.split.protocol,
        overlap=config.split.allow_subject_overlap,
        features=features,
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
    """Read `model.json` in `folder` and check it against its own digest.

    Raises
    ------
    ModelError
        If the file is missing, damaged or of another version.
    """
    return _read_description(folder)[0]


def load_model(folder: Location) -> tuple[ValenceModel, ModelDescription]:
    """Load the model in `folder`, in evaluation mode on the CPU; no code from its files runs.

    Raises
    ------
    ModelError
        If a file is missing or damaged, the two files do not belong together, or their version is
        not this one.
    """
    description, standardizer = _read_description(folder)
    sections = description.config
    expected = expected_weights(sections, standardizer)
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
    """Load the model of a run, and check that the run's training ended with this model.

    The check is left out if only the model of a run was kept, and no record of its training.

    Raises
    ------
    ModelError
        If there is no model, if the training ended with another one, or in the cases that
        `load_model` names.
    MissingStageError
        If the run's training is not finished.
    DamagedError
        If the record of the training is lost or damaged.
    """
    stage = run.stage("train")
    record = stage.found()
    if record is not None:
        # A training that is at work, or was killed, may have left the model of an earlier one.
        stage.require_finished(record)
    if not (run.model / _DESCRIPTION).exists():
        raise ModelError(
            f"'{run.root}' holds no model. Expected the folder of a run whose training is "
            f"finished, a folder with {_DESCRIPTION} and {_WEIGHTS}, or the file of 'valence "
            f"model'. {_REMEDY}"
        )
    model, description = load_model(run.model)
    noted = None if record is None else record["summary"].get("digest")
    if noted not in (None, description.sha256):
        raise ModelError(
            f"'{run.model}' does not hold the model that '{stage.folder}' ended with. Restore "
            f"it, or run '{stage.command()}', which writes it again from the training's state."
        )
    return model, description


def expected_weights(
    sections: ModelSections, standardizer: Standardizer | None, *, columns: int = 0
) -> Weights:
    """Build tensors with the names, types and shapes of a model's weights, without any memory.

    Parameters
    ----------
    sections
        Configuration of the model.
    standardizer
        Its standardisation; None before one is fitted.
    columns
        Number of features, if the model takes features and has no standardisation yet.
    """
    if standardizer is None:
        scope: Scope = sections.standardize.scope
        means = sections.mel.n_mels if scope == "mel_band" else 1
        if sections.model.feature_set is not None:
            scope, means = "column", columns
        standardizer = Standardizer(scope, np.zeros(means, np.float32), np.ones(means, np.float32))
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
            # The whole configuration also checks what its sections require of each other.
            Config(**{name: getattr(sections, name) for name in ModelSections.model_fields})
            record, sha256 = content["record"], content["sha256"]
            standardizer = Standardizer.from_json(content["standardizer"])
            if not isinstance(record, dict) or not isinstance(sha256, str):
                raise TypeError("record is no table, or sha256 no text")
            features = _features_of(content, sections, standardizer)
            return ModelDescription(sections, record, sha256, features), standardizer
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


def _features_of(
    content: Mapping[str, Any], sections: ModelSections, standardizer: Standardizer
) -> FeatureInput | None:
    """Read the set of features that a model takes, and check that its standardisation fits.

    Raises
    ------
    KeyError, TypeError, ValueError
        If the set is missing, or is not the one that the configuration names; or if the
        standardisation is of something else.
    """
    means, name = len(standardizer.mean), sections.model.feature_set
    if name is None:
        if standardizer.scope == "column" or means not in (1, sections.mel.n_mels):
            raise ValueError(f"it has {means} means for {sections.mel.n_mels} mel bands")
        return None
    features = FeatureInput.from_json(content["features"])
    if features.set != name:
        raise ValueError(f"its features are '{features.set}' and model.input is '{name}'")
    if standardizer.scope != "column" or means != len(features.columns):
        raise ValueError(f"it has {means} means for {len(features.columns)} columns of features")
    return features


def load_any_model(root: Location) -> tuple[ValenceModel, ModelDescription]:
    """Load the model of a run, of a model's folder, or of a bundle that `opened_model` opened.

    Raises
    ------
    ModelError, MissingStageError, DamagedError
        In the cases that `load_model` and `load_own_model` name.
    """
    # A model's folder alone has no run, hence no record of a training to check against.
    return load_model(root) if model_folder(root) == root else load_own_model(Run(root))


def model_folder(root: Location) -> Location:
    """Return the folder of a model: `root` itself if a model lies in it, else `root/model`.

    A file, which is a bundle, is returned as it is.
    """
    if root.info().type == FileType.File:
        return root
    return root if (root / _DESCRIPTION).exists() else root / "model"
