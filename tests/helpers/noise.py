"""Write a corpus of noise in the MuSe layout: work for preprocessing, and nothing to learn."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import soundfile


def write_noise_corpus(folder: Path, seconds: Mapping[str, int], *, sr: int, devel: str) -> None:
    """Write a labelled recording for each Id in `seconds`; all but `devel` are for training."""
    for name in ("raw_data/audio", "label_segments/valence", "metadata"):
        (folder / name).mkdir(parents=True)
    rng = np.random.default_rng(0)
    rows = ["Id,Proposal"]
    for name, long in seconds.items():
        y = rng.normal(0, 0.1, long * sr).astype(np.float32)
        soundfile.write(folder / f"raw_data/audio/{name}.wav", y, sr)
        labels = "".join(f"{500 * i},0.{i % 10}\n" for i in range(2 * long))
        (folder / f"label_segments/valence/{name}.csv").write_text(f"timestamp,value\n{labels}")
        rows.append(f"{name},{'devel' if name == devel else 'train'}")
    (folder / "metadata/partition.csv").write_text("\n".join(rows) + "\n")
