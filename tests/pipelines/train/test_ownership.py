"""Of two that want a folder, the later has it, and the other hears of that when it writes."""

from __future__ import annotations

import os
import pickle
import socket
from pathlib import Path

import pytest

from pipelines.train.ownership import Claim
from valence.errors import TrainingError
from valence.storage.location import Location


def _folder(tmp_path: Path) -> Location:
    return Location.parse(tmp_path / "train")


def _take(folder: Location) -> Claim:
    claim = Claim(folder)
    claim.take()
    return claim


def _refused(claim: Claim, says: str) -> None:
    with pytest.raises(TrainingError, match=says), claim.held():
        pytest.fail("the block must not be entered")


def test_a_claim_holds_until_another_is_taken(tmp_path: Path) -> None:
    first = _take(_folder(tmp_path))
    sent = pickle.loads(pickle.dumps(first))
    # As a worker that is started again in another's place.
    sent.take()
    unborn = Claim(first.folder)
    for claim in (first, sent):
        with claim.held():
            pass
    second = _take(first.folder)
    with second.held():
        pass
    says = (
        rf"train' is no longer this training's: another one took it over at 20.* "
        rf"\(process {os.getpid()} on '{socket.gethostname()}'\)\. This one stops"
    )
    for claim in (first, sent, unborn):
        _refused(claim, says)


@pytest.mark.parametrize("ended", [False, True])
def test_who_lost_a_folder_does_not_take_it_back(tmp_path: Path, ended: bool) -> None:
    """As a worker that is started again after another command has taken over, or has ended."""
    first, second, third = (_take(_folder(tmp_path)) for _ in range(3))
    if ended:
        third.release()
    for claim in (first, second):
        with pytest.raises(TrainingError, match="no longer this training's"):
            claim.take()
    if not ended:
        with third.held():
            pass
    _take(first.folder)


@pytest.mark.parametrize("removed", ["claim", "folder"])
def test_what_was_released_or_removed_is_no_longer_held(tmp_path: Path, removed: str) -> None:
    folder = _folder(tmp_path)
    old, new = _take(folder), _take(folder)
    if removed == "claim":
        new.release()
    else:
        folder.delete()
    _refused(old, "another one has ended there, or removed it")


def test_a_claim_that_is_lost_releases_nothing(tmp_path: Path) -> None:
    old, new = _take(_folder(tmp_path)), _take(_folder(tmp_path))
    old.release()
    with new.held():
        pass


@pytest.mark.parametrize("kind", [OSError, TrainingError])
def test_a_failure_is_told_for_what_it_is(tmp_path: Path, kind: type[Exception]) -> None:
    """Another that takes away what is being written is the reason, and not a full disk."""
    claim = _take(_folder(tmp_path))

    def fail(*, robbed: bool = False, blind: bool = False) -> None:
        with claim.held():
            if robbed:
                _take(claim.folder)
            if blind:
                _make_unreadable(claim)
            raise kind("the disk is full")

    for blind in (False, True):
        with pytest.raises(kind, match="the disk is full"):
            fail(blind=blind)
        if blind:
            _refused(claim, r"claim\.json' is a folder\..*Move that folder away")
    claim.folder.delete()
    claim.take()
    with pytest.raises(TrainingError, match="another one took it over"):
        fail(robbed=True)


def _make_unreadable(claim: Claim) -> None:
    """Also for root, whom permissions do not stop."""
    file = claim.folder / "claim.json"
    file.delete()
    assert file.local is not None
    file.local.mkdir()


@pytest.mark.parametrize("content", ["", "[]", "{}", "{"])
def test_a_claim_that_is_damaged_is_not_ones_own(tmp_path: Path, content: str) -> None:
    claim = _take(_folder(tmp_path))
    (claim.folder / "claim.json").write_text(content)
    _refused(claim, "no longer this training's")


def test_a_folder_that_cannot_be_written_to_says_so(tmp_path: Path) -> None:
    (tmp_path / "train").write_text("a file")
    with pytest.raises(TrainingError, match=r"cannot be read or written.*Make room"):
        _take(_folder(tmp_path))


def test_a_folder_in_place_of_the_claim_is_named(tmp_path: Path) -> None:
    claim = _take(_folder(tmp_path))
    (tmp_path / "train" / "claim.json").unlink()
    (tmp_path / "train" / "claim.json").mkdir()
    says = r"train/claim\.json' is a folder\. Expected the file .* Move that folder away, and run"
    _refused(claim, says)
    with pytest.raises(TrainingError, match=says):
        Claim(claim.folder).take()
