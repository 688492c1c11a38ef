"""Keep the outputs of a stage in a folder, with a record of their origin.

The record `stage.json` states the origin of the outputs (configuration, inputs, version), a
fingerprint of this origin and, after the stage is done, a summary and a manifest of its files. If
outputs of another fingerprint exist, a stage stops and says how they differ. The record holds its
own digest, and the files are checked against the record.
"""

from __future__ import annotations

import json
import os
import platform
import shlex
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Literal

from valence.config import sealed_tables
from valence.errors import DamagedError, ForeignError, MissingStageError, StaleError
from valence.provenance import difference, fingerprint, versions
from valence.storage.kept_file import MOST_BYTES, parse_json, read_at_most, unreadable
from valence.storage.location import Location
from valence.storage.manifest import Entry, Manifest, take_down

StageName = Literal["segments", "train", "features", "sweep", "report"]
# `replacing` means that outputs of another fingerprint may still be among the existing ones.
Standing = Literal["new", "replacing", "resumed", "done"]

# The format version of each stage's outputs. It is raised when the same configuration gives other
# outputs than before.
FORMAT: dict[StageName, int] = {
    "segments": 3,
    "train": 1,
    "features": 1,
    "sweep": 3,
    "report": 5,
}

SET_SWEEP = "sweep-"
"""The folder of a sweep on a feature set begins with this, and ends with the name of the set."""

# A manifest has 200 bytes for each file, so a record of a million recordings is still smaller.
MOST_RECORD_BYTES = 2**28

_COMMAND = {
    "segments": "preprocess",
    "train": "train",
    "features": "extract",
    "sweep": "sweep",
    "report": "report",
}


