"""Tell tags from sound in the bytes after the sound that an audio file's header states.

More sound is there if a recorder wrote the length once and died later, or if a size of 32 bits
overflowed. Editors put tags there: chunks, each with a name and a length.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from valence.audio.containers.mpeg import past_tags
from valence.errors import AudioError
from valence.storage.location import Location

_READ = 2**16
# Fewer bytes are no sound that anybody would miss, because programs round sizes.
_LEAST_SOUND = 64
_RIFF = (b"RIFF", b"RIFX", b"RF64", b"BW64", b"FORM")
_KINDS = (b"WAVE", b"AIFF", b"AIFC")
_OTHER_STREAMS = (b".snd", b"caff", b"fLaC", b"OggS", b"NIST_1A", b"riff.\x91\xcf\x11")
# Tags that are recognised by name even if the file ends inside them.
_TAGS = (
    *(b"LIST", b"id3 ", b"ID3 ", b"bext", b"iXML", b"axml", b"_PMX", b"cue ", b"smpl", b"inst"),
    *(b"JUNK", b"junk", b"PAD ", b"FLLR", b"afsp", b"DISP", b"acid", b"chna", b"levl", b"minf"),
    *(b"COMM", b"COMT", b"NAME", b"AUTH", b"ANNO", b"(c) ", b"APPL", b"MARK", b"INST", b"info"),
)


@dataclass(frozen=True)
class Chunks:
    """The form in which the chunks of a container begin: a name, then a length.

    Attributes
    ----------
    name
        Size of the name in bytes; its first four bytes are letters.
    length
        Format of the length for `struct`.
    multiple
        Chunks are padded to a multiple of this number of bytes.
    own
        Whether the length includes the bytes of the name and of the length itself.
    """

    name: int
    length: str
    multiple: int = 2
    own: bool = False

    def size(self, head: bytes, left: int) -> int | None:
        """Return the size of the chunk that begins with `head`; None if no chunk begins there."""
        begin = self.name + struct.calcsize(self.length)
        if len(head) < begin or not all(0x20 <= byte < 0x7F for byte in head[:4]):
            return None
        length: int = struct.unpack(self.length, head[self.name : begin])[0]
        size = length if self.own else begin + length
        if length < 0 or size < begin:
            return None
        if size > left:
            return left if head[:4] in _TAGS else None
        return size


def sound_behind(
    file: BinaryIO, at: int, size: int, name: Location | Path, chunks: Chunks | None = None
) -> bool:
    """Tell whether the bytes from `at` to `size` hold sound.

    Parameters
    ----------
    file
        The file, open for reading.
    at, size
        The first byte after the sound that the header states, and the size of the file.
    name
        The name of the file in messages.
    chunks
        The form of the container's chunks; None if it has no chunks.

    Returns
    -------
    False if only chunks, tags, zeros or a few bytes are there.

    Raises
    ------
    AudioError
        If another recording with its own header begins there.
    """
    while size - at >= _LEAST_SOUND:
        after = at
        # The padding of a chunk may be present or absent.
        for begin in range(at, at + (chunks.multiple if chunks is not None else 1)):
            file.seek(begin)
            head = file.read(32)
            if head.startswith(_OTHER_STREAMS) or (head[:4] in _RIFF and head[8:12] in _KINDS):
                raise second_recording(name, begin)
            after = past_tags(file, begin, size)
            if after == begin and chunks is not None:
                after += chunks.size(head, size - begin) or 0
            if after > begin:
                break
        else:
            return before_zeros(file, at, size) > at
        at = after
    return False


def second_recording(name: Location | Path, at: int) -> AudioError:
    """Return the error for a file in which another header follows the sound."""
    return AudioError(
        f"'{name}' holds a second recording from byte {at} on, with a header of its own. Expected "
        "one recording; export each as a file of its own."
    )


def before_zeros(file: BinaryIO, start: int, stop: int) -> int:
    """Find where the zeros that end at `stop` begin, but not before `start`."""
    while stop > start:
        begin = max(start, stop - _READ)
        file.seek(begin)
        content = file.read(stop - begin).rstrip(b"\0")
        if content:
            return begin + len(content)
        stop = begin
    return start
