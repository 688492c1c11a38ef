"""A recording from its audio file to its file in the segment store.

Everything is computed in blocks of a fixed number of segments, counted from the beginning of the
recording: memory does not grow with its length, and a value depends on the recording alone.
"""

from __future__ import annotations

import hashlib
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from valence.annotation import Annotation, join_annotation, read_annotation
from valence.audio import checksum, iter_audio, iter_segments, normalize, on_disk
from valence.augmentation import augment
from valence.config import Config, Target
from valence.corpus import TARGETS
from valence.errors import AnnotationError, AudioError, CorpusError
from valence.jobs import Job, Outcome, Status, settings_fingerprint
from valence.mel import log_mel
from valence.run import fingerprint
from valence.segments import BLOCK_SEGMENTS, Segments, SegmentStore, Stored
from valence.splits import SplitName
from valence.standardization import Moments

__all__ = ["Job", "Outcome", "process_recording"]

Step = Literal["check", "decode", "level", "augment", "mel", "store"]

# Segments decoded, levelled and transformed at once: what one step leaves in the cache the next one
# finds there.
_CHUNK_SEGMENTS = 60

_NEEDS_LABELS: tuple[SplitName, ...] = ("train", "validation")


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
        Segments of a row group, a multiple of 60; the stored values do not depend on it.

    Returns
    -------
    The outcome. What is wrong with the recording's own files is told there and not raised.

    Raises
    ------
    OSError
        If the store cannot be read or written.
    """
    return _Processing(job, store, config, replace, block_segments).outcome()


class _Processing:
    """One recording on its way: what is known of it so far."""

    def __init__(
        self, job: Job, store: SegmentStore, config: Config, replace: bool, block_segments: int
    ) -> None:
        assert block_segments % _CHUNK_SEGMENTS == 0, "blocks begin where a chunk does"
        self._job, self._store, self._config = job, store, config
        self._replace, self._block_segments = replace, block_segments
        self._settings = settings_fingerprint(job, config)
        self._seconds: dict[str, float] = defaultdict(float)
        self._known: dict[str, Any] = {
            "id": job.recording.id,
            "subject": job.recording.subject,
            "split": job.split,
            "copies": job.copies,
        }
        self._remarks: list[str] = list(job.recording.remarks)

    def outcome(self) -> Outcome:
        recording = self._job.recording
        if self._store.is_reserved(recording.id):
            return self._told(
                "rejected",
                reason=f"'{recording.audio}' has the Id '{recording.id}', the name of a file of "
                "the store itself. Rename the recording and its label files.",
            )
        try:
            with on_disk(recording.audio) as path:
                return self._from(path)
        except CorpusError as error:
            file = self._store.file(recording.id)
            if self._standing() is not None and not self._replace:
                return self._told("stale", reason=str(error))
            file.delete()
            return self._told("rejected", reason=str(error))

    def _standing(self) -> Stored | None:
        """What the store holds of the recording as this configuration makes it."""
        stored = self._store.stored(self._job.recording.id)
        return stored if stored is not None and stored.settings == self._settings else None

    def _from(self, path: Path) -> Outcome:
        recording = self._job.recording
        with self._timed("check"):
            content = self._content(path)
            stored = self._standing()
            if stored is not None and stored.content != content:
                if not self._replace:
                    return self._told(
                        "stale",
                        reason=f"the audio or labels of '{recording.id}' are not those that its "
                        "stored segments were made from",
                    )
                stored = None
            annotations = self._annotations()
        if stored is None:
            stored = self._make(path, content, annotations)
        else:
            self._known["skipped"] = True
            self._check(annotations, stored.segments, stored.duration)
        moments = stored.moments[0]
        for further in stored.moments[1:]:
            moments = moments.merge(further)
        return self._told(
            "ok", moments=moments, stored_bytes=int(self._store.file(recording.id).info().size)
        )

    def _content(self, path: Path) -> str:
        """Fingerprint of the audio and label files."""
        recording = self._job.recording
        try:
            self._known["checksum"] = checksum(path)
        except OSError as error:
            raise AudioError(
                f"'{recording.audio}' cannot be read: {error}. Check that it is there and may be "
                "read."
            ) from error
        content = fingerprint(
            {
                "audio": self._known["checksum"],
                "labels": {name: _digest(file) for name, file in recording.labels.items()},
            }
        )
        self._known["fingerprint"] = fingerprint({"settings": self._settings, "content": content})
        return content

    def _told(self, status: Status, **more: Any) -> Outcome:
        return Outcome(
            **self._known,
            status=status,
            remarks=tuple(self._remarks),
            seconds=dict(self._seconds),
            **more,
        )

    def _annotations(self) -> dict[Target, Annotation]:
        """The labels of each target that has a label file which can be read.

        A recording that no label is needed of keeps its place when a label file is damaged.
        """
        annotations: dict[Target, Annotation] = {}
        for name, file in self._job.recording.labels.items():
            try:
                annotations[name] = read_annotation(
                    file, step_ms=self._config.preprocess.segment_ms
                )
            except AnnotationError as error:
                if self._job.split != "unlabelled":
                    raise
                self._remarks.append(f"labels not used: {error}")
        if self._job.split in _NEEDS_LABELS:
            for name in self._config.model.targets:
                if name not in annotations:
                    raise AnnotationError(
                        f"'{self._job.recording.id}' is a {self._job.split} recording and has no "
                        f"label file for {name}. Expected label_segments/{name}/"
                        f"{self._job.recording.id}.csv; add it, or take the recording out."
                    )
        return annotations

    def _check(self, annotations: dict[Target, Annotation], segments: int, duration: float) -> None:
        """Note what the recording holds, and reject one that later stages could not use."""
        config, recording = self._config, self._job.recording
        usable = np.ones(segments, bool)
        for name in TARGETS:
            if name in annotations:
                labels, remarks = join_annotation(annotations[name], segments)
                self._remarks += [f"{name}: {remark}" for remark in remarks]
            else:
                labels = np.full(segments, np.nan, np.float32)
            if name in config.model.targets:
                usable &= np.isfinite(labels)
        labelled = int(usable.sum())
        self._known |= {"segments": segments, "duration": duration, "labelled": labelled}
        if segments < config.sequence.length:
            seconds = config.sequence.length * config.preprocess.segment_seconds
            raise AudioError(
                f"'{recording.audio}' has {segments} segments ({duration:.1f} s), fewer than the "
                f"{config.sequence.length} of a sequence ({seconds:g} s). Record longer, or set "
                "sequence.length lower."
            )
        if self._job.split in _NEEDS_LABELS and not labelled:
            raise AnnotationError(
                f"'{recording.id}' is a {self._job.split} recording and none of its {segments} "
                f"segments has a label for {' and '.join(config.model.targets)}. Fill in its label "
                "files, or take the recording out."
            )

    def _make(self, path: Path, content: str, annotations: dict[Target, Annotation]) -> Stored:
        config, job = self._config, self._job
        shape = (config.mel.n_mels, config.mel.n_frames)
        dtype = config.preprocess.dtype
        samples = 0

        def counted(blocks: Iterator[NDArray[np.float32]]) -> Iterator[NDArray[np.float32]]:
            nonlocal samples
            for block in blocks:
                samples += len(block)
                yield block

        blocks = counted(iter_audio(path, sr=config.preprocess.sr, name=job.recording.audio))
        chunks = iter_segments(blocks, config.preprocess.segment_samples, segments=_CHUNK_SEGMENTS)
        moments = [Moments.empty(config.mel.n_mels) for _ in range(job.copies + 1)]
        buffers = [np.empty((self._block_segments, *shape), dtype) for _ in moments]
        first, filled = 0, 0
        with self._store.writer(job.recording.id, shape=shape, dtype=dtype) as writer:

            def flush() -> None:
                with self._timed("store"):
                    for copy, buffer in enumerate(buffers):
                        block = self._block(annotations, copy, first, buffer[:filled])
                        writer.write(block, first_segment=first)

            while True:
                with self._timed("decode"):
                    chunk = next(chunks, None)
                if chunk is None:
                    break
                with self._timed("level"):
                    clean = normalize(
                        chunk,
                        level=config.preprocess.level,
                        level_dbfs=config.preprocess.level_dbfs,
                    )
                for copy, buffer in enumerate(buffers):
                    mel = self._mel(clean, copy, first + filled)
                    buffer[filled : filled + len(mel)] = mel
                    moments[copy] = moments[copy].merge(Moments.from_mel(mel))
                filled += len(clean)
                if filled == self._block_segments:
                    flush()
                    first, filled = first + filled, 0
            if filled:
                flush()
            segments, duration = first + filled, samples / config.preprocess.sr
            self._check(annotations, segments, duration)
            stored = Stored(
                self._settings,
                content,
                self._known["checksum"],
                duration,
                segments,
                tuple(moments),
            )
            with self._timed("store"):
                writer.finish(stored)
        return stored

    def _mel(self, clean: NDArray[np.float32], copy: int, first: int) -> NDArray[np.floating[Any]]:
        config = self._config
        segments = clean
        if copy:
            with self._timed("augment"):
                segments = augment(
                    clean,
                    config.augment,
                    sr=config.preprocess.sr,
                    seed=config.preprocess.seed,
                    recording=self._job.recording.id,
                    copy=copy,
                    first_segment=first,
                )
        with self._timed("mel"):
            mel = log_mel(segments, config.mel, sr=config.preprocess.sr)
            return mel.astype(config.preprocess.dtype)

    def _block(
        self,
        annotations: dict[Target, Annotation],
        copy: int,
        first: int,
        mel: NDArray[np.floating[Any]],
    ) -> Segments:
        config = self._config.preprocess
        index = np.arange(first, first + len(mel), dtype=np.int64)
        labels = {}
        for name in TARGETS:
            labels[name] = np.full(len(mel), np.nan, np.float32)
            if name in annotations:
                part = annotations[name].value[first : first + len(mel)]
                labels[name][: len(part)] = part
        return Segments(
            self._job.recording.id,
            copy,
            index * config.segment_samples * 1000 // config.sr,
            labels["valence"],
            labels["arousal"],
            mel,
        )

    @contextmanager
    def _timed(self, step: Step) -> Iterator[None]:
        start = time.perf_counter()
        try:
            yield
        finally:
            self._seconds[step] += time.perf_counter() - start


def _digest(file: Any) -> str:
    try:
        return hashlib.sha256(file.read_bytes()).hexdigest()
    except OSError as error:
        raise AnnotationError(
            f"'{file}' cannot be read: {error}. Check that it is there and may be read."
        ) from error
