"""Turn a recording into what a page carries: a compressed stream, and a picture of its mel."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import soundfile
from numpy.typing import NDArray
from PIL import Image

from valence.audio.decoding import AudioReading
from valence.audio.mel import FLOOR_POWER, log_mel
from valence.audio.mixing import Channel
from valence.audio.segmentation import iter_segments
from valence.config import MelConfig
from valence.figures.drawing import SOUND_MAP
from valence.storage.location import Location

SR = 16_000
"""Sample rate of the sound on a page, in Hz."""
BYTES_A_SECOND = 5_000
"""Bytes of a second of that sound: MP3 of 40 kbit/s, one channel."""
MOST_BYTES = 18_000_000
"""Most bytes of sound in a page: one hour."""

# libsndfile maps 0 to 1 onto the bit rates of an encoder; this gives 40 kbit/s at 16 kHz. At lower
# rates the encoder writes no header with its delay, and the sound would begin 69 ms late.
_COMPRESSION = 0.8
_FORMAT, _SUBTYPE = "MP3", "MPEG_LAYER_III"
_N_FFT, _HOP, _BANDS = 1024, 256, 64
# Columns of the picture, more than a page is wide in pixels; and the most of one segment.
_COLUMNS = 1200
_MOST_PER_SEGMENT = 16
# Powers this far below the loudest are black.
_RANGE_DB = 70.0
_CHUNK_SEGMENTS = 20


@dataclass(frozen=True, eq=False)
class Sound:
    """The sound of a page.

    Attributes
    ----------
    stream
        MP3, or None if it was not asked for or cannot be made here.
    mel
        Mel spectrogram in dB of the sound as recorded, float32 `[bands, columns]`, thinned to what
        a screen shows. The lowest band is the first row.
    """

    stream: bytes | None
    mel: NDArray[np.float32]

    @property
    def stream_uri(self) -> str:
        """Encode the stream as a data URI."""
        assert self.stream is not None, "the page carries its sound"
        return f"data:audio/mpeg;base64,{base64.b64encode(self.stream).decode()}"


def can_compress() -> bool:
    """Return whether the installed libsndfile writes MP3; libraries before 1.1 do not."""
    return _FORMAT in soundfile.available_formats()


def listen(
    path: Path,
    *,
    segments: int,
    step: float,
    channel: Channel = "mean",
    name: Location | Path | None = None,
    compress: bool = True,
) -> Sound:
    """Decode a recording once, and make its stream and its mel from it, in blocks.

    Parameters
    ----------
    path
        The file.
    segments
        Number of whole segments, which the mel covers.
    step
        Length of a segment in seconds.
    channel
        Channel that the model was given.
    name
        Name of the file in messages.
    compress
        Whether the stream is wanted.

    Raises
    ------
    AudioError
        If the file cannot be decoded.
    """
    blocks: Iterable[NDArray[np.float32]] = AudioReading(path, sr=SR, channel=channel, name=name)
    buffer = io.BytesIO()
    with ExitStack() as stack:
        if compress := compress and can_compress():
            target = stack.enter_context(
                soundfile.SoundFile(
                    buffer,
                    "w",
                    samplerate=SR,
                    channels=1,
                    format=_FORMAT,
                    subtype=_SUBTYPE,
                    compression_level=_COMPRESSION,
                    bitrate_mode="CONSTANT",
                )
            )
            blocks = _written(blocks, target)
        mel = _mel(blocks, segments, step)
    return Sound(buffer.getvalue() if compress else None, mel)


def _written(blocks: Iterable[NDArray[np.float32]], target: Any) -> Iterator[NDArray[np.float32]]:
    """Pass blocks on, and write each of them."""
    for y in blocks:
        target.write(y)
        yield y


def _mel(blocks: Iterable[NDArray[np.float32]], segments: int, step: float) -> NDArray[np.float32]:
    """Compute the thinned mel `[bands, columns]` of blocks of samples, in dB."""
    samples = round(step * SR)
    # The last frames of a segment reach into the zeros behind it.
    frames = -(-samples // _HOP)
    config = MelConfig(n_fft=_N_FFT, hop_length=_HOP, n_mels=_BANDS, n_frames=frames + 1)
    each = int(np.clip(_COLUMNS // segments, 1, min(_MOST_PER_SEGMENT, frames)))
    starts = np.linspace(0, frames, each, endpoint=False).astype(np.intp)
    sizes = np.diff(np.append(starts, frames))
    parts = [np.empty((0, _BANDS))]
    for chunk in iter_segments(blocks, samples, segments=_CHUNK_SEGMENTS):
        if len(chunk):
            power = 10 ** (log_mel(chunk, config, sr=SR)[:, :, :frames].astype(np.float64) / 10)
            columns = np.add.reduceat(power, starts, axis=2) / sizes
            parts.append(columns.transpose(0, 2, 1).reshape(-1, _BANDS))
    power = np.concatenate(parts)[: segments * each]
    # At a rate other than the model's, resampling can lose the last segment.
    lacking = segments * each - len(power)
    power = np.concatenate([power, np.full((lacking, _BANDS), FLOOR_POWER)])
    group = -(-len(power) // _COLUMNS)
    groups = np.arange(0, len(power), group)
    counts = np.diff(np.append(groups, len(power)))[:, None]
    thinned = np.add.reduceat(power, groups, axis=0) / counts
    return np.asarray(10 * np.log10(np.maximum(thinned.T, FLOOR_POWER)), np.float32)


def mel_picture(mel: NDArray[np.float32]) -> str:
    """Draw a mel `[bands, columns]` in dB as a PNG in a data URI, a pixel for each value."""
    top = float(mel.max())
    levels = np.clip((mel - (top - _RANGE_DB)) / _RANGE_DB, 0, 1)
    image = Image.fromarray(np.rint(255 * levels[::-1]).astype(np.uint8), mode="P")
    colours = mpl.colormaps[SOUND_MAP](np.arange(256), bytes=True)[:, :3]
    image.putpalette(colours.tobytes())
    buffer = io.BytesIO()
    image.save(buffer, "PNG", optimize=True)
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"
