"""Errors of verdicts and cover of intervals, in simulated predictors; shares by hand."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats
from scipy.signal import lfilter

from valence.metrics import concordance, paired_difference, score
from valence.uncertainty import (
    FEWEST,
    ccc_of_sums,
    fewest_subjects,
    interval_of_ccc,
    interval_of_difference,
    interval_of_mean_share,
    shares_of_difference,
    sums_by_subject,
)

Array = NDArray[np.float64]
_LONGEST = 200
_CASES = 1000


def _slow(generator: np.random.Generator, cases: int, subjects: int, kept: float) -> Array:
    """Values of which so much is kept from one to the next, as in overlapping sequences."""
    white = np.sqrt(1 - kept**2) * generator.standard_normal((cases, subjects, _LONGEST))
    white[..., 0] /= np.sqrt(1 - kept**2)
    slow: Array = lfilter([1.0], [1.0, -kept], white)
    return slow


def _simulate(
    subjects: int,
    *,
    first: tuple[float, ...],
    second: tuple[float, ...],
    cases: int,
    seed: int,
    kept: float = 0.95,
    uneven: float = 1.0,
) -> tuple[Array, Array]:
    """Sums by subject `[cases, subjects, 6]` of two predictors.

    Each is (slope, spread of the subjects' own errors, spread of the errors within a subject).
    Subjects differ in length and, by `uneven`, in how much their labels vary and in the size of
    errors; the first subject is as long as the longest can be.
    """
    generator = np.random.default_rng(seed)
    length = generator.integers(30, _LONGEST, (cases, subjects))
    length[:, 0] = _LONGEST
    there = np.arange(_LONGEST) < length[..., None]

    def of_subjects() -> Array:
        return generator.standard_normal((cases, subjects, 1))

    y = 0.15 * of_subjects() + 0.15 * np.exp(0.4 * uneven * of_subjects()) * _slow(
        generator, cases, subjects, kept
    )
    found = []
    for slope, own, within in (first, second):
        # The mean square of the factor is 1, so that equal spreads are equal errors.
        factor = np.exp(0.3 * uneven * of_subjects() - (0.3 * uneven) ** 2)
        noise = within * factor * _slow(generator, cases, subjects, kept)
        p = slope * y + own * of_subjects() + noise
        parts = (np.ones_like(y), y, p, y * y, p * p, y * p)
        found.append(np.stack([np.where(there, each, 0).sum(-1) for each in parts], -1))
    return found[0], found[1]


def _told_apart(first: Array, second: Array) -> float:
    """Share of the cases in which a verdict says that the two differ."""
    output = 0
    for one, other in zip(first, second, strict=True):
        ends = interval_of_difference(one, other)
        output += ends is not None and (ends[0] > 0 or ends[1] < 0)
    return output / len(first)


@pytest.mark.parametrize("subjects", [2, 3, 5, 8, 12, 20])
@pytest.mark.parametrize(
    "second", [(0.5, 0.1, 0.1), (0.5, 0.03, 0.14)], ids=["alike", "other errors"]
)
def test_equals_are_seldom_told_apart(subjects: int, second: tuple[float, ...]) -> None:
    """An equal CCC, of errors of the same kind or of subjects' own against those within."""
    first = second if second[1] == 0.1 else (0.5, 0.14, 0.03)
    pair = _simulate(subjects, first=first, second=second, cases=_CASES, seed=subjects)
    assert _told_apart(*pair) <= 0.06


@pytest.mark.parametrize("subjects", [2, 3, 5, 6, 8, 12, 20])
def test_errors_between_subjects_and_within_are_seldom_told_apart(subjects: int) -> None:
    """An equal CCC where one errs by each subject's offset alone, the other from moment to moment.

    Most subjects' offsets are small and few are large, so that most shares have one sign: turning
    signs alone tells these apart in 7 to 10 % of the cases with 6 to 20 subjects.
    """
    pair = _simulate(
        subjects,
        first=(0.9, 0.1, 0.0),
        second=(0.9, 0.0, 0.1),
        cases=_CASES,
        seed=subjects,
        kept=0.7,
        uneven=0.0,
    )
    assert _told_apart(*pair) <= 0.06


@pytest.mark.parametrize(("subjects", "least"), [(6, 0.6), (8, 0.8), (12, 0.95)])
def test_a_clear_difference_is_found(subjects: int, least: float) -> None:
    pair = _simulate(subjects, first=(0.3, 0.12, 0.12), second=(0.8, 0.04, 0.04), cases=300, seed=1)
    assert _told_apart(*pair) >= least


@pytest.mark.parametrize("subjects", [6, 8, 12, 20])
def test_intervals_hold_the_true_ccc(subjects: int) -> None:
    kind = (0.5, 0.1, 0.1)
    many, _ = _simulate(400, first=kind, second=kind, cases=20, seed=9)
    # The first subject is longer than the others in the cases below only.
    true = float(ccc_of_sums(many[:, 1:].sum(axis=(0, 1))))
    first, _ = _simulate(subjects, first=kind, second=kind, cases=1000, seed=subjects)
    ends = [interval_of_ccc(sums) for sums in first]
    held = np.mean([each is not None and each[0] <= true <= each[1] for each in ends])
    assert 0.94 <= held < 0.99


def test_shares_add_up_and_turn_with_their_subject() -> None:
    rng = np.random.default_rng(0)
    who = np.repeat(np.arange(7), [5, 9, 13, 6, 8, 10, 7])
    y = rng.normal(size=58)
    a, b = 0.5 * y + rng.normal(size=58), 0.7 * y + rng.normal(size=58)
    first, second = sums_by_subject(y, a, who), sums_by_subject(y, b, who)
    shares = shares_of_difference(first, second)
    assert shares.sum() == pytest.approx(concordance(y, b) - concordance(y, a), abs=1e-9)
    np.testing.assert_allclose(shares_of_difference(second, first), -shares, atol=1e-12)


def test_the_interval_of_six_is_from_their_least_to_their_greatest_share() -> None:
    shares = np.array([0.3, 0.1, 0.5, 0.2, 0.4, 0.6])
    assert interval_of_mean_share(shares) == pytest.approx((0.6, 3.6))
    assert interval_of_mean_share(shares[:5]) is None
    assert interval_of_mean_share(shares, comparisons=3) is None
    assert (fewest_subjects(), FEWEST, fewest_subjects(10)) == (6, 6, 10)


def _jackknifed(y: Array, first: Array, second: Array, who: Array, error: float) -> Array:
    """The difference's interval by the jackknife, from the rows and not from sums."""

    def transforms(there: NDArray[np.bool_]) -> Array:
        found = [concordance(y[there], each[there]) for each in (first, second)]
        return np.arctanh(found)

    whole = transforms(np.ones(len(y), bool))
    left = np.array([transforms(who != each) for each in np.unique(who)])
    off = np.diff(left).ravel() - np.diff(whole)
    people = len(off)
    reach = stats.t.isf(error / 2, people - 1) * np.sqrt((people - 1) / people * np.sum(off**2))
    ends = np.diff(whole) + np.array([-reach, reach])
    found: Array = np.tanh(whole.mean() + ends / 2) - np.tanh(whole.mean() - ends / 2)
    return found


@pytest.mark.parametrize("comparisons", [1, 3])
def test_a_difference_needs_both_judgements(comparisons: int) -> None:
    rng = np.random.default_rng(0)
    wider = set()
    for _ in range(20):
        who = rng.integers(0, 9, 60)
        y = rng.normal(size=60)
        a, b = (y + rng.normal(size=60) * rng.choice([0.3, 1, 4], 9)[who] for _ in "ab")
        sums = [sums_by_subject(y, each, who) for each in (a, b)]
        turned = interval_of_mean_share(shares_of_difference(*sums), comparisons=comparisons)
        assert turned is not None
        left_out = _jackknifed(y, a, b, who, 0.03 / comparisons)
        expected = min(turned[0], left_out[0]), max(turned[1], left_out[1])
        assert interval_of_difference(*sums, comparisons=comparisons) == pytest.approx(expected)
        wider |= {turned[0] < left_out[0], turned[1] > left_out[1]}
    assert wider == {True, False}


def test_all_ways_and_drawn_ones_agree(monkeypatch: pytest.MonkeyPatch) -> None:
    shares = np.random.default_rng(4).normal(0.1, 1, 14)
    exact = interval_of_mean_share(shares)
    monkeypatch.setattr("valence.uncertainty._ALL_WAYS", 0)
    drawn = interval_of_mean_share(shares, draws=50_000)
    assert exact is not None
    assert drawn == pytest.approx(exact, rel=0.05)


def test_under_six_subjects_nothing_is_told() -> None:
    rng = np.random.default_rng(2)
    y = rng.normal(size=100)
    for people in (1, 2, 5):
        who = np.arange(100) % people
        assert score(y, y + 0.1, subjects=who, bootstrap=1000).ccc_ci is None
        found = paired_difference(y, rng.normal(size=100), y, who, bootstrap=1000)
        assert (found.ci, found.subjects) == (None, people)
