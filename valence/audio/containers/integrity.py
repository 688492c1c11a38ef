"""Compare the amount of sound that an audio container states with the size of the file.

libsndfile takes the rest of a truncated file for the whole, and a length of zero for no sound. This
module reads the count that each container states, and refuses a file that holds less.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO, cast

from valence.audio.containers.behind import Chunks, second_recording, sound_behind
from valence.audio.containers.flac import lay_out_flac
from valence.audio.containers.layout import Layout, Part, PartFile
from valence.audio.containers.mpeg import find_mpeg, lay_out_mpeg, past_tags
from valence.audio.containers.ogg import lay_out_ogg
from valence.errors import AudioError
from valence.storage.location import Location

# Writers that cannot seek back leave a size of 0 or near 2 or 4 GiB, which says nothing. SoX leaves
# 0x7F00_0000 bytes of sound in AIFF.
_UNKNOWN_SIZE = 0x7F00_0000
_UNKNOWN_LONG = 0x7FFF_FFFF_0000_0000
_MPEG_IN_WAV = (0x50, 0x55)
_MPEG_SUFFIXES = (".mp3", ".mp2")
_W64_RIFF = bytes.fromhex("726966662e91cf11a5d628db04c10000")
_W64_DATA = bytes.fromhex("64617461f3acd3118cd100c04f8edb8a")
_MEDIA = (b"\x1aE\xdf\xa3", b"0&\xb2u\x8ef\xcf\x11", b"#!AMR", b"ADIF")
# A fmt chunk has at most 40 bytes, except for special codecs. A SPHERE header has 1,024 bytes.
_MOST_FORM = 2**12
_MOST_SPHERE = 2**16
_SPHERE_INTEGER = re.compile(rb"^(\w+) -i (\d+)", re.MULTILINE)
# The field reads "pcm,embedded-shorten-v2.00", for instance; the samples are counted before that.
_SPHERE_COMPRESSED = re.compile(rb"^sample_coding -s\d+ .*embedded-([a-z]+)", re.MULTILINE)
_TO_ITS_END = "its header gives no length, so it was read to its end"


def lay_out(file: BinaryIO, size: int, name: Location | Path) -> Layout:
    """Find how to decode all the sound of a file, or refuse the file.

    Parameters
    ----------
    file
        The file, open for reading.
    size
        Size of the file in bytes.
    name
        The name of the file in messages.

    Raises
    ------
    AudioError
        If the file is damaged, or lacks bytes of sound that its container states.
    """
    file.seek(0)
    start = file.read(16)
    # Less than the head of a tag is none, and nothing stands behind it.
    by = past_tags(file, 0, size) if start[:3] == b"ID3" else 0
    if by > 0 and find_mpeg(file, 0, size) is None:
        return _behind_tags(file, by, size, name)
    magic, kind = start[:4], start[8:12]
    if magic in (b"RIFF", b"RIFX", b"RF64", b"BW64") and kind == b"WAVE":
        return _wave(file, size, name, magic)
    if start == _W64_RIFF:
        return _w64(file, size, name)
    if magic == b"FORM" and kind in (b"AIFF", b"AIFC"):
        return _aiff(file, size, name)
    if magic in (b".snd", b"dns."):
        return _au(file, start, size, name)
    if magic == b"NIST":
        return _nist(file, size, name)
    if magic == b"caff":
        return _caf(file, size, name)
    if magic == b"OggS":
        return lay_out_ogg(file, size, name)
    if start[4:8] == b"ftyp":
        return _mp4(file, size, name)
    if start.startswith(_MEDIA) or _is_adts(file, size):
        return Layout(decoder="ffmpeg")
    if (first := find_mpeg(file, 0, size)) is not None:
        return lay_out_mpeg(file, first, size, name)
    if magic == b"fLaC":
        return lay_out_flac(file, size, name)
    if Path(str(name)).suffix.lower() in _MPEG_SUFFIXES:
        return _mpeg_cut_at_its_beginning(file, size, name)
    return Layout()


def _behind_tags(file: BinaryIO, by: int, size: int, name: Location | Path) -> Layout:
    """Lay out the bytes after `by` bytes of leading tags as a file of their own."""
    view = cast("BinaryIO", PartFile(file, Part(by, size), closes=False))
    layout = lay_out(view, size - by, name)
    if layout.decoder == "ffmpeg":
        return layout
    parts = tuple(
        replace(
            part,
            start=part.start + by,
            stop=part.stop + by,
            changes=tuple((at + by, new) for at, new in part.changes),
        )
        for part in layout.parts or (Part(0, size - by),)
    )
    return replace(layout, parts=parts)


def _mpeg_cut_at_its_beginning(file: BinaryIO, size: int, name: Location | Path) -> Layout:
    """Lay out a stream that begins inside a frame, such as a recorded broadcast."""
    first = find_mpeg(file, 0, size, within=True)
    if first is None:
        return Layout()
    remark = f"its first {first} bytes are no whole frame, and were passed over"
    return replace(lay_out_mpeg(file, first, size, name), remarks=(remark,))


def truncated(
    name: Location | Path, found: float, expected: float, *, unit: str = "s"
) -> AudioError:
    """Return the error for a file that holds less sound than its header states."""
    return AudioError(
        f"'{name}' is truncated: it holds {found:g} of the {expected:g} {unit} that its header "
        "tells of. Restore it from its source."
    )


def _chunks(file: BinaryIO, size: int, order: str) -> Iterator[tuple[bytes, int, int]]:
    """Read name, offset of the content and length of each chunk of a RIFF or IFF file."""
    position = 12
    file.seek(position)
    while len(chunk := file.read(8)) == 8:
        length = struct.unpack(order + "I", chunk[4:])[0]
        yield chunk[:4], position + 8, length
        position += 8 + length + length % 2
        if position >= size:
            return
        file.seek(position)


def _wave(file: BinaryIO, size: int, name: Location | Path, magic: bytes) -> Layout:
    order = ">" if magic == b"RIFX" else "<"
    long_length, codec, form = None, 0, b""
    for chunk, at, length in _chunks(file, size, order):
        if chunk == b"ds64":
            long_length = struct.unpack("<Q", file.read(24)[8:16].ljust(8, b"\0"))[0]
        elif chunk == b"fmt ":
            form = file.read(min(length, _MOST_FORM))
            codec = struct.unpack(order + "H", form[:2].ljust(2, b"\0"))[0]
        elif chunk == b"data":
            if length == 0xFFFF_FFFF and long_length is not None:
                length = long_length
                unknown = not 0 < length < _UNKNOWN_LONG
            else:
                unknown = length == 0 or (length >= _UNKNOWN_SIZE and at + length > size)
            if not unknown and at + length > size:
                raise truncated(name, size - at, length, unit="bytes of sound")
            behind = (length == 0 or not unknown) and sound_behind(
                file, at + length, size, name, Chunks(4, order + "I")
            )
            if length == 0 and not behind:
                return Layout()
            stop = size if unknown or behind else at + length
            remarks = (_TO_ITS_END,) if unknown else _outgrown(length, stop - at) if behind else ()
            if codec in _MPEG_IN_WAV and (first := find_mpeg(file, at, stop)) is not None:
                inner = lay_out_mpeg(file, first, stop, name)
                parts = inner.parts or (Part(first, stop),)
                return Layout(parts, inner.frames, tolerance=inner.tolerance, remarks=remarks)
            if not remarks:
                return Layout()
            if stop - at > 0xFFFF_FFFF:
                if magic == b"RIFX":
                    raise AudioError(
                        f"'{name}' is a big-endian WAV file (RIFX) that holds {stop - at} bytes of "
                        "sound, more than its length of 32 bits can tell of. Expected less than "
                        "4 GiB in this format; convert it to RF64, W64 or FLAC."
                    )
                part = Part(at, stop, before=_long_head(form, stop - at))
                return Layout((part,), remarks=remarks)
            true_length = struct.pack(order + "I", stop - at)
            changes: tuple[tuple[int, bytes], ...] = ((at - 4, true_length),)
            if magic in (b"RF64", b"BW64"):
                # Under a plain RIFF header the decoder ignores the length in the ds64 chunk.
                changes = ((0, b"RIFF"), *changes)
            return Layout((Part(0, size, changes=changes),), remarks=remarks)
    return Layout()


def _long_head(form: bytes, length: int) -> bytes:
    """Make the head of an RF64 file (EBU Tech 3306) for a length that exceeds 32 bits."""
    chunk = b"fmt " + struct.pack("<I", len(form)) + form + bytes(len(form) % 2)
    sizes = struct.pack("<IQQQI", 28, length + len(chunk) + 52, length, 0, 0)
    unknown = struct.pack("<I", 0xFFFF_FFFF)
    return b"RF64" + unknown + b"WAVEds64" + sizes + chunk + b"data" + unknown


def _w64(file: BinaryIO, size: int, name: Location | Path) -> Layout:
    position = 40
    while position < size:
        file.seek(position)
        head = file.read(24)
        if len(head) < 24:
            break
        length = struct.unpack("<Q", head[16:])[0]
        if head[:16] == _W64_DATA:
            if not 24 < length < _UNKNOWN_LONG:
                return _unknown(position + 16, struct.pack("<Q", size - position), size)
            if position + length > size:
                raise truncated(name, size - position - 24, length - 24, unit="bytes of sound")
            end = position + length
            if sound_behind(file, end, size, name, Chunks(16, "<Q", multiple=8, own=True)):
                remarks = _outgrown(length - 24, size - position - 24)
                true_length = struct.pack("<Q", size - position)
                return _unknown(position + 16, true_length, size, remarks)
            # libsndfile would read beyond the sound, to the end of the file.
            return Layout((Part(0, end),) if end < size else ())
        if length < 24:
            break
        position += (length + 7) // 8 * 8
    return Layout()


def _aiff(file: BinaryIO, size: int, name: Location | Path) -> Layout:
    frames_at = None
    frame_bytes = frames = 0
    for chunk, at, length in _chunks(file, size, ">"):
        if chunk == b"COMM":
            channels, frames, bits = struct.unpack(">HIH", file.read(8).ljust(8, b"\0"))
            frames_at, frame_bytes = at + 2, channels * ((bits + 7) // 8)
        elif chunk == b"SSND":
            unknown = (length == 0 or length >= _UNKNOWN_SIZE) and size > at + 8
            behind = not unknown and sound_behind(file, at + length, size, name, Chunks(4, ">I"))
            if unknown or behind:
                true_length = struct.pack(">I", min(size - at, 0xFFFF_FFFF))
                changes: list[tuple[int, bytes]] = [(at - 4, true_length)]
                if frames_at is not None and frame_bytes:
                    counted = struct.pack(">I", (size - at - 8) // frame_bytes)
                    changes.insert(0, (frames_at, counted))
                part = Part(0, size, changes=tuple(changes))
                found = size - at - 8
                remarks = (_TO_ITS_END,) if unknown else _outgrown(max(0, length - 8), found)
                return Layout((part,), remarks=remarks)
            if at + length > size:
                raise truncated(name, max(0, size - at - 8), length - 8, unit="bytes of sound")
            return Layout()
    if frames:
        raise truncated(name, 0, frames, unit="samples")
    return Layout()


def _au(file: BinaryIO, start: bytes, size: int, name: Location | Path) -> Layout:
    order = ">" if start[:4] == b".snd" else "<"
    if len(start) < 12:
        return Layout()
    at, length = struct.unpack(order + "II", start[4:12])
    if length >= _UNKNOWN_SIZE and at + length > size:
        return Layout(remarks=(_TO_ITS_END,))
    if length == 0 and size > at:
        return _unknown(8, struct.pack(order + "I", min(size - at, 0xFFFF_FFFF)), size)
    if at + length > size:
        raise truncated(name, max(0, size - at), length, unit="bytes of sound")
    if length and sound_behind(file, at + length, size, name):
        true_length = struct.pack(order + "I", min(size - at, 0xFFFF_FFFF))
        return _unknown(8, true_length, size, _outgrown(length, size - at))
    return Layout()


def _nist(file: BinaryIO, size: int, name: Location | Path) -> Layout:
    """Lay out a NIST SPHERE file (as in TIMIT), whose text header states the samples."""
    file.seek(0)
    head = file.read(16).split()
    if head[:1] != [b"NIST_1A"] or len(head) < 2 or not head[1].isdigit():
        return Layout()
    begin = min(int(head[1]), _MOST_SPHERE)
    file.seek(0)
    text = file.read(begin)
    if (coding := _SPHERE_COMPRESSED.search(text)) is not None:
        raise AudioError(
            f"'{name}' is a NIST SPHERE file whose sound is compressed with "
            f"{coding[1].decode()}. Expected sound that is not compressed; convert the file to WAV "
            "first, with sph2pipe for instance."
        )
    fields = dict(_SPHERE_INTEGER.findall(text))
    channels, width = (int(fields.get(key, 1)) for key in (b"channel_count", b"sample_n_bytes"))
    if b"sample_count" not in fields:
        return Layout(remarks=(_TO_ITS_END,))
    count, frame = int(fields[b"sample_count"]), channels * width
    if begin + count * frame > size:
        raise truncated(name, max(0, size - begin), count * frame, unit="bytes of sound")
    if frame and sound_behind(file, begin + count * frame, size, name):
        old = b"sample_count -i " + fields[b"sample_count"]
        new = b"sample_count -i %d" % ((size - begin) // frame)
        changed = text.replace(old, new).rstrip(b"\0 \n") + b"\n"
        remarks = _outgrown(count * frame, size - begin)
        return _unknown(0, changed.ljust(begin), size, remarks)
    return Layout()


def _caf(file: BinaryIO, size: int, name: Location | Path) -> Layout:
    position = 8
    while position < size:
        file.seek(position)
        head = file.read(12)
        if len(head) < 12:
            break
        length = struct.unpack(">q", head[4:])[0]
        if head[:4] == b"data":
            # The first four bytes of a data chunk count edits.
            if length < 4 and size > position + 16:
                return _unknown(position + 4, struct.pack(">q", size - position - 12), size)
            if position + 12 + length > size:
                found = max(0, size - position - 16)
                raise truncated(name, found, length - 4, unit="bytes of sound")
            if sound_behind(file, position + 12 + length, size, name, Chunks(4, ">q", multiple=1)):
                remarks = _outgrown(length - 4, size - position - 16)
                true_length = struct.pack(">q", size - position - 12)
                return _unknown(position + 4, true_length, size, remarks)
            return Layout()
        if length < 0:
            break
        position += 12 + length
    return Layout()


def _unknown(
    at: int, length: bytes, size: int, remarks: tuple[str, ...] = (_TO_ITS_END,)
) -> Layout:
    """Lay out a file to be read to its end, with the true length in its header."""
    return Layout((Part(0, size, changes=((at, length),)),), remarks=remarks)


def _outgrown(stated: int, found: int) -> tuple[str, ...]:
    """Remark on a header that states less sound than the file holds."""
    return (
        f"its header tells of {stated} of its {found} bytes of sound, and it was read to its end",
    )


def _mp4(file: BinaryIO, size: int, name: Location | Path) -> Layout:
    """Lay out an MP4 file (ISO/IEC 14496-12); refuse a second index, which FFmpeg ignores."""
    at, indexes = 0, 0
    while size - at >= 8:
        file.seek(at)
        head = file.read(16)
        length = int.from_bytes(head[:4], "big")
        if length == 1:
            length = int.from_bytes(head[8:], "big")
        indexes += head[4:8] == b"moov"
        if indexes > 1:
            raise second_recording(name, at)
        if length < 8:
            break
        at += length
    return Layout(decoder="ffmpeg")


def _is_adts(file: BinaryIO, size: int) -> bool:
    """Tell whether the file is bare AAC: frames with layer 0, each with its length."""
    begin = past_tags(file, 0, size)
    file.seek(begin)
    head = file.read(8192)
    if len(head) < 7 or head[0] != 0xFF or head[1] & 0xF6 != 0xF0:
        return False
    length = (head[3] & 3) << 11 | head[4] << 3 | head[5] >> 5
    following = head[length : length + 2]
    return length >= 7 and (
        begin + length == size or (following[:1] == b"\xff" and following[1] & 0xF6 == 0xF0)
    )
