"""What a researcher brings: recordings, labels, partition and subjects."""
