"""Run the stage `train`: train the model for all seeds in one Ray Train run.

A restarted worker, the same command run again, and a copied folder all resume from `state.pt` in
`RUN/train`, and from nothing else. Ray Train places and restarts the workers, and receives a report
of each epoch.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import ray
import torch
from ray.runtime_env import RuntimeEnv
from ray.train import FailureConfig, RunConfig, ScalingConfig
from ray.train.torch import TorchTrainer
from ray.train.v2.api.exceptions import ControllerError, TrainingFailedError, WorkerGroupError

from pipelines.runtime.console import Console
from pipelines.runtime.nodes import living_nodes, scales
from pipelines.runtime.ray_internals import (
    LeanTrainer,
    WorkerGroupStartupTimeoutError,
    error_of_worker,
)
from pipelines.runtime.shared_storage import require_shared
from pipelines.train.mirror import send_finished
from pipelines.train.monitor import SHOWN, TrainingMonitor, shown_rows
from pipelines.train.ownership import Claim
from pipelines.train.placement import Placement, place
from pipelines.train.rendezvous import Meeting
from pipelines.train.resume import (
    columns_of,
    holds_own_state,
    made_of_training,
    newest_state,
    require_own_segments,
)
from pipelines.train.worker import WorkerSettings, train_worker, writing
from valence.chain import require_chain
from valence.config import Config
from valence.errors import ClusterError, DamagedError, ModelError, TrainingError, ValenceError
from valence.formatting import plural
from valence.model.serialization import export_model, load_model
from valence.provenance import fingerprint
from valence.run import Run
from valence.stage import Opening, Stage
from valence.storage.location import Location
from valence.training.checkpoint import (
    TrainingState,
    lacks_progress,
    read_progress,
    require_size,
    restore_progress,
)
from valence.training.data.capacity import Members, members
from valence.training.data.inputs import SegmentInputs, SetInputs, inputs_to_train
from valence.training.data.set_note import NOTE_FILE, SetNote
from valence.training.history import HISTORY_FILE, read_history
from valence.training.loop import TrainingSpec, best_model, history_csv, is_finished
from valence.training.tracking import require_mlflow

# glibc returns large freed blocks to the system and asks for them again in the next step; on a CPU
# this costs a third of a step. With these variables glibc keeps the memory. It reads them only when
# a worker starts. Other C libraries ignore them.
_KEEP_MEMORY = {
    "MALLOC_ARENA_MAX": "1",
    "MALLOC_MMAP_THRESHOLD_": str(2**30),
    "MALLOC_TRIM_THRESHOLD_": str(2**40),
}

_WATCHER = "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER"

# If there are many recordings, only so many are named.
_NAMED = 5

_LICENCE_NOTE = (
    "The weights are made from the recordings named here. What may be done with them follows from "
    "the terms under which those recordings were given."
)


@dataclass(frozen=True)
class TrainingPlan:
    """The plan of a training whose inputs have been checked.

    Attributes
    ----------
    run, config
        Run and configuration of the training.
    opening
        State of the folder `RUN/train`.
    inputs
        Inputs of the run's segments.
    members
        Recordings for training and for validation.
    anew
        Whether an existing state is replaced and not resumed.
    """

    run: Run
    config: Config
    opening: Opening
    inputs: SegmentInputs
    members: Members
    anew: bool

    @property
    def folder(self) -> Location:
        """`RUN/train`."""
        return self.opening.stage.folder

    @property
    def made_of(self) -> dict[str, Any]:
        """Return the settings and segments that the training depends on."""
        return dict(self.opening.made_of)

    @property
    def known(self) -> dict[str, Any]:
        """Return the residency and device that a finished training noted of its workers."""
        if self.opening.record is None:
            return {}
        return {name: self.opening.summary.get(name) for name in ("residency", "device")}

    @property
    def outputs(self) -> list[str]:
        """Return the names of the files that the stage's record lists."""
        return [HISTORY_FILE] if self.inputs.features is None else [HISTORY_FILE, NOTE_FILE]

    @property
    def is_done(self) -> bool:
        """Say whether nothing is left to do."""
        return self.opening.is_whole and not self.anew


