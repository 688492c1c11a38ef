"""Fuse raters to one curve, and measure their agreement."""
