"""Choose and load the batches of a training.

Segments come from the GPU's memory, the machine's memory or the store.
"""
