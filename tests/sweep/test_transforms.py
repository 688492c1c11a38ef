"""Transforms: fitted on training rows alone, equal to the plain Pipeline to the last bit."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from sklearn.feature_selection import mutual_info_regression
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import MinMaxScaler, StandardScaler
from threadpoolctl import threadpool_limits

from valence.config import StepConfig, SweepConfig
from valence.errors import ModelError, SplitError
from valence.sweep import transforms
from valence.sweep.features import Features, concatenate
from valence.sweep.grid import build
from valence.sweep.mutual_information import mutual_information
from valence.sweep.transforms import (
    Array,
    TransformCache,
    Transformed,
    TransformError,
    divide,
    shares_mutual_information,
    training_target,
    transform,
    untransformed,
    uses_mutual_information,
)

Make = Callable[..., Features]


def test_divides_labelled_rows_by_split(make_features: Make) -> None:
    features = make_features(rows=(12, 9, 7))
    features.target[3] = np.nan
    division = divide(features)
    assert [len(division.training), len(division.validation), len(division.test)] == [11, 9, 7]
    np.testing.assert_array_equal(division.training.feature[3], features.feature[4])
    raw = untransformed(division)
    assert raw.training.dtype == np.float64
    assert raw.training.shape == (11, 36)


@pytest.mark.parametrize("other", ["validation", "test"])
def test_a_subject_in_two_splits_is_refused(make_features: Make, other: str) -> None:
    features = make_features()
    features.subject[np.flatnonzero(features.split == other)[0]] = features.subject[0]
    with pytest.raises(SplitError, match="'s01' has sequences in more than one"):
        divide(features)


def test_a_recording_never_crosses_even_where_subjects_may(make_features: Make) -> None:
    features = make_features()
    features.subject[:] = "one"
    assert len(divide(features, allow_subject_overlap=True).training) == 240
    features.recording[features.split == "test"] = "r01"
    with pytest.raises(SplitError, match="recording 'r01'"):
        divide(features, allow_subject_overlap=True)


@pytest.mark.parametrize(
    ("into", "out_of"), [("training", "validation"), ("training", "test"), ("test", "training")]
)
def test_a_division_that_leaks_cannot_be_made(make_features: Make, into: str, out_of: str) -> None:
    division = divide(make_features())
    leak = getattr(division, out_of).rows(np.arange(2))
    leaky = concatenate([getattr(division, into), leak])
    with pytest.raises(SplitError, match=rf"2 of {len(leaky)} rows that were taken for .* belong"):
        untransformed(replace(division, **{into: leaky}))
    if into == "training":
        with pytest.raises(SplitError, match="taken for train rows belong to"):
            training_target(leaky)


def test_scalers_and_reducers_have_seen_training_rows_alone(make_features: Make) -> None:
    features = make_features()
    # Were the others looked at, no mean, range or axis below would be the training rows' own.
    features.feature[features.split != "train"] += 7
    division = divide(features)
    config = SweepConfig()
    raw, y = untransformed(division), training_target(division.training)
    x = division.training.feature.astype(np.float64)
    standard, minmax = (
        transform(scaler, config.reducers[2], raw, y, seed=0) for scaler in config.scalers[1:]
    )
    np.testing.assert_allclose(standard.scaler.mean_, x.mean(axis=0), rtol=0, atol=1e-12)
    np.testing.assert_allclose(standard.scaler.var_, x.var(axis=0), rtol=1e-12)
    np.testing.assert_array_equal(minmax.scaler.data_max_, x.max(axis=0))
    scaled = (x - x.min(axis=0)) / np.ptp(x, axis=0)
    np.testing.assert_allclose(minmax.reducer.mean_, scaled.mean(axis=0), rtol=0, atol=1e-12)


def test_the_other_splits_do_not_move_what_is_fitted(make_features: Make) -> None:
    division = divide(make_features())
    config = SweepConfig()
    y = training_target(division.training)
    raw = untransformed(division)
    shifted = replace(raw, validation=raw.validation * 9 + 5, test=raw.test * 3 - 2)
    for scaler in config.scalers:
        for reducer in config.reducers:
            one = transform(scaler, reducer, raw, y, seed=0)
            other = transform(scaler, reducer, shifted, y, seed=0)
            np.testing.assert_array_equal(one.training, other.training)


@pytest.mark.parametrize("missing", ["train", "validation"])
def test_without_rows_to_fit_on_or_select_by_it_stops(make_features: Make, missing: str) -> None:
    features = make_features()
    features.target[features.split == missing] = np.nan
    with pytest.raises(SplitError, match="no labelled"):
        divide(features)


def test_features_of_a_broken_model_are_refused(make_features: Make) -> None:
    features = make_features()
    features.feature[5, 3] = np.inf
    with pytest.raises(ModelError, match="NaN or infinity"):
        divide(features)


def test_equals_the_pipelines_own_steps_to_the_last_bit(make_features: Make) -> None:
    config = SweepConfig()
    division = divide(make_features())
    raw, y = untransformed(division), training_target(division.training)
    with threadpool_limits(limits=1):
        shared = mutual_information(raw.training, y, seed=0)
        for scaler in config.scalers:
            for reducer in config.reducers:
                found = transform(scaler, reducer, raw, y, seed=0, shared=shared)
                plain = Pipeline(
                    [
                        ("scaler", build("scaler", scaler, seed=0)),
                        ("reducer", build("reducer", reducer, seed=0)),
                    ]
                )
                training = plain.fit_transform(raw.training, y)
                np.testing.assert_array_equal(found.training, training)
                np.testing.assert_array_equal(found.validation, plain.transform(raw.validation))
                np.testing.assert_array_equal(found.test, plain.transform(raw.test))


@pytest.mark.parametrize(("columns", "solver"), [(256, "randomized"), (60, "covariance_eigh")])
def test_and_at_the_size_of_a_run(make_features: Make, columns: int, solver: str) -> None:
    """Where scikit-learn's PCA works otherwise than on a few columns."""
    config = SweepConfig()
    division = divide(make_features(rows=(720, 90, 60), columns=columns))
    raw, y = untransformed(division), training_target(division.training)
    with threadpool_limits(limits=1):
        shared = mutual_information(raw.training, y, seed=0)
        for scaler in config.scalers:
            for reducer in config.reducers:
                found = transform(scaler, reducer, raw, y, seed=0, shared=shared)
                plain = Pipeline(
                    [
                        ("scaler", build("scaler", scaler, seed=0)),
                        ("reducer", build("reducer", reducer, seed=0)),
                    ]
                )
                training = plain.fit_transform(raw.training, y)
                np.testing.assert_array_equal(found.training, training)
                np.testing.assert_array_equal(found.validation, plain.transform(raw.validation))
                if reducer.estimator == "PCA":
                    assert found.reducer._fit_svd_solver == solver


