"""Steps, epochs, and training that goes on where it stopped."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import fields, replace
from typing import Any

import numpy as np
import pytest
import torch

from valence.audio.standardization import Standardizer
from valence.config import Config
from valence.errors import TrainingError
from valence.metrics import ConstantWarning
from valence.model.network import ValenceModel
from valence.segments.sequences import windows
from valence.training.checkpoint import TrainingState
from valence.training.data.batches import Batch, Labelled
from valence.training.loop import (
    HISTORY_COLUMNS,
    Stepper,
    TrainingSpec,
    _restore,
    best_model,
    fit,
    history_csv,
    is_finished,
    train_epoch,
)
from valence.training.loss import ccc_loss
from valence.training.validation import evaluate

SHAPE = (16, 12)
_STANDARDIZER = Standardizer("global", np.array([-30], np.float32), np.array([20], np.float32))


def _task(*assignments: str) -> TrainingSpec:
    config = Config.resolve(
        Config(),
        assignments=[
            "preprocess.sr=4000",
            "mel.n_mels=16",
            "mel.n_frames=12",
            "model.channels=[3, 4]",
            "model.lstm_hidden=5",
            "model.dropout=0.3",
            "sequence.length=5",
            "sequence.stride=2",
            "train.batch_size=8",
            "train.epochs=4",
            "train.learning_rate=0.01",
            *assignments,
        ],
    )
    return TrainingSpec(config, {"made": "here"}, _STANDARDIZER, torch.device("cpu"))


class _Source:
    """Random segments whose loudness is the label, in batches that follow from seed and epoch."""

    def __init__(self, *, broken_epoch: int | None = None, device: str = "cpu") -> None:
        self.device = device
        rng = np.random.default_rng(7)
        self.label = rng.normal(size=(40, 1)).astype(np.float32)
        self.mel = rng.normal(-30, 5, (40, *SHAPE)).astype(np.float32)
        self.mel += 20 * self.label[:, :, None]
        self.broken_epoch = broken_epoch

    def batches(self, seed: int, epoch: int) -> Iterator[Batch]:
        rng = np.random.default_rng([seed, epoch])
        for _ in range(3):
            starts = rng.integers(36, size=8)
            held = starts[:, None] + np.arange(5)
            target = torch.from_numpy(self.label[held].mean(axis=1))
            if epoch == self.broken_epoch:
                target = target * torch.nan
            yield Batch(torch.from_numpy(self.mel[held]).to(self.device), target.to(self.device))

    def recordings(self) -> list[Labelled]:
        starts = windows(5, 2, segments=40)
        target = np.stack([self.label[start : start + 5].mean(axis=0) for start in starts])
        return [Labelled("r", self.mel, starts, target)]


class _Kept:
    """Every state that was saved, as its bytes were then."""

    def __init__(self) -> None:
        self.states: list[TrainingState] = []
        self.output: list[dict[str, Any]] = []

    def __call__(self, state: TrainingState, output: dict[str, Any]) -> None:
        buffer = io.BytesIO()
        torch.save({field.name: getattr(state, field.name) for field in fields(state)}, buffer)
        buffer.seek(0)
        held = torch.load(buffer, map_location="cpu", weights_only=True)
        self.states.append(TrainingState(**held))
        self.output.append(output)


def _model(task: TrainingSpec) -> ValenceModel:
    torch.manual_seed(0)
    return ValenceModel(
        task.config.model, n_mels=SHAPE[0], n_frames=SHAPE[1], standardizer=_STANDARDIZER
    )


@pytest.mark.parametrize("steps", [3, 50, 53])
def test_an_epoch_stops_where_the_loss_is_no_number(steps: int) -> None:
    task = _task()
    batches = [next(_Source().batches(0, 1)) for _ in range(steps - 1)]
    batches.append(replace(batches[0], target=batches[0].target * torch.nan))
    with pytest.raises(TrainingError, match="not a number any more"):
        train_epoch(Stepper(_model(task), task), iter(batches))


def test_a_loss_that_is_no_number_is_seen_long_before_the_end() -> None:
    task = _task()
    whole = next(_Source().batches(0, 1))
    asked = []

    def endless() -> Iterator[Batch]:
        for number in range(1000):
            asked.append(number)
            yield replace(whole, target=whole.target * (torch.nan if number == 3 else 1))

    with pytest.raises(TrainingError, match="not a number any more"):
        train_epoch(Stepper(_model(task), task), endless())
    assert len(asked) <= 50


def test_an_epoch_of_constant_labels_warns_once() -> None:
    task = _task("model.dropout=0")
    batches = [next(_Source().batches(0, 1)) for _ in range(3)]
    batches[1:] = [replace(each, target=torch.full_like(each.target, 0.1)) for each in batches[1:]]
    with pytest.warns(ConstantWarning, match="constant in 2 of 3 batches") as warned:
        found = train_epoch(Stepper(_model(task), task), batches)
    assert len(warned) == 1
    assert (found.constant, found.windows) == (2, 24)
    assert found.loss >= 2 / 3


def test_an_epoch_without_a_batch_is_an_error() -> None:
    task = _task()
    with pytest.raises(TrainingError, match=r"fewer than two sequences.*train\.windows_per_group"):
        train_epoch(Stepper(_model(task), task), [])


def test_training_learns_and_tells() -> None:
    kept = _Kept()
    task = _task("train.epochs=15", "train.patience=15", "model.dropout=0")
    state = fit(task, _Source(), state=None, save=kept)
    history = state.history
    assert [row["epoch"] for row in history] == list(range(1, 16))
    assert [tuple(row) for row in history] == [HISTORY_COLUMNS] * 15
    assert history[-1]["train_ccc"] > 0.8
    assert history[-1]["validation_ccc"] > 0.8
    # Cosine annealing from the configured rate to nearly nothing.
    rates = [row["learning_rate"] for row in history]
    expected = [0.005 * (1 + np.cos(np.pi * epoch / 15)) for epoch in range(15)]
    np.testing.assert_allclose(rates, expected, rtol=1e-9)
    assert all(output["sequences_per_second"] > 0 for output in kept.output)
    best = max(history, key=lambda row: row["validation_ccc"])
    assert state.best_record["epoch"] == best["epoch"]
    found = evaluate(best_model(task, state), _Source().recordings(), 5)
    assert found.ccc == pytest.approx(best["validation_ccc"], abs=1e-12)
    lines = history_csv(history).splitlines()
    assert lines[0].split(",") == list(HISTORY_COLUMNS)
    assert len(lines) == 16
    assert float(lines[3].split(",")[4]) == history[2]["validation_ccc"]


def test_the_learning_rate_climbs_before_it_falls() -> None:
    kept = _Kept()
    task = _task("train.epochs=6", "train.patience=9", "train.warmup_epochs=3")
    state = fit(task, _Source(), state=None, save=kept)
    rates = [row["learning_rate"] for row in state.history]
    # A quarter, a half, three quarters, then cosines of 0, 60 and 120 degrees.
    np.testing.assert_allclose(rates, [0.0025, 0.005, 0.0075, 0.01, 0.0075, 0.0025], rtol=1e-12)
    again = fit(task, _Source(), state=kept.states[1], save=_Kept())
    assert _same(state.model, again.model)
    assert _told(state) == _told(again)


def test_training_stops_when_validation_does_not_improve() -> None:
    kept = _Kept()
    task = _task("train.epochs=30", "train.patience=2", "train.learning_rate=1e-9")
    state = fit(task, _Source(), state=None, save=kept)
    assert state.bad_epochs == 2
    assert state.epoch == state.best_epoch + 2 < 30
    assert is_finished(state, task.config)


def _same(one: dict[str, Any], other: dict[str, Any]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)


def _told(state: TrainingState) -> list[dict[str, Any]]:
    return [{**row, "seconds": 0} for row in state.history]


@pytest.mark.parametrize("stop", [1, 4, 6, 8])
def test_training_goes_on_to_the_same_bits(stop: int) -> None:
    task = _task("train.seeds=[3, 5]", "train.patience=9")
    whole, rest = _Kept(), _Kept()
    end = fit(task, _Source(), state=None, save=whole)
    assert len(whole.states) == 8
    torch.manual_seed(99)
    again = fit(task, _Source(), state=whole.states[stop - 1], save=rest)
    assert len(rest.states) == 8 - stop
    assert _same(end.model, again.model)
    assert _same(end.best, again.best)
    assert end.best_record == again.best_record
    assert _told(end) == _told(again)
    assert [row["seed"] for row in again.history] == [3] * 4 + [5] * 4


# How far the validation CCC of the same weights may lie apart on two kinds of devices, or in two
# precisions; docs/training.md states it.
_BETWEEN_DEVICES = 0.01


def _goes_on_elsewhere(first: TrainingSpec, second: TrainingSpec) -> None:
    kept, rest = _Kept(), _Kept()
    fit(first, _Source(device=first.device.type), state=None, save=kept)
    state = kept.states[1]
    again = fit(second, _Source(device=second.device.type), state=state, save=rest)
    assert [each.epoch for each in rest.states] == [3, 4]
    assert again.history[:2] == state.history
    # What is gone on from is the same to the bit ...
    stepper = Stepper(_model(second).to(second.device), second)
    _restore(stepper, state, seed=0)
    assert _same(
        {key: value.cpu() for key, value in stepper.model.state_dict().items()}, state.model
    )
    restored = stepper.optimizer.state_dict()["state"]
    for number, values in state.optimizer["state"].items():
        assert _same({k: v.cpu() for k, v in restored[number].items()}, {**values})
    assert stepper.scheduler.state_dict() == state.scheduler
    # ... and what it says is the same but for rounding.
    found = evaluate(stepper.model, _Source().recordings(), 5, precision=second.precision)
    assert found.ccc == pytest.approx(state.history[1]["validation_ccc"], abs=_BETWEEN_DEVICES)


def test_a_state_in_another_precision_goes_on() -> None:
    full = _task("train.patience=9")
    reduced = replace(full, precision="bfloat16")
    _goes_on_elsewhere(reduced, full)
    _goes_on_elsewhere(full, reduced)


def test_a_state_of_a_gpu_goes_on_without_one() -> None:
    task, kept = _task("train.patience=9"), _Kept()
    end = fit(task, _Source(), state=None, save=kept)
    state = kept.states[1]
    # The generator of a GPU, whose state nothing here could take.
    of_gpu = replace(
        state, random=[{**state.random[0], "cuda": torch.arange(16, dtype=torch.uint8)}]
    )
    again = fit(task, _Source(), state=of_gpu, save=_Kept())
    assert _same(end.model, again.model)
    assert _told(end) == _told(again)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_states_go_on_between_a_gpu_and_a_cpu() -> None:
    # Compiled steps have their own test, and compile anew for these segments of another type.
    here = _task("train.patience=9", "train.compile=never")
    there = replace(here, device=torch.device("cuda", 0), precision="bfloat16")
    _goes_on_elsewhere(there, here)
    _goes_on_elsewhere(here, there)


def test_seeds_differ_and_the_best_of_all_is_kept() -> None:
    task = _task("train.seeds=[3, 5, 8]")
    state = fit(task, _Source(), state=None, save=_Kept())
    assert len({row["train_loss"] for row in state.history}) == len(state.history) == 12
    best = max(state.history, key=lambda row: row["validation_ccc"])
    assert state.best_record == {key: best[key] for key in ("seed", "epoch", "validation_ccc")}


def test_another_number_of_workers_goes_on_from_seeds_of_its_own() -> None:
    task, kept = _task(), _Kept()
    fit(task, _Source(), state=None, save=kept)
    of_three = replace(kept.states[1], random=kept.states[1].random * 3)
    again = _Kept()
    ends = [fit(task, _Source(), state=of_three, save=again) for _ in range(2)]
    assert _same(ends[0].model, ends[1].model)
    (remark,) = again.output[0]["remarks"]
    assert remark.startswith("goes on with 1 worker where it had 3: the last digits differ, and")


def test_what_a_user_cannot_see_in_the_history_is_a_remark() -> None:
    task, kept, source = _task(), _Kept(), _Source()
    fit(task, source, state=None, save=kept)
    assert [output["remarks"] for output in kept.output] == [[]] * 4
    source.label[:] = 0.25
    again, threads = _Kept(), torch.get_num_threads()
    with pytest.warns(ConstantWarning):
        fit(task, source, state=replace(kept.states[2], threads=threads + 2), save=again)
    elsewhere, constant = again.output[0]["remarks"]
    noun = "thread" if threads == 1 else "threads"
    assert elsewhere.startswith(f"goes on with {threads} {noun} where it had {threads + 2}: ")
    assert constant == "validation predictions or labels are constant: their CCC counts as 0"


def test_a_loss_that_is_no_number_stops_with_the_last_state_kept() -> None:
    kept = _Kept()
    with pytest.raises(TrainingError, match=r"not a number any more.*RUN/train/best.*--overwrite"):
        fit(_task(), _Source(broken_epoch=3), state=None, save=kept)
    assert [state.epoch for state in kept.states] == [1, 2]
    assert all(torch.isfinite(value).all() for value in kept.states[-1].model.values())


def test_gradients_are_clipped() -> None:
    norms = []
    for clip in ("1e9", "0.001"):
        task = _task(f"train.gradient_clip={clip}", "model.dropout=0")
        stepper = Stepper(_model(task).train(), task)
        stepper.step(next(_Source().batches(0, 1)))
        gradients = [p.grad for p in stepper.parameters if p.grad is not None]
        norms.append(float(torch.linalg.vector_norm(torch.cat([g.flatten() for g in gradients]))))
    assert norms[0] > 0.01
    assert norms[1] == pytest.approx(0.001, rel=1e-3)


def test_bfloat16_steps_stay_near_float32() -> None:
    losses = []
    for precision in ("float32", "bfloat16"):
        task = replace(_task("model.dropout=0"), precision=precision)
        stepper = Stepper(_model(task).train(), task)
        losses.append([float(ccc_loss(stepper.step(b))) for b in _Source().batches(0, 1)])
    np.testing.assert_allclose(losses[0], losses[1], atol=0.05)
