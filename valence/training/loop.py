"""Train the network: a step, an epoch, early stopping, and a whole training over several seeds.

The loop takes batches from a `Source`, and knows neither files nor clusters. Several workers each
take their part of the same batches; loss and gradients are then those of the whole batch.
"""

from __future__ import annotations

import copy
import math
import time
import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from valence import metrics
from valence.audio.standardization import Standardizer
from valence.config import Config, Precision
from valence.errors import TrainingError
from valence.formatting import plural
from valence.model.acceleration import Encode, compiled_encode
from valence.model.distributed import average_gradients, gather, rank, world_size
from valence.model.network import FeatureInput, ValenceModel
from valence.training.checkpoint import TrainingState, random_state, set_random_state
from valence.training.data.batches import Batch, Source
from valence.training.data.sampling import Sampling
from valence.training.loss import ccc_loss, ccc_of_sums, is_constant, pair_sums
from valence.training.validation import evaluate, not_a_number

HISTORY_COLUMNS = (
    "seed",
    "epoch",
    "train_loss",
    "train_ccc",
    "validation_ccc",
    "validation_mse",
    "validation_mae",
    "learning_rate",
    "seconds",
)

_CONSTANT = "validation predictions or labels are constant: their CCC counts as 0"

# The loss is checked once in so many steps, because each check waits for the device.
_LOOK_EVERY = 50


@dataclass(frozen=True, eq=False)
class TrainingSpec:
    """The task of a training.

    Attributes
    ----------
    config
        The whole configuration.
    made_of
        Settings and fingerprints, JSON-like. A training resumes only from a state with equal ones.
    standardizer
        Standardisation fitted on the training recordings.
    device
        Device of the model.
    precision
        Precision of the CNN's values; all other values are float32. The recurrences must be: on a
        GPU, torch would compute them in float16 even under bfloat16, and their gradients are too
        small for float16.
    features
        The set of features that the model takes; None if it takes mel.
    """

    config: Config
    made_of: dict[str, Any]
    standardizer: Standardizer
    device: torch.device
    precision: Precision = "float32"
    features: FeatureInput | None = None

    def autocast(self) -> torch.autocast:
        """Return the context in which the CNN computes in `precision`."""
        reduced = self.precision == "bfloat16"
        return torch.autocast(self.device.type, torch.bfloat16, enabled=reduced)


class Stepper:
    """Takes the training steps of a model, with an optimizer.

    Parameters
    ----------
    model
        Model on its device.
    task
        Task of the training.
    """

    def __init__(self, model: ValenceModel, task: TrainingSpec) -> None:
        train = task.config.train
        self.model, self.task = model, task
        self.sampling = Sampling.of(task.config.sequence, train)
        self.parameters = list(model.parameters())
        self.optimizer = torch.optim.Adam(
            self.parameters, lr=train.learning_rate, weight_decay=train.weight_decay, fused=True
        )
        self.scheduler = torch.optim.lr_scheduler.LambdaLR(
            self.optimizer, lambda epoch: _share_of_rate(epoch, train.warmup_epochs, train.epochs)
        )
        self._windows = self.sampling.group_offsets.tolist()
        # Number of groups in this worker's part of a full batch.
        groups = self.sampling.batch_size // self.sampling.windows_per_group
        self._full = len(range(rank(), groups, world_size()))
        self._compiled: Encode | None = None
        self.remarks: list[str] = []
        if _is_compiled(task):
            self._compiled, remark = compiled_encode(
                model,
                segments=self._full * self.sampling.group_segments,
                dtype=getattr(torch, task.config.preprocess.dtype),
                autocast=task.autocast(),
            )
            self.remarks.append(remark)

    def step(self, batch: Batch) -> Tensor:
        """Take one step and return the batch's `pair_sums`, detached."""
        self.optimizer.zero_grad(set_to_none=True)
        prediction = self.model.forward_groups(
            batch.inputs, self._windows, self.sampling.length, encode=self._encode
        )
        sums = pair_sums(prediction, batch.target)
        ccc_loss(sums).backward()  # type: ignore[no-untyped-call]
        average_gradients(self.parameters)
        clip = self.task.config.train.gradient_clip
        if clip is not None:
            nn.utils.clip_grad_norm_(self.parameters, clip)
        self.optimizer.step()
        return sums.detach()

    def _encode(self, inputs: Tensor) -> Tensor:
        # The CNN is compiled for the size of a full batch alone.
        whole = len(inputs) == self._full * self.sampling.group_segments
        encode = self._compiled if whole and self._compiled else self.model.encode
        with self.task.autocast():
            return encode(inputs)


