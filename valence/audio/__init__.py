"""Decode, cut, level and augment sound; compute log-mel spectrograms."""
