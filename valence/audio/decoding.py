"""Decode audio files in blocks of mono float32 samples at one sample rate."""

from __future__ import annotations

import hashlib
import os
import stat
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import soxr
from numpy.typing import NDArray

from valence.audio.containers.integrity import lay_out, truncated
from valence.audio.containers.layout import Layout, Part, PartFile
from valence.audio.containers.media import MediaSound
from valence.audio.mixing import Channel, Mixer
from valence.errors import AudioError, UnreadableError
from valence.storage.audio_suffixes import MEDIA_SUFFIXES
from valence.storage.filenames import is_utf8
from valence.storage.location import Location, is_address

Block = NDArray[np.int16] | NDArray[np.float32]

# Frames decoded at once. The number is fixed, so that the resampler's output is always the same.
_BLOCK_FRAMES = 2**16
# A rate beyond these shows a damaged header: no speech is recorded at such a rate, and a second of
# sound would become hours.
_LEAST_SR, _MOST_SR = 1000, 768_000
_COPY_BYTES = 2**20
_HASHED_BYTES = 2**18
# The length that FFmpeg's containers state is rounded, and may include padding of the encoder.
_MEDIA_SECONDS = 0.25
_POINTER_BYTES = 64
# Ogg and CAF files may hold codecs that libsndfile decodes, and codecs that only FFmpeg decodes.
_SHARED = (b"OggS", b"caff")
# Formats of libsndfile whose bytes or frames `lay_out` counts. The other formats state no length
# (PAF, PVF, IRCAM), or libsndfile ignores it (VOC, 8SVX, AVR, MAT, HTK, SDS, MPC, WVE).
_JUDGED = frozenset(
    ("WAV", "WAVEX", "RF64", "W64", "AIFF", "AU", "CAF", "FLAC", "OGG", "MP3", "NIST")
)
# The number of frames that libsndfile reports if the header does not state it.
_UNKNOWN_FRAMES = 2**63 - 1
_KINDS: tuple[tuple[Callable[[int], bool], str], ...] = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a named pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)


@dataclass(frozen=True)
class AudioHeader:
    """The length, rate and channels that the header of an audio file states.

    Attributes
    ----------
    frames
        Samples per channel.
    sr
        Sample rate in Hz.
    channels
        Number of channels.
    """

    frames: int
    sr: int
    channels: int

    @property
    def duration(self) -> float:
        """Return the duration in seconds."""
        return self.frames / self.sr


class _UndecodableError(AudioError):
    """A file that libsndfile cannot open, but perhaps another decoder."""


class _Forwards(soundfile.SoundFile):  # type: ignore[misc]
    """A sound file that is read from its beginning to its end, block by block.

    After every read of a seekable file, soundfile seeks to the current position. Such a seek resets
    the state of an MP3 decoder, and the first frames of every block would be wrong.
    """

    def seekable(self) -> bool:
        return False


@dataclass(frozen=True)
class Witness:
    """The identity of a file on disk when work on it began.

    Parameters
    ----------
    path
        The file.
    name
        The name of the file in messages.
    """

    path: Path
    name: Location | Path
    _seen: tuple[int, ...]

    @classmethod
    def of(cls, path: Path, name: Location | Path) -> Witness:
        """Take the identity of a file.

        Raises
        ------
        UnreadableError
            If the file cannot be read, or is no regular file.
        """
        return cls(path, name, _identity(path, name))

    def require_unchanged(self) -> None:
        """Refuse the file if it was replaced or written to since.

        Raises
        ------
        UnreadableError
            If the file has changed: the samples read may come from two different files.
        """
        if _identity(self.path, self.name) != self._seen:
            raise UnreadableError(
                f"'{self.name}' was changed while it was being worked on. Expected a file at rest; "
                "run the command again when it is complete."
            )


def _identity(path: Path, name: Location | Path) -> tuple[int, ...]:
    seen = _require_file(path, name)
    return seen.st_dev, seen.st_ino, seen.st_size, seen.st_mtime_ns, seen.st_ctime_ns


