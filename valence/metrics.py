"""Score the agreement of predicted with annotated values: CCC, PCC, MSE, MAE, and uncertainty.

Scores are computed in float64 from sufficient statistics that can be merged, so that a score is the
same however the data are divided.
"""

from __future__ import annotations

import math
import warnings
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from valence.uncertainty import interval_of_ccc, interval_of_difference, sums_by_subject

Array = NDArray[np.float64]


class ConstantWarning(RuntimeWarning):
    """Labels or predictions do not vary, so their agreement is 0 by definition."""


@dataclass(frozen=True)
class PairMoments:
    """Sufficient statistics of pairs (y, prediction); merge with `+`.

    Attributes
    ----------
    n
        Number of pairs.
    mean_y, mean_p
        Means of y and of the predictions.
    square_y, square_p, product
        Sums of the squared deviations from the means, and of the products of both deviations.
    """

    n: int = 0
    mean_y: float = 0.0
    mean_p: float = 0.0
    square_y: float = 0.0
    square_p: float = 0.0
    product: float = 0.0

    @classmethod
    def of(cls, y: ArrayLike, prediction: ArrayLike) -> PairMoments:
        """Compute the statistics of two arrays of the same shape `[n]`.

        Raises
        ------
        ValueError
            If the shapes differ or a value is not finite.
        """
        y, p = _pair(y, prediction)
        if not y.size:
            return cls()
        dy, dp = y - y.mean(), p - p.mean()
        # The mean of a constant array may be rounded; its deviations must still be 0.
        dy = np.zeros_like(dy) if np.ptp(y) == 0 else dy
        dp = np.zeros_like(dp) if np.ptp(p) == 0 else dp
        return cls(
            n=y.size,
            mean_y=float(y.mean()),
            mean_p=float(p.mean()),
            square_y=float(dy @ dy),
            square_p=float(dp @ dp),
            product=float(dy @ dp),
        )

    def __add__(self, other: PairMoments) -> PairMoments:
        """Merge the statistics of both (Chan, Golub and LeVeque, 1979)."""
        if not self.n or not other.n:
            return self if self.n else other
        n = self.n + other.n
        share = other.n / n
        dy, dp = other.mean_y - self.mean_y, other.mean_p - self.mean_p
        weight = self.n * share
        return PairMoments(
            n=n,
            mean_y=self.mean_y + dy * share,
            mean_p=self.mean_p + dp * share,
            square_y=self.square_y + other.square_y + weight * dy * dy,
            square_p=self.square_p + other.square_p + weight * dp * dp,
            product=self.product + other.product + weight * dy * dp,
        )

    @property
    def constant(self) -> bool:
        """Tell whether labels or predictions are constant, so that no correlation is defined."""
        return not self.n or self.square_y == 0 or self.square_p == 0

    @property
    def ccc(self) -> float:
        """Compute the concordance correlation coefficient in [-1, 1]; 0 if a side is constant.

        The formula is that of Lin (1989), "A concordance correlation coefficient to evaluate
        reproducibility", with population variances (ddof 0).
        """
        if self.constant:
            self._warn_constant()
            return 0.0
        shift = self.n * (self.mean_y - self.mean_p) ** 2
        return 2 * self.product / (self.square_y + self.square_p + shift)

    @property
    def pcc(self) -> float:
        """Compute the Pearson correlation coefficient in [-1, 1]; 0 if a side is constant."""
        if self.constant:
            self._warn_constant()
            return 0.0
        return self.product / math.sqrt(self.square_y) / math.sqrt(self.square_p)

    @property
    def mse(self) -> float:
        """Compute the mean squared error; NaN without pairs."""
        if not self.n:
            return math.nan
        spread = self.square_y + self.square_p - 2 * self.product
        return max(spread, 0.0) / self.n + (self.mean_y - self.mean_p) ** 2

    def _warn_constant(self) -> None:
        what = "there are no pairs" if not self.n else "the labels or predictions are constant"
        warnings.warn(f"{what}: the correlation is set to 0", ConstantWarning, stacklevel=3)


@dataclass(frozen=True)
class Scores:
    """Scores for the agreement of predictions with labels.

    `ccc_ci` is a 95 % interval over subjects, or None. `subjects` is the number of subjects, or
    None if the scores were computed without subjects.
    """

    ccc: float
    ccc_ci: tuple[float, float] | None
    pcc: float
    mse: float
    mae: float
    n: int
    subjects: int | None = None

    def to_json(self) -> dict[str, Any]:
        """Return a dictionary for `metrics.json`."""
        return asdict(self) | {
            "ccc_ci": None if self.ccc_ci is None else list(self.ccc_ci),
            "ccc_ci_method": None if self.ccc_ci is None else "jackknife",
        }


