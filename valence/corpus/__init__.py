"""Read recordings, labels, partition and subjects.

The synthetic corpus of the demo is made here too.
"""
