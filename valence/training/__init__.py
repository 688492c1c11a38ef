"""Train the network: loop, loss, validation, checkpoints."""
