"""`valence sweep`: the combinations of scaler, reducer and regressor as trials of Ray Tune.

The features travel once through the object store, and every combination is a trial. A trial keeps
its predictions in `RUN/sweep/combinations/` as it ends, so that a killed sweep goes on from there;
and its regressor where that took long to fit, so that the best is not fitted once more.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import numpy as np
import ray
from numpy.typing import NDArray
from ray import ObjectRef
from ray.exceptions import RayError, RayTaskError
from threadpoolctl import threadpool_limits

from pipelines.nodes import (
    Selector,
    cpu_nodes,
    cpus_to_share,
    require_cpus,
    require_shared,
    tell_of_absence,
)
from pipelines.progress import Report, every
from pipelines.trials import (
    INFORMATION,
    PROGRESS_SECONDS,
    Work,
    in_words,
    run_trials,
    trial_bytes,
)
from valence.chain import refuse_other_settings, require_chain
from valence.combinations import (
    KERNEL_MACHINES,
    Combination,
    Engine,
    combinations,
    engine_of,
    regressor_parts,
)
from valence.config import ClusterConfig, Config, SweepConfig, versions
from valence.errors import DamagedError, ModelError, ValenceError
from valence.features import concatenate, read_features
from valence.functionals import functionals, functionals_outcome
from valence.outcomes import Outcome, OutcomeStore
from valence.regression import assemble, expected_seconds, thin
from valence.regressor import REGRESSOR_FILES, require_regressor, save_regressor
from valence.results import RESULTS_FILE, SELECTION_FILE, read_results, read_selection
from valence.run import FORMAT, Run, fingerprint
from valence.segments import SegmentStore
from valence.selection import check_rows, constant_outcome, rank, select, tabulate
from valence.storage import Location
from valence.transforms import (
    Array,
    Division,
    divide,
    training_target,
    transform,
    untransformed,
)
from valence.words import plural

# A combination that is lost with its worker, its node or for want of memory is tried once more.
_ROUNDS = 2

_PACKAGE: dict[Engine, str] = {
    "sklearn": "scikit-learn",
    "sklearnex": "scikit-learn-intelex",
    "xgboost": "xgboost",
}


def sweep(run: Run, config: Config, *, overwrite: bool, report: Report) -> dict[str, Any]:
    """Fit and rank all combinations, and keep the best.

    Parameters
    ----------
    run
        A run with features.
    config
        The sections `sweep`, `split` and `cluster` matter here.
    overwrite
        Whether results of another configuration or other features may be replaced, and whether
        combinations that failed are tried again.
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
        If the features were made of other segments or of another model than stand in the run, or
        other results stand there and `overwrite` is False.
    DamagedError
        If segments, which the baseline of functionals is made of, are damaged or lost.
    TrainingError
        If every combination failed.
    """
    started = time.monotonic()
    grid = combinations(config.sweep)
    features = require_chain(run, "features")["features"]["summary"]["digest"]
    _require_own_division(run, config)
    stage = run.stage("sweep")
    made_of = {
        "features": features,
        "sweep": config.sweep.model_dump(mode="json"),
        "allow_subject_overlap": config.split.allow_subject_overlap,
    }
    # What an older version made of the same is made again without being asked for.
    older = not overwrite and stage.is_of_other_version(made_of)
    # Nothing that stands here is touched before all that may refuse the call has been asked.
    standing = stage.standing(made_of, overwrite=overwrite or older)
    lost = None
    if standing == "done":
        record = stage.record()
        assert record is not None, "what is done has a record"
        summary = dict(record["summary"])
        lost = _what_is_lost(stage.folder, record)
    if lost is not None:
        report.say(f"sweep: {lost} The results are made again")
    elif older:
        report.say("sweep: another version of this program made the results; they are made again")
    elif standing == "done":
        amiss = list(summary.get("remarks", ()))
        if summary["failed"]:
            amiss.insert(0, f"{summary['failed']} failed")
        if not (overwrite and amiss):
            run.accept("sweep", config)
            hint = f"; {'; '.join(amiss)}; --overwrite tries again" if amiss else ""
            report.say(f"sweep: nothing to do{hint}")
            return summary
    overlap = config.split.allow_subject_overlap
    division = divide(read_features(run.folder("features")), allow_subject_overlap=overlap)
    check_rows(division, config.sweep.select_on)
    asked = "a combination asks for a CPU"
    selector, _ = require_cpus(1, config.cluster, asked=asked, report=report)
    require_shared(stage.folder)
    stage.begin(made_of, overwrite=overwrite or older, wipe=False, again=True)
    if run.config_file.exists():
        # Accepted: from here on the run is one of this configuration, and is resumed as such.
        run.accept("sweep", config)
    store = OutcomeStore(stage.folder / "combinations")
    if overwrite or (standing != "resumed" and lost is None):
        # A failure under another configuration, such as a shorter limit, says nothing here.
        store.forget_failures()
    if standing != "resumed":
        for name in (RESULTS_FILE, SELECTION_FILE, "best"):
            (stage.folder / name).delete()
    for folder in (stage.folder, store.root, stage.folder / "best"):
        folder.remove_partial_files()
    installed = versions()
    made_of_each = {str(each): _made_of(each, config.sweep, features, installed) for each in grid}
    made_of_each[INFORMATION] = fingerprint(
        {
            "features": features,
            "seed": config.sweep.seed,
            "software": _software({"sklearn"}, installed),
        }
    )
    remarks: list[str] = []
    baselines = _start_functionals(run, division, selector)
    raw = untransformed(division)
    work = Work(
        config=config.sweep,
        store=store,
        combinations={str(each): each for each in grid},
        made_of=made_of_each,
        raw=ray.put(raw),
        target=ray.put(training_target(division.training)),
        recording=ray.put(division.training.recording),
        trial_bytes=trial_bytes(raw, config.sweep),
    )
    outcomes = _run(work, division, stage.folder / "tune", config.cluster, report)
    plain = {"constant": constant_outcome(division)}
    again, _ = cpu_nodes(config.cluster)
    if baselines is not None and again != selector:
        # Those that were to read them may all be gone.
        baselines = _start_functionals(run, division, again)
    if baselines is not None:
        try:
            with tell_of_absence(again, {"CPU": 1}, report):
                plain["functionals"] = functionals_outcome(division, dict(ray.get(baselines)))
        except (RayError, ValueError) as error:
            if isinstance(error, RayTaskError) and isinstance(error.cause, ValenceError):
                # The outcomes of the combinations are kept.
                raise error.cause from error
            remarks.append(f"the baseline of functionals is missing: {in_words(error)}")

    ranking = rank(outcomes, division, on=config.sweep.select_on)
    table = tabulate(ranking, outcomes, division)
    (stage.folder / RESULTS_FILE).write_text(table.to_csv(index=False))
    selection = select(ranking, outcomes, division, config=config.sweep, baselines=plain)
    with report.bar(f"sweep: refit of {ranking[0]}", 1) as bar:
        began = time.monotonic()
        with every(PROGRESS_SECONDS, lambda: bar.advance(0, f"{time.monotonic() - began:.0f} s")):
            difference = _keep_best(run, ranking[0], outcomes, division, selection, config, work)
        bar.advance(1)
    tolerance = 1e-6 if "xgboost" in outcomes[ranking[0]].engine else 1e-9
    if difference > tolerance:
        remarks.append(
            f"the best, as it was saved, predicts up to {difference:.1e} off what its "
            f"trial predicted; expected {tolerance:g} at most"
        )
    for remark in remarks:
        report.say(f"sweep: {remark}")
    selection["remarks"] = remarks
    (stage.folder / SELECTION_FILE).write_json(selection)
    store.clear(keep=set(made_of_each))
    best = selection["best"]
    summary = {
        "seconds": round(time.monotonic() - started, 3),
        "combinations": len(grid),
        "failed": selection["failed"],
        "best": "-".join(ranking[0].names),
        "ccc_validation": best["validation"]["ccc"],
        "digest": fingerprint({"selection": selection}),
        "remarks": remarks,
    }
    best_files = [f"best/{name}" for name in REGRESSOR_FILES]
    stage.finish(summary, [RESULTS_FILE, SELECTION_FILE, *best_files])
    report.say(
        f"sweep: best of {len(grid)} is {summary['best']}, validation CCC "
        f"{summary['ccc_validation']:.3f}"
        + (f"; {summary['failed']} failed" if summary["failed"] else "")
    )
    return summary


def _require_own_division(run: Run, config: Config) -> None:
    """See to it that subjects may stand in two splits only where the run says so."""
    if not run.config_file.exists():
        # Only the features of a run were kept.
        return
    there, here = (
        {"split": {"allow_subject_overlap": each.split.allow_subject_overlap}}
        for each in (run.config(), config)
    )
    refuse_other_settings(run.stage("segments"), there, here, asks="sweep")


def _what_is_lost(folder: Location, record: Mapping[str, Any]) -> str | None:
    """What of a finished sweep is absent or damaged, in words, or None."""
    try:
        read_results(folder, record)
        read_selection(folder, record)
        require_regressor(folder / "best", record)
    except (DamagedError, ModelError) as error:
        return str(error).partition(". ")[0] + "."
    return None


def _run(
    work: Work, division: Division, storage: Location, cluster: ClusterConfig, report: Report
) -> dict[Combination, Outcome]:
    costs = _costs(work, division)
    lost: dict[str, str] = {}
    for number in range(_ROUNDS):
        missing = [name for name in work.combinations if work.read(name) is None]
        if not missing:
            break
        done = len(work.combinations) - len(missing)
        if number:
            report.say(
                f"sweep: {plural(len(lost), 'combination')} lost with a worker; "
                f"{len(missing)} to run again"
            )
        elif done:
            report.say(f"sweep: {done} of {len(work.combinations)} combinations are there already")
        # Nodes may have gone or come since the round before.
        selector, _ = cpu_nodes(cluster)
        lost = run_trials(
            work,
            missing,
            costs,
            storage=storage,
            selector=selector,
            cpus=cpus_to_share(cluster),
            report=report,
        )
    outcomes = {}
    for name, combination in work.combinations.items():
        outcome = work.read(name)
        if outcome is None:
            # Not kept: another day it may well end otherwise.
            which = "its member was" if combination.regressor.members else "it was"
            reason = lost.get(name, f"{which} lost with its worker")
            outcome = Outcome.failure(reason, engine=work.engine(name))
        outcomes[combination] = outcome
    return outcomes


def _costs(work: Work, division: Division) -> dict[str, float]:
    """About how long each combination may take, by name, in seconds."""
    sample = division.training.feature[thin(len(division.training), 500)].astype(np.float64)
    return {
        name: expected_seconds(
            each, sample, rows=len(division.training), svr_max_rows=work.config.svr_max_rows
        )
        for name, each in work.combinations.items()
        if not each.regressor.members
    }


def _keep_best(
    run: Run,
    best: Combination,
    outcomes: Mapping[Combination, Outcome],
    division: Division,
    selection: Mapping[str, Any],
    config: Config,
    work: Work,
) -> float:
    """Save the best combination, with what is known of it.

    It is fitted on the training rows again, but for a regressor that was kept by its trial.

    Returns the largest difference of its predictions for validation rows to those of its trial.
    """
    with threadpool_limits(limits=1):
        raw, y = untransformed(division), training_target(division.training)
        seed, shared = config.sweep.seed, work.read_information_for(best)
        data = transform(best.scaler, best.reducer, raw, y, seed=seed, shared=shared)
        recording = division.training.recording
        pipeline = assemble(
            best,
            data,
            y,
            recording=recording,
            config=config.sweep,
            kept=work.read_fitted(str(best)),
        )
        again = np.asarray(pipeline.predict(raw.validation), np.float64)
    difference = float(np.max(np.abs(again - outcomes[best].validation)))
    features = run.stage("features").require()
    save_regressor(
        run.folder("sweep") / "best",
        pipeline,
        columns=raw.training.shape[1],
        about={
            "target": division.training.targets[0],
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
    return difference


def _made_of(
    combination: Combination, config: SweepConfig, features: str, installed: Mapping[str, str]
) -> str:
    """Fingerprint of what a combination's predictions depend on."""
    parts = regressor_parts(combination.regressor, config.regressors)
    engines = [engine_of(part, config.engine) for part in parts]
    limited = any(part.estimator in KERNEL_MACHINES for part in parts)
    return fingerprint(
        {
            "features": features,
            "steps": [combination.scaler.model_dump(), combination.reducer.model_dump()],
            "regressors": [part.model_dump() for part in parts],
            "engines": engines,
            "svr_max_rows": config.svr_max_rows if limited else None,
            "seed": config.seed,
            "software": _software({"sklearn", *engines}, installed),
        }
    )


