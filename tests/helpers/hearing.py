"""Make small predictors whose values show small mistakes, and sound like speech for them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from valence.audio.standardization import Scope, Standardizer
from valence.config import Config
from valence.model.network import ValenceModel
from valence.model.serialization import export_model
from valence.prediction.predictor import Predictor
from valence.storage.location import Location

SR = 16_000


def small_config(*assignments: str) -> Config:
    """A configuration of a small model over sequences of 6 s."""
    small = ["sequence.length=12", "model.channels=[2,4,8]", "model.lstm_hidden=8"]
    return Config.resolve(Config(), assignments=[*small, *assignments])


def make_predictor(folder: Path, config: Config, scope: Scope = "global") -> Predictor:
    """A predictor with large weights, and with statistics as after training."""
    torch.manual_seed(5)
    n = config.mel.n_mels if scope == "mel_band" else 1
    means = np.linspace(-45, -25, n, dtype=np.float32)
    standardizer = Standardizer(scope, means, np.linspace(12, 20, n, dtype=np.float32))
    model = ValenceModel(
        config.model,
        n_mels=config.mel.n_mels,
        n_frames=config.mel.n_frames,
        standardizer=standardizer,
    )
    for block in model.blocks:
        torch.nn.init.uniform_(block.norm.running_mean, -0.3, 0.3)
        torch.nn.init.uniform_(block.norm.running_var, 0.5, 2)
    torch.nn.init.normal_(model.output.weight, std=1)
    export_model(Location.parse(folder), model, config, {})
    return Predictor.load(folder, device="cpu")


def speech(seconds: float, seed: int = 0) -> np.ndarray:
    """Samples of a voice that rises and falls, float32 `[samples]`."""
    rng = np.random.default_rng(seed)
    time = np.arange(round(seconds * SR)) / SR
    voice = np.sin(2 * np.pi * (140 + 40 * np.sin(2 * np.pi * 0.2 * time)) * time)
    loudness = 0.02 + np.square(np.sin(2 * np.pi * 0.11 * time))
    y = loudness * voice + 0.003 * rng.standard_normal(len(time))
    return (0.3 * y).astype(np.float32)
