"""Batches of a corpus that no memory holds: read from the store as they are needed, by Ray Data."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import ray.data
import torch
from numpy.typing import NDArray
from ray.data import Dataset, TaskPoolStrategy

from valence.config import Config
from valence.distributed import rank, world_size
from valence.residency import Members, labelled_windows, my_share
from valence.segments import SegmentStore
from valence.sequences import (
    Pool,
    Sampling,
    epoch_plan,
    load_mel,
    read_outline,
    window_starts,
    window_targets,
)
from valence.training import Batch, Labelled

# Pools that are read at once: one is consumed while the next is read.
_POOLS_AT_ONCE = 2
CPUS_PER_TASK = 0.25


class StreamingSource:
    """A `Source` that sees the batches of `ResidentSource` and holds a few of them at a time.

    Parameters
    ----------
    store
        Where segments are read from, in every epoch.
    config
        The whole configuration.
    chosen
        What is read.
    device
        Where batches are wanted.
    """

    def __init__(
        self,
        store: SegmentStore,
        config: Config,
        chosen: Members,
        *,
        device: torch.device,
    ) -> None:
        self._store, self._device = store, device
        self._sampling = Sampling.of(config.sequence, config.train)
        self._of = config.sequence.target
        self.outline = read_outline(store, chosen.train, chosen.copies, chosen.targets)
        self._validation = read_outline(store, chosen.validation, 0, chosen.targets)

    def batches(self, seed: int, epoch: int) -> Iterator[Batch]:
        """This worker's part of each batch."""
        workers, me = world_size(), rank()
        plan = epoch_plan(self.outline, self._sampling, seed=seed, epoch=epoch, least=workers)
        plan = tuple(
            replace(pool, batches=tuple(runs[me::workers] for runs in pool.batches))
            for pool in plan
        )
        blocks = self._blocks(plan)
        held = np.zeros((0, 0), np.float16)
        for runs in (runs for pool in plan for runs in pool.batches):
            parts = [held]
            while sum(len(part) for part in parts) < len(runs):
                parts.append(next(blocks))
            rows = np.concatenate([part for part in parts if len(part)])
            mel, held = rows[: len(runs)], rows[len(runs) :]
            starts = window_starts(runs, self._sampling)
            target = window_targets(self.outline.target, starts, self._sampling.length, self._of)
            yield Batch(
                torch.from_numpy(mel).to(self._device), torch.from_numpy(target).to(self._device)
            )

    def recordings(self) -> Iterator[Labelled]:
        """This worker's part of the validation recordings, one in memory at a time."""
        for span in my_share(self._validation.spans):
            target = self._validation.target[span.offset : span.offset + span.length]
            labelled = labelled_windows(target, self._sampling, self._of)
            yield Labelled(span.recording, load_mel(self._store, [span]), *labelled)

    def _blocks(self, plan: tuple[Pool, ...]) -> Iterator[NDArray[np.floating[Any]]]:
        """The mel of the runs of `plan`, in order, some at a time."""
        dataset: Dataset = ray.data.from_items(
            [{"pool": index} for index in range(len(plan))], override_num_blocks=len(plan)
        )
        dataset.context.execution_options.preserve_order = True
        dataset.context.enable_progress_bars = False
        read: Any = _read_runs
        dataset = dataset.map_batches(
            read,
            fn_kwargs={
                "store": self._store,
                "plan": ray.put(plan),
                "run_segments": self._sampling.run_segments,
            },
            batch_size=1,
            compute=TaskPoolStrategy(_POOLS_AT_ONCE),
            num_cpus=CPUS_PER_TASK,
        )
        blocks: Iterable[Any] = dataset.iter_batches(
            batch_size=None, batch_format="numpy", prefetch_batches=1
        )
        for block in blocks:
            yield block["mel"]


def _read_runs(
    rows: dict[str, NDArray[Any]], *, store: SegmentStore, plan: Any, run_segments: int
) -> Iterator[dict[str, NDArray[Any]]]:
    """The mel of each batch of a pool, `[runs, run_segments, n_mels, n_frames]`."""
    pool: Pool = ray.get(plan)[int(rows["pool"][0])]
    mel = load_mel(store, pool.spans)
    offsets = np.array([span.offset for span in pool.spans])
    # Where each recording lies among those that are held here.
    held = np.concatenate([[0], np.cumsum([span.length for span in pool.spans])[:-1]])
    within = np.arange(run_segments)
    for runs in pool.batches:
        span = np.searchsorted(offsets, runs, side="right") - 1
        first = runs - offsets[span] + held[span]
        yield {"mel": mel[first[:, None] + within]}
