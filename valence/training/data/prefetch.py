"""Gather batches from the segments in memory, and copy them to the device ahead of their use.

If the device holds the segments, it gathers each batch itself by indices that are sent once for
each pool, and nothing waits. If the host holds them, a thread gathers each batch into pinned
memory. The batch is then copied on a stream of its own, while the device works on the batch before.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from valence.model.distributed import rank, world_size
from valence.segments.sequences import LabelOf, window_targets
from valence.training.data.batches import Batch
from valence.training.data.sampling import Sampling, window_starts

T = TypeVar("T")

# Number of batches on their way to a device while one is in use.
_BATCHES_AHEAD = 2


@dataclass(frozen=True, eq=False)
class Pick:
    """One worker's part of a batch that is still to be gathered.

    Attributes
    ----------
    inputs
        Inputs of all segments in memory, `[segments, *input_shape]`.
    index
        Places of the groups' segments in `inputs`, int64 `[groups, group_segments]`, on the device
        of `inputs`.
    target
        Labels of the windows, float32 `[windows, targets]`, on the device of `inputs`.
    """

    inputs: Tensor
    index: Tensor
    target: Tensor

    def gather(self, *, pinned: bool = False) -> Batch:
        """Gather the batch on the device of `inputs`; with `pinned`, in pinned memory."""
        size = (*self.index.shape, *self.inputs.shape[1:])
        out = torch.empty(
            size, dtype=self.inputs.dtype, device=self.inputs.device, pin_memory=pinned
        )
        torch.index_select(self.inputs, 0, self.index.flatten(), out=out.flatten(0, 1))
        return Batch(out, self.target.pin_memory() if pinned else self.target)


def picks(
    batches: Sequence[NDArray[np.int64]],
    inputs: Tensor,
    target: NDArray[np.float32],
    sampling: Sampling,
    of: LabelOf,
) -> Iterator[Pick]:
    """Pick this worker's part of each batch of a pool.

    Parameters
    ----------
    batches
        For each batch, the places in `inputs` of the groups' first segments, int64 `[groups]`.
    inputs
        Inputs of the segments in memory, `[segments, *input_shape]`.
    target
        Labels of the segments, `[segments, targets]`.
    sampling, of
        Settings of groups and windows, and the definition of a window's label.
    """
    mine = [groups[rank() :: world_size()] for groups in batches]
    every = np.concatenate([np.zeros(0, np.int64), *mine])
    labels = window_targets(target, window_starts(every, sampling), sampling.length, of)
    first, known = (torch.from_numpy(each).to(inputs.device) for each in (every, labels))
    within = torch.arange(sampling.group_segments, device=inputs.device)
    at = 0
    per_group = sampling.windows_per_group
    for groups in mine:
        end = at + len(groups)
        index = first[at:end, None] + within
        yield Pick(inputs, index, known[at * per_group : end * per_group])
        at = end


def deliver(picked: Iterable[Pick], *, held: torch.device, device: torch.device) -> Iterator[Batch]:
    """Gather the batches of `picked` on the device `held`, and yield them in order on `device`."""
    if held.type == device.type:
        for pick in picked:
            yield pick.gather()
        return
    for batch, copied in ahead(_sent(picked, device), most=_BATCHES_AHEAD):
        stream = torch.cuda.current_stream(device)
        stream.wait_event(copied)
        # The tensors belong to the copying stream. Recording their use here keeps that stream from
        # reusing their memory while this stream reads it.
        batch.inputs.record_stream(stream)
        batch.target.record_stream(stream)
        yield batch


def _sent(picked: Iterable[Pick], device: torch.device) -> Iterator[tuple[Batch, torch.cuda.Event]]:
    """Yield batches whose copies to a GPU have begun, and the events that mark their end."""
    with torch.cuda.device(device):
        stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        for pick in picked:
            batch = pick.gather(pinned=True)
            with torch.cuda.stream(stream):
                # torch keeps the pinned memory until the copy out of it has ended.
                inputs = batch.inputs.to(device, non_blocking=True)
                target = batch.target.to(device, non_blocking=True)
            yield Batch(inputs, target), stream.record_event()


def ahead(items: Iterable[T], *, most: int) -> Iterator[T]:
    """Yield the same items; a thread makes up to `most` of them before they are needed.

    An error that making an item raises is raised here in the place of that item.
    """
    made: queue.Queue[tuple[T] | BaseException | None] = queue.Queue()
    room = threading.Semaphore(most)
    stopped = threading.Event()

    def make() -> None:
        try:
            iterator = iter(items)
            while room.acquire() and not stopped.is_set():
                made.put((next(iterator),))
        except StopIteration:
            made.put(None)
        except BaseException as error:
            made.put(error)

    thread = threading.Thread(target=make, name="ahead", daemon=True)
    thread.start()
    try:
        while (item := made.get()) is not None:
            if isinstance(item, BaseException):
                raise item
            (value,) = item
            del item
            room.release()
            yield value
            del value
    finally:
        stopped.set()
        room.release()
        thread.join()
