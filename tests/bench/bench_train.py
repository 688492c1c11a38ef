"""Training, evaluation and extraction: the study's model written plainly against this product's.

    python tests/bench/bench_train.py [--threads 2] [--steps 5]

needs no Ray. It prints a table for the CPU and, where there is one, for a GPU. Every row is a
process of its own, because how the C library keeps memory is settled when a process starts: the
product's workers are started so that it is kept, and each model is shown both ways. Segments come
from a segment store of random spectrograms, and all rows of a device see the same batches.

On a CPU a step is the median of `--steps`. On a GPU at least 200 steps are timed together, with
nothing waited for between them, because what is gathered while the last step is computed costs
nothing there. Below a speed of the product stands whether its CNN was compiled, where that was
tried. Beside the speeds stand the differences of one step from the same weights: in float32 the
gradient may take another of four pooled values that are equal but for rounding, so a part of the
batch is compared in float64 as well.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from valence.audio.standardization import MelMoments, Standardizer
from valence.config import Config
from valence.model.inference import Sequences, outputs_of
from valence.model.network import ValenceModel
from valence.provenance import versions
from valence.segments.sequences import windows
from valence.segments.store import Segments, SegmentStore, Stored
from valence.storage.location import Location
from valence.training.data.batches import Batch
from valence.training.data.capacity import Members
from valence.training.data.in_memory import ResidentSource
from valence.training.data.inputs import MelInputs
from valence.training.data.prefetch import ahead
from valence.training.loop import Stepper, TrainingSpec
from valence.training.loss import ccc_loss, pair_sums

RECORDINGS, SEGMENTS = 12, 600
WARM_UP, GPU_STEPS = 20, 200
# Sequences that a step is compared on in float64.
COMPARED_EXACTLY = 8
KEEP_MEMORY = {
    "MALLOC_ARENA_MAX": "1",
    "MALLOC_MMAP_THRESHOLD_": str(2**30),
    "MALLOC_TRIM_THRESHOLD_": str(2**40),
}


class PlainModel(nn.Module):
    """The study's model as one would write it down: its order of layers, torch's own modules."""

    def __init__(self, model: ValenceModel) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        channels = 1
        for outputs in model.config.channels:
            layers += [
                nn.Conv2d(channels, outputs, 3, padding=1, bias=False),
                nn.BatchNorm2d(outputs),
                nn.ELU(),
                nn.MaxPool2d(2),
            ]
            channels = outputs
        self.cnn = nn.Sequential(*layers)
        self.lstm = nn.LSTM(
            model.encoded_size,
            model.config.lstm_hidden,
            model.config.lstm_layers,
            bidirectional=True,
            batch_first=True,
        )
        self.attention = nn.Linear(2 * model.config.lstm_hidden, 1)
        self.output = nn.Linear(model.feature_size, len(model.config.targets))
        self.mean, self.std = model.mean.clone(), model.std.clone()
        self.to(model.mean)
        with torch.no_grad():
            for own, theirs, order in self.pairs(model):
                own.copy_(theirs[..., order])

    def pairs(
        self, model: ValenceModel
    ) -> Iterator[tuple[nn.Parameter, nn.Parameter, Tensor | slice]]:
        """Each own parameter, the one of `model`, and the order of its columns that is the own.

        `model` flattens its channels last.
        """
        everything = slice(None)
        for index, block in enumerate(model.blocks):
            for own, theirs in (
                (self.cnn[4 * index], block.conv),
                (self.cnn[4 * index + 1], block.norm),
            ):
                for mine, other in zip(own.parameters(), theirs.parameters(), strict=True):
                    yield mine, other, everything
        channels = model.config.channels[-1]
        order = torch.arange(model.encoded_size).view(-1, channels).t().reshape(-1)
        for number, layer in enumerate(model.lstm):
            for name, other in layer.named_parameters():
                own = getattr(self.lstm, name.replace("_l0", f"_l{number}"))
                yield (
                    own,
                    other,
                    order if name.startswith("weight_ih") and not number else everything,
                )
        for own, theirs in ((self.attention, model.attention), (self.output, model.output)):
            for mine, other in zip(own.parameters(), theirs.parameters(), strict=True):
                yield mine, other, everything

    def features(self, mel: Tensor) -> Tensor:
        """`[batch, length, n_mels, n_frames]` in dB to the deep features."""
        x = (mel.to(self.mean) - self.mean) / self.std
        batch, length = x.shape[:2]
        encoded = self.cnn(x.flatten(0, 1).unsqueeze(1)).flatten(1).view(batch, length, -1)
        states, (final, _) = self.lstm(encoded)
        weights = self.attention(states).softmax(dim=1)
        context = (weights * states).sum(dim=1)
        return torch.cat([context, final[-2], final[-1]], dim=1)

    def forward(self, mel: Tensor) -> Tensor:
        return self.output(self.features(mel))


def make_store(folder: Path) -> SegmentStore:
    """A store of random spectrograms with labels, shaped like 5-minute recordings."""
    rng = np.random.default_rng(0)
    store = SegmentStore(Location.parse(folder))
    rows = []
    for number in range(RECORDINGS + 1):
        name, copies = f"{number:02d}", 1 if number < RECORDINGS else 0
        moments = []
        with store.writer(name, shape=(128, 34), dtype="float16") as writer:
            for copy in range(copies + 1):
                mel = rng.normal(-30, 20, (SEGMENTS, 128, 34)).astype(np.float16)
                y = np.sin(np.arange(SEGMENTS) / 40 + number).astype(np.float32)
                time_ms = np.arange(SEGMENTS, dtype=np.int64) * 500
                writer.write(Segments(name, copy, time_ms, y, -y, mel), first_segment=0)
                moments.append(MelMoments.from_mel(mel[:20]))
            stored = Stored("bench", "bench", "", SEGMENTS / 2, SEGMENTS, tuple(moments))
            writer.finish(stored)
        rows.append({"Id": name, "subject": name, "split": "train", "segments": SEGMENTS})
    return store


def make_task(device: str, precision: str) -> TrainingSpec:
    standardizer = Standardizer("global", np.array([-30], np.float32), np.array([20], np.float32))
    chosen = "bfloat16" if precision == "bfloat16" else "float32"
    return TrainingSpec(Config(), {}, standardizer, torch.device(device), chosen)


def make_model(task: TrainingSpec) -> ValenceModel:
    torch.manual_seed(0)
    return ValenceModel(
        task.config.model, n_mels=128, n_frames=34, standardizer=task.standardizer
    ).to(task.device)


def full_batches(task: TrainingSpec, store: SegmentStore) -> Iterator[Batch]:
    """Full batches of one epoch after the other."""
    names = tuple(f"{number:02d}" for number in range(RECORDINGS))
    chosen = Members(names, (f"{RECORDINGS:02d}",), 1, ("valence",))
    source = ResidentSource(
        MelInputs(store, task.config), task.config, chosen, device=task.device, residency="device"
    )
    for epoch in itertools.count(1):
        for batch in source.batches(0, epoch):
            if len(batch.target) == task.config.train.batch_size:
                yield batch


def plain_step(task: TrainingSpec, model: PlainModel) -> Callable[[Batch], Tensor]:
    train = task.config.train
    optimizer = torch.optim.Adam(
        model.parameters(), lr=train.learning_rate, weight_decay=train.weight_decay
    )

    def step(batch: Batch) -> Tensor:
        optimizer.zero_grad()
        with task.autocast():
            prediction = model(batch.inputs)
        sums = pair_sums(prediction, batch.target)
        loss = ccc_loss(sums)
        loss.backward()
        optimizer.step()
        return sums.detach()

    return step


def make_step(kind: str, task: TrainingSpec) -> tuple[Callable[[Batch], Tensor], list[str]]:
    """A step, and what is to be said of it: whether its CNN is compiled."""
    model = make_model(task).train()
    if kind == "plain":
        return plain_step(task, PlainModel(model).to(task.device).train()), []
    stepper = Stepper(model, task)
    return stepper.step, stepper.remarks


def time_steps(
    step: Callable[[Batch], Tensor], task: TrainingSpec, store: SegmentStore, n: int
) -> dict:
    batches = full_batches(task, store)
    if task.device.type == "cpu":
        step(next(batches))
        cpu, wall = [], []
        for _ in range(n):
            began, began_cpu = time.perf_counter(), time.process_time()
            step(next(batches))
            wall.append(time.perf_counter() - began)
            cpu.append(time.process_time() - began_cpu)
        return {"wall": statistics.median(wall), "cpu": statistics.median(cpu)}
    for _ in range(WARM_UP):
        step(next(batches))
    n = max(n, GPU_STEPS)
    torch.cuda.synchronize()
    began, began_cpu = time.perf_counter(), time.process_time()
    for _ in range(n):
        step(next(batches))
    torch.cuda.synchronize()
    wall, cpu = time.perf_counter() - began, time.process_time() - began_cpu
    return {"wall": wall / n, "cpu": cpu / n}


def compare_step(task: TrainingSpec, batch: Batch, dtype: torch.dtype) -> dict:
    """How far one step of the product is from the plain model's, from the same weights."""
    model = make_model(task).to(dtype).train()
    plain = PlainModel(model).to(task.device).train()
    stepper = Stepper(model, task)
    losses = [float(ccc_loss(step(batch))) for step in (plain_step(task, plain), stepper.step)]
    apart, largest = 0.0, 0.0
    for own, theirs, order in plain.pairs(model):
        apart = max(apart, float((own.grad - theirs.grad[..., order]).abs().max()))
        largest = max(largest, float(own.grad.abs().max()))
    return {"loss": abs(losses[0] - losses[1]), "gradient": apart, "largest": largest}


