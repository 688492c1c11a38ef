from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from valence.audio.containers import media
from valence.audio.decoding import AudioReading, read_header
from valence.errors import AudioError
from valence.storage.audio_suffixes import MEDIA_SUFFIXES
from valence.storage.location import Location

_SR = 48_000
_SECONDS = 6.5
_KINDS = {
    ".m4a": "aac",
    ".mp4": "aac",
    ".aac": "aac",
    ".webm": "libopus",
    ".mka": "flac",
    ".wma": "wmav2",
    # libsndfile opens these containers, but not with these codecs inside.
    ".ogg": "flac",
    ".caf": "alac",
}


def _sound(channels: int = 1) -> np.ndarray:
    t = np.arange(round(_SECONDS * _SR)) / _SR
    y = 0.3 * np.sin(2 * np.pi * 440 * t) * (0.5 + 0.5 * np.sin(2 * np.pi * t))
    return np.stack([y * (c + 1) / channels for c in range(channels)]).astype(np.float32)


def _write(file: Path, *, channels: int = 1, streams: int = 1) -> Path:
    kind = {".m4a": "ipod", ".mka": "matroska", ".aac": "adts", ".wma": "asf"}
    with av.open(str(file), "w", format=kind.get(file.suffix, file.suffix[1:])) as container:
        made = []
        for _ in range(streams):
            stream = container.add_stream(_KINDS[file.suffix], rate=_SR)
            stream.layout = "mono" if channels == 1 else "stereo"
            stream.bit_rate = 128_000
            made.append(stream)
        for number, stream in enumerate(made):
            frame = av.AudioFrame.from_ndarray(
                _sound(channels) / (number + 1), "fltp", stream.layout.name
            )
            frame.sample_rate, frame.pts = _SR, 0
            for given in (frame, None):
                container.mux(stream.encode(given))
    return file


@pytest.mark.parametrize("suffix", _KINDS)
@pytest.mark.parametrize("channels", [1, 2])
def test_sound_is_whole_and_in_its_place(tmp_path: Path, suffix: str, channels: int) -> None:
    file = _write(tmp_path / f"a{suffix}", channels=channels)
    reading = AudioReading(file, sr=_SR)
    y, expected = np.concatenate(list(reading)), _sound(channels).mean(axis=0)
    assert abs(len(y) - len(expected)) < 0.1 * _SR
    shared = min(len(y), len(expected)) - 4096
    lags = range(-2400, 2401, 16)
    power = [
        float(y[4000:20_000] @ expected[4000 + lag : 20_000 + lag]) if lag > -4000 else 0
        for lag in lags
    ]
    assert abs(lags[int(np.argmax(power))]) <= 2400
    rms = np.sqrt(np.mean(y[:shared] ** 2)), np.sqrt(np.mean(expected[:shared] ** 2))
    assert rms[0] == pytest.approx(rms[1], rel=0.03)
    header = read_header(Location.parse(file))
    assert (header.sr, header.channels) == (_SR, channels)
    assert header.duration == pytest.approx(_SECONDS, abs=0.15)
    assert reading.remarks == ()


@pytest.mark.parametrize("suffix", [".m4a", ".webm", ".mka", ".wma"])
@pytest.mark.parametrize("share", [0.3, 0.7, 0.95])
def test_a_file_that_is_cut(tmp_path: Path, suffix: str, share: float) -> None:
    file = _write(tmp_path / f"a{suffix}")
    content = file.read_bytes()
    file.write_bytes(content[: int(share * len(content))])
    with pytest.raises(AudioError, match=r"truncated|decoded|stops making sense"):
        list(AudioReading(file, sr=_SR))


def test_of_several_streams_the_first_is_taken(tmp_path: Path) -> None:
    reading = AudioReading(_write(tmp_path / "a.mka", streams=2), sr=_SR)
    y = np.concatenate(list(reading))
    assert np.abs(y).max() == pytest.approx(np.abs(_sound()).max(), rel=0.1)
    assert reading.remarks == ("it has 2 audio streams, and the first was taken",)


def test_without_pyav_it_is_said_how_to_install_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = _write(tmp_path / "a.webm")
    monkeypatch.setattr(media.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(AudioError, match=r"pip install -e '\.\[media\]'"):
        list(AudioReading(file, sr=_SR))


@pytest.mark.parametrize("suffix", MEDIA_SUFFIXES)
def test_other_content_under_the_name_of_media(tmp_path: Path, suffix: str) -> None:
    (tmp_path / f"a{suffix}").write_text("timestamp,value\n" * 500)
    with pytest.raises(AudioError, match=r"not audio that can be decoded|no audio stream"):
        list(AudioReading(tmp_path / f"a{suffix}", sr=_SR))


class _Pipe(io.RawIOBase):
    """A file that is written from its beginning to its end."""

    def __init__(self) -> None:
        super().__init__()
        self.content = bytearray()

    def writable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return False

    def write(self, data: Any) -> int:
        self.content += bytes(data)
        return len(bytes(data))


def _streamed() -> bytes:
    pipe = _Pipe()
    with av.open(pipe, "w", format="webm") as container:
        stream = container.add_stream("libopus", rate=_SR)
        stream.layout = "mono"
        frame = av.AudioFrame.from_ndarray(_sound(), "fltp", "mono")
        frame.sample_rate, frame.pts = _SR, 0
        for given in (frame, None):
            container.mux(stream.encode(given))
    return bytes(pipe.content)


@pytest.mark.parametrize("clusters", ["known", "unknown"])
def test_a_webm_of_unknown_length(tmp_path: Path, clusters: str) -> None:
    """A browser that records leaves the length of clusters open too."""
    content, file = _streamed(), tmp_path / "a.webm"
    if clusters == "unknown":
        content = _without_cluster_lengths(content)
    file.write_bytes(content)
    reading = AudioReading(file, sr=_SR)
    assert sum(map(len, reading)) == pytest.approx(_SECONDS * _SR, abs=0.1 * _SR)
    assert reading.remarks == ("its header gives no length, so it was read to its end",)
    for share in (0.3, 0.5, 0.77):
        file.write_bytes(content[: int(share * len(content))])
        with pytest.raises(AudioError, match=r"is truncated: it holds \d+ of the \d+ bytes"):
            read_header(Location.parse(file))


def _without_cluster_lengths(content: bytes) -> bytes:
    """Put the length that means none in place of each cluster's, of as many bytes."""
    given, at, found = bytearray(content), -1, 0
    while (at := content.find(bytes.fromhex("1f43b675"), at + 1)) >= 0:
        width = 9 - content[at + 4].bit_length()
        given[at + 4 : at + 4 + width] = ((2 << 7 * width) - 1).to_bytes(width, "big")
        found += 1
    assert found
    return bytes(given)


def test_two_recordings_in_one_mp4(tmp_path: Path) -> None:
    file = _write(tmp_path / "a.m4a")
    file.write_bytes(2 * file.read_bytes())
    with pytest.raises(AudioError, match="holds a second recording from byte"):
        read_header(Location.parse(file))


def test_bare_aac_behind_a_tag(tmp_path: Path) -> None:
    file = _write(tmp_path / "a.aac")
    plain = np.concatenate(list(AudioReading(file, sr=_SR)))
    tag = b"ID3\x04\0\0\0\0\x0f\x76" + bytes(15 * 128 + 0x76)
    file.write_bytes(tag + file.read_bytes())
    reading = AudioReading(file, sr=_SR)
    np.testing.assert_array_equal(np.concatenate(list(reading)), plain)
    assert reading.remarks == ()
