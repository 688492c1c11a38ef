"""Run one of several workers that train on their parts of the same batches; this is no test.

    python two_workers.py RANK WORLD STORE_FILE OUT_FILE

Rank 0 writes the gradients of the first step, weights and statistics after three steps, and an
evaluation.
"""

from __future__ import annotations

import sys

import numpy as np
import torch
import torch.distributed as dist

from valence.audio.standardization import Standardizer
from valence.config import Config
from valence.errors import TrainingError
from valence.model.distributed import gather, rank, world_size
from valence.model.network import ValenceModel
from valence.segments.sequences import windows
from valence.training.data.batches import Batch, Labelled
from valence.training.loop import Stepper, TrainingSpec
from valence.training.loss import ccc_loss
from valence.training.validation import evaluate

CONFIG = Config.resolve(
    Config(),
    assignments=[
        "mel.n_mels=16",
        "model.channels=[3, 4]",
        "model.lstm_hidden=6",
        'model.targets=["valence", "arousal"]',
        "sequence.length=5",
        "sequence.stride=2",
        "train.windows_per_group=2",
        "train.batch_size=14",
    ],
)
SHAPE = (16, 34)


def make_batches() -> list[Batch]:
    """Make three batches of 7 runs each, so that two workers get 4 and 3 of them."""
    generator = torch.Generator().manual_seed(11)
    made = []
    for _ in range(3):
        mel = torch.randn(7, 7, *SHAPE, generator=generator) * 20 - 30
        made.append(Batch(mel, torch.randn(14, 2, generator=generator)))
    return made


def part(batch: Batch) -> Batch:
    target = batch.target.view(7, 2, 2)[rank() :: world_size()].flatten(0, 1)
    return Batch(batch.inputs[rank() :: world_size()], target)


def make_recordings() -> list[Labelled]:
    rng = np.random.default_rng(4)
    made = []
    for number, segments in enumerate((11, 8, 20)):
        starts = windows(5, 2, segments=segments)
        mel = rng.normal(-30, 20, (segments, *SHAPE)).astype(np.float16)
        target = rng.normal(size=(len(starts), 2)).astype(np.float32)
        made.append(Labelled(f"r{number}", mel, starts, target))
    return made[rank() :: world_size()]


def main(number: int, world: int, meeting: str, out: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{meeting}", rank=number, world_size=world)
    standardizer = Standardizer("global", np.array([-30], np.float32), np.array([20], np.float32))
    task = TrainingSpec(CONFIG, {}, standardizer, torch.device("cpu"))
    results = {}
    for name in ("chunked", "composed"):
        if name == "composed":
            # Take the code path that runs on a GPU.
            torch.compiler.is_compiling = lambda: True
        torch.manual_seed(2)
        model = ValenceModel(CONFIG.model, n_mels=16, n_frames=34, standardizer=standardizer)
        stepper = Stepper(model.train(), task)
        for step, batch in enumerate(make_batches()):
            sums = stepper.step(part(batch))
            results[f"{name} loss {step}"] = ccc_loss(sums).numpy()
            if step == 0:
                for key, parameter in model.named_parameters():
                    results[f"{name} gradient {key}"] = parameter.grad.numpy().copy()
        for key, value in model.state_dict().items():
            results[f"{name} state {key}"] = value.numpy()
    found = evaluate(model, make_recordings(), 5)
    results["evaluation"] = np.array([found.ccc, found.mse, found.mae, found.n])
    # With the same weights, any number of workers must give a bit-identical evaluation.
    torch.manual_seed(9)
    fresh = ValenceModel(CONFIG.model, n_mels=16, n_frames=34, standardizer=standardizer)
    found = evaluate(fresh, make_recordings(), 5)
    results["same weights"] = np.array([found.ccc, found.mse, found.mae, found.n])
    # If only one worker has a recording, all workers must still receive its error.
    torch.nn.init.constant_(fresh.output.bias, torch.nan)
    try:
        evaluate(fresh, make_recordings()[:1] if number == 0 else [], 5)
    except TrainingError as error:
        results["stopped"] = np.array(gather(str(error)))
    if number == 0:
        np.savez(out, **results)
    dist.destroy_process_group()


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], sys.argv[4])
