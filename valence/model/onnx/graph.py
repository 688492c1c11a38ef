"""Build an ONNX graph operator by operator.

An exporter that traces the model would fix the number of segments.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from types import ModuleType
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from valence.errors import UsageError

# Versions of the operators, of those in the domain for trees, and of the file format. ONNX Runtime
# has been able to read them since 2022.
_OPSET = 17
TREES = "ai.onnx.ml"
_TREE_OPSET = 3
_IR_VERSION = 8

Array = NDArray[Any]
Shape = Sequence[str | int]
Kind = Literal["FLOAT", "INT64"]


class Graph:
    """Collects the nodes and constants of a graph; each value gets a name of its own.

    Parameters
    ----------
    onnx
        The package `onnx`.
    outer
        The graph with the node that repeats this one. This graph may use its values by their names,
        and it keeps the constants of both.
    """

    def __init__(self, onnx: ModuleType, outer: Graph | None = None) -> None:
        self._onnx = onnx
        self._root: Graph = self if outer is None else outer._root
        self._values = 0
        self._kept: dict[tuple[str, tuple[int, ...], bytes], str] = {}
        self.nodes: list[Any] = []
        self.constants: list[Any] = []

    def keep(self, values: Array) -> str:
        """Add a constant and return its name; equal constants are kept once."""
        root = self._root
        values = np.ascontiguousarray(values) if values.ndim else values
        key = (str(values.dtype), values.shape, values.tobytes())
        if key not in root._kept:
            root._kept[key] = f"constant_{len(root.constants)}"
            root.constants.append(self._onnx.numpy_helper.from_array(values, root._kept[key]))
        return root._kept[key]

    def real(self, value: float) -> str:
        """Add a float32 number and return its name."""
        return self.keep(np.array(value, np.float32))

    def whole(self, *values: int) -> str:
        """Add a constant vector of whole numbers and return its name."""
        return self.keep(np.array(values, np.int64))

    def add(self, operator: str, *inputs: str, named: str = "", **attributes: Any) -> str:
        """Add a node with one output and return the output's name."""
        return self.add_many(operator, inputs, [named] if named else 1, **attributes)[0]

    def add_many(
        self, operator: str, inputs: Sequence[str], outputs: Sequence[str] | int, **attributes: Any
    ) -> list[str]:
        """Add a node whose outputs are named or counted, and return their names."""
        names = self._fresh(outputs) if isinstance(outputs, int) else list(outputs)
        self.nodes.append(self._onnx.helper.make_node(operator, inputs, names, **attributes))
        return names

    def cast(self, value: str, kind: str) -> str:
        """Convert a value to the type that ONNX calls `kind`, such as `FLOAT16`."""
        return self.add("Cast", value, to=getattr(self._onnx.TensorProto, kind))

    def scalar(self, vector: str) -> str:
        """Turn a vector of one value into a scalar."""
        return self.add("Squeeze", vector, self.whole(0))

    def size(self, value: str, axis: int) -> str:
        """Return the size of an axis, as a vector of one whole number."""
        return self.add("Shape", value, start=axis, end=axis + 1)

    def slice(self, value: str, first: str, stop: str, *, axis: int) -> str:
        """Return the part of a value between two vectors of one whole number."""
        return self.add("Slice", value, first, stop, self.whole(axis))

    def shape(self, *sizes: str | int) -> str:
        """Join sizes, each a number or a vector of one, to a shape."""
        parts = [self.whole(size) if isinstance(size, int) else size for size in sizes]
        return self.add("Concat", *parts, axis=0)

    def repeat(
        self,
        step: Callable[[Graph, list[str], str], tuple[Sequence[str], Sequence[str]]],
        over: str,
        *,
        kind: Kind,
        states: Sequence[str] = (),
        backwards: Sequence[bool] = (),
    ) -> list[str]:
        """Repeat a step for each item along the first axis of a value.

        Parameters
        ----------
        step
            Function that adds the step's nodes to the graph that it is given, and gets the names of
            the states and of the item there. It returns the names of the new states and of the
            outputs, which are float32.
        over
            The value with the items.
        kind
            Its type.
        states
            Initial states, float32.
        backwards
            Whether each output is stacked in the items' reverse order; by default none is.

        Returns
        -------
        The final states, then the outputs of all steps, stacked along a new first axis.
        """
        inner = Graph(self._onnx, self)
        held, (item,) = inner._fresh(len(states)), inner._fresh(1)
        moved, outputs = step(inner, held, item)
        body = self._onnx.helper.make_graph(
            inner.nodes,
            f"step_{item}",
            [*(self._info(name, "FLOAT") for name in held), self._info(item, kind)],
            [self._info(name, "FLOAT") for name in (*moved, *outputs)],
        )
        return self.add_many(
            "Scan",
            [*states, over],
            len(states) + len(outputs),
            body=body,
            num_scan_inputs=1,
            scan_output_directions=[int(each) for each in backwards or [False] * len(outputs)],
        )

    def finish(
        self, inputs: Mapping[str, Shape], outputs: Mapping[str, Shape], about: Any
    ) -> bytes:
        """Check the graph, and return the bytes of its file.

        Parameters
        ----------
        inputs, outputs
            Names and shapes of the float32 values; a name in a shape stands for any size.
        about
            JSON-like description that the file's metadata hold under `valence`.
        """
        onnx = self._onnx
        sets = [onnx.helper.make_opsetid("", _OPSET)]
        if any(node.domain for node in self._everything(self.nodes)):
            sets.append(onnx.helper.make_opsetid(TREES, _TREE_OPSET))
        made = onnx.helper.make_model(
            onnx.helper.make_graph(
                self.nodes,
                "valence",
                [self._info(name, "FLOAT", shape) for name, shape in inputs.items()],
                [self._info(name, "FLOAT", shape) for name, shape in outputs.items()],
                self.constants,
            ),
            opset_imports=sets,
            ir_version=_IR_VERSION,
            producer_name="valence",
        )
        onnx.helper.set_model_props(made, {"valence": json.dumps(about)})
        onnx.checker.check_model(made, full_check=True)
        content: bytes = made.SerializeToString()
        return content

    def _everything(self, nodes: Sequence[Any]) -> list[Any]:
        """List nodes and those that they repeat."""
        found = list(nodes)
        for node in nodes:
            for attribute in node.attribute:
                found += self._everything(attribute.g.node)
        return found

    def _info(self, name: str, kind: str, shape: Shape | None = None) -> Any:
        type_ = getattr(self._onnx.TensorProto, kind)
        return self._onnx.helper.make_tensor_value_info(name, type_, shape)

    def _fresh(self, count: int) -> list[str]:
        root = self._root
        root._values += count
        return [f"value_{number}" for number in range(root._values - count, root._values)]


def new_graph() -> Graph:
    """Return an empty graph.

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
    return Graph(onnx)


def even_blocks(graph: Graph, count: str, most: int) -> tuple[str, str]:
    """Share out items over blocks of equal size.

    Parameters
    ----------
    graph
        Graph that counts.
    count
        Number of items, a vector of one whole number.
    most
        Most items of a block.

    Returns
    -------
    The number of blocks, as few as possible, and their size, as small as possible: both vectors of
    one whole number. The blocks together have room for fewer than one more item each.
    """

    def rounded_up(dividend: str, divisor: str) -> str:
        less_one = graph.add("Sub", divisor, graph.whole(1))
        return graph.add("Div", graph.add("Add", dividend, less_one), divisor)

    blocks = rounded_up(count, graph.whole(most))
    return blocks, rounded_up(count, blocks)
