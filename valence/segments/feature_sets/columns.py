"""Find the columns of a feature set: those of most recordings' files."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor

from valence.errors import FeatureError
from valence.formatting import plural
from valence.segments.feature_sets.files import read_columns
from valence.storage.filenames import printable
from valence.storage.location import Location

_AT_ONCE = 8


def agreed_columns(name: str, files: Mapping[str, Location]) -> tuple[tuple[str, ...], str]:
    """Find the columns that more than half of the files have, in any order.

    Parameters
    ----------
    name
        Name of the set.
    files
        File of each recording by Id, at least one. Files of no recording must not be among them: a
        leftover of another program would decide which recordings take part.

    Returns
    -------
    The columns in the order of the first such file, and words for whose they are.

    Raises
    ------
    FeatureError
        If no header can be used, or no columns are those of more than half of the others.
    """
    ordered = [files[each] for each in sorted(files)]
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        found = list(pool.map(_columns_or_error, ordered))
    read = {
        file: columns
        for file, columns in zip(ordered, found, strict=True)
        if not isinstance(columns, FeatureError)
    }
    if not read:
        raise next(each for each in found if isinstance(each, FeatureError))
    votes = Counter(frozenset(columns) for columns in read.values())
    (winner, count), *others = votes.most_common()
    first = {kind: next(f for f, columns in read.items() if {*columns} == kind) for kind in votes}
    if 2 * count <= len(read):
        other = others[0][0]
        raise FeatureError(
            f"The files of the feature set '{name}' have different columns: "
            f"'{printable(first[winner].name)}' has {plural(len(winner), 'feature')}, "
            f"'{printable(first[other].name)}' {len(other)}, and no columns are those of more than "
            f"half of the {len(read)} files. Expected the same columns in each; make the set again "
            "by one program."
        )
    file = first[winner]
    few = "" if len(read) == 1 else f", like {count} of {len(read)} files of the set '{name}'"
    return read[file], f"'{printable(file.name)}'{few}"


def _columns_or_error(file: Location) -> tuple[str, ...] | FeatureError:
    try:
        return read_columns(file)
    except FeatureError as error:
        return error
