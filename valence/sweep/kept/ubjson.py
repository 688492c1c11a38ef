"""Check that UBJSON holds as many bytes as it declares.

XGBoost stores its trees in this format (https://ubjson.org, draft 12). XGBoost's own reader
allocates the declared size of an array before it checks that the array is there.
"""

from __future__ import annotations

import struct

_FIXED = {b"Z": 0, b"T": 0, b"F": 0, b"i": 1, b"U": 1, b"I": 2, b"l": 4, b"L": 8, b"d": 4, b"D": 8}
_WHOLE = {b"i": ">b", b"U": ">B", b"I": ">h", b"l": ">i", b"L": ">q"}
_MOST_DEPTH = 64


def require_whole_ubjson(content: bytes) -> None:
    """Refuse a UBJSON value unless bytes are there for each count and length in it.

    Raises
    ------
    ValueError
        If a declared value is missing, has a type that XGBoost does not write, or is nested too
        deeply.
    """
    end = _Reader(content).value(0, _MOST_DEPTH)
    if end != len(content):
        raise ValueError(f"its trees end after {end:,} of {len(content):,} bytes")


class _Reader:
    """A reader of `content`: each method takes a position and returns the one after its value."""

    def __init__(self, content: bytes) -> None:
        self._content = content

    def value(self, at: int, depth: int) -> int:
        """Skip a value and its marker."""
        return self._body(self._marker(at), at + 1, depth)

    def _marker(self, at: int) -> bytes:
        if at >= len(self._content):
            raise ValueError("its trees end in the middle of a value")
        return self._content[at : at + 1]

    def _body(self, marker: bytes, at: int, depth: int) -> int:
        if depth == 0:
            raise ValueError(f"its trees are nested more than {_MOST_DEPTH} deep")
        if marker in _FIXED:
            return self._skip(at, _FIXED[marker])
        if marker == b"S":
            length, at = self._count(at)
            return self._skip(at, length)
        if marker in (b"[", b"{"):
            return self._container(at, depth, named=marker == b"{")
        raise ValueError(f"its trees hold a value of the unknown type {marker!r}")

    def _container(self, at: int, depth: int, *, named: bool) -> int:
        kind = b""
        if self._marker(at) == b"$":
            kind, at = self._marker(at + 1), at + 2
            if self._marker(at) != b"#":
                raise ValueError("its trees hold a typed array without a count")
        if self._marker(at) != b"#":
            closing = b"}" if named else b"]"
            while self._marker(at) != closing:
                at = self._member(at, depth, named=named)
            return at + 1
        count, at = self._count(at + 1)
        if kind and not named:
            if _FIXED.get(kind, 0) == 0:
                raise ValueError(f"its trees hold an array of the unknown type {kind!r}")
            return self._skip(at, count * _FIXED[kind])
        # Each member takes at least one byte, so refuse an impossible count before the loop.
        self._skip(at, count)
        for _ in range(count):
            at = self._member(at, depth, named=named)
        return at

    def _member(self, at: int, depth: int, *, named: bool) -> int:
        if named:
            length, at = self._count(at)
            at = self._skip(at, length)
        return self.value(at, depth - 1)

    def _count(self, at: int) -> tuple[int, int]:
        marker = self._marker(at)
        if marker not in _WHOLE:
            raise ValueError(f"its trees count in the unknown type {marker!r}")
        end = self._skip(at + 1, _FIXED[marker])
        (count,) = struct.unpack(_WHOLE[marker], self._content[at + 1 : end])
        if count < 0:
            raise ValueError("its trees hold a count below 0")
        return count, end

    def _skip(self, at: int, size: int) -> int:
        if at + size > len(self._content):
            held = len(self._content) - at
            raise ValueError(f"its trees declare {size:,} bytes where {held:,} are left")
        return at + size
