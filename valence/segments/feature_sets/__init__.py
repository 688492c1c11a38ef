"""Read feature sets, and make eGeMAPS."""

from valence.segments.feature_sets.sets import (
    FeatureSet,
    list_sets,
    open_any,
    open_set,
    require_equal_stamps,
)

__all__ = ["FeatureSet", "list_sets", "open_any", "open_set", "require_equal_stamps"]
