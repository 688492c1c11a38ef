"""The grid as data: what the default is, and what is refused before anything runs."""

from __future__ import annotations

import pytest
from sklearn.decomposition import PCA
from sklearn.ensemble import VotingRegressor
from sklearn.feature_selection import SelectKBest, mutual_info_regression
from sklearn.linear_model import LinearRegression, Ridge
from sklearn.preprocessing import MinMaxScaler, RobustScaler, StandardScaler
from sklearn.svm import SVR
from xgboost import XGBRegressor

from valence.config import Config, StepConfig, SweepConfig
from valence.errors import ConfigError
from valence.sweep.grid import build, combinations, engine_of, plain_pipeline


def _sweep(*assignments: str) -> SweepConfig:
    return Config.resolve(Config(), assignments=[f"sweep.{each}" for each in assignments]).sweep


def test_the_default_is_the_papers_sixty() -> None:
    grid = combinations(SweepConfig())
    assert len({str(each) for each in grid}) == 60
    assert {each.scaler.name for each in grid} == {"none", "standard", "minmax"}
    assert {each.reducer.name for each in grid} == {"none", "selectkbest", "pca10", "pca20"}
    assert {each.regressor.name for each in grid} == {
        "linear",
        "ridge",
        "svr",
        "xgboost",
        "ensemble",
    }


def test_the_default_pipelines_are_the_papers() -> None:
    config = SweepConfig(seed=7)
    pipelines = {str(each): plain_pipeline(each, config) for each in combinations(config)}

    def step(combination: str, name: str) -> object:
        return pipelines[combination].named_steps[name]

    assert step("none-none-linear", "scaler") == "passthrough"
    assert step("none-none-linear", "reducer") == "passthrough"
    assert type(step("standard-none-ridge", "scaler")) is StandardScaler
    assert type(step("minmax-none-ridge", "scaler")) is MinMaxScaler
    selector = step("none-selectkbest-ridge", "reducer")
    assert type(selector) is SelectKBest
    assert selector.k == 16
    assert selector.score_func.func is mutual_info_regression
    assert selector.score_func.keywords == {"random_state": 7}
    for name, components in (("pca10", 10), ("pca20", 20)):
        reducer = step(f"none-{name}-ridge", "reducer")
        assert type(reducer) is PCA
        assert (reducer.n_components, reducer.random_state) == (components, 7)
    assert type(step("none-none-linear", "regressor")) is LinearRegression
    assert type(step("none-none-ridge", "regressor")) is Ridge
    machine = step("none-none-svr", "regressor")
    assert type(machine) is SVR
    assert (machine.kernel, machine.degree, machine.C, machine.epsilon) == ("poly", 5, 1.0, 0.1)
    trees = step("none-none-xgboost", "regressor")
    assert type(trees) is XGBRegressor
    assert (trees.n_estimators, trees.max_depth, trees.n_jobs) == (200, 1, 1)
    voting = step("none-none-ensemble", "regressor")
    assert type(voting) is VotingRegressor
    assert [type(member) for _, member in voting.estimators] == [LinearRegression, SVR]


def test_a_user_adds_a_step_by_name_class_and_parameters() -> None:
    config = _sweep(
        'scalers=["none", {name="robust", estimator="RobustScaler", '
        "parameters={quantile_range=[10.0, 90.0]}}]",
        'regressors=["ridge", {name="lasso", estimator="Lasso", parameters={alpha=0.01}}, '
        '{name="both", members=["ridge", "lasso"]}]',
    )
    grid = combinations(config)
    assert len(grid) == 2 * 4 * 3
    robust = build("scaler", config.scalers[1], seed=0)
    assert type(robust) is RobustScaler
    assert robust.quantile_range == (10.0, 90.0)
    assert Config.resolve(Config(sweep=config)).sweep == config


