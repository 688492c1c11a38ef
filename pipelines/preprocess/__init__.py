"""The stage `preprocess`: recordings to segments, one task a share of them."""

from pipelines.preprocess.stage import preprocess

__all__ = ["preprocess"]
