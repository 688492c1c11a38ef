"""Mark values in a graph that were computed from inputs that are no numbers.

Outputs do not show them: ONNX Runtime's MaxPool, for one, turns NaN into ordinary numbers.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from valence.model.onnx.graph import Graph


def not_finite(graph: Graph, values: str, *, axes: int, nan: bool = True) -> str:
    """Return whether each item along the first axis holds an infinite value or NaN.

    Parameters
    ----------
    graph
        Graph with the values.
    values
        float32 values.
    axes
        Number of their axes.
    nan
        Whether NaN counts too.

    Returns
    -------
    bool `[items, 1, ...]`, with as many axes.
    """
    odd = graph.add("IsInf", values)
    if nan:
        odd = graph.add("Or", odd, graph.add("IsNaN", values))
    counted = graph.cast(odd, "FLOAT")
    most = graph.add("ReduceMax", counted, axes=list(range(1, axes)), keepdims=1)
    return graph.add("Greater", most, graph.real(0))


def marked(graph: Graph, found: Mapping[str, str], bad: str) -> dict[str, str]:
    """Replace the values of bad items by NaN; `bad` is as `not_finite` returns it."""
    nothing = graph.real(np.nan)
    return {name: graph.add("Where", bad, nothing, value) for name, value in found.items()}
