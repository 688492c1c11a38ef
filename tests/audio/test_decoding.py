from __future__ import annotations

import os
import socket
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import librosa
import numpy as np
import pytest
import soundfile

from valence.audio import decoding as audio
from valence.audio.decoding import AudioReading, Witness, checksum, read_audio, read_header
from valence.audio.segmentation import iter_segments, normalize, segment_audio
from valence.errors import AudioError, UnreadableError
from valence.storage.location import Location

# librosa.load brings in a reader of formats that Python is about to drop.
pytestmark = pytest.mark.filterwarnings(
    "ignore:'(aifc|audioop|sunau)' is deprecated:DeprecationWarning"
)

_SR = 16_000


def _tone(seconds: float, sr: int = _SR, channels: int = 1) -> np.ndarray:
    t = np.arange(round(seconds * sr)) / sr
    voices = [0.3 * np.sin(2 * np.pi * (220 + 110 * c) * t + c) for c in range(channels)]
    return np.stack(voices, axis=1).astype(np.float32)


def _write(file: Path, y: np.ndarray, sr: int = _SR, subtype: str | None = None) -> Location:
    # libsndfile crashes when it encodes long Vorbis in one call.
    with soundfile.SoundFile(file, "w", sr, y.shape[1], subtype) as sound:
        for start in range(0, len(y), sr):
            sound.write(y[start : start + sr])
    return Location.parse(file)


_FORMATS = [
    ("wav", "PCM_16"),
    ("wav", "PCM_24"),
    ("wav", "FLOAT"),
    ("flac", "PCM_16"),
    ("ogg", "VORBIS"),
    ("mp3", None),
]


@pytest.mark.parametrize(("suffix", "subtype"), _FORMATS)
@pytest.mark.parametrize("channels", [1, 2, 3])
def test_equals_librosa(tmp_path: Path, suffix: str, subtype: str | None, channels: int) -> None:
    if suffix == "mp3" and channels == 3:
        pytest.skip("MP3 has at most two channels")
    file = _write(tmp_path / f"a.{suffix}", _tone(5.3, channels=channels), subtype=subtype)
    expected, _ = librosa.load(file.path, sr=None, mono=True)
    y = read_audio(file, sr=_SR)
    assert y.dtype == np.float32
    assert y.shape == expected.shape
    np.testing.assert_allclose(y, expected, atol=1e-7)


@pytest.mark.parametrize(("sr", "channels"), [(8_000, 1), (48_000, 2), (44_100, 2), (22_050, 1)])
def test_resampling_equals_librosas(tmp_path: Path, sr: int, channels: int) -> None:
    file = _write(tmp_path / "a.flac", _tone(7.9, sr, channels))
    expected, _ = librosa.load(file.path, sr=_SR, mono=True)
    y = read_audio(file, sr=_SR)
    assert abs(len(y) - len(expected)) <= 1
    shared = min(len(y), len(expected))
    np.testing.assert_allclose(y[:shared], expected[:shared], atol=1e-5)


def test_blocks_are_small_and_make_up_the_whole(tmp_path: Path) -> None:
    file = _write(tmp_path / "a.wav", _tone(60))
    blocks = list(AudioReading(Path(file.path), sr=_SR))
    assert len(blocks) > 5
    assert max(len(block) for block in blocks) <= 2**16
    assert np.array_equal(np.concatenate(blocks), read_audio(file, sr=_SR))


def test_header(tmp_path: Path) -> None:
    header = read_header(_write(tmp_path / "a.wav", _tone(1.5, 48_000, 2), 48_000))
    assert (header.frames, header.sr, header.channels) == (72_000, 48_000, 2)
    assert header.duration == 1.5


def test_checksum_is_sha256(tmp_path: Path) -> None:
    (tmp_path / "abc").write_bytes(b"abc")
    assert checksum(tmp_path / "abc").startswith("ba7816bf8f01cfea414140de5dae2223")


def test_absent_file(tmp_path: Path) -> None:
    with pytest.raises(AudioError, match="cannot be read"):
        read_audio(Location.parse(tmp_path / "a.wav"), sr=_SR)


