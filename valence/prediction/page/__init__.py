"""Render pages that play: sound, curve and cursor in one file."""
