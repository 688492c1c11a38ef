"""Render a report to one HTML file.

The page is made of sections, tables and words.
"""
