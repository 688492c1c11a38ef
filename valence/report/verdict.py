"""Whether an interval of a difference tells two apart, in the same words everywhere."""

from __future__ import annotations

from collections.abc import Sequence


def verdict(name: str, other: str, ci: Sequence[float] | None) -> str:
    """What the paired interval of the CCC of `name` less that of `other` says.

    >>> verdict("B", "A", (0.1, 0.2))
    'B is better than A: the interval leaves out 0.'
    >>> verdict("B", "A", (-0.1, 0.2))
    'B and A cannot be told apart: the interval holds 0.'
    >>> verdict("B", "A", None)
    'B and A: no interval, for which it takes two subjects and a sweep.bootstrap above 0.'
    """
    if ci is None:
        return (
            f"{name} and {other}: no interval, for which it takes two subjects and a "
            "sweep.bootstrap above 0."
        )
    if ci[0] > 0 or ci[1] < 0:
        better = "better" if ci[0] > 0 else "worse"
        return f"{name} is {better} than {other}: the interval leaves out 0."
    return f"{name} and {other} cannot be told apart: the interval holds 0."
