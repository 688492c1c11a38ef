"""`valence sweep`: the combinations of scaler, reducer and regressor as trials of Ray Tune.

The features travel once through the object store, each pair of scaler and reducer is fitted once,
as a Ray task, and every combination is a trial that fits one regressor behind one of them. A trial
keeps its predictions in `RUN/sweep/combinations/` as it ends, so a killed sweep goes on from there.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, cast

import numpy as np
import ray
from numpy.typing import NDArray
from ray import ObjectRef
from sklearn.pipeline import Pipeline
from threadpoolctl import threadpool_limits

from pipelines.progress import Report
from pipelines.trials import TransformKey, Work, run_trials
from valence.combinations import Combination, combinations, engine_of, regressor_parts
from valence.config import Config, StepConfig, SweepConfig
from valence.features import concatenate, read_features
from valence.functionals import functionals, functionals_outcome
from valence.outcomes import Outcome, OutcomeStore
from valence.regression import assemble, expected_cost
from valence.regressor import save_regressor
from valence.run import Run, fingerprint
from valence.segments import SegmentStore
from valence.selection import constant_outcome, rank, select, tabulate
from valence.storage import Location
from valence.transforms import (
    Array,
    Division,
    Transformed,
    divide,
    mutual_information,
    shares_mutual_information,
    training_target,
    transform,
    untransformed,
    uses_mutual_information,
)

# A combination whose worker is lost, with its node or for want of memory, is tried once more.
_ROUNDS = 2


def sweep(run: Run, config: Config, *, overwrite: bool, report: Report) -> dict[str, Any]:
    """Fit and rank all combinations, and keep the best.

    Parameters
    ----------
    run
        A run with features.
    config
        The sections `sweep`, `sequence` and `split` matter here.
    overwrite
        Whether results of another configuration or other features may be replaced.
    report
        Where progress is shown.

    Returns
    -------
    Summary: seconds, combinations, failed, the best one's names and CCC, digest.

    Raises
    ------
    ConfigError
        If the combinations are not well defined.
    MissingStageError
        If there are no features.
    SplitError
        If the features' splits do not allow an honest score.
    StaleError
        If other results stand there and `overwrite` is False.
    TrainingError
        If every combination failed.
    """
    started = time.monotonic()
    grid = combinations(config.sweep)
    features = run.stage("features").require()["summary"]["digest"]
    stage = run.stage("sweep")
    made_of = {
        "features": features,
        "sweep": config.sweep.model_dump(mode="json"),
        "allow_subject_overlap": config.split.allow_subject_overlap,
    }
    state = stage.begin(made_of, overwrite=overwrite, wipe=False)
    if state == "done":
        report.say("sweep: nothing to do")
        return dict(stage.require()["summary"])

    overlap = config.split.allow_subject_overlap
    division = divide(read_features(run.folder("features")), allow_subject_overlap=overlap)
    store = OutcomeStore(stage.folder / "combinations")
    made_of_each = {str(each): _made_of(each, config.sweep, features) for each in grid}
    if state == "new":
        # A failure under another configuration, such as a shorter limit, says nothing here.
        store.forget_failures()
    shared = _Shared(division, config.sweep)
    baselines = _start_functionals(run, division, length=config.sequence.length)
    by_name = {str(each): each for each in grid}
    work = Work(config.sweep, store, by_name, made_of_each, shared.target)
    outcomes = _run(work, shared, stage.folder / "tune", report)
    plain = {"constant": constant_outcome(division)}
    if baselines is not None:
        plain["functionals"] = functionals_outcome(division, dict(ray.get(baselines)))

    ranking = rank(outcomes, division, on=config.sweep.select_on)
    table = tabulate(ranking, outcomes, division)
    with (stage.folder / "results.csv").writer() as target:
        table.to_csv(target, index=False)
    selection = select(ranking, outcomes, division, config=config.sweep, baselines=plain)
    _keep_best(run, ranking[0], outcomes, shared, selection, config)
    (stage.folder / "selection.json").write_json(selection)
    store.clear(keep=set(made_of_each))
    best = selection["best"]
    summary = {
        "seconds": round(time.monotonic() - started, 3),
        "combinations": len(grid),
        "failed": selection["failed"],
        "best": "-".join(ranking[0].names),
        "ccc_validation": best["validation"]["ccc"],
        "digest": fingerprint({"selection": selection}),
    }
    stage.finish(summary)
    report.say(
        f"sweep: best of {len(grid)} is {summary['best']}, validation CCC "
        f"{summary['ccc_validation']:.3f}"
        + (f"; {summary['failed']} failed" if summary["failed"] else "")
    )
    return summary


class _Shared:
    """What combinations share, each made once, as a task, when it is first asked for."""

    def __init__(self, division: Division, config: SweepConfig) -> None:
        self._config = config
        self.raw = ray.put(untransformed(division))
        self.target = ray.put(training_target(division.training))
        self.columns = division.training.feature.shape[1]
        self._transforms: dict[TransformKey, tuple[ObjectRef, ObjectRef]] = {}
        self._information: ObjectRef | None = None

    def transformed(self, scaler: StepConfig, reducer: StepConfig) -> tuple[ObjectRef, ObjectRef]:
        """The features behind a scaler and a reducer, and what regressors on them may cost."""
        key = (scaler.name, reducer.name)
        if key not in self._transforms:
            information = None
            if uses_mutual_information(reducer) and shares_mutual_information(scaler):
                information = self._mutual_information()
            task = _transform.options(num_returns=2)
            made = task.remote(scaler, reducer, self.raw, self.target, self._config, information)
            data, costs = cast("list[ObjectRef]", made)
            # What nothing is done to stands in the object store already.
            nothing = scaler.estimator is None and reducer.estimator is None
            self._transforms[key] = (self.raw if nothing else data, costs)
        return self._transforms[key]

    def _mutual_information(self) -> ObjectRef:
        if self._information is None:
            self._information = _information.remote(self.raw, self.target, self._config.seed)
        return self._information


def _run(
    work: Work, shared: _Shared, storage: Location, report: Report
) -> dict[Combination, Outcome]:
    lost: dict[str, str] = {}
    for _ in range(_ROUNDS):
        missing = [name for name in work.combinations if work.read(name) is None]
        if not missing:
            break
        if len(missing) < len(work.combinations):
            done = len(work.combinations) - len(missing)
            report.say(f"sweep: {done} of {len(work.combinations)} combinations are there already")
        transforms, costs = {}, {}
        # What selects by mutual information takes longest and holds the longest trials up.
        for each in sorted(
            (work.combinations[name] for name in missing),
            key=lambda each: not uses_mutual_information(each.reducer),
        ):
            if not each.regressor.members:
                key = (each.scaler.name, each.reducer.name)
                transforms[key], costs[key] = shared.transformed(each.scaler, each.reducer)
        sent = replace(work, transforms=transforms)
        lost = run_trials(sent, missing, costs, storage=storage, report=report)
    outcomes = {}
    for name, combination in work.combinations.items():
        outcome = work.read(name)
        if outcome is None:
            outcome = Outcome.failure(lost.get(name, "it was not run"))
            work.write(name, outcome)
        outcomes[combination] = outcome
    return outcomes


def _keep_best(
    run: Run,
    best: Combination,
    outcomes: Mapping[Combination, Outcome],
    shared: _Shared,
    selection: Mapping[str, Any],
    config: Config,
) -> None:
    """Refit the best combination on the training rows and save it, with what is known of it."""
    data, _ = shared.transformed(best.scaler, best.reducer)
    pipeline, validation = ray.get(
        _refit.remote(best, data, shared.raw, shared.target, config.sweep)
    )
    difference = float(np.max(np.abs(validation - outcomes[best].validation)))
    features = run.stage("features").require()
    save_regressor(
        run.folder("sweep") / "best",
        pipeline,
        columns=shared.columns,
        about={
            "target": config.model.targets[0],
            "steps": {
                "scaler": best.scaler.model_dump(mode="json"),
                "reducer": best.reducer.model_dump(mode="json"),
                "regressor": best.regressor.model_dump(mode="json"),
            },
            "engine": outcomes[best].engine,
            "rows": outcomes[best].rows,
            "select_on": selection["select_on"],
            "scores": selection["best"],
            "largest_difference_to_trial": difference,
            "model": features["made_of"].get("model"),
            "features": features["summary"]["digest"],
        },
    )


def _made_of(combination: Combination, config: SweepConfig, features: str) -> str:
    """Fingerprint of what a combination's predictions depend on."""
    parts = regressor_parts(combination.regressor, config.regressors)
    return fingerprint(
        {
            "features": features,
            "steps": [combination.scaler.model_dump(), combination.reducer.model_dump()],
            "regressors": [part.model_dump() for part in parts],
            "engines": [engine_of(part, config.engine) for part in parts],
            "svr_max_rows": config.svr_max_rows,
            "seed": config.seed,
        }
    )


