"""Stream the batches of a corpus that does not fit in memory from the store, by Ray Data."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import ray.data
import torch
from numpy.typing import NDArray
from ray.data import Dataset, ExecutionResources, TaskPoolStrategy
from ray.exceptions import RayTaskError
from torch import Tensor

from valence.config import Config
from valence.errors import ValenceError
from valence.model.distributed import world_size
from valence.segments.sequences import read_outline, total_length
from valence.training.data.batches import Batch, Labelled
from valence.training.data.capacity import Members, pool_bytes
from valence.training.data.in_memory import labelled_windows, my_share
from valence.training.data.inputs import SegmentInputs, input_blocks, load_inputs
from valence.training.data.prefetch import ahead, deliver, picks
from valence.training.data.sampling import Pool, Sampling, epoch_plan

# Two pools at once: one is consumed while the next is read.
_POOLS_AT_ONCE = 2
CPUS_PER_TASK = 0.25


class StreamingSource:
    """A `Source` with the same batches as `ResidentSource` that holds only a few pools at a time.

    Each segment of a pool is read once and gathered here, even where windows overlap. If a file is
    damaged or lost meanwhile, reading ends with the store's own `DamagedError`.

    Parameters
    ----------
    inputs
        Inputs of the segments, which are read in every epoch.
    config
        The whole configuration.
    chosen
        Recordings to read.
    device
        Device that receives the batches.
    """

    def __init__(
        self,
        inputs: SegmentInputs,
        config: Config,
        chosen: Members,
        *,
        device: torch.device,
    ) -> None:
        self._inputs, self._device = inputs, device
        self._sampling = Sampling.of(config.sequence, config.train)
        self._of = config.sequence.target
        self._pool_bytes = pool_bytes(inputs, config, chosen)
        self.outline = read_outline(inputs.store, chosen.train, chosen.copies, chosen.targets)
        self._validation = read_outline(inputs.store, chosen.validation, 0, chosen.targets)

    def batches(self, seed: int, epoch: int) -> Iterator[Batch]:
        """Yield this worker's part of each batch."""
        plan = epoch_plan(self.outline, self._sampling, seed=seed, epoch=epoch, least=world_size())
        picked = (
            pick
            for pool, held in ahead(self._pools(plan), most=1)
            for batches, target in [pool.alone(self.outline)]
            for pick in picks(batches, held, target, self._sampling, self._of)
        )
        return deliver(picked, held=torch.device("cpu"), device=self._device)

    def recordings(self) -> Iterator[Labelled]:
        """Yield this worker's validation recordings; the next is read while one is evaluated."""
        return ahead(self._recordings(), most=1)

    def _recordings(self) -> Iterator[Labelled]:
        for span in my_share(self._validation.spans):
            target = self._validation.target[span.offset : span.offset + span.length]
            labelled = labelled_windows(target, self._sampling, self._of)
            yield Labelled(span.recording, load_inputs(self._inputs, [span]), *labelled)

    def _pools(self, plan: tuple[Pool, ...]) -> Iterator[tuple[Pool, Tensor]]:
        """Yield each pool of `plan` with its inputs, `[segments, *input_shape]`."""
        blocks = self._blocks(plan)
        for pool in plan:
            held: NDArray[np.floating[Any]] | None = None
            size, at = total_length(pool.spans), 0
            while at < size:
                block = next(blocks)
                if held is None:
                    held = np.empty((size, *block.shape[1:]), block.dtype)
                held[at : at + len(block)] = block
                at += len(block)
            assert held is not None, "a pool holds at least one recording"
            yield pool, torch.from_numpy(held)

    def _blocks(self, plan: tuple[Pool, ...]) -> Iterator[NDArray[np.floating[Any]]]:
        """Yield the inputs of the pools of `plan` in order, block by block."""
        dataset: Dataset = ray.data.from_items(
            [{"pool": index} for index in range(len(plan))], override_num_blocks=len(plan)
        )
        options = dataset.context.execution_options
        options.preserve_order = True
        # Without a limit, Ray Data would read pool after pool until its store is full.
        options.resource_limits = ExecutionResources.for_limits(
            object_store_memory=self._pool_bytes * _POOLS_AT_ONCE
        )
        dataset.context.enable_progress_bars = False
        # By default Ray Data raises its own error, which loses the original cause.
        dataset.context.raise_original_map_exception = True
        read: Any = _read_pool
        dataset = dataset.map_batches(
            read,
            fn_kwargs={"inputs": self._inputs, "plan": ray.put(plan)},
            batch_size=1,
            compute=TaskPoolStrategy(_POOLS_AT_ONCE),
            num_cpus=CPUS_PER_TASK,
        )
        blocks: Iterable[Any] = dataset.iter_batches(
            batch_size=None, batch_format="numpy", prefetch_batches=1
        )
        try:
            for block in blocks:
                yield block["inputs"]
        except RayTaskError as error:
            if isinstance(error.cause, ValenceError):
                # Keep the first line, which is ours; Ray Data adds more below.
                message = str(error.cause).partition("\n")[0]
                raise type(error.cause)(message) from error
            raise


def _read_pool(
    rows: dict[str, NDArray[Any]], *, inputs: SegmentInputs, plan: Any
) -> Iterator[dict[str, NDArray[Any]]]:
    """Yield the inputs of a pool, `[segments, *input_shape]`, block by block."""
    pool: Pool = ray.get(plan)[int(rows["pool"][0])]
    for _, block in input_blocks(inputs, pool.spans):
        yield {"inputs": block}