def _require_file(path: Path, name: Location | Path) -> os.stat_result:
    """Refuse a path that is no regular file, because opening a pipe would wait for a writer."""
    try:
        seen = path.stat()
    except FileNotFoundError as error:
        if path.is_symlink():
            raise UnreadableError(
                f"'{name}' is a link to '{path.readlink()}', which is not there: its content was "
                "not fetched. Fetch it (git annex get, dvc pull), or restore what it links to."
            ) from error
        raise _unreadable(name, error) from error
    except OSError as error:
        raise _unreadable(name, error) from error
    if not stat.S_ISREG(seen.st_mode):
        kind = next((word for test, word in _KINDS if test(seen.st_mode)), "something else")
        raise UnreadableError(
            f"'{name}' is {kind}. Expected an audio file; write the sound to a file, or take the "
            "entry out."
        )
    return seen


@contextmanager
def on_disk(file: Location) -> Iterator[Path]:
    """Give a local path of `file` for the block: its own, or that of a temporary copy.

    Raises
    ------
    UnreadableError
        If the file cannot be read, is a link to nothing, or is a folder, a pipe or a device.
    AudioError
        If its path is not UTF-8.
    OSError
        If there is no room for the copy.
    """
    if not is_utf8(file.path):
        raise AudioError(
            f"'{file}' has a path that is not UTF-8: the bytes that are none stand here as \\x and "
            "two digits. Expected UTF-8, which tables and label files can hold. Rename it."
        )
    if file.local is not None:
        _require_file(file.local, file)
        yield file.local
        return
    with tempfile.TemporaryDirectory(prefix="valence-") as folder:
        path = Path(folder) / file.name
        with path.open("wb") as target:
            for block in _blocks(file):
                try:
                    target.write(block)
                except OSError as error:
                    # A full disk on this machine says nothing about the file, so the error is no
                    # `UnreadableError`.
                    what = f"{error.strerror}, while '{file}' was fetched to"
                    raise OSError(error.errno, what, str(path)) from error
        yield path


def _blocks(file: Location) -> Iterator[bytes]:
    """Read the content of a file in pieces."""
    try:
        with file.open() as source:
            while block := source.read(_COPY_BYTES):
                yield block
    except OSError as error:
        raise _unreadable(file, error) from error


def checksum(path: Path) -> str:
    """Compute the SHA-256 of a file on disk, as 64 hexadecimal digits."""
    digest = hashlib.sha256()
    # The buffer is small, so that its content is hashed while it is in the cache.
    buffer = memoryview(bytearray(_HASHED_BYTES))
    with path.open("rb", buffering=0) as file:
        while read := file.readinto(buffer):
            digest.update(buffer[:read])
    return digest.hexdigest()


def read_header(file: Location) -> AudioHeader:
    """Read the header of an audio file, and check it against the size of the file.

    Raises
    ------
    AudioError
        If the file is absent, empty, truncated (as far as this is visible without decoding) or not
        audio.
    """
    with on_disk(file) as path:
        return header(path, file)


def header(path: Path, name: Location | Path) -> AudioHeader:
    """Read the header of a file on disk like `read_header`; messages call the file `name`."""
    with _opened(path, name) as source:
        return source.header


def read_audio(file: Location, *, sr: int, channel: Channel = "mean") -> NDArray[np.float32]:
    """Read a whole audio file as one channel.

    Parameters
    ----------
    file
        WAV, FLAC, Ogg (Vorbis, Opus), MP3, RF64, W64, AIFF, AU, CAF or NIST SPHERE; with PyAV also
        FFmpeg's formats. Any sample rate and number of channels is allowed.
    sr
        Sample rate in Hz to which the sound is resampled.
    channel
        The number of the chosen channel, or `"mean"` for the mean of all channels.

    Returns
    -------
    float32 `[samples]`, where full scale is 1.

    Raises
    ------
    AudioError
        If the file is absent, empty, truncated, not audio, all zeros, or holds NaN or infinities.
    """
    with on_disk(file) as path:
        return np.concatenate(list(AudioReading(path, sr=sr, channel=channel, name=file)))


