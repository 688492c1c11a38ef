"""Record the origin of a result: versions, fingerprints, and differences of two records."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Mapping
from functools import cache
from importlib import metadata
from typing import Any

# The name of this program for `pip`, because "valence" on PyPI is another project.
DISTRIBUTION = "valence-speech"

_PACKAGES = (
    "ray",
    "torch",
    "numpy",
    "librosa",
    "soundfile",
    "av",
    "scipy",
    "scikit-learn",
    "scikit-learn-intelex",
    "xgboost",
    "pyarrow",
    "pandas",
)


def versions() -> dict[str, str]:
    """Return the versions of Python, `valence` and the packages that a result may depend on.

    The packages are not imported.
    """
    return dict(_versions())


# Reading the versions of all packages takes a tenth of a second, and each record states them.
@cache
def _versions() -> Mapping[str, str]:
    found = {"python": ".".join(str(part) for part in sys.version_info[:3])}
    for name, distribution in [("valence", DISTRIBUTION), *((each, each) for each in _PACKAGES)]:
        try:
            found[name] = metadata.version(distribution)
        except metadata.PackageNotFoundError:
            found[name] = "not installed"
    return found


def fingerprint(made_of: Mapping[str, Any]) -> str:
    """Compute the SHA-256 of the canonical JSON of `made_of`, as 64 hexadecimal digits.

    >>> fingerprint({"b": 1, "a": 2}) == fingerprint({"a": 2, "b": 1})
    True
    """
    text = json.dumps(made_of, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def difference(old: Mapping[str, Any], new: Mapping[str, Any], *, most: int = 6) -> str:
    """Describe the differences between two nested mappings in words.

    >>> difference({"train": {"epochs": 3}}, {"train": {"epochs": 5}})
    'train.epochs is 3 there and 5 here'
    """
    before, after = dict(_leaves(old)), dict(_leaves(new))
    keys = [key for key in before | after if before.get(key) != after.get(key)]
    described = [
        f"{key} is {before.get(key, 'absent')} there and {after.get(key, 'absent')} here"
        for key in keys[:most]
    ]
    if len(keys) > most:
        described.append(f"and {len(keys) - most} more")
    return "; ".join(described)


def _leaves(tree: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    found: list[tuple[str, Any]] = []
    for key, value in tree.items():
        if isinstance(value, Mapping):
            found += _leaves(value, f"{prefix}{key}.")
        else:
            found.append((f"{prefix}{key}", value))
    return found
