"""Make and store segments, and read them as sequences."""
