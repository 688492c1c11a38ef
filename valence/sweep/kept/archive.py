"""How much a `pipeline.skops` may hold, and whether it holds what it declares.

skops reads each member of its archive into memory and makes room for what an array's header tells
of. A file from elsewhere is therefore looked through before skops sees it.
"""

from __future__ import annotations

import io
import json
import math
import zipfile
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from valence.storage.archives import member_sizes
from valence.storage.kept_file import parse_json
from valence.sweep.kept.ubjson import require_whole_ubjson

# Boosting, which grows with no rows: a thousand trees of 1,024 leaves take half of it.
_LEAST_BYTES = 256 * 2**20
# Loading takes three times as much memory: the file, its arrays, and what scikit-learn makes of it.
_MOST_BYTES = 4 * 2**30
# A kernel machine keeps its rows twice, and an ensemble has some of them.
_COPIES = 16
# A forest keeps two nodes a row and tree, of 72 bytes, for a thousand trees.
_FOREST_ROW_BYTES = 2 * 72 * 1000
# A schema takes 15 KB a tree, and up to twenty times its size once it is read.
_SCHEMA = "schema.json"
_MOST_SCHEMA_BYTES = 64 * 2**20

# It reads an archive of its own, which may be compressed. No sweep makes sparse matrices.
_NESTED = "SparseMatrixNode"


def most_bytes(*, rows: int, columns: int) -> int:
    """Bytes that the pipeline of a sweep may take.

    Parameters
    ----------
    rows
        Training rows that it was fitted on.
    columns
        Features that it takes.

    >>> most_bytes(rows=342, columns=512) // 2**20, most_bytes(rows=50_000, columns=512) // 2**20
    (356, 4096)
    """
    needed = rows * (_COPIES * 8 * columns + _FOREST_ROW_BYTES) + _COPIES * 8 * columns**2
    return min(_MOST_BYTES, _LEAST_BYTES + needed)


def require_as_declared(content: bytes) -> None:
    """Look through a pipeline's archive for what would take more memory than the archive itself.

    Raises
    ------
    ValueError
        If there is something of the kind. The message completes "the file ...".
    """
    sizes = member_sizes(content)
    held = sizes.get(_SCHEMA)
    if held is None:
        raise ValueError(f"has no {_SCHEMA}")
    if held > _MOST_SCHEMA_BYTES:
        raise ValueError(
            f"has a {_SCHEMA} of {held:,} bytes, and {_MOST_SCHEMA_BYTES:,} are the most"
        )
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        try:
            schema = parse_json(archive.read(_SCHEMA))
        except ValueError as error:
            raise ValueError(f"has a {_SCHEMA} that cannot be read: {error}") from error
        nodes = list(_nodes(schema))
        _require_read_once(nodes, sizes)
        for node in nodes:
            match node.get("__loader__"):
                case "NdArrayNode" if node.get("type") == "numpy":
                    _require_array(archive.read(node["file"]), node["file"])
                case "BytearrayNode" | "BytesNode":
                    require_whole_boosters(archive.read(node["file"]))
                case "TreeNode":
                    _require_one_output(node)
                case loader if loader == _NESTED:
                    raise ValueError("holds a sparse matrix, which no sweep makes")


def require_whole_boosters(content: bytes) -> None:
    """See that the bytes that a pipeline holds are whole trees of XGBoost.

    Raises
    ------
    ValueError
        If they are not.
    """
    try:
        require_whole_ubjson(content)
    except ValueError as error:
        raise ValueError(f"holds bytes that are no trees of XGBoost: {error}") from error


def _nodes(schema: Any) -> Iterator[Mapping[str, Any]]:
    """Every object of the schema, at any depth."""
    waiting = [schema]
    while waiting:
        each = waiting.pop()
        if isinstance(each, dict):
            yield each
            waiting += each.values()
        elif isinstance(each, list):
            waiting += each


def _require_read_once(nodes: list[Mapping[str, Any]], sizes: Mapping[str, int]) -> None:
    """See that the members that are read come to no more than there is."""
    read: set[tuple[Any, str]] = set()
    total = 0
    for number, node in enumerate(nodes):
        if "file" not in node or "__loader__" not in node:
            continue
        name = node["file"]
        if not isinstance(name, str) or name not in sizes:
            raise ValueError(f"refers to a member {name!r} that it does not hold")
        # An object that stands in several places is read once, and known by its number.
        key = (node.get("__id__") or f"node {number}", name)
        if key not in read:
            read.add(key)
            total += sizes[name]
    if total > sum(sizes.values()):
        raise ValueError(f"reads {total:,} bytes out of {sum(sizes.values()):,}")


def _require_array(content: bytes, name: str) -> None:
    """See that an array in NumPy's format is as large as its header tells."""
    file = io.BytesIO(content)
    readers = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
    }
    version = np.lib.format.read_magic(file)
    if version not in readers:
        raise ValueError(f"holds the array '{name}' in version {version} of NumPy's format")
    shape, _, dtype = readers[version](file)
    declared = math.prod(shape) * dtype.itemsize
    held = len(content) - file.tell()
    if declared != held or not dtype.itemsize:
        raise ValueError(
            f"holds an array of {held:,} bytes that declares the shape {list(shape)} of "
            f"{dtype.itemsize} bytes each"
        )


def _require_one_output(node: Mapping[str, Any]) -> None:
    """See that a tree predicts one value, for which scikit-learn makes room unasked."""
    arguments = node["__reduce__"]["args"]["content"]
    outputs = json.loads(arguments[2]["content"])
    if outputs != 1:
        raise ValueError(f"holds a tree of {outputs} outputs, and a sweep's has 1")