@pytest.mark.parametrize(
    ("assignment", "said"),
    [
        ('scalers=["nine"]', "'nine' is none of the defaults"),
        ('scalers=[{name="a b"}]', "name"),
        ('scalers=["none", "none"]', "twice"),
        ("regressors=[]", "names none"),
        ('scalers=[{name="a", estimator="RobustScaller"}]', "Did you mean 'RobustScaler'"),
        ('scalers=[{name="a", estimator="SVR"}]', "not offered"),
        ('regressors=[{name="a", estimator="os.system"}]', "not offered"),
        ('regressors=[{name="a"}]', "without an estimator"),
        ('scalers=[{name="a", members=["none"]}]', "Only a regressor has members"),
        ('regressors=["svr", {name="a", members=["svr"]}]', "two or more"),
        ('regressors=["svr", {name="a", members=["svr", "svr"]}]', "two or more"),
        ('regressors=["svr", {name="a", members=["svr", "svm"]}]', "two or more"),
        (
            'regressors=["svr", "ridge", {name="a", members=["svr", "ridge"]}, '
            '{name="b", members=["a", "svr"]}]',
            "two or more",
        ),
        ('regressors=[{name="a", estimator="SVR", parameters={kernl="rbf"}}]', "'kernel'"),
        ('regressors=[{name="a", estimator="SVR", parameters={kernel="polly"}}]', "polly"),
        ('regressors=[{name="a", estimator="SVR", parameters={C=-1.0}}]', "'C'"),
        ('regressors=[{name="a", estimator="XGBRegressor", parameters={n_jobs=8}}]', "n_jobs"),
        ('regressors=[{name="a", estimator="Ridge", parameters={copy_X=false}}]', "copy_X"),
        ('reducers=[{name="a", estimator="PCA", parameters={copy=false}}]', "copy"),
        (
            'regressors=[{name="a", estimator="KNeighborsRegressor", '
            'parameters={algorithm="kd_tree"}}]',
            "algorithm",
        ),
        (
            'scalers=[{name="a", estimator="RobustScaler", '
            'parameters={quantile_range=["25", "75"]}}]',
            "cannot be used",
        ),
        (
            'scalers=[{name="a", estimator="MinMaxScaler", parameters={feature_range=[0]}}]',
            "cannot be used",
        ),
        (
            'regressors=[{name="a", estimator="XGBRegressor", parameters={max_depth="x"}}]',
            "max_depth",
        ),
        (
            'regressors=[{name="a", estimator="XGBRegressor", parameters={n_estimators=-5}}]',
            "n_estimators = -5",
        ),
        (
            'regressors=[{name="a", estimator="XGBRegressor", parameters={n_estimators="many"}}]',
            "n_estimators = 'many'",
        ),
        (
            'regressors=[{name="a", estimator="XGBRegressor", parameters={booster="zz"}}]',
            "Unknown gbm type zz$",
        ),
        (
            'regressors=[{name="a", estimator="SVR", parameters={kernel="precomputed"}}]',
            "square matrix",
        ),
        ('regressors=[{name="a", estimator="Ridge", parameters={solver="lbfgs"}}]', "positive"),
        ('regressors=[{name="a", estimator="Ridge", parameters={alpha=[1.0, 2.0]}}]', "penalties"),
        (
            'regressors=[{name="a", estimator="RandomForestRegressor", '
            "parameters={max_samples=0.5, bootstrap=false}}]",
            "max_sample",
        ),
        (
            'reducers=[{name="a", estimator="PCA", '
            'parameters={n_components="mle", svd_solver="randomized"}}]',
            "mle",
        ),
        ('reducers=[{name="a", estimator="PCA", parameters={n_components=0}}]', "no column"),
        ('regressors=["ensemble"]', "have an estimator: none"),
        ('regressors=["svr", "ridge", {name="a__b", members=["svr", "ridge"]}]', "name"),
        ("seed=5000000000", "seed"),
        ('reducers=[{name="a", estimator="SelectKBest", parameters={k=3}}]', "score_func"),
        (
            'reducers=[{name="a", estimator="SelectKBest", parameters={score_func="f_classif"}}]',
            "f_classif",
        ),
    ],
)
def test_what_cannot_be_built_is_refused_in_words(assignment: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said.replace("(", r"\(")):
        combinations(_sweep(assignment))


def test_engines_are_named_for_what_they_fit() -> None:
    machine = StepConfig(name="svr", estimator="SVR")
    trees = StepConfig(name="xgboost", estimator="XGBRegressor")
    line = StepConfig(name="linear", estimator="LinearRegression")
    assert [engine_of(each, "sklearn") for each in (machine, trees, line)] == [
        "sklearn",
        "xgboost",
        "sklearn",
    ]
    assert [engine_of(each, "sklearnex") for each in (machine, trees, line)] == [
        "sklearnex",
        "xgboost",
        "sklearn",
    ]
