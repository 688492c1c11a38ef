"""Turn recordings into segments, in parallel tasks."""
