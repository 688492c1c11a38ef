"""Export models with random weights, and fit regressors on random features of theirs."""

from __future__ import annotations

import numpy as np
import torch
from sklearn.linear_model import Ridge
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler

from valence.audio.standardization import Standardizer
from valence.config import Config
from valence.model.network import ValenceModel
from valence.model.serialization import export_model
from valence.storage.location import Location
from valence.sweep.kept.serialization import save_regressor


def export_random(
    folder: Location, config: Config, *, corpus: str | None = "/home/somebody/voices"
) -> str:
    """Write a model with random weights into `folder`; return the digest of the weights."""
    torch.manual_seed(7)
    standardizer = Standardizer("global", np.array([-20], np.float32), np.array([15], np.float32))
    model = ValenceModel(
        config.model,
        n_mels=config.mel.n_mels,
        n_frames=config.mel.n_frames,
        standardizer=standardizer,
    )
    # An untrained head says nearly the same of everything, which would hide mistakes.
    torch.nn.init.normal_(model.output.weight, std=2)
    return export_model(folder, model, config, {} if corpus is None else {"corpus": corpus})


def fit_random(folder: Location, config: Config, model: str) -> None:
    """Write a ridge on random features of the model with digest `model` into `folder`."""
    generator = np.random.default_rng(3)
    columns = 4 * config.model.lstm_hidden
    pipeline = Pipeline([("scaler", StandardScaler()), ("regressor", Ridge())])
    x = generator.standard_normal((3 * columns, columns))
    pipeline.fit(x, np.tanh(x[:, 0]))
    about = {
        "target": "valence",
        "model": model,
        "rows": len(x),
        "steps": {"scaler": {"name": "standard"}, "regressor": {"name": "ridge"}},
        "scores": {},
    }
    save_regressor(folder, pipeline, columns=columns, about=about)
