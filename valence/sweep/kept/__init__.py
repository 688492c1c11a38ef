"""The files that a sweep keeps, each checked when it is read back."""