def test_no_bytes(tmp_path: Path) -> None:
    (tmp_path / "a.wav").touch()
    with pytest.raises(AudioError, match="is empty"):
        read_audio(Location.parse(tmp_path / "a.wav"), sr=_SR)


def test_no_samples(tmp_path: Path) -> None:
    file = _write(tmp_path / "a.wav", _tone(0))
    with pytest.raises(AudioError, match="is empty"):
        read_audio(file, sr=_SR)


@pytest.mark.parametrize("sr", [1, 999, 800_000])
def test_a_rate_that_no_speech_has(tmp_path: Path, sr: int) -> None:
    file = tmp_path / "a.wav"
    soundfile.write(file, np.full(4000, 0.1, np.float32), sr)
    with pytest.raises(AudioError, match=rf"has a sample rate of {sr} Hz in its header"):
        read_audio(Location.parse(file), sr=_SR)


@pytest.mark.parametrize("suffix", ["wav", "flac", "ogg", "mp3"])
def test_not_audio(tmp_path: Path, suffix: str) -> None:
    (tmp_path / f"a.{suffix}").write_text("timestamp,value,segment_id\n0,0.1,1\n" * 50)
    with pytest.raises(AudioError, match="not audio"):
        read_audio(Location.parse(tmp_path / f"a.{suffix}"), sr=_SR)


@pytest.mark.parametrize(("suffix", "subtype"), [*_FORMATS[:5], ("ogg", "OPUS")])
@pytest.mark.parametrize("share", [0.02, 0.3, 0.9, 0.999])
def test_truncated(tmp_path: Path, suffix: str, subtype: str, share: float) -> None:
    file = _write(tmp_path / f"a.{suffix}", _tone(20), subtype=subtype)
    content = file.read_bytes()
    file.write_bytes(content[: int(share * len(content))])
    with pytest.raises(AudioError, match=r"truncated|stops making sense|not audio"):
        read_audio(file, sr=_SR)


def test_truncated_by_one_byte(tmp_path: Path) -> None:
    file = _write(tmp_path / "a.wav", _tone(2), subtype="PCM_16")
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(AudioError, match="63999 of the 64000 bytes"):
        read_audio(file, sr=_SR)


@pytest.mark.parametrize("stated", [0, 0xFFFF_FFFF, 0x7FFF_FFFF])
def test_a_wav_of_unknown_length_is_read_to_its_end(tmp_path: Path, stated: int) -> None:
    """Programs that write to a pipe cannot go back to put the length in."""
    y = _tone(2)
    file = _write(tmp_path / "a.wav", y, subtype="PCM_16")
    content = bytearray(file.read_bytes())
    where = content.index(b"data") + 4
    content[where : where + 4] = struct.pack("<I", stated)
    content[4:8] = struct.pack("<I", stated)
    file.write_bytes(bytes(content))
    reading = AudioReading(Path(file.path), sr=_SR)
    np.testing.assert_allclose(np.concatenate(list(reading)), y[:, 0], atol=1 / 2**15)
    assert reading.remarks == ("its header gives no length, so it was read to its end",)


@pytest.mark.parametrize("lost", [0, 1, 500, 10_000])
def test_a_flac_of_unknown_length_is_read_to_its_end(tmp_path: Path, lost: int) -> None:
    file = _write(tmp_path / "a.flac", _tone(2.13), subtype="PCM_16")
    whole = read_audio(file, sr=_SR)
    content = bytearray(file.read_bytes())
    # STREAMINFO keeps the number of samples in the last 36 bits before its digest.
    content[21] &= 0xF0
    content[22:26] = bytes(4)
    file.write_bytes(bytes(content))
    file.write_bytes(bytes(content[: len(content) - lost]))
    if lost:
        with pytest.raises(AudioError, match="is truncated: no whole frame ends it"):
            read_audio(file, sr=_SR)
    else:
        assert read_header(file).frames == len(whole)
        assert np.array_equal(read_audio(file, sr=_SR), whole)


