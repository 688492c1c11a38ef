"""What is asked of preprocessing for a recording, and what it answers: both small, both data."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from valence.audio.standardization import MelMoments
from valence.config import Config
from valence.corpus.muse import Recording
from valence.corpus.splits import SplitName
from valence.provenance import fingerprint
from valence.run import FORMAT

Status = Literal["ok", "rejected", "stale"]


@dataclass(frozen=True)
class Job:
    """A recording to bring into the store.

    Attributes
    ----------
    recording
        Where its files lie.
    split
        Training and validation recordings need labels.
    copies
        Augmented copies to store beside the clean recording.
    """

    recording: Recording
    split: SplitName
    copies: int


@dataclass(frozen=True)
class RecordingOutcome:
    """What became of a recording; small, whatever its length.

    Attributes
    ----------
    id, subject, split, copies
        As in the job.
    status
        `ok`; `rejected`, for a reason that lies in its files; or `stale`: the store holds it as
        made from other audio or labels, and it was not to be replaced.
    reason
        Why it was not stored; empty where it was.
    remarks
        What was odd and did not matter enough to reject it.
    checksum
        SHA-256 of the audio, empty if it could not be read.
    fingerprint
        Of what the stored file was made of.
    duration
        Seconds of audio.
    segments, labelled
        Segments of each copy, and how many of them have all targets.
    moments
        Of the mel of all copies as stored, or None where nothing is stored.
    skipped
        Whether the file stood there already.
    stored_bytes, stored_sha256
        Size and digest of the file.
    seconds
        Time that each step took.
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
        """The status, with recordings that stood there already told apart."""
        return "skipped" if self.status == "ok" and self.skipped else self.status

    def row(self) -> dict[str, Any]:
        """The recording's row in `recordings.parquet`."""
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

    def to_json(self) -> dict[str, Any]:
        """JSON that `from_json` reads back to the same bits."""
        moments = None if self.moments is None else self.moments.to_json()
        return {**self.__dict__, "moments": moments}

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> RecordingOutcome:
        """The outcome that `to_json` wrote."""
        moments = content["moments"]
        return cls(
            **{
                **content,
                "remarks": tuple(content["remarks"]),
                "moments": None if moments is None else MelMoments.from_json(moments),
            }
        )


@dataclass(frozen=True)
class Cut:
    """How a recording that is too long for one task is divided.

    Attributes
    ----------
    id
        The recording's.
    checksum
        SHA-256 of the audio.
    content
        Fingerprint of the audio and label files.
    fingerprint
        Of what the stored file will be made of.
    audio_size, audio_mtime
        Bytes and time of modification [ns] of the audio, by which a part knows it again.
    segments
        Segments of a part, the last one aside, which has the rest.
    parts
        Their number.
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
    """What became of a part of a recording.

    Attributes
    ----------
    id, part
        Of the recording, and the part's number from 0.
    reason
        Why the recording has to be rejected; empty where nothing speaks against it.
    unread
        Whether the reason is that its audio could not be read, which may pass.
    duration
        Seconds of audio in the part.
    skipped
        Whether the part stood there already.
    seconds
        Time that each step took.
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
        """What its audio counts as until the recording is whole."""
        return "skipped" if self.skipped else "ok"


def settings_fingerprint(job: Job, config: Config) -> str:
    """Fingerprint of all configuration that the stored values of a recording depend on."""
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
