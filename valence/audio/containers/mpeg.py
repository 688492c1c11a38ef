"""Count the frames of an MPEG audio stream (MP3, MP2) one by one.

A header may state a number of frames, which can be wrong; libsndfile 1.2.2 stops at this number. If
there is none, libsndfile estimates one from the size, which is wrong for streams of variable bit
rate. The format of headers is defined in ISO/IEC 11172-3 and 13818-3.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from valence.audio.containers.layout import Layout, Part
from valence.errors import AudioError
from valence.storage.location import Location

_KBPS = {
    (1, 1): (0, 32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448),
    (1, 2): (0, 32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    (1, 3): (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (2, 1): (0, 32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256),
    (2, 2): (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
    (2, 3): (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
_RATES = (44_100, 48_000, 32_000)
_READ = 2**20
# Encoders state up to two frames more or fewer than a file has.
_TOLERANCE_FRAMES = 2
# Most bytes that are no frame (such as unknown tags) at the beginning or end of a stream.
_MOST_FOREIGN = 2**16


@dataclass(frozen=True)
class _Frame:
    """The content of the four bytes of a frame's header; `size` is 0 for the free format."""

    version: float
    layer: int
    sr: int
    channels: int
    kbps: int
    size: int
    samples: int
    padding: int

    @property
    def stream(self) -> tuple[float, int, int, int]:
        """Return the properties that all frames of a stream share."""
        return self.version, self.layer, self.sr, self.channels


