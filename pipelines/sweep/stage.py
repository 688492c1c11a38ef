"""`valence sweep`: the combinations of scaler, reducer and regressor as trials of Ray Tune.

The features travel once through the object store, and every combination is a trial. A trial keeps
its predictions in `RUN/sweep/combinations/` as it ends, so that a killed sweep goes on from there;
and its regressor where that took long to fit, so that the best is not fitted once more.

`valence sweep RUN --features SET` does the same in `RUN/sweep-SET/`, with functionals of a feature
set in the place of the deep features.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import numpy as np
import ray
from ray import ObjectRef
from ray.exceptions import RayError, RayTaskError

from pipelines.runtime.console import Console, every
from pipelines.runtime.nodes import (
    Selector,
    cpu_nodes,
    cpus_to_share,
    require_cpus,
    tell_of_absence,
)
from pipelines.runtime.shared_storage import require_shared
from pipelines.sweep.baseline import start_functionals
from pipelines.sweep.best import keep_best
from pipelines.sweep.feature_set import rows_of_set
from pipelines.sweep.monitor import PROGRESS_SECONDS, in_words
from pipelines.sweep.plan import SweepPlan, plan_sweep, shortcomings
from pipelines.sweep.trials import run_trials
from pipelines.sweep.work import INFORMATION, SweepWork, made_of_sweep, software, trial_bytes
from valence.config import ClusterConfig, Config
from valence.errors import StaleError, ValenceError
from valence.formatting import plural
from valence.provenance import fingerprint, versions
from valence.run import Run
from valence.segments.feature_sets import FeatureSet
from valence.storage.location import Location
from valence.sweep.feature_sets import remarks_on
from valence.sweep.features import concatenate
from valence.sweep.fitting import expected_seconds, thin
from valence.sweep.functionals import functionals_outcome
from valence.sweep.grid import Combination
from valence.sweep.kept.outcomes import OutcomeStore, TrialOutcome
from valence.sweep.kept.results import RESULTS_FILE, SELECTION_FILE
from valence.sweep.kept.serialization import REGRESSOR_FILES
from valence.sweep.model_selection import check_rows, constant_outcome, rank, select, tabulate
from valence.sweep.set_origin import set_digest
from valence.sweep.transforms import Division, divide, training_target, untransformed

# A combination that is lost with its worker, its node or for want of memory is tried once more.
_ROUNDS = 2


def sweep(
    run: Run, config: Config, *, overwrite: bool, console: Console, features: str | None = None
) -> dict[str, Any]:
    """Fit and rank all combinations, and keep the best.

    Parameters
    ----------
    run, config, overwrite, features
        As for `plan_sweep`.
    console
        Where progress is shown.

    Returns
    -------
    Summary: seconds, combinations, failed, the best one's names and CCC, digest.

    Raises
    ------
    ValenceError
        As `plan_sweep`.
    DamagedError
        If segments, which the baseline of functionals is made of, are damaged or lost.
    ClusterError
        If no node can run a trial, or one does not see the files.
    TrainingError
        If every combination failed.
    """
    began = time.monotonic()
    plan = plan_sweep(run, config, overwrite=overwrite, features=features)
    division = plan.division
    if division is None:
        return _leave(plan, console)
    _say_why_again(plan, console)
    # Resources are looked at before what stands here is replaced.
    asked = "a combination asks for a CPU"
    selector, _ = require_cpus(1, config.cluster, asked=asked, console=console)
    known = [] if plan.features is None else [next(iter(plan.features.files.values()))[0]]
    require_shared(plan.folder, known=known)
    described = None
    if plan.features is not None:
        division, described = _divide_set(plan, plan.features, division, selector, console)
    store = _begin(plan)
    functionals = start_functionals(run, division, selector)
    work = _work(plan, division, store)
    outcomes = _run(work, division, plan.folder / "tune", config.cluster, console)
    baselines, remarks = _baselines(plan, division, functionals, selector, console)
    ranking = rank(outcomes, division, on=config.sweep.select_on)
    table = tabulate(ranking, outcomes, division)
    (plan.folder / RESULTS_FILE).write_text(table.to_csv(index=False))
    selection = select(ranking, outcomes, division, config=config.sweep, baselines=baselines)
    if described is not None:
        selection["feature_set"] = described
        remarks += remarks_on(described)
    remarks += _keep_best(plan, ranking[0], outcomes, division, selection, work, console)
    for remark in remarks:
        console.say(f"{plan.title}: {remark}")
    selection["remarks"] = remarks
    (plan.folder / SELECTION_FILE).write_json(selection)
    store.clear(keep=set(work.made_of))
    return _finish(plan, ranking[0], selection, began, console)


def _divide_set(
    plan: SweepPlan,
    chosen: FeatureSet,
    division: Division,
    selector: Selector,
    console: Console,
) -> tuple[Division, dict[str, Any]]:
    """Put functionals of the set in the place of the deep features; also returns what it says."""
    found = rows_of_set(
        plan.run,
        concatenate([division.training, division.validation, division.test]),
        chosen,
        length=plan.length,
        selector=selector,
        console=console,
    )
    if set_digest(plan.run, chosen) != plan.opening.made_of["set_digest"]:
        raise StaleError(
            f"Files of '{chosen.root}' were changed while they were read. Expected the features "
            "that this call began with; run the same command again with --overwrite when whatever "
            "writes them has ended."
        )
    overlap = plan.config.split.allow_subject_overlap
    division = divide(found.features, allow_subject_overlap=overlap)
    check_rows(division, plan.config.sweep.select_on)
    return division, dict(found.about)


def _leave(plan: SweepPlan, console: Console) -> dict[str, Any]:
    """Accept the results that stand there; returns their summary."""
    _accept(plan)
    summary = plan.opening.summary
    lacks = shortcomings(summary)
    hint = f"; {'; '.join(lacks)}; --overwrite tries again" if lacks else ""
    console.say(f"{plan.title}: nothing to do{hint}")
    return summary


def _accept(plan: SweepPlan) -> None:
    """Take the settings over into the run, which is resumed with them from here on."""
    # Where only the features of a run were kept, there is no configuration to keep up to date. A
    # sweep of a feature set states its settings in its own record.
    if plan.run.config_file.exists() and plan.features is None:
        plan.run.accept("sweep", plan.config)


def _say_why_again(plan: SweepPlan, console: Console) -> None:
    """Tell a user who did not ask for it why results are made again."""
    for clause in plan.opening.lost:
        console.say(f"{plan.title}: {clause}. The results are made again")
    if plan.is_of_other_version:
        console.say(
            f"{plan.title}: another version of this program made the results; they are made again"
        )


def _begin(plan: SweepPlan) -> OutcomeStore:
    """Claim the folder and remove what does not belong to this sweep; returns what is kept."""
    opening = plan.opening
    opening.begin()
    _accept(plan)
    store = OutcomeStore(plan.folder / "combinations")
    if opening.overwrite or (opening.standing != "resumed" and not opening.lost):
        # A failure under another configuration, such as a shorter limit, says nothing here.
        store.forget_failures()
    if opening.standing != "resumed":
        for name in (RESULTS_FILE, SELECTION_FILE, "best"):
            (plan.folder / name).delete()
    for folder in (plan.folder, store.root, plan.folder / "best"):
        folder.remove_partial_files()
    return store


def _work(plan: SweepPlan, division: Division, store: OutcomeStore) -> SweepWork:
    """Put the rows into the object store, with all else that a trial needs."""
    config, features = plan.config.sweep, plan.input
    installed = versions()
    made_of = {str(each): made_of_sweep(each, config, features, installed) for each in plan.grid}
    made_of[INFORMATION] = fingerprint(
        {
            "features": features,
            "seed": config.seed,
            "software": software({"sklearn"}, installed),
        }
    )
    raw = untransformed(division)
    return SweepWork(
        config=config,
        store=store,
        combinations={str(each): each for each in plan.grid},
        made_of=made_of,
        raw=ray.put(raw),
        target=ray.put(training_target(division.training)),
        recording=ray.put(division.training.recording),
        trial_bytes=trial_bytes(raw, config),
    )


def _baselines(
    plan: SweepPlan,
    division: Division,
    functionals: ObjectRef | None,
    selector: Selector,
    console: Console,
) -> tuple[dict[str, TrialOutcome], list[str]]:
    """Compute what the baselines predict, by name, and say which is missing and why.

    `functionals` are being read on the nodes of `selector`, or are None where there are none.
    """
    found = {"constant": constant_outcome(division)}
    again, _ = cpu_nodes(plan.config.cluster)
    if functionals is not None and again != selector:
        # The nodes that were to read the functionals may all be gone.
        functionals = start_functionals(plan.run, division, again)
    if functionals is None:
        return found, []
    try:
        with tell_of_absence(again, {"CPU": 1}, console):
            found["functionals"] = functionals_outcome(division, dict(ray.get(functionals)))
    except (RayError, ValueError) as error:
        if isinstance(error, RayTaskError) and isinstance(error.cause, ValenceError):
            # The outcomes of the combinations are kept.
            raise error.cause from error
        return found, [f"the baseline of functionals is missing: {in_words(error)}"]
    return found, []


def _keep_best(
    plan: SweepPlan,
    best: Combination,
    outcomes: Mapping[Combination, TrialOutcome],
    division: Division,
    selection: Mapping[str, Any],
    work: SweepWork,
    console: Console,
) -> list[str]:
    """Save the best combination as a model; returns a remark if it predicts otherwise by then."""
    with console.bar(f"sweep: refit of {best}", 1) as bar:
        began = time.monotonic()
        with every(PROGRESS_SECONDS, lambda: bar.advance(0, f"{time.monotonic() - began:.0f} s")):
            difference = keep_best(
                plan.run, plan.folder, best, outcomes, division, selection, plan.config, work
            )
        bar.advance(1)
    tolerance = 1e-6 if "xgboost" in outcomes[best].engine else 1e-9
    if difference <= tolerance:
        return []
    return [
        f"the best, as it was saved, predicts up to {difference:.1e} off what its trial predicted; "
        f"expected {tolerance:g} at most"
    ]


def _finish(
    plan: SweepPlan,
    best: Combination,
    selection: Mapping[str, Any],
    began: float,
    console: Console,
) -> dict[str, Any]:
    """Mark the stage done; returns its summary."""
    summary = {
        "seconds": round(time.monotonic() - began, 3),
        "combinations": len(plan.grid),
        "failed": selection["failed"],
        "best": "-".join(best.names),
        "ccc_validation": selection["best"]["validation"]["ccc"],
        "digest": fingerprint({"selection": selection}),
        "remarks": selection["remarks"],
    }
    best_files = [f"best/{name}" for name in REGRESSOR_FILES]
    plan.opening.stage.finish(summary, [RESULTS_FILE, SELECTION_FILE, *best_files])
    console.say(
        f"{plan.title}: best of {len(plan.grid)} is {summary['best']}, validation CCC "
        f"{summary['ccc_validation']:.3f}"
        + (f"; {summary['failed']} failed" if summary["failed"] else "")
    )
    return summary


def _run(
    work: SweepWork, division: Division, storage: Location, cluster: ClusterConfig, console: Console
) -> dict[Combination, TrialOutcome]:
    costs = _costs(work, division)
    lost: dict[str, str] = {}
    for number in range(_ROUNDS):
        missing = [name for name in work.combinations if work.read(name) is None]
        if not missing:
            break
        done = len(work.combinations) - len(missing)
        if number:
            console.say(
                f"sweep: {plural(len(lost), 'combination')} lost with a worker; "
                f"{len(missing)} to run again"
            )
        elif done:
            console.say(f"sweep: {done} of {len(work.combinations)} combinations are there already")
        # Nodes may have gone or come since the round before.
        selector, _ = cpu_nodes(cluster)
        lost = run_trials(
            work,
            missing,
            costs,
            storage=storage,
            selector=selector,
            cpus=cpus_to_share(cluster),
            console=console,
        )
    outcomes = {}
    for name, combination in work.combinations.items():
        outcome = work.read(name)
        if outcome is None:
            # Not kept: another day it may well end otherwise.
            which = "its member was" if combination.regressor.members else "it was"
            reason = lost.get(name, f"{which} lost with its worker")
            outcome = TrialOutcome.failure(reason, engine=work.engine(name))
        outcomes[combination] = outcome
    return outcomes


def _costs(work: SweepWork, division: Division) -> dict[str, float]:
    """Estimate how long each combination takes, by name, in seconds."""
    sample = division.training.feature[thin(len(division.training), 500)].astype(np.float64)
    return {
        name: expected_seconds(
            each, sample, rows=len(division.training), svr_max_rows=work.config.svr_max_rows
        )
        for name, each in work.combinations.items()
        if not each.regressor.members
    }
