"""Send counters of the work from the workers to Prometheus and the Ray dashboard."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache

from ray.util.metrics import Counter, Gauge


class StageMetrics:
    """Counters of the finished work, and a gauge of the recordings that are left.

    Prometheus names counters `ray_valence_..._total` and gauges `ray_valence_...`. Each process
    has its own series: sum them.
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
        """Set the number of recordings that a stage has still to do."""
        self._left.set(recordings, {"stage": stage})

    def count_combination(self, status: str) -> None:
        """Count a combination of the sweep, `ok` or `failed`."""
        self._combinations.inc(1, {"status": status})

    def count_recording(self, stage: str, status: str) -> None:
        """Count a recording by what became of it, such as `ok`, `skipped` or `rejected`."""
        self._recordings.inc(1, {"stage": stage, "status": status})

    def count(self, stage: str, *, audio_seconds: float, seconds: Mapping[str, float]) -> None:
        """Count finished work.

        Parameters
        ----------
        stage
            Name of the stage.
        audio_seconds
            Seconds of audio that were finished.
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
    """Return the counters of this process: Ray allows each name only once in a process."""
    return StageMetrics()
