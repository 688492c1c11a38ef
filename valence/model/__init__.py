"""The network, and the files that it is kept in."""
