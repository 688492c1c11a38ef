"""The study's files: naive slices of the store, of the stated shape and number."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from valence.audio.standardization import MelMoments
from valence.config import Config
from valence.corpus.muse import read_corpus
from valence.errors import UsageError, ValenceError
from valence.segments.npz import NpzPlan, plan_npz, write_npz
from valence.segments.preprocessing import Job, process_recording
from valence.segments.store import SegmentStore
from valence.storage.location import Location

_CONFIG = Config.resolve(Config(), assignments=["sequence.length=20", "augment.copies=1"])


@pytest.fixture(scope="module")
def store(tiny_corpus: Location, tmp_path_factory: pytest.TempPathFactory) -> SegmentStore:
    store = SegmentStore(Location.parse(tmp_path_factory.mktemp("segments")))
    first, second = read_corpus(tiny_corpus).recordings[:2]
    jobs = [Job(first, "train", 1), Job(second, "validation", 0)]
    outcomes = [process_recording(job, store, _CONFIG) for job in jobs]
    store.write_recordings([outcome.row() for outcome in outcomes])
    moments = outcomes[0].moments
    assert isinstance(moments, MelMoments)
    store.write_standardizer(moments, "global")
    return store


def test_files_are_naive_slices(store: SegmentStore, tmp_path: Path) -> None:
    plan = plan_npz(store, _CONFIG, splits=["train", "validation"], stride=7)
    folder = Location.parse(tmp_path)
    written = sum(write_npz(store, _CONFIG, plan, folder))
    files = sorted(tmp_path.rglob("*.npz"))
    # 80 segments: windows of 20 begin at 0, 7, ..., 56; two copies of one, one of the other.
    assert written == plan.files == len(files) == 27
    assert sum(file.stat().st_size for file in files) == pytest.approx(plan.size, rel=0.01)
    standardizer = store.standardizer()
    for split, copies in (("train", 2), ("validation", 1)):
        for file in sorted((tmp_path / split).glob("*.npz")):
            name, copy, start = file.stem.rsplit("_", 2)
            segments = store.read(name, int(copy))
            held = slice(int(start), int(start) + 20)
            with np.load(file) as content:
                assert content["mel"].shape == (20, 1, 128, 34)
                assert content["mel"].dtype == content["labels"].dtype == np.float32
                expected = (segments.mel[held].astype(np.float32) - standardizer.mean[0]) / (
                    standardizer.std[0]
                )
                np.testing.assert_allclose(content["mel"][:, 0], expected, rtol=1e-5, atol=1e-6)
                np.testing.assert_array_equal(content["labels"][:, 0], segments.valence[held])
                np.testing.assert_array_equal(content["labels"][:, 1], segments.arousal[held])
        assert len({file.stem.rsplit("_", 2)[1] for file in (tmp_path / split).iterdir()}) == copies


def test_size_is_stated_before_a_disk_is_filled(store: SegmentStore, tmp_path: Path) -> None:
    folder = Location.parse(tmp_path)
    large = NpzPlan((), 40, 1, 3000, 2 * 10**9)
    with pytest.raises(UsageError, match=r"3000 files, 2\.0 GB.*--yes"):
        large.refuse_if_large(folder, agreed=False)
    large.refuse_if_large(folder, agreed=True)
    with pytest.raises(ValenceError, match="has room for"):
        NpzPlan((), 40, 1, 10**9, 10**18).refuse_if_large(folder / "not/yet/there", agreed=True)
    with pytest.raises(UsageError, match="no sequence"):
        plan_npz(store, _CONFIG, splits=["test"], stride=1)