def _share_of_rate(epoch: int, warmup: int, epochs: int) -> float:
    """Return the share of the learning rate in an epoch, from 0: a climb, then half a cosine."""
    if epoch < warmup:
        return (epoch + 1) / (warmup + 1)
    return 0.5 * (1 + math.cos(math.pi * (epoch - warmup) / (epochs - warmup)))


def _is_compiled(task: TrainingSpec) -> bool:
    if task.config.model.feature_set is not None:
        # There is no CNN to compile.
        return False
    match task.config.train.compile:
        case "always":
            return True
        case "never":
            return False
        case "auto":
            # Several workers exchange batch statistics between the layers, so that their CNN cannot
            # run in one piece.
            return task.device.type == "cuda" and world_size() == 1


@dataclass(frozen=True)
class Epoch:
    """The results of an epoch's steps.

    Attributes
    ----------
    loss
        Mean loss of the steps.
    ccc
        CCC of all predictions that the steps made.
    windows
        Number of these predictions.
    constant
        Number of steps in which predictions or labels were constant.
    """

    loss: float
    ccc: float
    windows: int
    constant: int


def train_epoch(stepper: Stepper, batches: Iterable[Batch]) -> Epoch:
    """Take a step for each of `batches`; warn of batches with constant predictions or labels.

    Raises
    ------
    TrainingError
        If the loss is not a number any more, or there is no batch.
    """
    stepper.model.train()
    steps: list[Tensor] = []
    for batch in batches:
        steps.append(stepper.step(batch))
        if len(steps) % _LOOK_EVERY == 0:
            _require_number(float(ccc_loss(torch.stack(steps[-_LOOK_EVERY:])).mean()))
    if not steps:
        raise TrainingError(
            "An epoch has no batch: the training recordings hold fewer than two sequences whose "
            "labels are all known, or fewer groups of train.windows_per_group than train.workers. "
            "Label more, or lower sequence.length, sequence.stride, train.windows_per_group or "
            "train.workers."
        )
    sums = torch.stack(steps)
    loss = float(ccc_loss(sums).mean())
    _require_number(loss)
    constant = int(is_constant(sums).any(dim=-1).sum())
    if constant:
        warnings.warn(
            f"predictions or labels are constant in {constant} of {len(steps)} batches: their CCC "
            "is set to 0",
            metrics.ConstantWarning,
            stacklevel=2,
        )
    whole = sums.sum(dim=0)
    return Epoch(loss, float(ccc_of_sums(whole).mean()), int(whole[0, 0]), constant)


def _require_number(loss: float) -> None:
    if not math.isfinite(loss):
        raise not_a_number()


def fit(
    task: TrainingSpec,
    source: Source,
    *,
    state: TrainingState | None,
    save: Callable[[TrainingState, dict[str, Any]], None],
) -> TrainingState:
    """Train every seed of `task` to its end.

    Parameters
    ----------
    task
        Task of the training.
    source
        Source of this worker's data.
    state
        State to resume from, or None to begin.
    save
        Function that every worker calls after each epoch, with the state and the facts for the
        user: `sequences_per_second`, the number of `constant` batches, and `remarks`.

    Returns
    -------
    The last state; its `best` weights are the best over all seeds.

    Raises
    ------
    TrainingError
        If there are too few data, or the loss is not a number any more.
    """
    seeds = task.config.train.seeds
    first = 0 if state is None else state.seed_index
    for index in range(first, len(seeds)):
        going_on = state is not None and state.seed_index == index
        state = _fit_seed(task, source, index, state, save, going_on=going_on)
    assert state is not None, "there is at least one seed"
    return state


