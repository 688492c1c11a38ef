"""Add the network to a graph, in the order of the model's own code."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from valence.model.network import Block, ValenceModel
from valence.model.onnx.graph import Graph

# torch has the gates of an LSTM in the order input, forget, cell, output. ONNX has them in the
# order input, output, forget, cell.
_GATES = (0, 3, 1, 2)


@dataclass(frozen=True)
class Head:
    """A predictor from the model's features.

    Attributes
    ----------
    add
        Function that adds values `[rows, targets]` of features `[rows, feature_size]`, float32.
    targets
        Names of the targets.
    about
        JSON-like description of a predictor that is not the model's own head.
    """

    add: Callable[[Graph, str], str]
    targets: tuple[str, ...]
    about: Mapping[str, Any] | None = None


def values_of(tensor: Tensor) -> NDArray[np.float32]:
    """Return a tensor's values, float32."""
    return np.ascontiguousarray(tensor.detach().cpu().numpy(), np.float32)


def encode(graph: Graph, model: ValenceModel, inputs: str) -> str:
    """Add the CNN's values of each segment, `[n, *input_shape]` to `[n, encoded_size]`.

    Standardised features are those values themselves.
    """
    if model.takes_features:
        return _standardize(graph, model, inputs)
    images = graph.whole(-1, 1, model.n_mels, model.n_frames)
    x = graph.add("Reshape", _standardize(graph, model, inputs), images)
    for block in model.blocks:
        assert isinstance(block, Block)
        norm = block.norm
        assert norm.running_mean is not None
        assert norm.running_var is not None
        scale = norm.weight * torch.rsqrt(norm.running_var + norm.eps)
        weight = values_of(block.conv.weight * scale[:, None, None, None])
        bias = values_of(norm.bias - norm.running_mean * scale)
        x = graph.add("Conv", x, graph.keep(weight), graph.keep(bias), pads=[1, 1, 1, 1])
        x = graph.add("MaxPool", x, kernel_shape=[2, 2], strides=[2, 2])
        x = graph.add("Elu", x)
    x = graph.add("Transpose", x, perm=[0, 2, 3, 1])
    return graph.add("Reshape", x, graph.whole(-1, model.encoded_size))


def _standardize(graph: Graph, model: ValenceModel, inputs: str) -> str:
    if model.standardizer.scope == "segment_minmax":
        low = graph.add("ReduceMin", inputs, axes=[-2, -1], keepdims=1)
        high = graph.add("ReduceMax", inputs, axes=[-2, -1], keepdims=1)
        span = graph.add("Sub", high, low)
        varies = graph.add("Greater", span, graph.real(0))
        divisor = graph.add("Where", varies, span, graph.real(1))
        return graph.add("Div", graph.add("Sub", inputs, low), divisor)
    shifted = graph.add("Sub", inputs, graph.keep(values_of(model.mean)))
    scaled = graph.add("Div", shifted, graph.keep(values_of(model.std)))
    if not model.takes_features:
        return scaled
    return graph.add("Where", graph.add("IsNaN", scaled), graph.real(0), scaled)


def recur(
    graph: Graph, model: ValenceModel, x: str, layers: Iterable[nn.Module]
) -> tuple[str, str]:
    """Add recurrent layers over `[length, rows, inputs]`.

    Returns
    -------
    States `[length, rows, 2 * lstm_hidden]` and final states `[2, rows, lstm_hidden]` of the last
    layer.
    """
    final = ""
    for layer in layers:
        assert isinstance(layer, nn.LSTM)
        weights = [graph.keep(each) for each in _lstm_weights(layer)]
        states, final = graph.add_many(
            "LSTM",
            [x, *weights],
            2,
            direction="bidirectional",
            hidden_size=model.config.lstm_hidden,
        )
        # From [length, direction, rows, hidden] to [length, rows, both].
        aligned = graph.add("Transpose", states, perm=[0, 2, 1, 3])
        x = graph.add("Reshape", aligned, graph.whole(0, 0, 2 * model.config.lstm_hidden))
    return x, final


def attend(graph: Graph, model: ValenceModel, states: str, final: str) -> tuple[str, str]:
    """Add features `[rows, feature_size]` and attention `[rows, length]` of what `recur` adds."""
    states = graph.add("Transpose", states, perm=[1, 0, 2])
    weight = graph.keep(values_of(model.attention.weight).T)
    scores = graph.add("MatMul", states, weight)
    scores = graph.add("Add", scores, graph.keep(values_of(model.attention.bias)))
    attention = graph.add("Softmax", graph.add("Squeeze", scores, graph.whole(2)), axis=1)
    weighted = graph.add("MatMul", graph.add("Unsqueeze", attention, graph.whole(1)), states)
    context = graph.add("Squeeze", weighted, graph.whole(1))
    index = [graph.keep(np.array(direction, np.int64)) for direction in (0, 1)]
    last = [graph.add("Gather", final, each, axis=0) for each in index]
    return graph.add("Concat", context, *last, axis=1), attention


def own_head(model: ValenceModel) -> Head:
    """Return the model's own head."""
    weight, bias = values_of(model.output.weight), values_of(model.output.bias)

    def add(graph: Graph, features: str) -> str:
        return graph.add("Gemm", features, graph.keep(weight), graph.keep(bias), transB=1)

    return Head(add, tuple(model.config.targets))


def _lstm_weights(layer: nn.LSTM) -> tuple[NDArray[np.float32], ...]:
    """Return the weights of inputs `[2, 4h, inputs]` and states `[2, 4h, h]`, and biases `[2, 8h]`.

    They are in ONNX's order of the gates.
    """

    def ordered(name: str, suffix: str) -> NDArray[np.float32]:
        gates = np.split(values_of(getattr(layer, f"{name}_l0{suffix}")), 4)
        return np.concatenate([gates[gate] for gate in _GATES])

    def stacked(*names: str) -> NDArray[np.float32]:
        return np.stack(
            [
                np.concatenate([ordered(name, suffix) for name in names])
                for suffix in ("", "_reverse")
            ]
        )

    return stacked("weight_ih"), stacked("weight_hh"), stacked("bias_ih", "bias_hh")
