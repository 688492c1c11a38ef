"""Whose a folder is while a training writes to it: of two that want it, the one that came last.

The other may be the same command in another terminal, on a machine that the network has lost, or a
worker that outlives its driver. A lock would have to tell the dead from the silent; a claim is
taken by whoever comes next, and the one before it hears of that when it wants to write again.
"""

from __future__ import annotations

import os
import socket
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from valence.errors import TrainingError
from valence.storage import Location

_FILE = "claim.json"


@dataclass(frozen=True)
class Claim:
    """A claim to `folder`, made by `take`; it can be pickled and sent to a worker."""

    folder: Location
    token: str

    @classmethod
    def take(cls, folder: Location) -> Claim:
        """Claim `folder`, whoever had it.

        Raises
        ------
        TrainingError
            If it cannot be written to.
        """
        claim = cls(folder, uuid.uuid4().hex)
        content = {
            "token": claim.token,
            "host": socket.gethostname(),
            "process": os.getpid(),
            "since": time.strftime("%Y-%m-%d %H:%M:%S %z"),
        }
        try:
            (folder / _FILE).write_json(content)
        except OSError as error:
            raise TrainingError(
                f"'{folder}' cannot be written to: {error}. Make room or choose another run folder."
            ) from error
        return claim

    @contextmanager
    def held(self) -> Iterator[None]:
        """For what is written under the claim.

        Raises
        ------
        TrainingError
            If another has claimed the folder before the block, or while the block failed.
        """
        self._require()
        try:
            yield
        except (TrainingError, OSError):
            # Where another takes away what is being written, that is the reason.
            self._require()
            raise

    def release(self) -> None:
        """Leave the folder to nobody; what still wants to write there hears of it."""
        (self.folder / _FILE).delete()

    def _require(self) -> None:
        found = self._standing()
        if found.get("token") == self.token:
            return
        other = "has ended there, or removed it, since this one began"
        if "token" in found:
            other = (
                f"took it over at {found.get('since')} (process {found.get('process')} on "
                f"'{found.get('host')}')"
            )
        raise TrainingError(
            f"'{self.folder}' is no longer this training's: another one {other}. This one stops "
            "and writes nothing more; let the other end, or train into another run folder."
        )

    def _standing(self) -> dict[str, Any]:
        try:
            found = (self.folder / _FILE).read_json()
        except (FileNotFoundError, ValueError):
            return {}
        return found if isinstance(found, dict) else {}
