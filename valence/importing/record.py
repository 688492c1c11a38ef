"""Keep the record of an import, `metadata/import.json`, and recognise what an import wrote."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from valence.errors import OutputError
from valence.storage.location import Location

RECORD = "metadata/import.json"
_FORMAT = 1


def checksum(content: bytes) -> str:
    """Return the SHA-256 of a text's bytes in hexadecimal digits."""
    return hashlib.sha256(content).hexdigest()


def require_own(out: Location, record: Mapping[str, Any]) -> dict[str, str]:
    """Return the files that an earlier import wrote here, with the checksums of the texts.

    Raises
    ------
    OutputError
        If the folder holds something else, or a text was changed since it was written.
    """
    file = out / RECORD
    if not file.exists():
        if out.exists() and (not out.is_folder() or out.everything()):
            raise OutputError(
                f"'{out}' is not empty, and no import made it. Expected a new or empty folder; "
                "name another one (--out)."
            )
        return {}
    try:
        earlier = file.read_json()
        same = all(earlier.get(key) == record[key] for key in record)
        files = dict(earlier.get("files", {}))
    except (OSError, ValueError, AttributeError, TypeError):
        same, files = False, {}
    if not same:
        raise OutputError(
            f"'{out}' was imported from another source or in another form. Expected the same, or "
            "a new folder; name another one (--out), or delete it first."
        )
    for path, stated in files.items():
        text = out / path
        if stated and text.exists() and checksum(text.read_bytes()) != stated:
            raise OutputError(
                f"'{text}' was changed since it was imported. Expected it unchanged, because the "
                "import would overwrite it; move it away, or import to another folder (--out)."
            )
    return files


def require_free(out: Location, own: Collection[str], planned: Iterable[str]) -> None:
    """Refuse to write over files that no import wrote, such as a table that a user added.

    Parameters
    ----------
    out
        The folder of the corpus.
    own
        The files that an earlier import wrote.
    planned
        The files that are to be written.

    Raises
    ------
    OutputError
        If a planned file is there and is not the import's own.
    """
    listings: dict[str, Collection[str]] = {}
    for path in planned:
        folder, _, name = path.rpartition("/")
        if folder not in listings:
            listings[folder] = (out / folder).listing()
        if name in listings[folder] and path not in own:
            raise OutputError(
                f"'{out / path}' is there and was not imported. Expected no such file, because the "
                "import would overwrite it; move it away, or import to another folder (--out)."
            )


def write_record(
    out: Location,
    record: Mapping[str, Any],
    entries: Mapping[str, Any],
    written: Mapping[str, str],
    aside: Sequence[str],
    remarks: Sequence[str],
    *,
    complete: bool,
) -> None:
    """Write the record.

    Parameters
    ----------
    out
        The folder of the corpus.
    record
        Command, source, declaration and settings.
    entries
        The origin of each recording's files, by Id.
    written
        The files of the corpus, with the checksums of the texts.
    aside
        What was set aside.
    remarks
        What was remarked on.
    complete
        Whether the import has ended.
    """
    content = {
        "format": _FORMAT,
        **record,
        "complete": complete,
        "set_aside": list(aside),
        "remarks": list(remarks),
        "recordings": dict(entries),
        "files": dict(written),
    }
    (out / RECORD).write_json(content)
