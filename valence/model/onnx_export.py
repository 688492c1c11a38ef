"""Export the model as an ONNX graph, for programs without torch.

The graph is built here operator by operator, in the order of the model's own code: an exporter that
traces the model would fix the number of segments.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from valence.errors import UsageError
from valence.model.network import Block, ValenceModel
from valence.model.serialization import ModelDescription
from valence.storage.location import Location

# Versions of the operators and the file format that ONNX Runtime has been able to read since 2022.
_OPSET = 17
_IR_VERSION = 8
# torch has the gates of an LSTM in the order input, forget, cell, output. ONNX has them in the
# order input, output, forget, cell.
_GATES = (0, 3, 1, 2)

Array = NDArray[np.float32] | NDArray[np.int64]


def export_onnx(file: Location, model: ValenceModel, description: ModelDescription) -> None:
    """Write the model as ONNX: standardisation inside, any number of sequences and segments.

    The input is `mel`, float32 `[batch, segments, n_mels, n_frames]`: log-mel in dB of levelled
    segments, as `valence.audio.mel` computes it. For a model that takes a set of features the input
    is `set`, float32 `[batch, segments, columns]`, NaN where there is no value.

    The outputs are `prediction` `[batch, targets]`, `features` `[batch, 512]` and `attention`
    `[batch, segments]`. The file's metadata hold the configuration under `valence`, and the set and
    its columns if the model takes one.

    Parameters
    ----------
    file
        File to write.
    model
        Model in evaluation mode; the graph has no dropout.
    description
        The content of the model's `model.json`.

    Raises
    ------
    UsageError
        If the package `onnx` is not installed.
    """
    try:
        import onnx
    except ImportError as error:
        raise UsageError(
            "Writing ONNX needs the package onnx, which is not installed. In the folder that this "
            "program was installed from, run: pip install -e '.[onnx]'"
        ) from error
    graph = _Graph(onnx)
    features, attention = _embed(graph, model, _encode(graph, model))
    weight, bias = _values(model.output.weight), _values(model.output.bias)
    graph.add("Gemm", features, graph.keep(weight), graph.keep(bias), transB=1, to="prediction")
    graph.add("Identity", features, to="features")
    graph.add("Identity", attention, to="attention")
    float_ = onnx.TensorProto.FLOAT
    shapes: dict[str, list[str | int]] = {
        "prediction": ["batch", len(model.config.targets)],
        "features": ["batch", model.feature_size],
        "attention": ["batch", "segments"],
    }
    shape: list[str | int] = ["batch", "segments", *model.input_shape]
    made = onnx.helper.make_model(
        onnx.helper.make_graph(
            graph.nodes,
            "valence",
            [onnx.helper.make_tensor_value_info(_input(model), float_, shape)],
            [onnx.helper.make_tensor_value_info(name, float_, s) for name, s in shapes.items()],
            graph.constants,
        ),
        opset_imports=[onnx.helper.make_opsetid("", _OPSET)],
        ir_version=_IR_VERSION,
        producer_name="valence",
    )
    about = {
        "targets": list(model.config.targets),
        "sha256": description.sha256,
        "config": description.config.model_dump(mode="json", exclude_none=True),
        **({} if description.features is None else {"features": description.features.to_json()}),
    }
    onnx.helper.set_model_props(made, {"valence": json.dumps(about)})
    onnx.checker.check_model(made, full_check=True)
    file.write_bytes(made.SerializeToString())


class _Graph:
    """Collects the nodes and constants of a graph; each value gets a name of its own."""

    def __init__(self, onnx: Any) -> None:
        self._onnx = onnx
        self.nodes: list[Any] = []
        self.constants: list[Any] = []

    def keep(self, values: Array) -> str:
        """Add a constant and return its name."""
        name = f"constant_{len(self.constants)}"
        self.constants.append(self._onnx.numpy_helper.from_array(values, name))
        return name

    def whole(self, *values: int) -> str:
        """Add a constant of whole numbers and return its name."""
        return self.keep(np.array(values, np.int64))

    def add(self, operator: str, *inputs: str, to: str = "", **attributes: Any) -> str:
        """Add a node with one output and return the output's name."""
        return self.add_many(operator, inputs, [to or f"value_{len(self.nodes)}"], **attributes)[0]

    def add_many(
        self, operator: str, inputs: Sequence[str], to: Sequence[str], **attributes: Any
    ) -> Sequence[str]:
        """Add a node with several outputs and return their names."""
        self.nodes.append(self._onnx.helper.make_node(operator, inputs, to, **attributes))
        return to


def _values(tensor: Tensor) -> NDArray[np.float32]:
    return np.ascontiguousarray(tensor.detach().cpu().numpy(), np.float32)


def _input(model: ValenceModel) -> str:
    """Return the name of the graph's input."""
    return "set" if model.takes_features else "mel"


