"""Keep `prediction.json`, the list of all predictions in a folder, one row per recording.

The file contains its own digest. If the file is lost or was changed, its rows are rebuilt from the
recordings' tables, which hold the same facts.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from valence.errors import OutputError, StaleError
from valence.prediction.standing import standing_rows
from valence.provenance import fingerprint
from valence.storage.kept_file import parse_json, require_table, unreadable
from valence.storage.location import Location

# Raise this number when older versions of this program cannot read the file any more.
_FORMAT = 1

# Number of times, and pause between them, that a file on a store without locks is read again to
# see whether the written rows are still there.
_TRIES = 5
_PAUSE_SECONDS = 0.2

# Statuses of recordings for which this call made no files.
_IDLE = ("skipped", "stale")
# Statuses of recordings whose files exist.
_STANDS = ("ok", "skipped")

Row = dict[str, Any]


@dataclass(frozen=True)
class _Standing:
    """The content of an intact file: its rows, and all other keys."""

    about: dict[str, Any]
    rows: list[Row]


@dataclass(frozen=True)
class Listing:
    """The file `prediction.json` of a folder of predictions.

    Parameters
    ----------
    file
        Location of the file.
    """

    file: Location

    def check(self, *, overwrite: bool) -> str:
        """Refuse an existing `prediction.json` that this program did not write.

        Returns
        -------
        A remark if this program's file was changed after it was written, so that `merge` makes it
        again; otherwise `""`.

        Raises
        ------
        StaleError
            If the file cannot be read, or if another program wrote it and `overwrite` is False.
        """
        if not self.file.exists() or self._read(overwrite=overwrite) is not None:
            return ""
        return (
            f"'{self.file}' is not what was written, and is made again from the tables beside it; "
            "what was set aside before is not listed any more"
        )

    def rows(self) -> list[Row]:
        """Return the rows of the file; from the tables beside it, if the file is not intact."""
        standing = self._read(overwrite=True)
        return standing_rows(self.file.parent) if standing is None else standing.rows

    def merge(
        self,
        about: Mapping[str, Any],
        rows: Sequence[Row],
        *,
        order: Sequence[str],
        overwrite: bool = False,
    ) -> dict[str, Any]:
        """Add rows to the file atomically; they replace older rows of the same recordings.

        A stale row replaces no other row, because the files that the older row describes still
        exist. If this call has no files in the folder, all other keys of the file stay unchanged.

        Two processes may call this at once. On a disk the file is locked during the change. An
        object store has no locks: there the file is read again after writing, and rows that another
        process has overwritten are added again.

        Parameters
        ----------
        about
            All keys of the file except `recordings`.
        rows
            One row per recording, identified by `name`.
        order
            Names of this call's recordings. Their rows come last, in this order.
        overwrite
            Whether to replace a file that this program did not write.

        Returns
        -------
        The content of the file. If no row is new (recordings were skipped, stale, or failed as
        listed before), the file is not written, so its folder may be read-only.

        Raises
        ------
        OutputError
            If the file cannot be written.
        """
        content = self._merged(about, rows, order, overwrite=overwrite)
        before = self._read(overwrite=overwrite)
        known = [] if before is None else before.rows
        nothing_new = all(row["status"] in _IDLE or row in known for row in rows)
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
        """Write again until no other process has overwritten the rows, a few times at most."""
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
        if standing is None:
            made = {row["name"] for row in rows if row["status"] != "stale"}
            found = standing_rows(self.file.parent, but=made)
            # The tables do not say which model made the list last.
            unknown = dict.fromkeys(("model", "sha256", "regressor", "quality"))
            standing = _Standing({**about, **unknown} if found else {**about}, found)
        before = {row["name"]: row for row in standing.rows}
        new = {
            row["name"]: row
            for row in rows
            if row["status"] != "stale" or row["name"] not in before
        }
        # A recording of this call that was not reached keeps the row that it had.
        last = [new.get(name) or before[name] for name in order if name in new or name in before]
        named = set(order)
        here = any(row["status"] in _STANDS for row in new.values())
        content = {
            **(about if here else standing.about),
            "format": _FORMAT,
            "recordings": [*(r for r in standing.rows if r["name"] not in named), *last],
        }
        # Later digests are computed from parsed JSON, so this one is too.
        content = json.loads(json.dumps(content))
        return {**content, "digest": fingerprint(content)}

    def _holds(self, rows: Sequence[Row], overwrite: bool) -> bool:
        """Return whether the file is intact and lists each recording as this call would list it."""
        standing = self._read(overwrite=overwrite)
        if standing is None:
            return False
        there = {row["name"]: row for row in standing.rows}
        return all(
            row["name"] in there
            and (
                row["status"] == "stale"
                or (
                    there[row["name"]].get("status") in (*_STANDS, row["status"])
                    and _lasting(there[row["name"]]) == _lasting(row)
                )
            )
            for row in rows
        )

    def _read(self, *, overwrite: bool) -> _Standing | None:
        """Read the file; None if it is missing or differs from what was written.

        Raises `StaleError` for an unreadable file and, unless `overwrite` is True, for a damaged
        file or one that another program wrote.
        """
        try:
            content = parse_json(self.file.read_bytes())
            require_table(content, {"weighting": str, "recordings": list})
            for row in content["recordings"]:
                require_table(row, {"name": str})
            digest = content.pop("digest", None)
            # Accept files of older versions, which wrote neither a digest nor a format.
            if (digest is None and "format" not in content) or digest == fingerprint(content):
                rows = content.pop("recordings")
                return _Standing(content, rows)
        except FileNotFoundError:
            pass
        except OSError as error:
            found, first = unreadable(error)
            raise StaleError(
                f"'{self.file}' {found}. Expected the list of what stands in its folder, which "
                f"'valence predict' writes. {first}Run the command again, or choose another folder."
            ) from error
        except ValueError as error:
            if not overwrite:
                raise StaleError(
                    f"'{self.file}' is damaged, or was not written by this program ({error}). "
                    "Move it away, and the same command lists anew what stands in the folder; or "
                    "add --overwrite to replace it, or choose another folder."
                ) from error
        return None


def _lasting(row: Row) -> Row:
    """Drop the keys that differ between the call that made the files and a later one."""
    return {key: value for key, value in row.items() if key not in ("status", "seconds")}