def test_without_test_rows_the_width_is_still_right(make_features: Make) -> None:
    features = make_features(rows=(60, 30, 4), subjects=(2, 2, 1))
    division = divide(features.rows(features.split != "test"))
    config = SweepConfig()
    raw, y = untransformed(division), training_target(division.training)
    found = transform(config.scalers[1], config.reducers[2], raw, y, seed=0)
    assert found.test.shape == (0, 10)


def _tied(seed: int) -> tuple[Array, Array]:
    """Rows whose labels and values repeat: what moves mutual information under a scaler."""
    generator = np.random.default_rng(seed)
    latent = generator.standard_normal((80, 3))
    x = 0.5 * latent @ generator.standard_normal((3, 40))
    x = np.round(np.tanh(x + 0.5 * generator.standard_normal((80, 40))), 1) + 5
    return x, np.round(np.tanh(latent[:, 0]), 1)


_EIGHT = StepConfig(
    name="k",
    estimator="SelectKBest",
    parameters={"score_func": "mutual_info_regression", "k": 8},
)


@pytest.mark.parametrize("seed", range(30))
def test_shared_information_chooses_the_same_columns(seed: int) -> None:
    x, y = _tied(seed)
    raw = Transformed("passthrough", "passthrough", x, x[:9], x[:7])
    shared = mutual_information(x, y, seed=0)
    for name in ("StandardScaler", "MinMaxScaler", "RobustScaler"):
        scaler = StepConfig(name="s", estimator=name)
        own = transform(scaler, _EIGHT, raw, y, seed=0)
        found = transform(scaler, _EIGHT, raw, y, seed=0, shared=shared)
        np.testing.assert_array_equal(found.training, own.training)


def test_and_would_not_if_it_were_taken_as_it_is() -> None:
    """That the shared scores are confirmed near the cut is needed: without it, columns differ."""
    different = 0
    for seed in range(30):
        x, y = _tied(seed)
        own = mutual_information(StandardScaler().fit_transform(x), y, seed=0)
        taken = mutual_information(x, y, seed=0)
        chosen = [set(np.argsort(each, kind="mergesort")[-8:]) for each in (own, taken)]
        different += chosen[0] != chosen[1]
    assert different > 0


