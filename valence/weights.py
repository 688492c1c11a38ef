"""Weights in the safetensors format, looked at before any of them is made.

The format is 8 bytes that tell the length of a header, the header in JSON (name, type, shape and
place of every tensor), and the values: https://github.com/huggingface/safetensors.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from valence.kept_file import parse_json, require_table

Weights = dict[str, Tensor]

_LENGTH = struct.Struct("<Q")
# Name, type, shape and place of a tensor take 100 bytes, and what is said of the whole 30.
_HEADER_BYTES_EACH = 1024
# What the format calls the types that a model has, or may have been saved in.
_TYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
    "I32": torch.int32,
    "I8": torch.int8,
}
# A thousand million parameters, 400 times the study's. Loading takes three times as much memory.
MOST_BYTES = 4 * 2**30


def values_bytes(expected: Mapping[str, Tensor]) -> int:
    """Bytes of the values of tensors, which may lie on the device without memory."""
    return sum(tensor.numel() * tensor.element_size() for tensor in expected.values())


def most_bytes(expected: Mapping[str, Tensor]) -> int:
    """Bytes that a file with tensors of these names, types and shapes may take."""
    return _LENGTH.size + _HEADER_BYTES_EACH * (1 + len(expected)) + values_bytes(expected)


def read_weights(content: bytes, expected: Mapping[str, Tensor]) -> Weights:
    """Read tensors that have the names, types and shapes of `expected`.

    Parameters
    ----------
    content
        The file.
    expected
        Tensors such as a model's `state_dict` on the device without memory.

    Raises
    ------
    ValueError
        If the header tells of anything else, the values are more or fewer than it tells of, or one
        of them is not finite.
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
    """Type and shape of each tensor, as the header tells them."""
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
