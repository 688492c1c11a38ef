"""Train the model for every seed, with Ray Train."""

from pipelines.train.stage import train

__all__ = ["train"]
