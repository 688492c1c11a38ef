"""`python -m pipelines` is the program `valence`, in the form that `ray job submit` wants."""

from pipelines.cli import main

main()