@dataclass(frozen=True)
class Stage:
    """The folder of a stage with its record and its outputs.

    Attributes
    ----------
    name
        The name of the stage.
    folder
        The folder of its outputs.
    by
        The command that makes the outputs, if the folder does not belong to a run; else `""`.
    """

    name: StageName
    folder: Location
    by: str = ""

    @property
    def file(self) -> Location:
        """Return the location of `stage.json`."""
        return self.folder / "stage.json"

    def record(self) -> dict[str, Any] | None:
        """Read the record in `stage.json`; None if there is none.

        Raises
        ------
        DamagedError
            If the record has changed since it was written, or belongs to another stage
            (`ForeignError`).
        """
        if not self.file.exists():
            return None
        try:
            record = parse_json(read_at_most(self.file, MOST_RECORD_BYTES))
            # Records of older versions hold no digest and no files.
            if not isinstance(record, dict) or not record.keys() >= _LEAST:
                raise ValueError("it is no record of a stage")
            digest = record.pop("digest", None)
            older = digest is None and record.keys() == _LEAST
            if not older and digest != fingerprint(record):
                raise ValueError("its digest is not the one that it gives")
        except OSError as error:
            found, first = unreadable(error)
            # Without its record a comparison is not recognised, so its command must overwrite.
            command = self.command(overwrite=bool(self.by))
            raise DamagedError(
                f"'{self.file}' {found}. Expected the record that the stage wrote. {first}Run "
                f"'{command}' to make it again; outputs that are whole and of this "
                "configuration stay."
            ) from error
        except ValueError as error:
            raise DamagedError(
                f"'{self.file}' is damaged: {error}. Expected the record that the stage wrote. Run "
                f"'{self.command(overwrite=True)}' to make it again; outputs that are whole and of "
                "this configuration stay."
            ) from error
        if record["stage"] != self.name:
            raise ForeignError(
                f"'{self.file}' is the record of another stage, '{record['stage']}'. Expected the "
                f"one that the stage '{self.name}' wrote. Run '{self.command(overwrite=True)}' to "
                "make it again; outputs that are whole and of this configuration stay."
            )
        return record

    def found(self) -> dict[str, Any] | None:
        """Read the record before outputs are read; None if the folder holds neither.

        Raises
        ------
        DamagedError
            If the record is damaged, or outputs exist without a record.
        """
        record = self.record()
        standing = () if record is not None else self.folder.everything()
        # Hidden files are no outputs: an interrupted writer left them.
        if any(not entry.name.startswith(".") for entry in standing):
            raise DamagedError(
                f"'{self.file}' is missing beside what '{self.folder}' holds. Expected the record "
                f"that the stage wrote. Run '{self.command()}' to make it again; outputs that are "
                "whole stay."
            )
        return record

    def require_finished(self, record: Mapping[str, Any] | None) -> None:
        """Refuse the record of a stage that is not finished, or that has none.

        Raises
        ------
        MissingStageError
            If the record is None, or the stage is not finished.
        """
        if record is None or record["status"] != "done":
            state = "has not been made" if record is None else "is not finished"
            raise MissingStageError(
                f"'{self.folder}' {state}, and this stage needs it. Run '{self.command()}' first."
            )

    def command(self, *, overwrite: bool = False) -> str:
        """Return the command that makes this stage's outputs."""
        if self.by:
            return f"{self.by} --overwrite" if overwrite else self.by
        root, verb = self._root, _COMMAND[self.name]
        words = (
            [verb, root]
            if self.name != "segments"
            else [verb, _corpus(self.folder.parent), "--out", root]
        )
        if self.name == "sweep" and self.folder.name.startswith(SET_SWEEP):
            words += ["--features", self.folder.name.removeprefix(SET_SWEEP)]
        return shlex.join(["valence", *words, *(["--overwrite"] if overwrite else [])])

    @property
    def _root(self) -> str:
        """Return the folder of the run, in the form for a command line."""
        return str(self.folder.parent)

    def require(self) -> dict[str, Any]:
        """Return the record of the finished stage, after checking that all its files exist.

        Raises
        ------
        MissingStageError
            If the stage has not been finished.
        StaleError
            If another version of this program made the outputs in another format.
        DamagedError
            If the record is lost or damaged, or a file is missing or has another size.
        """
        record = self.found()
        self.require_finished(record)
        assert record is not None, "what is finished has a record"
        there = record["made_of"].get("format")
        if there != FORMAT[self.name]:
            raise StaleError(
                f"'{self.folder}' was made by another version of this program: its format is "
                f"{there}, and {FORMAT[self.name]} is expected. Run "
                f"'{self.command(overwrite=True)}' to make it again."
            )
        amiss = self._manifest(record).amiss(self.folder, content=False)
        for name, what in sorted(amiss.items()):
            more = f" So are {len(amiss) - 1} more files." if len(amiss) > 1 else ""
            first = " Move that folder away first." if (self.folder / name).is_folder() else ""
            raise DamagedError(
                f"'{self.folder / name}' {what}.{more} Expected what this stage wrote there."
                f"{first} Run '{self.command()}' to make it again; the rest stays."
            )
        return record

    def amiss(self) -> dict[str, str]:
        """Find the files of the finished stage that are not as they were written, and say why.

        A file with another time of modification is read. For the others, size and time are enough.
        """
        record = self.record()
        if record is None:
            return {}
        manifest = self._manifest(record)
        wrong = manifest.amiss(self.folder, content=True)
        if not wrong and manifest.was_touched(self.folder):
            # The new times are noted, so that a copied run is read only once. If the record cannot
            # be written, the run is read each time.
            with suppress(OSError):
                self._note(record, self.noted())
        return wrong

    def lost(self, file: Location) -> DamagedError:
        """Return the error for a missing output."""
        aside = file.aside
        why = f" It was damaged and was renamed to '{aside.name}'." if aside.exists() else ""
        return DamagedError(
            f"'{file}' is missing.{why} Expected what this stage wrote there. Run "
            f"'{self.command()}' to make it again; the rest stays."
        )

    def damaged(self, file: Location, why: str) -> DamagedError:
        """Rename a damaged output, so that its stage makes it again, and return the error."""
        aside = file.set_aside()
        where = (
            f"It was renamed to '{aside.name}'."
            if aside is not None
            else "It could not be renamed: remove it."
        )
        return DamagedError(
            f"'{file}' is damaged: {why}. {where} Run '{self.command()}' to make the file again; "
            "the rest stays."
        )

    def noted(self) -> dict[str, str]:
        """Return the SHA-256 of each file in the manifest; empty for older versions' outputs."""
        record = self.record()
        files = {} if record is None else record.get("files", {})
        return {name: str(entry["sha256"]) for name, entry in files.items()}

    def opened(
        self,
        made_of: Mapping[str, Any],
        *,
        overwrite: bool = False,
        wipe: bool = True,
        lost: Callable[[Mapping[str, Any]], Sequence[str]] = lambda _: (),
    ) -> Opening:
        """Look at the content of the folder without changing anything.

        Parameters
        ----------
        made_of, overwrite, wipe
            See `begin`.
        lost
            Function that finds missing or damaged outputs of a finished stage by its record. It
            returns one clause for each such output.

        Raises
        ------
        StaleError, DamagedError
            See `begin`.
        """
        standing = self.standing(made_of, overwrite=overwrite)
        record = self.record() if standing == "done" else None
        gone = () if record is None else tuple(lost(record))
        return Opening(self, made_of, overwrite, wipe, standing, record, gone)

    def begin(
        self,
        made_of: Mapping[str, Any],
        *,
        overwrite: bool = False,
        wipe: bool = True,
        again: bool = False,
    ) -> Standing:
        """Claim the folder for outputs that are made from `made_of`.

        The record says that outputs are being replaced before the first one is removed. If this
        call is interrupted, the next call therefore continues its work.

        Parameters
        ----------
        made_of
            JSON-like origin of the outputs: the configuration, and the fingerprints of the inputs.
        overwrite
            Whether outputs of another fingerprint may be replaced.
        wipe
            Whether replacing removes the content of the folder. If False, the stage itself replaces
            only the outputs that changed.
        again
            Whether to reopen finished outputs, because some were lost. Without `wipe`, any of them
            may be replaced.

        Returns
        -------
        `"done"` if finished outputs of this fingerprint exist, `"resumed"` if a part of them
        exists, `"replacing"` if outputs of another fingerprint may still exist (only without
        `wipe`), else `"new"`.

        Raises
        ------
        StaleError
            If outputs of another fingerprint exist and `overwrite` is False.
        DamagedError
            If the record is damaged and `overwrite` is False.
        """
        standing = self.standing(made_of, overwrite=overwrite)
        complete = self._complete(made_of)
        if standing == "done" and again:
            standing = "resumed" if wipe else "replacing"
            self._write("running" if wipe else "replacing", complete, {})
            return standing
        if standing == "replacing":
            if wipe:
                return self.replace(made_of)
            self._write("replacing", complete, {})
        if standing == "new" or (standing == "resumed" and self._is_damaged()):
            self._write("running", complete, {})
        return standing

    def replace(self, made_of: Mapping[str, Any]) -> Literal["new"]:
        """Remove the content of the folder, whatever its origin, and claim it for `made_of`."""
        complete = self._complete(made_of)
        self._write("replacing", complete, {})
        self._wipe()
        self._write("running", complete, {})
        return "new"

    def standing(self, made_of: Mapping[str, Any], *, overwrite: bool = False) -> Standing:
        """Return what `begin` would find, without claiming or removing anything.

        Raises
        ------
        StaleError, DamagedError
            See `begin`.
        """
        try:
            record = self.record()
        except DamagedError:
            if not overwrite:
                raise
            # Each output states its own origin, so whole ones can stay.
            return "resumed"
        if record is None:
            return "new"
        complete = self._complete(made_of)
        if record["fingerprint"] == fingerprint(complete):
            known: dict[str, Standing] = {"done": "done", "replacing": "replacing"}
            return known.get(record["status"], "resumed")
        if not overwrite:
            raise StaleError(
                f"'{self.folder}' holds outputs of another configuration or input: "
                f"{difference(record['made_of'], complete)}. Add --overwrite to make them "
                "again, or choose another run folder."
            )
        return "replacing"

    def is_of_other_version(self, made_of: Mapping[str, Any]) -> bool:
        """Tell whether another version with another format made the outputs from `made_of`.

        Raises
        ------
        DamagedError
            If the record is damaged.
        """
        record = self.record()
        if record is None:
            return False
        complete = self._complete(made_of)
        there = record["made_of"]
        return there != complete and {**there, "format": None} == {**complete, "format": None}

    def finish(
        self, summary: Mapping[str, Any], outputs: Iterable[str] | Mapping[str, str] = ()
    ) -> None:
        """Mark the stage as done, with a summary and a manifest of its files.

        Parameters
        ----------
        summary
            The results of the stage, including `seconds`.
        outputs
            Names of the files for the manifest, or their SHA-256 by name if it is known.
        """
        record = self.record()
        assert record is not None, "a stage is begun before it is finished"
        self._note({**record, "summary": summary}, outputs)

    def amend(self, summary: Mapping[str, Any]) -> None:
        """Replace the summary in the record of the finished stage; its manifest stays."""
        record = self.record()
        assert record is not None, "the stage is finished"
        self._write("done", record["made_of"], summary, files=record.get("files", {}))

    def _note(self, record: Mapping[str, Any], outputs: Iterable[str] | Mapping[str, str]) -> None:
        manifest = take_down(self.folder, outputs)
        self._write("done", record["made_of"], record["summary"], files=manifest.to_json())
        manifest.remove_set_aside(self.folder)

    def _manifest(self, record: Mapping[str, Any]) -> Manifest:
        files = record.get("files", {})
        return Manifest({name: Entry(**entry) for name, entry in files.items()})

    def _is_damaged(self) -> bool:
        try:
            self.record()
        except DamagedError:
            return True
        return False

    def _wipe(self) -> None:
        """Remove everything except the record, which says that outputs are being replaced."""
        for entry in self.folder.everything():
            if entry.name != self.file.name:
                entry.delete()

    def _complete(self, made_of: Mapping[str, Any]) -> dict[str, Any]:
        """Add the format, and convert through JSON, so that tuples become equal to lists."""
        complete: dict[str, Any] = json.loads(json.dumps({**made_of, "format": FORMAT[self.name]}))
        return complete

    def _write(
        self,
        status: str,
        made_of: Mapping[str, Any],
        summary: Mapping[str, Any],
        *,
        files: Mapping[str, Mapping[str, Any]] | None = None,
    ) -> None:
        record: dict[str, Any] = {
            "stage": self.name,
            "status": status,
            "fingerprint": fingerprint(made_of),
            "written": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
            "summary": dict(summary),
            "made_of": dict(made_of),
            "versions": versions(),
            # This describes the machine of the command; a cluster may have done the work.
            "machine": {"cpus": os.cpu_count(), "processor": platform.machine()},
        }
        files = {} if files is None else files
        # A reader computes the digest of parsed JSON, so it is computed from parsed JSON here too.
        digest = fingerprint(json.loads(json.dumps(record | {"files": files})))
        text = json.dumps(record, indent=2, allow_nan=False).removesuffix("\n}")
        # Each file takes one line, so that a long manifest stays readable.
        lines = [f"    {json.dumps(name)}: {json.dumps(entry)}" for name, entry in files.items()]
        listed = ",\n".join(lines)
        self.file.write_text(
            f'{text},\n  "files": {{\n{listed}\n  }},\n  "digest": "{digest}"\n}}\n'
        )
        self.folder.settle()


