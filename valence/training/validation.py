"""Evaluate a model: its agreement with the labels on every sequence of all workers' recordings."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from valence import metrics
from valence.config import Precision
from valence.errors import TrainingError
from valence.model.distributed import gather
from valence.model.inference import Sequences, outputs_of
from valence.model.network import ValenceModel
from valence.training.data.batches import Labelled


@dataclass(frozen=True)
class Evaluation:
    """The agreement of predictions with the validation labels.

    Attributes
    ----------
    ccc, mse, mae
        CCC, mean squared error and mean absolute error, each the mean over the targets.
    n
        Number of sequences.
    constant
        Whether labels or predictions of a target were constant; its CCC then counts as 0.
    """

    ccc: float
    mse: float
    mae: float
    n: int
    constant: bool


def evaluate(
    model: ValenceModel,
    recordings: Iterable[Labelled],
    length: int,
    *,
    precision: Precision = "float32",
) -> Evaluation:
    """Compute the agreement on all workers' recordings, each sequence counted once.

    Moments are computed for each recording and merged in the order of the Ids, so that the result
    does not depend on which worker evaluated which recording.

    Raises
    ------
    TrainingError
        If there is no labelled sequence, or a prediction is not a number.
    """
    mine: dict[str, list[tuple[metrics.PairMoments, float]] | None] = {}
    asked: list[tuple[str, NDArray[np.float32]]] = []

    def sequences() -> Iterator[Sequences]:
        for labelled in recordings:
            asked.append((labelled.recording, labelled.target))
            yield Sequences(labelled.inputs, labelled.starts)

    for number, outputs in enumerate(outputs_of(model, sequences(), length, precision=precision)):
        (name, target), prediction = asked[number], outputs.prediction
        if not np.isfinite(prediction).all():
            # Raise only after all workers know it: a worker that raised here would leave the
            # others waiting.
            mine[name] = None
            continue
        mine[name] = [
            (
                metrics.PairMoments.of(target[:, k], prediction[:, k]),
                float(np.abs(target[:, k].astype(np.float64) - prediction[:, k]).sum()),
            )
            for k in range(prediction.shape[1])
        ]
    found = {name: values for part in gather(mine) for name, values in part.items()}
    ordered = []
    for name in sorted(found):
        values = found[name]
        if values is None:
            raise not_a_number()
        ordered.append(values)
    targets = len(model.config.targets)
    moments = [sum((each[k][0] for each in ordered), metrics.PairMoments()) for k in range(targets)]
    absolute = [math.fsum(each[k][1] for each in ordered) for k in range(targets)]
    n = moments[0].n
    if not n:
        raise TrainingError(
            "No validation recording has a sequence whose labels are all known, so no epoch could "
            "be judged. Label some, choose another split, or lower sequence.length."
        )
    return Evaluation(
        ccc=float(np.mean([each.ccc for each in moments])),
        mse=float(np.mean([each.mse for each in moments])),
        mae=float(np.mean([each / n for each in absolute])),
        n=n,
        constant=any(each.constant for each in moments),
    )


def not_a_number() -> TrainingError:
    """Build the error for a loss, or for predictions, that are not numbers."""
    return TrainingError(
        "The loss is not a number any more, so training stopped; the state of the last epoch "
        "before is kept, and the best model until then stands in RUN/train/best. Look for extreme "
        "values among the labels, and lower train.learning_rate or set train.gradient_clip: a "
        "changed setting needs --overwrite, which removes both and trains anew."
    )
