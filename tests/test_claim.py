"""Of two that want a folder, the later has it, and the other hears of that when it writes."""

from __future__ import annotations

import os
import pickle
import socket
from pathlib import Path

import pytest

from valence.claim import Claim
from valence.errors import TrainingError
from valence.storage import Location


def _folder(tmp_path: Path) -> Location:
    return Location.parse(tmp_path / "train")


def test_a_claim_holds_until_another_is_made(tmp_path: Path) -> None:
    first = Claim.take(_folder(tmp_path))
    sent = pickle.loads(pickle.dumps(first))
    for claim in (first, sent):
        with claim.held():
            pass
    second = Claim.take(_folder(tmp_path))
    with second.held():
        pass
    says = (
        rf"train' is no longer this training's: another one took it over at 20.* "
        rf"\(process {os.getpid()} on '{socket.gethostname()}'\)\. This one stops"
    )
    for claim in (first, sent):
        with pytest.raises(TrainingError, match=says), claim.held():
            pytest.fail("the block must not be entered")


@pytest.mark.parametrize("removed", ["claim", "folder"])
def test_what_was_released_or_removed_is_no_longer_held(tmp_path: Path, removed: str) -> None:
    folder = _folder(tmp_path)
    old, new = Claim.take(folder), Claim.take(folder)
    if removed == "claim":
        new.release()
    else:
        folder.delete()
    says = "another one has ended there, or removed it"
    with pytest.raises(TrainingError, match=says), old.held():
        pytest.fail("the block must not be entered")


@pytest.mark.parametrize("kind", [OSError, TrainingError])
def test_a_failure_is_told_for_what_it_is(tmp_path: Path, kind: type[Exception]) -> None:
    """Another that takes away what is being written is the reason, and not a full disk."""
    claim = Claim.take(_folder(tmp_path))

    def fail(*, robbed: bool) -> None:
        with claim.held():
            if robbed:
                Claim.take(_folder(tmp_path))
            raise kind("the disk is full")

    with pytest.raises(kind, match="the disk is full"):
        fail(robbed=False)
    with pytest.raises(TrainingError, match="another one took it over"):
        fail(robbed=True)


@pytest.mark.parametrize("content", ["", "[]", "{}", "{"])
def test_a_claim_that_is_damaged_is_not_ones_own(tmp_path: Path, content: str) -> None:
    claim = Claim.take(_folder(tmp_path))
    (claim.folder / "claim.json").write_text(content)
    with pytest.raises(TrainingError, match="no longer this training's"), claim.held():
        pytest.fail("the block must not be entered")


def test_a_folder_that_cannot_be_written_to_says_so(tmp_path: Path) -> None:
    (tmp_path / "train").write_text("a file")
    with pytest.raises(TrainingError, match=r"cannot be written to.*another run folder"):
        Claim.take(_folder(tmp_path))
