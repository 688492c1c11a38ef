"""Read recordings, labels, partition and subjects; make the demo's corpus."""
