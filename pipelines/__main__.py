"""Run the program `valence` as `python -m pipelines`, the form that `ray job submit` needs."""

from pipelines.cli import main

main()
