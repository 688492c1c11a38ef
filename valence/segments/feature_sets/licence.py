"""Know the licence that binds the features of a set."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

OPENSMILE = (
    "openSMILE and features computed with it may not be used commercially without a licence from "
    "audEERING (audEERING Research License Agreement)"
)
"""The bond of features that openSMILE computed, whoever did it."""

# openSMILE's own names of smoothed descriptors, in eGeMAPS and in ComParE.
_OPENSMILE_MARKS = ("_sma3", "_sma_", "sma_de_")


def licence_of(columns: Iterable[str], about: Mapping[str, Any]) -> str | None:
    """Return the bond of a set's features in words, or None if none is known.

    Parameters
    ----------
    columns
        Names of the features; openSMILE's can be told by their endings.
    about
        Content of `set.json`, whose `licence` comes first.

    >>> licence_of(["F0semitoneFrom27.5Hz_sma3nz_amean"], {}) == OPENSMILE
    True
    >>> licence_of(["0", "1"], {"licence": "CC BY-NC 4.0"}), licence_of(["0", "1"], {})
    ('CC BY-NC 4.0', None)
    """
    stated = about.get("licence")
    if isinstance(stated, str) and stated:
        return stated
    smiles = any(mark in name for name in columns for mark in _OPENSMILE_MARKS)
    return OPENSMILE if smiles else None
