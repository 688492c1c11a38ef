"""Choose and load the batches of a training.

The segments come from the GPU's memory, the host's memory or the store.
"""
