"""Outcomes on disk: what was written comes back, and only where it still holds."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from valence.storage.location import Location
from valence.sweep.kept.outcomes import OutcomeStore, TrialOutcome

_OK = TrialOutcome(
    "ok", "a remark", 1.5, "sklearn", 7, np.array([0.1, 0.2, 0.3]), np.array([0.4, 0.5])
)


def test_comes_back_as_it_was(tmp_path: Path) -> None:
    store = OutcomeStore(Location.parse(tmp_path))
    store.write("a-b-c", _OK, made_of="x")
    found = store.read("a-b-c", made_of="x")
    assert found is not None
    np.testing.assert_array_equal(found.validation, _OK.validation)
    np.testing.assert_array_equal(found.test, _OK.test)
    assert (found.status, found.reason, found.seconds) == ("ok", "a remark", 1.5)
    assert (found.engine, found.rows) == ("sklearn", 7)


def test_is_absent_where_nothing_or_something_else_made_it(tmp_path: Path) -> None:
    store = OutcomeStore(Location.parse(tmp_path))
    assert store.read("a-b-c", made_of="x") is None
    store.write("a-b-c", _OK, made_of="x")
    assert store.read("a-b-c", made_of="y") is None


def test_a_regressor_is_kept_for_what_made_it_and_whole_or_not_at_all(tmp_path: Path) -> None:
    store = OutcomeStore(Location.parse(tmp_path))
    assert store.read_fitted("a-b-c", made_of="x") is None
    store.write_fitted("a-b-c", b"a regressor", made_of="x")
    assert store.read_fitted("a-b-c", made_of="x") == b"a regressor"
    assert store.read_fitted("a-b-c", made_of="y") is None
    file = tmp_path / "a-b-c.skops"
    file.write_bytes(file.read_bytes()[:-1])
    assert store.read_fitted("a-b-c", made_of="x") is None
    file.unlink()
    file.mkdir()
    assert store.read_fitted("a-b-c", made_of="x") is None
    with pytest.raises(IsADirectoryError, match=r"a folder stands .*a-b-c\.skops"):
        store.write_fitted("a-b-c", b"a regressor", made_of="x")


def test_failures_can_be_forgotten_and_strangers_cleared(tmp_path: Path) -> None:
    store = OutcomeStore(Location.parse(tmp_path))
    store.write("good", _OK, made_of="x")
    store.write("bad", TrialOutcome.failure("why", engine="sklearn"), made_of="x")
    store.forget_failures()
    assert [file.stem for file in store.root.files()] == ["good"]
    for name in ("good", "other"):
        store.write_fitted(name, b"a regressor", made_of="x")
    store.write("other", _OK, made_of="x")
    store.write_scores(np.array([0.1, 1 / 3]), made_of="x")
    store.clear(keep={"other"})
    assert [file.name for file in store.root.files()] == [
        "mutual_information.json",
        "other.parquet",
        "other.skops",
    ]


def test_shared_scores_come_back_to_the_last_bit(tmp_path: Path) -> None:
    store = OutcomeStore(Location.parse(tmp_path))
    scores = np.random.default_rng(0).random(17)
    assert store.read_scores(made_of="x") is None
    store.write_scores(scores, made_of="x")
    np.testing.assert_array_equal(store.read_scores(made_of="x"), scores)
    assert store.read_scores(made_of="y") is None


@pytest.mark.parametrize("content", [b"", b"[]", None], ids=repr)
def test_an_outcome_that_is_no_table_is_none(tmp_path: Path, content: bytes | None) -> None:
    store = OutcomeStore(Location.parse(tmp_path))
    store.write("a-b-c", _OK, made_of="x")
    whole = (tmp_path / "a-b-c.parquet").read_bytes()
    (tmp_path / "a-b-c.parquet").write_bytes(whole[:-9] if content is None else content)
    assert store.read("a-b-c", made_of="x") is None
    store.forget_failures()
    assert store.root.files() == []


def test_no_byte_of_an_outcome_changes_unnoticed(tmp_path: Path) -> None:
    """Neither a prediction nor what is said beside it: it comes back as it was, or not at all."""
    store = OutcomeStore(Location.parse(tmp_path))
    store.write("a-b-c", _OK, made_of="x")
    file = tmp_path / "a-b-c.parquet"
    whole = file.read_bytes()
    lost = 0
    for at in range(0, len(whole), 7):
        file.write_bytes(whole[:at] + bytes([whole[at] ^ 4]) + whole[at + 1 :])
        found = store.read("a-b-c", made_of="x")
        if found is None:
            lost += 1
            continue
        np.testing.assert_array_equal(found.validation, _OK.validation)
        np.testing.assert_array_equal(found.test, _OK.test)
        assert (found.status, found.reason, found.seconds, found.rows) == ("ok", "a remark", 1.5, 7)
    assert lost > 20


@pytest.mark.parametrize("content", [b"", b"[]", b'{"made_of": "x", "scores": [1.0]}', b"{"])
def test_shared_scores_that_are_damaged_are_none(tmp_path: Path, content: bytes) -> None:
    store = OutcomeStore(Location.parse(tmp_path))
    (tmp_path / "mutual_information.json").write_bytes(content)
    assert store.read_scores(made_of="x") is None
