"""Read recordings, labels, partition and subjects, and make the demo's synthetic corpus."""