def _standardize(graph: _Graph, model: ValenceModel) -> str:
    if model.standardizer.scope == "segment_minmax":
        low = graph.add("ReduceMin", "mel", axes=[-2, -1], keepdims=1)
        high = graph.add("ReduceMax", "mel", axes=[-2, -1], keepdims=1)
        span = graph.add("Sub", high, low)
        zero, one = (graph.keep(np.array(value, np.float32)) for value in (0, 1))
        divisor = graph.add("Where", graph.add("Greater", span, zero), span, one)
        return graph.add("Div", graph.add("Sub", "mel", low), divisor)
    shifted = graph.add("Sub", _input(model), graph.keep(_values(model.mean)))
    scaled = graph.add("Div", shifted, graph.keep(_values(model.std)))
    if not model.takes_features:
        return scaled
    zero = graph.keep(np.array(0, np.float32))
    return graph.add("Where", graph.add("IsNaN", scaled), zero, scaled)


def _encode(graph: _Graph, model: ValenceModel) -> str:
    """Add the CNN over each segment, with the output `[batch, segments, encoded_size]`.

    Standardised features are that output themselves.
    """
    if model.takes_features:
        return _standardize(graph, model)
    segments = graph.whole(-1, 1, model.n_mels, model.n_frames)
    x = graph.add("Reshape", _standardize(graph, model), segments)
    for block in model.blocks:
        assert isinstance(block, Block)
        norm = block.norm
        assert norm.running_mean is not None
        assert norm.running_var is not None
        scale = norm.weight * torch.rsqrt(norm.running_var + norm.eps)
        weight = _values(block.conv.weight * scale[:, None, None, None])
        bias = _values(norm.bias - norm.running_mean * scale)
        x = graph.add("Conv", x, graph.keep(weight), graph.keep(bias), pads=[1, 1, 1, 1])
        x = graph.add("MaxPool", x, kernel_shape=[2, 2], strides=[2, 2])
        x = graph.add("Elu", x)
    x = graph.add("Transpose", x, perm=[0, 2, 3, 1])
    batch_and_length = graph.add("Slice", graph.add("Shape", "mel"), graph.whole(0), graph.whole(2))
    shape = graph.add("Concat", batch_and_length, graph.whole(model.encoded_size), axis=0)
    return graph.add("Reshape", x, shape)


def _embed(graph: _Graph, model: ValenceModel, encoded: str) -> tuple[str, str]:
    """Add deep features `[batch, feature_size]` and attention `[batch, segments]`."""
    both = 2 * model.config.lstm_hidden
    x = graph.add("Transpose", encoded, perm=[1, 0, 2])
    final = ""
    for place, layer in enumerate(model.lstm):
        assert isinstance(layer, nn.LSTM)
        weights = [graph.keep(each) for each in _lstm_weights(layer)]
        outputs = [f"states_{place}", f"final_{place}"]
        states, final = graph.add_many(
            "LSTM",
            [x, *weights],
            outputs,
            direction="bidirectional",
            hidden_size=model.config.lstm_hidden,
        )
        # From [segments, direction, batch, hidden] to [segments, batch, both].
        aligned = graph.add("Transpose", states, perm=[0, 2, 1, 3])
        x = graph.add("Reshape", aligned, graph.whole(0, 0, both))
    states = graph.add("Transpose", x, perm=[1, 0, 2])
    weight = graph.keep(np.ascontiguousarray(_values(model.attention.weight).T))
    scores = graph.add("MatMul", states, weight)
    scores = graph.add("Add", scores, graph.keep(_values(model.attention.bias)))
    attention = graph.add("Softmax", graph.add("Squeeze", scores, graph.whole(2)), axis=1)
    weighted = graph.add("MatMul", graph.add("Unsqueeze", attention, graph.whole(1)), states)
    context = graph.add("Squeeze", weighted, graph.whole(1))
    index = [graph.keep(np.array(direction, np.int64)) for direction in (0, 1)]
    last = [graph.add("Gather", final, each, axis=0) for each in index]
    return graph.add("Concat", context, *last, axis=1), attention


def _lstm_weights(layer: nn.LSTM) -> tuple[NDArray[np.float32], ...]:
    """Return the weights of inputs `[2, 4h, inputs]` and states `[2, 4h, h]`, and biases `[2, 8h]`.

    They are in ONNX's order of the gates.
    """

    def ordered(name: str, suffix: str) -> NDArray[np.float32]:
        gates = np.split(_values(getattr(layer, f"{name}_l0{suffix}")), 4)
        return np.concatenate([gates[gate] for gate in _GATES])

    def stacked(*names: str) -> NDArray[np.float32]:
        return np.stack(
            [
                np.concatenate([ordered(name, suffix) for name in names])
                for suffix in ("", "_reverse")
            ]
        )

    return stacked("weight_ih"), stacked("weight_hh"), stacked("bias_ih", "bias_hh")
