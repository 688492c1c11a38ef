"""Limit the size of a `pipeline.skops`, and check that it holds what it declares.

skops reads each member of its archive into memory, and allocates the size that an array's header
declares. So a file of unknown origin is checked before skops reads it.
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

# Room for boosting, whose size does not depend on the rows: a thousand trees of 1,024 leaves take
# half of it.
_LEAST_BYTES = 256 * 2**20
# Loading takes three times as much memory: for the file, its arrays, and scikit-learn's objects.
_MOST_BYTES = 4 * 2**30
# A kernel machine stores its rows twice, and an ensemble may have several kernel machines.
_COPIES = 16
# A forest of a thousand trees stores two nodes of 72 bytes for each row and tree.
_FOREST_ROW_BYTES = 2 * 72 * 1000
# A schema has 15 KB for each tree, and takes up to twenty times its size in memory.
_SCHEMA = "schema.json"
_MOST_SCHEMA_BYTES = 64 * 2**20

# The loader of sparse matrices reads an inner archive, which may be compressed. No sweep makes
# sparse matrices, so they are refused.
_NESTED = "SparseMatrixNode"


def most_bytes(*, rows: int, columns: int) -> int:
    """Compute the most bytes that the pipeline of a sweep may take.

    Parameters
    ----------
    rows
        Number of training rows that the pipeline was fitted on.
    columns
        Number of features that the pipeline takes.

    >>> most_bytes(rows=342, columns=512) // 2**20, most_bytes(rows=50_000, columns=512) // 2**20
    (356, 4096)
    """
    needed = rows * (_COPIES * 8 * columns + _FOREST_ROW_BYTES) + _COPIES * 8 * columns**2
    return min(_MOST_BYTES, _LEAST_BYTES + needed)


def require_as_declared(content: bytes) -> None:
    """Refuse a pipeline's archive that declares more than it holds.

    Raises
    ------
    ValueError
        If loading it would take more memory than its own size justifies, or it is not a pipeline of
        a sweep. The message completes "the file ...".
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
    """Refuse bytes in a pipeline that are not complete trees of XGBoost.

    Raises
    ------
    ValueError
        If the bytes are not complete trees.
    """
    try:
        require_whole_ubjson(content)
    except ValueError as error:
        raise ValueError(f"holds bytes that are no trees of XGBoost: {error}") from error


def _nodes(schema: Any) -> Iterator[Mapping[str, Any]]:
    """Yield every object of the schema, at any depth."""
    waiting = [schema]
    while waiting:
        each = waiting.pop()
        if isinstance(each, dict):
            yield each
            waiting += each.values()
        elif isinstance(each, list):
            waiting += each


def _require_read_once(nodes: list[Mapping[str, Any]], sizes: Mapping[str, int]) -> None:
    """Refuse an archive from which more bytes would be read than its members have."""
    read: set[tuple[Any, str]] = set()
    total = 0
    for number, node in enumerate(nodes):
        if "file" not in node or "__loader__" not in node:
            continue
        name = node["file"]
        if not isinstance(name, str) or name not in sizes:
            raise ValueError(f"refers to a member {name!r} that it does not hold")
        # skops reads an object with several uses only once, and identifies it by its number.
        key = (node.get("__id__") or f"node {number}", name)
        if key not in read:
            read.add(key)
            total += sizes[name]
    if total > sum(sizes.values()):
        raise ValueError(f"reads {total:,} bytes out of {sum(sizes.values()):,}")


def _require_array(content: bytes, name: str) -> None:
    """Refuse an array in NumPy's format whose size is not the one that its header declares."""
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
    """Refuse a tree with several outputs: scikit-learn allocates any declared number unchecked."""
    arguments = node["__reduce__"]["args"]["content"]
    outputs = json.loads(arguments[2]["content"])
    if outputs != 1:
        raise ValueError(f"holds a tree of {outputs} outputs, and a sweep's has 1")
