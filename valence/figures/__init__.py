"""Draw the figures, in one style.

Each figure is a function that takes arrays and returns a drawing.
"""

from valence.figures.agreement import (
    MOST_PANELS,
    Shares,
    Track,
    by_subject,
    distributions,
    over_time,
    scatter,
)
from valence.figures.architecture import architecture
from valence.figures.drawing import HALF, NARROW, WIDE, Drawing, data_uri
from valence.figures.raters import raters
from valence.figures.scores import Bar, intervals, sweep_heatmap
from valence.figures.sound import attention, segment_mel, sequence_mel
from valence.figures.timeline import timeline
from valence.figures.training import learning_curves

__all__ = [
    "HALF",
    "MOST_PANELS",
    "NARROW",
    "WIDE",
    "Bar",
    "Drawing",
    "Shares",
    "Track",
    "architecture",
    "attention",
    "by_subject",
    "data_uri",
    "distributions",
    "intervals",
    "learning_curves",
    "over_time",
    "raters",
    "scatter",
    "segment_mel",
    "sequence_mel",
    "sweep_heatmap",
    "timeline",
]
