"""What Prometheus and the Ray dashboard see of the work: counters, sent from the workers."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache

from ray.util.metrics import Counter, Gauge


class StageMetrics:
    """Counters of a stage, and what is left of it.

    Prometheus reads counters as `ray_valence_..._total` and gauges as `ray_valence_...`, one series
    a process: sum them.
    """

    def __init__(self) -> None:
        self._audio = Counter(
            "valence_audio_seconds", "Seconds of audio that are done.", ("stage",)
        )
        self._recordings = Counter(
            "valence_recordings",
            "Recordings that are done, by what became of them.",
            ("stage", "status"),
        )
        self._seconds = Counter(
            "valence_step_seconds", "Seconds of work, by step of a stage.", ("stage", "step")
        )

        self._combinations = Counter(
            "valence_combinations",
            "Combinations of the sweep that are done, by what became of them.",
            ("status",),
        )
        self._left = Gauge(
            "valence_recordings_left", "Recordings that a stage has still to do.", ("stage",)
        )

    def left(self, stage: str, recordings: int) -> None:
        """Tell how many recordings a stage has still to do."""
        self._left.set(recordings, {"stage": stage})

    def count_combination(self, status: str) -> None:
        """Count a combination of the sweep, `ok` or `failed`."""
        self._combinations.inc(1, {"status": status})

    def count_recording(self, stage: str, status: str) -> None:
        """Count a recording by what became of it, such as `ok`, `skipped` or `rejected`."""
        self._recordings.inc(1, {"stage": stage, "status": status})

    def count(self, stage: str, *, audio_seconds: float, seconds: Mapping[str, float]) -> None:
        """Count work.

        Parameters
        ----------
        stage
            Name of the stage.
        audio_seconds
            Audio that is done with it.
        seconds
            Seconds that each step took.
        """
        if audio_seconds > 0:
            self._audio.inc(audio_seconds, {"stage": stage})
        for step, value in seconds.items():
            if value > 0:
                self._seconds.inc(value, {"stage": stage, "step": step})


@lru_cache(maxsize=1)
def stage_metrics() -> StageMetrics:
    """The counters of this process, made at the first call: Ray counts a name once a process."""
    return StageMetrics()
