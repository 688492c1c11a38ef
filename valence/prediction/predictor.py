"""From sound to a timeline of valence, by a trained model.

A sequence's prediction speaks of all of its segments. A sequence begins at every segment, whatever
the stride of training, and a segment takes the mean of the predictions of all sequences that hold
it, each with the same weight. The deep model predicts, or the best regressor of the sweep, from the
same features.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import soxr
import torch
from numpy.typing import ArrayLike, NDArray

from valence.audio.decoding import AudioReading, mismatches, on_disk
from valence.audio.mel import log_mel
from valence.audio.mixing import Mixer
from valence.audio.segmentation import iter_segments, normalize
from valence.errors import AudioError, ModelError, PredictionError
from valence.model.inference import sequence_outputs
from valence.model.network import ValenceModel
from valence.model.quality import Quality, quality_of_record, read_quality
from valence.model.serialization import (
    ModelDescription,
    ModelSections,
    load_model,
    load_own_model,
    model_folder,
)
from valence.prediction.averaging import Array, OverlapAverage
from valence.run import Run
from valence.storage.location import Location
from valence.sweep.kept.serialization import Regressor, load_regressor

# Segments decoded at once, and given to the model at once (ten minutes of half a second each).
_CHUNK_SEGMENTS = 20
_BLOCK_SEGMENTS = 1200
# The highest rate that sound is recorded at, and more.
_MOST_SR = 10_000_000
# Labels lie in [-1, 1]; beyond twice that a value speaks of no label.
_MOST_VALUE = 2.0
# Beyond this it is a failure.
_LARGEST_VALUE = 1e6
# Parts of a segment that the envelope tells of.
_PARTS = 10

Stamps = Literal["start", "end"]


@dataclass(frozen=True, eq=False)
class Timeline:
    """Predicted values over time.

    Attributes
    ----------
    time
        Start of each segment in seconds, float64 `[n]`.
    values
        float32 `[n, targets]`.
    targets
        What the columns of `values` are.
    short
        Whether the recording is shorter than the sequences that the model was trained on, so that
        all values come from one shorter sequence.
    envelope
        Least and greatest sample of each tenth of a segment relative to the loudest, float32
        `[2, 10 * n]`.
    step
        Seconds of a segment.
    remarks
        What was odd about the sound, or other than what the model was trained on.
    """

    time: NDArray[np.float64]
    values: Array
    targets: tuple[str, ...]
    short: bool
    envelope: Array
    step: float = 0.5
    remarks: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.time)

    def to_frame(self, *, stamps: Stamps | None = None) -> pd.DataFrame:
        """The timeline as a table, a row a segment.

        Parameters
        ----------
        stamps
            Which end of a segment `timestamp` names, `"start"` or `"end"`, as label files do whose
            first timestamp is 0 or 500. By default it names the start, and `end` the end.

        Returns
        -------
        Columns `timestamp` [ms] and each target; `end` [ms], if `stamps` is None; `short`, true
        throughout, if the recording is short; `remarks`, if there are any.
        """
        start = np.rint(1000 * self.time).astype(np.int64)
        end = np.rint(1000 * (self.time + self.step)).astype(np.int64)
        columns: dict[str, Any] = {"timestamp": end if stamps == "end" else start}
        for column, target in enumerate(self.targets):
            columns[target] = self.values[:, column]
        if stamps is None:
            columns["end"] = end
        # A table on its own must not pass for one of full sequences, or of any sound.
        if self.short:
            columns["short"] = True
        if self.remarks:
            columns["remarks"] = "; ".join(self.remarks)
        return pd.DataFrame(columns)


class Predictor:
    """A trained model with the preprocessing that it was trained on.

    Parameters
    ----------
    model
        The model, on the device that it is to work on.
    description
        Its configuration.
    regressor
        What predicts from the model's features in place of its own head, if anything does.
    quality
        How good the predictor is known to be; by default what the description says.
    """

    def __init__(
        self,
        model: ValenceModel,
        description: ModelDescription,
        regressor: Regressor | None = None,
        quality: Quality | None = None,
    ) -> None:
        self.model = model
        self.description = description
        self.regressor = regressor
        self.quality = quality or Quality(
            **quality_of_record(description.record),
            target=self.targets[0],
            not_evaluated="it was not loaded from a folder that says how good it is",
        )

    @classmethod
    def load(
        cls,
        where: str | os.PathLike[str] | Location | Run,
        *,
        regressor: Literal["best"] | None = None,
        device: str | None = None,
    ) -> Predictor:
        """The predictor of a run, or of the folder of a model.

        Nothing in the folder is executed.

        Parameters
        ----------
        where
            The run or folder.
        regressor
            `"best"`: predict with the best pipeline of the run's sweep.
        device
            Where the model works, as torch names it; by default a GPU where there is one.

        Raises
        ------
        ModelError
            If no model or regressor is there, one is damaged, or they do not belong together or to
            the run.
        MissingStageError
            If the training or the sweep that they are of is not finished.
        DamagedError
            If the record of either is damaged, or lost in the folder of a run.
        """
        if isinstance(where, Run):
            where = where.root
        root = where if isinstance(where, Location) else Location.parse(where)
        folder_of_model = model_folder(root)
        # A model's folder on its own says nothing of a run.
        alone = folder_of_model == root
        model, description = load_model(root) if alone else load_own_model(Run(root))
        best = None
        if regressor is not None:
            sweep = Run(root).stage("sweep")
            folder = sweep.folder / "best"
            # A model and a regressor that were copied out of a run come without records.
            of_run = Run(root).is_one() or Run(root).folder("features").exists()
            record = sweep.found() if of_run else sweep.record()
            if record is not None:
                sweep.require_finished(record)
            best = load_regressor(folder, record)
            if best.about["model"] != description.sha256:
                raise ModelError(
                    f"'{folder}' was fitted on the features of another model than '{root}' holds. "
                    "Run 'valence extract' and 'valence sweep' with --overwrite."
                )
        if device is None:
            device = "cuda" if torch.cuda.is_available() else "cpu"
        quality = read_quality(
            folder_of_model,
            sha256=description.sha256,
            record=description.record,
            target=model.config.targets[0] if best is None else best.about["target"],
            regressor=None if best is None else best.about,
        )
        return cls(model.to(device), description, best, quality)

    @property
    def config(self) -> ModelSections:
        """The sections of the configuration that a prediction depends on."""
        return self.description.config

    @property
    def targets(self) -> tuple[str, ...]:
        """What is predicted."""
        if self.regressor is not None:
            return (self.regressor.about["target"],)
        return tuple(self.model.config.targets)

    def __call__(self, y: ArrayLike, *, sr: int) -> Timeline:
        """The timeline of a recording in memory.

        Parameters
        ----------
        y
            Samples `[samples]` or `[channels, samples]`, of which the channel is taken that the
            model was trained on (their mean by default). Floating point of 16, 32 or 64 bits, or
            signed integers of 16 or 32 bits, whose full scale counts as 1.
        sr
            Their rate in Hz; another than the model's is resampled.

        Raises
        ------
        TypeError
            If `y`, or an element of a list, is of another dtype (the zero of unsigned samples is
            not silence), if a list mixes dtypes, or if it holds Python's whole numbers beyond 1.
        AudioError
            If there is less than one segment (0.5 s), no sound, a sample that is not finite, an
            array of another shape, or a rate that is none.
        PredictionError
            If a prediction is not finite.
        """
        samples = _samples(y)
        number = isinstance(sr, (int, float, np.number)) and not isinstance(sr, (bool, np.bool_))
        if not number or not 0 < sr <= _MOST_SR:
            raise AudioError(
                f"The sample rate sr = {sr!r} was found. Expected the rate of y in Hz, such as "
                "16000."
            )
        if samples.ndim == 2 and samples.shape[0] > samples.shape[1] > 0:
            raise AudioError(
                f"An array of shape {samples.shape} was found: {samples.shape[0]} channels of "
                f"{samples.shape[1]} samples. Expected [channels, samples]; what soundfile reads "
                "is [samples, channels], so give y.T."
            )
        if samples.ndim not in (1, 2) or (samples.ndim == 2 and not samples.size):
            raise AudioError(
                f"An array of shape {samples.shape} was found. Expected samples [samples] or "
                "[channels, samples]."
            )
        channel = self.config.preprocess.channel
        block = samples[:, None] if samples.ndim == 1 else samples.T
        if samples.ndim == 1:
            # One channel on its own is the one that the caller chose.
            channel = "mean"
        elif channel != "mean" and channel >= block.shape[1]:
            raise AudioError(
                f"An array of {block.shape[1]} channel(s) was found, and the model was trained "
                f"with preprocess.channel = {channel}, counted from 0. Give all channels, or that "
                "one alone as [samples]."
            )
        mixer = Mixer(channel)
        samples = next(mixer.mono([block]))
        if not np.isfinite(samples).all():
            raise AudioError("The recording holds NaN or infinite samples. Expected finite ones.")
        if samples.size and not samples.any():
            raise AudioError("The recording is silent: all samples are zero. Expected speech.")
        remarks = (
            *mixer.remarks(sr),
            *mismatches(sr, block.shape[1], sr=self.config.preprocess.sr, channel=channel),
        )
        ours = self.config.preprocess.sr
        if sr != ours:
            samples = soxr.resample(samples, sr, ours)
        timeline = self._timeline([samples], name="The recording")
        return replace(timeline, remarks=(*remarks, *timeline.remarks))

    def predict_file(self, file: Location) -> Timeline:
        """The timeline of an audio file, decoded in blocks, whatever its length.

        Raises
        ------
        AudioError
            If it cannot be decoded, is silent, or has less than one segment (0.5 s).
        PredictionError
            If a prediction is not finite.
        """
        with on_disk(file) as path:
            return self.predict_path(path, name=file)

    def predict_path(self, path: Path, *, name: Location | Path | None = None) -> Timeline:
        """As `predict_file`, for a file on disk, which messages call `name`."""
        name = path if name is None else name
        preprocess = self.config.preprocess
        reading = AudioReading(path, sr=preprocess.sr, channel=preprocess.channel, name=name)
        timeline = self._timeline(reading, name=f"'{name}'")
        remarks = (*reading.remarks, *reading.mismatches(), *timeline.remarks)
        return replace(timeline, remarks=remarks)

    def mel(self, y: Array) -> NDArray[Any]:
        """The mel `[n, n_mels, n_frames]` of samples `[samples]` at the model's rate, in dB.

        It is what preprocessing stores: whole segments, levelled, in the precision of the store.
        """
        config = self.config
        parts = [mel for mel, _ in self._mel([y])]
        none = np.empty((0, config.mel.n_mels, config.mel.n_frames), config.preprocess.dtype)
        return np.concatenate([none, *parts])

    def _timeline(self, blocks: Iterable[Array], *, name: str) -> Timeline:
        config, length = self.config, self.config.sequence.length
        average = OverlapAverage(len(self.targets), length)
        envelope: list[Array] = []
        # Segments from `first` on that a sequence still to come needs.
        held = np.empty((0, config.mel.n_mels, config.mel.n_frames), config.preprocess.dtype)
        first = 0
        for mel, range_ in _in_blocks(self._mel(blocks)):
            envelope.append(range_)
            held = np.concatenate([held, mel])
            starts = np.arange(len(held) - length + 1)
            if len(starts):
                predicted = self._predict(held, starts, length, first=first, name=name)
                average.add(first + starts, predicted)
                held, first = held[len(starts) :], first + len(starts)
        n = first + len(held)
        if n == 0:
            seconds = config.preprocess.segment_seconds
            raise AudioError(
                f"{name} is shorter than {seconds:g} s, the least that can be predicted from. Use "
                "a longer recording."
            )
        short = n < length
        if short:
            whole = self._predict(held, np.zeros(1, np.int64), n, first=0, name=name)
            values = np.repeat(whole, n, axis=0)
        else:
            values = average.values(n)
        ranges = np.concatenate(envelope, axis=1)
        loudest = np.abs(ranges).max()
        return Timeline(
            time=np.arange(n, dtype=np.float64) * config.preprocess.segment_seconds,
            values=values,
            targets=self.targets,
            short=short,
            envelope=ranges / (loudest if loudest > 0 else 1),
            step=config.preprocess.segment_seconds,
            remarks=_remarks(values),
        )

    def _mel(self, blocks: Iterable[Array]) -> Iterator[tuple[NDArray[Any], Array]]:
        """The mel of segments as preprocessing stores it, and their range, some at a time."""
        preprocess = self.config.preprocess
        for segments in iter_segments(blocks, preprocess.segment_samples, segments=_CHUNK_SEGMENTS):
            levelled = normalize(segments, level=preprocess.level, level_dbfs=preprocess.level_dbfs)
            mel = log_mel(levelled, self.config.mel, sr=preprocess.sr)
            yield mel.astype(preprocess.dtype), _ranges(segments)

    def _predict(
        self, mel: NDArray[Any], starts: NDArray[np.int64], length: int, *, first: int, name: str
    ) -> Array:
        """Predictions of the sequences that begin at `starts`, counted from segment `first`."""
        outputs = sequence_outputs(self.model, mel, starts, length)
        found = outputs.prediction
        if self.regressor is not None and np.isfinite(outputs.feature).all():
            found = self.regressor.predict(outputs.feature).astype(np.float32)[:, None]
        elif self.regressor is not None:
            found = outputs.feature
        # NaN compares as false.
        bad = np.flatnonzero(~(np.abs(found) <= _LARGEST_VALUE).all(axis=1))
        if len(bad):
            seconds = (first + int(starts[bad[0]])) * self.config.preprocess.segment_seconds
            raise PredictionError(
                f"{name} has no prediction that is a number, or one beyond {_LARGEST_VALUE:g}, in "
                f"{len(bad)} of {len(found)} sequences, the first at {seconds:g} s. Expected "
                "values near the labels' range of -1 to 1. Use another model, or train this one "
                "again with a lower train.learning_rate."
            )
        return found


def _samples(y: ArrayLike) -> Array:
    """Samples in memory as float32, full scale at 1, of the dtypes that have one meaning."""
    try:
        found = np.asarray(y)
    except ValueError as error:
        raise AudioError(
            f"The samples are no numbers: {error}. Expected an array of floats."
        ) from error
    if isinstance(y, (list, tuple)):
        found = _of_list(found, _dtypes(y))
    kind, size = found.dtype.kind, found.dtype.itemsize
    if kind == "f" and size <= 8:
        with np.errstate(over="ignore"):
            return found.astype(np.float32)
    if kind == "i" and size in (2, 4):
        return np.asarray(found / 2.0 ** (8 * size - 1), np.float32)
    raise TypeError(
        f"Samples of dtype {found.dtype} were found. Expected float16, float32, float64, int16 or "
        "int32; bring others to floats in [-1, 1] first (unsigned 8-bit samples: (y - 128.0) / "
        "128)."
    )


def _dtypes(y: ArrayLike) -> set[np.dtype[Any] | None]:
    """The dtypes in a list, at every depth of it; None stands for Python's own numbers."""
    if not isinstance(y, (list, tuple)):
        return {np.asarray(y).dtype.newbyteorder("=")}
    found = set[np.dtype[Any] | None]()
    kinds = set(map(type, y))
    for kind in kinds:
        if kind in (int, float):
            found.add(None)
        elif issubclass(kind, np.generic):
            found.add(np.dtype(kind))
    if any(kind not in (int, float) and not issubclass(kind, np.generic) for kind in kinds):
        for element in y:
            if not isinstance(element, (int, float, np.generic)):
                found |= _dtypes(element)
    return found