def test_bytes_after_the_sound_are_no_fault(tmp_path: Path) -> None:
    file = _write(tmp_path / "a.wav", _tone(2), subtype="PCM_16")
    file.write_bytes(file.read_bytes() + b"LIST\x04\x00\x00\x00abcd")
    assert len(read_audio(file, sr=_SR)) == 2 * _SR


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("where", [0, 100_000])
def test_not_finite(tmp_path: Path, value: float, where: int) -> None:
    y = _tone(10)
    y[where] = value
    file = _write(tmp_path / "a.wav", y, subtype="FLOAT")
    with pytest.raises(AudioError, match="NaN or infinite"):
        read_audio(file, sr=_SR)


@pytest.mark.parametrize(("suffix", "subtype"), _FORMATS[:4])
def test_all_zeros(tmp_path: Path, suffix: str, subtype: str) -> None:
    file = _write(tmp_path / f"a.{suffix}", np.zeros((_SR, 2), np.float32), subtype=subtype)
    with pytest.raises(AudioError, match="is silent"):
        read_audio(file, sr=_SR)


def test_one_sample_that_is_not_zero_is_sound(tmp_path: Path) -> None:
    y = np.zeros((200_000, 1), np.float32)
    y[-1] = 0.5
    assert read_audio(_write(tmp_path / "a.wav", y), sr=_SR).max() == 0.5


def test_segments_by_hand() -> None:
    y = np.arange(11, dtype=np.float32)
    assert segment_audio(y, 4).tolist() == [[0, 1, 2, 3], [4, 5, 6, 7]]
    assert segment_audio(y[:3], 4).shape == (0, 4)


@pytest.mark.parametrize("block", [1, 3, 7, 50, 1000])
@pytest.mark.parametrize("total", [0, 3, 4, 8, 23, 24, 25, 99])
def test_streamed_segments_do_not_depend_on_the_blocks(block: int, total: int) -> None:
    y = np.arange(total, dtype=np.float32)

    def blocks() -> Iterator[np.ndarray]:
        for start in range(0, total, block):
            yield y[start : start + block]

    parts = [part.copy() for part in iter_segments(blocks(), 4, segments=3)]
    assert all(len(part) == 3 for part in parts[:-1])
    streamed = np.concatenate(parts) if parts else np.empty((0, 4), np.float32)
    assert np.array_equal(streamed, segment_audio(y, 4))


def test_peak_by_hand() -> None:
    segments = np.array([[0.1, -0.5, 0.2], [0.9, 0.3, 0.0], [0, 0, 0]], np.float32)
    out = normalize(segments, level="peak", level_dbfs=-20)
    np.testing.assert_allclose(
        out, [[0.02, -0.1, 0.04], [0.1, 0.1 / 3, 0], [0, 0, 0]], rtol=1e-6, atol=1e-9
    )


def test_rms_by_hand() -> None:
    segments = np.array([[0.3, -0.4, 0, 0], [0, 0, 0, 0]], np.float32)  # RMS 0.25
    out = normalize(segments, level="rms", level_dbfs=-20)
    np.testing.assert_allclose(out, [[0.12, -0.16, 0, 0], [0, 0, 0, 0]], rtol=1e-6)


def test_minus_three_dbfs_of_a_real_shape() -> None:
    segments = np.random.default_rng(0).normal(0, 0.1, (13, 800)).astype(np.float32)
    peak = np.abs(normalize(segments)).max(axis=1)
    np.testing.assert_allclose(20 * np.log10(peak), -3, atol=1e-5)


@pytest.mark.parametrize("level", ["peak", "rms"])
def test_what_is_too_quiet_to_level_stays(level: Literal["peak", "rms"]) -> None:
    segments = np.full((2, 5), 1e-42, np.float32)
    assert np.array_equal(normalize(segments, level=level), segments)


