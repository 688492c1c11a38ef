"""The inputs of a model, segment by segment: the stored mel, or a set of features.

All that trains, extracts or explains reads its inputs here, and asks for nothing but their blocks.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from valence.audio.standardization import Standardizer
from valence.config import Config
from valence.errors import DamagedError, FeatureError, StaleError
from valence.model.network import FeatureInput
from valence.run import Run
from valence.segments.feature_sets import FeatureSet, open_set
from valence.segments.sequences import Span, total_length
from valence.segments.store import SegmentStore
from valence.training.data.set_note import SetNote, differing, digests_of, survey

Inputs = NDArray[np.floating[Any]]


class SegmentInputs(Protocol):
    """The inputs of the segments of a run's recordings, and how a model standardises them."""

    @property
    def store(self) -> SegmentStore:
        """Return the store that holds the labels of the segments."""

    @property
    def features(self) -> FeatureInput | None:
        """Return the set of features that these are; None for mel."""

    @property
    def segment_bytes(self) -> int:
        """Return the bytes of one segment's input."""

    def standardizer(self) -> Standardizer:
        """Return the standardisation that was fitted on the training recordings."""

    def blocks(self, recording: str, copy: int = 0) -> Iterator[Inputs]:
        """Read the inputs of a recording's segments in order, `[n, *input_shape]` each time."""


@dataclass(frozen=True)
class MelInputs:
    """The mel of the segment store."""

    store: SegmentStore
    config: Config

    @property
    def features(self) -> None:
        """Return None: these are no features."""

    @property
    def segment_bytes(self) -> int:
        """Return the bytes of the mel of one segment."""
        mel, itemsize = self.config.mel, np.dtype(self.config.preprocess.dtype).itemsize
        return mel.n_mels * mel.n_frames * itemsize

    def standardizer(self) -> Standardizer:
        """Return the standardisation of the configured scope."""
        return self.store.standardizer(self.config.standardize.scope)

    def blocks(self, recording: str, copy: int = 0) -> Iterator[Inputs]:
        """Read the mel of a copy in dB as stored, `[n, n_mels, n_frames]` each time.

        Raises
        ------
        MissingStageError, DamagedError
            In the cases that `SegmentStore.blocks` names.
        """
        for block in self.store.blocks(recording, copy):
            yield block.mel


@dataclass(frozen=True)
class SetInputs:
    """A set of features, whose files lie in the corpus and are those of a note.

    Attributes
    ----------
    store
        Store of the run.
    source
        The set, its columns in the order of the note.
    note
        Note of the training.
    lengths
        Number of segments of each recording, by Id.
    """

    store: SegmentStore
    source: FeatureSet
    note: SetNote
    lengths: Mapping[str, int]

    @property
    def features(self) -> FeatureInput:
        """Return the set as a model's file states it."""
        return self.note.features

    @property
    def segment_bytes(self) -> int:
        """Return the bytes of the features of one segment."""
        return len(self.source.columns) * np.dtype(np.float32).itemsize

    def standardizer(self) -> Standardizer:
        """Return the standardisation of each column."""
        return self.note.standardizer

    def blocks(self, recording: str, copy: int = 0) -> Iterator[Inputs]:
        """Read the features of a recording, float32 `[n, columns]`, NaN where there is no value.

        Raises
        ------
        DamagedError
            If the file is missing, or is not the noted one.
        """
        assert copy == 0, "augmented copies have no features"
        try:
            if self.source.digest(recording) != self.note.files.get(recording):
                raise FeatureError(f"'{self.source.file(recording)}' was changed")
            values = self.source.read(recording, self.lengths[recording])
        except FeatureError as error:
            raise DamagedError(
                f"The features of '{recording}' are not those that the training took: {error} "
                "Restore the file, or run 'valence train' with --overwrite to train anew."
            ) from error
        yield values


def open_source(run: Run, config: Config, recordings: Collection[str]) -> FeatureSet:
    """Open the set that `model.input` names, in the corpus of the run, for its `recordings`.

    Raises
    ------
    MissingStageError
        If the run does not say which corpus it is of, or the corpus is not there.
    UsageError
        If the corpus has no such set.
    FeatureError
        If none of the set's files can be used.
    """
    name = config.model.feature_set
    assert name is not None, "mel is no set"
    corpus = run.corpus(needed_for=f"the feature set '{name}' that model.input names")
    return open_set(corpus, name, recordings, step_ms=config.preprocess.segment_ms)


