"""The study's sequence files: one `.npz` a sequence, for code that reads those.

`mel` is float32 `[length, 1, n_mels, n_frames]`, standardised; `labels` is float32 `[length, 2]`,
valence and arousal, NaN where not known. The product itself never needs them: overlapping
sequences hold every segment many times over.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from valence.config import Config
from valence.corpus.splits import SplitName
from valence.errors import UsageError, ValenceError
from valence.segments.sequences import windows
from valence.segments.store import SegmentStore
from valence.storage.location import Location

# What is written without being asked twice.
_UNASKED_BYTES = 10**9
# A disk that is full to the last byte hurts others than this export.
_SHARE_OF_ROOM = 0.95
# The arrays' own headers and the archive's directory.
_OVERHEAD_BYTES = 1024


@dataclass(frozen=True)
class NpzPlan:
    """What an export would write.

    Attributes
    ----------
    recordings
        `(Id, split, copies, segments)` of each.
    length, stride
        Of the sequences, in segments.
    files, size
        How many files, and their bytes together.
    """

    recordings: tuple[tuple[str, SplitName, int, int], ...]
    length: int
    stride: int
    files: int
    size: int

    def refuse_if_large(self, folder: Location, *, agreed: bool) -> None:
        """Refuse what fills a disk, or is large and was not agreed to.

        Raises
        ------
        UsageError
            If it is larger than 1 GB and `agreed` is False.
        ValenceError
            If it does not fit onto the disk.
        """
        told = f"{self.files} files, {self.size / 1e9:.1f} GB"
        if self.size > _UNASKED_BYTES and not agreed:
            raise UsageError(
                f"The export would write {told}, to '{folder}'. Add --yes if that is meant, or "
                "choose a larger --stride or fewer splits."
            )
        place = folder.local
        while place is not None and not place.exists():
            place = place.parent
        free = None if place is None else shutil.disk_usage(place).free
        if free is not None and self.size > _SHARE_OF_ROOM * free:
            raise ValenceError(
                f"The export would write {told}, and '{folder}' has room for {free / 1e9:.1f} GB, "
                f"of which {1 - _SHARE_OF_ROOM:.0%} are left free. Make room, or choose a larger "
                "--stride or fewer splits."
            )


def plan_npz(
    store: SegmentStore, config: Config, *, splits: Sequence[SplitName], stride: int
) -> NpzPlan:
    """What `write_npz` would write, from the table of recordings alone.

    Raises
    ------
    UsageError
        If the splits hold no sequence.
    """
    frame = store.recordings()
    usable = frame[(frame["status"] == "ok") & frame["split"].isin(list(splits))]
    recordings = tuple(
        (str(name), split, int(copies), int(segments))
        for name, split, copies, segments in zip(
            usable["Id"], usable["split"], usable["copies"], usable["segments"], strict=True
        )
    )
    length = config.sequence.length
    files = sum(
        len(windows(length, stride, segments=segments)) * (copies + 1)
        for _, _, copies, segments in recordings
    )
    if not files:
        raise UsageError(
            f"'{store.root}' holds no sequence of {length} segments in {', '.join(splits)}. "
            "Choose other splits; 'valence check' shows which recordings are in which."
        )
    each = 4 * length * (config.mel.n_mels * config.mel.n_frames + 2) + _OVERHEAD_BYTES
    return NpzPlan(recordings, length, stride, files, files * each)


def write_npz(
    store: SegmentStore, config: Config, plan: NpzPlan, folder: Location
) -> Iterator[int]:
    """Write the files of `plan`, `<split>/<Id>_<copy>_<first segment>.npz`.

    Copy 0 is the clean recording, the others are augmented. `standardization.json` beside the
    splits' folders tells what was applied.

    Yields
    ------
    The number of files written for each copy of a recording, as it is done.
    """
    standardizer = store.standardizer(config.standardize.scope)
    (folder / "standardization.json").write_json(standardizer.to_json())
    for name, split, copies, _ in plan.recordings:
        for copy in range(copies + 1):
            segments = store.read(name, copy)
            labels = np.stack([segments.valence, segments.arousal], axis=1)
            starts = windows(plan.length, plan.stride, segments=len(segments))
            for start in starts:
                held = slice(start, start + plan.length)
                mel = standardizer(segments.mel[held])[:, None]
                with (folder / split / f"{name}_{copy}_{start:06d}.npz").writer() as target:
                    np.savez(target, mel=mel, labels=labels[held])
            yield len(starts)
