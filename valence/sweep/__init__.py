"""Regressors on deep features: the grid, the fits and the selection."""