def plan_training(run: Run, config: Config, *, overwrite: bool) -> TrainingPlan:
    """Check the inputs of a training and its existing outputs, and change nothing.

    Parameters
    ----------
    run
        A run with finished segments. An interrupted training is resumed from `RUN/train`.
    config
        The whole configuration.
    overwrite
        Whether to replace a training of another configuration or of other segments.

    Raises
    ------
    MissingStageError
        If the segments are not there.
    StaleError
        If the segments were made with other settings, or if a training of another configuration
        or input exists and `overwrite` is False.
    ModelError
        If an interrupted training left states, none is whole, and `overwrite` is False.
    DamagedError
        If segments are lost or damaged.
    TrainingError
        If there are too few data.
    UsageError, FeatureError
        If the set of features that the model takes is not there, or cannot be used; or if a
        tracking server is named and the package for it is missing.
    """
    require_mlflow(config.mlflow)
    segments = require_chain(run, "segments")["segments"]
    require_own_segments(segments["made_of"], run, config)
    digest = segments["summary"]["digest"]
    inputs = inputs_to_train(run, config, digest, overwrite=overwrite)
    stage = run.stage("train")
    made_of = made_of_training(config, digest, inputs.features)
    require_size(config, columns_of(made_of))
    chosen = members(inputs.store, config)
    opening = stage.opened(
        made_of, overwrite=overwrite, lost=lambda record: _lost(run, stage, record)
    )
    # Finished outputs that stay need no state.
    stays = opening.is_whole and not overwrite
    anew = not stays and not holds_own_state(stage.folder, made_of, config, overwrite=overwrite)
    return TrainingPlan(run, config, opening, inputs, chosen, anew)


def train(run: Run, config: Config, *, overwrite: bool, console: Console) -> dict[str, Any]:
    """Train the model of `run` and export its best epoch.

    Parameters
    ----------
    run, config, overwrite
        The arguments of `plan_training`.
    console
        Progress output.

    Returns
    -------
    The summary that also stands in `stage.json`.

    Raises
    ------
    ValenceError
        If `plan_training` raises it.
    DamagedError
        If segments are damaged while they are streamed.
    TrainingError
        If training failed despite restarts, or another call has claimed the folder meanwhile.
    ClusterError
        If the cluster lacks resources for the training, or other work holds them.
    ConfigError
        If a batch has no part for each worker.
    """
    began = time.monotonic()
    plan = plan_training(run, config, overwrite=overwrite)
    if plan.is_done:
        run.accept("train", config)
        console.say("train: nothing to do")
        if (progress := read_progress(plan.folder)) is not None:
            send_finished(run, config.mlflow, shown_rows(progress, config), SHOWN, console)
        return plan.opening.summary
    # Check the resources before replacing existing outputs.
    placement = place(plan.inputs, config, plan.members, console)
    require_shared(run.root)
    for clause in plan.opening.lost:
        console.say(f"train: {clause}, and is made again from the state")
    plan.opening.begin(anew=plan.anew)
    # A kill between the model and its configuration would leave a model beside another one.
    run.accept("train", config)
    _note_input(plan, console)
    # Claimed only when the work begins: a call without room on the cluster disturbs no other.
    claim = Claim(plan.folder)
    state = _trained(plan, claim, placement, console)
    # `state.json` says where the workers were. If it is lost, the stage's record still says so.
    progress = read_progress(plan.folder) or plan.known
    summary = _write_outputs(plan, claim, state) | {
        "seconds": time.monotonic() - began,
        "residency": progress.get("residency", placement.residency),
        "device": progress.get("device"),
        "workers": config.train.workers,
    }
    with claim.held():
        plan.opening.stage.finish(summary, plan.outputs)
        claim.release()
    console.say(
        f"train: validation CCC {summary['validation_ccc']:.3f} at epoch {summary['epoch']} of "
        f"seed {summary['seed']}, {summary['epochs']} epochs in {summary['seconds']:.0f} s"
    )
    return summary


def _note_input(plan: TrainingPlan, console: Console) -> None:
    """Note the set of features that the model takes, and say what is odd about it."""
    if not isinstance(plan.inputs, SetInputs):
        return
    plan.inputs.note.write(plan.folder)
    for remark in plan.inputs.note.remarks[:_NAMED]:
        console.say(f"train: {remark}")
    if (more := len(plan.inputs.note.remarks) - _NAMED) > 0:
        console.say(f"train: {plural(more, 'more remark')}: see '{plan.folder / NOTE_FILE}'")
    if plan.config.augment.copies:
        console.say("train: augmented copies take no part: only clean recordings have features")


