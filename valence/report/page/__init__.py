"""Render a report to one HTML file.

The page consists of sections, which hold text, tiles, tables and figures.
"""
