"""A recording from its audio file to its file in the segment store.

Everything is computed in chunks of a fixed number of segments, counted from the beginning of the
recording: memory does not grow with its length, and a value depends on the recording alone.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from valence.audio import checksum, iter_audio, on_disk
from valence.clock import StepClock
from valence.config import Config
from valence.errors import AnnotationError, AudioError, CorpusError, UnreadableError
from valence.jobs import Job, Outcome, Status, settings_fingerprint
from valence.labels import Labels, read_labels, require_labelled
from valence.run import fingerprint
from valence.segments import BLOCK_SEGMENTS, Segments, SegmentStore, Stored
from valence.spectrograms import CHUNK_SEGMENTS, iter_spectrograms
from valence.standardization import Moments
from valence.storage import Location

__all__ = ["Job", "Outcome", "process_recording"]


def process_recording(
    job: Job,
    store: SegmentStore,
    config: Config,
    *,
    replace: bool = True,
    block_segments: int = BLOCK_SEGMENTS,
) -> Outcome:
    """Bring a recording into the store, unless it stands there as it would be made.

    Parameters
    ----------
    job
        The recording.
    store
        Its file appears there, whole, or does not appear.
    config
        How it is made.
    replace
        Whether a file made from other audio or labels may be replaced. One made with another
        configuration always is.
    block_segments
        Segments of a row group, a multiple of 20; the stored values do not depend on it.

    Returns
    -------
    The outcome. What is wrong with the recording's own files is told there and not raised.

    Raises
    ------
    OSError
        If the store cannot be read or written, or there is no room for a copy of the audio here.
    """
    return _Processing(job, store, config, replace, block_segments).outcome()


class _Processing:
    """One recording on its way: what is known of it so far."""

    def __init__(
        self, job: Job, store: SegmentStore, config: Config, replace: bool, block_segments: int
    ) -> None:
        assert block_segments % CHUNK_SEGMENTS == 0, "blocks begin where a chunk does"
        self._job, self._store, self._config = job, store, config
        self._replace, self._block_segments = replace, block_segments
        self._settings = settings_fingerprint(job, config)
        self._clock = StepClock()
        self._known: dict[str, Any] = {"remarks": job.recording.remarks}

    def outcome(self) -> Outcome:
        recording = self._job.recording
        if self._store.is_reserved(recording.id):
            return self._told(
                "rejected",
                reason=f"'{recording.audio}' has the Id '{recording.id}', the name of a file of "
                "the store itself. Rename the recording and its label files.",
            )
        try:
            with self._fetched() as path:
                return self._from(path)
        except UnreadableError as error:
            # What stands in the store may well be what the file holds: the next call will see.
            return self._told("rejected", reason=str(error))
        except CorpusError as error:
            if self._standing() is not None and not self._replace:
                return self._told("stale", reason=str(error))
            self._store.file(recording.id).delete()
            return self._told("rejected", reason=str(error))

    @contextmanager
    def _fetched(self) -> Iterator[Path]:
        """The audio on this node's disk, with the time that it takes to get there."""
        with ExitStack() as stack:
            with self._clock.step("fetch"):
                path = stack.enter_context(on_disk(self._job.recording.audio))
            yield path

    def _from(self, path: Path) -> Outcome:
        recording = self._job.recording
        with self._clock.step("check"):
            content = self._content(path)
            stored = self._standing()
            changed = stored is not None and stored.content != content
            if changed and not self._replace:
                return self._told(
                    "stale",
                    reason=f"the audio or labels of '{recording.id}' are not those that its "
                    "stored segments were made from",
                )
            labels = read_labels(
                recording,
                self._job.split,
                targets=self._config.model.targets,
                step_ms=self._config.preprocess.segment_ms,
            )
        if stored is None or changed:
            stored = self._make(path, content, labels)
        else:
            self._known["skipped"] = True
            self._judge(labels, stored.segments, stored.duration)
        moments = stored.moments[0]
        for further in stored.moments[1:]:
            moments = moments.merge(further)
        return self._told(
            "ok", moments=moments, stored_bytes=int(self._store.file(recording.id).info().size)
        )

    def _standing(self) -> Stored | None:
        """What the store holds of the recording as this configuration makes it."""
        stored = self._store.stored(self._job.recording.id)
        return stored if stored is not None and stored.settings == self._settings else None

    def _content(self, path: Path) -> str:
        """Fingerprint of the audio and label files."""
        recording = self._job.recording
        try:
            self._known["checksum"] = checksum(path)
        except OSError as error:
            raise UnreadableError(
                f"'{recording.audio}' cannot be read: {error}. Check that it is there and may be "
                "read."
            ) from error
        labels = {target: _digest(file) for target, file in recording.labels.items()}
        content = fingerprint({"audio": self._known["checksum"], "labels": labels})
        self._known["fingerprint"] = fingerprint({"settings": self._settings, "content": content})
        return content

    def _make(self, path: Path, content: str, labels: Labels) -> Stored:
        """Write the recording's file, unless it turns out on the way that it is of no use."""
        config, recording, copies = self._config, self._job.recording, self._job.copies
        shape, dtype = (config.mel.n_mels, config.mel.n_frames), config.preprocess.dtype
        samples = 0

        def counted() -> Iterator[NDArray[np.float32]]:
            nonlocal samples
            for block in iter_audio(path, sr=config.preprocess.sr, name=recording.audio):
                samples += len(block)
                yield block

        moments = [Moments.empty(config.mel.n_mels) for _ in range(copies + 1)]
        buffers = [np.empty((self._block_segments, *shape), dtype) for _ in moments]
        first, filled = 0, 0
        with self._store.writer(recording.id, shape=shape, dtype=dtype) as writer:

            def flush() -> None:
                with self._clock.step("store"):
                    for copy, buffer in enumerate(buffers):
                        block = self._block(labels, copy, first, buffer[:filled])
                        writer.write(block, first_segment=first)

            for chunk in iter_spectrograms(
                counted(), config, recording=recording.id, copies=copies, clock=self._clock
            ):
                n = len(chunk[0])
                with self._clock.step("mel"):
                    for copy, mel in enumerate(chunk):
                        stored_as = buffers[copy][filled : filled + n]
                        stored_as[:] = mel
                        moments[copy] = moments[copy].merge(Moments.from_mel(stored_as))
                filled += n
                if filled == self._block_segments:
                    flush()
                    first, filled = first + filled, 0
            if filled:
                flush()
            segments, duration = first + filled, samples / config.preprocess.sr
            self._judge(labels, segments, duration)
            checked = self._known["checksum"]
            stored = Stored(self._settings, content, checked, duration, segments, tuple(moments))
            with self._clock.step("store"):
                writer.finish(stored)
        return stored

    def _block(
        self, labels: Labels, copy: int, first: int, mel: NDArray[np.floating[Any]]
    ) -> Segments:
        config, n = self._config.preprocess, len(mel)
        return Segments(
            self._job.recording.id,
            copy,
            np.arange(first, first + n, dtype=np.int64)
            * config.segment_samples
            * 1000
            // config.sr,
            labels.part("valence", first, n),
            labels.part("arousal", first, n),
            mel,
        )

    def _judge(self, labels: Labels, segments: int, duration: float) -> None:
        """Note what the recording holds, and reject one that later stages could not use."""
        config, recording = self._config, self._job.recording
        labelled, remarks = labels.joined(segments, config.model.targets)
        self._known |= {
            "segments": segments,
            "duration": duration,
            "labelled": labelled,
            "remarks": (*recording.remarks, *remarks),
        }
        if segments < config.sequence.length:
            seconds = config.sequence.length * config.preprocess.segment_seconds
            raise AudioError(
                f"'{recording.audio}' has {segments} segments ({duration:.1f} s), fewer than the "
                f"{config.sequence.length} of a sequence ({seconds:g} s). Record longer, or set "
                "sequence.length lower."
            )
        require_labelled(
            recording, self._job.split, labelled, segments, targets=config.model.targets
        )

    def _told(self, status: Status, **more: Any) -> Outcome:
        recording = self._job.recording
        return Outcome(
            recording.id,
            recording.subject,
            self._job.split,
            self._job.copies,
            status=status,
            seconds=dict(self._clock.seconds),
            **self._known,
            **more,
        )


def _digest(file: Location) -> str:
    try:
        return hashlib.sha256(file.read_bytes()).hexdigest()
    except OSError as error:
        raise AnnotationError(
            f"'{file}' cannot be read: {error}. Check that it is there and may be read."
        ) from error