def _fit_seed(
    task: TrainingSpec,
    source: Source,
    index: int,
    state: TrainingState | None,
    save: Callable[[TrainingState, dict[str, Any]], None],
    *,
    going_on: bool,
) -> TrainingState:
    train, seed = task.config.train, task.config.train.seeds[index]
    if going_on and state is not None and _seed_finished(state, task.config):
        return state
    torch.manual_seed(seed)
    model = ValenceModel(
        task.config.model,
        n_mels=task.config.mel.n_mels,
        n_frames=task.config.mel.n_frames,
        standardizer=task.standardizer,
    ).to(task.device)
    stepper = Stepper(model, task)
    # All workers begin with the same weights, but each one draws its own dropout.
    torch.manual_seed(_worker_seed(seed, 0))
    if going_on:
        assert state is not None
        _restore(stepper, state, seed)
    best_ccc, best_epoch, bad = -math.inf, 0, 0
    if going_on and state is not None:
        best_ccc, best_epoch, bad = state.best_ccc, state.best_epoch, state.bad_epochs
    history = [] if state is None else list(state.history)
    champion: dict[str, Any] = {} if state is None else state.best_record
    best = {} if state is None else state.best
    for epoch in range(state.epoch + 1 if going_on and state is not None else 1, train.epochs + 1):
        began = time.monotonic()
        rate = stepper.optimizer.param_groups[0]["lr"]
        steps = train_epoch(stepper, source.batches(seed, epoch))
        trained = time.monotonic() - began
        found = evaluate(
            model, source.recordings(), stepper.sampling.length, precision=task.precision
        )
        stepper.scheduler.step()
        bad += 1
        if found.ccc > best_ccc:
            best_ccc, best_epoch, bad = found.ccc, epoch, 0
            if not champion or found.ccc > champion["validation_ccc"]:
                best = _weights(model)
                champion = {"seed": seed, "epoch": epoch, "validation_ccc": found.ccc}
        history.append(
            {
                "seed": seed,
                "epoch": epoch,
                "train_loss": steps.loss,
                "train_ccc": steps.ccc,
                "validation_ccc": found.ccc,
                "validation_mse": found.mse,
                "validation_mae": found.mae,
                "learning_rate": rate,
                "seconds": time.monotonic() - began,
            }
        )
        state = TrainingState(
            made_of=task.made_of,
            standardizer=task.standardizer.to_json(),
            seed_index=index,
            epoch=epoch,
            model=_weights(model),
            optimizer=stepper.optimizer.state_dict(),
            scheduler=stepper.scheduler.state_dict(),
            best_ccc=best_ccc,
            best_epoch=best_epoch,
            bad_epochs=bad,
            best=best,
            best_record=champion,
            history=list(history),
            random=gather(random_state(task.device)),
            threads=torch.get_num_threads(),
        )
        facts = {
            "sequences_per_second": steps.windows / trained,
            "constant": steps.constant,
            "remarks": [*stepper.remarks, *([_CONSTANT] if found.constant else [])],
        }
        save(state, facts)
        if _seed_finished(state, task.config):
            break
    assert state is not None, "there is at least one epoch"
    return state


def is_finished(state: TrainingState, config: Config) -> bool:
    """Return whether the training of every seed has ended."""
    return state.seed_index == len(config.train.seeds) - 1 and _seed_finished(state, config)


def _seed_finished(state: TrainingState, config: Config) -> bool:
    return state.epoch >= config.train.epochs or state.bad_epochs >= config.train.patience


def _worker_seed(seed: int, epoch: int) -> int:
    return int(np.random.SeedSequence([seed, epoch, rank()]).generate_state(1, np.uint64)[0] >> 1)


def _weights(model: ValenceModel) -> dict[str, Tensor]:
    return {name: value.detach().cpu().clone() for name, value in model.state_dict().items()}


def _restore(stepper: Stepper, state: TrainingState, seed: int) -> None:
    stepper.model.load_state_dict(state.model)
    # The optimizer works on the tensors that it is given, so give it copies.
    stepper.optimizer.load_state_dict(copy.deepcopy(state.optimizer))
    stepper.scheduler.load_state_dict(state.scheduler)
    if len(state.random) == world_size():
        set_random_state(state.random[rank()], stepper.task.device)
    else:
        # With another number of workers the saved states do not fit, so use reproducible seeds.
        torch.manual_seed(_worker_seed(seed, state.epoch))
        also = ", and what is dropped out" if stepper.task.config.model.dropout else ""
        stepper.remarks.append(
            f"goes on with {plural(world_size(), 'worker')} where it had {len(state.random)}: the "
            f"last digits differ{also}"
        )
    threads = torch.get_num_threads()
    if stepper.task.device.type == "cpu" and state.threads != threads:
        stepper.remarks.append(
            f"goes on with {plural(threads, 'thread')} where it had {state.threads}: the last "
            "digits differ"
        )


def best_model(task: TrainingSpec, state: TrainingState) -> ValenceModel:
    """Build the model with the best weights over all seeds, on the CPU, in evaluation mode."""
    model = ValenceModel(
        task.config.model,
        n_mels=task.config.mel.n_mels,
        n_frames=task.config.mel.n_frames,
        standardizer=task.standardizer,
    )
    model.load_state_dict(state.best)
    return model.eval()


def history_csv(history: Iterable[dict[str, Any]]) -> str:
    """Return the text of `history.csv`, one row for each epoch."""
    lines = [",".join(HISTORY_COLUMNS)]
    lines += [",".join(str(row[column]) for column in HISTORY_COLUMNS) for row in history]
    return "\n".join(lines) + "\n"
