"""Decode sound in the containers of telephones, browsers and cameras with PyAV (FFmpeg).

PyAV belongs to the extra `media`. Without it such a file is refused, and the message says how to
install it. Sound keeps its place in time: if timestamps show that packets are missing, silence
replaces them.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from valence.audio.containers.matroska import require_whole_matroska
from valence.errors import AudioError
from valence.storage.location import Location

if TYPE_CHECKING:
    from av.container import InputContainer

# Some containers round timestamps to milliseconds, and the padding of codecs shifts them a little.
_SLACK_SECONDS = 0.1
_MOST_GAP_SECONDS = 600.0


class MediaSound:
    """The first audio stream of a media file, read once from its beginning to its end.

    Parameters
    ----------
    path
        The file.
    name
        The name of the file in messages.

    Attributes
    ----------
    samplerate, channels
        Sample rate in Hz, and number of channels.
    frames
        Samples per channel, as stated by the container or computed from timestamps.
    remarks
        Oddities of the file.

    Raises
    ------
    AudioError
        If PyAV is not installed, or cannot decode any sound in the file.
    """

    subtype, format = "", "MEDIA"

    def __init__(self, path: Path, name: Location | Path) -> None:
        if importlib.util.find_spec("av") is None:
            raise AudioError(
                f"'{name}' is of a kind that PyAV decodes, which is not installed. In the folder "
                "that this program was installed from, run: pip install -e '.[media]'. Or convert "
                "the file to WAV or FLAC (ffmpeg -i IN out.flac)."
            )
        import av

        self._errors: tuple[type[Exception], ...] = (av.error.FFmpegError, ValueError)
        self._name = name
        endless = require_whole_matroska(path, name)
        try:
            self._container: InputContainer = av.open(str(path), metadata_errors="replace")
        except self._errors as error:
            raise AudioError(
                f"'{name}' is not audio that can be decoded: {error}. It may be damaged, cut, or "
                "another kind of file under that name; restore it from its source."
            ) from error
        streams = self._container.streams.audio
        if not streams:
            self._container.close()
            raise AudioError(
                f"'{name}' holds no audio stream. Expected speech; check that the file is the "
                "right one."
            )
        self._stream = streams[0]
        # If FFmpeg does not know the codec, the stream has no codec context, though PyAV's types
        # say that it always has one.
        if getattr(self._stream, "codec_context", None) is None or not self._stream.rate:
            self._container.close()
            raise AudioError(
                f"'{name}' is not audio that can be decoded: its codec is not known. It may be "
                "damaged; restore it from its source, or convert it to WAV or FLAC."
            )
        self.samplerate, self.channels = self._stream.rate, self._stream.channels
        self.remarks = list[str]()
        if endless:
            self.remarks.append("its header gives no length, so it was read to its end")
        if len(streams) > 1:
            self.remarks.append(f"it has {len(streams)} audio streams, and the first was taken")
        self._stated = self._stated_seconds()
        self._rest = np.empty((0, self.channels), np.float32)
        self._blocks: Iterator[NDArray[np.float32]] | None = None
        seconds = self._stated if self._stated is not None else self._timed_seconds(path)
        self.frames = round(seconds * self.samplerate)

    def read(self, frames: int, **_: object) -> NDArray[np.float32]:
        """Return the next samples, float32 `[frames, channels]`, or fewer at the end."""
        if self._blocks is None:
            self._blocks = self._decoded()
        parts, n = [self._rest], len(self._rest)
        while n < frames and (block := next(self._blocks, None)) is not None:
            parts.append(block)
            n += len(block)
        whole = np.concatenate(parts)
        self._rest = whole[frames:]
        return whole[:frames]

    def close(self) -> None:
        """Close the file."""
        self._container.close()

    def _decoded(self) -> Iterator[NDArray[np.float32]]:
        """Decode the frames of the stream, with silence in place of missing ones."""
        stream, done, origin = self._stream, 0, None
        try:
            for packet in self._container.demux(stream):
                if packet.is_corrupt:
                    raise self._damaged(done, "a packet is incomplete")
                for frame in packet.decode():
                    if (frame.sample_rate, len(frame.layout.channels)) != (
                        self.samplerate,
                        self.channels,
                    ):
                        raise self._damaged(done, "it changes its sample rate or channels")
                    if frame.pts is not None and frame.time_base is not None:
                        at = float(frame.pts * frame.time_base)
                        origin = at if origin is None else origin
                        gap = at - origin - done / self.samplerate
                        if gap > _MOST_GAP_SECONDS:
                            raise self._damaged(done, f"{gap:.0f} s are missing")
                        if gap > _SLACK_SECONDS:
                            n = round(gap * self.samplerate)
                            self.remarks.append(
                                f"{gap:.1f} s are missing after {done / self.samplerate:.1f} s, "
                                "where silence stands"
                            )
                            done += n
                            yield np.zeros((n, self.channels), np.float32)
                    y = _float(frame.to_ndarray(), self.channels, planar=frame.format.is_planar)
                    done += len(y)
                    yield y
        except self._errors as error:
            raise self._damaged(done, str(error)) from error
        if self._stated is None:
            self.frames = done

    def _damaged(self, done: int, why: str) -> AudioError:
        return AudioError(
            f"'{self._name}' stops making sense after {done / self.samplerate:.1f} s: {why}. It is "
            "damaged or truncated; restore it from its source."
        )

    def _stated_seconds(self) -> float | None:
        """Return the length that the stream states; the container's may be that of a video."""
        if self._container.format.name in ("aac", "amr", "mp3"):
            # Bare streams state no length, and FFmpeg only estimates it from the size.
            return None
        if self._stream.duration and self._stream.time_base:
            return float(self._stream.duration * self._stream.time_base)
        if len(self._container.streams) == 1 and self._container.duration:
            return float(self._container.duration / 1e6)
        return None

    def _timed_seconds(self, path: Path) -> float:
        """Compute the length from the timestamps of the packets, without decoding."""
        import av

        first, last = None, 0.0
        try:
            with av.open(str(path), metadata_errors="replace") as container:
                for packet in container.demux(container.streams.audio[0]):
                    if packet.pts is not None and packet.time_base is not None:
                        at = float(packet.pts * packet.time_base)
                        first = at if first is None else first
                        last = max(last, at + float((packet.duration or 0) * packet.time_base))
        except self._errors as error:
            raise self._damaged(0, str(error)) from error
        return last - (first or 0.0)


def _float(y: NDArray[Any], channels: int, *, planar: bool) -> NDArray[np.float32]:
    """Convert PyAV's samples to float32 `[frames, channels]`, where full scale is 1."""
    y = y.T if planar else y.reshape(-1, channels)
    if y.dtype.kind == "f":
        return np.ascontiguousarray(y, np.float32)
    if y.dtype == np.uint8:
        return (y.astype(np.float32) - 128) / np.float32(128)
    return np.asarray(y / -float(np.iinfo(y.dtype).min), np.float32)
