from __future__ import annotations

import io
import re
import struct
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import pytest
import soundfile

from valence.audio.containers import flac
from valence.audio.containers.integrity import lay_out
from valence.audio.containers.layout import PartFile
from valence.audio.decoding import AudioReading, read_header
from valence.errors import AudioError
from valence.storage.location import Location


def _check(content: bytes) -> None:
    lay_out(io.BytesIO(content), len(content), Path("a"))


def _wav(stated: int, sound: bytes, before: bytes = b"") -> bytes:
    fmt = b"fmt " + struct.pack("<IHHIIHH", 16, 1, 1, 16_000, 32_000, 2, 16)
    body = b"WAVE" + fmt + before + b"data" + struct.pack("<I", stated) + sound
    return b"RIFF" + struct.pack("<I", len(body)) + body


def _ogg(seconds: int) -> bytes:
    target = io.BytesIO()
    y = np.sin(np.arange(16_000) / 20).astype(np.float32)
    with soundfile.SoundFile(target, "w", 16_000, 1, "VORBIS", format="OGG") as sound:
        for _ in range(seconds):
            sound.write(y)
    return target.getvalue()


def test_a_whole_wav() -> None:
    _check(_wav(8, bytes(8)))
    _check(_wav(8, bytes(8) + b"LIST\x04\x00\x00\x00abcd"))
    # A chunk of odd length is followed by a byte that its length does not count.
    _check(_wav(8, bytes(8), before=b"note\x03\x00\x00\x00abc\x00"))


def test_a_wav_that_lacks_a_byte() -> None:
    with pytest.raises(AudioError, match="7 of the 8 bytes of sound"):
        _check(_wav(8, bytes(7)))
    with pytest.raises(AudioError, match="7 of the 8 bytes of sound"):
        _check(_wav(8, bytes(7), before=b"note\x03\x00\x00\x00abc\x00"))


@pytest.mark.parametrize("stated", [0, 0x7FFF_F000, 0xFFFF_FFFF])
def test_a_wav_whose_writer_could_not_tell(stated: int) -> None:
    _check(_wav(stated, bytes(8)))


