"""Read an example sequence: the mel that the model gets, and the model's attention over it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from valence.errors import MissingStageError, ValenceError
from valence.model.inference import sequence_outputs
from valence.model.network import ValenceModel
from valence.report.analysis.results import Evidence
from valence.segments.store import SegmentStore
from valence.training.data.inputs import inputs_of_trained


@dataclass(frozen=True, eq=False)
class Examples:
    """An example sequence of a run.

    Attributes
    ----------
    recording, split
        Recording and split of the sequence.
    start_seconds
        Start of the sequence in its recording, in seconds.
    mel
        Mel in dB, `[segments, n_mels, n_frames]`.
    attention
        Weights of the segments, `[segments]`, which sum to 1; or a sentence that says why they are
        not known, if the model takes a set of features that cannot be read now.
    loudest
        Index of the segment with the most energy, which the page shows alone.
    parameters
        Number of the model's parameters.
    """

    recording: str
    split: str
    start_seconds: float
    mel: NDArray[np.floating[Any]]
    attention: NDArray[np.float32] | str
    loudest: int
    parameters: int

    @property
    def is_lacking(self) -> bool:
        """Say whether the attention is not known now; a later report may show it."""
        return isinstance(self.attention, str)

    def to_json(self) -> dict[str, Any]:
        """Return the sequence and its attention in percent, for `metrics.json`."""
        known = (
            {"skipped": self.attention}
            if isinstance(self.attention, str)
            else {"percent": (100 * self.attention.astype(np.float64)).tolist()}
        )
        return {
            "recording": self.recording,
            "split": self.split,
            "start_seconds": self.start_seconds,
            **known,
        }


def read_examples(evidence: Evidence, model: ValenceModel) -> Examples:
    """Read the middle sequence of the first recording of a split.

    The split is the first one with a sequence: test, validation, unlabelled or train.

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
    attention: NDArray[np.float32] | str
    try:
        # The mel has just been read, and is the same as the inputs of a model that takes it.
        inputs = _features(evidence, recording) if model.takes_features else stored.mel
    except ValenceError as error:
        attention = f"Not shown, because the model's features cannot be read now: {error}"
    else:
        held = inputs[start : start + length]
        attention = sequence_outputs(model, held, np.zeros(1, np.int64), length).attention[0]
    power = np.mean(10 ** (mel.astype(np.float64) / 10), axis=(1, 2))
    return Examples(
        recording=recording,
        split=split,
        start_seconds=start * config.preprocess.segment_seconds,
        mel=mel,
        attention=attention,
        loudest=int(np.argmax(power)),
        parameters=sum(each.numel() for each in model.parameters()),
    )


def _features(evidence: Evidence, recording: str) -> NDArray[np.floating[Any]]:
    """Read the features of a recording, `[segments, columns]`."""
    return np.concatenate(list(inputs_of_trained(evidence.run, evidence.config).blocks(recording)))
