"""Write a run's files, and check that they are unchanged.

A run may lie on a disk or in a bucket. A file appears whole or not at all.
"""
