"""The inputs of segments: mel of the store, or features of a set that must not change."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from tests.helpers.feature_sets import COLUMNS, add_set, made_features, taking, write_features
from valence.audio.standardization import MelMoments
from valence.config import Config
from valence.corpus.muse import read_corpus
from valence.corpus.splits import SplitName
from valence.errors import DamagedError, FeatureError, MissingStageError, StaleError, UsageError
from valence.run import Run
from valence.segments.preprocessing import Job, process_recording
from valence.segments.sequences import Span
from valence.segments.store import SegmentStore
from valence.storage.location import Location
from valence.training.data.capacity import held_bytes, members, pool_bytes
from valence.training.data.in_memory import ResidentSource
from valence.training.data.inputs import (
    MelInputs,
    SegmentInputs,
    SetInputs,
    inputs_of_trained,
    inputs_to_train,
    load_inputs,
)
from valence.training.data.sampling import Sampling, epoch_plan
from valence.training.data.set_note import SetNote

_SPLITS: dict[str, SplitName] = {"01": "train", "02": "train", "03": "validation"}


@pytest.fixture(scope="module")
def _segments(
    tiny_corpus: Location, tiny_config: Config, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A run of three recordings, without the records of its stages."""
    folder = tmp_path_factory.mktemp("run")
    run = Run.at(str(folder))
    store = SegmentStore(run.folder("segments"))
    known = {recording.id: recording for recording in read_corpus(tiny_corpus).recordings}
    jobs = [Job(known[name], split, int(split == "train")) for name, split in _SPLITS.items()]
    outcomes = [process_recording(job, store, tiny_config) for job in jobs]
    store.write_recordings([outcome.row() for outcome in outcomes])
    moments = [outcome.moments for outcome in outcomes if outcome.moments is not None]
    store.write_standardizer(moments[0].merge(moments[1]), "global")
    assert isinstance(moments[0], MelMoments)
    run.write_config(tiny_config, {"corpus": str(tiny_corpus), "synthetic": True})
    return folder


@pytest.fixture
def run(_segments: Path, tmp_path: Path) -> Run:
    """A run of its own whose corpus holds the set 'toy'."""
    import shutil

    shutil.copytree(_segments, tmp_path / "run")
    run = Run.at(str(tmp_path / "run"))
    add_set(run, Location.parse(tmp_path / "corpus"))
    return run


def _expected(run: Run) -> Mapping[str, NDArray[np.float32]]:
    return made_features(SegmentStore(run.folder("segments")))


def _to_train(run: Run, config: Config, *, overwrite: bool = False) -> SetInputs:
    inputs = inputs_to_train(run, config, "digest", overwrite=overwrite)
    assert isinstance(inputs, SetInputs)
    return inputs


def test_mel_is_that_of_the_store(run: Run, tiny_config: Config) -> None:
    inputs = inputs_to_train(run, tiny_config, "digest", overwrite=False)
    assert isinstance(inputs, MelInputs)
    assert inputs.features is None
    store = SegmentStore(run.folder("segments"))
    assert inputs.standardizer().to_json() == store.standardizer("global").to_json()
    for copy in (0, 1):
        mel = load_inputs(inputs, [Span("01", copy, 0, 80)])
        np.testing.assert_array_equal(mel, store.read("01", copy).mel)
    assert inputs.segment_bytes == 128 * 34 * 2


def test_features_are_those_of_the_files(run: Run, tiny_config: Config) -> None:
    inputs, expected = _to_train(run, taking(tiny_config)), _expected(run)
    assert inputs.features.set == "toy"
    assert inputs.features.columns == COLUMNS
    for name in _SPLITS:
        found = load_inputs(inputs, [Span(name, 0, 0, 80)])
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, expected[name], rtol=1e-6)
    both = np.concatenate([expected["01"], expected["02"]]).astype(np.float64)
    standardizer = inputs.standardizer()
    np.testing.assert_allclose(standardizer.mean, both.mean(axis=0), rtol=1e-5)
    np.testing.assert_allclose(standardizer.std, both.std(axis=0), rtol=1e-5)


def test_augmented_copies_take_no_part(run: Run, tiny_config: Config) -> None:
    config = taking(tiny_config)
    inputs = _to_train(run, config)
    assert members(inputs.store, tiny_config).copies == 1
    chosen = members(inputs.store, config)
    assert chosen.copies == 0
    assert chosen.train == ("01", "02")
    assert held_bytes(inputs, chosen) == 3 * 80 * len(COLUMNS) * 4
    assert pool_bytes(inputs, config, chosen) == 2 * 80 * len(COLUMNS) * 4