def _trained(
    plan: TrainingPlan, claim: Claim, placement: Placement, console: Console
) -> TrainingState:
    """Train from the existing state or from scratch, and return the final state."""
    folder, made_of, config = plan.folder, plan.made_of, plan.config
    state, passed = newest_state(folder, made_of, config, console)
    if state is None:
        # The model is of an earlier training, perhaps one whose replacement was interrupted.
        plan.run.model.delete()
    else:
        seed = config.train.seeds[state.seed_index]
        console.say(f"train: going on after epoch {state.epoch} of seed {seed}")
        if is_finished(state, config):
            return state
    if short := plan.members.short:
        console.say(
            f"train: {len(short)} labelled recordings are too short and left out: "
            f"{', '.join(short[:_NAMED])}{', ...' if len(short) > _NAMED else ''}"
        )
    settings = WorkerSettings(claim, plan.inputs, config, made_of, plan.members, placement, passed)
    while True:
        console.say(f"train: {settings.placement.summary}")
        try:
            _run_ray_train(settings, plan.opening.stage, state, console)
            break
        except ControllerError as error:
            # The workers no longer fit onto the remaining nodes as they were placed.
            again = place(plan.inputs, config, plan.members, console)
            if again == settings.placement:
                raise _not_started(error, again) from error
            console.say("train: nodes were lost or came; going on with those that are there")
        state, passed = newest_state(folder, made_of, config, console)
        settings = replace(settings, placement=again, passed=passed)
    state, _ = newest_state(folder, made_of, config, console)
    assert state is not None, "a training that ended well left its state"
    return state


def _write_outputs(plan: TrainingPlan, claim: Claim, state: TrainingState) -> dict[str, Any]:
    """Write the history and the best model, and return their part of the summary.

    A worker that was killed after its last state could not write these files itself.
    """
    config, folder = plan.config, plan.folder
    standardizer, features = plan.inputs.standardizer(), plan.inputs.features
    best = best_model(TrainingSpec(config, plan.made_of, standardizer, torch.device("cpu")), state)
    claim.take()
    with claim.held(), writing(folder):
        restore_progress(folder, state, progress=plan.known)
        (folder / HISTORY_FILE).write_text(history_csv(state.history))
        export_model(folder / "best", best, config, state.best_record, features)
        sha256 = export_model(plan.run.model, best, config, _record(plan, state), features)
    return {
        "digest": sha256,
        "validation_ccc": state.best_record["validation_ccc"],
        "seed": state.best_record["seed"],
        "epoch": state.best_record["epoch"],
        "epochs": len(state.history),
        "seeds": _by_seed(state),
    }


def _lost(run: Run, stage: Stage, record: Mapping[str, Any]) -> list[str]:
    """Say whether the model, its copy, the history or `state.json` is lost or damaged."""
    try:
        read_history(stage.folder, record)
        descriptions = [load_model(each)[1] for each in (run.model, stage.folder / "best")]
        if any(each.features is not None for each in descriptions):
            SetNote.read(stage.folder, command=stage.command())
        whole = not lacks_progress(stage.folder) and all(
            each.sha256 == record["summary"]["digest"] for each in descriptions
        )
    except (DamagedError, ModelError):
        whole = False
    if whole:
        return []
    return [f"'{run.model}' or what stands beside the state in '{stage.folder}' is lost or damaged"]


class _Trainer(LeanTrainer, TorchTrainer):
    """Ray's trainer, with fewer processes, which leaves Ctrl-C to the program."""


def _run_ray_train(
    settings: WorkerSettings, stage: Stage, state: TrainingState | None, console: Console
) -> None:
    # Poll the workers often: an epoch may be shorter than Ray's default of 2 s.
    os.environ.setdefault("RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", "0.2")
    placement = settings.placement
    record = stage.record()
    assert record is not None, "the stage has begun"
    resources = {"CPU": placement.cpus} | ({"GPU": 1.0} if placement.gpu else {})
    # Ray silently resumes under a name used before, and only `state.pt` may decide on resuming.
    name = f"ray-{record['fingerprint'][:12]}-{time.time_ns():x}"
    # Ray's annotations are those of its first version: fewer arguments and no return value.
    work: Any = train_worker
    # A lack of room is no failure of the workers, so Ray does not retry; they are placed anew.
    failures: dict[str, Any] = {
        "max_failures": settings.config.train.max_failures,
        "controller_failure_limit": 0,
    }
    scaling: dict[str, Any] = {"label_selector": placement.selector or None}
    run_options: dict[str, Any] = {
        "name": name,
        "storage_path": settings.folder.path,
        "storage_filesystem": settings.folder.filesystem,
        "failure_config": FailureConfig(**failures),
        "worker_runtime_env": RuntimeEnv(env_vars=_KEEP_MEMORY),
    }
    # Ray declares its own class for torch, and asks no more of it than of any other.
    meeting: Any = Meeting(backend="nccl" if placement.gpu else "gloo")
    trainer = _Trainer(
        work,
        train_loop_config={"settings": settings},
        torch_config=meeting,
        scaling_config=ScalingConfig(
            num_workers=placement.workers,
            use_gpu=placement.gpu,
            resources_per_worker=resources,
            **scaling,
        ),
        run_config=RunConfig(**run_options),
    )
    with (
        _without_needless_watcher(settings.config),
        TrainingMonitor(settings.folder, settings.config, state, console),
    ):
        try:
            result: Any = trainer.fit()
        except ControllerError:
            raise
        except TrainingFailedError as error:
            if (damage := _damage(error)) is not None:
                raise damage from error
            raise TrainingError(_failed(error, settings.config)) from error
        complaint: ValenceError | None = result.return_value
        if complaint is not None:
            raise complaint


