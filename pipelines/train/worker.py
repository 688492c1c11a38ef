"""Train the model in each worker of a training."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import ray
import torch
from ray.train.torch import get_device

from pipelines.train.ownership import Claim
from pipelines.train.placement import LIVE, Placement
from pipelines.train.resume import own_state
from pipelines.train.streaming import StreamingSource
from valence.config import Config
from valence.errors import DamagedError, TrainingError, ValenceError
from valence.model.acceleration import precision_on
from valence.model.distributed import gather, rank, world_size
from valence.model.serialization import export_model
from valence.storage.location import Location
from valence.training.checkpoint import TrainingState, save_state
from valence.training.data.batches import Source
from valence.training.data.capacity import Members, Residency
from valence.training.data.in_memory import ResidentSource
from valence.training.data.inputs import SegmentInputs
from valence.training.history import HISTORY_FILE
from valence.training.loop import TrainingSpec, best_model, fit, history_csv

T = TypeVar("T")


@dataclass(frozen=True)
class WorkerSettings:
    """The inputs of a worker, sent pickled.

    `passed` holds remarks on damaged states that were already printed.
    """

    claim: Claim
    inputs: SegmentInputs
    config: Config
    made_of: dict[str, Any]
    chosen: Members
    placement: Placement
    passed: tuple[str, ...]

    @property
    def folder(self) -> Location:
        """`RUN/train`."""
        return self.claim.folder


def train_worker(given: dict[str, Any]) -> ValenceError | None:
    """Train in one worker; return an error after which no worker can go on."""
    settings: WorkerSettings = given["settings"]
    config, placement = settings.config, settings.placement
    # Without a GPU of its own, do not ask Ray, which names any GPU that is visible.
    device = get_device() if placement.gpu else torch.device("cpu")
    assert isinstance(device, torch.device)
    if device.type == "cpu":
        together = ray.train.get_context().get_local_world_size()
        held = max(1, len(os.sched_getaffinity(0)) // together)
        torch.set_num_threads(max(1, min(held, round(placement.cpus))))
    precision = precision_on(device, config.train.precision)
    inputs = settings.inputs
    task = TrainingSpec(
        config, settings.made_of, inputs.standardizer(), device, precision, inputs.features
    )

    remarks: list[str] = []

    def prepare() -> tuple[Residency, Source, TrainingState | None]:
        residency = placement.settle(device)
        if placement.residency == "auto":
            remarks.append(f"segments are {LIVE[residency]}")
        if rank() == 0:
            settings.claim.take()
            settings.folder.remove_partial_files()
        state, passed = own_state(settings.folder, settings.made_of, config)
        remarks.extend(remark for remark in passed if remark not in settings.passed)
        return residency, _source(settings, device, residency), state

    def write(state: TrainingState, news: dict[str, Any]) -> None:
        progress = {
            **news,
            "residency": residency,
            "device": device.type,
            "remarks": [*remarks, *news["remarks"]],
            "history": state.history,
            "best": state.best_record,
        }
        with settings.claim.held():
            _write(settings.folder, task, state, progress)

    def save(state: TrainingState, news: dict[str, Any]) -> None:
        _together(lambda: write(state, news) if rank() == 0 else None)
        ray.train.report(state.history[-1])

    try:
        residency, source, state = _together(prepare)
        fit(task, source, state=state, save=save)
    except _EndedTogetherError as ended:
        return ended.error
    except TrainingError as error:
        # Every worker reaches this error, so return it: raising would make Ray retry in vain.
        return error
    except DamagedError as error:
        # If one of several workers fails, raise the error: only then does Ray end the others.
        if world_size() > 1:
            raise
        return error
    return None


def _write(
    folder: Location, task: TrainingSpec, state: TrainingState, progress: Mapping[str, Any]
) -> None:
    """Write a state, then the history and, after the best epoch, the model."""
    save_state(folder, state, progress=progress)
    record, last = state.best_record, state.history[-1]
    with writing(folder):
        if (record["seed"], record["epoch"]) == (last["seed"], last["epoch"]):
            # This model can predict while the training goes on. Building it must not draw from the
            # random numbers, or a resumed run would differ.
            with torch.random.fork_rng(devices=[]):
                best = best_model(task, state)
            export_model(folder / "best", best, task.config, record, task.features)
        (folder / HISTORY_FILE).write_text(history_csv(state.history))


class _EndedTogetherError(Exception):
    """The error of one worker, which ends all of them."""

    def __init__(self, error: ValenceError) -> None:
        super().__init__(str(error))
        self.error = error


def _together(work: Callable[[], T]) -> T:
    """Do `work` and return its result; if it fails on one worker, stop all of them.

    Raises
    ------
    _EndedTogetherError
        On every worker, with the error of the first worker that failed.
    """
    complaint: ValenceError | None = None
    try:
        done = work()
    except ValenceError as error:
        # Drop the traceback, because it holds objects that cannot be sent.
        complaint = error.with_traceback(None)
    for each in gather(complaint):
        if each is not None:
            raise _EndedTogetherError(each)
    return done


@contextmanager
def writing(folder: Location) -> Iterator[None]:
    """Explain an error while writing files that follow from a state already saved."""
    try:
        yield
    except OSError as error:
        raise TrainingError(
            f"What follows from the last state of the training in '{folder}' could not be written: "
            f"{error}. The state is there; make room and run the same command again to go on."
        ) from error


def _source(settings: WorkerSettings, device: torch.device, residency: Residency) -> Source:
    inputs, config, chosen = settings.inputs, settings.config, settings.chosen
    match residency:
        case "stream":
            return StreamingSource(inputs, config, chosen, device=device)
        case "device" | "host":
            return ResidentSource(inputs, config, chosen, device=device, residency=residency)
