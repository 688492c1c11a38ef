"""Divide recordings by subject into training, validation and test.

Two protocols exist: the one of the paper, and the one that follows `metadata/partition.csv`.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Mapping
from typing import Literal

from valence.config import SplitConfig
from valence.corpus.muse import Corpus, Recording
from valence.errors import SplitError

SplitName = Literal["train", "validation", "test", "unlabelled"]
Protocol = Literal["paper", "partition"]

# The order in which a message names the splits.
_USED: tuple[SplitName, ...] = ("train", "validation", "test")


def resolve_protocol(corpus: Corpus, config: SplitConfig) -> Protocol:
    """Choose the protocol: the configured one, or with `auto` the one that the corpus supports.

    Raises
    ------
    SplitError
        If the corpus lacks what the protocol needs.
    """
    suffixed = any(recording.suffix for recording in corpus.recordings)
    named = any(recording.partition for recording in corpus.recordings)
    protocol = config.protocol
    if protocol == "auto":
        protocol = "paper" if suffixed else "partition"
    if protocol == "paper" and not suffixed:
        raise SplitError(
            "split.protocol = 'paper' tests on recordings whose Id ends in _train or _devel, and "
            f"'{corpus.root}' has none. Set split.protocol to 'partition' to use "
            "metadata/partition.csv, or to 'auto'."
        )
    if protocol == "partition" and not named:
        raise SplitError(
            f"'{corpus.root}' cannot be divided by partition: metadata/partition.csv is absent or "
            "names none of the recordings. Write it with the columns Id,Proposal and train, devel "
            "or test for each recording."
        )
    return protocol


def assign_splits(corpus: Corpus, config: SplitConfig) -> dict[str, SplitName]:
    """Assign a split to every recording, by Id.

    `paper`: recordings whose Id ends in `_train` or `_devel` are for test, and those whose Id ends
    in `_test` are unlabelled. The other recordings are divided by subject:
    `config.validation_share` of the subjects (at least one) go to validation and the others to
    training. The choice depends only on the seed and the subjects' names.

    `partition`: the splits follow `metadata/partition.csv`. A recording that the file does not name
    is unlabelled: it is predicted and takes no part in training or scores.

    Raises
    ------
    SplitError
        If the corpus lacks what the protocol needs; if no recording is left for training or for
        validation; or if a subject is in two of training, validation and test and
        `config.allow_subject_overlap` is False.
    """
    protocol = resolve_protocol(corpus, config)
    if protocol == "paper":
        splits = _as_paper(corpus, config)
    else:
        splits = {recording.id: _as_partition(recording) for recording in corpus.recordings}
    _require_recordings(corpus, splits, protocol)
    if not config.allow_subject_overlap:
        _refuse_overlap(corpus, splits, protocol)
    return splits


def _as_partition(recording: Recording) -> SplitName:
    match recording.partition:
        case "train":
            return "train"
        case "devel":
            return "validation"
        case "test":
            return "test"
        case None:
            return "unlabelled"


def _as_paper(corpus: Corpus, config: SplitConfig) -> dict[str, SplitName]:
    subjects = {recording.subject for recording in corpus.recordings if not recording.suffix}
    if len(subjects) < 2:
        raise SplitError(
            "split.protocol = 'paper' divides the subjects of recordings without a suffix into "
            f"training and validation, and '{corpus.root}' has {len(subjects)} of them. Expected "
            "at least 2; add recordings, or set split.protocol to 'partition'."
        )
    # Subjects are ranked by a hash and not shuffled, so that adding or removing one subject leaves
    # the order of the others unchanged.
    ranked = sorted(
        subjects, key=lambda subject: hashlib.sha256(f"{config.seed}:{subject}".encode()).digest()
    )
    count = min(max(1, round(config.validation_share * len(ranked))), len(ranked) - 1)
    validation = set(ranked[:count])

    def split(recording: Recording) -> SplitName:
        match recording.suffix:
            case "_train" | "_devel":
                return "test"
            case "_test":
                return "unlabelled"
            case None:
                return "validation" if recording.subject in validation else "train"

    return {recording.id: split(recording) for recording in corpus.recordings}


def _require_recordings(
    corpus: Corpus, splits: Mapping[str, SplitName], protocol: Protocol
) -> None:
    partition_of = {"train": "train", "validation": "devel"}
    for split, partition in partition_of.items():
        if split not in splits.values():
            raise SplitError(
                f"No recording of '{corpus.root}' is for {split} under split.protocol = "
                f"'{protocol}'. Expected at least one; name it '{partition}' in "
                "metadata/partition.csv."
            )


def _refuse_overlap(corpus: Corpus, splits: Mapping[str, SplitName], protocol: Protocol) -> None:
    examples: dict[str, dict[SplitName, str]] = defaultdict(dict)
    for recording in corpus.recordings:
        examples[recording.subject].setdefault(splits[recording.id], recording.id)
    crossing = {}
    for subject, example in examples.items():
        used = [f"{split} ('{example[split]}')" for split in _USED if split in example]
        if len(used) > 1:
            crossing[subject] = " and ".join(used)
    if not crossing:
        return
    subject, found = next(iter(crossing.items()))
    others = len(crossing) - 1
    more = f" ({others} other subject{'' if others == 1 else 's'} likewise)" if others else ""
    files = "metadata/subjects.csv"
    if protocol == "partition":
        files = "metadata/partition.csv or " + files
    other = ""
    if protocol == "partition" and any(recording.suffix for recording in corpus.recordings):
        other = ", set split.protocol = 'paper'"
    raise SplitError(
        f"Subject '{subject}' is in {found} under split.protocol = '{protocol}'{more}. Expected "
        "each subject in one of them, since a model scores better on a voice that it was trained "
        f"on. Correct {files}{other}, or set split.allow_subject_overlap = true if that is the "
        "task; every report will say so."
    )
