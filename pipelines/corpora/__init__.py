"""Check, import and fuse corpora."""
