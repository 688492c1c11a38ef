"""Compute functionals of the mel for the baseline, on workers beside the trials."""

from __future__ import annotations

import numpy as np
import ray
from numpy.typing import NDArray
from ray import ObjectRef

from pipelines.runtime.nodes import Selector
from valence.run import Run
from valence.segments.store import SegmentStore
from valence.sweep.features import concatenate
from valence.sweep.functionals import functionals
from valence.sweep.transforms import Array, Division


def start_functionals(run: Run, division: Division, selector: Selector) -> ObjectRef | None:
    """Start computing the functionals of all rows.

    Return None if the run no longer has its segments.
    """
    if run.stage("segments").found() is None:
        return None
    store = SegmentStore(run.folder("segments"))
    made_of = run.stage("features").require()["made_of"]
    # The features decide the length, whatever this call's configuration says.
    length = made_of["sequence"]["length"]
    rows = concatenate([division.training, division.validation, division.test])
    read = _functionals.options(label_selector=selector or None)
    tasks = [
        read.remote(store, name, rows.start[rows.recording == name], length)
        for name in dict.fromkeys(rows.recording.tolist())
    ]
    return _gather.remote(*tasks)


@ray.remote(num_cpus=1)
def _functionals(
    store: SegmentStore, recording: str, starts: NDArray[np.int32], length: int
) -> tuple[str, Array]:
    return recording, functionals(store, recording, starts, length=length)


@ray.remote(num_cpus=0)
def _gather(*found: tuple[str, Array]) -> list[tuple[str, Array]]:
    return list(found)
