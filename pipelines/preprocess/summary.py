"""Count the recordings that preprocessing has finished, and print the counts."""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from pipelines.runtime.console import Console
from valence.formatting import MOST_NAMES, some
from valence.segments.jobs import PartOutcome, RecordingOutcome
from valence.storage.filenames import printable


class Tally:
    """The counts of a preprocessing since the tally was created."""

    def __init__(self) -> None:
        self._began = time.monotonic()
        self._counts: Counter[str] = Counter()
        self._audio: dict[str, float] = defaultdict(float)
        # The parts already counted of recordings whose own outcome is still to come.
        self._parts: dict[str, list[PartOutcome]] = {}
        self._steps: dict[str, float] = defaultdict(float)
        self._bytes = 0
        self._unread = 0

    def add(self, outcome: RecordingOutcome) -> None:
        """Count a recording."""
        self._counts[outcome.verdict] += 1
        parts = self._parts.pop(outcome.id, None)
        if parts is None:
            self._audio[outcome.verdict] += outcome.duration
        elif outcome.status != "ok":
            # The recording was rejected, so the audio of its parts is not in the store.
            for part in parts:
                self._audio[part.verdict] -= part.duration
        self._bytes += outcome.stored_bytes
        self._unread += outcome.status == "rejected" and not outcome.checksum
        self._count(outcome.seconds)

    def add_part(self, part: PartOutcome) -> None:
        """Count a part of a recording whose own outcome is still to come."""
        self._audio[part.verdict] += part.duration
        self._parts.setdefault(part.id, []).append(part)
        self._count(part.seconds)

    def _count(self, seconds: Mapping[str, float]) -> None:
        for step, taken in seconds.items():
            self._steps[step] += taken

    def note(self) -> str:
        """Describe the progress of the running stage."""
        parts = [f"{self._audio['ok'] / 3600:.2f} h of audio, {self._rate():.0f} x real time"]
        parts += [
            f"{self._counts[verdict]} {verdict}"
            for verdict in ("skipped", "rejected", "stale")
            if self._counts[verdict]
        ]
        return ", ".join(parts)

    def summary(self) -> dict[str, Any]:
        """Return the summary for the stage's record.

        `audio_hours` counts all audio in the store, and `audio_hours_per_hour` is the rate of the
        audio processed now. `step_seconds` adds up the time of all workers by step. `unread`
        counts rejected recordings whose audio could not be read; the next run tries them again.
        """
        return {
            "seconds": time.monotonic() - self._began,
            "recordings": self._counts.total(),
            "processed": self._counts["ok"],
            "skipped": self._counts["skipped"],
            "rejected": self._counts["rejected"],
            "unread": self._unread,
            "audio_hours": (self._audio["ok"] + self._audio["skipped"]) / 3600,
            "audio_hours_per_hour": self._rate(),
            "stored_bytes": self._bytes,
            "step_seconds": {name: self._steps[name] for name in sorted(self._steps)},
        }

    def tell(self, console: Console, outcomes: Sequence[RecordingOutcome]) -> None:
        """Print the rejected recordings with reasons, the remarks, and the totals."""
        rejected = [outcome for outcome in outcomes if outcome.status == "rejected"]
        for outcome in rejected[:MOST_NAMES]:
            console.say(f"  rejected {printable(outcome.id)}: {outcome.reason}")
        if len(rejected) > MOST_NAMES:
            console.say(f"  and {len(rejected) - MOST_NAMES} more: see recordings.parquet")
        tell_remarks(console, {each.id: each.remarks for each in outcomes if each.status == "ok"})
        summary = self.summary()
        steps = ", ".join(
            f"{name} {seconds:.1f} s" for name, seconds in summary["step_seconds"].items()
        )
        console.say(
            f"preprocess: {summary['processed']} recordings made, {summary['skipped']} skipped, "
            f"{summary['rejected']} rejected; {self._audio['ok'] / 3600:.2f} h of audio in "
            f"{summary['seconds']:.1f} s, {self._rate():.0f} audio-hours per hour "
            f"({self._rate():.0f} x real time); "
            f"{summary['audio_hours']:.2f} h and {self._bytes / 2**20:.1f} MiB in the store; "
            f"workers: {steps}"
        )

    def _rate(self) -> float:
        return self._audio["ok"] / max(1e-9, time.monotonic() - self._began)


def tell_remarks(console: Console, remarks: Mapping[str, Sequence[str]]) -> None:
    """Print each remark with its recordings, the most frequent remark first.

    Parameters
    ----------
    console
        Progress output.
    remarks
        Remarks of each recording, by its Id.
    """
    names: dict[str, list[str]] = defaultdict(list)
    for name, odd in remarks.items():
        for remark in odd:
            names[remark].append(name)
    by_number = sorted(names.items(), key=lambda each: -len(each[1]))
    for remark, of in by_number[:MOST_NAMES]:
        console.say(f"  remark on {len(of)} of {len(remarks)} recordings, {some(of)}: {remark}")
    if len(by_number) > MOST_NAMES:
        console.say(f"  and {len(by_number) - MOST_NAMES} more remarks: see recordings.parquet")
