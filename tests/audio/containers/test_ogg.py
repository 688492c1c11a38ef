from __future__ import annotations

import io
from pathlib import Path

import av
import numpy as np
import pytest
import soundfile

from valence.audio.containers.ogg import page_checksum
from valence.audio.decoding import AudioReading, read_audio, read_header
from valence.errors import AudioError
from valence.storage.location import Location

_SR = 16_000


def _ogg(seconds: float, *, sr: int = _SR, channels: int = 1, subtype: str = "VORBIS") -> bytes:
    target = io.BytesIO()
    t = np.arange(round(seconds * sr)) / sr
    y = np.stack([0.3 * np.sin(2 * np.pi * 300 * (c + 1) * t) for c in range(channels)], axis=1)
    with soundfile.SoundFile(target, "w", sr, channels, subtype, format="OGG") as sound:
        for start in range(0, len(y), sr):
            sound.write(y[start : start + sr])
    return target.getvalue()


def _read(tmp_path: Path, content: bytes) -> tuple[np.ndarray, tuple[str, ...]]:
    (tmp_path / "a.ogg").write_bytes(content)
    reading = AudioReading(tmp_path / "a.ogg", sr=_SR)
    return np.concatenate(list(reading)), reading.remarks


@pytest.mark.parametrize("subtype", ["VORBIS", "OPUS"])
def test_all_streams_of_a_chain_are_decoded(tmp_path: Path, subtype: str) -> None:
    parts = [_ogg(seconds, subtype=subtype) for seconds in (4.5, 2.25, 7.0)]
    alone = [_read(tmp_path, part)[0] for part in parts]
    y, remarks = _read(tmp_path, b"".join(parts))
    np.testing.assert_array_equal(y, np.concatenate(alone))
    assert len(y) == 13.75 * _SR
    assert remarks == ("it is made of 3 streams, which were joined",)
    header = read_header(Location.parse(tmp_path / "a.ogg"))
    assert header.duration == 13.75


@pytest.mark.parametrize("other", [{"sr": 22_050}, {"channels": 2}])
def test_streams_that_differ_are_refused(tmp_path: Path, other: dict[str, int]) -> None:
    with pytest.raises(AudioError, match="made of 2 streams, and number 2 has"):
        _read(tmp_path, _ogg(3) + _ogg(3, **other))


def test_a_chain_whose_parts_are_cut(tmp_path: Path) -> None:
    first, second = _ogg(5), _ogg(4)
    for content in (first[:-1] + second, first[: len(first) // 2] + second, first + second[:-1]):
        with pytest.raises(AudioError, match=r"has no end|is damaged"):
            _read(tmp_path, content)


def test_a_page_that_is_damaged_or_missing(tmp_path: Path) -> None:
    content = _ogg(30)
    pages = [at for at in range(len(content)) if content[at : at + 4] == b"OggS"]
    assert len(pages) > 5
    flipped = bytearray(content)
    flipped[pages[3] + 200] ^= 4
    with pytest.raises(AudioError, match="does not match its checksum"):
        _read(tmp_path, bytes(flipped))
    with pytest.raises(AudioError, match="a page before it is missing"):
        _read(tmp_path, content[: pages[3]] + content[pages[4] :])


def test_bytes_behind_the_end_are_no_sound(tmp_path: Path) -> None:
    content = _ogg(5)
    expected, _ = _read(tmp_path, content)
    np.testing.assert_array_equal(_read(tmp_path, content + b"TAG" + bytes(125))[0], expected)


def test_the_checksum_is_that_of_the_writer() -> None:
    content = _ogg(1)
    size = 27 + content[26] + sum(content[27 : 27 + content[26]])
    page = content[:size]
    assert page_checksum(page[:22] + bytes(4) + page[26:]) == int.from_bytes(page[22:26], "little")


def test_the_samples_are_those_of_ffmpeg(tmp_path: Path) -> None:
    (tmp_path / "a.ogg").write_bytes(_ogg(6) + _ogg(3))
    y = read_audio(Location.parse(tmp_path / "a.ogg"), sr=_SR)
    with av.open(str(tmp_path / "a.ogg")) as container:
        expected = np.concatenate([f.to_ndarray()[0] for f in container.decode(audio=0)])
    assert abs(len(expected) - len(y)) < 1200
    np.testing.assert_allclose(y[: 6 * _SR - 200], expected[: 6 * _SR - 200], atol=1e-3)
