"""Measure how well raters agree: pairs of raters, intraclass correlations, Cronbach's alpha."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np

from valence.fusion.pairs import (
    FEWEST_STEPS,
    ccc,
    is_defined,
    others,
    pairwise,
    pcc,
    shared_moments,
    varies,
)
from valence.fusion.ratings import Values


@dataclass(frozen=True)
class Agreement:
    """How well the raters of one target agree; a figure that is not defined is NaN.

    Attributes
    ----------
    raters
        Raters with at least one value.
    steps
        Steps in which any rater has a value.
    complete
        Steps in which all raters have a value; the intraclass correlations and alpha use these.
    pairs
        Pairs of raters whose correlation is defined: enough shared steps, in which both vary. One
        who never changes has no pair.
    ccc, pcc
        Mean over these pairs, weighted by the steps that a pair shares. Variances are of the
        population (ddof 0).
    ccc_others
        Mean CCC of a rater with the mean of the other raters, weighted by the steps.
    icc_c1, icc_ck, icc_ak
        Intraclass correlations of the two-way model: consistency of one rater, ICC(C,1);
        consistency of the mean of all raters, ICC(C,k); absolute agreement of that mean, ICC(A,k).
    alpha
        Cronbach's alpha.
    """

    raters: int
    steps: int
    complete: int
    pairs: int
    ccc: float
    pcc: float
    ccc_others: float
    icc_c1: float
    icc_ck: float
    icc_ak: float
    alpha: float

    def to_json(self) -> dict[str, Any]:
        """Return a dictionary for JSON, with None for a figure that is not defined."""
        return {
            name: None if isinstance(value, float) and math.isnan(value) else value
            for name, value in asdict(self).items()
        }


FIGURES = tuple(field.name for field in fields(Agreement))
"""Names of the figures, in the order of the tables."""


def agreement(values: Values) -> Agreement:
    """Measure the agreement of the raters of a recording.

    Parameters
    ----------
    values
        float64 `[raters, steps]`, with NaN.
    """
    there = values[np.isfinite(values).any(axis=1)]
    pairs = pairwise(there)
    size = [moments.n for moments in pairs.values()]
    beside = [shared_moments(row, others(there, place)) for place, row in enumerate(there)]
    beside = [moments for moments in beside if is_defined(moments)]
    complete = there[:, np.isfinite(there).all(axis=0)] if len(there) else there
    icc = intraclass(complete)
    return Agreement(
        raters=len(there),
        steps=int(np.isfinite(values).any(axis=0).sum()),
        complete=complete.shape[1] if len(there) else 0,
        pairs=len(pairs),
        ccc=_mean([ccc(moments) for moments in pairs.values()], size),
        pcc=_mean([pcc(moments) for moments in pairs.values()], size),
        ccc_others=_mean([ccc(moments) for moments in beside], [moments.n for moments in beside]),
        icc_c1=icc[0],
        icc_ck=icc[1],
        icc_ak=icc[2],
        alpha=cronbach_alpha(complete),
    )


def intraclass(values: Values) -> tuple[float, float, float]:
    """Compute ICC(C,1), ICC(C,k) and ICC(A,k) of complete ratings.

    The formulas are those of McGraw and Wong (1996), "Forming inferences about some intraclass
    correlation coefficients", table 4, two-way model. Shrout and Fleiss (1979) call the first two
    ICC(3,1) and ICC(3,k), and the third ICC(2,k).

    Parameters
    ----------
    values
        float64 `[raters, steps]`, without NaN.

    Returns
    -------
    The three coefficients; NaN with fewer than two raters or three steps, or if no rater varies.
    """
    k, n = values.shape
    if k < 2 or n < FEWEST_STEPS or not varies(values):
        return math.nan, math.nan, math.nan
    deviation = values - values.mean()
    of_steps, of_raters = deviation.mean(axis=0), deviation.mean(axis=1)
    rest = deviation - of_steps - of_raters[:, None]
    between_steps = k * float(of_steps @ of_steps) / (n - 1)
    between_raters = n * float(of_raters @ of_raters) / (k - 1)
    error = float((rest * rest).sum()) / ((n - 1) * (k - 1))
    single = between_steps + (k - 1) * error
    absolute = between_steps + (between_raters - error) / n
    return (
        _ratio(between_steps - error, single),
        _ratio(between_steps - error, between_steps),
        _ratio(between_steps - error, absolute),
    )


def cronbach_alpha(values: Values) -> float:
    """Compute Cronbach's alpha (1951) of complete ratings, with raters as items.

    Parameters
    ----------
    values
        float64 `[raters, steps]`, without NaN.

    Returns
    -------
    Alpha; it equals ICC(C,k) on the same values. NaN as for `intraclass`.
    """
    k, n = values.shape
    if k < 2 or n < FEWEST_STEPS or not varies(values):
        return math.nan
    total = float(values.sum(axis=0).var(ddof=1))
    return _ratio(k * (total - float(values.var(axis=1, ddof=1).sum())), (k - 1) * total)


def mean_agreement(found: Sequence[Agreement]) -> Agreement:
    """Average figures over recordings; counts are summed, except that of raters (the largest)."""
    return Agreement(
        raters=max((each.raters for each in found), default=0),
        steps=sum(each.steps for each in found),
        complete=sum(each.complete for each in found),
        pairs=sum(each.pairs for each in found),
        ccc=_mean([each.ccc for each in found]),
        pcc=_mean([each.pcc for each in found]),
        ccc_others=_mean([each.ccc_others for each in found]),
        icc_c1=_mean([each.icc_c1 for each in found]),
        icc_ck=_mean([each.icc_ck for each in found]),
        icc_ak=_mean([each.icc_ak for each in found]),
        alpha=_mean([each.alpha for each in found]),
    )


def _mean(values: Sequence[float], weights: Sequence[float] | None = None) -> float:
    known = [place for place, value in enumerate(values) if not math.isnan(value)]
    if not known:
        return math.nan
    chosen = None if weights is None else [weights[place] for place in known]
    return float(np.average([values[place] for place in known], weights=chosen))


def _ratio(above: float, below: float) -> float:
    return above / below if below > 0 else math.nan
