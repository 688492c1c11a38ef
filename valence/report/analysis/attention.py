"""A sequence to look at: its mel as the model gets it, and where the model's attention lies."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from valence.errors import MissingStageError
from valence.model.inference import sequence_outputs
from valence.model.network import ValenceModel
from valence.report.analysis.results import Evidence
from valence.segments.store import SegmentStore


@dataclass(frozen=True, eq=False)
class Examples:
    """One sequence of a run.

    Attributes
    ----------
    recording, split
        Where it is from.
    start_seconds
        Where it begins.
    mel
        In dB, `[segments, n_mels, n_frames]`.
    attention
        Weights of the segments, `[segments]`.
    loudest
        The segment with the most energy, worth being shown alone.
    parameters
        Number of the model's parameters.
    """

    recording: str
    split: str
    start_seconds: float
    mel: NDArray[np.floating[Any]]
    attention: NDArray[np.float32]
    loudest: int
    parameters: int

    def to_json(self) -> dict[str, Any]:
        """Where attention lies, for `metrics.json`."""
        return {
            "recording": self.recording,
            "split": self.split,
            "start_seconds": self.start_seconds,
            "percent": (100 * self.attention.astype(np.float64)).tolist(),
        }


def read_examples(evidence: Evidence, model: ValenceModel) -> Examples:
    """The sequence in the middle of the first recording of the test set, or else of validation's.

    Raises
    ------
    MissingStageError
        If the run has no sequence.
    """
    features, config = evidence.features, evidence.config
    for split in ("test", "validation", "unlabelled", "train"):
        rows = features.of(split, labelled=False)
        if len(rows):
            break
    else:
        raise MissingStageError(f"'{evidence.run.root}' has no sequence: run 'valence extract'.")
    recording = str(rows.recording[0])
    starts = rows.start[rows.recording == recording]
    start = int(starts[len(starts) // 2])
    length = config.sequence.length
    stored = SegmentStore(evidence.run.folder("segments")).read(recording)
    mel = stored.mel[start : start + length]
    outputs = sequence_outputs(model, mel, np.zeros(1, np.int64), length)
    power = np.mean(10 ** (mel.astype(np.float64) / 10), axis=(1, 2))
    return Examples(
        recording=recording,
        split=split,
        start_seconds=start * config.preprocess.segment_seconds,
        mel=mel,
        attention=outputs.attention[0],
        loudest=int(np.argmax(power)),
        parameters=sum(each.numel() for each in model.parameters()),
    )
