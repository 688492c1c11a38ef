"""Whether a WAV or Ogg file is whole: libsndfile takes what is left of one for all of it."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import BinaryIO

from valence.errors import AudioError
from valence.storage import Location

# Writers that cannot seek back leave a size of 0 or near 2 or 4 GiB: it says nothing.
_UNKNOWN_SIZE = 0x7FFF_0000
_OGG_LAST_PAGE_BYTES = 2**16 + 2**12


def require_whole(file: BinaryIO, size: int, name: Location | Path) -> None:
    """Refuse a WAV or Ogg file that ends early; any other file passes.

    Parameters
    ----------
    file
        Open at its beginning.
    size
        Its bytes.
    name
        What messages call it.

    Raises
    ------
    AudioError
        If bytes of sound that the header tells of are missing, or the Ogg stream has no end.
    """
    start = file.read(12)
    if start[:4] == b"RIFF" and start[8:] == b"WAVE":
        position = 12
        while len(chunk := file.read(8)) == 8:
            length = struct.unpack("<I", chunk[4:])[0]
            position += 8
            if chunk[:4] == b"data":
                if 0 < length < _UNKNOWN_SIZE and position + length > size:
                    raise truncated(name, size - position, length, unit="bytes of sound")
                return
            position += length + length % 2
            file.seek(position)
    elif start[:4] == b"OggS":
        file.seek(max(0, size - _OGG_LAST_PAGE_BYTES))
        tail = file.read()
        page = tail.rfind(b"OggS")
        # The fifth byte after the magic's own four holds the flags; 4 marks the stream's last page.
        whole = page >= 0 and len(tail) >= page + 27 + tail[page + 26 : page + 27].ljust(1)[0]
        if whole:
            table = tail[page + 27 : page + 27 + tail[page + 26]]
            whole = bool(tail[page + 5] & 4) and len(tail) >= page + 27 + len(table) + sum(table)
        if not whole:
            raise AudioError(
                f"'{name}' is truncated: its Ogg stream has no end. Restore it from its source."
            )


def truncated(
    name: Location | Path, found: float, expected: float, *, unit: str = "s"
) -> AudioError:
    """The error of a file that holds less than it should."""
    return AudioError(
        f"'{name}' is truncated: it holds {found:g} of the {expected:g} {unit} that its header "
        "tells of. Restore it from its source."
    )
