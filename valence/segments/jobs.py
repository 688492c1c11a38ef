"""The jobs that preprocessing takes for a recording, and the outcomes that it returns.

Both are small and hold data alone, so that they travel cheaply between machines.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from valence.audio.standardization import MelMoments
from valence.config import Config
from valence.corpus.muse import Recording
from valence.corpus.splits import SplitName
from valence.provenance import fingerprint
from valence.stage import FORMAT

Status = Literal["ok", "rejected", "stale"]


@dataclass(frozen=True)
class Job:
    """A recording to bring into the store.

    Attributes
    ----------
    recording
        The recording, with the places of its files.
    split
        Its split. Training and validation recordings need labels.
    copies
        Augmented copies to store beside the clean recording.
    """

    recording: Recording
    split: SplitName
    copies: int


@dataclass(frozen=True)
class RecordingOutcome:
    """The outcome of preprocessing a recording; its size does not grow with the recording.

    Attributes
    ----------
    id, subject, split, copies
        The recording's Id and subject, and the job's split and number of copies.
    status
        `ok`; `rejected`, where the recording's own files are the reason; or `stale`, where the
        stored file was made from other audio or labels and replacing it was not allowed.
    reason
        The reason why the recording was not stored; empty if it was stored.
    remarks
        Oddities that are no reason to reject the recording.
    checksum
        SHA-256 of the audio, empty if the audio could not be read.
    fingerprint
        Fingerprint of the configuration, audio and labels that the stored file was made from.
    duration
        Seconds of audio.
    segments, labelled
        Number of segments in each copy, and how many of them have all targets.
    moments
        Moments of the stored mel of all copies, or None where nothing is stored.
    skipped
        Whether the file was already in the store.
    stored_bytes, stored_sha256
        Size and digest of the stored file.
    seconds
        Seconds that each step took.
    """

    id: str
    subject: str
    split: SplitName
    copies: int
    status: Status = "ok"
    reason: str = ""
    remarks: tuple[str, ...] = ()
    checksum: str = ""
    fingerprint: str = ""
    duration: float = 0.0
    segments: int = 0
    labelled: int = 0
    moments: MelMoments | None = None
    skipped: bool = False
    stored_bytes: int = 0
    stored_sha256: str = ""
    seconds: dict[str, float] = field(default_factory=dict)

    @property
    def verdict(self) -> Status | Literal["skipped"]:
        """Return the status, or `skipped` for a recording that was already stored."""
        return "skipped" if self.status == "ok" and self.skipped else self.status

    def row(self) -> dict[str, Any]:
        """Return the recording's row in `recordings.parquet`."""
        return {
            "Id": self.id,
            "subject": self.subject,
            "split": self.split,
            "duration": self.duration,
            "segments": self.segments,
            "labelled": self.labelled,
            "copies": self.copies,
            "status": self.status,
            "reason": self.reason,
            "remarks": list(self.remarks),
            "checksum": self.checksum,
            "fingerprint": self.fingerprint,
        }


@dataclass(frozen=True)
class Cut:
    """A plan that divides a recording which is too long for one task.

    Attributes
    ----------
    id
        Id of the recording.
    checksum
        SHA-256 of the audio.
    content
        Fingerprint of the audio and label files.
    fingerprint
        Fingerprint of the configuration, audio and labels that the stored file will be made from.
    audio_size, audio_mtime
        Bytes and time of modification [ns] of the audio. The task of a part compares them, to
        notice that the audio has changed.
    segments
        Number of segments in each part; the last part has the rest.
    parts
        Number of parts.
    """

    id: str
    checksum: str
    content: str
    fingerprint: str
    audio_size: int
    audio_mtime: int
    segments: int
    parts: int


@dataclass(frozen=True)
class PartOutcome:
    """The outcome of preprocessing a part of a recording.

    Attributes
    ----------
    id, part
        Id of the recording, and number of the part, from 0.
    reason
        The reason why the recording has to be rejected; empty if there is none.
    unread
        Whether the reason is that the audio could not be read, which a later try may be able to.
    duration
        Seconds of audio in the part.
    skipped
        Whether the part was already in the store.
    seconds
        Seconds that each step took.
    """

    id: str
    part: int
    reason: str = ""
    unread: bool = False
    duration: float = 0.0
    skipped: bool = False
    seconds: dict[str, float] = field(default_factory=dict)

    @property
    def verdict(self) -> Literal["ok", "skipped"]:
        """Return how progress counts the part's audio until the recording is complete."""
        return "skipped" if self.skipped else "ok"


def settings_fingerprint(job: Job, config: Config) -> str:
    """Compute the fingerprint of all settings that the stored values of a recording depend on."""
    made_of = {
        "format": FORMAT["segments"],
        "recording": job.recording.id,
        "copies": job.copies,
        "audio": config.preprocess.model_dump(
            mode="json",
            include={"sr", "segment_seconds", "level", "level_dbfs", "dtype", "channel"},
        ),
        "mel": config.mel.model_dump(mode="json"),
    }
    if config.labels.range is not None:
        made_of["labels"] = config.labels.model_dump(mode="json")
    if job.copies:
        made_of["augment"] = config.augment.model_dump(mode="json", exclude={"copies"})
        made_of["seed"] = config.preprocess.seed
    return fingerprint(made_of)
