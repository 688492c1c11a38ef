"""Make small sets of features, in the form that corpora have them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from valence.config import Config
from valence.run import Run
from valence.segments.store import SegmentStore
from valence.storage.location import Location

COLUMNS = ("loudness", "pitch", "jitter", "alpha", "slope")


def write_features(
    folder: Location,
    name: str,
    values: NDArray[np.floating],
    *,
    columns: Sequence[str] = COLUMNS,
    step_ms: int = 500,
) -> Location:
    """Write a recording's features, `[segments, columns]`, as CSV; NaN is an empty cell."""
    table = pd.DataFrame(dict(zip(columns, np.asarray(values, np.float32).T, strict=True)))
    table.insert(0, "timestamp", step_ms * np.arange(len(table)))
    file = folder / f"{name}.csv"
    file.write_text(table.to_csv(index=False))
    return file


def made_features(
    store: SegmentStore, *, columns: int = len(COLUMNS), seed: int = 0
) -> Mapping[str, NDArray[np.float32]]:
    """Make features of each recording that tell its label, each column in other units."""
    rng = np.random.default_rng(seed)
    scale, shift = 10.0 ** np.arange(-2, columns - 2), 100.0 * np.arange(columns)
    made = {}
    frame = store.recordings()
    for name in sorted(frame.loc[frame["status"] == "ok", "Id"]):
        label = np.nan_to_num(store.labels(name, ("valence",)))
        noise = 0.3 * rng.standard_normal((len(label), columns))
        made[name] = ((label + noise) * scale + shift).astype(np.float32)
    return made


def add_set(run: Run, corpus: Location, name: str = "toy") -> Location:
    """Give a run a corpus that holds nothing but a set of features, and return the set's folder."""
    folder = corpus / "feature_segments" / name
    for recording, values in made_features(SegmentStore(run.folder("segments"))).items():
        write_features(folder, recording, values)
    run.write_config(run.config(), {**run.record(), "corpus": str(corpus)})
    return folder


def taking(config: Config, *assignments: str, name: str = "toy") -> Config:
    """Return a configuration whose model takes a set of features."""
    return Config.resolve(config, assignments=[f"model.input={name}", *assignments])
