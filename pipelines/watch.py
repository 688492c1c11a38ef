"""What a user sees of a running training: lines or a bar, TensorBoard files, Ray's metrics."""

from __future__ import annotations

import threading
from types import TracebackType
from typing import Any

from ray.util.metrics import Gauge
from torch.utils.tensorboard import SummaryWriter

from pipelines.progress import Report
from valence.checkpoint import TrainingState, read_progress
from valence.config import Config
from valence.storage import Location

_LOOK_SECONDS = 1.0
_CURVES = ("train_loss", "train_ccc", "validation_ccc", "validation_mse", "validation_mae")


class Watch:
    """Follows `state.json` from the side while the block runs.

    The workers write it as an epoch ends, wherever they are, so that watching needs no channel of
    its own and survives their restarts.
    """

    def __init__(
        self, folder: Location, config: Config, state: TrainingState | None, report: Report
    ) -> None:
        self._folder, self._config, self._report = folder, config, report
        self._told = 0 if state is None else len(state.history)
        self._first = self._told
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._follow, name="watch", daemon=True)

    def __enter__(self) -> Watch:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop.set()
        self._thread.join()

    def _follow(self) -> None:
        epochs = self._config.train.epochs * len(self._config.train.seeds)
        gauges = {
            name: Gauge(f"valence_{name}", f"{name} of the last epoch", ("seed",))
            for name in (*_CURVES, "sequences_per_second")
        }
        local = self._folder.local
        boards: dict[int, SummaryWriter] = {}
        with self._report.bar("train", total=epochs) as bar:
            stopping = False
            while not stopping:
                # What was written before the end is told before the end.
                stopping = self._stop.wait(_LOOK_SECONDS)
                progress = read_progress(self._folder)
                if progress is None:
                    continue
                rows: list[dict[str, Any]] = progress["history"]
                if rows[self._told :] and self._told == self._first:
                    for remark in progress["remarks"]:
                        self._report.say(f"train: {remark}")
                for row in rows[self._told :]:
                    for name, gauge in gauges.items():
                        value = row.get(name, progress["sequences_per_second"])
                        gauge.set(value, {"seed": str(row["seed"])})
                    if local is not None:
                        seed = row["seed"]
                        if seed not in boards:
                            boards[seed] = SummaryWriter(
                                str(local / "tensorboard" / f"seed-{seed}")
                            )
                        for name in (*_CURVES, "learning_rate"):
                            boards[seed].add_scalar(name, row[name], row["epoch"])
                        boards[seed].flush()
                    bar.advance(1, self._note(row, progress, epochs))
                self._told = max(self._told, len(rows))
        for board in boards.values():
            board.close()

    def _note(self, row: dict[str, Any], progress: dict[str, Any], epochs: int) -> str:
        done = len(progress["history"])
        spent = sum(each["seconds"] for each in progress["history"])
        left = spent / done * (epochs - done)
        best, constant = progress["best"], progress["constant"]
        odd = f", constant predictions or labels in {constant} batches" if constant else ""
        return (
            f"seed {row['seed']} epoch {row['epoch']}: CCC train {row['train_ccc']:.3f} "
            f"validation {row['validation_ccc']:.3f} (best {best['validation_ccc']:.3f}), "
            f"{progress['sequences_per_second']:.0f} sequences/s, at most {left:.0f} s left{odd}"
        )
