"""`prediction.json`: what a folder of predictions holds, a row a recording, whoever made it.

The file checks itself. Where it is lost or was changed, the rows are read from the tables of the
recordings, which say the same.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from valence.errors import OutputError, StaleError
from valence.prediction.files import standing_rows
from valence.provenance import fingerprint
from valence.storage.kept_file import parse_json, require_table, unreadable
from valence.storage.location import Location

# Raised when another version of this program could not read the file.
_FORMAT = 1

# Writes on a store without locks until the rows are found there that were written.
_TRIES = 5
_PAUSE_SECONDS = 0.2

# A row of these says that nothing was made, so it takes no other's place.
_IDLE = ("skipped", "stale")
# Statuses of the files that are there.
_STANDS = ("ok", "skipped")

Row = dict[str, Any]


@dataclass(frozen=True)
class _Standing:
    """What a whole file says beside its rows, and its rows."""

    about: dict[str, Any]
    rows: list[Row]


@dataclass(frozen=True)
class Listing:
    """The file `prediction.json` of a folder of predictions.

    Parameters
    ----------
    file
        Where it lies.
    """

    file: Location

    def check(self, *, overwrite: bool) -> str:
        """Refuse a file of that name that this program did not write.

        Returns
        -------
        A remark where the file is ours and was changed since it was written, so that `merge` makes
        it again; else `""`.

        Raises
        ------
        StaleError
            If there is one and `overwrite` is False.
        """
        if not self.file.exists() or self._read(overwrite=overwrite) is not None:
            return ""
        return (
            f"'{self.file}' is not what was written, and is made again from the tables beside it; "
            "what was set aside before is not listed any more"
        )

    def merge(
        self,
        about: Mapping[str, Any],
        rows: Sequence[Row],
        *,
        order: Sequence[str],
        overwrite: bool = False,
    ) -> dict[str, Any]:
        """Add rows to what stands there, atomically; rows of the same recordings are replaced.

        A stale row replaces none, because the files that the standing row tells of are still there.
        If no file of this call stands there, what the file says beside its rows stays as it was.

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
        already, or to leave those of another model, and others failed as the file says of them, it
        is not touched, so that its folder may be read-only.

        Raises
        ------
        OutputError
            If it cannot be written.
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
        if standing is None:
            made = {row["name"] for row in rows if row["status"] != "stale"}
            found = standing_rows(self._folder, but=made)
            # Who has made them last is not known.
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
        # As JSON gives it back, which is what the digest is compared with.
        content = json.loads(json.dumps(content))
        return {**content, "digest": fingerprint(content)}

    def _holds(self, rows: Sequence[Row], overwrite: bool) -> bool:
        """Whether the file is whole and has a row of each recording as this call would list it."""
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
        """What stands there, or None if the file is missing or not what was written.

        A file of that name from elsewhere is refused, unless it is to be replaced.
        """
        try:
            content = parse_json(self.file.read_bytes())
            require_table(content, {"weighting": str, "recordings": list})
            for row in content["recordings"]:
                require_table(row, {"name": str})
            digest = content.pop("digest", None)
            # Older versions wrote neither a digest nor a format.
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

    @property
    def _folder(self) -> Location:
        return self.file.parent


def _lasting(row: Row) -> Row:
    """A row less what differs between the call that made the files and one that found them."""
    return {key: value for key, value in row.items() if key not in ("status", "seconds")}
