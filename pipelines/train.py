"""The stage `train`: the model over all seeds in one Ray Train run.

What a restarted worker, the same command again or a copied folder goes on from is `state.pt` in
`RUN/train`, and nothing else. Ray Train places the workers, restarts them, and hears of each epoch.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import ray
import torch
from ray.runtime_env import RuntimeEnv
from ray.train import FailureConfig, RunConfig, ScalingConfig
from ray.train.torch import TorchTrainer, get_device
from ray.train.v2._internal.exceptions import (
    UserExceptionWithTraceback,
    WorkerGroupStartupTimeoutError,
)
from ray.train.v2.api.exceptions import ControllerError, TrainingFailedError, WorkerGroupError

from pipelines.nodes import require_shared
from pipelines.placement import LIVE, Placement, place
from pipelines.progress import Report
from pipelines.rendezvous import Meeting
from pipelines.streaming import StreamingSource
from pipelines.watch import Watch
from valence.chain import FREE, refuse_other_settings, require_chain
from valence.checkpoint import (
    TrainingState,
    export_model,
    lacks_progress,
    load_model,
    load_state,
    read_progress,
    require_size,
    restore_progress,
    save_state,
    state_bytes,
)
from valence.claim import Claim
from valence.config import Config
from valence.distributed import gather, rank, world_size
from valence.errors import (
    ClusterError,
    DamagedError,
    ModelError,
    StaleError,
    TrainingError,
    ValenceError,
)
from valence.history import HISTORY_FILE, read_history
from valence.precision import precision_on
from valence.residency import Members, Residency, ResidentSource, members
from valence.run import Run, Stage, difference, fingerprint
from valence.segments import SegmentStore
from valence.storage import Location
from valence.training import Source, Task, best_model, fit, history_csv, is_finished

T = TypeVar("T")

# glibc gives large blocks back when they are freed and asks for them again in the next step, which
# costs a third of a step on a CPU. That a training's memory is to be kept it must be told before a
# worker starts. Other C libraries read none of this.
_KEEP_MEMORY = {
    "MALLOC_ARENA_MAX": "1",
    "MALLOC_MMAP_THRESHOLD_": str(2**30),
    "MALLOC_TRIM_THRESHOLD_": str(2**40),
}

# Recordings that are named where there are many.
_NAMED = 5

_LICENCE_NOTE = (
    "The weights are made from the recordings named here. What may be done with them follows from "
    "the terms under which those recordings were given."
)


def train(run: Run, config: Config, *, overwrite: bool, report: Report) -> dict[str, Any]:
    """Train the model of `run` and export the best.

    Parameters
    ----------
    run
        With finished segments. What stands in `RUN/train` of an interrupted training is gone on
        from.
    config
        The whole configuration.
    overwrite
        Whether a training of another configuration or of other segments is replaced.
    report
        Hears of progress.

    Returns
    -------
    The summary that also stands in `stage.json`.

    Raises
    ------
    MissingStageError
        If the segments are not there.
    StaleError
        If the segments were made with other settings, or a training of another configuration or
        input stands there and `overwrite` is False.
    ModelError
        If no state of an interrupted training is whole and `overwrite` is False.
    DamagedError
        If segments are damaged, before the training or while they are streamed.
    TrainingError
        If the data do not suffice, training went wrong for good, or another call has taken the
        folder over meanwhile.
    ClusterError
        If the cluster lacks what is asked for, or other work holds it.
    ConfigError
        If a batch has no part for each worker.
    """
    began = time.monotonic()
    require_size(config)
    segments = require_chain(run, "segments")["segments"]
    _require_own_segments(segments["made_of"], run, config)
    store = SegmentStore(run.folder("segments"))
    stage = run.stage("train")
    made_of = _made_of(config, segments["summary"]["digest"])
    chosen = members(store, config)
    finished = stage.standing(made_of, overwrite=overwrite) == "done"
    known = _known(stage) if finished else {}
    if finished and not overwrite and _holds_its_outputs(run, stage):
        run.accept("train", config)
        return _nothing_to_do(stage, report)
    # Resources are looked at before what stands here is replaced.
    placement = place(store, config, chosen, report)
    require_shared(run.root)
    folder = run.folder("train")
    if _holds_own_state(folder, made_of, config, overwrite=overwrite):
        standing = stage.begin(made_of, overwrite=overwrite)
    else:
        standing = stage.replace(made_of)
    # Accepted: from here on the run is one of this configuration. Were it taken over only once the
    # model is there, a kill in between would leave a model with the configuration of another.
    run.accept("train", config)
    if standing == "done":
        if _holds_its_outputs(run, stage):
            return _nothing_to_do(stage, report)
        report.say(
            f"train: '{run.model}' or what stands beside the state in '{folder}' is lost or "
            "damaged, and is made again from the state"
        )
        stage.begin(made_of, again=True)
    # Taken where the work begins: a call that finds no place leaves the folder to who works there.
    claim = Claim(folder)
    state, passed = _newest(folder, made_of, config, report)
    if state is None:
        # It is of an earlier training, also where a call that replaced that ended half-way.
        run.model.delete()
    else:
        seed = config.train.seeds[state.seed_index]
        report.say(f"train: going on after epoch {state.epoch} of seed {seed}")
    if state is None or not is_finished(state, config):
        if chosen.short:
            report.say(
                f"train: {len(chosen.short)} labelled recordings are too short and left out: "
                f"{', '.join(chosen.short[:_NAMED])}{', ...' if len(chosen.short) > _NAMED else ''}"
            )
        settings = _Settings(claim, store, config, made_of, chosen, placement, passed)
        while True:
            report.say(f"train: {settings.placement.told}")
            try:
                _run_ray_train(settings, stage, state, report)
                break
            except ControllerError as error:
                # The workers no longer fit onto the nodes that are left, as they were placed.
                again = place(store, config, chosen, report)
                if again == settings.placement:
                    raise _not_started(error, again) from error
                report.say("train: nodes were lost or came; going on with those that are there")
            state, passed = _newest(folder, made_of, config, report)
            settings = replace(settings, placement=again, passed=passed)
        state, _ = _newest(folder, made_of, config, report)
        assert state is not None, "a training that ended well left its state"
    task = Task(config, made_of, store.standardizer(config.standardize.scope), torch.device("cpu"))
    # A worker that was killed after its last state has not come to write what follows from it.
    best = best_model(task, state)
    claim.take()
    # Where the workers were is known from `state.json`; where that was lost, from the stage.
    progress = read_progress(folder) or known
    with claim.held(), _writing(folder):
        restore_progress(folder, state, progress=known)
        (folder / HISTORY_FILE).write_text(history_csv(state.history))
        export_model(folder / "best", best, config, state.best_record)
        sha256 = export_model(run.model, best, config, _record(run, store, chosen, state))
    summary: dict[str, Any] = {
        "seconds": time.monotonic() - began,
        "digest": sha256,
        "validation_ccc": state.best_record["validation_ccc"],
        "seed": state.best_record["seed"],
        "epoch": state.best_record["epoch"],
        "epochs": len(state.history),
        "seeds": _by_seed(state),
        "residency": progress.get("residency", placement.residency),
        "device": progress.get("device"),
        "workers": config.train.workers,
    }
    with claim.held():
        stage.finish(summary, [HISTORY_FILE])
        claim.release()
    report.say(
        f"train: validation CCC {summary['validation_ccc']:.3f} at epoch {summary['epoch']} of "
        f"seed {summary['seed']}, {summary['epochs']} epochs in {summary['seconds']:.0f} s"
    )
    return summary


def _known(stage: Stage) -> dict[str, Any]:
    """What a finished training noted of where its workers were."""
    record = stage.record()
    assert record is not None, "what is done has a record"
    return {name: record["summary"].get(name) for name in ("residency", "device")}


def _nothing_to_do(stage: Stage, report: Report) -> dict[str, Any]:
    report.say("train: nothing to do")
    summary: dict[str, Any] = stage.require()["summary"]
    return summary


def _holds_its_outputs(run: Run, stage: Stage) -> bool:
    """Whether the model, its copy, the history and `state.json` are what the training left."""
    record = stage.record()
    assert record is not None, "what is done has a record"
    try:
        read_history(stage.folder, record)
        descriptions = [load_model(each)[1] for each in (run.model, stage.folder / "best")]
    except (DamagedError, ModelError):
        return False
    return not lacks_progress(stage.folder) and all(
        each.sha256 == record["summary"]["digest"] for each in descriptions
    )


def _require_own_segments(made_of: Mapping[str, Any], run: Run, config: Config) -> None:
    """See to it that the segments are those that `config` would make.

    Which settings they depend on, their record says, and how they were split, the run's. Fewer
    copies than are stored will not do either: the statistics that standardise are those of all.
    Sequences may be of another length, for which some recordings may be too short.

    Raises
    ------
    StaleError
        If they were made with others.
    """
    sections = config.model_dump(mode="json", exclude={"sequence"})
    there = {name: kept for name, kept in made_of.items() if name in sections}
    here = {
        name: {key: value for key, value in sections[name].items() if key in kept}
        for name, kept in there.items()
    }
    standing = run.config().model_dump(mode="json")
    for name in ("corpus", "labels", "split"):
        # A section that states nothing is absent.
        there[name], here[name] = standing.get(name, {}), sections.get(name, {})
    refuse_other_settings(run.stage("segments"), there, here, asks="training")


def _newest(
    folder: Location, made_of: Mapping[str, Any], config: Config, report: Report
) -> tuple[TrainingState | None, tuple[str, ...]]:
    """The newest state that is whole, and what was said of those that were passed over."""
    state, remarks = _own_state(folder, made_of, config)
    for remark in remarks:
        report.say(f"train: {remark}")
    return state, remarks


def _own_state(
    folder: Location, made_of: Mapping[str, Any], config: Config
) -> tuple[TrainingState | None, tuple[str, ...]]:
    """As `load_state`, and none but this training's.

    Raises
    ------
    StaleError
        If it is the state of another configuration or input.
    """
    state, remarks = load_state(folder, most=state_bytes(config))
    if state is not None and fingerprint(state.made_of) != fingerprint(made_of):
        raise StaleError(
            f"'{folder}' holds the state of a training of another configuration or input: "
            f"{difference(state.made_of, made_of)}. Add --overwrite to train anew, or choose "
            "another run folder."
        )
    return state, remarks


def _holds_own_state(
    folder: Location, made_of: dict[str, Any], config: Config, *, overwrite: bool
) -> bool:
    """Whether what would be gone on from is this training's, whatever `stage.json` says.

    False means that all of it is to be replaced, which `overwrite` allows.

    Raises
    ------
    StaleError
        If a state of another configuration or input stands there and `overwrite` is False.
    ModelError
        If no state there is whole and `overwrite` is False.
    """
    try:
        _own_state(folder, made_of, config)
    except (StaleError, ModelError):
        if not overwrite:
            raise
        return False
    return True


def _made_of(config: Config, digest: str) -> dict[str, Any]:
    sections = config.model_dump(mode="json", exclude_none=True)
    kept = {key: value for key, value in sections["train"].items() if key not in FREE["train"]}
    names = ("standardize", "sequence", "model")
    return {"segments": digest, "train": kept, **{name: sections[name] for name in names}}


@dataclass(frozen=True)
class _Settings:
    """All that a worker needs; it travels pickled.

    `passed` is what was said of states that are damaged, and need not be said again.
    """

    claim: Claim
    store: SegmentStore
    config: Config
    made_of: dict[str, Any]
    chosen: Members
    placement: Placement
    passed: tuple[str, ...]

    @property
    def folder(self) -> Location:
        """`RUN/train`."""
        return self.claim.folder


class _Trainer(TorchTrainer):
    """Ray's, which leaves Ctrl-C to the program."""

    def _register_sigint_handler(self, controller: Any) -> None:
        """Install no handler: Ray's would stay after the training, and end a stage with status 0.

        The workers end with the session, or with this process.
        """


