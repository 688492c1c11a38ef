from __future__ import annotations

from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from valence.config import SplitConfig
from valence.corpus.muse import Corpus, Partition, Recording, subject_of
from valence.corpus.splits import assign_splits, resolve_protocol
from valence.errors import SplitError
from valence.storage.location import Location

_ROOT = Location.parse("/corpus")


def _corpus(
    partition: Mapping[str, Partition | None], subjects: Mapping[str, str] | None = None
) -> Corpus:
    known = subjects or {}
    return Corpus(
        _ROOT,
        tuple(
            Recording(name, _ROOT / f"{name}.wav", known.get(name, subject_of(name)), value)
            for name, value in sorted(partition.items())
        ),
    )


def _unsplit(*names: str) -> Corpus:
    return _corpus(dict.fromkeys(names))


_PARTITIONED = _corpus({"1": "train", "2": "train", "3": "devel", "4": "test"})
_SUFFIXED = _unsplit("1", "2", "3", "4", "5", "8_train", "8_devel", "8_test")


def test_partition_goes_as_it_stands() -> None:
    assert assign_splits(_PARTITIONED, SplitConfig()) == {
        "1": "train",
        "2": "train",
        "3": "validation",
        "4": "test",
    }


def test_a_recording_that_the_partition_does_not_name_takes_no_part() -> None:
    corpus = _corpus({"1": "train", "2": "devel", "3": None})
    assert assign_splits(corpus, SplitConfig())["3"] == "unlabelled"


def test_the_papers_split_tests_on_train_and_devel_of_suffixed_recordings() -> None:
    splits = assign_splits(_SUFFIXED, SplitConfig())
    assert splits["8_train"] == splits["8_devel"] == "test"
    assert splits["8_test"] == "unlabelled"
    rest = [splits[name] for name in "12345"]
    assert sorted(rest) == ["train"] * 4 + ["validation"]


def test_auto_takes_the_paper_where_there_are_suffixes() -> None:
    assert resolve_protocol(_SUFFIXED, SplitConfig()) == "paper"
    assert resolve_protocol(_PARTITIONED, SplitConfig()) == "partition"
    named = _corpus({"1": "train", "2": "devel", "8_devel": "devel"})
    assert resolve_protocol(named, SplitConfig()) == "paper"
    assert resolve_protocol(named, SplitConfig(protocol="partition")) == "partition"


@given(
    subjects=st.integers(2, 40),
    takes=st.integers(1, 3),
    share=st.floats(0.01, 0.99),
    seed=st.integers(0, 2**32 - 1),
)
def test_validation_is_a_share_of_the_subjects(
    subjects: int, takes: int, share: float, seed: int
) -> None:
    names = [f"s{subject}-{take}" for subject in range(subjects) for take in range(takes)]
    corpus = _corpus(
        dict.fromkeys([*names, "x_devel"]), {name: name.partition("-")[0] for name in names}
    )
    splits = assign_splits(corpus, SplitConfig(validation_share=share, seed=seed))
    of_subject: dict[str, set[str]] = {}
    for name in names:
        of_subject.setdefault(name.partition("-")[0], set()).add(splits[name])
    assert all(len(found) == 1 for found in of_subject.values())
    validation = sum(found == {"validation"} for found in of_subject.values())
    assert validation == min(max(1, round(share * subjects)), subjects - 1)
    assert set(splits.values()) == {"train", "validation", "test"}


def test_the_seed_chooses_and_a_further_subject_moves_at_most_one() -> None:
    names = [f"{i}" for i in range(50)]
    corpus = _unsplit(*names, "x_devel")
    first, again, other = (assign_splits(corpus, SplitConfig(seed=seed)) for seed in (0, 0, 1))
    assert first == again
    assert first != other
    larger = assign_splits(_unsplit(*names, "50", "x_devel"), SplitConfig(seed=0))
    assert sum(first[name] != larger[name] for name in names) <= 1


def test_the_paper_needs_suffixed_recordings() -> None:
    with pytest.raises(SplitError, match=r"'paper' tests on .*'/corpus' has none.*'partition'"):
        assign_splits(_PARTITIONED, SplitConfig(protocol="paper"))


def test_the_paper_needs_two_subjects_to_divide() -> None:
    with pytest.raises(SplitError, match="'/corpus' has 1 of them"):
        assign_splits(_unsplit("1", "8_devel"), SplitConfig())


def test_partition_needs_its_file() -> None:
    with pytest.raises(SplitError, match=r"partition\.csv is absent or names none"):
        assign_splits(_unsplit("1", "2"), SplitConfig())


@pytest.mark.parametrize(("left", "wanted"), [("train", "devel"), ("devel", "train")])
def test_partition_needs_training_and_validation(left: Partition, wanted: str) -> None:
    corpus = _corpus({"1": left, "2": "test"})
    with pytest.raises(SplitError, match=rf"Expected at least one; name it '{wanted}'"):
        assign_splits(corpus, SplitConfig())


def test_a_subject_in_two_parts_is_refused_by_name_with_the_way_out() -> None:
    corpus = _corpus({"1": "train", "8_devel": "devel", "8_test": "test", "8_train": "train"})
    with pytest.raises(SplitError) as raised:
        assign_splits(corpus, SplitConfig(protocol="partition"))
    message = str(raised.value)
    assert (
        "Subject '8' is in train ('8_train') and validation ('8_devel') and test ('8_test')"
        in message
    )
    assert "metadata/partition.csv" in message
    assert "set split.protocol = 'paper'" in message
    assert "split.allow_subject_overlap = true" in message


def test_all_crossing_subjects_are_counted() -> None:
    corpus = _corpus(
        {"a1": "train", "a2": "test", "b1": "devel", "b2": "train", "c": "devel"},
        {"a1": "a", "a2": "a", "b1": "b", "b2": "b"},
    )
    with pytest.raises(SplitError, match=r"Subject 'a' .*\(1 other subject likewise\)"):
        assign_splits(corpus, SplitConfig())


def test_overlap_can_be_allowed() -> None:
    corpus = _corpus({"8_devel": "devel", "8_train": "train"})
    config = SplitConfig(protocol="partition", allow_subject_overlap=True)
    assert assign_splits(corpus, config) == {"8_devel": "validation", "8_train": "train"}


def test_subjects_csv_can_make_a_subject_cross_under_the_paper_too() -> None:
    corpus = _corpus(dict.fromkeys(["1", "2", "3", "8_devel"]), {"1": "8", "2": "8"})
    with pytest.raises(SplitError, match=r"Subject '8' .*Correct metadata/subjects\.csv"):
        assign_splits(corpus, SplitConfig())


def test_unlabelled_recordings_do_not_count_as_crossing() -> None:
    corpus = _corpus(dict.fromkeys(["1", "2", "8_test", "9_devel"]), {"8_test": "1"})
    assert assign_splits(corpus, SplitConfig())["8_test"] == "unlabelled"
