"""Write a model as a folder that `audonnx.load` reads."""

from __future__ import annotations

import inspect

import yaml

from valence.model.network import ValenceModel
from valence.model.onnx.export import onnx_bytes
from valence.model.onnx.network import Head
from valence.model.serialization import ModelDescription
from valence.storage.kept_file import require_free
from valence.storage.location import Location

MODEL, DESCRIPTION = "model.onnx", "model.yaml"


def export_audonnx(
    folder: Location,
    model: ValenceModel,
    description: ModelDescription,
    head: Head,
    *,
    overwrite: bool = False,
) -> None:
    """Write `model.onnx`, which takes samples, and `model.yaml`.

    audonnx gives the graph one recording at a time. By itself it would take sound at any rate and
    join several channels one after the other, so `model.yaml` holds `require_mono` as its
    transform.

    Parameters
    ----------
    folder
        Folder to write to.
    model
        Model in evaluation mode.
    description
        The content of the model's `model.json`.
    head
        The predictor from the model's features.
    overwrite
        Whether files of the same names that hold something else are replaced.

    Raises
    ------
    UsageError
        If the package `onnx` is not installed, or the model takes features.
    StaleError
        If a file holds something else, and `overwrite` is False.
    """
    content, shapes = onnx_bytes(model, description, takes="samples", head=head, batch=1)
    labelled = [name for name in shapes if name in ("timeline", "prediction")]
    transform = {
        "func": inspect.getsource(require_mono),
        "func_args": {"sr": description.config.preprocess.sr},
    }
    whole = {
        "$audonnx.core.model.Model": {
            "path": MODEL,
            "labels": {name: list(head.targets) for name in labelled},
            "transform": {"$audonnx.core.function.Function": transform},
        }
    }
    text = yaml.safe_dump(whole, sort_keys=False)
    require_free(folder / MODEL, content, overwrite=overwrite)
    require_free(folder / DESCRIPTION, text.encode(), overwrite=overwrite)
    (folder / MODEL).write_bytes(content)
    # Written last, so that it never names a graph that is not there.
    (folder / DESCRIPTION).write_text(text)


# audonnx runs the source of this function by itself, so that it may use no other name of this
# module.
def require_mono(audio: object, sampling_rate: int, *, sr: int) -> object:
    """Return samples as float32 [1, samples]; refuse other rates, channels and dtypes."""
    import numpy

    if sampling_rate != sr:
        raise ValueError(
            f"Sound at {sampling_rate} Hz was found. Expected {sr} Hz. Resample it first."
        )
    samples = numpy.atleast_2d(numpy.asarray(audio))
    if samples.ndim != 2 or len(samples) != 1:
        raise ValueError(
            f"Sound of shape {samples.shape} was found. Expected one channel, [samples] or "
            "[1, samples]. Mix or choose channels first."
        )
    if samples.dtype.kind != "f":
        raise ValueError(
            f"Samples of dtype {samples.dtype} were found. Expected floats between -1 and 1. "
            "Divide whole numbers by their full scale first."
        )
    return samples.astype(numpy.float32)