def usable_recordings(store: SegmentStore) -> dict[str, int]:
    """Return the number of segments of each recording that is not rejected, by Id, sorted."""
    frame = store.recordings()
    frame = frame[frame["status"] == "ok"].sort_values("Id")
    return dict(zip(frame["Id"].tolist(), frame["segments"].tolist(), strict=True))


def inputs_of_trained(run: Run, config: Config) -> SegmentInputs:
    """Open the inputs that the finished training of a run took.

    Raises
    ------
    StaleError
        If a file of the set is not the one that the training took; the message names it.
    DamagedError
        If the training's note of the set is missing or damaged.
    MissingStageError, UsageError, FeatureError
        If the set cannot be read.
    """
    store = SegmentStore(run.folder("segments"))
    if config.model.feature_set is None:
        return MelInputs(store, config)
    stage = run.stage("train")
    note = SetNote.read(stage.folder, command=stage.command())
    lengths = usable_recordings(store)
    source = open_source(run, config, lengths)
    require_noted(note, source, digests_of(source, lengths), run)
    return SetInputs(store, replace(source, columns=note.columns), note, lengths)


def inputs_to_train(run: Run, config: Config, segments: str, *, overwrite: bool) -> SegmentInputs:
    """Open the inputs of a training that is to begin or to go on.

    A set of features is read once, unless the training has noted the same files before.

    Parameters
    ----------
    run, config
        Run and configuration of the training.
    segments
        Digest of the run's segments.
    overwrite
        Whether a training with other files of the set may be replaced.

    Raises
    ------
    StaleError
        If a file of the set is not the one that the existing training took, and `overwrite` is
        False; the message names it.
    MissingStageError, UsageError, FeatureError
        If the set cannot be used.
    """
    store = SegmentStore(run.folder("segments"))
    if config.model.feature_set is None:
        return MelInputs(store, config)
    lengths = usable_recordings(store)
    source = open_source(run, config, lengths)
    files, note = digests_of(source, lengths), _note_before(run)
    if note is not None and {*note.columns} == {*source.columns}:
        # The order of the columns is that of the first file, which need not be the run's.
        source = replace(source, columns=note.columns)
    if note is None or not note.is_of(source, files, segments):
        own = note is not None and (note.set, note.segments) == (source.name, segments)
        if note is not None and own and not overwrite:
            require_noted(note, source, files, run)
        frame = store.recordings()
        note = survey(source, files, frame[frame["status"] == "ok"], segments)
    return SetInputs(store, source, note, lengths)


def _note_before(run: Run) -> SetNote | None:
    """Read the note of an existing training; None if there is none, or it is damaged."""
    stage = run.stage("train")
    try:
        return SetNote.read(stage.folder, command=stage.command())
    except DamagedError:
        return None


def require_noted(note: SetNote, source: FeatureSet, files: Mapping[str, str], run: Run) -> None:
    """Refuse files that are not those of a training's note.

    Raises
    ------
    StaleError
        If one differs; the message names it.
    """
    changed = differing(note, source, files)
    if changed is not None:
        stage = run.stage("train")
        raise StaleError(
            f"{changed} since '{stage.folder}' was made. Expected the files of the feature set "
            f"'{note.set}' that the training took. Restore them, or run "
            f"'{stage.command(overwrite=True)}' to train with those that are there."
        )


def input_blocks(inputs: SegmentInputs, spans: Sequence[Span]) -> Iterator[tuple[slice, Inputs]]:
    """Read the inputs of `spans` a block at a time, each block with its place in the whole."""
    first = 0
    for span in spans:
        for block in inputs.blocks(span.recording, span.copy):
            yield slice(first, first + len(block)), block
            first += len(block)
    assert first == total_length(spans), "a segment has labels and an input"


def load_inputs(inputs: SegmentInputs, spans: Sequence[Span]) -> Inputs:
    """Read the inputs of all `spans` in order, `[segments, *input_shape]`."""
    loaded: Inputs | None = None
    for where, block in input_blocks(inputs, spans):
        if loaded is None:
            loaded = np.empty((total_length(spans), *block.shape[1:]), block.dtype)
        loaded[where] = block
    assert loaded is not None, "there is at least one recording"
    return loaded
