"""Read files of one form each into traces."""
