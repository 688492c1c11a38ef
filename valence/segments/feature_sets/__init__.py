"""Sets of features that were made elsewhere: a row for each segment of each recording."""

from valence.segments.feature_sets.sets import FeatureSet, list_sets, open_any, open_set

__all__ = ["FeatureSet", "list_sets", "open_any", "open_set"]
