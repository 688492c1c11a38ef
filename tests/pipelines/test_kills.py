"""Replacing outputs is atomic as seen by the next call, whatever kills it and wherever.

A process that replaces the outputs of a stage is killed at each step of what it does to the files.
Every call that may follow makes all of it again, or refuses and names what helps.
"""

from __future__ import annotations

import itertools
import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from tests.helpers import replacing
from tests.helpers.killing import Killed, KillingServer, in_child, killing_server
from valence.storage.location import Location

pytestmark = [pytest.mark.faults, pytest.mark.kills]

# A message that helps names a command of this program, or what the same command is to be given.
_REMEDY = re.compile(r"'valence \w+|--overwrite")
# A record, a file and a record at the least.
_LEAST_STEPS = 5
# To go back to the old outputs costs as much as to go on, and a third of the steps tell of it.
_TURNS_BACK_EVERY = 3


@dataclass(frozen=True)
class Known:
    """What calls that nothing disturbed leave, as contents, and what those find who use it."""

    was: dict[str, str]
    use_of_old: dict[str, Any]
    new: dict[str, str]
    use_of_new: dict[str, Any]


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = str(tmp_path_factory.mktemp("inputs"))
    in_child(replacing.make_inputs, folder)
    return folder


@pytest.fixture(scope="module")
def server() -> Iterator[KillingServer]:
    with killing_server() as found:
        yield found


@pytest.fixture(scope="module")
def known_of(inputs: str, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Known]:
    """A function that tells of a scenario what is known of it."""

    @cache
    def known(name: str) -> Known:
        folder = tmp_path_factory.mktemp("known")
        old, new = (str(folder / which / "run") for which in ("old", "new"))
        in_child(replacing.prepare, name, inputs, old)
        shutil.copytree(old, new)
        assert in_child(replacing.make, name, "old", inputs, old, False) is None
        was = in_child(replacing.contents, name, old)
        use_of_old = in_child(replacing.found, name, old)
        in_child(replacing.change, name, inputs, new)
        assert in_child(replacing.make, name, "new", inputs, new, False) is None
        contents = in_child(replacing.contents, name, new)
        return Known(was, use_of_old, contents, in_child(replacing.found, name, new))

    return known


def _make_old(name: str, inputs: str, root: str) -> None:
    """Make outputs, and let happen what they are to be replaced for."""
    in_child(replacing.prepare, name, inputs, root)
    assert in_child(replacing.make, name, "old", inputs, root, False) is None
    in_child(replacing.change, name, inputs, root)


@pytest.mark.parametrize("name", replacing.SCENARIOS)
def test_outputs_on_a_disk_are_replaced_or_refused_whatever_kills(
    name: str, inputs: str, known_of: Callable[[str], Known], tmp_path: Path
) -> None:
    known, root = known_of(name), tmp_path / "run"
    where = Location.parse(root)

    def put(there: Path) -> None:
        shutil.rmtree(root)
        shutil.copytree(there, root)

    _make_old(name, inputs, str(root))
    shutil.copytree(root, tmp_path / "old")
    for step in itertools.count(1):
        put(tmp_path / "old")
        ended = in_child(replacing.make, name, "new", inputs, str(root), True, step=step, at=where)
        if ended != Killed():
            break
        if replacing.SCENARIOS[name].change is None and step % _TURNS_BACK_EVERY == 0:
            killed = shutil.copytree(root, tmp_path / f"killed-{step}")
            turned = in_child(replacing.turn_back, name, inputs, str(root))
            assert turned == known.was, f"turned back after a kill at step {step}"
            put(killed)
        _check(name, where, inputs, known, f"after a kill at step {step}")
    assert ended is None
    assert step > _LEAST_STEPS


@pytest.mark.filterwarnings("ignore:.*deprecated", "ignore::ResourceWarning")
@pytest.mark.parametrize("name", replacing.SCENARIOS)
def test_outputs_on_an_object_store_are_replaced_or_refused_whatever_kills(
    name: str, inputs: str, known_of: Callable[[str], Known], server: KillingServer
) -> None:
    known = known_of(name)
    number = list(replacing.SCENARIOS).index(name)
    where = Location.parse(
        f"s3://key:secret@shared/{number}/run?endpoint_override={server.endpoint}&scheme=http"
        "&region=us-east-1"
    )
    root = replacing.address(where)
    _make_old(name, inputs, root)
    old = list(replacing.files(where))
    for step in itertools.count(1):
        where.delete()
        for path, content in old:
            (where / path).write_bytes(content)
        ended = in_child(replacing.make, name, "new", inputs, root, True, step=step, at=server)
        if ended != Killed():
            break
        _check(name, where, inputs, known, f"after a kill at step {step}")
    assert ended is None
    assert step > _LEAST_STEPS


def _check(name: str, where: Location, inputs: str, known: Known, when: str) -> None:
    record, root = replacing.SCENARIOS[name].record, replacing.address(where)
    # Once the record says that outputs are replaced, nobody takes the old ones.
    begun = record is None or (where / record).read_json()["status"] != "done"
    use, (*others, last) = in_child(replacing.go_on, name, inputs, root)
    for user, finding in use.items():
        if isinstance(finding, dict):
            assert _REMEDY.search(finding["refused"]), f"{user} {when}: {finding}"
        else:
            allowed = [known.use_of_new[user], *([] if begun else [known.use_of_old[user]])]
            assert finding in allowed, f"{user} {when}"
    for outcome in others:
        if isinstance(outcome, str):
            assert _REMEDY.search(outcome), f"a call {when}: {outcome}"
        else:
            assert outcome in (known.was, known.new), f"a call {when}"
    assert last == known.new, f"the last call {when}"
