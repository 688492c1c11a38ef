"""The stages of a run on Ray, and the command line that starts them."""
