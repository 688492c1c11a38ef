"""What the training's options are worth: validation and test CCC over folds of speakers and seeds.

    python tests/bench/bench_options.py CORPUS [--folds 3] [--seeds 3] [--only NAME ...]
        [--device cpu|cuda]

Every option is one change to the defaults. Of the speakers, in the order of their names, two test
and two others validate in each fold, and the rest train; all folds and seeds see the same speakers,
so that the options are compared in pairs. A line is printed as each training ends, and the table at
the end: means, the spread over trainings, and the mean difference to the defaults with its standard
error. Trainings run one after the other, on all threads or on the GPU, in the precision and with
the compilation that the configuration has there.

That reduced precision keeps the quality shows on a GPU with

    --only defaults float32 bfloat16 --seeds 5

The defaults are one of the two there (bfloat16 where the GPU computes in it), so that one of these
rows repeats them: its differences are what a GPU's order of sums alone makes of a training. Those
of the other row, against their standard error, are what the precision makes of it.
"""

from __future__ import annotations

import argparse
import math
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch

from valence.audio.standardization import MelMoments, Standardizer
from valence.audio.standardization import fit as fit_standardizer
from valence.config import Config
from valence.corpus.muse import read_corpus
from valence.model.acceleration import precision_on
from valence.segments.jobs import Job
from valence.segments.preprocessing import process_recording
from valence.segments.store import SegmentStore
from valence.storage.location import Location
from valence.training.data.capacity import Members
from valence.training.data.in_memory import ResidentSource
from valence.training.data.inputs import MelInputs
from valence.training.loop import TrainingSpec, best_model, fit
from valence.training.validation import evaluate

OPTIONS: dict[str, list[str]] = {
    "defaults": [],
    "dropout 0.5": ["model.dropout=0.5"],
    "per mel band": ["standardize.scope=mel_band"],
    "no augmentation": ["augment.copies=0"],
    "learning rate 0.0003": ["train.learning_rate=0.0003"],
    "fixed phase": ["sequence.phase=fixed"],
    "clipped at 1": ["train.gradient_clip=1.0"],
    "warm-up of 3": ["train.warmup_epochs=3"],
    "stride 1": ["sequence.stride=1"],
    "runs of 8": ["sequence.stride=1", "train.windows_per_group=8"],
    "per segment": ["standardize.scope=segment_minmax"],
    "float32": ["train.precision=float32"],
    "bfloat16": ["train.precision=bfloat16"],
}
_COPIES = 1


@dataclass(frozen=True)
class Fold:
    """Subjects that test and that validate; the others train."""

    test: frozenset[str]
    validation: frozenset[str]


@dataclass(frozen=True)
class Result:
    """What one training came to: CCC of the best epoch by validation."""

    option: str
    fold: int
    seed: int
    validation: float
    test: float
    epochs: int
    seconds: float


