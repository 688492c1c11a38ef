"""Standardise mel spectrograms, or features, by mean and standard deviation of the training."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from valence.errors import ModelError

Scope = Literal["global", "mel_band", "segment_minmax", "column"]

# Values summed at once: few enough that their float64 copy stays in the cache.
_CHUNK_VALUES = 100_000


@dataclass(frozen=True, eq=False)
class MelMoments:
    """Count, mean and sum of squared deviations of each mel band, mergeable in any grouping.

    Sums are float64 and merged by the formula of Chan, Golub and LeVeque (1983), which avoids loss
    by cancellation. Another order of merging may change the last bit, so a caller that needs the
    same bytes everywhere must merge in a fixed order.

    Attributes
    ----------
    count
        Values in each band.
    mean
        float64 `[n_mels]`, in dB.
    m2
        Sum of squared deviations from the mean, float64 `[n_mels]`, in dB².
    """

    count: int
    mean: NDArray[np.float64]
    m2: NDArray[np.float64]

    @classmethod
    def empty(cls, n_mels: int) -> MelMoments:
        """Return the moments of no values."""
        return cls(0, np.zeros(n_mels), np.zeros(n_mels))

    @classmethod
    def from_mel(cls, mel: NDArray[np.floating[Any]]) -> MelMoments:
        """Compute the moments of `mel`, shape `[n, n_mels, n_frames]`.

        >>> moments = MelMoments.from_mel(np.array([[[1.0, 3.0], [2.0, 2.0]]]))
        >>> moments.count, moments.mean.tolist(), moments.m2.tolist()
        (2, [2.0, 2.0], [2.0, 0.0])
        """
        n, n_mels, n_frames = mel.shape
        rows = max(1, _CHUNK_VALUES // max(1, n_mels * n_frames))
        moments = cls.empty(n_mels)
        for first in range(0, n, rows):
            moments = moments.merge(cls._of_chunk(mel[first : first + rows]))
        return moments

    @classmethod
    def _of_chunk(cls, mel: NDArray[np.floating[Any]]) -> MelMoments:
        values = mel.astype(np.float64)
        count = mel.shape[0] * mel.shape[2]
        mean = np.einsum("nbf->b", values) / count
        values -= mean[:, None]
        return cls(count, mean, np.einsum("nbf,nbf->b", values, values))

    def merge(self, other: MelMoments) -> MelMoments:
        """Return the moments of the values of both."""
        count = self.count + other.count
        if count == 0:
            return self
        delta = other.mean - self.mean
        share = other.count / count
        return MelMoments(
            count,
            self.mean + delta * share,
            self.m2 + other.m2 + delta * delta * (self.count * share),
        )

    def over_bands(self) -> MelMoments:
        """Return the moments of all values as one band, shape `[1]`."""
        mean = self.mean.mean()
        between = float(np.square(self.mean - mean).sum()) * self.count
        return MelMoments(
            self.count * len(self.mean), np.array([mean]), np.array([self.m2.sum() + between])
        )

    def to_json(self) -> dict[str, Any]:
        """Return JSON that `from_json` reads back to the same bits."""
        return {"count": self.count, "mean": self.mean.tolist(), "m2": self.m2.tolist()}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> MelMoments:
        """Read the moments that `to_json` wrote."""
        return cls(int(content["count"]), np.array(content["mean"]), np.array(content["m2"]))


@dataclass(frozen=True, eq=False)
class Standardizer:
    """Standardises mel spectrograms, or the columns of a set of features, when they are loaded.

    Attributes
    ----------
    scope
        `"global"`: one mean and standard deviation for all values. `"mel_band"`: one for each band.
        `"segment_minmax"`: each segment is scaled to `[0, 1]` by its own extremes, the variant that
        the study found harmful; `mean` is then 0 and `std` 1, and neither is used. `"column"`:
        features, one mean and standard deviation for each column.
    mean, std
        float32, shape `[1]` or `[n_mels]`, in dB, or `[columns]` in the columns' own units; a
        standard deviation of 0 is replaced by 1.
    """

    scope: Scope
    mean: NDArray[np.float32]
    std: NDArray[np.float32]

    def __call__(self, mel: NDArray[np.floating[Any]]) -> NDArray[np.float32]:
        """Standardise mel to float32 of the same shape.

        The shape of `mel` is `[..., n_mels, n_frames]`; features are `[..., columns]`, and those
        that are NaN become 0, the mean of the training.
        """
        values = mel.astype(np.float32)
        if self.scope == "column":
            values -= self.mean
            values /= self.std
            return np.where(np.isnan(values), np.float32(0), values)
        if self.scope == "segment_minmax":
            low = values.min(axis=(-2, -1), keepdims=True)
            span = values.max(axis=(-2, -1), keepdims=True) - low
            values -= low
            values /= np.where(span > 0, span, np.float32(1))
            return values
        values -= self.mean[:, None]
        values /= self.std[:, None]
        return values

    def to_json(self) -> dict[str, Any]:
        """Return JSON that `from_json` reads back to the same bits."""
        return {"scope": self.scope, "mean": self.mean.tolist(), "std": self.std.tolist()}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Standardizer:
        """Read the standardizer that `to_json` wrote.

        Raises
        ------
        ModelError
            If a value is missing or invalid.
        """
        try:
            scope = content["scope"]
            mean = np.array(content["mean"], np.float32)
            std = np.array(content["std"], np.float32)
        except (KeyError, TypeError, ValueError) as error:
            raise ModelError(
                f"The standardisation found is not one: {error!r}. Expected scope, mean and std, "
                "as preprocessing writes them; make it again."
            ) from error
        sound = (
            scope in get_args(Scope)
            and mean.ndim == 1
            and mean.shape == std.shape
            and np.isfinite(mean).all()
            and (std > 0).all()
        )
        if not sound:
            raise ModelError(
                f"The standardisation found has the scope {scope!r}, {mean.size} means and "
                f"{std.size} standard deviations. Expected one of {', '.join(get_args(Scope))}, "
                "and as many finite means as positive standard deviations; make it again."
            )
        return cls(scope, mean, std)


def fit(moments: MelMoments, scope: Scope) -> Standardizer:
    """Make the standardizer of mel with these moments; the standard deviation has ddof 0.

    >>> fit(MelMoments.from_mel(np.array([[[1.0, 3.0], [2.0, 6.0]]])), "global").mean.tolist()
    [3.0]
    """
    assert scope != "column", "mel has bands and no columns"
    if scope == "segment_minmax":
        return Standardizer(scope, np.zeros(1, np.float32), np.ones(1, np.float32))
    chosen = moments.over_bands() if scope == "global" else moments
    std = np.sqrt(chosen.m2 / max(1, chosen.count)).astype(np.float32)
    return Standardizer(
        scope, chosen.mean.astype(np.float32), np.where(std > 0, std, np.float32(1))
    )
