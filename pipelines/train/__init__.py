"""Train the model for every seed, with Ray Train."""
