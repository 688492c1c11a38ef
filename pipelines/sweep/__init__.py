"""Fit all combinations, as trials of Ray Tune."""
