"""The tiers that annotators' programs show, computed by hand."""

from __future__ import annotations

from tests.helpers.predicted import AROUSAL, made_predicted
from valence.prediction.outputs.tiers import Interval, end_of, tiers_of


def test_values_and_passages_by_hand() -> None:
    predicted = made_predicted("/d/talk.wav")
    values, passages = tiers_of(predicted)
    assert (values.name, passages.name) == ("valence", "valence passages")
    # The last of twenty steps has no value, and -0.00001 is written without its sign.
    assert len(values.intervals) == 19
    assert values.intervals[1] == Interval(500, 1000, "0.400")
    assert values.intervals[13] == Interval(6500, 7000, "-0.500")
    assert values.intervals[18] == Interval(9000, 9500, "0.000")
    # Means: (0.4 + 0.45 + 0.5 + 0.4) / 4 = 0.4375, (-0.4 - 0.5 - 0.4 - 0.4) / 4 = -0.425.
    assert passages.intervals == (
        Interval(500, 2500, "high 0.438"),
        Interval(6000, 8000, "low -0.425"),
    )
    assert end_of(predicted.timeline) == 10_000


def test_every_target_has_two_tiers() -> None:
    tiers = tiers_of(made_predicted("/d/talk.wav", targets=("arousal", "valence")))
    names = ["arousal", "arousal passages", "valence", "valence passages"]
    assert [tier.name for tier in tiers] == names
    assert [each.text for each in tiers[0].intervals] == [f"{value:.3f}" for value in AROUSAL]
