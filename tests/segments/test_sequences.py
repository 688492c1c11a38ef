"""Windows are naive slices, cross nothing, and follow from seed and epoch alone."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from valence.segments.sequences import LabelOf, Outline, Span, window_targets, windows
from valence.training.data.sampling import Sampling, epoch_plan, window_starts


def _sampling(**changes: object) -> Sampling:
    values = {
        "length": 4,
        "stride": 3,
        "random": False,
        "windows_per_group": 1,
        "batch_size": 5,
        "pool": 10**6,
    }
    return Sampling(**{**values, **changes})  # type: ignore[arg-type]


def _outline(*lengths: int, copies: int = 1) -> Outline:
    spans, offset = [], 0
    for number, length in enumerate(lengths):
        for copy in range(copies):
            spans.append(Span(f"r{number}", copy, offset, length))
            offset += length
    target = np.arange(offset, dtype=np.float32)[:, None]
    return Outline(target, tuple(spans))


def _groups(outline: Outline, sampling: Sampling, **asked: int) -> list[np.ndarray]:
    plan = epoch_plan(outline, sampling, **{"seed": 0, "epoch": 1, **asked})
    return [batch for pool in plan for batch in pool.batches]


def test_windows_of_forty_at_stride_one_are_all_there_are() -> None:
    assert windows(40, 1, segments=600).tolist() == list(range(561))
    assert windows(40, 10, segments=40).tolist() == [0]
    assert windows(40, 10, segments=39).tolist() == []


@pytest.mark.parametrize("of", ["mean", "last", "centre"])
def test_targets_are_those_of_naive_slices(of: LabelOf) -> None:
    target = np.random.default_rng(0).normal(size=(30, 2)).astype(np.float32)
    target[12, 1] = np.nan
    starts = np.array([0, 3, 9, 20])
    got = window_targets(target, starts, 7, of)
    assert got.dtype == np.float32
    for row, start in enumerate(starts):
        held = target[start : start + 7]
        expected = {"mean": held.mean(axis=0), "last": held[-1], "centre": held[3]}[of]
        if start == 9:
            assert np.isnan(got[row, 1])
            assert np.isfinite(got[row, 0]) == np.isfinite(held[:, 0]).all()
        else:
            np.testing.assert_allclose(got[row], expected, rtol=1e-6)


def test_an_epoch_of_fixed_phase_holds_every_window_once() -> None:
    outline = _outline(13, 4, 3, 8, copies=2)
    batches = _groups(outline, _sampling())
    expected = [
        span.offset + start for span in outline.spans for start in range(0, span.length - 3, 3)
    ]
    assert sorted(np.concatenate(batches)) == expected
    assert [len(batch) for batch in batches[:-1]] == [5] * (len(batches) - 1)


def test_a_last_batch_of_one_window_is_left_out() -> None:
    # 13 segments hold windows at 0, 3, 6, 9: with batches of 3 one is left over.
    assert [len(batch) for batch in _groups(_outline(13), _sampling(batch_size=3))] == [3]
    assert [len(batch) for batch in _groups(_outline(16), _sampling(batch_size=3))] == [3, 2]
    assert [len(b) for b in _groups(_outline(16), _sampling(batch_size=3), least=3)] == [3]


def test_windows_with_an_unknown_label_are_left_out() -> None:
    outline = _outline(20)
    outline.target[7] = np.nan
    got = np.sort(np.concatenate(_groups(outline, _sampling(stride=1, batch_size=13))))
    assert got.tolist() == [start for start in range(17) if not start <= 7 < start + 4]


def test_random_phases_reach_every_window_and_change_by_copy_and_epoch() -> None:
    outline = _outline(30, copies=2)
    seen = set()
    firsts = []
    for epoch in range(1, 40):
        starts = np.sort(np.concatenate(_groups(outline, _sampling(random=True), epoch=epoch)))
        firsts.append((starts.min(), starts[starts >= 30].min() - 30))
        seen |= set(starts.tolist())
    assert seen == set(range(27)) | set(range(30, 57))
    assert {first for first, _ in firsts} == {0, 1, 2}
    assert any(first != second for first, second in firsts)


def test_a_recording_of_one_window_keeps_it_at_any_phase() -> None:
    for epoch in range(5):
        plan = epoch_plan(_outline(4, 4), _sampling(random=True), seed=1, epoch=epoch)
        assert sorted(np.concatenate(plan[0].batches)) == [0, 4]


@given(
    lengths=st.lists(st.integers(1, 40), min_size=1, max_size=6),
    length=st.integers(1, 7),
    stride=st.integers(1, 5),
    windows_per_group=st.integers(1, 4),
    random=st.booleans(),
    pool=st.sampled_from([10, 50, 10**6]),
)
def test_groups_cross_no_border_and_repeat_nothing(
    lengths: list[int], length: int, stride: int, windows_per_group: int, random: bool, pool: int
) -> None:
    outline = _outline(*lengths, copies=2)
    sampling = Sampling(length, stride, random, windows_per_group, 2 * windows_per_group, pool)
    plan = epoch_plan(outline, sampling, seed=3, epoch=2)
    starts = [start for each in plan for batch in each.batches for start in batch]
    assert len(set(starts)) == len(starts)
    owner = {}
    for span in outline.spans:
        owner |= dict.fromkeys(range(span.offset, span.offset + span.length), span)
    for each in plan:
        held = sum(span.length for span in each.spans)
        assert held <= pool or len(each.spans) == 1
        for start in (start for batch in each.batches for start in batch):
            span = owner[start]
            assert span in each.spans
            assert start + sampling.group_segments <= span.offset + span.length
    assert sorted(span.offset for each in plan for span in each.spans) == [
        span.offset for span in outline.spans
    ]


def test_the_order_follows_from_seed_and_epoch_alone() -> None:
    outline = _outline(50, 31, copies=2)

    def order(seed: int, epoch: int) -> list[int]:
        return np.concatenate(
            _groups(outline, _sampling(random=True), seed=seed, epoch=epoch)
        ).tolist()

    assert order(0, 1) == order(0, 1)
    assert order(0, 1) != order(0, 2)
    assert order(0, 1) != order(1, 1)


def test_windows_of_groups_follow_each_other() -> None:
    sampling = _sampling(windows_per_group=3, stride=2)
    assert sampling.group_segments == 8
    assert window_starts(np.array([10, 40]), sampling).tolist() == [10, 12, 14, 40, 42, 44]