@contextmanager
def _without_needless_watcher(config: Config) -> Iterator[None]:
    """Spare Ray's process that listens for nodes which are to go, where no other can come.

    A value that the user has set stays. The environment is as before after the block, because the
    next training of this process may be on a cluster.
    """
    nodes = living_nodes()
    if len(nodes) > 1 or scales(nodes, config.cluster) or _WATCHER in os.environ:
        yield
        return
    os.environ[_WATCHER] = "0"
    try:
        yield
    finally:
        del os.environ[_WATCHER]


def _damage(error: TrainingFailedError) -> DamagedError | None:
    """Return the damage that a worker found, if this ended the training."""
    failures = error.worker_failures if isinstance(error, WorkerGroupError) else {}
    for failure in failures.values():
        cause = error_of_worker(failure)
        if isinstance(cause, DamagedError):
            return cause
    return None


def _failed(error: Exception, config: Config) -> str:
    reason, advice = _last_line(error), ""
    if "out of memory" in reason:
        advice = (
            " Set train.residency = 'host', or lower train.batch_size with --overwrite, which "
            "trains anew."
        )
    return (
        f"Training failed and was restarted {config.train.max_failures} times: {reason}. The state "
        f"of the last finished epoch is kept; run the same command again to go on from it.{advice}"
    )


def _not_started(error: ControllerError, placement: Placement) -> ValenceError:
    """Explain why the workers did not start."""
    if not isinstance(error.controller_failure, WorkerGroupStartupTimeoutError):
        return TrainingError(
            f"The workers of the training could not be started: {_last_line(error)}. What is done "
            "is kept; run the same command again to go on from it."
        )
    asked = {"CPU": placement.cpus, "GPU": float(placement.gpu)}
    free, whole = ray.available_resources(), ray.cluster_resources()
    each = " and ".join(f"{n:g} {name}s" for name, n in asked.items() if n)
    there = " and ".join(
        f"{free.get(name, 0):g} of {whole.get(name, 0):g} {name}s" for name, n in asked.items() if n
    )
    return ClusterError(
        f"No place came free for the training: train.workers = {placement.workers} asks for {each} "
        f"for each worker, and {there} are free now ('ray status' shows what other work holds). "
        "Run the same command again when that has ended, or lower train.workers or add nodes; "
        "what is done is kept."
    )


def _last_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__


def _by_seed(state: TrainingState) -> list[dict[str, Any]]:
    """Find the best epoch of each seed."""
    best: dict[int, dict[str, Any]] = {}
    for row in state.history:
        kept = best.get(row["seed"])
        if kept is None or row["validation_ccc"] > kept["validation_ccc"]:
            best[row["seed"]] = {key: row[key] for key in ("seed", "epoch", "validation_ccc")}
    return list(best.values())


def _record(plan: TrainingPlan, state: TrainingState) -> dict[str, Any]:
    """Build the record of the training for the model's file."""
    run, chosen = plan.run, plan.members
    frame = plan.inputs.store.recordings()
    usable = frame[frame["status"] == "ok"]
    summary = run.stage("segments").require()["summary"]
    known, agreement = summary.get("subjects", {}), summary.get("agreement")
    return {
        **state.best_record,
        # Absent without a remark, so that the model's file keeps its bytes.
        **({"subjects_remark": known["remark"]} if known.get("remark") else {}),
        **({"agreement": agreement} if agreement else {}),
        "validation_rows_ccc": state.best_record["validation_ccc"],
        "corpus": run.record().get("corpus"),
        "synthetic": run.record().get("synthetic", False),
        "subjects": {
            split: sorted(set(rows["subject"])) for split, rows in usable.groupby("split")
        },
        "recordings": {
            "train": list(chosen.train),
            "validation": list(chosen.validation),
        },
        "seeds": _by_seed(state),
        "segments": state.made_of["segments"],
        "training": fingerprint(state.made_of),
        "licence": _LICENCE_NOTE,
    }
