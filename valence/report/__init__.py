"""Write the report of a run, and compare runs."""
