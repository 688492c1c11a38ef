"""Turn the audio file of a recording into its file in the segment store.

Everything is computed in chunks of a fixed number of segments, counted from the beginning of the
recording. So memory does not grow with the length of the recording, and values depend on the
recording alone. Several tasks can therefore each make a part of a long recording, and the parts
join to the same bytes.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pyarrow.fs import FileInfo, FileType

from valence.audio.decoding import AudioReading, Witness, checksum, header, on_disk
from valence.audio.standardization import MelMoments
from valence.config import Config
from valence.corpus.labels import Labels, digest_of_labels, read_labels, require_labelled
from valence.errors import AudioError, CorpusError, UnreadableError
from valence.provenance import fingerprint
from valence.segments.jobs import (
    Cut,
    Job,
    PartOutcome,
    RecordingOutcome,
    Status,
    settings_fingerprint,
)
from valence.segments.parquet import RecordingWriter
from valence.segments.spectrograms import iter_spectrograms
from valence.segments.store import BLOCK_SEGMENTS, SegmentPart, Segments, SegmentStore, Stored
from valence.segments.timing import StepClock
from valence.storage.filenames import printable
from valence.storage.location import Location

__all__ = [
    "PART_SEGMENTS",
    "Job",
    "RecordingOutcome",
    "begin_recording",
    "join_parts",
    "process_part",
    "process_recording",
]

# Most segments in a part: two hours at the defaults, which take a few seconds to process.
PART_SEGMENTS = 12 * BLOCK_SEGMENTS
# A header may claim any length, so the size of the file limits the number of parts too: no codec
# stores two hours of speech in fewer bytes than these.
_LEAST_PART_BYTES = 2**20
# Each part of a recording on an object store fetches the whole file. This limits the bytes that
# all parts fetch together.
_MOST_FETCHED_BYTES = 2**34


def process_recording(
    job: Job, store: SegmentStore, config: Config, *, replace: bool = True
) -> RecordingOutcome:
    """Preprocess a recording into the store, unless an up-to-date file is already there.

    Parameters
    ----------
    job
        Recording to preprocess.
    store
        Store to write to. The recording's file appears there complete, or not at all.
    config
        The whole configuration.
    replace
        Whether a file made from other audio or labels may be replaced. A file made with another
        configuration is always replaced.

    Returns
    -------
    The outcome. Faults of the recording's own files are reported in it and not raised.

    Raises
    ------
    OSError
        If the store cannot be read or written, or this machine has no room for a copy of the audio.
    """
    outcome = _Processing(job, store, config, replace=replace).begun(None)
    assert isinstance(outcome, RecordingOutcome), "nothing is cut where no length is asked for"
    return outcome


def begin_recording(
    job: Job,
    store: SegmentStore,
    config: Config,
    *,
    replace: bool = True,
    part_segments: int = PART_SEGMENTS,
) -> RecordingOutcome | Cut:
    """Preprocess a recording, or plan its parts if it is too long for one task.

    Parameters
    ----------
    job, store, config, replace
        The parameters of `process_recording`.
    part_segments
        Most segments that one task makes.

    Returns
    -------
    The outcome if the recording fits into one task. Otherwise nothing is made yet, and the cut is
    returned: `process_part` then makes each part, and `join_parts` joins them to the recording.

    Raises
    ------
    OSError
        If the store cannot be read or written, or this machine has no room for a copy of the audio.
    """
    return _Processing(job, store, config, replace=replace).begun(part_segments)


def process_part(job: Job, cut: Cut, part: int, store: SegmentStore, config: Config) -> PartOutcome:
    """Make a part of a recording, unless it is already in the store.

    The audio is decoded from its beginning, and the segments before the part are dropped: few
    formats, and no resampler, give the same bits when decoding begins in the middle.

    Raises
    ------
    OSError
        If the store cannot be read or written, or this machine has no room for a copy of the audio.
    """
    return _Processing(job, store, config).part(cut, part)


def join_parts(job: Job, cut: Cut, store: SegmentStore, config: Config) -> RecordingOutcome:
    """Join the parts of a recording to the same bytes that `process_recording` would write.

    Raises
    ------
    OSError
        If the store cannot be read or written, or a part is missing.
    """
    return _Processing(job, store, config).joined(cut)


@dataclass(frozen=True)
class _Made:
    """Segments that were written: samples decoded, segments, moments of each copy, remarks."""

    samples: int
    segments: int
    moments: tuple[MelMoments, ...]
    remarks: tuple[str, ...]


class _Processing:
    """The preprocessing of one recording, with all facts found about it so far."""

    def __init__(
        self, job: Job, store: SegmentStore, config: Config, *, replace: bool = True
    ) -> None:
        self._job, self._store, self._config, self._replace = job, store, config, replace
        self._settings = settings_fingerprint(job, config)
        self._shape = config.mel.n_mels, config.mel.n_frames
        self._dtype = config.preprocess.dtype
        self._clock = StepClock()
        self._known: dict[str, Any] = {"remarks": job.recording.remarks}
        self._odd: tuple[str, ...] = ()
        # Taken before anything is read, so that a change of the audio during the work is noticed.
        self._info = _info(job.recording.audio)

    def begun(self, part_segments: int | None) -> RecordingOutcome | Cut:
        """Return the recording's outcome, or its cut if it has more than `part_segments`."""
        recording = self._job.recording
        problem = self._store.why_not(recording.id)
        if problem is not None:
            return self._outcome(
                "rejected",
                reason=f"'{recording.audio}' {problem}. Rename the recording and its label files.",
            )
        try:
            with self._fetched() as path:
                return self._from(path, part_segments)
        except CorpusError as error:
            return self._refused(error)

    def part(self, cut: Cut, number: int) -> PartOutcome:
        """Make a part, unless it is already in the store, and return its outcome."""
        recording = self._job.recording
        first, stop = _range(cut, number)
        file = self._store.part(recording.id, first, stop)
        stored = file.stored()
        skipped = stored is not None and (stored.settings, stored.content) == (
            self._settings,
            cut.content,
        )
        try:
            if not skipped:
                stored = self._make_part(cut, first, stop, file)
        except CorpusError as error:
            return PartOutcome(
                recording.id,
                number,
                reason=str(error),
                unread=isinstance(error, UnreadableError),
                seconds=dict(self._clock.seconds),
            )
        assert stored is not None, "the part was stored before or has been made"
        return PartOutcome(
            recording.id,
            number,
            duration=stored.duration - first * self._config.preprocess.segment_seconds,
            skipped=skipped,
            seconds=dict(self._clock.seconds),
        )

    def joined(self, cut: Cut) -> RecordingOutcome:
        """Join a recording's parts, which are all in the store, and return its outcome."""
        try:
            self._require_unchanged(cut)
            self._know(cut.checksum, cut.content)
            labels = self._labels()
            # Another worker may have joined the parts already and died before it could report it.
            # Or a worker that was wrongly taken for dead may be joining them at this moment.
            stored = self._standing_of(cut, labels)
            if stored is None:
                self._require_same_sound(cut)
                try:
                    stored = self._join(cut, labels)
                except FileNotFoundError:
                    stored = self._standing_of(cut, labels)
                    if stored is None:
                        raise
        except CorpusError as error:
            return self._refused(error)
        with suppress(OSError):
            # Two workers may be removing the parts; any that remain are removed when the run ends.
            self._store.remove_parts(self._job.recording.id)
        return self._kept(stored)

    @contextmanager
    def _fetched(self) -> Iterator[Path]:
        """Fetch the audio to this node's disk, and count the time as the step `fetch`."""
        with ExitStack() as stack:
            with self._clock.step("fetch"):
                path = stack.enter_context(on_disk(self._job.recording.audio))
            yield path

    def _from(self, path: Path, part_segments: int | None) -> RecordingOutcome | Cut:
        recording = self._job.recording
        with self._clock.step("check"):
            witness = Witness.of(path, recording.audio)
            content = self._content(path)
            stored = self._standing()
            changed = stored is not None and stored.content != content
            if changed and not self._replace:
                return self._outcome(
                    "stale",
                    reason=f"the audio or labels of '{recording.id}' are not those that its "
                    "stored segments were made from",
                )
            labels = self._labels()
        if stored is not None and not changed:
            self._known["skipped"] = True
            self._odd = stored.remarks
            self._judge(labels, stored.segments, stored.duration)
            return self._kept(stored)
        if part_segments is not None:
            cut = self._cut(path, content, part_segments)
            if cut.parts > 1:
                witness.require_unchanged()
                return cut
        return self._kept(self._make(path, content, labels, witness))

    def _cut(self, path: Path, content: str, part_segments: int) -> Cut:
        """Plan equal parts of whole blocks, for the length that the audio's header gives."""
        recording, config = self._job.recording, self._config.preprocess
        said = header(path, recording.audio)
        segments = math.ceil(said.duration / config.segment_seconds)
        blocks = math.ceil(segments / BLOCK_SEGMENTS)
        size = int(self._info.size)
        most = 1 + size // _LEAST_PART_BYTES
        if recording.audio.local is None:
            most = min(most, 1 + _MOST_FETCHED_BYTES // max(1, size))
        parts = min(most, math.ceil(blocks / max(1, part_segments // BLOCK_SEGMENTS)))
        a_part = math.ceil(blocks / parts)
        return Cut(
            recording.id,
            self._known["checksum"],
            content,
            self._known["fingerprint"],
            size,
            int(self._info.mtime_ns),
            a_part * BLOCK_SEGMENTS,
            math.ceil(blocks / a_part),
        )

    def _make_part(self, cut: Cut, first: int, stop: int | None, file: SegmentPart) -> Stored:
        self._require_unchanged(cut)
        self._know(cut.checksum, cut.content)
        with self._clock.step("check"):
            labels = self._labels()
        config = self._config.preprocess
        with (
            self._fetched() as path,
            file.writer(shape=self._shape, dtype=self._dtype) as writer,
        ):
            witness = Witness.of(path, self._job.recording.audio)
            if self._job.recording.audio.local is None and checksum(path) != cut.checksum:
                raise self._changed()
            made = self._fill(writer, path, labels, first=first, stop=stop)
            witness.require_unchanged()
            # The duration counts from the beginning of the recording, so that the last part gives
            # that of the whole recording.
            duration = (first + made.segments) * config.segment_seconds
            if stop is None:
                duration = made.samples / config.sr
            self._odd = made.remarks
            stored = self._stored(cut.content, duration, made.segments, made.moments)
            with self._clock.step("store"):
                writer.finish(stored)
        return stored

    def _require_unchanged(self, cut: Cut) -> None:
        """Refuse a recording whose files have changed since its parts were planned."""
        now = self._info.size, self._info.mtime_ns, self._content_with(cut.checksum)
        if now != (cut.audio_size, cut.audio_mtime, cut.content):
            raise self._changed()

    def _changed(self) -> UnreadableError:
        return UnreadableError(
            f"'{self._job.recording.audio}' or a label file of it was changed while it was being "
            "worked on. Run the command again when it is complete."
        )

    def _require_same_sound(self, cut: Cut) -> None:
        """Hash local audio again, because a change may have restored the time of modification."""
        path = self._job.recording.audio.local
        if path is not None and checksum(path) != cut.checksum:
            raise self._changed()

    def _standing_of(self, cut: Cut, labels: Labels) -> Stored | None:
        """Return the stored file's metadata if it was made with these settings from these files."""
        stored = self._standing()
        if stored is None or stored.content != cut.content:
            return None
        self._odd = stored.remarks
        self._judge(labels, stored.segments, stored.duration)
        return stored

    def _join(self, cut: Cut, labels: Labels) -> Stored:
        name = self._job.recording.id
        moments = self._no_moments()
        segments, duration = 0, 0.0
        with (
            self._clock.step("store"),
            self._store.writer(name, shape=self._shape, dtype=self._dtype) as writer,
        ):
            for number in range(cut.parts):
                part = self._store.part(name, *_range(cut, number))
                stored = part.stored()
                made_of = None if stored is None else (stored.settings, stored.content)
                if stored is None or made_of != (self._settings, cut.content):
                    raise FileNotFoundError(f"'{part.location}' is gone before it was used")
                for block in part.row_groups():
                    writer.write(block, first_segment=segments)
                    moments[block.copy] = moments[block.copy].merge(MelMoments.from_mel(block.mel))
                    # The last copy of a block ends it.
                    segments += len(block) if block.copy == self._job.copies else 0
                duration = stored.duration
                # Only the last part has decoded the whole recording.
                self._odd = stored.remarks
            self._judge(labels, segments, duration)
            whole = self._stored(cut.content, duration, segments, moments)
            self._known["stored_sha256"] = writer.finish(whole)
        return whole

    def _standing(self) -> Stored | None:
        """Return the stored file's metadata if it is undamaged and made with these settings."""
        name = self._job.recording.id
        stored = self._store.stored(name)
        if stored is None or stored.settings != self._settings:
            return None
        digest = self._store.checked(name)
        if digest is None:
            return None
        self._known["stored_sha256"] = digest
        return stored

    def _content(self, path: Path) -> str:
        """Compute the fingerprint of the audio and label files."""
        recording = self._job.recording
        try:
            audio = checksum(path)
        except OSError as error:
            raise UnreadableError(
                f"'{recording.audio}' cannot be read: {error}. Check that it is there and may be "
                "read."
            ) from error
        # Noted first, so that the outcome has it even if a label file turns out to be unusable.
        self._known["checksum"] = audio
        content = self._content_with(audio)
        self._know(audio, content)
        return content

    def _content_with(self, audio: str) -> str:
        """Compute the fingerprint of the label files and audio with this checksum."""
        files = self._job.recording.labels
        labels = {target: digest_of_labels(file) for target, file in files.items()}
        return fingerprint({"audio": audio, "labels": labels})

    def _know(self, audio: str, content: str) -> None:
        made_of = fingerprint({"settings": self._settings, "content": content})
        self._known |= {"checksum": audio, "fingerprint": made_of}

    def _labels(self) -> Labels:
        return read_labels(
            self._job.recording,
            self._job.split,
            targets=self._config.model.targets,
            step_ms=self._config.preprocess.segment_ms,
            scale=self._config.labels.range,
        )

    def _make(self, path: Path, content: str, labels: Labels, witness: Witness) -> Stored:
        """Write the recording's file, unless the recording turns out to be unusable."""
        name = self._job.recording.id
        with self._store.writer(name, shape=self._shape, dtype=self._dtype) as writer:
            made = self._fill(writer, path, labels)
            witness.require_unchanged()
            self._odd = made.remarks
            duration = made.samples / self._config.preprocess.sr
            self._judge(labels, made.segments, duration)
            stored = self._stored(content, duration, made.segments, made.moments)
            with self._clock.step("store"):
                self._known["stored_sha256"] = writer.finish(stored)
        return stored

    def _fill(
        self,
        writer: RecordingWriter,
        path: Path,
        labels: Labels,
        *,
        first: int = 0,
        stop: int | None = None,
    ) -> _Made:
        """Write the segments from `first` to `stop`, which are both borders of blocks."""
        config, recording, copies = self._config, self._job.recording, self._job.copies
        samples = 0

        reading = AudioReading(
            path,
            sr=config.preprocess.sr,
            channel=config.preprocess.channel,
            name=recording.audio,
        )

        def counted() -> Iterator[NDArray[np.float32]]:
            nonlocal samples
            for block in reading:
                samples += len(block)
                yield block

        moments = self._no_moments()
        buffers = [np.empty((BLOCK_SEGMENTS, *self._shape), self._dtype) for _ in moments]
        at, filled = first, 0

        def flush() -> None:
            for copy, buffer in enumerate(buffers):
                # Moments are taken of whole blocks and not of chunks, so that they do not depend
                # on where a recording was cut into parts.
                with self._clock.step("mel"):
                    moments[copy] = moments[copy].merge(MelMoments.from_mel(buffer[:filled]))
                with self._clock.step("store"):
                    block = self._block(labels, copy, at, buffer[:filled])
                    writer.write(block, first_segment=at)

        for chunk in iter_spectrograms(
            counted(),
            config,
            recording=recording.id,
            copies=copies,
            clock=self._clock,
            first=first,
            stop=stop,
        ):
            n = len(chunk[0])
            with self._clock.step("mel"):
                for copy, mel in enumerate(chunk):
                    buffers[copy][filled : filled + n] = mel
            filled += n
            if filled == BLOCK_SEGMENTS:
                flush()
                at, filled = at + filled, 0
        if filled:
            flush()
        odd = (*reading.remarks, *reading.low_rate())
        return _Made(samples, at + filled - first, tuple(moments), odd)

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
        """Note the recording's segments and labels; refuse one that later stages could not use."""
        config, recording = self._config, self._job.recording
        labelled, remarks = labels.joined(segments, config.model.targets)
        self._known |= {
            "segments": segments,
            "duration": duration,
            "labelled": labelled,
            "remarks": (*recording.remarks, *self._odd, *remarks),
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

    def _no_moments(self) -> list[MelMoments]:
        return [MelMoments.empty(self._config.mel.n_mels) for _ in range(self._job.copies + 1)]

    def _stored(
        self, content: str, duration: float, segments: int, moments: Sequence[MelMoments]
    ) -> Stored:
        audio = self._known["checksum"]
        return Stored(self._settings, content, audio, duration, segments, tuple(moments), self._odd)

    def _kept(self, stored: Stored) -> RecordingOutcome:
        moments = stored.moments[0]
        for further in stored.moments[1:]:
            moments = moments.merge(further)
        size = int(self._store.file(self._job.recording.id).info().size)
        return self._outcome("ok", moments=moments, stored_bytes=size)

    def _refused(self, error: CorpusError) -> RecordingOutcome:
        """Return the outcome of a recording whose own files are at fault."""
        # A stored file is kept while the audio cannot be read: the next call, which may be able to
        # read the audio, will decide whether the file is up to date.
        if not isinstance(error, UnreadableError):
            if self._standing() is not None and not self._replace:
                return self._outcome("stale", reason=str(error))
            self._store.file(self._job.recording.id).delete()
        return self._outcome("rejected", reason=str(error))

    def _outcome(self, status: Status, **more: Any) -> RecordingOutcome:
        recording = self._job.recording
        return RecordingOutcome(
            recording.id,
            recording.subject,
            self._job.split,
            self._job.copies,
            status=status,
            seconds=dict(self._clock.seconds),
            **self._known,
            **more,
        )


def _range(cut: Cut, number: int) -> tuple[int, int | None]:
    """Return a part's first segment and the one after its last; None means up to the end."""
    first = number * cut.segments
    return first, None if number == cut.parts - 1 else first + cut.segments


def _info(audio: Location) -> FileInfo:
    """Return type, size and time of modification; audio without access counts as absent."""
    try:
        return audio.info()
    except OSError:
        # Reading the content will fail too, and then the recording is rejected with the reason.
        return FileInfo(printable(audio.path), type=FileType.NotFound)
