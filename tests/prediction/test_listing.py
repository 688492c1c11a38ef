"""`prediction.json` when several processes write it, and where it cannot be written."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from valence.errors import OutputError, StaleError
from valence.prediction.listing import Listing
from valence.provenance import fingerprint
from valence.storage.location import Location

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


def test_a_row_that_stands_is_not_replaced_by_a_refusal(tmp_path: Path) -> None:
    listing = Listing(Location.parse(tmp_path) / "prediction.json")
    made = listing.merge(ABOUT, [_row("a"), _row("b")], order=["a", "b"])
    before = listing.file.read_bytes()
    other = {**ABOUT, "model": "other"}

    def refused(name: str) -> dict[str, Any]:
        return {**_row(name, "stale"), "model": "other"}

    assert listing.merge(other, [refused("a"), refused("b")], order=["a", "b"]) == made
    assert listing.file.read_bytes() == before
    # Where the other model has failed too, nothing of it stands there.
    content = listing.merge(other, [refused("a"), _row("c", "failed")], order=["a", "c"])
    assert content["model"] == "m"
    content = listing.merge(other, [refused("a"), {**_row("d"), "model": "other"}], order="ad")
    assert content == listing.file.read_json()
    assert content["model"] == "other"
    assert [(row["name"], row["status"], row["model"]) for row in content["recordings"]] == [
        ("b", "ok", "m"),
        ("c", "failed", "m"),
        ("a", "ok", "m"),
        ("d", "ok", "other"),
    ]


@pytest.mark.parametrize(
    ("found", "changed"), [('"equal"', '"equat"'), ('"q"', '"r"'), ('"digest"', '"digess"')]
)
def test_a_listing_that_was_changed_is_not_what_was_written(
    tmp_path: Path, found: str, changed: str
) -> None:
    listing = Listing(Location.parse(tmp_path) / "prediction.json")
    listing.merge(ABOUT, [_row("a"), _row("gone")], order=["a", "gone"])
    assert listing.check(overwrite=False) == ""
    whole = listing.file.read_text()
    listing.file.write_text(whole.replace(found, changed))
    assert "is not what was written, and is made again" in listing.check(overwrite=False)
    content = listing.merge(ABOUT, [_row("a", "skipped")], order=["a"])
    # No file beside it tells of the other.
    assert _names(content) == _names(listing.file.read_json()) == ["a"]
    assert listing.check(overwrite=False) == ""
    digest = content.pop("digest")
    assert digest == fingerprint(content)


def test_a_listing_that_is_cut_is_refused_by_name(tmp_path: Path) -> None:
    listing = Listing(Location.parse(tmp_path) / "prediction.json")
    listing.merge(ABOUT, [_row("a")], order=["a"])
    listing.file.write_text(listing.file.read_text()[:-30])
    with pytest.raises(StaleError, match=r"prediction\.json' is damaged.*no JSON.*Move it away"):
        listing.check(overwrite=False)


def test_a_listing_of_an_older_version_is_read_and_left(tmp_path: Path) -> None:
    listing = Listing(Location.parse(tmp_path) / "prediction.json")
    listing.file.write_json({**ABOUT, "recordings": [_row("a"), _row("b")]})
    before = listing.file.read_bytes()
    assert listing.check(overwrite=False) == ""
    listing.merge(ABOUT, [_row("a", "skipped")], order=["a"])
    assert listing.file.read_bytes() == before
    content = listing.merge(ABOUT, [_row("c")], order=["c"])
    assert _names(content) == ["a", "b", "c"]
    assert "digest" in content


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
