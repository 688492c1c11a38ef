"""Write the files of a run, and check that they are unchanged.

A run may lie on a disk or in a bucket. A file appears whole or not at all.
"""
