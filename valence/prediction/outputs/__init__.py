"""Render the files that stand beside a prediction's table."""
