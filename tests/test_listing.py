"""`prediction.json` when several processes write it, and where it cannot be written."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from valence.errors import OutputError
from valence.listing import Listing
from valence.storage import Location

ABOUT = {"weighting": "equal", "model": "m"}


def _row(name: str, status: str = "ok") -> dict[str, Any]:
    known = {"audio": f"/{name}.wav", "model": "m", "regressor": None, "quality": "q"}
    return {"name": name, "status": status, **known}


def _names(content: dict[str, Any]) -> list[str]:
    return [row["name"] for row in content["recordings"]]


def test_rows_of_many_writers_at_once_are_all_kept(tmp_path: Path) -> None:
    listing = Listing(Location.parse(tmp_path) / "prediction.json")

    def add(number: int) -> None:
        for part in range(5):
            name = f"{number}-{part}"
            listing.merge(ABOUT, [_row(name)], order=[name])

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(add, range(8)))
    expected = {f"{number}-{part}" for number in range(8) for part in range(5)}
    assert set(_names(listing.file.read_json())) == expected


def test_rows_that_another_writer_lost_on_an_object_store_are_added_again(tmp_path: Path) -> None:
    class Store(Location):
        """Has no locks, as an object store."""

        @property
        def local(self) -> None:
            return None

    place = Location.parse(tmp_path) / "prediction.json"
    listing = Listing(Store(place.filesystem, place.path))
    other = {**ABOUT, "recordings": [_row("theirs")]}
    # Both had read before either wrote, and the other wrote last.
    listing.merge(ABOUT, [_row("ours")], order=["ours"])
    place.write_json(other)
    content = listing._insist({}, ABOUT, [_row("ours")], ["ours"])
    assert _names(content) == _names(place.read_json()) == ["theirs", "ours"]


def test_a_recording_that_was_not_reached_keeps_its_row(tmp_path: Path) -> None:
    listing = Listing(Location.parse(tmp_path) / "prediction.json")
    listing.merge(ABOUT, [_row("a"), _row("b"), _row("c")], order=["a", "b", "c"])
    content = listing.merge(ABOUT, [_row("b", "failed")], order=["b", "a"])
    assert [(row["name"], row["status"]) for row in content["recordings"]] == [
        ("c", "ok"),
        ("b", "failed"),
        ("a", "ok"),
    ]


def test_nothing_is_written_where_nothing_was_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    listing = Listing(Location.parse(tmp_path) / "prediction.json")
    bad = {**_row("bad", "failed"), "reason": "is no audio"}
    listing.merge(ABOUT, [_row("a"), bad], order=["a", "bad"])

    def refuse(*_: object) -> None:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(Location, "write_json", refuse)
    assert _names(listing.merge(ABOUT, [_row("a", "skipped")], order=["a"])) == ["bad", "a"]
    # One that fails as before is nothing new; one that fails for another reason is.
    again = listing.merge(ABOUT, [_row("a", "skipped"), bad], order=["a", "bad"])
    assert _names(again) == ["a", "bad"]
    for row in (_row("b", "skipped"), {**bad, "reason": "is empty"}, _row("a", "failed")):
        with pytest.raises(OutputError, match="Read-only file system"):
            listing.merge(ABOUT, [row], order=[row["name"]])
