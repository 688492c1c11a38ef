"""Twelve simulated raters: delays, scales, gaps and one contrary rater are known."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from valence.importing.traces import Trace
from valence.storage.location import Location

RATERS = 12
CONTRARY = 7
STEP = 0.25
SCALE = (-500.0, 500.0)
Values = NDArray[np.float64]


@dataclass(frozen=True)
class Panel:
    """Raters of one recording: their traces, the true curve on their steps, delays in steps."""

    traces: list[Trace]
    true: Values
    delays: Values


def trace(
    value: Sequence[float] | Values,
    *,
    rater: str | None = "a",
    id: str = "1",
    step: float = 0.5,
    first: float = 0.0,
    scale: tuple[float, float] = (-1.0, 1.0),
    target: str = "valence",
) -> Trace:
    start = first + np.arange(len(value)) * step
    return Trace(
        id=id,
        target=target,  # type: ignore[arg-type]
        rater=rater,
        start=start,
        end=start + step,
        value=np.asarray(value, np.float64),
        scale=scale,
        file=Location.parse(f"/made/{id}_{rater}.csv"),
    )


def simulated(seed: int, *, id: str = "1", steps: int = 1200, noise: float = 0.1) -> Panel:
    """Make twelve raters of a smooth curve, 300 s at 0.25 s.

    Delays are 0 to 4 s, the fastest has none. Rater 7 rates the wrong way round, rater 3 begins
    25 s late, rater 4 stops 75 s early, rater 5 misses a tenth of the steps at random, and rater 6
    an interval of 20 s.
    """
    rng = np.random.default_rng([seed, 19])
    period = rng.uniform(12.0, 60.0, 10)
    phase = rng.uniform(0, 2 * np.pi, 10)

    def curve(seconds: Values) -> Values:
        waves = np.sin(2 * np.pi * seconds[:, None] / period + phase)
        return np.asarray(0.6 * np.tanh(waves.sum(axis=1) / 3))

    seconds = (np.arange(steps) + 0.5) * STEP
    delays = rng.integers(1, 17, RATERS).astype(np.float64)
    delays[0] = 0
    factor, offset = rng.uniform(0.6, 1.4, RATERS), rng.uniform(-0.15, 0.15, RATERS)
    traces = []
    for rater in range(RATERS):
        drift = np.convolve(rng.standard_normal(steps), np.full(4, 0.5), mode="same")
        value = factor[rater] * curve(seconds - delays[rater] * STEP)
        value = np.clip(value + offset[rater] + noise * drift, -1, 1)
        if rater == CONTRARY:
            value = -value
        missing = {
            3: np.arange(steps) < 100,
            4: np.arange(steps) >= steps - 300,
            5: rng.random(steps) < 0.1,
            6: np.abs(np.arange(steps) - 600) < 40,
        }.get(rater)
        if missing is not None:
            value = np.where(missing, np.nan, value)
        traces.append(trace(500 * value, rater=str(rater), id=id, step=STEP, scale=SCALE))
    return Panel(traces, curve(seconds), delays)
