"""Render pages that play."""