class Prepared:
    """A corpus in a segment store, every labelled recording with an augmented copy."""

    def __init__(self, corpus: Location, store: SegmentStore) -> None:
        self.store = store
        self._subjects: dict[str, str] = {}
        for recording in read_corpus(corpus).recordings:
            outcome = process_recording(Job(recording, "train", _COPIES), store, Config())
            if outcome.status == "ok":
                self._subjects[recording.id] = recording.subject
            else:
                print(f"left out {recording.id}: {outcome.reason}", flush=True)
        if len(self.subjects) < 5:
            raise SystemExit(f"{corpus} has {len(self.subjects)} labelled speakers; 5 are needed.")

    @property
    def subjects(self) -> list[str]:
        """All that have a labelled recording."""
        return sorted(set(self._subjects.values()))

    def folds(self, most: int) -> list[Fold]:
        """Neighbours in the order of the names, round and round."""
        names = self.subjects
        step = max(1, len(names) // most)
        chosen = []
        for first in range(0, step * most, step):
            four = [names[(first + at) % len(names)] for at in range(4)]
            chosen.append(Fold(frozenset(four[:2]), frozenset(four[2:])))
        return chosen

    def members(self, fold: Fold, config: Config) -> tuple[Members, Members]:
        """What trains and validates, and the same with the test recordings to validate on."""

        def of(chosen: frozenset[str]) -> tuple[str, ...]:
            return tuple(name for name, subject in self._subjects.items() if subject in chosen)

        rest = frozenset(self.subjects) - fold.test - fold.validation
        copies, targets = config.augment.copies, config.model.targets
        return (
            Members(of(rest), of(fold.validation), copies, targets),
            Members(of(rest), of(fold.test), copies, targets),
        )

    def standardizer(self, chosen: Members, config: Config) -> Standardizer:
        """Fitted on what trains, and on no more copies of it than are used."""
        moments = MelMoments.empty(config.mel.n_mels)
        for name in chosen.train:
            stored = self.store.stored(name)
            assert stored is not None, "it was stored above"
            for each in stored.moments[: chosen.copies + 1]:
                moments = moments.merge(each)
        return fit_standardizer(moments, config.standardize.scope)


def train(
    prepared: Prepared, option: str, fold: Fold, number: int, seed: int, device: torch.device
) -> Result:
    """One training from its beginning to its end."""
    settings = [*OPTIONS[option], f"train.seeds=[{seed}]"]
    config = Config.resolve(Config(), assignments=settings)
    chosen, tested = prepared.members(fold, config)
    precision = precision_on(device, config.train.precision)
    task = TrainingSpec(config, {}, prepared.standardizer(chosen, config), device, precision)
    kept: Literal["device", "host"] = "device" if device.type == "cuda" else "host"
    source = ResidentSource(
        MelInputs(prepared.store, config), config, chosen, device=device, residency=kept
    )
    began = time.monotonic()
    state = fit(task, source, state=None, save=lambda *_: None)
    seconds = time.monotonic() - began
    # It reads what trains as well, which a device may not have room for twice.
    test = ResidentSource(
        MelInputs(prepared.store, config), config, tested, device=device, residency="host"
    )
    best = best_model(task, state).to(device)
    found = evaluate(best, test.recordings(), config.sequence.length, precision=precision)
    validation = state.best_record["validation_ccc"]
    return Result(option, number, seed, validation, found.ccc, state.epoch, seconds)


def table(results: Sequence[Result]) -> str:
    """Means over the trainings that the defaults have seen, too."""
    by = {(each.option, each.fold, each.seed): each for each in results}
    lines = [
        f"{'option':<22}{'n':>3}{'validation':>12}{'spread':>8}{'test':>8}{'spread':>8}"
        f"{'difference: validation':>25}{'test':>16}{'seconds':>9}"
    ]
    for option in dict.fromkeys(each.option for each in results):
        mine = [each for each in results if each.option == option]
        pairs = [
            (each, by["defaults", each.fold, each.seed])
            for each in mine
            if ("defaults", each.fold, each.seed) in by
        ]
        validation = np.array([each.validation for each in mine])
        test = np.array([each.test for each in mine])
        differences = [
            np.array([getattr(each, name) - getattr(other, name) for each, other in pairs])
            for name in ("validation", "test")
        ]
        gains = [
            f"{each.mean():+.3f} ± {each.std(ddof=1) / math.sqrt(len(each)):.3f}"
            if len(each) > 1 and option != "defaults"
            else ""
            for each in differences
        ]
        lines.append(
            f"{option:<22}{len(mine):>3}{validation.mean():>12.3f}{validation.std():>8.3f}"
            f"{test.mean():>8.3f}{test.std():>8.3f}{gains[0]:>25}{gains[1]:>16}"
            f"{np.mean([each.seconds for each in mine]):>9.0f}"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("corpus", type=Path)
    parser.add_argument("--folds", type=int, default=3)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--only", nargs="+", choices=OPTIONS, default=list(OPTIONS))
    there = "cuda" if torch.cuda.is_available() else "cpu"
    parser.add_argument("--device", choices=("cpu", "cuda"), default=there)
    arguments = parser.parse_args()
    device = torch.device(arguments.device)
    print(f"on {torch.cuda.get_device_name() if device.type == 'cuda' else 'the CPU'}", flush=True)
    results: list[Result] = []
    with tempfile.TemporaryDirectory() as folder:
        store = SegmentStore(Location.parse(Path(folder)))
        prepared = Prepared(Location.parse(arguments.corpus), store)
        for seed in range(arguments.seeds):
            for number, fold in enumerate(prepared.folds(arguments.folds)):
                for option in arguments.only:
                    results.append(train(prepared, option, fold, number, seed, device))
                    print(results[-1], flush=True)
    print(table(results))


if __name__ == "__main__":
    main()