def _start_functionals(run: Run, division: Division, *, length: int) -> ObjectRef | None:
    """Functionals of all rows, being read; None where only the features of a run were kept."""
    store = SegmentStore(run.folder("segments"))
    if not store.root.exists():
        return None
    every = concatenate([division.training, division.validation, division.test])
    tasks = [
        _functionals.remote(store, name, every.start[every.recording == name], length)
        for name in dict.fromkeys(every.recording.tolist())
    ]
    return _gather.remote(*tasks)


@ray.remote(num_cpus=1)
def _information(raw: Transformed, y: Array, seed: int) -> Array:
    with threadpool_limits(limits=1):
        return mutual_information(raw.training, y, seed=seed)


@ray.remote(num_cpus=1)
def _transform(
    scaler: StepConfig,
    reducer: StepConfig,
    raw: Transformed,
    y: Array,
    config: SweepConfig,
    information: Array | None,
) -> tuple[Transformed | None, dict[str, float]]:
    with threadpool_limits(limits=1):
        data = transform(scaler, reducer, raw, y, seed=config.seed, shared=information)
    regressors = [step for step in config.regressors if step.estimator]
    costs = {step.name: expected_cost(step, data) for step in regressors}
    return (None if data.training is raw.training else data), costs


@ray.remote(num_cpus=1)
def _refit(
    best: Combination, data: Transformed, raw: Transformed, y: Array, config: SweepConfig
) -> tuple[Pipeline, Array]:
    with threadpool_limits(limits=1):
        pipeline = assemble(best, data, y, config=config)
        return pipeline, np.asarray(pipeline.predict(raw.validation), np.float64)


@ray.remote(num_cpus=1)
def _functionals(
    store: SegmentStore, recording: str, starts: NDArray[np.int32], length: int
) -> tuple[str, Array]:
    return recording, functionals(store, recording, starts, length=length)


@ray.remote(num_cpus=0)
def _gather(*found: tuple[str, Array]) -> list[tuple[str, Array]]:
    return list(found)
