"""The baseline: plain functionals of the mel spectrogram, and a ridge regression on them.

A deep model is worth its cost only if it beats the mean and standard deviation of each mel band.
"""

from __future__ import annotations

import time
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from valence.segments.store import SegmentStore
from valence.sweep.features import Features
from valence.sweep.kept.outcomes import TrialOutcome
from valence.sweep.transforms import Division, training_target

Array = NDArray[np.float64]


def functionals(
    store: SegmentStore, recording: str, starts: NDArray[np.integer], *, length: int
) -> Array:
    """Compute mean and standard deviation of each mel band over sequences of a clean recording.

    Parameters
    ----------
    store
        Store that holds the segments.
    recording
        Id of the recording.
    starts
        First segment of each sequence, `[sequences]`.
    length
        Number of segments in a sequence.

    Returns
    -------
    Functionals in dB, float64 `[sequences, 2 * n_mels]`: means, then standard deviations (ddof 0).
    """
    means, squares = [], []
    for block in store.blocks(recording):
        mel = block.mel.astype(np.float64)
        means.append(mel.mean(axis=2))
        squares.append((mel**2).mean(axis=2))
    return _over_windows(np.concatenate(means), np.concatenate(squares), starts, length)


def functionals_outcome(division: Division, of_recording: Mapping[str, Array]) -> TrialOutcome:
    """Fit ridge regression on the training rows' standardised functionals, and predict the others.

    Parameters
    ----------
    division
        Rows of the splits, ordered by recording and start.
    of_recording
        For each recording, the `functionals` of its rows, in the order of the rows.
    """
    started = time.perf_counter()
    y = training_target(division.training)
    model = make_pipeline(StandardScaler(), Ridge())
    model.fit(_rows(division.training, of_recording), y)
    validation, test = (
        model.predict(_rows(rows, of_recording)) if len(rows) else np.empty(0)
        for rows in (division.validation, division.test)
    )
    seconds = time.perf_counter() - started
    return TrialOutcome("ok", "", seconds, "sklearn", len(y), validation, test)


def _rows(rows: Features, of_recording: Mapping[str, Array]) -> Array:
    return np.concatenate([of_recording[name] for name in dict.fromkeys(rows.recording.tolist())])


def _over_windows(means: Array, squares: Array, starts: NDArray[np.integer], length: int) -> Array:
    mean = _window_mean(means, starts, length)
    variance = _window_mean(squares, starts, length) - mean**2
    return np.concatenate([mean, np.sqrt(np.maximum(variance, 0.0))], axis=1)


def _window_mean(values: Array, starts: NDArray[np.integer], length: int) -> Array:
    # All segments have the same number of frames, so the mean of their means is the overall mean.
    total = np.concatenate([np.zeros((1, values.shape[1])), np.cumsum(values, axis=0)])
    found: Array = (total[starts + length] - total[starts]) / length
    return found
