"""Training, evaluation and extraction: the study's model written plainly against this product's.

    python tests/bench/bench_train.py [--threads 2] [--steps 5]

needs no Ray. It prints a table for the CPU and, where there is one, for a GPU. Every row is a
process of its own, because how the C library keeps memory is settled when a process starts: the
product's workers are started so that it is kept, and each model is shown both ways. Segments come
from a segment store of random spectrograms, and all rows of a device see the same batches.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from valence.config import Config
from valence.inference import sequence_outputs
from valence.loss import ccc_loss, pair_sums
from valence.model import ValenceModel
from valence.residency import Members, ResidentSource
from valence.segments import Segments, SegmentStore, Stored
from valence.sequences import windows
from valence.standardization import Moments, Standardizer
from valence.storage import Location
from valence.training import Batch, Stepper, Task

RECORDINGS, SEGMENTS = 12, 600
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
        self._copy(model)

    @torch.no_grad()
    def _copy(self, model: ValenceModel) -> None:
        """Take the weights of `model`, which flattens its channels last."""
        for index, block in enumerate(model.blocks):
            self.cnn[4 * index].load_state_dict(block.conv.state_dict())
            self.cnn[4 * index + 1].load_state_dict(block.norm.state_dict())
        channels = model.config.channels[-1]
        order = torch.arange(model.encoded_size).view(-1, channels).t().reshape(-1)
        for number, layer in enumerate(model.lstm):
            for name, values in layer.named_parameters():
                own = getattr(self.lstm, name.replace("_l0", f"_l{number}"))
                own.copy_(values[:, order] if values.shape[-1] == model.encoded_size else values)
        self.attention.load_state_dict(model.attention.state_dict())
        self.output.load_state_dict(model.output.state_dict())

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
                moments.append(Moments.from_mel(mel[:20]))
            stored = Stored("bench", "bench", "", SEGMENTS / 2, SEGMENTS, tuple(moments))
            writer.finish(stored)
        rows.append({"Id": name, "subject": name, "split": "train", "segments": SEGMENTS})
    return store


def make_task(device: str, precision: str, *, compiled: bool = False) -> Task:
    standardizer = Standardizer("global", np.array([-30], np.float32), np.array([20], np.float32))
    chosen = "bfloat16" if precision == "bfloat16" else "float32"
    return Task(Config(), {}, standardizer, torch.device(device), chosen, compiled)


def make_model(task: Task) -> ValenceModel:
    torch.manual_seed(0)
    return ValenceModel(
        task.config.model, n_mels=128, n_frames=34, standardizer=task.standardizer
    ).to(task.device)


def make_source(task: Task, store: SegmentStore) -> ResidentSource:
    names = tuple(f"{number:02d}" for number in range(RECORDINGS))
    chosen = Members(names, (f"{RECORDINGS:02d}",), 1, ("valence",))
    residency = "host" if task.device.type == "cpu" else "device"
    return ResidentSource(store, task.config, chosen, device=task.device, residency=residency)


def plain_step(task: Task) -> Callable[[Batch], Tensor]:
    model = PlainModel(make_model(task)).to(task.device).train()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3, weight_decay=1e-4)

    def step(batch: Batch) -> Tensor:
        optimizer.zero_grad()
        sums = pair_sums(model(batch.mel), batch.target)
        loss = ccc_loss(sums)
        loss.backward()
        optimizer.step()
        return sums.detach()

    return step


def product_step(task: Task) -> Callable[[Batch], Tensor]:
    stepper = Stepper(make_model(task).train(), task)
    return stepper.step


def time_steps(step: Callable[[Batch], Tensor], task: Task, store: SegmentStore, n: int) -> dict:
    batches = iter(make_source(task, store).batches(0, 1))
    full = task.config.train.batch_size
    step(next(batches))
    cpu, wall, losses = [], [], []
    for _ in range(n):
        wait(task.device)
        began, began_cpu = time.perf_counter(), time.process_time()
        batch = next(batches)
        assert len(batch.target) == full
        sums = step(batch)
        wait(task.device)
        wall.append(time.perf_counter() - began)
        cpu.append(time.process_time() - began_cpu)
        losses.append(float(ccc_loss(sums)))
    return {"wall": statistics.median(wall), "cpu": statistics.median(cpu), "losses": losses}


def time_inference(task: Task, n: int) -> dict:
    model = make_model(task).eval()
    rng = np.random.default_rng(0)
    segments = 1200 if task.device.type == "cpu" else 60_000
    mel = torch.from_numpy(rng.normal(-30, 20, (segments, 128, 34)).astype(np.float16))
    mel = mel.to(task.device)
    starts = windows(40, 1, segments=segments)
    walls, cpus = [], []
    for _ in range(n + 1):
        began, began_cpu = time.perf_counter(), time.process_time()
        sequence_outputs(model, mel, starts, 40)
        walls.append(time.perf_counter() - began)
        cpus.append(time.process_time() - began_cpu)
    wall, cpu = statistics.median(walls[1:]), statistics.median(cpus[1:])
    return {"wall": wall, "cpu": cpu, "windows": len(starts), "seconds": segments / 2}


def wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


def run_row(kind: str, device: str, precision: str, folder: Path, steps: int) -> dict:
    task = make_task(device, precision, compiled=precision == "bfloat16" and device == "cuda")
    store = SegmentStore(Location.parse(folder))
    match kind:
        case "plain":
            return time_steps(plain_step(task), task, store, steps)
        case "product":
            return time_steps(product_step(task), task, store, steps)
        case _:
            return time_inference(task, steps)


def row(arguments: list[str], environment: dict[str, str]) -> dict:
    done = subprocess.run(
        [sys.executable, __file__, *arguments],
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return json.loads(done.stdout.splitlines()[-1])


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
    with tempfile.TemporaryDirectory() as folder:
        make_store(Path(folder))
        common = ["--threads", str(given.threads), "--steps", str(given.steps), "--row"]
        rows = [("cpu", "float32", kept) for kept in (False, True)]
        if torch.cuda.is_available():
            rows += [("cuda", "float32", True), ("cuda", "bfloat16", True)]
        print(f"{given.threads} threads, batch 64 of 40 segments, median of {given.steps} steps")
        for device, precision, kept in rows:
            keep = KEEP_MEMORY if kept else {}
            label = f"{device} {precision}{', memory kept' if kept else ''}"
            found = {
                kind: row([*common, kind, device, precision, folder], keep)
                for kind in ("plain", "product")
            }
            for kind, each in found.items():
                print(
                    f"{label:32} {kind:8} {64 / each['wall']:9.1f} sequences/s "
                    f"{each['cpu']:7.2f} CPU-s a step"
                )
            ratio = {key: found["plain"][key] / found["product"][key] for key in ("wall", "cpu")}
            apart = np.abs(np.subtract(found["plain"]["losses"], found["product"]["losses"])).max()
            print(
                f"{label:32} product is {ratio['wall']:.2f} times as fast by the clock, "
                f"{ratio['cpu']:.2f} times in CPU-seconds; losses differ by {apart:.1e}"
            )
        for device in ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]:
            each = row([*common, "inference", device, "float32", folder], {})
            print(
                f"{device} inference at stride 1: {each['windows'] / each['wall']:.0f} windows/s, "
                f"{each['seconds'] / each['wall']:.0f} times real time"
            )


if __name__ == "__main__":
    main()
