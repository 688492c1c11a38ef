from __future__ import annotations

import io
import struct

import numpy as np
import pytest
import soundfile

from valence.containers import require_whole
from valence.errors import AudioError


def _check(content: bytes) -> None:
    require_whole(io.BytesIO(content), len(content), "a")  # type: ignore[arg-type]


def _wav(told: int, sound: bytes, before: bytes = b"") -> bytes:
    fmt = b"fmt " + struct.pack("<IHHIIHH", 16, 1, 1, 16_000, 32_000, 2, 16)
    body = b"WAVE" + fmt + before + b"data" + struct.pack("<I", told) + sound
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


@pytest.mark.parametrize("told", [0, 0x7FFF_F000, 0xFFFF_FFFF])
def test_a_wav_whose_writer_could_not_tell(told: int) -> None:
    _check(_wav(told, bytes(8)))


def test_an_ogg_stream_has_an_end() -> None:
    content = _ogg(9)
    _check(content)
    for kept in (len(content) - 1, len(content) // 2, 100, 30):
        with pytest.raises(AudioError, match="its Ogg stream has no end"):
            _check(content[:kept])


@pytest.mark.parametrize("content", [b"", b"RIFF", b"fLaC" + bytes(50), b"RIFF\0\0\0\0AVI "])
def test_other_files_pass(content: bytes) -> None:
    _check(content)
