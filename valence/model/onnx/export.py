"""Write a model as an ONNX file that takes samples, mel or features."""

from __future__ import annotations

from typing import Literal

from valence.errors import UsageError
from valence.model.network import ValenceModel
from valence.model.onnx.graph import Graph, Shape, new_graph
from valence.model.onnx.marks import marked, not_finite
from valence.model.onnx.network import Head, attend, encode, own_head, recur
from valence.model.onnx.timeline import add_timeline
from valence.model.serialization import ModelDescription
from valence.storage.kept_file import require_free
from valence.storage.location import Location

Input = Literal["samples", "mel", "set"]


def export_onnx(
    file: Location,
    model: ValenceModel,
    description: ModelDescription,
    *,
    takes: Input,
    head: Head | None = None,
    overwrite: bool = False,
) -> None:
    """Write the model as ONNX, for any number of recordings, sequences and segments.

    With `samples`, the input is `audio`, float32 `[batch, samples]`: mono, full scale 1, at the
    model's rate, at least one segment. The graph levels and transforms the segments as the model's
    own preprocessing does. Its outputs are the values of `add_timeline`.

    With `mel`, the input is `mel`, float32 `[batch, segments, n_mels, n_frames]`: log-mel in dB of
    levelled segments, as `valence.audio.mel` computes it. With `set`, for a model that takes a set
    of features, it is `set`, float32 `[batch, segments, columns]`, NaN where there is no value. The
    outputs of both are those of one sequence: `prediction` `[batch, targets]`, `features` `[batch,
    feature_size]` and `attention` `[batch, segments]`. All are NaN for a sequence that holds an
    infinite value, or NaN in mel.

    The file's metadata hold the configuration under `valence`, and the set and its columns if the
    model takes one.

    Parameters
    ----------
    file
        File to write.
    model
        Model in evaluation mode; the graph has no dropout.
    description
        The content of the model's `model.json`.
    takes
        The input of the graph.
    head
        A predictor in place of the model's own head.
    overwrite
        Whether a file that holds something else is replaced.

    Raises
    ------
    UsageError
        If the package `onnx` is not installed, or the model does not take such an input.
    StaleError
        If the file holds something else, and `overwrite` is False.
    """
    content, _ = onnx_bytes(model, description, takes=takes, head=head)
    require_free(file, content, overwrite=overwrite)
    file.write_bytes(content)


def onnx_bytes(
    model: ValenceModel,
    description: ModelDescription,
    *,
    takes: Input,
    head: Head | None = None,
    batch: int | str = "batch",
) -> tuple[bytes, dict[str, Shape]]:
    """Return the content of the file of `export_onnx`, and the shapes of its outputs.

    `batch` is the number of recordings or sequences, or a name if it may be any.
    """
    _require_input(description, takes)
    graph, head = new_graph(), head or own_head(model)
    given: Shape
    shapes: dict[str, Shape]
    if takes == "samples":
        name, given = "audio", [batch, "samples"]
        found = add_timeline(graph, model, description.config, name, head)
        shapes = {
            "timeline": [batch, "segments", len(head.targets)],
            "prediction": [batch, "sequences", len(head.targets)],
            "features": [batch, "sequences", model.feature_size],
            "attention": [batch, "sequences", "length"],
        }
    else:
        name, given = takes, [batch, "segments", *model.input_shape]
        found = _add_sequence(graph, model, name, head)
        shapes = {
            "prediction": [batch, len(head.targets)],
            "features": [batch, model.feature_size],
            "attention": [batch, "segments"],
        }
    for output in shapes:
        graph.add("Identity", found[output], named=output)
    about = {
        "input": takes,
        "targets": list(head.targets),
        "sha256": description.sha256,
        "config": description.config.model_dump(mode="json", exclude_none=True),
        **({} if description.features is None else {"features": description.features.to_json()}),
        **({} if head.about is None else {"regressor": dict(head.about)}),
    }
    return graph.finish({name: given}, shapes, about), shapes


def _add_sequence(graph: Graph, model: ValenceModel, inputs: str, head: Head) -> dict[str, str]:
    """Add the values of sequences `[batch, segments, *input_shape]`, each predicted as a whole."""
    rows = graph.add("Reshape", inputs, graph.whole(-1, *model.input_shape))
    sizes = graph.add("Shape", inputs, end=2)
    encoded = graph.add(
        "Reshape", encode(graph, model, rows), graph.shape(sizes, model.encoded_size)
    )
    x = graph.add("Transpose", encoded, perm=[1, 0, 2])
    features, attention = attend(graph, model, *recur(graph, model, x, model.lstm))
    found = {
        "prediction": head.add(graph, features),
        "features": features,
        "attention": attention,
    }
    axes = 2 + len(model.input_shape)
    bad = not_finite(graph, inputs, axes=axes, nan=not model.takes_features)
    return marked(graph, found, graph.add("Reshape", bad, graph.whole(-1, 1)))


def _require_input(description: ModelDescription, takes: Input) -> None:
    """Refuse an input that the model does not take."""
    features = description.features
    if features is not None and takes != "set":
        raise UsageError(
            f"The model takes the set of features '{features.set}', and its graph was asked to "
            f"take {takes}. A graph cannot compute features from sound. Add --input set, which "
            "writes a graph that takes the features."
        )
    if features is None and takes == "set":
        raise UsageError(
            "The model takes sound, and its graph was asked to take a set of features. Leave out "
            "--input, or use --input mel."
        )
