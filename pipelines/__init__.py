"""Run the stages on Ray, from the command line."""
