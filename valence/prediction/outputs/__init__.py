"""Render a prediction's files."""
