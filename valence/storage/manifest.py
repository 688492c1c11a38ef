"""Make the manifest of a stage (its files with size and digest), and compare files with it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from typing import Any

from valence.storage.location import FileEntry, Location

_CHUNK = 2**20
# Files that are read at once by threads; hashing releases Python's global lock.
_AT_ONCE = 8


@dataclass(frozen=True)
class Entry:
    """The noted state of a file: bytes, time of modification [ns], SHA-256 in hexadecimal."""

    size: int
    mtime_ns: int
    sha256: str

    def fits(self, content: bytes) -> bool:
        """Tell whether `content` has the noted size and digest."""
        return len(content) == self.size and hashlib.sha256(content).hexdigest() == self.sha256


@dataclass(frozen=True)
class Manifest:
    """The files of a stage, by their names relative to its folder."""

    files: Mapping[str, Entry]

    def to_json(self) -> dict[str, Any]:
        """Return JSON, sorted by name."""
        return {name: asdict(entry) for name, entry in sorted(self.files.items())}

    def amiss(self, folder: Location, *, content: bool) -> dict[str, str]:
        """Find the files that are not as they were written, and say for each what is wrong.

        Parameters
        ----------
        folder
            The folder of the stage.
        content
            Whether to read and compare files that have another time of modification.
        """
        found = _listed(folder, self.files)
        wrong: dict[str, str] = {}
        touched: list[str] = []
        for name, entry in self.files.items():
            info = found.get(name)
            if info is None:
                wrong[name] = "is a folder" if (folder / name).is_folder() else "is missing"
            elif info.size != entry.size:
                wrong[name] = f"has {info.size} bytes, and {entry.size} were written"
            elif info.mtime_ns != entry.mtime_ns:
                touched.append(name)
        if content and touched:
            digests = _digests(folder, touched)
            changed = (name for name in touched if digests[name] != self.files[name].sha256)
            wrong |= dict.fromkeys(changed, "was changed since it was written")
        return wrong

    def was_touched(self, folder: Location) -> bool:
        """Tell whether a file has another time of modification than the noted one."""
        found = _listed(folder, self.files)
        return any(
            name in found and found[name].mtime_ns != entry.mtime_ns
            for name, entry in self.files.items()
        )

    def remove_set_aside(self, folder: Location) -> None:
        """Remove files that were renamed to `NAME.damaged`, if `NAME` was made again."""
        for part in _folders(self.files):
            place = folder / part if part else folder
            for base in place.listing():
                name = f"{part}/{base}" if part else base
                if base.endswith(".damaged") and name.removesuffix(".damaged") in self.files:
                    (place / base).delete()


def noted_digest(record: Mapping[str, Any], name: str) -> str | None:
    """Return the SHA-256 that a stage's record notes for a file, or None.

    Records of older versions note no digests.
    """
    entry = record.get("files", {}).get(name)
    return None if entry is None else str(entry["sha256"])


def take_down(folder: Location, outputs: Iterable[str] | Mapping[str, str]) -> Manifest:
    """Make the manifest of the outputs in `folder`.

    Parameters
    ----------
    folder
        The folder of the stage.
    outputs
        Names of the outputs, or their SHA-256 by name; an empty one is computed.

    Raises
    ------
    FileNotFoundError
        If an output does not exist.
    """
    known = dict(outputs) if isinstance(outputs, Mapping) else dict.fromkeys(outputs, "")
    found = _listed(folder, known)
    for name in known:
        if name not in found:
            raise FileNotFoundError(f"'{folder / name}' is gone before its stage was finished")
    known |= _digests(folder, [name for name, digest in known.items() if not digest])
    return Manifest(
        {
            name: Entry(found[name].size, found[name].mtime_ns, digest)
            for name, digest in known.items()
        }
    )


def digest_of(file: Location) -> str:
    """Compute the SHA-256 of a file in pieces, as hexadecimal digits."""
    digest = hashlib.sha256()
    with file.open() as source:
        while piece := source.read(_CHUNK):
            digest.update(piece)
    return digest.hexdigest()


def _digests(folder: Location, names: Iterable[str]) -> dict[str, str]:
    chosen = list(names)
    if len(chosen) < 2:
        return {name: digest_of(folder / name) for name in chosen}
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        found = pool.map(lambda name: digest_of(folder / name), chosen)
        return dict(zip(chosen, found, strict=True))


def _folders(names: Iterable[str]) -> set[str]:
    return {name.rpartition("/")[0] for name in names}


def _listed(folder: Location, names: Iterable[str]) -> dict[str, FileEntry]:
    """List the existing files among `names`, with one request for each folder."""
    found: dict[str, FileEntry] = {}
    for part in _folders(names):
        place = folder / part if part else folder
        for base, info in place.listing().items():
            found[f"{part}/{base}" if part else base] = info
    return found