def test_batches_are_naive_slices_of_the_features(run: Run, tiny_config: Config) -> None:
    config = taking(tiny_config, "train.windows_per_group=2")
    inputs, expected = _to_train(run, config), _expected(run)
    chosen, device = members(inputs.store, config), torch.device("cpu")
    source = ResidentSource(inputs, config, chosen, device=device, residency="host")
    sampling = Sampling.of(config.sequence, config.train)
    plan = epoch_plan(source.outline, sampling, seed=4, epoch=2)
    joined = np.concatenate([expected["01"], expected["02"]])
    batches = list(source.batches(4, 2))
    groups = [each for pool in plan for each in pool.batches]
    assert len(batches) == len(groups) > 1
    for batch, starts in zip(batches, groups, strict=True):
        held = np.stack([joined[start : start + sampling.group_segments] for start in starts])
        assert batch.inputs.shape == (len(starts), 25, len(COLUMNS))
        np.testing.assert_allclose(batch.inputs.numpy(), held, rtol=1e-6)
    (labelled,) = source.recordings()
    np.testing.assert_allclose(np.asarray(labelled.inputs), expected["03"], rtol=1e-6)


def _noted(run: Run, config: Config) -> Location:
    """Note the set as a training does, and return the folder of the set."""
    inputs = _to_train(run, config)
    inputs.note.write(run.stage("train").folder)
    return inputs.source.root


def test_a_file_that_was_changed_is_refused_by_name(run: Run, tiny_config: Config) -> None:
    config = taking(tiny_config)
    folder, expected = _noted(run, config), _expected(run)
    before = inputs_of_trained(run, config)
    file = write_features(folder, "02", expected["02"] + 1)
    for work in (
        lambda: _to_train(run, config),
        lambda: inputs_of_trained(run, config),
    ):
        with pytest.raises(StaleError, match=rf"'{file}' was changed since .*--overwrite'"):
            work()
    # A reader that has begun finds it, too.
    with pytest.raises(DamagedError, match=rf"The features of '02' .*'{file}' was changed"):
        list(before.blocks("02"))
    assert len(next(iter(before.blocks("01")))) == 80
    again = _to_train(run, config, overwrite=True)
    assert before.features is not None
    assert again.features.digest != before.features.digest
    np.testing.assert_allclose(load_inputs(again, [Span("02", 0, 0, 80)]), expected["02"] + 1)


def test_a_file_that_is_lost_while_it_is_read_is_damage(run: Run, tiny_config: Config) -> None:
    folder = _noted(run, taking(tiny_config))
    inputs: SegmentInputs = inputs_of_trained(run, taking(tiny_config))
    (folder / "03.csv").delete()
    with pytest.raises(DamagedError, match=r"The features of '03' .*03\.csv' cannot be read"):
        list(inputs.blocks("03"))


def test_noted_files_are_not_surveyed_again(
    run: Run, tiny_config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = taking(tiny_config)
    _noted(run, config)
    monkeypatch.setattr("valence.training.data.inputs.survey", pytest.fail)
    assert _to_train(run, config).note.files.keys() == _SPLITS.keys()


def test_another_first_file_does_not_change_the_order_of_the_columns(
    run: Run, tiny_config: Config
) -> None:
    config = taking(tiny_config)
    folder, expected = _noted(run, config), _expected(run)
    # The file is of no recording of the run, and comes first in the folder.
    write_features(folder, "00", expected["01"][:, ::-1], columns=COLUMNS[::-1])
    for inputs in (_to_train(run, config), inputs_of_trained(run, config)):
        assert inputs.features is not None
        assert inputs.features.columns == COLUMNS
        found = load_inputs(inputs, [Span("01", 0, 0, 80)])
        np.testing.assert_allclose(found, expected["01"], rtol=1e-6)


def test_what_is_not_there_is_named(run: Run, tiny_config: Config, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"no feature set 'toi'\. Did you mean 'toy'\?"):
        _to_train(run, taking(tiny_config, name="toi"))
    with pytest.raises(DamagedError, match=r"input\.json' cannot be read"):
        inputs_of_trained(run, taking(tiny_config))
    (Location.parse(tmp_path) / "corpus" / "feature_segments" / "toy" / "02.csv").delete()
    with pytest.raises(FeatureError, match=r"no file for 1 of 3 recordings: '02'"):
        _to_train(run, taking(tiny_config))
    run.write_config(run.config(), {"corpus": str(tmp_path / "moved"), "synthetic": True})
    says = "moved', the corpus that .*no longer there.*valence preprocess CORPUS"
    with pytest.raises(MissingStageError, match=says):
        _to_train(run, taking(tiny_config))


def test_missing_values_are_remarked(run: Run, tiny_config: Config) -> None:
    values = _expected(run)["01"].copy()
    values[3:7] = np.nan
    values[9, 2] = np.nan
    folder = Location.parse(str(run.record()["corpus"])) / "feature_segments" / "toy"
    write_features(folder, "01", values)
    note: SetNote = _to_train(run, taking(tiny_config)).note
    assert note.remarks == (
        "the feature set 'toy' has 4 segments without any value and 1 single value missing, in "
        "'01': the model sees the training's mean there",
    )
