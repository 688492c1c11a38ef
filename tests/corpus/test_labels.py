from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from valence.config import Target
from valence.corpus.labels import Labels, read_labels, require_labelled
from valence.corpus.muse import Recording
from valence.errors import AnnotationError
from valence.storage.location import Location


def _recording(folder: Path, **values: str) -> Recording:
    files: dict[Target, Location] = {}
    for target in ("valence", "arousal"):
        if target in values:
            (folder / f"{target}.csv").write_text(f"timestamp,value\n{values[target]}")
            files[target] = Location.parse(folder / f"{target}.csv")
    return Recording("7", Location.parse(folder / "7.wav"), "7", labels=files)


def _read(recording: Recording, split: str = "train", *targets: Target) -> Labels:
    return read_labels(recording, split, targets=targets or ("valence",), step_ms=500)  # type: ignore[arg-type]


def test_parts_by_hand(tmp_path: Path) -> None:
    labels = _read(_recording(tmp_path, valence="0,0.1\n500,0.2\n1000,\n1500,0.4\n"))
    np.testing.assert_allclose(labels.part("valence", 0, 2), [0.1, 0.2], atol=1e-6)
    np.testing.assert_allclose(labels.part("valence", 1, 5), [0.2, np.nan, 0.4, np.nan, np.nan])
    assert np.isnan(labels.part("arousal", 0, 3)).all()
    assert labels.part("valence", 9, 2).dtype == np.float32


def test_labelled_segments_have_all_targets(tmp_path: Path) -> None:
    labels = _read(
        _recording(
            tmp_path, valence="0,0.1\n500,0.2\n1000,\n1500,0.4\n", arousal="0,\n500,0.2\n1000,0.1\n"
        )
    )
    assert labels.joined(4, ("valence",)) == (3, ())
    assert labels.joined(4, ("arousal",)) == (2, ())
    assert labels.joined(4, ("valence", "arousal")) == (1, ())
    count, remarks = labels.joined(12, ("valence",))
    assert count == 3
    assert [remark.partition(":")[0] for remark in remarks] == ["arousal", "valence"]


@pytest.mark.parametrize("split", ["train", "validation"])
def test_a_needed_label_file_is_there_and_sound(tmp_path: Path, split: str) -> None:
    with pytest.raises(AnnotationError, match=rf"is a {split} recording and has no label file"):
        _read(_recording(tmp_path), split)
    with pytest.raises(AnnotationError, match="line 2"):
        _read(_recording(tmp_path, valence="0,glad\n"), split)


def test_a_label_file_that_is_not_needed_may_be_anything(tmp_path: Path) -> None:
    damaged = _recording(tmp_path, valence="0,0.1\n", arousal="0,calm\n")
    labels = _read(damaged, "train")
    assert set(labels.annotations) == {"valence"}
    assert labels.remarks[0].startswith("labels not used")
    assert set(_read(damaged, "test", "arousal").annotations) == {"valence"}
    with pytest.raises(AnnotationError, match="calm"):
        _read(damaged, "train", "arousal")


def test_none_labelled(tmp_path: Path) -> None:
    recording = _recording(tmp_path)
    require_labelled(recording, "train", 1, 9, targets=("valence",))
    require_labelled(recording, "test", 0, 9, targets=("valence",))
    with pytest.raises(AnnotationError, match="none of its 9 segments"):
        require_labelled(recording, "validation", 0, 9, targets=("valence",))
