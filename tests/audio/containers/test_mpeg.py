from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import soundfile

from valence.audio.decoding import AudioReading
from valence.errors import AudioError

_SECONDS = 24
_VARIABLE = {"flags": "+qscale", "global_quality": str(6 * 118)}


def _sound(sr: int, channels: int = 1) -> np.ndarray:
    """Loud noise and silence in turn: a stream of variable bit rate varies by it."""
    rng = np.random.default_rng(0)
    t = np.arange(_SECONDS * sr) / sr
    y = np.where(t % 8 < 4, 0.02 * np.sin(2 * np.pi * 200 * t), 0.2 * rng.standard_normal(len(t)))
    return np.repeat(y.astype(np.float32)[None], channels, axis=0)


def _mp3(
    file: Path, *, sr: int = 44_100, channels: int = 1, xing: bool = True, **codec: Any
) -> Path:
    with av.open(str(file), "w", format="mp3", options={"write_xing": str(int(xing))}) as container:
        stream = container.add_stream("libmp3lame", rate=sr, options=codec or _VARIABLE)
        stream.layout = "mono" if channels == 1 else "stereo"
        frame = av.AudioFrame.from_ndarray(_sound(sr, channels), "fltp", stream.layout.name)
        frame.sample_rate = sr
        for given in (frame, None):
            for packet in stream.encode(given):
                container.mux(packet)
    return file


def _read(file: Path) -> np.ndarray:
    reading = AudioReading(file, sr=_rate(file))
    y = np.concatenate(list(reading))
    assert reading.header is not None
    return y


def _rate(file: Path) -> int:
    return int(soundfile.info(file).samplerate)


def _decoded_by_ffmpeg(file: Path) -> np.ndarray:
    with av.open(str(file)) as container:
        return np.concatenate([f.to_ndarray().mean(axis=0) for f in container.decode(audio=0)])


@pytest.mark.parametrize("sr", [44_100, 48_000, 22_050, 8_000])
@pytest.mark.parametrize("channels", [1, 2])
def test_variable_bit_rate_without_a_header(tmp_path: Path, sr: int, channels: int) -> None:
    file = _mp3(tmp_path / "a.mp3", sr=sr, channels=channels, xing=False)
    assert b"Xing" not in file.read_bytes()
    y, expected = _read(file), _decoded_by_ffmpeg(file)
    assert len(y) >= _SECONDS * sr
    # The decoders differ in how much of the encoder's delay they leave.
    shift = min(range(-1200, 1201), key=lambda n: abs(len(expected) - n - len(y)))
    assert abs(shift) <= 1152
    best = min(
        np.abs(y[6000:9000] - expected[6000 + lag : 9000 + lag]).max()
        for lag in (0, 529, 528, 1105)
    )
    assert best < 1e-3


@pytest.mark.parametrize("share", [0.001, 0.3, 0.5])
def test_a_stream_that_begins_within_a_frame(tmp_path: Path, share: float) -> None:
    content = _mp3(tmp_path / "whole.mp3", xing=False).read_bytes()
    file = tmp_path / "cut.mp3"
    file.write_bytes(content[int(share * len(content)) + 7 :])
    reading = AudioReading(file, sr=44_100)
    n = sum(map(len, reading))
    assert abs(n - len(_decoded_by_ffmpeg(file))) <= 1152
    assert len(reading.remarks) == 1
    assert "no whole frame" in reading.remarks[0]


def test_ordinary_files_are_decoded_as_they_stand(tmp_path: Path) -> None:
    for codec in (_VARIABLE, {"b": "64000"}):
        file = _mp3(tmp_path / "a.mp3", **codec)
        np.testing.assert_array_equal(_read(file), soundfile.read(file, dtype="float32")[0])
        assert len(_read(file)) == _SECONDS * 44_100


@pytest.mark.parametrize("stated", [0, 100, 2**31])
def test_a_header_that_is_wrong(tmp_path: Path, stated: int) -> None:
    file = _mp3(tmp_path / "a.mp3")
    whole, content = _read(file), bytearray(file.read_bytes())
    at = content.index(b"Xing") + 8
    content[at : at + 4] = struct.pack(">I", stated)
    file.write_bytes(content)
    if stated == 2**31:
        with pytest.raises(AudioError, match="is truncated"):
            _read(file)
    else:
        np.testing.assert_array_equal(_read(file)[: len(whole)], whole)


@pytest.mark.parametrize("share", [0.2, 0.5, 0.9, 0.999])
@pytest.mark.parametrize("xing", [True, False])
def test_a_file_that_is_cut(tmp_path: Path, share: float, xing: bool) -> None:
    file = _mp3(tmp_path / "a.mp3", xing=xing)
    content = file.read_bytes()
    file.write_bytes(content[: int(share * len(content)) | 1])
    with pytest.raises(AudioError, match="is truncated"):
        _read(file)


def test_files_that_were_joined(tmp_path: Path) -> None:
    first, second = _mp3(tmp_path / "a.mp3"), _mp3(tmp_path / "b.mp3", b="96000")
    joined = tmp_path / "c.mp3"
    joined.write_bytes(first.read_bytes() + second.read_bytes())
    y = _read(joined)
    np.testing.assert_array_equal(y[: 23 * 44_100], _read(first)[: 23 * 44_100])
    assert len(y) >= 2 * _SECONDS * 44_100


@pytest.mark.parametrize("other", [{"sr": 48_000}, {"channels": 2}])
def test_joined_files_that_differ(tmp_path: Path, other: dict[str, int]) -> None:
    first, second = _mp3(tmp_path / "a.mp3"), _mp3(tmp_path / "b.mp3", **other)
    first.write_bytes(first.read_bytes() + second.read_bytes())
    with pytest.raises(AudioError, match=r"changes after 24\.\d s from 44100 Hz with 1 channel"):
        _read(first)


@pytest.mark.parametrize("n", [1, 400, 5000, 100_000])
def test_bytes_between_frames_that_are_none(tmp_path: Path, n: int) -> None:
    file = _mp3(tmp_path / "a.mp3", b="64000")
    content = bytearray(file.read_bytes())
    at = content.index(bytes(content[2090:2092]), 20_000)
    content[at + 30 : at + 30] = bytes(n)
    file.write_bytes(content)
    with pytest.raises(AudioError, match="bytes that are no MPEG audio"):
        _read(file)


def test_tags_are_no_sound(tmp_path: Path) -> None:
    file = _mp3(tmp_path / "a.mp3")
    whole, content = _read(file), file.read_bytes()
    tag = b"ID3\x04\0\0\0\0\x0f\x76" + bytes(15 * 128 + 0x76)
    ape = b"APETAGEX" + struct.pack("<IIII", 2000, 32, 1, 0) + bytes(8) + bytes(2000 - 32 + 32)
    last = b"TAG" + bytes(125)
    for before, behind in (
        (tag, b""),
        (tag + bytes(3000), b""),
        (b"", last),
        (b"", ape[:2000] + last),
    ):
        file.write_bytes(before + content + behind)
        y = np.concatenate(list(AudioReading(file, sr=44_100)))
        np.testing.assert_array_equal(y, whole)