def _run_ray_train(
    settings: _Settings, stage: Stage, state: TrainingState | None, report: Report
) -> None:
    # Ray looks for news of the workers this often; an epoch may be shorter than its 2 s.
    os.environ.setdefault("RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", "0.2")
    placement = settings.placement
    record = stage.record()
    assert record is not None, "the stage has begun"
    resources = {"CPU": placement.cpus} | ({"GPU": 1.0} if placement.gpu else {})
    # A name that was used before resumes silently, and what goes on is decided by state.pt alone.
    name = f"ray-{record['fingerprint'][:12]}-{time.time_ns():x}"
    # Ray's annotations are those of its first version, which took less and returned nothing.
    work: Any = _work
    # A group of workers that finds no place is no failure of theirs, and is placed anew.
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
    trainer = _Trainer(
        work,
        train_loop_config={"settings": settings},
        torch_config=Meeting(backend="nccl" if placement.gpu else "gloo"),
        scaling_config=ScalingConfig(
            num_workers=placement.workers,
            use_gpu=placement.gpu,
            resources_per_worker=resources,
            **scaling,
        ),
        run_config=RunConfig(**run_options),
    )
    with Watch(settings.folder, settings.config, state, report):
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


def _damage(error: TrainingFailedError) -> DamagedError | None:
    """What a worker found damaged, if that is what the training failed of."""
    failures = error.worker_failures if isinstance(error, WorkerGroupError) else {}
    for failure in failures.values():
        cause = failure._base_exc if isinstance(failure, UserExceptionWithTraceback) else failure
        if isinstance(cause, DamagedError):
            return cause
    return None


