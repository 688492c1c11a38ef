"""The batches of a training: which windows, from where, and when."""
