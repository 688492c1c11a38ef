"""Start or join Ray, find nodes, show progress, stop on signals."""
