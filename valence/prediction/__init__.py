"""Curves of valence for recordings, from a trained model."""