@pytest.mark.parametrize("scaler", ["StandardScaler", "MinMaxScaler"])
def test_a_column_that_hardly_varies_is_chosen_as_it_is_behind_the_scaler(scaler: str) -> None:
    """Its mutual information moves further than that of others, past columns and past the cut."""
    generator = np.random.default_rng(1)
    y = generator.standard_normal(700)
    # Two neighbouring values of float32, which tell of the label's sign now and then.
    low, high = np.float32(0.7), np.nextafter(np.float32(0.7), np.float32(1))
    steady = np.where((y > 0) & (generator.random(700) < 0.3), high, low).astype(np.float64)
    step = StepConfig(name="s", estimator=scaler)
    scaled = build("scaler", step, seed=0).fit_transform(steady[:, None])
    before, after = (mutual_information(x, y, seed=0)[0] for x in (steady[:, None], scaled))
    assert after < before - 0.01
    pool = y[:, None] + 2 * generator.standard_normal((700, 400))
    known = mutual_information(pool, y, seed=0)
    between = pool[:, (known > after + 1e-3) & (known < before - 1e-3)][:, :40]
    assert between.shape[1] == 40
    x = np.column_stack([steady, between])
    raw = Transformed("passthrough", "passthrough", x, x[:9], x[:7])
    parameters = {"score_func": "mutual_info_regression", "k": 20}
    best = StepConfig(name="k", estimator="SelectKBest", parameters=parameters)
    shared = mutual_information(x, y, seed=0)
    found = transform(step, best, raw, y, seed=0, shared=shared)
    own = transform(step, best, raw, y, seed=0)
    np.testing.assert_array_equal(found.reducer.get_support(), own.reducer.get_support())
    assert not own.reducer.get_support()[0]


@pytest.mark.parametrize("scaler", ["StandardScaler", "MinMaxScaler"])
def test_a_column_that_repeats_with_its_label_is_chosen_as_it_is_behind_the_scaler(
    scaler: str,
) -> None:
    """Among columns that a scaler moves by nothing, it moves past them and past the cut."""
    generator = np.random.default_rng(9)
    # A label for each of 25 recordings of 40 rows, and a unit that is nearly always saturated.
    y = np.repeat(np.round(np.tanh(generator.standard_normal(25)), 1), 40)
    unit = np.where(y + generator.standard_normal(1000) > 0, 1.0, 0.996)
    step = StepConfig(name="s", estimator=scaler)
    scaled = build("scaler", step, seed=0).fit_transform(unit[:, None])
    before, after = (mutual_information(x, y, seed=0)[0] for x in (unit[:, None], scaled))
    assert abs(after - before) > 0.01
    pool = np.tanh(
        y[:, None] * generator.uniform(0.05, 2, 1200) + generator.normal(size=(1000, 1200))
    )
    known = mutual_information(pool, y, seed=0)
    between = pool[:, (known > min(before, after)) & (known < max(before, after))][:, :120]
    assert between.shape[1] == 120
    x = np.column_stack([unit, between])
    raw = Transformed("passthrough", "passthrough", x, x[:9], x[:7])
    shared = mutual_information(x, y, seed=0)
    moved = mutual_information(build("scaler", step, seed=0).fit_transform(x), y, seed=0)
    ranks = [int(np.sum(each > each[0])) for each in (shared, moved)]
    assert abs(ranks[0] - ranks[1]) > 20
    # The cut lies beside the place where it belongs, and far from the one where it seems to.
    count = ranks[1] if ranks[1] > ranks[0] else ranks[1] + 1
    parameters = {"score_func": "mutual_info_regression", "k": count}
    best = StepConfig(name="k", estimator="SelectKBest", parameters=parameters)
    found = transform(step, best, raw, y, seed=0, shared=shared)
    own = transform(step, best, raw, y, seed=0)
    np.testing.assert_array_equal(found.reducer.get_support(), own.reducer.get_support())
    assert own.reducer.get_support()[0] == (ranks[1] < ranks[0])


def test_regressors_cannot_write_into_what_the_next_one_sees(make_features: Make) -> None:
    division = divide(make_features())
    config = SweepConfig()
    raw, y = untransformed(division), training_target(division.training)
    for scaler in config.scalers:
        for reducer in config.reducers:
            found = transform(scaler, reducer, raw, y, seed=0)
            assert not any(matrix.flags.writeable for matrix in found.matrices)


