"""Turn recordings into segments, in parallel tasks."""

from pipelines.preprocess.stage import preprocess

__all__ = ["preprocess"]
