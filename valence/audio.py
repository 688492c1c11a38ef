"""Audio files as mono float32 at one sample rate, in blocks; cut into segments and levelled."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import soundfile
import soxr
from numpy.typing import NDArray

from valence.containers import require_whole, truncated
from valence.errors import AudioError, UnreadableError
from valence.storage import Location

# Frames decoded at once. Fixed, so that the resampler's output does not depend on who asks.
_BLOCK_FRAMES = 2**16
# Beyond these a header is damaged: no speech was recorded so, and a second would become hours.
_LEAST_SR, _MOST_SR = 1000, 768_000
_COPY_BYTES = 2**20
_HASHED_BYTES = 2**18
# The frame count that MP3 encoders note is often one or two MPEG frames off.
_MP3_TOLERANCE = 2 * 1152
# What libsndfile gives as the number of frames where a header does not tell.
_UNKNOWN_FRAMES = 2**63 - 1


@dataclass(frozen=True)
class AudioHeader:
    """What the header of an audio file says.

    Attributes
    ----------
    frames
        Samples a channel.
    sr
        Sample rate in Hz.
    channels
        Channels.
    """

    frames: int
    sr: int
    channels: int

    @property
    def duration(self) -> float:
        """Seconds."""
        return self.frames / self.sr


class _Forwards(soundfile.SoundFile):  # type: ignore[misc]
    """A sound file that is read from its beginning to its end, block by block.

    soundfile seeks to where it already is after every read of a file that can seek, and a seek
    makes an MP3 decoder lose what it knew: the first frames of every block would be wrong.
    """

    def seekable(self) -> bool:
        return False


@contextmanager
def on_disk(file: Location) -> Iterator[Path]:
    """A path that `file` can be decoded from: its own, or that of a copy fetched for the block.

    Raises
    ------
    UnreadableError
        If the file cannot be read.
    OSError
        If there is no room for the copy.
    """
    if file.local is not None:
        yield file.local
        return
    with tempfile.TemporaryDirectory(prefix="valence-") as folder:
        path = Path(folder) / file.name
        with path.open("wb") as target:
            for block in _blocks(file):
                try:
                    target.write(block)
                except OSError as error:
                    # That the disk here is full says nothing about the file.
                    told = f"{error.strerror}, while '{file}' was fetched to"
                    raise OSError(error.errno, told, str(path)) from error
        yield path


def _blocks(file: Location) -> Iterator[bytes]:
    """The content of a file, a piece at a time."""
    try:
        with file.open() as source:
            while block := source.read(_COPY_BYTES):
                yield block
    except OSError as error:
        raise _unreadable(file, error) from error


def checksum(path: Path) -> str:
    """SHA-256 of a file on disk, 64 hexadecimal digits."""
    digest = hashlib.sha256()
    # One small buffer: what is read into the cache is hashed while it is there.
    buffer = memoryview(bytearray(_HASHED_BYTES))
    with path.open("rb", buffering=0) as file:
        while read := file.readinto(buffer):
            digest.update(buffer[:read])
    return digest.hexdigest()


def read_header(file: Location) -> AudioHeader:
    """What an audio file's header says, checked against its size.

    Raises
    ------
    AudioError
        If it is absent, empty, truncated (as far as that shows without decoding) or not audio.
    """
    with on_disk(file) as path:
        return header(path, file)


def header(path: Path, name: Location | Path) -> AudioHeader:
    """`read_header` of a file on disk; messages call it `name`."""
    with _opened(path, name) as sound:
        return AudioHeader(sound.frames, sound.samplerate, sound.channels)


def read_audio(file: Location, *, sr: int) -> NDArray[np.float32]:
    """The whole of an audio file, mono.

    Parameters
    ----------
    file
        WAV, FLAC, Ogg (Vorbis, Opus), MP3 or another format of libsndfile's, of any sample rate
        and number of channels.
    sr
        Sample rate in Hz that it is resampled to.

    Returns
    -------
    float32 `[samples]`, full scale at 1: the mean of the channels.

    Raises
    ------
    AudioError
        If the file is absent, empty, truncated, not audio, all zeros, or holds NaN or infinities.
    """
    with on_disk(file) as path:
        return np.concatenate(list(iter_audio(path, sr=sr, name=file)))


def iter_audio(
    path: Path, *, sr: int, name: Location | Path | None = None
) -> Iterator[NDArray[np.float32]]:
    """Blocks of an audio file on disk, mono, at `sr` Hz; memory does not grow with its length.

    Yields
    ------
    float32 `[samples]`, not empty; together what `read_audio` returns.

    Raises
    ------
    AudioError
        As `read_audio`; it may come after blocks that were sound. Messages call the file `name`.
    """
    name = path if name is None else name
    frames = 0
    silent = True
    with _opened(path, name) as sound:
        resampler = None if sound.samplerate == sr else soxr.ResampleStream(sound.samplerate, sr, 1)
        # Sixteen-bit samples are read as they are: libsndfile's own conversion is slower.
        whole = sound.subtype == "PCM_16"
        while True:
            try:
                block = sound.read(
                    _BLOCK_FRAMES, dtype="int16" if whole else "float32", always_2d=True
                )
            except soundfile.SoundFileError as error:
                raise AudioError(
                    f"'{name}' stops making sense after {frames / sound.samplerate:.1f} of "
                    f"{sound.frames / sound.samplerate:.1f} s: {error}. It is damaged or "
                    "truncated; restore it from its source."
                ) from error
            frames += len(block)
            y = _mono(block)
            if not (whole or np.isfinite(y).all()):
                raise AudioError(
                    f"'{name}' holds NaN or infinite samples after "
                    f"{(frames - len(block)) / sound.samplerate:.1f} s. Expected finite ones; "
                    "export it again."
                )
            silent = silent and not y.any()
            last = len(block) == 0
            if resampler is not None:
                y = resampler.resample_chunk(np.ascontiguousarray(y), last=last)
            if len(y):
                yield y
            if last:
                break
        tolerance = _MP3_TOLERANCE if sound.format == "MP3" else 0
        if frames + tolerance < sound.frames:
            raise truncated(name, frames / sound.samplerate, sound.frames / sound.samplerate)
    if silent:
        raise AudioError(
            f"'{name}' is silent: all {frames} samples are zero. Expected speech; check that the "
            "recording is the right one."
        )


def _mono(block: NDArray[np.int16] | NDArray[np.float32]) -> NDArray[np.float32]:
    """The mean of the channels of `block`, shape `[frames, channels]`, full scale at 1."""
    y = block[:, 0] if block.shape[1] == 1 else block.mean(axis=1, dtype=np.float32)
    if block.dtype == np.int16:
        return y * np.float32(1 / 2**15)
    return np.asarray(y, np.float32)


def segment_audio(y: NDArray[np.float32], segment_samples: int) -> NDArray[np.float32]:
    """Cut `y` into segments; what is left after the last whole one is dropped.

    Returns
    -------
    A view, shape `[n, segment_samples]`.

    >>> segment_audio(np.arange(7, dtype=np.float32), 3).tolist()
    [[0.0, 1.0, 2.0], [3.0, 4.0, 5.0]]
    """
    n = len(y) // segment_samples
    return y[: n * segment_samples].reshape(n, segment_samples)


def iter_segments(
    blocks: Iterable[NDArray[np.float32]], segment_samples: int, *, segments: int
) -> Iterator[NDArray[np.float32]]:
    """Cut a stream of samples into segments, `segments` at a time.

    Yields
    ------
    float32 `[segments, segment_samples]`, the last one shorter; a part of a segment at the end is
    dropped. The cut depends on the samples alone, not on how they were divided into blocks. Each
    array may be changed in place and is used again for the next one.
    """
    buffer = np.empty(segments * segment_samples, np.float32)
    filled = 0
    for block in blocks:
        taken = 0
        while taken < len(block):
            part = block[taken : taken + len(buffer) - filled]
            buffer[filled : filled + len(part)] = part
            filled += len(part)
            taken += len(part)
            if filled == len(buffer):
                yield buffer.reshape(segments, segment_samples)
                filled = 0
    rest = segment_audio(buffer[:filled], segment_samples)
    if len(rest):
        yield rest


def normalize(
    segments: NDArray[np.float32],
    *,
    level: Literal["peak", "rms"] = "peak",
    level_dbfs: float = -3.0,
) -> NDArray[np.float32]:
    """Bring each segment to a level; one that is all zeros stays so.

    Parameters
    ----------
    segments
        float32 `[n, samples]`, full scale at 1.
    level
        What is brought to the level: the largest absolute sample, which cannot clip, or the root
        of the mean square.
    level_dbfs
        The level in dB relative to full scale.

    Returns
    -------
    float32 of the same shape.

    >>> normalize(np.array([[0.1, -0.2], [0, 0]], np.float32), level_dbfs=0).tolist()
    [[0.5, -1.0], [0.0, 0.0]]
    """
    match level:
        case "peak":
            found = np.maximum(segments.max(axis=1), -segments.min(axis=1))
        case "rms":
            found = np.sqrt(np.square(segments, dtype=np.float64).mean(axis=1)).astype(np.float32)
    # Below the smallest normal number a gain would overflow: such a segment is silence.
    heard = found >= np.finfo(np.float32).tiny
    gain = np.float32(10 ** (level_dbfs / 20)) / np.where(heard, found, np.float32(1))
    return segments * np.where(heard, gain, np.float32(1))[:, None]


@contextmanager
def _opened(path: Path, name: Location | Path) -> Iterator[soundfile.SoundFile]:
    """The file open for decoding, once its size is known to agree with its header."""
    try:
        size = path.stat().st_size
        if size == 0:
            raise AudioError(f"'{name}' is empty: it has no bytes. Restore it from its source.")
        with path.open("rb") as file:
            require_whole(file, size, name)
    except OSError as error:
        raise _unreadable(name, error) from error
    try:
        sound = _Forwards(path)
    except soundfile.SoundFileError as error:
        raise AudioError(
            f"'{name}' is not audio that can be decoded: {error} Expected WAV, FLAC, Ogg or MP3; "
            "it may be damaged, or another kind of file under that name."
        ) from error
    with sound:
        if sound.frames == 0:
            raise AudioError(f"'{name}' is empty: its header tells of 0 samples. Record it again.")
        if sound.frames == _UNKNOWN_FRAMES:
            raise AudioError(
                f"'{name}' does not tell in its header how long it is, as a program leaves it that "
                "writes to a pipe, and whether it is whole cannot be known. Write it to a file "
                "(ffmpeg -i old.flac new.flac)."
            )
        if not _LEAST_SR <= sound.samplerate <= _MOST_SR:
            raise AudioError(
                f"'{name}' has a sample rate of {sound.samplerate} Hz in its header. Expected "
                f"{_LEAST_SR} to {_MOST_SR}; the header may be damaged: export the file again."
            )
        yield sound


def _unreadable(name: Location | Path, error: OSError) -> UnreadableError:
    return UnreadableError(
        f"'{name}' cannot be read: {error}. Check that it is there and may be read."
    )