class AudioReading:
    """An audio file on disk that is read in blocks, so that memory does not grow with its length.

    Iteration yields blocks that are not empty: float32 `[samples]`, mono at `sr` Hz. Joined, the
    blocks are the array that `read_audio` returns.

    Parameters
    ----------
    path
        The file.
    sr
        Sample rate in Hz to which the sound is resampled.
    channel
        The number of the chosen channel, or `"mean"` for the mean of all channels.
    name
        The name of the file in messages.

    Attributes
    ----------
    header
        The header of the file; None before the first block.
    remarks
        Oddities of the file; complete after the last block.

    Raises
    ------
    AudioError
        For the same reasons as `read_audio`, possibly after some blocks were already yielded.
    """

    def __init__(
        self,
        path: Path,
        *,
        sr: int,
        channel: Channel = "mean",
        name: Location | Path | None = None,
    ) -> None:
        self._path, self._sr, self._channel = path, sr, channel
        self._name = path if name is None else name
        self.header: AudioHeader | None = None
        self.remarks: tuple[str, ...] = ()

    def low_rate(self) -> tuple[str, ...]:
        """Remark on a low sample rate like the function `low_rate`, after the first block."""
        return () if self.header is None else low_rate(self.header.sr, sr=self._sr)

    def mismatches(self) -> tuple[str, ...]:
        """Remark on differences from training like `mismatches`, after the first block."""
        if self.header is None:
            return ()
        return mismatches(self.header.sr, self.header.channels, sr=self._sr, channel=self._channel)

    def __iter__(self) -> Iterator[NDArray[np.float32]]:
        """Decode the file from its beginning."""
        with _opened(self._path, self._name) as source:
            self.header = source.header
            if self._channel != "mean" and self._channel >= self.header.channels:
                raise AudioError(
                    f"'{self._name}' has {self.header.channels} channel(s), and "
                    f"preprocess.channel = {self._channel} counts from 0. Choose a channel that is "
                    'there, or "mean".'
                )
            yield from self._resampled(source)

    def _resampled(self, source: _Source) -> Iterator[NDArray[np.float32]]:
        name, sr, mixer = self._name, source.header.sr, Mixer(self._channel)
        silent = True
        resampler = None if sr == self._sr else soxr.ResampleStream(sr, self._sr, 1)
        done = 0
        for y in mixer.mono(source.blocks()):
            if not np.isfinite(y).all():
                raise AudioError(
                    f"'{name}' holds NaN or infinite samples after {done / sr:.1f} s. Expected "
                    "finite ones; export it again."
                )
            done += len(y)
            silent = silent and not y.any()
            last = len(y) == 0
            if resampler is not None:
                y = resampler.resample_chunk(np.ascontiguousarray(y), last=last)
            if len(y):
                yield y
        if silent:
            raise AudioError(
                f"'{name}' is silent: all {mixer.frames} samples are zero. Expected speech; check "
                "that the recording is the right one."
            )
        self.remarks = (*source.remarks(), *mixer.remarks(sr))


def low_rate(found_sr: int, *, sr: int) -> tuple[str, ...]:
    """Remark on the rate of a recording if it is below the model's rate `sr`.

    >>> low_rate(8000, sr=16000)
    ('its sample rate of 8000 Hz is below 16000 Hz: it holds nothing above 4000 Hz',)
    >>> low_rate(16000, sr=16000)
    ()
    """
    if found_sr >= sr:
        return ()
    return (
        f"its sample rate of {found_sr:g} Hz is below {sr} Hz: it holds nothing above "
        f"{found_sr / 2:g} Hz",
    )


def mismatches(
    found_sr: int, channels: int, *, sr: int, channel: Channel = "mean"
) -> tuple[str, ...]:
    """Remark on rate and channels of a recording that differ from the model's training.

    >>> mismatches(8000, 1, sr=16000)
    ('its sample rate of 8000 Hz is below 16000 Hz: it holds nothing above 4000 Hz',)
    """
    found = list(low_rate(found_sr, sr=sr))
    if channels > 1 and channel == "mean":
        found.append(f"its {channels} channels were mixed to one, their mean")
    return tuple(found)


