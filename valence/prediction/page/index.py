"""Keep the index of the pages in a folder: a row with a small curve for each recording."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from valence.errors import OutputError, StaleError
from valence.formatting import MISSING, duration, number, plural
from valence.prediction.listing import Listing
from valence.prediction.page.curves import HEIGHT, Scale, held_path, thinned
from valence.prediction.page.render import asset, environment, href, policy
from valence.storage.filenames import normal, printable
from valence.storage.location import Location
from valence.storage.seal import SealError, read_sealed

# Steps of a small curve.
_MOST_DRAWN = 160
_GENERATOR = "valence: index of pages"
# The mark of an index stands in the head of its file.
_HEAD_BYTES = 2000
_STANDS = ("ok", "skipped")
_LOST = (
    "its table (.parquet) is lost or damaged, so that its curve cannot be drawn here; predict it "
    "again with --overwrite"
)

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Index:
    """The page that lists all recordings' pages of a folder, once there are two.

    Parameters
    ----------
    out
        Folder of the predictions.
    """

    out: Location

    def check(self, *, overwrite: bool) -> None:
        """Refuse to replace a file that this program did not write.

        Raises
        ------
        StaleError
            If such a file stands there and `overwrite` is False.
        """
        file = self._file(self._paged_rows())
        if overwrite or not file.is_named():
            return
        try:
            own = f'content="{_GENERATOR}"'.encode() in file.read_bytes()[:_HEAD_BYTES]
        except OSError as error:
            raise StaleError(
                f"'{file}' cannot be read: {error}. Expected the index of the pages in its folder, "
                "or nothing. Move it away, or choose another folder."
            ) from error
        if not own:
            raise StaleError(
                f"'{file}' was not written as an index of pages by this program. Expected its own "
                "index there, or nothing. Move it away, add --overwrite to replace it, or choose "
                "another folder."
            )

    def write(self) -> Location | None:
        """Write the index of all pages that stand in the folder, those of earlier calls too.

        The list `prediction.json` is read while the index is locked, so that of two processes the
        last one lists the recordings of both.

        Returns
        -------
        The file, or None if there are fewer than two pages.

        Raises
        ------
        OutputError
            If it cannot be written.
        """
        if len(self._paged_rows()) < 2:
            return None
        file = self._file(self._paged_rows())
        try:
            with file.locked():
                content = _rendered(self._rows(), self._paged_rows(), self.out)
                if not file.exists() or file.read_bytes() != content:
                    file.write_bytes(content)
        except OSError as error:
            raise OutputError(
                f"'{file}' could not be written: {error}. The pages that are finished are there; "
                "make room or restore the access, and run the command again."
            ) from error
        return file

    def _rows(self) -> Sequence[Row]:
        return Listing(self.out / "prediction.json").rows()

    def _paged_rows(self) -> list[Row]:
        """Return the rows of the recordings that have a page, in the order of the list."""
        there = {file.name for file in self.out.files()} if self.out.is_folder() else set()
        return [
            row
            for row in self._rows()
            if row["status"] in _STANDS and f"{row['name']}.html" in there
        ]

    def _file(self, paged: Sequence[Row]) -> Location:
        """Choose the index's name: another one if a recording is called `index`."""
        taken = {normal(row["name"]).casefold() for row in paged}
        name, number_ = "index", 2
        while name in taken:
            name, number_ = f"index_{number_}", number_ + 1
        return self.out / f"{name}.html"


@dataclass(frozen=True)
class _Shown:
    """A row of the index, as text and as a path."""

    name: str
    href: str
    length: str
    remarks: str
    path: str
    width: int
    alt: str
    mean: str
    ccc: str


def _rendered(rows: Sequence[Row], paged: Sequence[Row], out: Location) -> bytes:
    """Render the index of the recordings with a page."""
    read = {row["name"]: _values(out / f"{row['name']}.parquet") for row in paged}
    lost = [name for name, values in read.items() if values is None]
    paged = [row for row in paged if row["name"] not in lost]
    tables = [values for values in read.values() if values is not None]
    target = tables[0][0] if tables else "valence"
    scale = Scale.of(np.zeros(1), *(values for _, values in tables))
    shown = [_shown(row, values, scale) for row, (_, values) in zip(paged, tables, strict=True)]
    seconds = sum(float(row["sound_seconds"]) for row in paged)
    qualities = dict.fromkeys(str(row["quality"]) for row in paged if row.get("quality"))
    style = asset("page.css")
    return (
        environment()
        .get_template("index.html.j2")
        .render(
            generator=_GENERATOR,
            policy=policy(style),
            css=style,
            lead=f"{plural(len(paged), 'recording')}, {duration(seconds)} of sound.",
            models=list(qualities),
            target=target,
            scored=any(row.get("ccc") for row in paged),
            rows=shown,
            zero=round(float(scale.places(np.zeros(1))[0]) / HEIGHT * 100, 2),
            low=number(scale.low, 2),
            high=number(scale.high, 2),
            aside=[
                *((printable(row["name"]), row["reason"]) for row in rows if _failed(row)),
                *((printable(name), _LOST) for name in lost),
            ],
        )
        .encode()
    )


def _failed(row: Row) -> bool:
    return bool(row["status"] == "failed")


def _values(file: Location) -> tuple[str, NDArray[np.float32]] | None:
    """Read the first target of a recording's table, and its values `[n]`; None if it is lost."""
    try:
        with file.open() as source:
            table = read_sealed(source)
    except (SealError, OSError):
        return None
    targets = [name for name in table.column_names if name in ("valence", "arousal")]
    if not targets:
        return None
    return targets[0], table[targets[0]].to_numpy().astype(np.float32)


def _shown(row: Row, values: NDArray[np.float32], scale: Scale) -> _Shown:
    drawn, _ = thinned(values, _MOST_DRAWN)
    known = values[np.isfinite(values)]
    mean = number(float(known.mean(dtype=np.float64)), 3) if len(known) else MISSING
    remarks = [str(remark) for remark in row.get("remarks") or ()]
    if row.get("short"):
        remarks.insert(0, "shorter than a sequence")
    ccc = next(iter((row.get("ccc") or {}).values()), None)
    span = (
        f"from {number(float(known.min()), 2)} to {number(float(known.max()), 2)}, mean {mean}"
        if len(known)
        else "no value"
    )
    return _Shown(
        name=printable(row["name"]),
        href=href(f"{row['name']}.html"),
        length=duration(float(row["sound_seconds"])),
        remarks="; ".join(remarks),
        path=held_path(drawn, scale),
        width=len(drawn),
        alt=f"Curve of {printable(row['name'])}: {span}",
        mean=mean,
        ccc=number(ccc, 2),
    )
