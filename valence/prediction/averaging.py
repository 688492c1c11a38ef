"""Average the predictions of windows that overlap."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]


class OverlapAverage:
    """The mean prediction of each segment over all sequences that hold it."""

    def __init__(self, targets: int, length: int) -> None:
        self._length = length
        # Each sequence adds its values and a count of 1 at its first segment, and subtracts them
        # after its last one. A cumulative sum over the segments then gives, for each segment, the
        # sum and the count of the sequences that hold it.
        self._steps = np.zeros((0, targets + 1))

    def add(self, starts: NDArray[np.int64], predictions: Array) -> None:
        """Add sequences, by their first segments `[rows]` and predictions `[rows, targets]`."""
        needed = int(starts.max()) + self._length + 1
        if needed > len(self._steps):
            grown = np.zeros((max(needed, 2 * len(self._steps)), self._steps.shape[1]))
            grown[: len(self._steps)] = self._steps
            self._steps = grown
        rows = np.column_stack([predictions.astype(np.float64), np.ones(len(starts))])
        np.add.at(self._steps, starts, rows)
        np.add.at(self._steps, starts + self._length, -rows)

    def values(self, n: int) -> Array:
        """Compute the means of the first `n` segments, `[n, targets]`.

        At least one sequence must hold each of them.

        >>> average = OverlapAverage(1, 2)
        >>> average.add(np.array([0, 1]), np.array([[1.0], [3.0]], np.float32))
        >>> average.values(3)[:, 0].tolist()
        [1.0, 2.0, 3.0]
        """
        sums = np.cumsum(self._steps[:n], axis=0)
        means: Array = (sums[:, :-1] / np.rint(sums[:, -1:])).astype(np.float32)
        return means