@dataclass(frozen=True)
class Difference:
    """The CCC of a second predictor minus the CCC of a first one, on the same rows.

    Attributes
    ----------
    difference
        The second CCC minus the first.
    ci
        A 95 % interval over subjects, or None. If it excludes 0, the two predictors differ.
    subjects
        Number of subjects.
    comparisons
        Number of differences that are judged together; the interval is widened for this number.
    """

    difference: float
    ci: tuple[float, float] | None
    subjects: int
    comparisons: int = 1

    def to_json(self) -> dict[str, Any]:
        """Return a dictionary for JSON."""
        return {
            "difference": self.difference,
            "ci": None if self.ci is None else list(self.ci),
            "subjects": self.subjects,
            "comparisons": self.comparisons,
            "method": None if self.ci is None else "sign flips and jackknife",
        }


def concordance(y: ArrayLike, prediction: ArrayLike) -> float:
    """Compute the concordance correlation coefficient of `y` and `prediction`, each `[n]`.

    >>> round(concordance([1, 2, 3], [1, 2, 4]), 4)
    0.8571
    """
    return PairMoments.of(y, prediction).ccc


def pearson(y: ArrayLike, prediction: ArrayLike) -> float:
    """Compute the Pearson correlation coefficient of `y` and `prediction`, each `[n]`."""
    return PairMoments.of(y, prediction).pcc


def mean_squared_error(y: ArrayLike, prediction: ArrayLike) -> float:
    """Compute the mean squared difference of `y` and `prediction`, each `[n]`."""
    y, p = _pair(y, prediction)
    return float(np.mean((y - p) ** 2))


def mean_absolute_error(y: ArrayLike, prediction: ArrayLike) -> float:
    """Compute the mean absolute difference of `y` and `prediction`, each `[n]`."""
    y, p = _pair(y, prediction)
    return float(np.mean(np.abs(y - p)))


def score(
    y: ArrayLike,
    prediction: ArrayLike,
    *,
    subjects: ArrayLike | None = None,
    bootstrap: int = 0,
) -> Scores:
    """Compute all scores of `prediction` against `y`, each `[n]`, with at least one pair.

    Parameters
    ----------
    y, prediction
        Labels and predictions, `[n]`.
    subjects
        The subject of each pair, `[n]`. The interval is over subjects, because values of one person
        are not independent. It is None with fewer than `valence.uncertainty.FEWEST` subjects.
    bootstrap
        0 gives no interval; every other number gives the same interval.
    """
    y, p = _pair(y, prediction)
    moments = PairMoments.of(y, p)
    interval, people = None, None
    if subjects is not None:
        sums = _sums(y, p, subjects)
        people = len(sums)
        interval = interval_of_ccc(sums) if bootstrap else None
    return Scores(
        ccc=moments.ccc,
        ccc_ci=interval,
        pcc=moments.pcc,
        mse=mean_squared_error(y, p),
        mae=mean_absolute_error(y, p),
        n=moments.n,
        subjects=people,
    )


def paired_difference(
    y: ArrayLike,
    first: ArrayLike,
    second: ArrayLike,
    subjects: ArrayLike,
    *,
    bootstrap: int,
    seed: int = 0,
    comparisons: int = 1,
) -> Difference:
    """Compute the CCC of `second` minus the CCC of `first` on the same rows, each `[n]`.

    Each subject is compared with itself, so a difficulty that both predictors share cancels.

    Parameters
    ----------
    y, first, second
        Labels, and the predictions of two predictors, `[n]`.
    subjects
        The subject of each row, `[n]`.
    bootstrap, seed
        Number of random ways to flip the subjects' signs (at least 1,000), and the seed; used only
        if there are too many ways to try all. A `bootstrap` of 0 gives no interval.
    comparisons
        Number of differences that are judged together.
    """
    y, a = _pair(y, first)
    _, b = _pair(y, second)
    difference = PairMoments.of(y, b).ccc - PairMoments.of(y, a).ccc
    ours, theirs = _sums(y, a, subjects), _sums(y, b, subjects)
    interval = None
    if bootstrap:
        interval = interval_of_difference(
            ours, theirs, comparisons=comparisons, draws=bootstrap, seed=seed
        )
    return Difference(difference, interval, len(ours), comparisons)


def _sums(y: Array, prediction: Array, subjects: ArrayLike) -> Array:
    # Subtract one near origin everywhere, because sums of squares about a far one lose digits.
    origin = y.mean()
    y, p = y - origin, prediction - origin
    if np.ptp(prediction) == 0:
        # A constant has a CCC of 0; rounding must not leave a small product.
        p = np.zeros_like(p)
    return sums_by_subject(y, p, np.asarray(subjects))


def _pair(y: ArrayLike, prediction: ArrayLike) -> tuple[Array, Array]:
    first, second = np.asarray(y, np.float64), np.asarray(prediction, np.float64)
    if first.ndim != 1 or first.shape != second.shape:
        raise ValueError(
            f"labels {first.shape} and predictions {second.shape} are not two rows of one length"
        )
    if not (np.isfinite(first).all() and np.isfinite(second).all()):
        raise ValueError("labels or predictions hold NaN or infinity")
    return first, second