def test_fetched_copy_is_removed(tmp_path: Path) -> None:
    file = _write(tmp_path / "a.wav", _tone(1))
    # A scheme makes it an object as far as decoding is concerned.
    remote = Location(file.filesystem, file.path, "s3")
    with audio.on_disk(remote) as path:
        assert str(path) != file.path
        assert path.read_bytes() == file.read_bytes()
    assert not path.exists()
    assert np.array_equal(read_audio(remote, sr=_SR), read_audio(file, sr=_SR))


@pytest.mark.parametrize("kind", ["pipe", "device", "folder", "link", "socket"])
def test_what_is_no_file_ends_at_once(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "a.wav"
    match kind:
        case "pipe":
            os.mkfifo(path)
        case "device":
            path.symlink_to("/dev/zero")
        case "folder":
            path.mkdir()
        case "link":
            path.symlink_to("../annex/objects/absent.wav")
        case _:
            with socket.socket(socket.AF_UNIX) as listening:
                listening.bind(str(path))
    said = {"pipe": "a named pipe", "link": "its content was not fetched"}.get(kind, f"a {kind}")
    for read in (read_header, lambda file: read_audio(file, sr=_SR)):
        with pytest.raises(UnreadableError, match=said):
            read(Location.parse(path))


@pytest.mark.parametrize(
    "text", ["version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "/annex/objects/S-1\n"]
)
def test_a_pointer_in_place_of_the_content(tmp_path: Path, text: str) -> None:
    (tmp_path / "a.flac").write_text(text)
    with pytest.raises(UnreadableError, match="the content was not fetched"):
        read_header(Location.parse(tmp_path / "a.flac"))


def test_a_witness_sees_each_change(tmp_path: Path) -> None:
    path, other = tmp_path / "a.wav", tmp_path / "b.wav"

    def made() -> Witness:
        path.write_bytes(b"sound")
        return Witness.of(path, path)

    made().require_unchanged()
    for change in ("replaced", "rewritten", "gone", "longer"):
        witness = made()
        before = path.stat()
        match change:
            case "replaced":
                other.write_bytes(b"SOUND")
                os.utime(other, ns=(before.st_atime_ns, before.st_mtime_ns))
                other.replace(path)
            case "rewritten":
                path.write_bytes(b"SOUND")
                # Its time is set back, and the system's own note of the change stays.
                os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns - 1))
            case "gone":
                path.unlink()
            case _:
                path.write_bytes(b"sounds")
        with pytest.raises(UnreadableError, match=r"was changed while|cannot be read"):
            witness.require_unchanged()


@pytest.mark.parametrize(("suffix", "subtype"), _FORMATS[:5])
@pytest.mark.parametrize("channel", [0, 1])
def test_a_channel_that_is_named(tmp_path: Path, suffix: str, subtype: str, channel: int) -> None:
    file = _write(tmp_path / f"a.{suffix}", _tone(2.3, channels=2), subtype=subtype)
    expected = soundfile.read(file.path, dtype="float32")[0][:, channel]
    np.testing.assert_array_equal(read_audio(file, sr=_SR, channel=channel), expected)
    with pytest.raises(AudioError, match=r"has 2 channel\(s\), and preprocess.channel = 2"):
        read_audio(file, sr=_SR, channel=2)


def test_stereo_in_opposite_phase_is_the_sound_and_not_its_noise(tmp_path: Path) -> None:
    y = _tone(7)
    both = _write(tmp_path / "a.wav", np.concatenate([y, -y], axis=1), subtype="PCM_16")
    alone = _write(tmp_path / "b.wav", y, subtype="PCM_16")
    reading = AudioReading(Path(both.path), sr=8000)
    np.testing.assert_array_equal(np.concatenate(list(reading)), read_audio(alone, sr=8000))
    assert reading.remarks[0].startswith("its channels cancel each other (opposite phase) in 7.0")


def test_a_tag_behind_a_flac_is_no_fault(tmp_path: Path) -> None:
    file = _write(tmp_path / "a.flac", _tone(3), subtype="PCM_16")
    expected = read_audio(file, sr=_SR)
    file.write_bytes(file.read_bytes() + b"TAG" + bytes(125))
    np.testing.assert_array_equal(read_audio(file, sr=_SR), expected)
