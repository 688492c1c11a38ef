"""Render a prediction as labels for Audacity.

The form is described on the page "Importing and Exporting Labels" of Audacity's manual: a line for
each label, with its start and its end in seconds and its text, parted by tabs.
"""

from __future__ import annotations

from valence.prediction.outputs.predicted import Predicted
from valence.prediction.outputs.tiers import tiers_of


def render(predicted: Predicted) -> bytes:
    """Write the values and the passages of a prediction as labels, in the order of their starts.

    Labels of values hold the value alone if there is one target, else the target's name before it.
    Labels of passages always hold the target's name.
    """
    timeline = predicted.timeline
    labels = [
        (
            interval.start,
            place,
            interval.end,
            f"{_prefix(tier.name, timeline.targets)}{interval.text}",
        )
        for place, tier in enumerate(tiers_of(predicted))
        for interval in tier.intervals
    ]
    lines = (
        f"{start / 1000:.6f}\t{end / 1000:.6f}\t{text}\n" for start, _, end, text in sorted(labels)
    )
    return "".join(lines).encode()


def _prefix(tier: str, targets: tuple[str, ...]) -> str:
    return "" if (tier,) == targets else f"{tier.removesuffix(' passages')} "
