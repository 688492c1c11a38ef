"""Find the files of a source, and read the tables that describe its recordings."""
