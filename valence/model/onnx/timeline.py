"""Add to a graph what turns samples into a timeline, as `valence.prediction.predictor` does.

Segments and sequences are computed in blocks, so that the memory of a long recording does not grow
with all that lies between its samples and its values.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from valence.model.network import ValenceModel
from valence.model.onnx.ears import level, log_mel
from valence.model.onnx.graph import Graph, even_blocks
from valence.model.onnx.marks import marked, not_finite
from valence.model.onnx.network import Head, attend, encode, recur, values_of
from valence.model.serialization import ModelSections

# Segments, and sequences, that are computed at once: few enough that their values stay near the
# cache.
_SEGMENTS_AT_ONCE = 16
_SEQUENCES_AT_ONCE = 256


@dataclass(frozen=True)
class Sizes:
    """Sizes that are known when the graph runs, each a vector of one whole number.

    Attributes
    ----------
    batch
        Number of recordings.
    segments
        Number of whole segments of each.
    length
        Number of segments of a sequence: that of training, or all of a shorter recording.
    sequences
        Number of sequences of each recording, one from every segment on.
    """

    batch: str
    segments: str
    length: str
    sequences: str


def add_timeline(
    graph: Graph, model: ValenceModel, config: ModelSections, audio: str, head: Head
) -> dict[str, str]:
    """Add the timeline of recordings `[batch, samples]`, which are mono at the model's rate.

    Returns
    -------
    The values' names: `timeline` `[batch, segments, targets]`, `prediction` `[batch, sequences,
    targets]`, `features` `[batch, sequences, feature_size]`, `attention` `[batch, sequences,
    length]`. All values of a recording are NaN if one of its samples is not finite, or if all are
    zero. A recording without a whole segment is an error of the node that is named for it.
    """
    audio = _required(graph, audio, config.preprocess.segment_samples)
    sizes = _sizes(graph, config, audio)
    projected = _segments(graph, model, config, audio, sizes)
    names = ("features", "prediction", "attention")
    found = dict(
        zip(names, _sequences(graph, model, projected, sizes, head), strict=True),
    )
    found["timeline"] = _averaged(graph, found["prediction"], sizes)
    return marked(graph, found, _refused(graph, audio))


def _required(graph: Graph, audio: str, samples: int) -> str:
    """Return the recordings, or end the run where they hold less than a segment.

    There is no operator that refuses. The only index into one value is 0, and any other ends the
    run with a message that names the node. All else waits for what the node gives.
    """
    size = graph.size(audio, 1)
    short = graph.cast(graph.add("Less", size, graph.whole(samples)), "INT64")
    name = f"at_least_one_segment_of_{samples}_samples"
    size = graph.add("Gather", size, short, axis=0, name=name)
    return graph.slice(audio, graph.whole(0), size, axis=1)


def _sizes(graph: Graph, config: ModelSections, audio: str) -> Sizes:
    segment = graph.whole(config.preprocess.segment_samples)
    segments = graph.add("Div", graph.size(audio, 1), segment)
    length = graph.add("Min", segments, graph.whole(config.sequence.length))
    others = graph.add("Sub", segments, length)
    sequences = graph.add("Add", others, graph.whole(1))
    return Sizes(graph.size(audio, 0), segments, length, sequences)


def _refused(graph: Graph, audio: str) -> str:
    """Return which recordings a prediction refuses, bool `[batch, 1, 1]`."""
    loudest = graph.add("ReduceMax", graph.add("Abs", audio), axes=[1], keepdims=1)
    silent = graph.add("Equal", loudest, graph.real(0))
    return graph.add(
        "Unsqueeze", graph.add("Or", not_finite(graph, audio, axes=2), silent), graph.whole(2)
    )


def _segments(
    graph: Graph, model: ValenceModel, config: ModelSections, audio: str, sizes: Sizes
) -> str:
    """Add the first recurrent layer's input projection, `[batch, segments, 8 * lstm_hidden]`."""
    preprocess, samples = config.preprocess, config.preprocess.segment_samples
    stop = graph.add("Mul", sizes.segments, graph.whole(samples))
    whole = graph.slice(audio, graph.whole(0), stop, axis=1)
    rows = graph.add("Reshape", whole, graph.whole(-1, samples))
    count = graph.add("Mul", sizes.batch, sizes.segments)
    blocks, size = even_blocks(graph, count, _SEGMENTS_AT_ONCE)
    filled = _filled(graph, rows, graph.add("Mul", blocks, size), axis=0, axes=2)
    stacked = graph.add("Reshape", filled, graph.shape(blocks, size, samples))

    def step(inner: Graph, _: Sequence[str], segments: str) -> tuple[list[str], list[str]]:
        levelled = level(inner, preprocess, segments)
        mel = log_mel(inner, config.mel, levelled, samples=samples, sr=preprocess.sr)
        if preprocess.dtype == "float16":
            # The model was trained on the values that the store holds.
            mel = inner.cast(inner.cast(mel, "FLOAT16"), "FLOAT")
        return [], [_project(inner, model, encode(inner, model, mel))]

    (projected,) = graph.repeat(step, stacked, kind="FLOAT")
    width = 8 * model.config.lstm_hidden
    projected = graph.add("Reshape", projected, graph.whole(-1, width))
    projected = graph.slice(projected, graph.whole(0), count, axis=0)
    return graph.add("Reshape", projected, graph.shape(sizes.batch, sizes.segments, width))


def _project(graph: Graph, model: ValenceModel, encoded: str) -> str:
    """Add `ValenceModel.project`: the part of the recurrence that overlapping sequences share."""
    ahead, behind = model.first_layer()
    weight = values_of(torch.cat([ahead[0], behind[0]]))
    bias = values_of(torch.cat([ahead[2] + ahead[3], behind[2] + behind[3]]))
    return graph.add("Gemm", encoded, graph.keep(weight), graph.keep(bias), transB=1)


def _sequences(
    graph: Graph, model: ValenceModel, projected: str, sizes: Sizes, head: Head
) -> list[str]:
    """Add features, prediction and attention of all sequences, each `[batch, sequences, ...]`."""
    one = graph.whole(1)
    blocks, size = even_blocks(graph, sizes.sequences, _SEQUENCES_AT_ONCE)
    rows = graph.add("Mul", blocks, size)
    overlap = graph.add("Sub", sizes.length, one)
    filled = _filled(graph, projected, graph.add("Add", rows, overlap), axis=1, axes=3)
    starts = graph.add("Mul", _counted(graph, blocks), size)

    def step(inner: Graph, _: Sequence[str], start: str) -> tuple[list[str], list[str]]:
        first = inner.add("Unsqueeze", start, inner.whole(0))
        stop = inner.add("Add", first, inner.add("Add", size, overlap))
        held = inner.slice(filled, first, stop, axis=1)
        states, final = _first_states(inner, model, held, sizes, size)
        if model.config.lstm_layers > 1:
            states, final = recur(inner, model, states, list(model.lstm)[1:])
        features, attention = attend(inner, model, states, final)
        return [], [features, head.add(inner, features), attention]

    found = graph.repeat(step, starts, kind="INT64")
    aligned = []
    for value in found:
        # From [blocks, batch * size, columns] to [batch, blocks * size, columns].
        columns = graph.size(value, 2)
        apart = graph.add("Reshape", value, graph.shape(blocks, sizes.batch, size, columns))
        apart = graph.add("Transpose", apart, perm=[1, 0, 2, 3])
        joined = graph.add("Reshape", apart, graph.shape(sizes.batch, rows, columns))
        aligned.append(graph.slice(joined, graph.whole(0), sizes.sequences, axis=1))
    return aligned


def _first_states(
    graph: Graph, model: ValenceModel, projected: str, sizes: Sizes, rows: str
) -> tuple[str, str]:
    """Add the first recurrent layer over sequences that begin at consecutive segments.

    The segments' projections are `[batch, rows + length - 1, 8 * lstm_hidden]`, and each recording
    has `rows` sequences here. The values are those of `recur`.
    """
    hidden = model.config.lstm_hidden
    one = graph.whole(1)
    ahead, behind = graph.add_many("Split", [projected], 2, axis=2)
    directions = model.first_layer()
    weight = graph.keep(np.stack([values_of(each[1].t()) for each in directions]))
    latest = graph.add("Sub", sizes.length, one)
    # A step takes the same place of every sequence, and so consecutive segments.
    shape = graph.shape(1, -1, 4 * hidden)

    def step(inner: Graph, states: Sequence[str], time: str) -> tuple[list[str], list[str]]:
        state, cell = states
        place = inner.add("Unsqueeze", time, inner.whole(0))
        parts = []
        for value, first in ((ahead, place), (behind, inner.add("Sub", latest, place))):
            part = inner.slice(value, first, inner.add("Add", first, rows), axis=1)
            parts.append(inner.add("Reshape", part, shape))
        entered = inner.add("Concat", *parts, axis=0)
        gates = inner.add("Add", inner.add("MatMul", state, weight), entered)
        enter, keep, candidate, leave = inner.add_many("Split", [gates], 4, axis=2)
        kept = inner.add("Mul", inner.add("Sigmoid", keep), cell)
        new = inner.add("Mul", inner.add("Sigmoid", enter), inner.add("Tanh", candidate))
        cell = inner.add("Add", kept, new)
        state = inner.add("Mul", inner.add("Sigmoid", leave), inner.add("Tanh", cell))
        outputs = [
            inner.add("Squeeze", part, inner.whole(0))
            for part in inner.add_many("Split", [state], 2, axis=0)
        ]
        return [state, cell], outputs

    nothing = graph.add(
        "ConstantOfShape", graph.shape(2, graph.add("Mul", sizes.batch, rows), hidden)
    )
    final, _, forwards, backwards = graph.repeat(
        step,
        _counted(graph, sizes.length),
        kind="INT64",
        states=(nothing, nothing),
        backwards=(False, True),
    )
    return graph.add("Concat", forwards, backwards, axis=2), final


def _averaged(graph: Graph, prediction: str, sizes: Sizes) -> str:
    """Add the mean of all sequences that hold a segment, `[batch, segments, targets]`."""
    zero, one = graph.whole(0), graph.whole(1)
    # Differences of sums over thousands of float32 values would lose digits.
    sums = graph.add("CumSum", graph.cast(prediction, "DOUBLE"), graph.scalar(one))
    sums = graph.add("Pad", sums, graph.whole(0, 1, 0, 0, 0, 0))
    segment = _counted(graph, sizes.segments)
    first = graph.add("Sub", segment, graph.add("Sub", sizes.length, one))
    first = graph.add("Max", first, zero)
    stop = graph.add("Add", graph.add("Min", segment, graph.add("Sub", sizes.sequences, one)), one)
    within = graph.add(
        "Sub", graph.add("Gather", sums, stop, axis=1), graph.add("Gather", sums, first, axis=1)
    )
    held = graph.cast(graph.add("Sub", stop, first), "DOUBLE")
    held = graph.add("Unsqueeze", held, one)
    return graph.cast(graph.add("Div", within, held), "FLOAT")


def _counted(graph: Graph, count: str) -> str:
    """Return the whole numbers from 0 to below `count`."""
    ends = [graph.scalar(each) for each in (graph.whole(0), count, graph.whole(1))]
    return graph.add("Range", *ends)


def _filled(graph: Graph, value: str, size: str, *, axis: int, axes: int) -> str:
    """Add zeros at the end of an axis, up to a size, to a value of so many axes."""
    missing = graph.add("Sub", size, graph.size(value, axis))
    ends = [0] * axes + [missing if each == axis else 0 for each in range(axes)]
    return graph.add("Pad", value, graph.shape(*ends))
