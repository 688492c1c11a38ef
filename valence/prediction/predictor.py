"""Predict a timeline of valence from sound with a trained model.

The model predicts one value for a whole sequence. Here a sequence begins at every segment, whatever
the stride of training was. The value of a segment is the mean, with equal weights, of the
predictions of all sequences that hold it. The predictor is the deep model's own head or the best
regressor of the sweep; both use the same features.
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
from valence.audio.speech import SpeechDetector
from valence.errors import AudioError, ModelError, PredictionError
from valence.model.inference import sequence_outputs
from valence.model.network import ValenceModel
from valence.model.quality import Quality, quality_of_record, read_quality
from valence.model.serialization import (
    ModelDescription,
    ModelSections,
    load_any_model,
    model_folder,
)
from valence.model.sharing.bundle import opened_model
from valence.prediction.averaging import Array, OverlapAverage
from valence.prediction.features import (
    FeaturesOf,
    given_features,
    require_input,
    taken_features,
)
from valence.run import Run
from valence.storage.location import Location
from valence.sweep.kept.serialization import Regressor, load_regressor

# Segments decoded at once, and segments given to the model at once (ten minutes at 0.5 s each).
_CHUNK_SEGMENTS = 20
_BLOCK_SEGMENTS = 1200
# An upper limit in Hz, above every rate at which sound is recorded.
_MOST_SR = 10_000_000
# Labels lie in [-1, 1]. Predictions beyond twice that range get a remark.
_MOST_VALUE = 2.0
# Predictions beyond this limit are an error.
_LARGEST_VALUE = 1e6
# Parts of a segment for which the envelope has one pair of values each.
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
        float32 `[n, targets]`; NaN where values were left out.
    targets
        Names of the columns of `values`.
    short
        Whether the recording is shorter than the training sequences, so that all values come from
        one shorter sequence.
    envelope
        Lowest and highest sample of each tenth of a segment, relative to the loudest sample of the
        recording, float32 `[2, 10 * n]`.
    step
        Length of a segment in seconds.
    remarks
        Unusual properties of the sound, and differences from the training sound.
    speech
        Share of each segment in which somebody speaks, from 0 to 1, float32 `[n]`; None if it was
        not looked for.
    speech_by
        The method that found the speech, such as `"silero-vad 6.2.3"` or `"energy"`; `""` if
        `speech` is None.
    """

    time: NDArray[np.float64]
    values: Array
    targets: tuple[str, ...]
    short: bool
    envelope: Array
    step: float = 0.5
    remarks: tuple[str, ...] = ()
    speech: Array | None = None
    speech_by: str = ""

    def __len__(self) -> int:
        return len(self.time)

    def to_frame(self, *, stamps: Stamps | None = None) -> pd.DataFrame:
        """Convert the timeline to a table, one row per segment.

        Parameters
        ----------
        stamps
            Which end of a segment `timestamp` names: `"start"`, like label files that begin at 0,
            or `"end"`, like label files that begin at 500. By default `timestamp` names the start,
            and a further column `end` names the end.

        Returns
        -------
        Columns `timestamp` [ms] and each target; `end` [ms], if `stamps` is None; `speech`, if it
        was looked for; `short`, true throughout, if the recording is short; `remarks`, if there are
        any.
        """
        start = np.rint(1000 * self.time).astype(np.int64)
        end = np.rint(1000 * (self.time + self.step)).astype(np.int64)
        columns: dict[str, Any] = {"timestamp": end if stamps == "end" else start}
        for column, target in enumerate(self.targets):
            columns[target] = self.values[:, column]
        if stamps is None:
            columns["end"] = end
        if self.speech is not None:
            columns["speech"] = self.speech
        # The table may be read without its figure, so it must carry these warnings itself.
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
        The model, already on the device where it runs.
    description
        The model's configuration and record.
    regressor
        A regressor that predicts from the model's features; None uses the model's own head.
    quality
        The predictor's known quality; by default, what the description states.
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
        """Load the predictor of a run, of a model's folder, or of a file of `valence model`.

        Nothing in the folder or file is executed.

        Parameters
        ----------
        where
            The run or folder, or a file of `valence model`.
        regressor
            `"best"`: predict with the best pipeline of the run's sweep.
        device
            Name of the torch device; by default a GPU if there is one, otherwise the CPU.

        Raises
        ------
        ModelError
            If the model or the regressor is missing or damaged, or if they do not belong together
            or to the run.
        MissingStageError
            If the training, or the sweep that made the regressor, is not finished.
        DamagedError
            If the record of the training or of the sweep is damaged, or lost in a run's folder.
        """
        if isinstance(where, Run):
            where = where.root
        root = opened_model(where if isinstance(where, Location) else Location.parse(where))
        folder_of_model = model_folder(root)
        model, description = load_any_model(root)
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
        """Return the sections of the configuration that a prediction depends on."""
        return self.description.config

    @property
    def targets(self) -> tuple[str, ...]:
        """Return the names of the predicted targets."""
        if self.regressor is not None:
            return (self.regressor.about["target"],)
        return tuple(self.model.config.targets)

    def require_input(self, *, given: bool) -> None:
        """Raise `UsageError` if features are given and needless, or are needed and not given."""
        step_ms = self.config.preprocess.segment_ms
        require_input(self.description.features, given=given, step_ms=step_ms)

    def __call__(
        self,
        y: ArrayLike,
        *,
        sr: int,
        features: ArrayLike | None = None,
        speech: str | None = "auto",
    ) -> Timeline:
        """Predict the timeline of a recording in memory.

        Parameters
        ----------
        y
            Samples `[samples]` or `[channels, samples]`. Several channels are reduced to the
            channel that the model was trained on (by default the mean of all). The dtype is a float
            of 16, 32 or 64 bits, or a signed integer of 16 or 32 bits, whose full scale becomes 1.
        sr
            Sample rate in Hz. Sound at another rate than the model's is resampled.
        features
            Features of the segments, `[segments, columns]`, for a model that takes a set of
            features (`description.features` names its columns); NaN where there is no value.
        speech
            The method that finds speech: `"auto"` (Silero VAD where it is installed, else energy),
            `"silero"` or `"energy"`. With None, the timeline says nothing of speech.

        Raises
        ------
        TypeError
            If `y`, or an element of a list, has another dtype (unsigned samples are refused because
            their zero is not silence), if a list mixes dtypes, or if a list holds Python integers
            outside [-1, 1].
        AudioError
            If the sound is shorter than one segment (0.5 s) or silent, a sample is not finite, the
            array has another shape, or the rate is invalid.
        UsageError
            If the model takes features and none are given, or takes none and some are; or if the
            method that finds speech is not installed.
        FeatureError
            If the features have another shape, or one is infinite.
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
            # With one channel, the caller has already chosen.
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
        given = None if features is None else given_features(features)
        timeline = self._timeline([samples], name="The recording", features=given, speech=speech)
        return replace(timeline, remarks=(*remarks, *timeline.remarks))

    def predict_file(
        self, file: Location, *, features: FeaturesOf | None = None, speech: str | None = "auto"
    ) -> Timeline:
        """Predict the timeline of an audio file of any length, which is decoded in blocks.

        Parameters
        ----------
        file
            The audio file.
        features
            Function that gives its features, for a model that takes a set of features.
        speech
            The method that finds speech, or None, as in a call.

        Raises
        ------
        AudioError
            If the file cannot be decoded, is silent, or is shorter than one segment (0.5 s).
        UsageError, FeatureError
            In the cases that a call names.
        PredictionError
            If a prediction is not finite.
        """
        with on_disk(file) as path:
            return self.predict_path(path, name=file, features=features, speech=speech)

    def predict_path(
        self,
        path: Path,
        *,
        name: Location | Path | None = None,
        features: FeaturesOf | None = None,
        speech: str | None = "auto",
    ) -> Timeline:
        """Predict an audio file on disk, like `predict_file`; messages call the file `name`."""
        name = path if name is None else name
        preprocess = self.config.preprocess
        reading = AudioReading(path, sr=preprocess.sr, channel=preprocess.channel, name=name)
        timeline = self._timeline(reading, name=f"'{name}'", features=features, speech=speech)
        remarks = (*reading.remarks, *reading.mismatches(), *timeline.remarks)
        return replace(timeline, remarks=remarks)

    def mel(self, y: Array) -> NDArray[Any]:
        """Compute the mel `[n, n_mels, n_frames]` in dB of samples `[samples]` at the model's rate.

        The result equals what preprocessing stores: whole segments, levelled, in the dtype of the
        store.
        """
        config = self.config
        parts = [mel for mel, _ in self._mel([y])]
        none = np.empty((0, config.mel.n_mels, config.mel.n_frames), config.preprocess.dtype)
        return np.concatenate([none, *parts])

    def _timeline(
        self,
        blocks: Iterable[Array],
        *,
        name: str,
        features: FeaturesOf | None,
        speech: str | None,
    ) -> Timeline:
        self.require_input(given=features is not None)
        config, length = self.config, self.config.sequence.length
        remarks: list[str] = []
        detector = None if speech is None else SpeechDetector(speech, sr=config.preprocess.sr)
        blocks = blocks if detector is None else detector.listen(blocks)
        average = OverlapAverage(len(self.targets), length)
        envelope: list[Array] = []
        # Segments from `first` on, which later sequences still need.
        dtype = config.preprocess.dtype if features is None else "float32"
        held = np.empty((0, *self.model.input_shape), dtype)
        first = 0
        parts = self._mel(blocks) if features is None else self._joined(blocks, features, remarks)
        for inputs, range_ in _in_blocks(parts):
            envelope.append(range_)
            held = np.concatenate([held, inputs])
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
        step = config.preprocess.segment_seconds
        return Timeline(
            time=np.arange(n, dtype=np.float64) * step,
            values=values,
            targets=self.targets,
            short=short,
            envelope=ranges / (loudest if loudest > 0 else 1),
            step=step,
            remarks=(*remarks, *_remarks(values)),
            speech=None if detector is None else detector.shares(n, step=step),
            speech_by="" if detector is None else detector.by,
        )

    def _joined(
        self, blocks: Iterable[Array], features: FeaturesOf, remarks: list[str]
    ) -> Iterator[tuple[NDArray[Any], Array]]:
        """Yield the features of all segments at once, with the range of their samples.

        Remarks on the features are added to `remarks`.
        """
        samples = self.config.preprocess.segment_samples
        ranges = [
            _ranges(segments)
            for segments in iter_segments(blocks, samples, segments=_CHUNK_SEGMENTS)
            if len(segments)
        ]
        if not ranges:
            return
        joined = np.concatenate(ranges, axis=1)
        n = joined.shape[1] // _PARTS
        values, found = taken_features(features, n, self.model.input_shape[0])
        remarks += found
        yield values, joined

    def _mel(self, blocks: Iterable[Array]) -> Iterator[tuple[NDArray[Any], Array]]:
        """Yield the mel of segments as preprocessing stores it, with the range of their samples."""
        preprocess = self.config.preprocess
        for segments in iter_segments(blocks, preprocess.segment_samples, segments=_CHUNK_SEGMENTS):
            levelled = normalize(segments, level=preprocess.level, level_dbfs=preprocess.level_dbfs)
            mel = log_mel(levelled, self.config.mel, sr=preprocess.sr)
            yield mel.astype(preprocess.dtype), _ranges(segments)

    def _predict(
        self, inputs: NDArray[Any], starts: NDArray[np.int64], length: int, *, first: int, name: str
    ) -> Array:
        """Predict the sequences that begin at `starts`, counted from segment `first`."""
        outputs = sequence_outputs(self.model, inputs, starts, length)
        found = outputs.prediction
        if self.regressor is not None and np.isfinite(outputs.feature).all():
            found = self.regressor.predict(outputs.feature).astype(np.float32)[:, None]
        elif self.regressor is not None:
            found = outputs.feature
        # Written as not(<=) so that NaN counts as bad too.
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
    """Convert samples to float32 with full scale at 1; refuse dtypes of unknown scale."""
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
    """Collect the dtypes in a nested list; None stands for Python's own numbers."""
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
    """Check that all samples of a list have the same full scale, and return them."""
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
        # NumPy would convert them to one dtype, and their different full scales would be lost.
        names = ", ".join(sorted("Python's numbers" if d is None else str(d) for d in dtypes))
        raise TypeError(
            f"A list of samples of several dtypes was found ({names}). Expected float16, float32, "
            "float64, int16 or int32 throughout; bring all to floats in [-1, 1] first."
        )
    return found


def _ranges(segments: Array) -> Array:
    """Find the range `[2, parts * n]` of the samples in each part of segments `[n, samples]`."""
    edges = np.linspace(0, segments.shape[1], _PARTS, endpoint=False).astype(np.intp)
    low = np.minimum.reduceat(segments, edges, axis=1)
    high = np.maximum.reduceat(segments, edges, axis=1)
    return np.stack([low.ravel(), high.ravel()])


def _remarks(values: Array) -> tuple[str, ...]:
    """Return the remarks that a reader must know about predicted values `[n, targets]`."""
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
    """Join small parts into blocks, because calling the model on each part costs more."""
    inputs: list[NDArray[Any]] = []
    ranges: list[Array] = []
    for part, range_ in parts:
        inputs.append(part)
        ranges.append(range_)
        if sum(map(len, inputs)) >= _BLOCK_SEGMENTS:
            yield np.concatenate(inputs), np.concatenate(ranges, axis=1)
            inputs, ranges = [], []
    if inputs:
        yield np.concatenate(inputs), np.concatenate(ranges, axis=1)
