"""Batches are slices of what is stored, whoever holds the segments."""

from __future__ import annotations

from typing import Literal

import numpy as np
import pytest
import torch

from valence.config import Config
from valence.corpus.muse import read_corpus
from valence.errors import TrainingError
from valence.segments.preprocessing import Job, process_recording
from valence.segments.sequences import read_outline
from valence.segments.store import SegmentStore
from valence.storage.location import Location
from valence.training.data.capacity import Members, device_room, held_bytes, members
from valence.training.data.in_memory import ResidentSource, labelled_windows
from valence.training.data.inputs import MelInputs, load_inputs
from valence.training.data.sampling import Sampling, epoch_plan, window_starts

_CONFIG = Config.resolve(
    Config(),
    assignments=[
        "sequence.length=12",
        "sequence.stride=7",
        "train.batch_size=6",
        "train.windows_per_group=2",
        'model.targets=["arousal", "valence"]',
    ],
)
_SPLITS = ("train", "train", "validation")


@pytest.fixture(scope="module")
def store(tiny_corpus: Location, tmp_path_factory: pytest.TempPathFactory) -> SegmentStore:
    store = SegmentStore(Location.parse(tmp_path_factory.mktemp("segments")))
    chosen = read_corpus(tiny_corpus).recordings[:3]
    outcomes = [
        process_recording(Job(recording, split, int(split == "train")), store, _CONFIG)
        for recording, split in zip(chosen, _SPLITS, strict=True)
    ]
    rows = [outcome.row() for outcome in outcomes]
    rejected = {**rows[0], "Id": "zz", "status": "rejected", "reason": "bad"}
    unlabelled = {**rows[0], "Id": "zy", "labelled": 0}
    store.write_recordings([*rows, rejected, unlabelled])
    return store


def test_members_are_usable_and_sorted(store: SegmentStore) -> None:
    chosen = members(store, _CONFIG)
    assert chosen == Members(("01", "02"), ("03",), 1, ("arousal", "valence"))


def test_recordings_too_short_for_a_run_are_named(store: SegmentStore) -> None:
    # Of 80 segments: validation takes windows one by one, training eleven at a time.
    config = Config.resolve(
        _CONFIG, assignments=["train.windows_per_group=11", "train.batch_size=22"]
    )
    with pytest.raises(TrainingError, match=r"0 labelled .* at least 82 segments.* 1 to validate"):
        members(store, config)
    rows = store.recordings()
    rows.loc[rows["Id"] == "02", "segments"] = 81
    other = SegmentStore(Location.parse(f"{store.root}-other"))
    other.write_recordings(rows.to_dict("records"))
    config = Config.resolve(config, assignments=["sequence.length=11"])
    assert members(other, config) == Members(("02",), ("03",), 1, ("arousal", "valence"), ("01",))


def test_nothing_to_train_or_validate_on_is_an_error(store: SegmentStore) -> None:
    config = Config.resolve(_CONFIG, assignments=["sequence.length=81"])
    says = r"0 labelled recordings to train on .* and 0 to validate"
    with pytest.raises(TrainingError, match=says):
        members(store, config)


def test_a_shard_holds_what_is_stored(store: SegmentStore) -> None:
    outline = read_outline(store, ["02", "01"], 1, ("arousal", "valence"))
    mel = load_inputs(MelInputs(store, _CONFIG), outline.spans)
    assert mel.shape == (4 * 80, 128, 34)
    assert mel.dtype == np.float16
    for span, (name, copy) in zip(
        outline.spans, [("02", 0), ("02", 1), ("01", 0), ("01", 1)], strict=True
    ):
        assert (span.recording, span.copy, span.length) == (name, copy, 80)
        stored = store.read(name, copy)
        held = slice(span.offset, span.offset + 80)
        np.testing.assert_array_equal(mel[held], stored.mel)
        np.testing.assert_array_equal(outline.target[held, 0], stored.arousal)
        np.testing.assert_array_equal(outline.target[held, 1], stored.valence)


def test_size_is_that_of_the_arrays(store: SegmentStore) -> None:
    chosen = members(store, _CONFIG)
    inputs = MelInputs(store, _CONFIG)
    size = sum(
        load_inputs(inputs, read_outline(store, ids, copies, ("valence",)).spans).nbytes
        for ids, copies in ((chosen.train, 1), (chosen.validation, 0))
    )
    assert held_bytes(inputs, chosen) == size
    assert device_room(torch.device("cpu")) == 0


@pytest.mark.parametrize("residency", ["host", "device"])
def test_batches_are_naive_slices(
    store: SegmentStore, residency: Literal["host", "device"]
) -> None:
    chosen = members(store, _CONFIG)
    device = torch.device("cpu")
    inputs = MelInputs(store, _CONFIG)
    source = ResidentSource(inputs, _CONFIG, chosen, device=device, residency=residency)
    outline = read_outline(store, chosen.train, 1, chosen.targets)
    held = load_inputs(inputs, outline.spans)
    sampling = Sampling.of(_CONFIG.sequence, _CONFIG.train)
    plan = epoch_plan(outline, sampling, seed=4, epoch=2)
    batches = list(source.batches(4, 2))
    expected = [groups for pool in plan for groups in pool.batches]
    assert len(batches) == len(expected) > 3
    for batch, groups in zip(batches, expected, strict=True):
        mel = np.stack([held[start : start + 19] for start in groups])
        np.testing.assert_array_equal(batch.inputs.numpy(), mel)
        assert batch.inputs.dtype == torch.float16
        starts = window_starts(groups, sampling)
        target = np.stack([outline.target[at : at + 12].mean(axis=0) for at in starts])
        np.testing.assert_allclose(batch.target.numpy(), target, rtol=1e-6)
    again = list(source.batches(4, 2))
    assert all(torch.equal(a.inputs, b.inputs) for a, b in zip(batches, again, strict=True))
    assert not torch.equal(next(iter(source.batches(4, 3))).inputs, batches[0].inputs)


def test_validation_is_every_labelled_window_of_the_clean_recording(store: SegmentStore) -> None:
    chosen = members(store, _CONFIG)
    source = ResidentSource(
        MelInputs(store, _CONFIG), _CONFIG, chosen, device=torch.device("cpu"), residency="host"
    )
    (labelled,) = source.recordings()
    assert labelled.recording == "03"
    assert labelled.starts.tolist() == list(range(0, 69, 7))
    np.testing.assert_array_equal(labelled.inputs, store.read("03").mel)


def test_windows_without_a_label_are_not_evaluated() -> None:
    target = np.zeros((40, 1), np.float32)
    target[20] = np.nan
    sampling = Sampling.of(_CONFIG.sequence, _CONFIG.train)
    starts, labels = labelled_windows(target, sampling, "mean")
    assert starts.tolist() == [0, 7, 21, 28]
    assert labels.tolist() == [[0.0]] * 4
