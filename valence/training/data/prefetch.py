"""From segments that are held somewhere to batches on the device, the next while one is used.

Where the device holds the segments a batch is a gathering there, of indices that were sent once a
pool, and nothing waits. What the host holds is gathered into pinned memory by a thread and copied
on a stream of its own while the device works on the batch before.
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

# Batches that are on their way to a device while one is used.
_BATCHES_AHEAD = 2


@dataclass(frozen=True, eq=False)
class Pick:
    """One worker's part of a batch that is still to be gathered.

    Attributes
    ----------
    mel
        All that is held, in dB, `[segments, n_mels, n_frames]`.
    index
        Which of it the runs are, int64 `[runs, run_segments]`, where `mel` is.
    target
        Labels of the windows, float32 `[windows, targets]`, where `mel` is.
    """

    mel: Tensor
    index: Tensor
    target: Tensor

    def gather(self, *, pinned: bool = False) -> Batch:
        """The batch, where `mel` is; `pinned` has it in memory that a device copies from."""
        size = (*self.index.shape, *self.mel.shape[1:])
        out = torch.empty(size, dtype=self.mel.dtype, device=self.mel.device, pin_memory=pinned)
        torch.index_select(self.mel, 0, self.index.flatten(), out=out.flatten(0, 1))
        return Batch(out, self.target.pin_memory() if pinned else self.target)


def picks(
    batches: Sequence[NDArray[np.int64]],
    mel: Tensor,
    target: NDArray[np.float32],
    sampling: Sampling,
    of: LabelOf,
) -> Iterator[Pick]:
    """This worker's part of each batch of a pool.

    Parameters
    ----------
    batches
        First segments of the runs of each, int64 `[runs]`, counted in `mel`.
    mel
        What is held, `[segments, n_mels, n_frames]`.
    target
        Its labels, `[segments, targets]`.
    sampling, of
        What a run is, and its windows' labels.
    """
    mine = [runs[rank() :: world_size()] for runs in batches]
    every = np.concatenate([np.zeros(0, np.int64), *mine])
    labels = window_targets(target, window_starts(every, sampling), sampling.length, of)
    first, known = (torch.from_numpy(each).to(mel.device) for each in (every, labels))
    within = torch.arange(sampling.run_segments, device=mel.device)
    at = 0
    for runs in mine:
        end = at + len(runs)
        index = first[at:end, None] + within
        yield Pick(mel, index, known[at * sampling.run : end * sampling.run])
        at = end


def deliver(picked: Iterable[Pick], *, held: torch.device, device: torch.device) -> Iterator[Batch]:
    """The batches of `picked` from where segments are `held`, in order, on `device`."""
    if held.type == device.type:
        for pick in picked:
            yield pick.gather()
        return
    for batch, copied in ahead(_sent(picked, device), most=_BATCHES_AHEAD):
        stream = torch.cuda.current_stream(device)
        stream.wait_event(copied)
        # They are another stream's, which must not reuse their memory while this one reads it.
        batch.mel.record_stream(stream)
        batch.target.record_stream(stream)
        yield batch


def _sent(picked: Iterable[Pick], device: torch.device) -> Iterator[tuple[Batch, torch.cuda.Event]]:
    """Batches whose copies to a GPU have begun, and what tells that they have ended."""
    with torch.cuda.device(device):
        stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        for pick in picked:
            batch = pick.gather(pinned=True)
            with torch.cuda.stream(stream):
                # torch keeps the pinned memory until the copy out of it has ended.
                mel = batch.mel.to(device, non_blocking=True)
                target = batch.target.to(device, non_blocking=True)
            yield Batch(mel, target), stream.record_event()


def ahead(items: Iterable[T], *, most: int) -> Iterator[T]:
    """The same items, up to `most` of them made by a thread before they are asked for.

    What making one raises is raised here, in its turn.
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
