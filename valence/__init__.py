"""Predict the valence of speech over time: the science, free of Ray.

Names are loaded at their first use, so that `import valence` stays light and loads no torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from valence.config import Config
    from valence.errors import ValenceError
    from valence.metrics import concordance
    from valence.prediction.predictor import Predictor

__all__ = ["Config", "Predictor", "ValenceError", "concordance"]

_HOME = {
    "Config": "valence.config",
    "Predictor": "valence.prediction.predictor",
    "ValenceError": "valence.errors",
    "concordance": "valence.metrics",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'valence' has no attribute '{name}'")
    return getattr(importlib.import_module(_HOME[name]), name)
