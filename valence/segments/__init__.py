"""Segments of recordings: how they are made, stored and read as sequences."""
