"""From raters to a gold standard: twelve simulated raters whose faults are known."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.helpers.raters import CONTRARY, RATERS, STEP, simulated, trace
from valence.config import FuseConfig
from valence.fusion.gold_standard import agreement_over, fuse_traces
from valence.metrics import concordance

NAN = np.nan
_PLAIN: dict[str, Any] = {"standardize": "none", "align": "none", "smooth": "none"}
_WAVE = np.array([-0.3, -0.1, 0.2, 0.4, 0.1, -0.2, -0.4, 0.0])


@pytest.mark.parametrize("method", ["mean", "median", "ewe", "ccc", "leave_one_out"])
@pytest.mark.parametrize("seed", range(3))
def test_the_true_curve_of_twelve_raters_is_recovered(method: str, seed: int) -> None:
    panel = simulated(seed)
    (fused,) = fuse_traces(panel.traces, FuseConfig(method=method))  # type: ignore[arg-type]
    known = np.isfinite(fused.curve)
    assert known.mean() > 0.98
    assert concordance(panel.true[known], fused.curve[known]) > 0.95
    found = np.array([part.delay for part in fused.parts])
    assert np.abs(found - panel.delays * STEP).max() <= STEP
    assert [part.name for part in fused.parts if part.contrary] == [str(CONTRARY)]
    assert fused.parts[CONTRARY].weight == 0
    assert fused.parts[CONTRARY].correlation < -0.5
    assert sum(part.weight for part in fused.parts) == pytest.approx(1)
    np.testing.assert_allclose(
        [fused.parts[rater].coverage for rater in (2, 3, 4, 6)],
        [1, 1 - 100 / 1200, 1 - 300 / 1200, 1 - 79 / 1200],
    )


def test_each_step_brings_the_curve_nearer() -> None:
    panel = simulated(0)

    def reached(**settings: Any) -> float:
        (fused,) = fuse_traces(panel.traces, FuseConfig(**settings))
        known = np.isfinite(fused.curve)
        return concordance(panel.true[known], fused.curve[known])

    plain = reached(**_PLAIN, method="mean", contrary="keep")
    dropped = reached(**_PLAIN, method="mean")
    aligned = reached(standardize="none", smooth="none", method="mean")
    assert plain < dropped < aligned
    assert aligned - dropped > 0.05


def test_the_plain_mean_by_hand() -> None:
    (fused,) = fuse_traces(
        [
            trace([0.0, 2.0, 4.0, 4.0], scale=(0, 4)),
            trace([4.0, 2.0, 4.0], rater="b", scale=(0, 4)),
        ],
        FuseConfig(**_PLAIN, method="mean", contrary="keep"),
    )
    np.testing.assert_allclose(fused.curve, [0.0, 0.0, 1.0, 1.0])
    assert [part.weight for part in fused.parts] == [0.5, 0.5]
    assert fused.remarks == ("raters who cover a part of it: 'b' (75%)",)


def test_a_fixed_delay_moves_the_curve_and_is_noted() -> None:
    settings = FuseConfig(**(_PLAIN | {"align": "fixed"}), delay=1.0, method="mean")
    (fused,) = fuse_traces([trace(_WAVE), trace(_WAVE, rater="b")], settings)
    np.testing.assert_allclose(fused.curve, _WAVE[2:])
    assert [part.delay for part in fused.parts] == [1.0, 1.0]


def test_two_opposed_raters_are_set_aside_and_named() -> None:
    made = [
        trace(_WAVE),
        trace(-_WAVE, rater="b"),
        trace(_WAVE, id="2"),
        trace(_WAVE, id="2", rater="b"),
    ]
    opposed, good = fuse_traces(made, FuseConfig(**_PLAIN))
    assert "'a', 'b'" in opposed.problem
    assert "fuse.contrary = 'keep'" in opposed.problem
    assert np.isnan(opposed.curve).all()
    assert good.problem == ""
    np.testing.assert_allclose(good.curve, _WAVE)
    kept, _ = fuse_traces(made, FuseConfig(**_PLAIN, contrary="keep", method="mean"))
    np.testing.assert_allclose(kept.curve, np.zeros(8), atol=1e-12)


def test_two_camps_of_one_size_leave_no_majority() -> None:
    made = [
        trace(sign * _WAVE + 0.001 * number, rater=str(number))
        for number, sign in enumerate((1, 1, -1, -1))
    ]
    (fused,) = fuse_traces(made, FuseConfig(**_PLAIN))
    assert "no majority" in fused.problem


def test_a_dropped_rater_has_no_part_in_the_common_mean() -> None:
    made = [trace(_WAVE + 0.1 * n, rater="ac"[n]) for n in range(2)]
    settings = FuseConfig(**(_PLAIN | {"standardize": "z"}), method="mean")
    (fused,) = fuse_traces([*made, trace(-2 * _WAVE - 0.2, rater="b")], settings)
    assert [part.contrary for part in fused.parts] == [False, True, False]
    np.testing.assert_allclose(fused.curve, _WAVE + 0.05, atol=1e-12)


def test_constant_raters_need_a_method_without_weights() -> None:
    made = [trace(np.full(8, 0.25)), trace(np.full(8, 0.75), rater="b")]
    (weighed,) = fuse_traces(made, FuseConfig(**_PLAIN))
    assert "fuse.method = 'ewe'" in weighed.problem
    (mean,) = fuse_traces(made, FuseConfig(**_PLAIN, method="mean"))
    np.testing.assert_allclose(mean.curve, np.full(8, 0.5))


def test_a_single_rater_and_one_without_values_are_said() -> None:
    alone, empty = fuse_traces(
        [trace(_WAVE, id="1"), trace(np.full(8, NAN), id="2")], FuseConfig(**_PLAIN)
    )
    np.testing.assert_allclose(alone.curve, _WAVE)
    assert "only rater 'a' has rated it" in alone.remarks[0]
    assert empty.problem == "no rater has a value"


def test_values_beyond_the_scale_are_brought_back_and_counted() -> None:
    high = np.array([1.0, 1, 1, 1, 1, -1, -1, 1, 1, 1])
    (fused,) = fuse_traces(
        [trace(high), trace(high, rater="b")], FuseConfig(**(_PLAIN | {"smooth": "savgol"}))
    )
    assert np.nanmax(np.abs(fused.curve)) == 1
    assert any("left [-1, 1] and were brought back" in remark for remark in fused.remarks)


def test_over_a_corpus_a_name_stands_for_one_person() -> None:
    """Rater b rates the wrong way round; the flat second recording alone does not show it."""
    flat = _WAVE.mean() + 0.001 * _WAVE[::-1]
    made = [
        *(trace(_WAVE, rater=name) for name in "ac"),
        trace(-_WAVE, rater="b"),
        *(trace(flat, rater=name, id="2") for name in "abc"),
    ]
    apart = fuse_traces(made, FuseConfig(**_PLAIN))
    assert [part.contrary for part in apart[1].parts] == [False] * 3
    together = fuse_traces(made, FuseConfig(**_PLAIN, scope="corpus"))
    assert [[part.contrary for part in each.parts] for each in together] == [
        [False, True, False]
    ] * 2
    assert [[part.weight for part in each.parts] for each in together] == [[0.5, 0.0, 0.5]] * 2


def test_agreement_is_measured_before_and_after_the_steps() -> None:
    panel = simulated(1)
    (fused,) = fuse_traces(panel.traces, FuseConfig())
    rated, ready = fused.as_rated, fused.as_fused
    assert (rated.raters, ready.raters) == (RATERS, RATERS - 1)
    assert ready.ccc > rated.ccc + 0.2
    assert ready.ccc_others > ready.ccc


def test_over_recordings_pairs_are_compared_together() -> None:
    made = [
        *(trace(_WAVE + 0.1 * n, rater=str(n), id="1") for n in range(2)),
        *(trace(0.5 * _WAVE - 0.3 * n, rater=str(n), id="2") for n in range(2)),
    ]
    found = fuse_traces(made, FuseConfig(**_PLAIN, method="mean"))
    expected = concordance(
        np.concatenate([_WAVE, 0.5 * _WAVE]), np.concatenate([_WAVE + 0.1, 0.5 * _WAVE - 0.3])
    )
    assert agreement_over(found, as_rated=True).ccc == pytest.approx(expected)


def test_the_curve_is_a_trace_without_a_rater() -> None:
    (fused,) = fuse_traces([trace(_WAVE), trace(_WAVE, rater="b")], FuseConfig(**_PLAIN))
    gold = fused.trace()
    assert (gold.rater, gold.scale, gold.id) == (None, (-1.0, 1.0), "1")
    np.testing.assert_allclose(gold.start, np.arange(8) * 0.5)
    np.testing.assert_allclose(gold.end - gold.start, 0.5)


@pytest.mark.parametrize(
    ("settings", "message"),
    [({"smooth_window": 6}, "odd number"), ({"delay": 1.0, "align": "none"}, "has no effect")],
)
def test_settings_that_contradict_themselves_are_refused(
    settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        FuseConfig(**settings)


_SECONDS = np.arange(0, 100, 0.5)
_TREND = -0.7 + 1.4 * _SECONDS / 100 + 0.1 * np.sin(_SECONDS / 3)


@pytest.mark.parametrize("scope", ["recording", "corpus"])
@pytest.mark.parametrize("align", ["none", "correlation"])
@pytest.mark.parametrize(
    "spans",
    [
        ((0, 70), (15, 85), (30, 100)),
        ((0, 90), (5, 95), (10, 100)),
        ((0, 60), (40, 100)),
    ],
)
def test_a_trend_is_kept_if_all_raters_have_gaps(
    spans: tuple[tuple[int, int], ...], align: str, scope: str
) -> None:
    """Every rater is exactly right, and sees a part."""
    made = [
        trace(np.where((_SECONDS - a >= 0) & (_SECONDS - b < 0), _TREND, NAN), rater=str(number))
        for number, (a, b) in enumerate(spans)
    ]
    settings = FuseConfig.model_validate({"align": align, "scope": scope})
    (fused,) = fuse_traces(made, settings)
    assert fused.problem == ""
    assert concordance(_TREND, fused.curve) > 0.999


def test_over_a_corpus_each_rater_may_have_seen_other_recordings() -> None:
    wave = 0.2 * np.sin(np.arange(100) / 4)
    seen, levels = {"1": "ab", "2": "bc", "3": "ac"}, {"1": -0.6, "2": 0.0, "3": 0.6}
    made = [trace(wave + levels[id], rater=name, id=id) for id in seen for name in seen[id]]
    for fused in fuse_traces(made, FuseConfig(scope="corpus")):
        assert fused.problem == ""
        assert concordance(wave + levels[fused.id], fused.curve) > 0.99


@pytest.mark.parametrize("constant", [0.5, 0.3, 0.1234, -0.7])
@pytest.mark.parametrize("method", ["ewe", "leave_one_out", "ccc"])
def test_a_constant_rater_has_no_weight_and_no_pair(constant: float, method: str) -> None:
    made = [trace(_TREND), trace(0.9 * _TREND, rater="b"), trace([constant] * 200, rater="c")]
    (fused,) = fuse_traces(made, FuseConfig.model_validate({"method": method}))
    assert fused.parts[2].weight == 0
    assert not fused.parts[2].contrary
    assert (fused.as_rated.pairs, fused.as_fused.pairs) == (1, 1)
    assert "rater 'c' agrees with nobody and has no weight" in fused.remarks
    assert "rater 'c' never changes and has no spread to standardise" in fused.remarks
