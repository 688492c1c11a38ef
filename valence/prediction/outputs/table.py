"""Render a prediction as CSV."""

from __future__ import annotations

from valence.prediction.outputs.predicted import Predicted


def render(predicted: Predicted) -> bytes:
    """Write the table of a prediction as CSV in UTF-8, a row for each segment."""
    frame = predicted.timeline.to_frame(stamps=predicted.stamps)
    return str(frame.to_csv(index=False)).encode()