def _of_list(found: NDArray[Any], dtypes: set[np.dtype[Any] | None]) -> NDArray[Any]:
    """Samples of a list, once it is known that they have one full scale."""
    whole = found.dtype.kind in "iu"
    if whole and dtypes == {None}:
        if found.size and (found.min() < -1 or found.max() > 1):
            raise TypeError(
                f"A list of whole numbers from {found.min()} to {found.max()} was found, whose "
                "full scale is not known. Expected an array with a dtype (np.asarray(y, np.int16)) "
                "or floats in [-1, 1]."
            )
        return found.astype(np.float64)
    if len(dtypes) > 1 and any(dtype is not None and dtype.kind != "f" for dtype in dtypes):
        # NumPy would bring them to one dtype, and the full scale of each would be forgotten.
        names = ", ".join(sorted("Python's numbers" if d is None else str(d) for d in dtypes))
        raise TypeError(
            f"A list of samples of several dtypes was found ({names}). Expected float16, float32, "
            "float64, int16 or int32 throughout; bring all to floats in [-1, 1] first."
        )
    return found


def _ranges(segments: Array) -> Array:
    """Least and greatest sample of each part of segments `[n, samples]`: `[2, parts * n]`."""
    edges = np.linspace(0, segments.shape[1], _PARTS, endpoint=False).astype(np.intp)
    low = np.minimum.reduceat(segments, edges, axis=1)
    high = np.maximum.reduceat(segments, edges, axis=1)
    return np.stack([low.ravel(), high.ravel()])


def _remarks(values: Array) -> tuple[str, ...]:
    """What a reader must know of predicted values `[n, targets]`."""
    low, high = float(values.min()), float(values.max())
    if max(-low, high) <= _MOST_VALUE:
        return ()
    return (
        f"its predicted values go from {low:.3g} to {high:.3g}, far outside the labels' range of "
        "-1 to 1: the sound is unlike what the model was trained on",
    )


def _in_blocks(
    parts: Iterable[tuple[NDArray[Any], Array]],
) -> Iterator[tuple[NDArray[Any], Array]]:
    """Gather what comes in small pieces into pieces worth the model's start."""
    mels: list[NDArray[Any]] = []
    ranges: list[Array] = []
    for mel, range_ in parts:
        mels.append(mel)
        ranges.append(range_)
        if sum(map(len, mels)) >= _BLOCK_SEGMENTS:
            yield np.concatenate(mels), np.concatenate(ranges, axis=1)
            mels, ranges = [], []
    if mels:
        yield np.concatenate(mels), np.concatenate(ranges, axis=1)
