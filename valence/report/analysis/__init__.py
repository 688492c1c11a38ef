"""Compute the numbers of a report."""
