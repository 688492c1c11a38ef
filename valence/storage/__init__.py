"""Files of a run: where they lie, how they are written, and whether they are what was written."""