def _frame(word: bytes) -> _Frame | None:
    if len(word) < 4 or word[0] != 0xFF or word[1] & 0xE0 != 0xE0:
        return None
    version = {0: 2.5, 2: 2.0, 3: 1.0}.get(word[1] >> 3 & 3)
    layer, rate, index = 4 - (word[1] >> 1 & 3), word[2] >> 2 & 3, word[2] >> 4
    if version is None or layer == 4 or rate == 3 or index == 15:
        return None
    family = 1 if version == 1 else 2
    sr = _RATES[rate] // (1 if version == 1 else 2 if version == 2 else 4)
    padding = word[2] >> 1 & 1
    kbps = _KBPS[family, layer][index]
    samples = 384 if layer == 1 else 576 if layer == 3 and family == 2 else 1152
    unit = 4 if layer == 1 else 1
    size = (samples // 8 // unit * kbps * 1000 // sr + padding) * unit if kbps else 0
    channels = 1 if word[3] >> 6 == 3 else 2
    return _Frame(version, layer, sr, channels, kbps, size, samples, padding)


class _Reader:
    """Random access to the bytes from `start` to `stop`, read in large pieces."""

    def __init__(self, file: BinaryIO, start: int, stop: int) -> None:
        self._file, self.stop = file, stop
        self._from, self._piece = start, b""

    def at(self, where: int, n: int) -> bytes:
        """Return `n` bytes at `where`, or fewer at the end."""
        n = min(n, self.stop - where)
        if n <= 0:
            return b""
        if not self._from <= where or where + n > self._from + len(self._piece):
            self._file.seek(where)
            self._piece = self._file.read(min(max(n, _READ), self.stop - where))
            self._from = where
        return self._piece[where - self._from : where - self._from + n]


def find_mpeg(file: BinaryIO, start: int, stop: int, *, within: bool = False) -> int | None:
    """Find where a stream of MPEG audio begins; None if the file is of another kind.

    Two consecutive frames are needed, because four bytes that look like a header occur by chance.
    Bytes before the first frame are skipped after a tag, and also in a stream that was cut at its
    beginning, if `within` is set.
    """
    reader = _Reader(file, start, stop)
    where = _past_tags(reader, start)
    first = _frame(reader.at(where, 4))
    if first is not None and _goes_on(reader, where, first):
        return where
    if (where == start and not within) or reader.at(where, 4) == b"fLaC":
        return None
    # Some programs put padding after their tag.
    found = _resume(_Reader(file, where, min(stop, where + _MOST_FOREIGN)), where)
    return None if found is None else found[0]


def lay_out_mpeg(file: BinaryIO, start: int, stop: int, name: Location | Path) -> Layout:
    """Count the frames of an MPEG stream, and lay it out so that all frames are decoded.

    Parameters
    ----------
    file
        The file, open for reading.
    start, stop
        Offset of the first frame (`find_mpeg`), and of the byte after the stream.
    name
        The name of the file in messages.

    Raises
    ------
    AudioError
        If the stream ends inside a frame, changes its rate or channels, or holds bytes that are no
        frame.
    """
    reader = _Reader(file, start, stop)
    first = _frame(reader.at(start, 4))
    assert first is not None, "find_mpeg has found it"
    free = 0 if first.size else _free_size(reader, start, first)
    known: dict[bytes, int] = {}
    where, frames = start, 0
    while where < stop:
        word = reader.at(where, 4)
        size = known.get(word)
        if size is None:
            frame = _frame(word)
            if frame is not None and frame.stream == first.stream:
                size = known[word] = frame.size or free + frame.padding * (
                    4 if frame.layer == 1 else 1
                )
        if size:
            if where + size > stop:
                raise _cut(name, frames * first.samples / first.sr)
            where += size
            frames += 1
            continue
        after = _past_tags(reader, where)
        if after > where:
            where = after
            continue
        follows = _resume(reader, where)
        if follows is None:
            if stop - where > _MOST_FOREIGN:
                raise _foreign(name, stop - where, frames * first.samples / first.sr)
            if _looks_cut(reader.at(where, 4), stop - where):
                raise _cut(name, frames * first.samples / first.sr)
            break
        at, found = follows
        if found.stream != first.stream:
            raise AudioError(
                f"'{name}' changes after {frames * first.samples / first.sr:.1f} s from "
                f"{first.sr} Hz with {first.channels} channel(s) to {found.sr} Hz with "
                f"{found.channels}. Expected one rate and number of channels throughout; export "
                "each stream as a file of its own."
            )
        raise _foreign(name, at - where, frames * first.samples / first.sr)
    return _layout(reader, start, stop, first, frames, name)


def _layout(
    reader: _Reader, start: int, stop: int, first: _Frame, frames: int, name: Location | Path
) -> Layout:
    tolerance = _TOLERANCE_FRAMES * first.samples
    side = (
        (17 if first.channels == 1 else 32)
        if first.version == 1
        else (9 if first.channels == 1 else 17)
    )
    mark = 4 + side
    head = reader.at(start, max(first.size, mark + 160))
    if head[mark : mark + 4] in (b"Xing", b"Info"):
        frames -= 1
        flags, stated = struct.unpack(">II", head[mark + 4 : mark + 12])
        # Skip the fields for frames, bytes, table and quality; LAME's name of nine bytes follows.
        behind = mark + 8 + 4 * bool(flags & 1) + 4 * bool(flags & 2) + 100 * bool(flags & 4)
        behind += 4 * bool(flags & 8)
        gap = head[behind + 21 : behind + 24] if head[behind : behind + 4].strip(b"\0") else b""
        cut = 0
        if len(gap) == 3:
            cut = (gap[0] << 4 | gap[1] >> 4) + ((gap[1] & 15) << 8 | gap[2])
        expected = max(0, frames * first.samples - cut)
        if flags & 1 and stated > frames + _TOLERANCE_FRAMES:
            seconds = first.samples / first.sr
            raise AudioError(
                f"'{name}' is truncated: it holds {frames * seconds:.1f} of the "
                f"{stated * seconds:.1f} s that its header states. Restore it from its source."
            )
        if not flags & 1 or stated < frames - _TOLERANCE_FRAMES:
            if not flags & 1:
                part = Part(start + first.size, stop, before=_info(first, mark, frames))
                expected = frames * first.samples
            else:
                new = struct.pack(">I", frames)
                part = Part(start, stop, changes=((start + mark + 8, new),))
            return Layout((part,), expected, tolerance=tolerance)
        return Layout((), expected, tolerance=tolerance)
    expected = frames * first.samples
    if first.layer == 3 and first.size:
        # Without an Info frame the decoder estimates the length, so one is put before the stream.
        part = Part(start, stop, before=_info(first, mark, frames))
        return Layout((part,), expected, if_short=True, tolerance=tolerance)
    return Layout((), expected, tolerance=tolerance)


def _info(first: _Frame, mark: int, frames: int) -> bytes:
    """Make a frame without sound that states how many frames follow it."""
    version = {1.0: 3, 2.0: 2, 2.5: 0}[first.version]
    family = 1 if first.version == 1 else 2
    rate = _RATES.index(first.sr * (1 if family == 1 else 2 if first.version == 2 else 4))
    for index in range(1, 15):
        word = bytes(
            (
                0xFF,
                0xE0 | version << 3 | 1 << 1 | 1,
                index << 4 | rate << 2,
                0xC0 if first.channels == 1 else 0x00,
            )
        )
        made = _frame(word)
        assert made is not None, "it is a header"
        if made.size >= mark + 12:
            content = b"Info" + struct.pack(">II", 1, frames)
            return (word + bytes(mark - 4) + content).ljust(made.size, b"\0")
    raise AssertionError("the largest frame holds it")


def _goes_on(reader: _Reader, where: int, frame: _Frame) -> bool:
    """Tell whether another frame of the same stream, a tag or the end follows."""
    size = frame.size or _free_size(reader, where, frame)
    if not size:
        return False
    following = _frame(reader.at(where + size, 4))
    if following is not None:
        return following.stream == frame.stream
    return where + size == reader.stop or _past_tags(reader, where + size) > where + size


def _free_size(reader: _Reader, where: int, first: _Frame) -> int:
    """Find the size of a frame without its padding, for the free format."""
    content = reader.at(where, 8192)
    for at in range(24, len(content) - 4):
        found = _frame(content[at : at + 4])
        if found is not None and not found.size and found.stream == first.stream:
            return at - first.padding * (4 if first.layer == 1 else 1)
    return 0


def _resume(reader: _Reader, where: int) -> tuple[int, _Frame] | None:
    """Find the next two consecutive frames."""
    while where < reader.stop - 4:
        piece = reader.at(where, _READ)
        at = piece.find(0xFF)
        while at >= 0:
            found = _frame(reader.at(where + at, 4))
            if found is not None and _goes_on(reader, where + at, found):
                return where + at, found
            piece = reader.at(where, _READ)
            at = piece.find(0xFF, at + 1)
        where += len(piece)
    return None


def _past_tags(reader: _Reader, where: int) -> int:
    """Go past the ID3, APE and Lyrics tags at `where`."""
    while True:
        head = reader.at(where, 32)
        if head[:3] == b"ID3" and len(head) >= 10:
            size = head[6] << 21 | head[7] << 14 | head[8] << 7 | head[9]
            where += 10 + size + (10 if head[5] & 0x10 else 0)
        elif head[:3] == b"TAG":
            where += 355 if head[3:4] == b"+" and reader.stop - where >= 355 else 128
        elif head[:8] == b"APETAGEX" and len(head) == 32:
            # The size counts the 32 bytes of the footer, but for a damaged one.
            size = max(32, struct.unpack("<I", head[12:16])[0])
            where += size + (32 if head[23] & 0x20 else 0)
        elif head[:11] == b"LYRICSBEGIN":
            tail = reader.at(where, min(reader.stop - where, _MOST_FOREIGN))
            end = tail.find(b"LYRICS200")
            if end < 0:
                return where
            where += end + 9
        else:
            return min(where, reader.stop)


def past_tags(file: BinaryIO, at: int, stop: int) -> int:
    """Return the offset after the ID3, APE and Lyrics tags at `at`; without tags, `at`."""
    return _past_tags(_Reader(file, at, stop), at)


def before_tags(file: BinaryIO, start: int, stop: int) -> int:
    """Find where the ID3, APE and Lyrics tags that end at `stop` begin, but not before `start`."""
    while True:
        file.seek(max(start, stop - 355))
        tail = file.read(stop - max(start, stop - 355))
        size = 0
        if tail[-128:-125] == b"TAG":
            size = 355 if tail[:4] == b"TAG+" else 128
        elif tail[-32:-24] == b"APETAGEX":
            size = struct.unpack("<I", tail[-20:-16])[0] + (32 if tail[-9] & 0x80 else 0)
        elif tail[-10:-7] == b"3DI":
            size = 20 + (tail[-4] << 21 | tail[-3] << 14 | tail[-2] << 7 | tail[-1])
        elif tail[-9:] == b"LYRICS200" and tail[-15:-9].isdigit():
            size = 15 + int(tail[-15:-9])
        if not 0 < size <= stop - start:
            return stop
        stop -= size


def _looks_cut(word: bytes, left: int) -> bool:
    """Tell whether the last few bytes are the beginning of a frame's header."""
    return left < 4 and word[:1] == b"\xff" and (left < 2 or word[1] & 0xE0 == 0xE0)


def _cut(name: Location | Path, seconds: float) -> AudioError:
    return AudioError(
        f"'{name}' is truncated: it ends within a frame after {seconds:.1f} s. Restore it from its "
        "source, or export what is there as a new file."
    )


def _foreign(name: Location | Path, n: int, seconds: float) -> AudioError:
    return AudioError(
        f"'{name}' is damaged: after {seconds:.1f} s it holds {n} bytes that are no MPEG audio, "
        "where sound may be missing. Restore it from its source."
    )
