"""Predict curves of valence with a trained model."""
