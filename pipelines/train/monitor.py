"""Show a running training: in lines or a bar, TensorBoard files, Ray's metrics and MLflow."""

from __future__ import annotations

import tempfile
import threading
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from ray.util.metrics import Gauge

from pipelines.runtime.console import Console
from pipelines.train.mirror import Mirror
from valence.config import Config
from valence.run import Run
from valence.storage.location import Location
from valence.training.checkpoint import TrainingState, read_progress
from valence.training.tracking import Ending

_LOOK_SECONDS = 1.0
# The values of an epoch that TensorBoard, Ray's metrics and a tracking server show.
SHOWN = (
    "epoch",
    "train_loss",
    "train_ccc",
    "validation_ccc",
    "validation_mse",
    "validation_mae",
    "learning_rate",
    "sequences_per_second",
    "best_validation_ccc",
    "seconds_left",
)


class TrainingMonitor:
    """Follows the file `state.json` while the block runs.

    The workers write this file after each epoch, on whichever node they run. The monitor therefore
    needs no connection to them, and survives their restarts.
    """

    def __init__(
        self, folder: Location, config: Config, state: TrainingState | None, console: Console
    ) -> None:
        self._folder, self._config, self._console = folder, config, console
        self._shown_rows = 0 if state is None else len(state.history)
        self._remarks: set[str] = set()
        self._stop = threading.Event()
        self._mirror = Mirror(Run(folder.parent), config.mlflow, SHOWN, console)
        self._thread = threading.Thread(target=self._follow, name="watch", daemon=True)

    def __enter__(self) -> TrainingMonitor:
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
        self._mirror.close("FINISHED" if kind is None else _ending(kind))

    def _follow(self) -> None:
        epochs = self._config.train.epochs * len(self._config.train.seeds)
        gauges = {
            name: Gauge(f"valence_{name}", f"{name} of the last epoch", ("seed",)) for name in SHOWN
        }
        boards = _Boards(self._folder / "tensorboard")
        with self._console.bar("train", total=epochs) as bar:
            stopping, mirrored = False, 0
            while not stopping:
                # Look once more after the end, to show what was written before it.
                stopping = self._stop.wait(_LOOK_SECONDS)
                progress = read_progress(self._folder)
                if progress is None:
                    continue
                rows: list[dict[str, Any]] = progress["history"]
                if rows[self._shown_rows :]:
                    for remark in progress["remarks"]:
                        if remark not in self._remarks:
                            self._console.say(f"train: {remark}")
                    self._remarks.update(progress["remarks"])
                for end in range(self._shown_rows + 1, len(rows) + 1):
                    # If several epochs ended since the last look, each shows the newest rate.
                    shown = _shown(rows[:end], epochs, progress["sequences_per_second"])
                    for name, gauge in gauges.items():
                        gauge.set(shown[name], {"seed": str(shown["seed"])})
                    try:
                        boards.add(shown)
                    except OSError as error:
                        self._console.say(f"train: a TensorBoard file was not written: {error}")
                    bar.advance(1, _note(shown, progress["constant"]))
                self._shown_rows = max(self._shown_rows, len(rows))
                if len(rows) != mirrored:
                    self._mirror.show(shown_rows(progress, self._config))
                    mirrored = len(rows)
        boards.close()


def _ending(kind: type[BaseException]) -> Ending:
    return "FAILED" if issubclass(kind, Exception) else "KILLED"


def shown_rows(progress: Mapping[str, Any], config: Config) -> list[dict[str, Any]]:
    """Collect the values to show of every epoch; all have the newest rate, if one is known."""
    rows, epochs = progress["history"], config.train.epochs * len(config.train.seeds)
    rate = progress.get("sequences_per_second")
    return [_shown(rows[:end], epochs, rate) for end in range(1, len(rows) + 1)]


def _shown(history: list[dict[str, Any]], epochs: int, rate: float | None) -> dict[str, Any]:
    """Collect the values to show for the last epoch of `history`, out of at most `epochs`."""
    spent = sum(each["seconds"] for each in history)
    return {
        **history[-1],
        "sequences_per_second": rate,
        "best_validation_ccc": max(each["validation_ccc"] for each in history),
        "seconds_left": spent / len(history) * (epochs - len(history)),
    }


def _note(shown: dict[str, Any], constant: int) -> str:
    odd = f", constant predictions or labels in {constant} batches" if constant else ""
    return (
        f"seed {shown['seed']} epoch {shown['epoch']}: CCC train {shown['train_ccc']:.3f} "
        f"validation {shown['validation_ccc']:.3f} (best {shown['best_validation_ccc']:.3f}), "
        f"{shown['sequences_per_second']:.0f} sequences/s, at most {shown['seconds_left']:.0f} s "
        f"left{odd}"
    )


class _Boards:
    """TensorBoard's files, in one folder for each seed.

    TensorBoard's writer cannot write to an object store. For one, the files are written to a local
    temporary folder and uploaded.

    Parameters
    ----------
    folder
        Folder or URI for the files.
    """

    def __init__(self, folder: Location) -> None:
        self._folder = folder
        self._beside = None if folder.local else tempfile.TemporaryDirectory()
        self._writers: dict[int, Any] = {}

    def add(self, shown: dict[str, Any]) -> None:
        """Write the values of one epoch."""
        root = Path(self._beside.name) if self._beside else self._folder.local
        assert root is not None
        seed, epoch = shown["seed"], shown["epoch"]
        name = f"seed-{seed}"
        if seed not in self._writers:
            # Loaded here, so that workers, which never need it, start without.
            from torch.utils.tensorboard import SummaryWriter

            self._writers[seed] = SummaryWriter(str(root / name))
        writer = self._writers[seed]
        for curve in SHOWN:
            writer.add_scalar(curve, shown[curve], epoch)
        writer.flush()
        if self._beside:
            for file in (root / name).iterdir():
                (self._folder / f"{name}/{file.name}").write_bytes(file.read_bytes())

    def close(self) -> None:
        """Close the files."""
        for writer in self._writers.values():
            writer.close()
        if self._beside:
            self._beside.cleanup()
