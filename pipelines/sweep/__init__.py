"""The stage `sweep`: each combination of scaler, reducer and regressor as a trial of Ray Tune."""

from pipelines.sweep.stage import sweep

__all__ = ["sweep"]
