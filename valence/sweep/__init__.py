"""Fit regressors on the deep features, and select the best."""
