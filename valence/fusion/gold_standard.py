"""Turn the ratings of several raters into one curve, step by step, and keep what each step did."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from valence.config import FuseConfig
from valence.formatting import some
from valence.fusion.agreement import Agreement, agreement
from valence.fusion.alignment import Delay, estimate_delays, shift
from valence.fusion.ratings import Ratings, Values, gather, names_of, pooled
from valence.fusion.smoothing import smooth
from valence.fusion.standardization import standardize
from valence.fusion.weighting import contrary_raters, fuse, weights_of
from valence.importing.traces import Trace


@dataclass(frozen=True)
class RaterPart:
    """The part of one rater in a fused curve.

    Attributes
    ----------
    name
        Name of the rater.
    coverage
        Share of the steps in which the rater has a value, as rated.
    delay
        Seconds by which the rater was moved to an earlier time, in all.
    correlation
        Mean correlation with the other raters who are not contrary; NaN if it is undefined.
    contrary
        Whether the rater correlates negatively with the others.
    weight
        Weight in the curve; the weights of a recording add up to 1.
    """

    name: str
    coverage: float
    delay: float
    correlation: float
    contrary: bool
    weight: float

    def to_json(self) -> dict[str, Any]:
        """Return a dictionary for JSON."""
        return {
            "rater": self.name,
            "coverage": round(self.coverage, 6),
            "delay": round(self.delay, 6),
            "correlation": None if math.isnan(self.correlation) else round(self.correlation, 6),
            "contrary": self.contrary,
            "weight": round(self.weight, 6),
        }


@dataclass(frozen=True)
class Fused:
    """The fused curve of one recording and target.

    Attributes
    ----------
    rated
        The ratings as they were given, on a common grid and the scale of [-1, 1].
    ratings
        The ratings after all steps, without raters who were dropped.
    curve
        float64 `[steps]` in [-1, 1]; NaN where there are too few values.
    parts
        The part of each rater, in the order of `rated`.
    problem
        The reason why there is no curve, or `""`.
    remarks
        Facts that a reader of the labels must know.
    """

    rated: Ratings
    ratings: Ratings
    curve: Values
    parts: tuple[RaterPart, ...]
    problem: str = ""
    remarks: tuple[str, ...] = ()

    @property
    def id(self) -> str:
        """Return the Id of the recording."""
        return self.rated.id

    @property
    def as_rated(self) -> Agreement:
        """Measure the agreement of all raters before any step."""
        return agreement(self.rated.values)

    @property
    def as_fused(self) -> Agreement:
        """Measure the agreement of the raters who take part, after all steps."""
        return agreement(self.ratings.values)

    def trace(self) -> Trace:
        """Return the curve as a trace without a rater, as a gold standard is read."""
        start = np.asarray(np.arange(len(self.curve)) * self.rated.step, np.float64)
        return Trace(
            id=self.id,
            target=self.rated.target,
            rater=None,
            start=start,
            end=np.asarray(start + self.rated.step, np.float64),
            value=self.curve,
            scale=(-1.0, 1.0),
            file=self.rated.files[0],
            remarks=self.remarks,
        )


def fuse_traces(traces: Iterable[Trace], settings: FuseConfig) -> list[Fused]:
    """Fuse the traces of every recording and target.

    Parameters
    ----------
    traces
        The traces of all raters and recordings.
    settings
        The steps.

    Returns
    -------
    One `Fused` for each recording and target, sorted by target and Id. A recording that cannot be
    fused has a problem and an empty curve.

    Raises
    ------
    CorpusError
        As `valence.fusion.ratings.gather`.
    """
    delay = settings.delay if settings.align != "none" else 0.0
    rated = gather(traces, step=settings.step, delay=delay)
    groups: dict[tuple[str, str], list[Ratings]] = defaultdict(list)
    for each in rated:
        groups[each.target, each.id if settings.scope == "recording" else ""].append(each)
    return [fused for group in groups.values() for fused in _fuse_group(group, settings)]


def agreement_over(found: Sequence[Fused], *, as_rated: bool) -> Agreement:
    """Measure the agreement over all steps of several recordings together.

    A pair of raters is compared over all recordings that both have rated, so differences between
    recordings count, as they do in the score of a model.

    Parameters
    ----------
    found
        The recordings of one target.
    as_rated
        Whether to compare the ratings before any step, or those after all steps.
    """
    return agreement(pooled([each.rated if as_rated else each.ratings for each in found]))


def _fuse_group(group: Sequence[Ratings], settings: FuseConfig) -> list[Fused]:
    """Fuse the recordings over which spread, delay and weight of a rater are estimated."""
    delays: dict[str, Delay] = {}
    if settings.align == "correlation":
        delays = estimate_delays(group, limit=settings.delay_limit, origin=settings.delay_from)
    ready = _prepared(group, settings, delays)
    together, names = pooled(ready), names_of(ready)
    rows, correlation = contrary_raters(together)
    contrary = {names[row] for row in rows}
    dropped = contrary if settings.contrary == "drop" else set()
    used = [name for name in names if name not in dropped]
    if dropped:
        # Those who are left get the mean and the spread that they have among themselves.
        ready = _prepared([ratings.only(used) for ratings in group], settings, delays)
        together = pooled(ready)
    weights = weights_of(together, settings.method)
    weighed = _Weighed(
        settings,
        delays,
        correlation=dict(zip(names, correlation, strict=True)),
        contrary=contrary,
        used=used,
        weights=dict(zip(used, weights, strict=True)),
    )
    return [weighed.fuse(rated, each) for rated, each in zip(group, ready, strict=True)]


def _prepared(
    group: Sequence[Ratings], settings: FuseConfig, delays: dict[str, Delay]
) -> list[Ratings]:
    """Standardise, align and smooth; the delays hold for standardised raters as well."""
    ready = standardize(group, settings.standardize)
    moved = {name: delay.steps for name, delay in delays.items()}
    ready = [shift(ratings, moved) for ratings in ready]
    if settings.smooth == "savgol":
        ready = [smooth(ratings, settings.smooth_window) for ratings in ready]
    return ready


@dataclass(frozen=True)
class _Weighed:
    """What is known of the raters of a group once they are weighed."""

    settings: FuseConfig
    delays: dict[str, Delay]
    correlation: dict[str, float]
    contrary: set[str]
    used: list[str]
    weights: dict[str, float]

    def fuse(self, rated: Ratings, ready: Ratings) -> Fused:
        """Fuse one recording of the group."""
        chosen = ready.only(self.used)
        problem = self._problem(rated, chosen)
        weights = np.array([self.weights[name] for name in chosen.raters])
        if problem:
            curve, clipped = np.full(rated.values.shape[1], np.nan), 0
            weights = np.zeros_like(weights)
        else:
            method, least = self.settings.method, self.settings.least_raters
            curve = fuse(chosen.values, weights, method, least_raters=least)
            clipped = int((np.abs(curve) > 1).sum())
            curve = np.clip(curve, -1, 1)
        total = weights.sum()
        share = dict(zip(chosen.raters, weights / total if total else weights, strict=True))
        parts = tuple(
            self._part(name, coverage, rated.step, share.get(name, 0.0))
            for name, coverage in zip(rated.raters, rated.coverage, strict=True)
        )
        remarks = [*ready.remarks, *self._remarks(parts, rated, clipped)]
        return Fused(rated, chosen, curve, parts, problem, tuple(dict.fromkeys(remarks)))

    def _problem(self, rated: Ratings, chosen: Ratings) -> str:
        """Say why a recording cannot be fused, or return `""`."""
        if not np.isfinite(rated.values).any():
            return "no rater has a value"
        there = [name for name, share in zip(rated.raters, rated.coverage, strict=True) if share]
        against = [name for name in there if name in self.contrary]
        others = [name for name in there if name not in self.contrary]
        if self.settings.contrary == "drop" and len(against) >= len(others):
            shown = (
                f"raters {some(against)} correlate negatively with the others, and {some(others)} "
                "do not, so no majority shows who is right"
                if others
                else f"raters {some(against)} oppose each other, and nothing shows who is right"
            )
            return f"{shown}; find out who rated the wrong way round, or set fuse.contrary = 'keep'"
        weight = np.array([self.weights[name] for name in chosen.raters])
        if not (np.isfinite(chosen.values).any(axis=1) & (weight > 0)).any():
            return (
                f"no rater has a weight above 0 by fuse.method = '{self.settings.method}', because "
                "nobody agrees with the others or varies at all; fuse.method = 'mean' or 'median' "
                "needs no weights, and fuse.scope = 'corpus' weighs raters by all recordings"
            )
        return ""

    def _part(self, name: str, coverage: float, step: float, share: float) -> RaterPart:
        settings = self.settings
        common = settings.delay if settings.align != "none" else 0.0
        own = self.delays[name].steps * step if name in self.delays else 0.0
        return RaterPart(
            name=name,
            coverage=float(coverage),
            delay=common + own,
            correlation=float(self.correlation[name]),
            contrary=name in self.contrary,
            weight=float(share),
        )

    def _remarks(self, parts: Sequence[RaterPart], rated: Ratings, clipped: int) -> Iterable[str]:
        if len(parts) == 1:
            yield f"only rater '{parts[0].name}' has rated it, so nothing shows agreement"
        for part in parts:
            if part.contrary:
                done = "left out" if self.settings.contrary == "drop" else "kept"
                yield (
                    f"rater '{part.name}' correlates negatively with the others "
                    f"({part.correlation:.2f}) and is {done}"
                )
            elif part.coverage and not part.weight and self.settings.method != "median":
                yield f"rater '{part.name}' agrees with nobody and has no weight"
            if part.name in self.delays and self.delays[part.name].at_limit:
                yield (
                    f"rater '{part.name}' fits best at the limit of fuse.delay_limit = "
                    f"{self.settings.delay_limit:g} s, and may be later or earlier still"
                )
        # Rounded down: 100 % would contradict that a part is missing.
        ragged = [
            f"'{part.name}' ({math.floor(100 * part.coverage)}%)"
            for part in parts
            if part.coverage < 1
        ]
        if ragged:
            yield f"raters who cover a part of it: {', '.join(ragged)}"
        if clipped:
            yield f"{clipped} of {rated.values.shape[1]} steps left [-1, 1] and were brought back"
