"""Select the best combination, and compare it with the deep model.

The selection uses the validation rows. The test rows are scored once, for the whole table, after
the selection. With `select_on = "test"` they select instead, as in the paper, and the result says
so. Intervals are over subjects, by the methods of `valence.uncertainty`.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from valence.config import SweepConfig
from valence.errors import SplitError, TrainingError
from valence.metrics import (
    ConstantWarning,
    concordance,
    mean_absolute_error,
    mean_squared_error,
    paired_difference,
    score,
)
from valence.sweep.features import Features
from valence.sweep.grid import Combination
from valence.sweep.kept.outcomes import TrialOutcome
from valence.sweep.kept.results import RESULT_COLUMNS
from valence.sweep.transforms import Division

Array = NDArray[np.float64]
SplitPart = Literal["validation", "test"]

# Intervals are computed and written for so many of the best combinations.
_LEADERS = 10


def check_rows(division: Division, on: SplitPart) -> None:
    """Refuse to begin a sweep that has no rows to select on.

    Raises
    ------
    SplitError
        If there are none.
    """
    if not len(getattr(division, on)):
        raise SplitError(
            f"sweep.select_on = '{on}', and there are no labelled {on} sequences to select on. "
            "Select on validation, or check the split with 'valence check CORPUS'."
        )


def rank(
    outcomes: Mapping[Combination, TrialOutcome], division: Division, *, on: SplitPart
) -> list[Combination]:
    """Rank the combinations, best CCC first, failed ones last; equal ones keep their order."""
    y = _labels(getattr(division, on))
    found = {
        combination: _concordance(y, getattr(outcome, on))
        for combination, outcome in outcomes.items()
        if outcome.status == "ok"
    }
    return sorted(outcomes, key=lambda each: -found.get(each, -math.inf))


def tabulate(
    ranking: Sequence[Combination],
    outcomes: Mapping[Combination, TrialOutcome],
    division: Division,
) -> pd.DataFrame:
    """Build the table of `results.csv` in the order of `ranking`, with `RESULT_COLUMNS`.

    The scores of a failed combination are NaN; test scores are also NaN without labelled test rows.
    """
    y_validation, y_test = _labels(division.validation), _labels(division.test)
    rows = []
    for combination in ranking:
        outcome = outcomes[combination]
        ok = outcome.status == "ok"
        tested = ok and len(y_test) > 0
        rows.append(
            (
                *combination.names,
                _concordance(y_validation, outcome.validation) if ok else math.nan,
                _concordance(y_test, outcome.test) if tested else math.nan,
                mean_squared_error(y_test, outcome.test) if tested else math.nan,
                mean_absolute_error(y_test, outcome.test) if tested else math.nan,
                outcome.seconds,
                outcome.engine,
                outcome.rows,
                outcome.status,
                outcome.reason,
            )
        )
    return pd.DataFrame(rows, columns=list(RESULT_COLUMNS))


def select(
    ranking: Sequence[Combination],
    outcomes: Mapping[Combination, TrialOutcome],
    division: Division,
    *,
    config: SweepConfig,
    baselines: Mapping[str, TrialOutcome],
) -> dict[str, Any]:
    """Build the content of `selection.json`: the scores of the best combination and its rivals.

    The rivals are the deep model and the baselines; the content also has the differences.

    Parameters
    ----------
    ranking
        Combinations, best first.
    outcomes
        Outcome of each combination, with its predictions.
    division
        Rows of the predictions; they also have the deep model's own predictions.
    config
        The rows to select on, whether to compute intervals, and the seed of their draws.
    baselines
        Predictions of plain predictors, by name.

    Raises
    ------
    TrainingError
        If every combination failed.
    """
    leaders = [each for each in ranking[:_LEADERS] if outcomes[each].status == "ok"]
    if not leaders:
        raise TrainingError(
            f"All {len(outcomes)} combinations failed; the first of them: "
            f"{outcomes[ranking[0]].reason}. The sweep's results.csv has the reason of each."
        )
    scoring, deep = _Scoring(division, config), deep_outcome(division)
    return {
        "select_on": config.select_on,
        "engine": config.engine,
        "svr_max_rows": config.svr_max_rows,
        "bootstrap": config.bootstrap,
        "seed": config.seed,
        "best": _named(leaders[0]) | scoring.scores(outcomes[leaders[0]]),
        "deep": scoring.scores(deep),
        "paired": scoring.differences(deep, outcomes[leaders[0]]),
        "baselines": {name: scoring.scores(outcome) for name, outcome in baselines.items()},
        "deep_less_baseline": {
            name: scoring.differences(outcome, deep) for name, outcome in baselines.items()
        },
        "leaders": [_named(each) | scoring.scores(outcomes[each]) for each in leaders],
        "failed": sum(outcome.status == "failed" for outcome in outcomes.values()),
    }


class _Scoring:
    """Scores and differences on the validation and test rows; None where there are no rows."""

    def __init__(self, division: Division, config: SweepConfig) -> None:
        self._parts: dict[SplitPart, Features] = {
            "validation": division.validation,
            "test": division.test,
        }
        self._config = config

    def scores(self, outcome: TrialOutcome) -> dict[str, Any]:
        """Score an outcome's predictions on each part."""
        found: dict[str, Any] = {}
        for part, rows in self._parts.items():
            found[part] = None
            if len(rows):
                with _constant_is_no_fault():
                    found[part] = score(
                        _labels(rows),
                        getattr(outcome, part),
                        subjects=rows.subject,
                        bootstrap=self._config.bootstrap,
                    ).to_json()
        return found

    def differences(self, first: TrialOutcome, second: TrialOutcome) -> dict[str, Any]:
        """Compute CCC of `second` minus CCC of `first` on each part."""
        found: dict[str, Any] = {}
        for part, rows in self._parts.items():
            found[part] = None
            if len(rows):
                with _constant_is_no_fault():
                    found[part] = paired_difference(
                        _labels(rows),
                        getattr(first, part),
                        getattr(second, part),
                        rows.subject,
                        bootstrap=self._config.bootstrap,
                        seed=self._config.seed,
                    ).to_json()
        return found


def deep_outcome(division: Division) -> TrialOutcome:
    """Return the deep model's own predictions in the form of an outcome."""
    validation, test = (
        rows.prediction[:, 0].astype(np.float64) for rows in (division.validation, division.test)
    )
    return TrialOutcome("ok", "", 0.0, "torch", len(division.training), validation, test)


def constant_outcome(division: Division) -> TrialOutcome:
    """Return the outcome that predicts the mean of the training labels for every row."""
    mean = float(_labels(division.training).mean())
    validation, test = (np.full(len(rows), mean) for rows in (division.validation, division.test))
    return TrialOutcome("ok", "", 0.0, "numpy", len(division.training), validation, test)


def _named(combination: Combination) -> dict[str, Any]:
    return dict(zip(("scaler", "reducer", "regressor"), combination.names, strict=True))


def _labels(rows: Features) -> Array:
    return rows.target[:, 0].astype(np.float64)


def _concordance(y: Array, prediction: Array) -> float:
    with _constant_is_no_fault():
        return concordance(y, prediction)


@contextmanager
def _constant_is_no_fault() -> Iterator[None]:
    """Give no warning: a predictor of the mean rightly scores 0, and one baseline is such."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConstantWarning)
        yield
