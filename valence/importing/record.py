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


def made_by(command: str) -> str:
    """Say that a command made something, after "was".

    >>> made_by("import"), made_by("fuse")
    ('imported', "written by 'valence fuse'")
    """
    return "imported" if command == "import" else f"written by 'valence {command}'"


def require_own(out: Location, record: Mapping[str, Any]) -> dict[str, str]:
    """Return the files that the same command wrote here, with the checksums of the texts.

    Raises
    ------
    OutputError
        If the folder holds something else, or a text was changed since it was written.
    """
    file = out / RECORD
    command = str(record["command"])
    if not file.exists():
        if out.exists() and (not out.is_folder() or out.everything()):
            raise OutputError(
                f"'{out}' is not empty, and was not {made_by(command)}. Expected a new or "
                "empty folder; name another one (--out)."
            )
        return {}
    try:
        earlier = file.read_json()
        command = str(earlier.get("command", command))
        same = all(earlier.get(key) == record[key] for key in record)
        files = dict(earlier.get("files", {}))
    except (OSError, ValueError, AttributeError, TypeError):
        same, files = False, {}
    if not same:
        raise OutputError(
            f"'{out}' was {made_by(command)} from another source, in another form or with other "
            "settings. Expected the same, or a new folder; name another one (--out), or delete it "
            "first."
        )
    for path, stated in files.items():
        text = out / path
        if stated and text.exists() and checksum(text.read_bytes()) != stated:
            raise OutputError(
                f"'{text}' was changed since it was {made_by(command)}. Expected it unchanged, "
                "because it would be overwritten; move it away, or name another folder (--out)."
            )
    return files


def require_free(
    out: Location, own: Collection[str], planned: Iterable[str], *, command: str = "import"
) -> None:
    """Refuse to write over files of other origin, such as a table that a user added.

    Parameters
    ----------
    out
        The folder of the corpus.
    own
        The files that the same command wrote before.
    planned
        The files that are to be written.
    command
        The command that writes.

    Raises
    ------
    OutputError
        If a planned file is there and is not the command's own.
    """
    listings: dict[str, Collection[str]] = {}
    for path in planned:
        folder, _, name = path.rpartition("/")
        if folder not in listings:
            listings[folder] = (out / folder).listing()
        if name in listings[folder] and path not in own:
            raise OutputError(
                f"'{out / path}' is there and was not {made_by(command)}. Expected no such file, "
                "because it would be overwritten; move it away, or name another folder (--out)."
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
