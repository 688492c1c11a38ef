"""XGBoost's trees hold what they declare, or are refused before XGBoost sees them."""

from __future__ import annotations

import struct

import numpy as np
import pytest
from xgboost import XGBRegressor

from valence.sweep.kept.ubjson import require_whole_ubjson


@pytest.fixture(scope="module")
def trees() -> bytes:
    generator = np.random.default_rng(0)
    x = generator.random((40, 3))
    made = XGBRegressor(n_estimators=3, max_depth=2, n_jobs=1).fit(x, x[:, 1])
    return bytes(made.get_booster().__getstate__()["handle"])


def test_what_xgboost_writes_passes(trees: bytes) -> None:
    require_whole_ubjson(trees)


def test_an_array_that_declares_more_than_there_is_is_refused(trees: bytes) -> None:
    at = trees.index(b"[$d#L") + 5
    forged = trees[:at] + struct.pack(">q", 2**40) + trees[at + 8 :]
    with pytest.raises(ValueError, match=r"declare 4,398,046,511,104 bytes where"):
        require_whole_ubjson(forged)


def test_every_cut_is_noticed(trees: bytes) -> None:
    for length in range(0, len(trees), 97):
        with pytest.raises(ValueError, match="its trees"):
            require_whole_ubjson(trees[:length])


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b'{"learner": 1}', "count in the unknown type"),
        (b"[" * 100, "more than 64 deep"),
        (b"[#L" + struct.pack(">q", 2**50), "declare"),
        (b"[#L" + struct.pack(">q", -1), "below 0"),
        (b"[$Z#L" + struct.pack(">q", 2**50), "unknown type"),
        (b"i\x01i\x02", "end after 2 of 4 bytes"),
    ],
    ids=repr,
)
def test_what_is_no_such_value_is_refused(content: bytes, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        require_whole_ubjson(content)
