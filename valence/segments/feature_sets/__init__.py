"""Read feature sets, and make eGeMAPS."""

from valence.segments.feature_sets.inspection import check_sets, require_model_input
from valence.segments.feature_sets.sets import (
    FeatureSet,
    list_sets,
    open_any,
    open_set,
    require_equal_stamps,
    require_fit,
)

__all__ = [
    "FeatureSet",
    "check_sets",
    "list_sets",
    "open_any",
    "open_set",
    "require_equal_stamps",
    "require_fit",
    "require_model_input",
]
