"""Compute how long each stage took and how much work it did in that time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from valence.formatting import count, number, plural
from valence.report.analysis.results import Evidence


@dataclass(frozen=True)
class Cost:
    """Time and work of a stage.

    Attributes
    ----------
    stage
        Name of the stage's command.
    seconds
        Wall time that `amount` took.
    amount, unit
        Work done in that time and its unit; `amount` is None if nothing was done or counted.
    rate
        Throughput in words.
    """

    stage: str
    seconds: float
    amount: float | None
    unit: str
    rate: str

    def to_json(self) -> dict[str, Any]:
        """Return the content for `metrics.json`."""
        return asdict(self)


def costs(evidence: Evidence, *, report: float) -> list[Cost]:
    """Compute the costs of the finished stages, in order, and of the report.

    The report took `report` seconds. The cost of a resumed stage counts only the work of its last
    call. The cost of the training counts all epochs, because each epoch was timed, in any call.
    """
    summaries = {name: record["summary"] for name, record in evidence.stages.items()}
    found = []
    if (segments := summaries.get("segments")) is not None:
        seconds = float(segments["seconds"])
        sound = segments.get("audio_hours_per_hour", 0.0) * seconds
        found.append(_of("preprocess", seconds, sound, "s of sound", _kept(segments)))
    history = evidence.history
    if "train" in summaries and history is not None and len(history):
        epochs = float(history["seconds"].sum())
        found.append(_of("train", epochs, len(history), "epochs", ""))
    if (features := summaries.get("features")) is not None:
        seconds = float(features["seconds"])
        if features.get("skipped"):
            made = features["recordings"] - features["skipped"]
            cost = _of("extract", seconds, made, "recordings", _kept(features))
        else:
            cost = _of("extract", seconds, len(evidence.features), "sequences", "")
        found.append(cost)
    if (sweep := summaries.get("sweep")) is not None and evidence.results is not None:
        # The sweep does not count combinations of earlier calls apart, so it has no throughput. The
        # time of each combination was measured.
        fitting = float(evidence.results["seconds"].sum())
        rate = (
            f"{plural(len(evidence.results), 'combination')}, fitted and predicted in "
            f"{number(fitting, 1)} s of all workers together"
        )
        found.append(Cost("sweep", float(sweep["seconds"]), None, "", rate))
    found.append(Cost("report", report, None, "", ""))
    return found


def machine(evidence: Evidence) -> Mapping[str, Any]:
    """Describe the machine that started the training, and the workers and device that ran it."""
    record = evidence.stages["train"]
    return {
        **record.get("machine", {}),
        "workers": record["summary"].get("workers"),
        # Older versions stored the device only in the progress record.
        "device": record["summary"].get("device") or (evidence.progress or {}).get("device"),
    }


def _of(stage: str, seconds: float, amount: float | None, unit: str, remark: str) -> Cost:
    if not amount or seconds <= 0:
        return Cost(stage, seconds, None, "", "nothing was left to do" if amount == 0 else "")
    each = amount / seconds
    rate = (
        f"{_round(each)} {unit} a second" if each >= 1 else f"{_round(60 * each)} {unit} a minute"
    )
    return Cost(stage, seconds, amount, unit, rate + (f" ({remark})" if remark else ""))


def _kept(summary: Mapping[str, Any]) -> str:
    """Describe the recordings that existed before the last call."""
    kept = summary.get("skipped", 0)
    return f"{plural(kept, 'recording')} more stood there already" if kept else ""


def _round(value: float) -> str:
    return count(value) if value >= 10 else number(value, 1)
