from __future__ import annotations

import numpy as np

from valence.storage.filenames import MOST_BYTES, shortened


def test_a_shortened_name_fits_and_stands_for_one_name() -> None:
    rng = np.random.default_rng(0)
    names = {"".join(rng.choice(list("aé会😀"), 250)) for _ in range(200)}
    names |= {"é" * 125 + end for end in ("a", "b")}
    short = {shortened(name, suffix_bytes=8) for name in names}
    assert len(short) == len(names)
    assert all(len(name.encode()) <= MOST_BYTES - 8 for name in short)
    assert {shortened(name, suffix_bytes=8) for name in short} == short
