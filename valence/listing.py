"""`prediction.json`: what a folder of predictions holds, a row a recording, whoever made it."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from valence.errors import OutputError, StaleError
from valence.kept_file import unreadable
from valence.storage import Location

# Writes on a store without locks until the rows are found there that were written.
_TRIES = 5
_PAUSE_SECONDS = 0.2

Row = dict[str, Any]


@dataclass(frozen=True)
class Listing:
    """The file `prediction.json` of a folder of predictions.

    Parameters
    ----------
    file
        Where it lies.
    """

    file: Location

    def check(self, *, overwrite: bool) -> None:
        """Refuse a file of that name that this program did not write.

        Raises
        ------
        StaleError
            If there is one and `overwrite` is False.
        """
        self._read(overwrite=overwrite)

    def merge(
        self,
        about: Mapping[str, Any],
        rows: Sequence[Row],
        *,
        order: Sequence[str],
        overwrite: bool = False,
    ) -> dict[str, Any]:
        """Add rows to what stands there, atomically; rows of the same recordings are replaced.

        Two processes may do so at once. On a disk the file is locked meanwhile. On an object
        store, which has no locks, the file is read again afterwards, and rows that another process
        has overwritten are added once more.

        Parameters
        ----------
        about
            What the file says beside `recordings`.
        rows
            A row a recording, by `name`.
        order
            Names of this call's recordings, which stand last and in this order.
        overwrite
            Whether a file that this program did not write is replaced.

        Returns
        -------
        The content of the file. Where nothing was done but to skip recordings that are listed
        already, and others failed as the file says of them, it is not touched, so that its folder
        may be read-only.

        Raises
        ------
        OutputError
            If it cannot be written.
        """
        content = self._merged(about, rows, order, overwrite=overwrite)
        before = self._read(overwrite=overwrite)
        nothing_new = all(row["status"] == "skipped" or row in before for row in rows)
        if nothing_new and self._holds(rows, overwrite):
            return content
        try:
            with self.file.locked():
                content = self._merged(about, rows, order, overwrite=overwrite)
                self.file.write_json(content)
            if self.file.local is None:
                content = self._insist(content, about, rows, order)
        except OSError as error:
            raise OutputError(
                f"'{self.file}' could not be written: {error}. The tables and figures that are "
                "finished are there; make room or restore the access, and run the command again."
            ) from error
        return content

    def _insist(
        self, content: dict[str, Any], about: Mapping[str, Any], rows: Sequence[Row], order: Any
    ) -> dict[str, Any]:
        """Write again where another process has written at the same time."""
        for _ in range(_TRIES):
            time.sleep(_PAUSE_SECONDS)
            if self._holds(rows, overwrite=True):
                break
            content = self._merged(about, rows, order, overwrite=True)
            self.file.write_json(content)
        return content

    def _merged(
        self,
        about: Mapping[str, Any],
        rows: Sequence[Row],
        order: Sequence[str],
        *,
        overwrite: bool,
    ) -> dict[str, Any]:
        standing = self._read(overwrite=overwrite)
        before = {row["name"]: row for row in standing}
        new = {row["name"]: row for row in rows}
        # A recording of this call that was not reached keeps the row that it had.
        last = [new.get(name) or before[name] for name in order if name in new or name in before]
        named = set(order)
        return {**about, "recordings": [*(r for r in standing if r["name"] not in named), *last]}

    def _holds(self, rows: Sequence[Row], overwrite: bool) -> bool:
        """Whether there is a row of each recording as this call would list it."""
        there = {row["name"]: row for row in self._read(overwrite=overwrite)}
        return all(
            row["name"] in there
            and there[row["name"]].get("status") in ("ok", "skipped", row["status"])
            and _lasting(there[row["name"]]) == _lasting(row)
            for row in rows
        )

    def _read(self, *, overwrite: bool) -> list[Row]:
        """The rows that stand there; a file of that name from elsewhere is not replaced."""
        if not self.file.exists():
            return []
        try:
            content = self.file.read_json()
            if content["weighting"] and all("name" in row for row in content["recordings"]):
                return list(content["recordings"])
        except FileNotFoundError:
            return []
        except OSError as error:
            found, first = unreadable(error)
            raise StaleError(
                f"'{self.file}' {found}. Expected the list of what stands in its folder, which "
                f"'valence predict' writes. {first}Run the command again, or choose another folder."
            ) from error
        except (ValueError, KeyError, TypeError):
            pass
        if overwrite:
            return []
        raise StaleError(
            f"'{self.file}' is damaged, or was not written by this program. Add --overwrite to "
            "replace it, or choose another folder."
        )


def _lasting(row: Row) -> Row:
    """A row less what differs between the call that made the files and one that found them."""
    return {key: value for key, value in row.items() if key not in ("status", "seconds")}
