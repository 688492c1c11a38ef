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
from ray.exceptions import RayError, RayTaskError

from pipelines.runtime.console import Console, every
from pipelines.runtime.nodes import (
    cpu_nodes,
    cpus_to_share,
    require_cpus,
    tell_of_absence,
)
from pipelines.runtime.shared_storage import require_shared
from pipelines.sweep.baseline import start_functionals
from pipelines.sweep.best import keep_best
from pipelines.sweep.monitor import PROGRESS_SECONDS, in_words
from pipelines.sweep.trials import run_trials
from pipelines.sweep.work import INFORMATION, SweepWork, made_of_sweep, software, trial_bytes
from valence.chain import refuse_other_settings, require_chain
from valence.config import ClusterConfig, Config
from valence.errors import DamagedError, ModelError, ValenceError
from valence.formatting import plural
from valence.provenance import fingerprint, versions
from valence.run import Run
from valence.storage.location import Location
from valence.sweep.features import read_features
from valence.sweep.fitting import expected_seconds, thin
from valence.sweep.functionals import functionals_outcome
from valence.sweep.grid import (
    Combination,
    combinations,
)
from valence.sweep.kept.outcomes import OutcomeStore, TrialOutcome
from valence.sweep.kept.results import RESULTS_FILE, SELECTION_FILE, read_results, read_selection
from valence.sweep.kept.serialization import REGRESSOR_FILES, require_regressor
from valence.sweep.model_selection import check_rows, constant_outcome, rank, select, tabulate
from valence.sweep.transforms import (
    Division,
    divide,
    training_target,
    untransformed,
)

# A combination that is lost with its worker, its node or for want of memory is tried once more.
_ROUNDS = 2


def sweep(run: Run, config: Config, *, overwrite: bool, console: Console) -> dict[str, Any]:
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
    console
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
        console.say(f"sweep: {lost} The results are made again")
    elif older:
        console.say("sweep: another version of this program made the results; they are made again")
    elif standing == "done":
        amiss = list(summary.get("remarks", ()))
        if summary["failed"]:
            amiss.insert(0, f"{summary['failed']} failed")
        if not (overwrite and amiss):
            run.accept("sweep", config)
            hint = f"; {'; '.join(amiss)}; --overwrite tries again" if amiss else ""
            console.say(f"sweep: nothing to do{hint}")
            return summary
    overlap = config.split.allow_subject_overlap
    division = divide(read_features(run.folder("features")), allow_subject_overlap=overlap)
    check_rows(division, config.sweep.select_on)
    asked = "a combination asks for a CPU"
    selector, _ = require_cpus(1, config.cluster, asked=asked, console=console)
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
    made_of_each = {
        str(each): made_of_sweep(each, config.sweep, features, installed) for each in grid
    }
    made_of_each[INFORMATION] = fingerprint(
        {
            "features": features,
            "seed": config.sweep.seed,
            "software": software({"sklearn"}, installed),
        }
    )
    remarks: list[str] = []
    baselines = start_functionals(run, division, selector)
    raw = untransformed(division)
    work = SweepWork(
        config=config.sweep,
        store=store,
        combinations={str(each): each for each in grid},
        made_of=made_of_each,
        raw=ray.put(raw),
        target=ray.put(training_target(division.training)),
        recording=ray.put(division.training.recording),
        trial_bytes=trial_bytes(raw, config.sweep),
    )
    outcomes = _run(work, division, stage.folder / "tune", config.cluster, console)
    plain = {"constant": constant_outcome(division)}
    again, _ = cpu_nodes(config.cluster)
    if baselines is not None and again != selector:
        # Those that were to read them may all be gone.
        baselines = start_functionals(run, division, again)
    if baselines is not None:
        try:
            with tell_of_absence(again, {"CPU": 1}, console):
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
    with console.bar(f"sweep: refit of {ranking[0]}", 1) as bar:
        began = time.monotonic()
        with every(PROGRESS_SECONDS, lambda: bar.advance(0, f"{time.monotonic() - began:.0f} s")):
            difference = keep_best(run, ranking[0], outcomes, division, selection, config, work)
        bar.advance(1)
    tolerance = 1e-6 if "xgboost" in outcomes[ranking[0]].engine else 1e-9
    if difference > tolerance:
        remarks.append(
            f"the best, as it was saved, predicts up to {difference:.1e} off what its "
            f"trial predicted; expected {tolerance:g} at most"
        )
    for remark in remarks:
        console.say(f"sweep: {remark}")
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
    console.say(
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
    """About how long each combination may take, by name, in seconds."""
    sample = division.training.feature[thin(len(division.training), 500)].astype(np.float64)
    return {
        name: expected_seconds(
            each, sample, rows=len(division.training), svr_max_rows=work.config.svr_max_rows
        )
        for name, each in work.combinations.items()
        if not each.regressor.members
    }
