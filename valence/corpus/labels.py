"""Read the labels of one recording for preprocessing."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from valence.config import Target
from valence.corpus.annotations import Annotation, join_annotation, read_annotation
from valence.corpus.muse import Recording
from valence.corpus.splits import SplitName
from valence.errors import AnnotationError
from valence.storage.location import Location

_NEEDED: tuple[SplitName, ...] = ("train", "validation")


@dataclass(frozen=True)
class Labels:
    """The labels of a recording, one annotation for each target.

    Attributes
    ----------
    annotations
        The label file of each target that has one.
    remarks
        Oddities of label files that are not used.
    """

    annotations: Mapping[Target, Annotation]
    remarks: tuple[str, ...] = ()

    def part(self, target: Target, first: int, n: int) -> NDArray[np.float32]:
        """Return labels of segments `first` to `first + n - 1`, float32 `[n]`, NaN if unknown."""
        labels = np.full(n, np.nan, np.float32)
        if target in self.annotations:
            known = self.annotations[target].value[first : first + n]
            labels[: len(known)] = known
        return labels

    def joined(self, segments: int, targets: tuple[Target, ...]) -> tuple[int, tuple[str, ...]]:
        """Count the segments that have a label for all `targets`; return remarks as well."""
        usable = np.ones(segments, bool)
        remarks = list(self.remarks)
        for target, annotation in self.annotations.items():
            _, odd = join_annotation(annotation, segments)
            remarks += [f"{target}: {remark}" for remark in odd]
        for target in targets:
            usable &= np.isfinite(self.part(target, 0, segments))
        return int(usable.sum()), tuple(remarks)


def read_labels(
    recording: Recording,
    split: SplitName,
    *,
    targets: tuple[Target, ...],
    step_ms: int,
    scale: tuple[float, float] | None = None,
) -> Labels:
    """Read the label files of a recording.

    Parameters
    ----------
    recording
        The recording, which says where its label files lie.
    split
        Training and validation recordings need all `targets`. If a label file that is not needed is
        damaged, the recording is still used.
    targets
        The targets that the model learns.
    step_ms
        Length of a segment in milliseconds.
    scale
        `labels.range`: the lowest and highest value of the files' scale, or None for [-1, 1].

    Raises
    ------
    AnnotationError
        If a label file that is needed is absent or cannot be used.
    """
    annotations: dict[Target, Annotation] = {}
    remarks = []
    for target, file in sorted(recording.labels.items()):
        try:
            annotations[target] = read_annotation(file, step_ms=step_ms, scale=scale)
        except AnnotationError as error:
            if split in _NEEDED and target in targets:
                raise
            remarks.append(f"labels not used: {error}")
    for target in targets:
        if split in _NEEDED and target not in annotations:
            raise AnnotationError(
                f"'{recording.id}' is a {split} recording and has no label file for {target}. "
                f"Expected label_segments/{target}/{recording.id}.csv; add it, or take the "
                "recording out."
            )
    return Labels(annotations, tuple(remarks))


def digest_of_labels(file: Location) -> str:
    """Compute the SHA-256 of a label file, or return `unreadable` if reading fails.

    A failure raises nothing here, because `read_labels` decides whether the file is needed.
    """
    try:
        return hashlib.sha256(file.read_bytes()).hexdigest()
    except OSError:
        return "unreadable"


def require_labelled(
    recording: Recording,
    split: SplitName,
    labelled: int,
    segments: int,
    *,
    targets: tuple[Target, ...],
) -> None:
    """Refuse a training or validation recording that has no label at all.

    Raises
    ------
    AnnotationError
        If no segment of such a recording has a label.
    """
    if split in _NEEDED and not labelled:
        raise AnnotationError(
            f"'{recording.id}' is a {split} recording and none of its {segments} segments has a "
            f"label for {' and '.join(targets)}. Fill in its label files, or take the recording "
            "out."
        )