def test_an_ogg_stream_has_an_end() -> None:
    content = _ogg(9)
    _check(content)
    for kept in (len(content) - 1, len(content) // 2, 100, 30):
        with pytest.raises(AudioError, match=r"its Ogg stream has no end"):
            _check(content[:kept])


@pytest.mark.parametrize("length", range(3, 12))
def test_less_than_an_id3_tag(tmp_path: Path, length: int) -> None:
    with pytest.raises(AudioError, match="not audio"):
        _read(tmp_path, (b"ID3" + bytes(9))[:length])


def test_an_ape_tag_without_a_size_ends(tmp_path: Path) -> None:
    with pytest.raises(AudioError, match="not audio"):
        _read(tmp_path, b"APETAGEX" + bytes(24))


@pytest.mark.parametrize("content", [b"", b"RIFF", b"fLaC" + bytes(50), b"RIFF\0\0\0\0AVI "])
def test_other_files_pass(content: bytes) -> None:
    _check(content)


_TO_ITS_END = "its header gives no length, so it was read to its end"
_Y = np.round(9000 * np.sin(np.arange(48_001) / 20)).astype(np.int16)
# Format and subtype, and where the length of the sound stands: bytes before it, its form, and what
# stands there while it is not known.
_KINDS = [
    ("WAV", "PCM_16", b"data", "<I", (0, 0xFFFF_FFFF)),
    ("WAV", "PCM_24", b"data", "<I", (0,)),
    ("WAV", "PCM_U8", b"data", "<I", (0,)),
    ("WAV", "FLOAT", b"data", "<I", (0,)),
    ("WAVEX", "PCM_16", b"data", "<I", (0, 0xFFFF_FFFF)),
    ("AIFF", "PCM_16", b"SSND", ">I", (0, 0xFFFF_FFFF)),
    ("AU", "PCM_16", b".snd\0\0\0\x18", ">I", (0, 0xFFFF_FFFF)),
    ("W64", "PCM_16", bytes.fromhex("64617461f3acd3118cd100c04f8edb8a"), "<Q", (0, 2**63 - 1)),
    ("CAF", "PCM_16", b"data", ">q", (-1,)),
]


def _written(kind: str, subtype: str) -> bytes:
    target = io.BytesIO()
    soundfile.write(target, _Y, 16_000, subtype, format=kind)
    return target.getvalue()


def _read(tmp_path: Path, content: bytes) -> tuple[np.ndarray, tuple[str, ...]]:
    (tmp_path / "a").write_bytes(content)
    reading = AudioReading(tmp_path / "a", sr=16_000)
    return np.concatenate(list(reading)), reading.remarks


@pytest.mark.parametrize(("kind", "subtype", "mark", "form", "unknown"), _KINDS)
def test_sound_of_unknown_length_is_read_to_its_end(
    tmp_path: Path, kind: str, subtype: str, mark: bytes, form: str, unknown: tuple[int, ...]
) -> None:
    content = _written(kind, subtype)
    expected, remarks = _read(tmp_path, content)
    assert (len(expected), remarks) == (48_001, ())
    at = content.index(mark) + len(mark)
    for stated in unknown:
        given = bytearray(content)
        given[at : at + struct.calcsize(form)] = struct.pack(form, stated)
        if kind == "AIFF":
            frames = content.index(b"COMM") + 10
            given[frames : frames + 4] = bytes(4)
        y, remarks = _read(tmp_path, bytes(given))
        np.testing.assert_array_equal(y[:48_001], expected)
        # A byte that fills up to an even length is no sample of its own, but for bytes.
        assert len(y) - 48_001 == (subtype == "PCM_U8")
        assert remarks == (_TO_ITS_END,)


def test_an_aiff_that_sox_wrote_to_a_pipe(tmp_path: Path) -> None:
    content = bytearray(_written("AIFF", "PCM_16"))
    frames, sound = content.index(b"COMM") + 10, content.index(b"SSND") + 4
    # SoX cannot go back, and leaves the most sound that it allows for in both places.
    content[frames : frames + 4] = struct.pack(">I", 0x7F00_0000 // 2)
    content[sound : sound + 4] = struct.pack(">I", 0x7F00_0008)
    y, remarks = _read(tmp_path, bytes(content))
    np.testing.assert_array_equal(y, _Y / np.float32(2**15))
    assert remarks == (_TO_ITS_END,)


def test_a_caf_of_a_codec_that_nobody_knows(tmp_path: Path) -> None:
    content = _written("CAF", "PCM_16").replace(b"lpcm", b"lpcx")
    with pytest.raises(AudioError, match="its codec is not known"):
        _read(tmp_path, content)


@pytest.mark.parametrize("kind", ["WAV", "WAVEX", "RF64", "AIFF", "AU", "W64", "CAF"])
@pytest.mark.parametrize("share", [0.06, 0.5, 0.99])
def test_a_file_that_was_copied_in_part(tmp_path: Path, kind: str, share: float) -> None:
    content = _written(kind, "PCM_16")
    with pytest.raises(AudioError, match="is truncated: it holds"):
        _read(tmp_path, content[: int(share * len(content))])


def test_an_rf64_of_unknown_length(tmp_path: Path) -> None:
    content = bytearray(_written("RF64", "PCM_16"))
    at = content.index(b"ds64") + 16
    for stated in (0, 2**64 - 1):
        content[at : at + 8] = struct.pack("<Q", stated)
        y, remarks = _read(tmp_path, bytes(content))
        np.testing.assert_array_equal(y, _Y / np.float32(2**15))
        assert remarks == (_TO_ITS_END,)


def test_a_wav_without_sound_is_empty(tmp_path: Path) -> None:
    for behind in (b"", b"LIST\x04\0\0\0abcd"):
        with pytest.raises(AudioError, match="is empty"):
            _read(tmp_path, _wav(0, behind))


def test_mp3_within_a_wav(tmp_path: Path) -> None:
    target = io.BytesIO()
    soundfile.write(target, np.repeat(_Y, 4), 48_000, format="MP3")
    alone, _ = _read(tmp_path, target.getvalue())
    sound = target.getvalue()
    form = b"fmt " + struct.pack("<IHHIIHHH", 18, 0x55, 1, 48_000, 8000, 1, 0, 0)
    body = b"WAVE" + form + b"data" + struct.pack("<I", len(sound)) + sound
    y, _ = _read(tmp_path, b"RIFF" + struct.pack("<I", len(body)) + body)
    np.testing.assert_array_equal(y, alone)


_OUTGROWN = re.compile(
    r"its header tells of \d+ of its \d+ (bytes of sound|samples), and it was .*"
)


def _stated(content: bytes, kind: str, share: float) -> bytes:
    """The file under a header that tells of a share of its sound."""
    given = bytearray(content)
    if kind == "FLAC":
        given[22:26] = struct.pack(">I", int(share * 48_001))
        return bytes(given)
    mark, form = {
        "RF64": (b"ds64" + content[16:28], "<Q"),
        "CAF": (b"data", ">q"),
        "W64": (bytes.fromhex("64617461f3acd3118cd100c04f8edb8a"), "<Q"),
        "AIFF": (b"SSND", ">I"),
        "AU": (b".snd\0\0\0\x18", ">I"),
    }.get(kind, (b"data", "<I"))
    # Headers count some bytes of their own.
    own = {"W64": 24, "AIFF": 8, "CAF": 4}.get(kind, 0)
    at = content.index(mark) + len(mark)
    stated = int(share * 2 * 48_001) + own
    given[at : at + struct.calcsize(form)] = struct.pack(form, stated)
    return bytes(given)


@pytest.mark.parametrize("kind", ["WAV", "WAVEX", "RF64", "AIFF", "AU", "W64", "CAF", "FLAC"])
@pytest.mark.parametrize("share", [0.001, 0.25, 0.7])
def test_a_length_that_was_not_brought_up_to_date(tmp_path: Path, kind: str, share: float) -> None:
    """A recorder wrote it once and died."""
    content = _written(kind, "PCM_16")
    y, remarks = _read(tmp_path, _stated(content, kind, share))
    np.testing.assert_array_equal(y, _Y / np.float32(2**15))
    assert len(remarks) == 1
    assert _OUTGROWN.fullmatch(remarks[0])
    assert read_header(Location.parse(tmp_path / "a")).frames == 48_001


def test_a_wav_that_tells_of_one_byte(tmp_path: Path) -> None:
    y, remarks = _read(tmp_path, _wav(1, _Y.tobytes()))
    np.testing.assert_array_equal(y, _Y / np.float32(2**15))
    assert remarks == (
        "its header tells of 1 of its 96002 bytes of sound, and it was read to its end",
    )


def test_a_wav_whose_length_went_round(tmp_path: Path) -> None:
    """The size has 32 bits, and the sound 4 GiB and three seconds."""
    y = np.tile(_Y[:16_000], 3).tobytes()
    with (tmp_path / "a").open("wb") as file:
        file.write(_wav(len(y), y)[:-1000])
        file.truncate(44 + 2**32)
        file.seek(0, 2)
        file.write(y)
    header = read_header(Location.parse(tmp_path / "a"))
    assert header.frames == 2**31 + 48_000
    with (tmp_path / "a").open("rb") as file:
        layout = lay_out(file, 44 + 2**32 + len(y), tmp_path / "a")
        part = layout.parts[0]
        with soundfile.SoundFile(PartFile(file, part, closes=False)) as sound:
            sound.seek(2**31)
            np.testing.assert_array_equal(sound.read(dtype="int16"), np.frombuffer(y, np.int16))
    assert layout.remarks == (
        f"its header tells of {len(y)} of its {2**32 + len(y)} bytes of sound, and it was read to "
        "its end",
    )


_TAGS = {
    "<": b"LIST\x05\0\0\0abcde\0id3 \x80\0\0\0" + bytes(range(128)),
    ">": b"ANNO\0\0\0\x05abcde\0APPL\0\0\0\x80" + bytes(range(128)),
}


@pytest.mark.parametrize("kind", ["WAV", "RF64", "AIFF", "AU", "W64", "CAF"])
def test_what_is_no_sound_behind_it(tmp_path: Path, kind: str) -> None:
    content = _written(kind, "PCM_16")
    content += bytes(len(content) % 2)
    last = b"TAG" + bytes(range(125))
    many = [last, bytes(3000), b"\x07" * 20]
    if kind in ("WAV", "RF64", "AIFF"):
        tags = _TAGS[">" if kind == "AIFF" else "<"]
        # A file may end within its last tag, and a byte that fills up may be left out.
        many += [tags, tags + last, tags[:-40], tags.replace(b"abcde\0", b"abcd\x65", 1)]
    if kind == "CAF":
        many += [b"info" + struct.pack(">q", 100) + bytes(range(100))]
    if kind == "W64":
        guid = b"levl" + bytes.fromhex("f3acd3118cd100c04f8edb8a")
        content += bytes(-len(content) % 8)
        many += [guid + struct.pack("<Q", 24 + 100) + bytes(range(100))]
    for behind in many:
        y, remarks = _read(tmp_path, content + behind)
        np.testing.assert_array_equal(y, _Y / np.float32(2**15))
        assert remarks == ()


@pytest.mark.parametrize("kind", ["WAV", "RF64", "AIFF", "AU", "W64", "CAF", "FLAC", "NIST"])
def test_two_recordings_in_one_file(tmp_path: Path, kind: str) -> None:
    content = _written(kind, "PCM_16")
    with pytest.raises(AudioError, match="holds a second recording from byte"):
        _read(tmp_path, content + bytes(len(content) % 2) + content)


def test_a_flac_that_is_cut_beyond_what_its_header_tells_of(tmp_path: Path) -> None:
    content = _stated(_written("FLAC", "PCM_16"), "FLAC", 0.2)
    with pytest.raises(AudioError, match="its header tells of the first 9600 alone"):
        _read(tmp_path, content[: int(0.8 * len(content))])


def _noise(n: int, seed: int = 0) -> bytes:
    """A FLAC file of 16 bits a sample that cannot be compressed."""
    y = np.random.default_rng(seed).integers(-(2**15), 2**15, n).astype(np.int16)
    target = io.BytesIO()
    soundfile.write(target, y, 16_000, "PCM_16", format="FLAC")
    return target.getvalue()


@contextmanager
def _at_most_lines(most: int) -> Iterator[None]:
    """Fail as soon as the FLAC module has run more lines of its own than `most`."""
    done = 0

    def trace(frame: FrameType, event: str, arg: Any) -> Any:
        nonlocal done
        if frame.f_code.co_filename != flac.__file__:
            return None
        done += event == "line"
        assert done <= most, f"more than {most} lines of Python were run"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        yield
    finally:
        sys.settrace(before)
    assert done > 0


@pytest.mark.parametrize("unknown", [False, True])
def test_a_cut_flac_is_looked_at_for_one_frame(unknown: bool) -> None:
    content = bytearray(_noise(1_200_000))
    if unknown:
        content[22:26] = bytes(4)
    cut = bytes(content[:-300_000])
    assert len(cut) > 2_000_000
    # A frame has 4096 samples, and each byte of it takes a few lines, once.
    with _at_most_lines(10 * 2 * 4096):
        if unknown:
            with pytest.raises(AudioError, match="is truncated: no whole frame ends it"):
                _check(cut)
        else:
            _check(cut)


class _Counted(io.BytesIO):
    """A file that counts the bytes that are read from it."""

    read_bytes = 0

    def read(self, n: int | None = -1, /) -> bytes:
        content = super().read(n)
        self.read_bytes += len(content)
        return content


def test_a_whole_flac_is_not_read_for_its_header() -> None:
    content = _noise(2_000_000)
    file = _Counted(content)
    flac.lay_out_flac(file, len(content), Path("a"))
    # Two frames at each of 15 places, and one at the end.
    assert 0 < file.read_bytes < len(content) // 4


def test_long_flac_recordings_of_equal_length_in_one_file() -> None:
    one, other = _noise(700_000), _noise(700_000, seed=1)
    with pytest.raises(AudioError, match=rf"second recording from byte {len(one)} on"):
        _check(one + other)


def _ape(content: bytes) -> bytes:
    def end(kind: int) -> bytes:
        sizes = struct.pack("<IIII", 2000, 32 + len(content), 1, 0x8000_0000 | kind)
        return b"APETAGEX" + sizes + bytes(8)

    return end(0x2000_0000) + content + end(0)


_ID3_AT_THE_END = (*(b"ID3\x04\0\x10\0\0\x01\0", b"\xff\xf8" * 64, b"3DI\x04\0\x10\0\0\x01\0"),)


@pytest.mark.parametrize("stated", [None, 0.3, 1])
@pytest.mark.parametrize(
    "behind",
    [
        _ape(b"\xff\xf8" * 100_000),
        _ape(b"\xff\xf8" * 200) + b"TAG" + bytes(range(125)),
        b"LYRICSBEGINabcd000015LYRICS200TAG" + bytes(range(125)),
        b"TAG+" + bytes(223) + b"TAG" + bytes(range(125)),
        b"".join(_ID3_AT_THE_END),
        bytes(50_000),
        bytes(3000) + _ape(b"abc"),
    ],
)
def test_a_whole_flac_before_tags_or_zeros(
    tmp_path: Path, behind: bytes, stated: float | None
) -> None:
    content = _stated(_written("FLAC", "PCM_16"), "FLAC", stated or 0)
    y, remarks = _read(tmp_path, content + behind)
    np.testing.assert_array_equal(y, _Y / np.float32(2**15))
    assert len(remarks) == (stated != 1)


def test_a_frame_that_ends_with_zeros_is_whole() -> None:
    """Zeros behind the sound are passed over, and a checksum may end with one."""
    tried = 0
    for n in range(5000, 9000):
        content = bytearray(_noise(n))
        if content[-1]:
            continue
        content[22:26] = bytes(4)
        layout = lay_out(io.BytesIO(content), len(content), Path("a"))
        with soundfile.SoundFile(PartFile(io.BytesIO(content), layout.parts[0])) as sound:
            assert len(sound.read()) == n
        tried += 1
        if tried == 3:
            return
    raise AssertionError("no file ended with a zero")


@pytest.mark.parametrize("order", ["<", ">"])
def test_a_long_wav_by_its_order_of_bytes(tmp_path: Path, order: str) -> None:
    size = 44 + 2**32 + 2000
    form = b"fmt " + struct.pack(order + "IHHIIHH", 16, 1, 1, 16_000, 32_000, 2, 16)
    head = b"WAVE" + form + b"data" + struct.pack(order + "I", 2000)
    with (tmp_path / "a").open("wb") as file:
        file.write((b"RIFX" if order == ">" else b"RIFF") + bytes(4) + head)
        file.truncate(size - 100)
        file.seek(0, 2)
        file.write(bytes(range(1, 101)))
    if order == ">":
        with pytest.raises(AudioError, match=r"\(RIFX\) that holds 4294969296 bytes of sound"):
            read_header(Location.parse(tmp_path / "a"))
    else:
        assert read_header(Location.parse(tmp_path / "a")).frames == 2**31 + 1000


def test_a_compressed_nist_sphere_file_is_no_truncated_one(tmp_path: Path) -> None:
    content = _written("NIST", "PCM_16")
    lines = content[:1024].replace(
        b"sample_coding -s3 pcm", b"sample_coding -s26 pcm,embedded-shorten-v2.00"
    )
    assert b"shorten" in lines
    (tmp_path / "a.sph").write_bytes(lines[:1024].ljust(1024) + b"ajkg" + content[1024:20_000])
    with pytest.raises(AudioError, match=r"is compressed with shorten\. .* convert the file"):
        read_header(Location.parse(tmp_path / "a.sph"))


@pytest.mark.parametrize("suffix", ["a.wav", "a.sph"])
@pytest.mark.parametrize("subtype", ["PCM_16", "ULAW"])
def test_nist_sphere(tmp_path: Path, suffix: str, subtype: str) -> None:
    content = _written("NIST", subtype)
    whole, remarks = _read(tmp_path, content)
    assert (len(whole), remarks) == (48_001, ())
    for share in (0.03, 0.5, 0.999):
        (tmp_path / suffix).write_bytes(content[: int(share * len(content))])
        with pytest.raises(AudioError, match="is truncated: it holds"):
            read_header(Location.parse(tmp_path / suffix))
    stale = content.replace(b"sample_count -i 48001", b"sample_count -i 12000")
    y, remarks = _read(tmp_path, stale)
    np.testing.assert_array_equal(y, whole)
    assert _OUTGROWN.fullmatch(remarks[0])


_UNJUDGED = ["VOC", "SVX", "AVR", "PAF", "MAT4", "MAT5", "MPC2K", "PVF", "IRCAM", "HTK", "SDS"]


@pytest.mark.parametrize("kind", _UNJUDGED)
def test_formats_that_do_not_tell_whether_they_are_whole(tmp_path: Path, kind: str) -> None:
    content = _written(kind, "PCM_16")
    for share in (1, 0.5):
        with pytest.raises(AudioError, match=r"Convert it to WAV or FLAC|not audio"):
            _read(tmp_path, content[: int(share * len(content))])


def test_what_stands_behind_an_id3_tag(tmp_path: Path) -> None:
    tag = b"ID3\x04\0\0\0\0\x0f\x76" + bytes(15 * 128 + 0x76)
    whole = _Y / np.float32(2**15)
    for kind in ("FLAC", "WAV", "AIFF"):
        content = _written(kind, "PCM_16")
        y, remarks = _read(tmp_path, tag + content)
        np.testing.assert_array_equal(y, whole)
        assert remarks == ()
        y, remarks = _read(tmp_path, tag + _stated(content, kind, 0.3))
        np.testing.assert_array_equal(y, whole)
        assert _OUTGROWN.fullmatch(remarks[0])
    flac = bytearray(_written("FLAC", "PCM_16"))
    flac[22:26] = bytes(4)
    y, remarks = _read(tmp_path, tag + bytes(flac))
    np.testing.assert_array_equal(y, whole)
    assert remarks == (_TO_ITS_END,)
    with pytest.raises(AudioError, match="is truncated: no whole frame ends it"):
        _read(tmp_path, tag + bytes(flac[: len(flac) // 2]))
