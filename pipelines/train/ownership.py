"""Let one training at a time own a folder: the training that claimed the folder last.

Another training may be the same command in a second terminal, a machine that the network has lost,
or a worker that outlives its driver. A lock would have to distinguish dead owners from silent ones.
A claim is simply taken over by the next training, and the former owner finds out when it writes.
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
    """A training's claim to `folder`, valid once taken; a claim can be pickled."""

    folder: Location
    token: str = field(default_factory=lambda: uuid.uuid4().hex)

    def take(self) -> None:
        """Claim `folder`, even from another owner; change nothing if this claim already holds it.

        Raises
        ------
        TrainingError
            If another claim has replaced this one, or the folder cannot be written.
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
        """Guard a block that writes to the folder: check that the claim still holds.

        Raises
        ------
        TrainingError
            If another training claimed the folder before the block, or during one that failed.
        """
        try:
            self._require()
        except OSError as error:
            raise self._unusable(error) from error
        try:
            yield
        except (TrainingError, OSError):
            # If another training took the folder meanwhile, that caused the failure.
            with suppress(OSError):
                self._require()
            raise

    def release(self) -> None:
        """Give up the folder; former owners still find out that they lost it."""
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
            # A claim only says who works here, not what was made: a damaged one counts as none.
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
