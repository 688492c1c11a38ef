"""State the meaning of an interval, in the same words everywhere."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from valence.formatting import SUBJECTS, Unit, interval
from valence.uncertainty import FEWEST, fewest_subjects


def verdict(name: str, other: str, difference: Mapping[str, Any], unit: Unit = SUBJECTS) -> str:
    """Say whether the CCCs of `name` and `other` differ by more than chance.

    Parameters
    ----------
    name, other
        The two predictors.
    difference
        `Difference.to_json()` of the CCC of `name` minus that of `other`.
    unit
        Unit that the interval counts.

    >>> found = {"ci": (0.1, 0.2), "subjects": 8, "comparisons": 1}
    >>> verdict("B", "A", found)
    'B is better than A: the interval leaves out 0.'
    >>> verdict("B", "A", {**found, "ci": (-0.1, 0.2)})
    'B and A cannot be told apart: the interval holds 0.'
    >>> verdict("B", "A", {**found, "ci": None, "subjects": 2})
    'B and A cannot be told from so few: there are 2 subjects, and a verdict takes 6.'
    >>> verdict("B", "A", found, Unit("recording", "subjects unknown"))
    'B is better than A: the interval over recordings (subjects unknown) leaves out 0.'
    """
    ci = difference["ci"]
    if ci is None:
        there, takes = difference["subjects"], fewest_subjects(difference["comparisons"])
        if there < takes:
            return (
                f"{name} and {other} cannot be told from so few: there "
                f"{'is' if there == 1 else 'are'} {unit.count(there)}, and a verdict takes "
                f"{takes}."
            )
        return f"{name} and {other}: no verdict, because sweep.bootstrap is 0."
    if ci[0] > 0 or ci[1] < 0:
        better = "better" if ci[0] > 0 else "worse"
        return f"{name} is {better} than {other}: the interval{unit.over} leaves out 0."
    return f"{name} and {other} cannot be told apart: the interval{unit.over} holds 0."


def interval_words(scores: Mapping[str, Any], unit: Unit = SUBJECTS) -> str:
    """Write the interval of `Scores.to_json()` in words, or say why there is none.

    >>> interval_words({"ccc_ci": (0.1, 0.2), "subjects": 8})
    '95 % interval [0.100, 0.200]'
    >>> interval_words({"ccc_ci": None, "subjects": 2})
    'no interval: 2 subjects, and it takes 6'
    >>> interval_words({"ccc_ci": (0.1, 0.2)}, Unit("recording", "subjects unknown"))
    '95 % interval over recordings (subjects unknown) [0.100, 0.200]'
    """
    if scores["ccc_ci"] is not None:
        return f"95 % interval{unit.over} {interval(scores['ccc_ci'])}"
    there = scores["subjects"]
    if there is not None and there < FEWEST:
        return f"no interval: {unit.count(there)}, and it takes {FEWEST}"
    return "no interval"
