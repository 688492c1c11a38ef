"""Export sequences in the format of the study, one `.npz` file for each, for code that reads it.

`mel` is float32 `[length, 1, n_mels, n_frames]`, standardised; `labels` is float32 `[length, 2]`,
valence and arousal, NaN where unknown. The product itself does not use these files, because
overlapping sequences hold every segment many times.
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

# A larger export has to be confirmed.
_UNASKED_BYTES = 10**9
# Some room stays free, because a full disk also stops the other programs that write to it.
_SHARE_OF_ROOM = 0.95
# Size of the arrays' headers and the archive's directory in one file.
_OVERHEAD_BYTES = 1024


@dataclass(frozen=True)
class NpzPlan:
    """The files that an export would write.

    Attributes
    ----------
    recordings
        `(Id, split, copies, segments)` of each recording.
    length, stride
        Length and stride of the sequences, in segments.
    files, size
        Number of files, and their total size in bytes.
    """

    recordings: tuple[tuple[str, SplitName, int, int], ...]
    length: int
    stride: int
    files: int
    size: int

    def refuse_if_large(self, folder: Location, *, agreed: bool) -> None:
        """Refuse an export that would fill the disk, or a large one without the user's consent.

        Parameters
        ----------
        folder
            Folder to write to.
        agreed
            Whether the user has agreed to a large export.

        Raises
        ------
        UsageError
            If the export is larger than 1 GB and `agreed` is False.
        ValenceError
            If the export does not fit onto the disk.
        """
        total = f"{self.files} files, {self.size / 1e9:.1f} GB"
        if self.size > _UNASKED_BYTES and not agreed:
            raise UsageError(
                f"The export would write {total}, to '{folder}'. Add --yes if that is meant, or "
                "choose a larger --stride or fewer splits."
            )
        place = folder.local
        while place is not None and not place.exists():
            place = place.parent
        free = None if place is None else shutil.disk_usage(place).free
        if free is not None and self.size > _SHARE_OF_ROOM * free:
            raise ValenceError(
                f"The export would write {total}, and '{folder}' has room for {free / 1e9:.1f} GB, "
                f"of which {1 - _SHARE_OF_ROOM:.0%} are left free. Make room, or choose a larger "
                "--stride or fewer splits."
            )


def plan_npz(
    store: SegmentStore, config: Config, *, splits: Sequence[SplitName], stride: int
) -> NpzPlan:
    """Plan the files that `write_npz` writes, from the table of recordings alone.

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

    Copy 0 is the clean recording, the others are augmented. `standardization.json`, beside the
    folders of the splits, holds the standardisation that was applied.

    Yields
    ------
    The number of files that were written for a copy of a recording, after each copy.
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
