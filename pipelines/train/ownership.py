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
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

from valence.errors import TrainingError
from valence.storage.kept_file import MOST_BYTES, parse_json, read_at_most, require_table
from valence.storage.location import Location

_FILE = "claim.json"


@dataclass(frozen=True)
class Claim:
    """A claim to `folder`, once it is taken; it can be pickled and sent to a worker."""

    folder: Location
    token: str = field(default_factory=lambda: uuid.uuid4().hex)

    def take(self) -> None:
        """Claim `folder`, whoever had it; nothing happens if it is this claim's already.

        Raises
        ------
        TrainingError
            If this claim had it and another has taken it since, or it cannot be written to.
        """
        try:
            found = self._standing()
            if found.get("token") == self.token:
                return
            former = [each for each in [*found.get("former", []), found.get("token")] if each]
            if self.token in former:
                raise self._lost(found)
            (self.folder / _FILE).write_json(
                {
                    "token": self.token,
                    "host": socket.gethostname(),
                    "process": os.getpid(),
                    "since": time.strftime("%Y-%m-%d %H:%M:%S %z"),
                    "former": former,
                }
            )
        except OSError as error:
            raise self._unusable(error) from error

    @contextmanager
    def held(self) -> Iterator[None]:
        """For what is written under the claim.

        Raises
        ------
        TrainingError
            If another has claimed the folder before the block, or while the block failed.
        """
        try:
            self._require()
        except OSError as error:
            raise self._unusable(error) from error
        try:
            yield
        except (TrainingError, OSError):
            # Where another takes away what is being written, that is the reason.
            with suppress(OSError):
                self._require()
            raise

    def release(self) -> None:
        """Leave the folder to nobody; who had it before still hears of that."""
        found = self._standing()
        if found.get("token") == self.token:
            former = [*found["former"], self.token]
            (self.folder / _FILE).write_json({"token": None, "former": former})

    def _require(self) -> None:
        found = self._standing()
        if found.get("token") != self.token:
            raise self._lost(found)

    def _standing(self) -> dict[str, Any]:
        try:
            found = parse_json(read_at_most(self.folder / _FILE, MOST_BYTES))
            require_table(found, {"former": list})
        except (FileNotFoundError, ValueError):
            # A claim says who works here, and nothing about results: a damaged one is nobody's.
            return {}
        assert isinstance(found, dict)
        return found

    def _lost(self, found: dict[str, Any]) -> TrainingError:
        other = "has ended there, or removed it, since this one began"
        if found.get("token"):
            other = (
                f"took it over at {found.get('since')} (process {found.get('process')} on "
                f"'{found.get('host')}')"
            )
        return TrainingError(
            f"'{self.folder}' is no longer this training's: another one {other}. This one stops "
            "and writes nothing more; let the other end, or train into another run folder."
        )

    def _unusable(self, error: OSError) -> TrainingError:
        if isinstance(error, IsADirectoryError):
            return TrainingError(
                f"'{self.folder / _FILE}' is a folder. Expected the file that says which training "
                "is at work here. Move that folder away, and run the same command again; what is "
                "done is kept."
            )
        return TrainingError(
            f"'{self.folder}' cannot be read or written: {error}. Make room or restore the access, "
            "and run the same command again; what is done is kept."
        )