def _failed(error: Exception, config: Config) -> str:
    told, advice = _last_line(error), ""
    if "out of memory" in told:
        advice = (
            " Set train.residency = 'host', or lower train.batch_size with --overwrite, which "
            "trains anew."
        )
    return (
        f"Training failed and was restarted {config.train.max_failures} times: {told}. The state "
        f"of the last finished epoch is kept; run the same command again to go on from it.{advice}"
    )


def _not_started(error: ControllerError, placement: Placement) -> ValenceError:
    """What to tell of workers that were never at work."""
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


def _work(given: dict[str, Any]) -> ValenceError | None:
    """What each worker does; returns the error of a training that none of them can go on with."""
    settings: _Settings = given["settings"]
    config, placement = settings.config, settings.placement
    # Asked, Ray would name a GPU that it did not give where one can be seen.
    device = get_device() if placement.gpu else torch.device("cpu")
    assert isinstance(device, torch.device)
    if device.type == "cpu":
        together = ray.train.get_context().get_local_world_size()
        held = max(1, len(os.sched_getaffinity(0)) // together)
        torch.set_num_threads(max(1, min(held, round(placement.cpus))))
    precision = precision_on(device, config.train.precision)
    standardizer = settings.store.standardizer(config.standardize.scope)
    task = Task(config, settings.made_of, standardizer, device, precision)

    remarks: list[str] = []

    def prepare() -> tuple[Residency, Source, TrainingState | None]:
        residency = placement.settle(device)
        if placement.residency == "auto":
            remarks.append(f"segments are {LIVE[residency]}")
        if rank() == 0:
            settings.claim.take()
            settings.folder.remove_partial_files()
        state, passed = _own_state(settings.folder, settings.made_of, config)
        remarks.extend(remark for remark in passed if remark not in settings.passed)
        return residency, _source(settings, device, residency), state

    def write(state: TrainingState, told: dict[str, Any]) -> None:
        progress = {
            **told,
            "residency": residency,
            "device": device.type,
            "remarks": [*remarks, *told["remarks"]],
            "history": state.history,
            "best": state.best_record,
        }
        with settings.claim.held():
            _write(settings.folder, task, state, progress)

    def save(state: TrainingState, told: dict[str, Any]) -> None:
        _together(lambda: write(state, told) if rank() == 0 else None)
        ray.train.report(state.history[-1])

    try:
        residency, source, state = _together(prepare)
        fit(task, source, state=state, save=save)
    except _EndedTogetherError as ended:
        return ended.error
    except TrainingError as error:
        # All workers come to it together. Raised, it would be tried again to the same end.
        return error
    except DamagedError as error:
        # What befalls one among others is raised, because Ray ends the others only then.
        if world_size() > 1:
            raise
        return error
    return None


def _write(folder: Location, task: Task, state: TrainingState, progress: Mapping[str, Any]) -> None:
    """Write a state and what follows from it."""
    save_state(folder, state, progress=progress)
    record, last = state.best_record, state.history[-1]
    with _writing(folder):
        if (record["seed"], record["epoch"]) == (last["seed"], last["epoch"]):
            # A model to predict with while the training goes on, made without drawing from the
            # random numbers that a resumed run would go on with.
            with torch.random.fork_rng(devices=[]):
                best = best_model(task, state)
            export_model(folder / "best", best, task.config, record)
        (folder / HISTORY_FILE).write_text(history_csv(state.history))


class _EndedTogetherError(Exception):
    """All workers stop, because of the error of one."""

    def __init__(self, error: ValenceError) -> None:
        super().__init__(str(error))
        self.error = error


def _together(work: Callable[[], T]) -> T:
    """What `work` comes to; where one worker cannot do its own, all of them stop.

    Raises
    ------
    _EndedTogetherError
        On every worker, with the first error of any.
    """
    complaint: ValenceError | None = None
    try:
        done = work()
    except ValenceError as error:
        # Its traceback holds what cannot travel.
        complaint = error.with_traceback(None)
    for each in gather(complaint):
        if each is not None:
            raise _EndedTogetherError(each)
    return done


@contextmanager
def _writing(folder: Location) -> Iterator[None]:
    """For what is written beside a state that is safe already."""
    try:
        yield
    except OSError as error:
        raise TrainingError(
            f"What follows from the last state of the training in '{folder}' could not be written: "
            f"{error}. The state is there; make room and run the same command again to go on."
        ) from error


def _source(settings: _Settings, device: torch.device, residency: Residency) -> Source:
    store, config, chosen = settings.store, settings.config, settings.chosen
    match residency:
        case "stream":
            return StreamingSource(store, config, chosen, device=device)
        case "device" | "host":
            return ResidentSource(store, config, chosen, device=device, residency=residency)


def _by_seed(state: TrainingState) -> list[dict[str, Any]]:
    """The best epoch of each seed."""
    best: dict[int, dict[str, Any]] = {}
    for row in state.history:
        kept = best.get(row["seed"])
        if kept is None or row["validation_ccc"] > kept["validation_ccc"]:
            best[row["seed"]] = {key: row[key] for key in ("seed", "epoch", "validation_ccc")}
    return list(best.values())


def _record(run: Run, store: SegmentStore, chosen: Members, state: TrainingState) -> dict[str, Any]:
    frame = store.recordings()
    usable = frame[frame["status"] == "ok"]
    known = run.stage("segments").require()["summary"].get("subjects", {})
    return {
        **state.best_record,
        # Absent where there is nothing to say, so that the model's file stays what it was.
        **({"subjects_remark": known["remark"]} if known.get("remark") else {}),
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
