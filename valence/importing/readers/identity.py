"""Make the Id of a recording from what a source calls it."""

from __future__ import annotations

from valence.errors import AnnotationError
from valence.storage.filenames import MOST_BYTES, bare, normal
from valence.storage.location import Location

# The longest ending of an audio file that is named for the Id.
_ENDING_BYTES = 8


def recording_id(text: str | None, file: Location, line: int | None = None) -> str:
    """Return the Id that a text means: without folders and ending, in Unicode's form NFC.

    Raises
    ------
    AnnotationError
        If the text cannot name a file of the corpus: it is empty, begins with a point (such files
        are hidden), holds a control character, or is too long.

    >>> recording_id("audio/03a01Fa.wav", Location.parse("labels.csv"))
    '03a01Fa'
    """
    name = normal(bare(text or "")).strip()
    if not name:
        problem = "is empty"
    elif name.startswith("."):
        problem = "begins with a point, like a hidden file"
    elif not name.isprintable():
        problem = "holds a character that is not printable"
    elif len(name.encode()) > MOST_BYTES - _ENDING_BYTES:
        problem = "is too long for the name of a file"
    else:
        return name
    place = f"'{file}'" if line is None else f"'{file}', line {line}"
    raise AnnotationError(
        f"{place}: the Id {name!r} {problem}. Expected the name of a recording; rename it, or "
        "declare Ids otherwise (id = ... in a declaration)."
    )
