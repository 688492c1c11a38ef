"""The report of a run, the comparison of runs, and the card of a model."""
