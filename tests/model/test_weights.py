"""Weights are what the model needs, and neither declare nor hold anything else."""

from __future__ import annotations

import json
import struct

import pytest
import safetensors.torch
import torch

from valence.model.serialization import most_bytes, read_weights, values_bytes

_TENSORS = {"a": torch.arange(6.0).reshape(2, 3), "b": torch.tensor([7.0])}
_EXPECTED = {name: tensor.to("meta") for name, tensor in _TENSORS.items()}


def _file(header: object, values: bytes) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + values


def _entry(shape: list[int], start: int, end: int, kind: str = "F32") -> dict[str, object]:
    return {"dtype": kind, "shape": shape, "data_offsets": [start, end]}


def test_weights_come_back() -> None:
    content = safetensors.torch.save(_TENSORS, metadata={"format": "1"})
    found = read_weights(content, _EXPECTED)
    assert all(torch.equal(found[name], tensor) for name, tensor in _TENSORS.items())
    assert values_bytes(_EXPECTED) == 28
    assert len(content) <= most_bytes(_EXPECTED)


_A, _B = _entry([2, 3], 0, 24), _entry([1], 24, 28)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "it has 0 bytes"),
        (struct.pack("<Q", 2**60) + b"{}", "declares 1,152,921,504,606,846,976 bytes"),
        (_file(b"[" * 100_000, b""), "nested too deeply"),
        (_file([], b""), "a list where an object"),
        (_file({"a": 1}, b""), "a number where an object"),
        (_file({"a": {"shape": []}}, b""), "'dtype' is missing"),
        (_file({"a": _entry([10**12], 0, 24), "b": _B}, bytes(28)), r"a is \[1000000000000\]"),
        (_file({"a": _A, "b": _B, "c": _entry([9], 28, 64)}, bytes(64)), "c is .* be absent"),
        (_file({"a": _A, "b": _B}, bytes(100)), "holds 100 bytes of values and should hold 28"),
        (_file({"a": _A, "b": _entry([1], 0, 4)}, bytes(28)), "one after the other"),
        (_file({"a": _A, "b": _entry([1], 24, 26, "F16")}, bytes(26)), "b is torch.float16"),
        (_file(b'{"a": 1, "a": 2}', b""), "names 'a' twice"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_what_is_something_else_is_refused(content: bytes, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        read_weights(content, _EXPECTED)


def test_values_that_are_not_finite_are_refused() -> None:
    content = safetensors.torch.save({**_TENSORS, "b": torch.tensor([torch.inf])})
    with pytest.raises(ValueError, match="b holds a value that is not finite"):
        read_weights(content, _EXPECTED)