def compare(task: TrainingSpec, store: SegmentStore) -> dict:
    """`compare_step` as it is trained, and on a part of the batch in float64."""
    batch = next(full_batches(task, store))
    few = Batch(batch.inputs[:COMPARED_EXACTLY], batch.target[:COMPARED_EXACTLY])
    exact = replace(
        task,
        config=Config.resolve(task.config, assignments=["train.compile=never"]),
        precision="float32",
    )
    return {
        "trained": compare_step(task, batch, torch.float32),
        "exact": compare_step(exact, few, torch.float64),
    }


def time_inference(kind: str, task: TrainingSpec, store: SegmentStore, n: int) -> dict:
    """One recording in memory, or the store's recordings, read while others are worked on."""
    model = make_model(task).eval()
    on_gpu = task.device.type == "cuda"
    if kind == "recording":
        segments = 60_000 if on_gpu else 1200
        rng = np.random.default_rng(0)
        mel = torch.from_numpy(rng.normal(-30, 20, (segments, 128, 34)).astype(np.float16))
        each = Sequences(mel.to(task.device), windows(40, 1, segments=segments))
        passes = [[each]] * (n + 1)
    else:
        names = [f"{number:02d}" for number in range(RECORDINGS)] * 20
        names = names if on_gpu else names[:4]
        starts = windows(40, 1, segments=SEGMENTS)
        segments = len(names) * SEGMENTS
        passes = [
            ahead((Sequences(store.read(name).mel, starts) for name in names), most=1)
            for _ in range((n if on_gpu else 1) + 1)
        ]
    walls, rows = [], 0
    for recordings in passes:
        began = time.perf_counter()
        found = list(outputs_of(model, recordings, 40, precision=task.precision))
        walls.append(time.perf_counter() - began)
        rows = sum(len(outputs.prediction) for outputs in found)
    return {"wall": statistics.median(walls[1:]), "windows": rows, "seconds": segments / 2}


