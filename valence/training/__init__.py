"""The training of the network: the loop, its loss, its validation and its checkpoints."""
