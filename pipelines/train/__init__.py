"""The stage `train`: the model over all seeds in one Ray Train run."""

from pipelines.train.stage import train

__all__ = ["train"]
