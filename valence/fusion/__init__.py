"""Fuse the traces of several raters to one curve, and measure how well raters agree."""