def run_row(kind: str, device: str, precision: str, folder: Path, steps: int) -> dict:
    task = make_task(device, precision)
    store = SegmentStore(Location.parse(folder))
    match kind:
        case "plain" | "product":
            step, remarks = make_step(kind, task)
            return {**time_steps(step, task, store, steps), "remarks": remarks}
        case "compared":
            return compare(task, store)
        case _:
            return time_inference(kind, task, store, steps)


def row(arguments: list[str], environment: dict[str, str]) -> dict:
    done = subprocess.run(
        [sys.executable, __file__, *arguments],
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return json.loads(done.stdout.splitlines()[-1])


def processor() -> str:
    """The name of this machine's processor, where the system tells it."""
    file = Path("/proc/cpuinfo")
    lines = file.read_text().splitlines() if file.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--row", nargs=4, help=argparse.SUPPRESS)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    if given.row:
        kind, device, precision, folder = given.row
        print(json.dumps(run_row(kind, device, precision, Path(folder), given.steps)))
        return
    gpu = torch.cuda.is_available()
    print(f"cpu: {processor()}, {os.cpu_count()} cores, {given.threads} threads")
    if gpu:
        print(f"cuda: {torch.cuda.get_device_name()}, CUDA {torch.version.cuda}")
    found = versions()
    print(", ".join(f"{name} {found[name]}" for name in ("python", "torch", "numpy", "valence")))
    with tempfile.TemporaryDirectory() as folder:
        make_store(Path(folder))
        common = ["--threads", str(given.threads), "--steps", str(given.steps), "--row"]
        rows = [("cpu", "float32", kept) for kept in (False, True)]
        precisions = ("float32", "bfloat16")
        if gpu:
            rows += [("cuda", precision, True) for precision in precisions]
        print(f"batch 64 of 40 segments, {given.steps} steps ({GPU_STEPS} on a GPU)")
        for device, precision, kept in rows:
            keep = KEEP_MEMORY if kept else {}
            label = f"{device} {precision}{', memory kept' if kept else ''}"
            timed = {
                kind: row([*common, kind, device, precision, folder], keep)
                for kind in ("plain", "product")
            }
            for kind, each in timed.items():
                print(
                    f"{label:32} {kind:8} {64 / each['wall']:9.1f} sequences/s "
                    f"{each['cpu']:7.2f} CPU-s a step"
                )
                for remark in each["remarks"]:
                    print(f"{label:32} {kind:8} {remark}")
            ratio = {key: timed["plain"][key] / timed["product"][key] for key in ("wall", "cpu")}
            print(
                f"{label:32} product is {ratio['wall']:.2f} times as fast by the clock, "
                f"{ratio['cpu']:.2f} times in CPU-seconds"
            )
            if kept:
                apart = row([*common, "compared", device, precision, folder], keep)
                for how, each in apart.items():
                    what = precision if how == "trained" else f"{COMPARED_EXACTLY} in float64"
                    print(
                        f"{label:32} one step from the same weights, {what}: losses differ by "
                        f"{each['loss']:.1e}, gradients by {each['gradient']:.1e} "
                        f"(the largest is {each['largest']:.1e})"
                    )
        kinds = {"recording": "a recording in memory", "store": "recordings from the store"}
        inferred = [("cpu", "float32")] + [("cuda", each) for each in precisions if gpu]
        for device, precision in inferred:
            for kind, what in kinds.items():
                each = row([*common, kind, device, precision, folder], {})
                print(
                    f"{device} {precision} inference at stride 1, {what}: "
                    f"{each['windows'] / each['wall']:.0f} windows/s, "
                    f"{each['seconds'] / each['wall']:.0f} times real time"
                )


if __name__ == "__main__":
    main()
