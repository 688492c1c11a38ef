"""Read feature sets, and make eGeMAPS."""

from valence.segments.feature_sets.sets import FeatureSet, list_sets, open_any, open_set

__all__ = ["FeatureSet", "list_sets", "open_any", "open_set"]
