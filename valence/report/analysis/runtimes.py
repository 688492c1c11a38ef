"""How long each stage took and how much it did in that time, whatever was there before."""

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
        As the command is called.
    seconds
        Wall time that `amount` took.
    amount, unit
        Work done in it, or None where nothing was done or it was not counted.
    rate
        The same in words.
    """

    stage: str
    seconds: float
    amount: float | None
    unit: str
    rate: str

    def to_json(self) -> dict[str, Any]:
        """For `metrics.json`."""
        return asdict(self)


def costs(evidence: Evidence, *, report: float) -> list[Cost]:
    """The stages that are finished, in order, and the report itself, which took `report` seconds.

    A stage that was resumed is told by what its last call did itself; the training by its epochs,
    each of which was timed, whichever call it was part of.
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
        # What was there before is not counted apart, and each combination was timed by itself.
        fitting = float(evidence.results["seconds"].sum())
        told = (
            f"{plural(len(evidence.results), 'combination')}, fitted and predicted in "
            f"{number(fitting, 1)} s of all workers together"
        )
        found.append(Cost("sweep", float(sweep["seconds"]), None, "", told))
    found.append(Cost("report", report, None, "", ""))
    return found


def machine(evidence: Evidence) -> Mapping[str, Any]:
    """Where the training was told to run, and what it says that it ran on."""
    record = evidence.stages["train"]
    return {
        **record.get("machine", {}),
        "workers": record["summary"].get("workers"),
        # An older version noted it beside the state alone.
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
    """What was there before the last call."""
    kept = summary.get("skipped", 0)
    return f"{plural(kept, 'recording')} more stood there already" if kept else ""


def _round(value: float) -> str:
    return count(value) if value >= 10 else number(value, 1)