class _Source:
    """A file that is open for decoding; all its parts appear as one stream of blocks."""

    def __init__(self, name: Location | Path, layout: Layout, path: Path) -> None:
        self._name, self._layout, self._path = name, layout, path
        self._media: MediaSound | None = None
        self._parts: tuple[Part | None, ...] = layout.parts or (None,)
        if layout.decoder == "ffmpeg":
            self._media = MediaSound(path, name)
            known = [(self._media.frames, self._media.samplerate, self._media.channels)]
        else:
            known = self._known(self._parts)
            if layout.if_short:
                with suppress(AudioError):
                    plain = self._known((None,))
                    if plain[0][0] >= (layout.frames or 0):
                        known, self._parts = plain, (None,)
        self._frames = [frames for frames, _, _ in known]
        _, sr, channels = known[0]
        for number, (_, other_sr, other_channels) in enumerate(known[1:], 2):
            if (other_sr, other_channels) != (sr, channels):
                raise AudioError(
                    f"'{name}' is made of {len(known)} streams, and number {number} has "
                    f"{other_sr} Hz and {other_channels} channel(s), not {sr} Hz and {channels}. "
                    "Expected one rate and number of channels throughout; export each stream as a "
                    "file of its own."
                )
        self._unknown = _UNKNOWN_FRAMES in self._frames
        frames = sum(self._frames) if layout.frames is None else layout.frames
        if self._unknown:
            frames = self._counted()
        if frames == 0:
            raise AudioError(f"'{name}' is empty: it holds 0 samples. Record it again.")
        if not _LEAST_SR <= sr <= _MOST_SR:
            raise AudioError(
                f"'{name}' has a sample rate of {sr} Hz in its header. Expected {_LEAST_SR} to "
                f"{_MOST_SR}; the header may be damaged: export the file again."
            )
        self.header = AudioHeader(frames, sr, channels)

    def blocks(self) -> Iterator[Block]:
        """Decode all parts in blocks `[frames, channels]`; only the last block is empty.

        Raises
        ------
        AudioError
            If the decoder gives fewer samples than the file should hold.
        """
        done = 0
        held: list[Block] = []
        for block in self._decoded():
            done += len(block)
            # Every block but the last two has the same length, even if a part ends inside it.
            held.append(block)
            if sum(map(len, held)) >= _BLOCK_FRAMES:
                whole = _joined(held)
                yield whole[:_BLOCK_FRAMES]
                held = [whole[_BLOCK_FRAMES:]] if len(whole) > _BLOCK_FRAMES else []
        if held:
            yield _joined(held)
        header, layout = self.header, self._layout
        tolerance = layout.tolerance
        if self._media is not None:
            tolerance = max(round(_MEDIA_SECONDS * header.sr), header.frames // 1000)
        if done + tolerance < header.frames:
            raise truncated(self._name, done / header.sr, header.frames / header.sr)
        yield np.empty((0, header.channels), np.float32)

    def remarks(self) -> tuple[str, ...]:
        """Return remarks on oddities that cause no loss of sound."""
        found = list(self._layout.remarks)
        if self._unknown:
            found.append("its header gives no length, so it was read to its end")
        if self._media is not None:
            found += self._media.remarks
        if len(self._layout.parts) > 1:
            found.append(f"it is made of {len(self._layout.parts)} streams, which were joined")
        return tuple(found)

    def close(self) -> None:
        """Close the file."""
        if self._media is not None:
            self._media.close()

    def _decoded(self) -> Iterator[Block]:
        if self._media is not None:
            while len(block := self._media.read(_BLOCK_FRAMES)):
                yield block
            return
        before = 0
        for part, stated in zip(self._parts, self._frames, strict=True):
            frames = 0
            with _decoder(self._path, part, self._name) as sound:
                # Sixteen-bit samples are read as integers, because libsndfile converts them slowly.
                kind = "int16" if sound.subtype == "PCM_16" else "float32"
                while True:
                    try:
                        block = sound.read(_BLOCK_FRAMES, dtype=kind, always_2d=True)
                    except soundfile.SoundFileError as error:
                        raise self._broken(before + frames, error) from error
                    if not len(block):
                        break
                    frames += len(block)
                    yield block
            if self._layout.frames is None and not self._unknown and frames < stated:
                sr = self.header.sr
                raise truncated(self._name, (before + frames) / sr, (before + stated) / sr)
            before += frames

    def _broken(self, frames: int, error: Exception) -> AudioError:
        sr = self.header.sr
        whole = "" if self._unknown else f" of {self.header.frames / sr:.1f}"
        return AudioError(
            f"'{self._name}' stops making sense after {frames / sr:.1f}{whole} s: {error}. It is "
            "damaged or truncated; restore it from its source."
        )

    def _known(self, parts: tuple[Part | None, ...]) -> list[tuple[int, int, int]]:
        """Ask libsndfile for samples per channel, rate and channels of each part."""
        known = []
        for part in parts:
            with _decoder(self._path, part, self._name) as sound:
                known.append((sound.frames, sound.samplerate, sound.channels))
        return known

    def _counted(self) -> int:
        """Count the samples of a file whose header does not state their number."""
        # The rate is only a placeholder for an error message, because the true one is not set yet.
        self.header = AudioHeader(_UNKNOWN_FRAMES, _MOST_SR, 1)
        return sum(map(len, self._decoded()))


def _joined(blocks: list[Block]) -> Block:
    if len(blocks) == 1:
        return blocks[0]
    joined: Block = np.concatenate(blocks)  # type: ignore[assignment]
    return joined


@contextmanager
def _decoder(path: Path, part: Part | None, name: Location | Path) -> Iterator[soundfile.SoundFile]:
    """Open a file, or a part of it, with libsndfile."""
    with ExitStack() as stack:
        target: Any = path
        if part is not None:
            target = stack.enter_context(PartFile(path.open("rb"), part))
        try:
            sound = _Forwards(target)
        except soundfile.SoundFileError as error:
            why = str(error).replace(f"Error opening {target!r}: ", "")
            raise _UndecodableError(
                f"'{name}' is not audio that can be decoded: {why} Expected WAV, FLAC, Ogg or "
                "MP3; it may be damaged, or another kind of file under that name."
            ) from error
        stack.enter_context(sound)
        if sound.format not in _JUDGED:
            raise AudioError(
                f"'{name}' is of the format {sound.format_info}, and nothing tells whether such a "
                "file is whole. Convert it to WAV or FLAC."
            )
        yield sound


@contextmanager
def _opened(path: Path, name: Location | Path) -> Iterator[_Source]:
    """Open a file for decoding, after checking that its size agrees with its header."""
    size = _require_file(path, name).st_size
    if size == 0:
        raise AudioError(f"'{name}' is empty: it has no bytes. Restore it from its source.")
    try:
        with path.open("rb") as file:
            start = file.read(_POINTER_BYTES)
            _require_content(start, name)
            file.seek(0)
            layout = lay_out(file, size, name)
    except OSError as error:
        raise _unreadable(name, error) from error
    try:
        source = _Source(name, layout, path)
    except _UndecodableError:
        # A file that libsndfile cannot open may have a format of FFmpeg's that begins with no mark,
        # or a codec that only FFmpeg decodes in a container that both know (Speex in Ogg, ALAC in
        # CAF).
        by_suffix = layout == Layout() and Path(str(name)).suffix.lower() in MEDIA_SUFFIXES
        if not (by_suffix or start.startswith(_SHARED)):
            raise
        source = _Source(name, Layout(decoder="ffmpeg"), path)
    with closing(source):
        yield source


def _require_content(head: bytes, name: Location | Path) -> None:
    """Refuse the short text that git-LFS or git-annex leaves if content was not fetched."""
    if is_address(head):
        raise UnreadableError(
            f"'{name}' holds the address of its content in place of it: the content was not "
            "fetched. Fetch it (git lfs pull, git annex get)."
        )


def _unreadable(name: Location | Path, error: OSError) -> UnreadableError:
    return UnreadableError(
        f"'{name}' cannot be read: {error}. Check that it is there and may be read."
    )
