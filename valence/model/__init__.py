"""Build, save, load, export and rate the network."""