@dataclass(frozen=True)
class Opening:
    """The content of a stage's folder before the stage changes anything there.

    Attributes
    ----------
    stage
        The stage.
    made_of, overwrite, wipe
        Arguments for `Stage.begin`.
    standing
        The state of the outputs in the folder.
    record
        The record of the finished outputs; None unless `standing` is `"done"`.
    lost
        One clause for each missing or damaged output of the finished stage.
    """

    stage: Stage
    made_of: Mapping[str, Any]
    overwrite: bool
    wipe: bool
    standing: Standing
    record: Mapping[str, Any] | None
    lost: tuple[str, ...]

    @property
    def is_whole(self) -> bool:
        """Tell whether the outputs are finished and whole, so that nothing is left to do."""
        return self.record is not None and not self.lost

    @property
    def summary(self) -> dict[str, Any]:
        """Return the summary of the finished outputs."""
        assert self.record is not None, "only what is done has a summary"
        return dict(self.record["summary"])

    def begin(self, *, anew: bool = False) -> Standing:
        """Claim the folder.

        Parameters
        ----------
        anew
            Whether to remove the whole content of the folder first, whatever its origin.

        Returns
        -------
        The result of `Stage.begin`; never `"done"`.
        """
        if anew:
            return self.stage.replace(self.made_of)
        return self.stage.begin(
            self.made_of, overwrite=self.overwrite, wipe=self.wipe, again=self.standing == "done"
        )


# Keys of the records that older versions wrote.
_LEAST = {
    "stage",
    "status",
    "fingerprint",
    "written",
    "summary",
    "made_of",
    "versions",
    "machine",
}


def _corpus(root: Location) -> str:
    """Return the corpus of the run at `root`, or `CORPUS` if it is unknown."""
    try:
        tables = sealed_tables(read_at_most(root / "config.toml", MOST_BYTES))
    except (OSError, ValueError):
        return "CORPUS"
    return str(tables["run"].get("corpus", "CORPUS"))
