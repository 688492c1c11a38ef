"""Measure, link, copy and cut the sound of recordings."""

from __future__ import annotations

import io
import os
import shutil
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np
import soundfile
from numpy.typing import NDArray

from valence.audio.decoding import read_audio, read_header
from valence.errors import AudioError
from valence.importing.sources.stretches import Sound
from valence.storage.location import Location

Placing = Literal["link", "copy"]
Placed = Literal["link", "copy", "cut"]

# Ends of stretches are rounded; more than this behind the end of the file is remarked on.
_BEHIND_SECONDS = 0.5
_COPY_BYTES = 2**20


@dataclass(frozen=True)
class Length:
    """The length of a recording.

    Attributes
    ----------
    seconds
        The length of each of its stretches of sound, in their order.
    remarks
        Oddities that were accepted.
    """

    seconds: tuple[float, ...]
    remarks: tuple[str, ...] = ()

    @property
    def total(self) -> float:
        """Return the whole length in seconds."""
        return sum(self.seconds)


def measure(sounds: tuple[Sound, ...]) -> Length:
    """Read the length of a recording from the headers of its files.

    Raises
    ------
    AudioError
        If a file cannot be read, a stretch begins behind its end, or a channel is not there.
    """
    seconds, remarks = [], []
    for sound in sounds:
        header = read_header(sound.file)
        end = header.duration if sound.end is None else min(sound.end, header.duration)
        if end <= sound.start:
            raise AudioError(
                f"'{sound.file}' lasts {header.duration:g} s, and a stretch begins at "
                f"{sound.start:g} s. Expected stretches inside of the file; correct the table that "
                "cuts it."
            )
        if sound.channel is not None and sound.channel >= header.channels:
            raise AudioError(
                f"'{sound.file}' has {header.channels} channels, and channel {sound.channel} is "
                "named. Expected a number below that, counted from 0; correct the table that cuts "
                "the file."
            )
        if sound.end is not None and sound.end > header.duration + _BEHIND_SECONDS:
            remarks.append(
                f"is cut up to {sound.end:g} s of '{sound.file.name}', which lasts "
                f"{header.duration:g} s"
            )
        seconds.append(end - sound.start)
    return Length(tuple(seconds), tuple(remarks))


def ending_of(sounds: tuple[Sound, ...]) -> str:
    """Return the ending that the sound of a recording gets."""
    return sounds[0].file.suffix if _is_whole(sounds) else ".wav"


def place(sounds: tuple[Sound, ...], target: Location, placing: Placing) -> Placed:
    """Put the sound of a recording into its file, and say how.

    A whole file is linked or copied. Stretches are written as one WAV file
    of float32 samples, one channel, at the rate of the first of them.

    Raises
    ------
    AudioError
        If a stretch cannot be decoded.
    OSError
        If a file cannot be written.
    """
    only = sounds[0]
    if not _is_whole(sounds):
        _write(sounds, target)
        return "cut"
    if placing == "link" and target.local is not None and only.file.local is not None:
        _link(only.file, target)
        return "link"
    with only.file.open() as source, target.writer() as copy:
        shutil.copyfileobj(source, copy, _COPY_BYTES)
    return "copy"


def _is_whole(sounds: tuple[Sound, ...]) -> bool:
    only = sounds[0]
    return len(sounds) == 1 and not only.start and only.end is None and only.channel is None


def _link(file: Location, target: Location) -> None:
    """Set a link that appears as a whole, also in the place of an older one."""
    assert file.local is not None
    assert target.local is not None
    target.local.parent.mkdir(parents=True, exist_ok=True)
    partial = target.local.parent / f".{os.getpid()}.link.partial"
    partial.unlink(missing_ok=True)
    partial.symlink_to(file.local)
    partial.replace(target.local)


def _write(sounds: tuple[Sound, ...], target: Location) -> None:
    sr = read_header(sounds[0].file).sr
    pieces = []
    for sound in sounds:
        y = _decoded(sound.file, sr, sound.channel, _version(sound.file))
        end = None if sound.end is None else round(sound.end * sr)
        pieces.append(y[round(sound.start * sr) : end])
    content = io.BytesIO()
    soundfile.write(content, np.concatenate(pieces), sr, format="WAV", subtype="FLOAT")
    target.write_bytes(content.getvalue())


@lru_cache(maxsize=1)
def _decoded(file: Location, sr: int, channel: int | None, info: str) -> NDArray[np.float32]:
    """Decode a file; the last one is kept, because its stretches follow each other.

    The size and time of a file in `info` tell a changed file from the one before.
    """
    y = read_audio(file, sr=sr, channel="mean" if channel is None else channel)
    y.flags.writeable = False
    return y


def _version(file: Location) -> str:
    info = file.info()
    return f"{info.size} {info.mtime_ns}"
