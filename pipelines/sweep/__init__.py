"""Fit all combinations, as trials of Ray Tune."""

from pipelines.sweep.stage import sweep

__all__ = ["sweep"]
