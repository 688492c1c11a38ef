"""Read what earlier predictions left in a folder, and tell whether somebody has changed it."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any, Literal

from valence.errors import first_line
from valence.prediction.outputs.predicted import Output, PredictionOutcome
from valence.storage.kept_file import parse_json
from valence.storage.location import Location
from valence.storage.manifest import digest_of
from valence.storage.seal import read_sealed

# The key of what the Parquet of a recording says about its files.
METADATA = b"valence"

# `absent`: there is no file; `intact`: it is as it was written; `changed`: somebody has changed it
# since; `foreign`: this program has not written it.
State = Literal["absent", "intact", "changed", "foreign"]


def standing_rows(out: Location, *, but: Collection[str] = ()) -> list[dict[str, Any]]:
    """Rebuild the rows of `prediction.json` from the files in `out`, sorted by name.

    The model and the regressor are None where an older version made the files. Incomplete files
    and files of other programs give no row. Files of the names in `but` are not read.
    """
    rows = []
    for file in sorted(out.files(), key=lambda each: each.name):
        if file.suffix != ".parquet":
            continue
        name = file.name.removesuffix(".parquet")
        about = None if name in but else read_about(out, name)
        if about is None or not about["whole"]:
            continue
        quality = about.get("quality") or {}
        warnings = (f"Warning: {warning}" for warning in quality.get("warnings", ()))
        rows.append(
            {
                **about["outcome"],
                "model": about.get("model"),
                "regressor": about.get("regressor"),
                "quality": " ".join((quality.get("sentence", ""), *warnings)).strip(),
            }
        )
    return rows


def read_about(out: Location, name: str) -> dict[str, Any] | None:
    """Read the metadata that an earlier prediction stored, or None if it left no file.

    `whole` says whether all files are still as they were written; older versions stored no digests.
    If the files are not known to be this program's, `made_of` is absent and `why_not` gives the
    reason.
    """
    parquet, csv, png = (out / f"{name}{suffix}" for suffix in (".parquet", ".csv", ".png"))
    found = [file.exists() for file in (parquet, csv, png)]
    if not any(found):
        return None
    if not found[0]:
        other = csv if found[1] else png
        why_not = f"'{other.name}' stands there without the '{parquet.name}' that says what made it"
        return {"whole": False, "why_not": why_not}
    try:
        with parquet.open() as source:
            about: dict[str, Any] = parse_json(read_sealed(source).schema.metadata[METADATA])
        PredictionOutcome(**about["outcome"])
        beside = about.get("beside", {})
        # Renamed files still hold the old name, in the table and in the figure.
        whole = all(found) and about["outcome"]["name"] == name
        whole = whole and all(
            file.suffix not in beside or digest_of(file) == beside[file.suffix]
            for file in (csv, png)
        )
        return {**about, "whole": whole, "made_of": about["made_of"]}
    # Another program may own these files, so they are replaced only with `overwrite`.
    except (KeyError, TypeError):
        why_not = "was not written by this program"
    except ValueError as error:
        why_not = f"is damaged, or was not written by this program ({first_line(error)})"
    except OSError as error:
        why_not = f"cannot be read ({first_line(error)})"
    return {"whole": False, "why_not": f"'{parquet.name}' {why_not}"}


def states_of(
    out: Location, name: str, about: Mapping[str, Any] | None, outputs: Iterable[Output]
) -> dict[str, State]:
    """Tell the state of each output of a recording, by its suffix.

    Parameters
    ----------
    out
        Folder of the files.
    name
        Name of the recording.
    about
        The answer of `read_about`.
    outputs
        The outputs.
    """
    noted = (about or {}).get("beside") or {}
    states: dict[str, State] = {}
    for output in outputs:
        file = out / f"{name}{output.suffix}"
        if not file.is_named():
            states[output.suffix] = "absent"
        elif output.suffix not in noted:
            states[output.suffix] = "foreign"
        else:
            same = file.exists() and digest_of(file) == noted[output.suffix]
            states[output.suffix] = "intact" if same else "changed"
    return states


def why_kept(name: str, suffix: str, state: State) -> str:
    """Say why a file that is changed or foreign is not replaced.

    >>> why_kept("talk", ".eaf", "changed")
    "'talk.eaf' has been changed since this program wrote it"
    """
    if state == "changed":
        return f"'{name}{suffix}' has been changed since this program wrote it"
    return f"'{name}{suffix}' stands there, and this program has not written it"
