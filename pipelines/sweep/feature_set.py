"""Describe the sequences of a run by a feature set, one task a recording."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import ray
from numpy.typing import NDArray

from pipelines.runtime.console import Console
from pipelines.runtime.nodes import Selector, tell_of_absence
from valence.run import Run
from valence.segments.feature_sets import FeatureSet
from valence.segments.store import SegmentStore
from valence.sweep.feature_sets import Described, SetRows, describe, join
from valence.sweep.features import Features


def rows_of_set(
    run: Run,
    features: Features,
    chosen: FeatureSet,
    *,
    length: int,
    selector: Selector,
    console: Console,
) -> SetRows:
    """Describe labelled sequences by a feature set.

    Parameters
    ----------
    run
        The run; its segments say how long recordings are.
    features
        The rows to describe, ordered by recording and start.
    chosen
        The feature set.
    length
        Number of segments in a sequence.
    selector
        Nodes that may do it.
    console
        Progress output.

    Raises
    ------
    FeatureError
        If no training or no validation sequence is described.
    """
    starts = {
        name: features.start[features.recording == name]
        for name in dict.fromkeys(features.recording.tolist())
    }
    segments = _segments(run, starts, length)
    read = _describe.options(label_selector=selector or None)
    shared = ray.put(chosen)
    waiting = [read.remote(shared, name, starts[name], length, segments[name]) for name in starts]
    described: list[Described] = []
    with (
        console.bar(f"sweep: features of {chosen.name}", len(waiting)) as bar,
        tell_of_absence(selector, {"CPU": 1}, console),
    ):
        while waiting:
            done, waiting = ray.wait(waiting)
            for each in ray.get(done):
                described.append(each)
                bar.advance(1, each.recording)
    return join(features, sorted(described, key=lambda each: each.recording), chosen)


def _segments(run: Run, starts: Mapping[str, NDArray[np.int32]], length: int) -> dict[str, int]:
    """Look up the segments of each recording; without the store, up to its last sequence."""
    found = {name: int(own.max()) + length for name, own in starts.items()}
    if run.stage("segments").found() is None:
        return found
    table = SegmentStore(run.folder("segments")).recordings()
    known = dict(zip(table["Id"], table["segments"], strict=True))
    return {name: int(known.get(name, least)) for name, least in found.items()}


@ray.remote(num_cpus=1)
def _describe(
    chosen: FeatureSet, recording: str, starts: NDArray[np.int32], length: int, segments: int
) -> Described:
    return describe(chosen, recording, starts, length=length, segments=segments)