def _software(engines: set[Engine], installed: Mapping[str, str]) -> dict[str, Any]:
    """Versions of what computes: a sweep that goes on after an upgrade mixes no two of them."""
    packages = {"numpy", "scipy", *(_PACKAGE[each] for each in engines)}
    return {"format": FORMAT["sweep"]} | {each: installed[each] for each in packages}


def _start_functionals(run: Run, division: Division, selector: Selector) -> ObjectRef | None:
    """Functionals of all rows, being read.

    None where only the features of a run were kept.
    """
    store = SegmentStore(run.folder("segments"))
    if not store.root.exists():
        return None
    made_of = run.stage("features").require()["made_of"]
    # Of the features, whatever this call's configuration says.
    length = made_of["sequence"]["length"]
    rows = concatenate([division.training, division.validation, division.test])
    read = _functionals.options(label_selector=selector or None)
    tasks = [
        read.remote(store, name, rows.start[rows.recording == name], length)
        for name in dict.fromkeys(rows.recording.tolist())
    ]
    return _gather.remote(*tasks)


@ray.remote(num_cpus=1)
def _functionals(
    store: SegmentStore, recording: str, starts: NDArray[np.int32], length: int
) -> tuple[str, Array]:
    return recording, functionals(store, recording, starts, length=length)


@ray.remote(num_cpus=0)
def _gather(*found: tuple[str, Array]) -> list[tuple[str, Array]]:
    return list(found)