def test_only_affine_scalers_share() -> None:
    config = SweepConfig()
    assert [uses_mutual_information(each) for each in config.reducers] == [
        False,
        True,
        False,
        False,
    ]
    assert all(shares_mutual_information(each) for each in config.scalers)
    assert not shares_mutual_information(StepConfig(name="q", estimator="QuantileTransformer"))


def test_fitted_selectors_keep_their_genuine_score_function(make_features: Make) -> None:
    division = divide(make_features())
    raw, y = untransformed(division), training_target(division.training)
    config = SweepConfig(seed=3)
    shared = mutual_information(raw.training, y, seed=3)
    found = transform(config.scalers[1], config.reducers[1], raw, y, seed=3, shared=shared)
    assert found.reducer.score_func.func is mutual_info_regression
    assert found.reducer.score_func.keywords == {"random_state": 3}
    assert type(found.scaler) is StandardScaler
    assert type(transform(config.scalers[2], config.reducers[0], raw, y, seed=3).scaler) is (
        MinMaxScaler
    )


def test_a_reducer_that_cannot_be_fitted_says_which(make_features: Make) -> None:
    division = divide(make_features(rows=(30, 9, 7)))
    raw, y = untransformed(division), training_target(division.training)
    wide = StepConfig(name="wide", estimator="PCA", parameters={"n_components": 35})
    with pytest.raises(TransformError, match="none and wide cannot be fitted: ValueError"):
        transform(StepConfig(name="none"), wide, raw, y, seed=0)
    hasty = StepConfig(name="hasty", estimator="FastICA", parameters={"max_iter": 1, "tol": 1e-9})
    with pytest.raises(TransformError, match="none and hasty cannot be fitted: Convergence"):
        transform(StepConfig(name="none"), hasty, raw, y, seed=0)


@pytest.fixture
def fitted(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Which transforms have been fitted, in order."""
    names: list[str] = []

    def noting(scaler: StepConfig, reducer: StepConfig, *args: Any, **options: Any) -> Transformed:
        names.append(f"{scaler.name}-{reducer.name}")
        return transform(scaler, reducer, *args, **options)

    monkeypatch.setattr(transforms, "transform", noting)
    return names


def test_one_transform_serves_every_regressor_behind_it(
    make_features: Make, fitted: list[str]
) -> None:
    division, config = divide(make_features()), SweepConfig()
    raw, y = untransformed(division), training_target(division.training)
    size = sum(matrix.nbytes for matrix in raw.matrices)
    cache = TransformCache(raw, y, seed=0, most_bytes=10 * size)
    for _ in config.regressors:
        for scaler in config.scalers:
            for reducer in config.reducers:
                found = cache.get(scaler, reducer, shared=None)
                assert found.training.shape[0] == 240
    assert len(fitted) == len(set(fitted)) == 12
    # Two scaled in full width, and of three reduced to 16, 10 and 20 of 36 columns.
    assert cache.nbytes == pytest.approx(size * (2 + 3 * 46 / 36))


def test_transforms_used_longest_ago_are_forgotten(make_features: Make, fitted: list[str]) -> None:
    division, config = divide(make_features()), SweepConfig()
    raw, y = untransformed(division), training_target(division.training)
    none, standard, minmax = config.scalers
    whole, _, ten, _ = config.reducers
    size = sum(matrix.nbytes for matrix in raw.matrices)
    cache = TransformCache(raw, y, seed=0, most_bytes=1.5 * size)
    for scaler, reducer in (
        (standard, whole),
        (none, ten),
        (standard, whole),
        # Too much by now: `none-pca10` was used longest ago, and then `standard-none`.
        (minmax, whole),
        (none, whole),
        (minmax, whole),
        (none, ten),
    ):
        cache.get(scaler, reducer, shared=None)
        assert cache.nbytes <= 1.5 * size
    assert fitted == ["standard-none", "none-pca10", "minmax-none", "none-none", "none-pca10"]
    small = TransformCache(raw, y, seed=0, most_bytes=1)
    assert small.get(standard, whole, shared=None) is small.get(standard, whole, shared=None)


def test_a_refusal_is_remembered(make_features: Make, fitted: list[str]) -> None:
    division = divide(make_features(rows=(30, 9, 7)))
    raw, y = untransformed(division), training_target(division.training)
    cache = TransformCache(raw, y, seed=0, most_bytes=1)
    wide = StepConfig(name="wide", estimator="PCA", parameters={"n_components": 35})
    for _ in range(3):
        with pytest.raises(TransformError, match="none and wide cannot be fitted"):
            cache.get(StepConfig(name="none"), wide, shared=None)
    assert fitted == ["none-wide"]
