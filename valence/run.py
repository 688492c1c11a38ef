"""A run on disk: where each stage keeps its outputs, and what those were made of.

Every stage folder holds `stage.json`: what made the outputs (configuration, inputs, version), a
fingerprint of that, and, once the stage is done, what it found. A stage whose outputs are of
another fingerprint stops and says what differs.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import time
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from valence.config import Config, versions
from valence.errors import MissingStageError, StaleError
from valence.storage import Location

StageName = Literal["segments", "train", "features", "sweep", "report"]

# The version of what each stage stores: raised when the same configuration gives other outputs.
FORMAT: dict[StageName, int] = {
    "segments": 3,
    "train": 1,
    "features": 1,
    "sweep": 2,
    "report": 3,
}

# The sections of the configuration that each stage answers for.
_SECTIONS: dict[StageName, tuple[str, ...]] = {
    "segments": ("corpus", "labels", "split", "preprocess", "mel", "augment"),
    "train": ("standardize", "sequence", "model", "train"),
    "features": (),
    "sweep": ("sweep",),
    "report": (),
}

_COMMAND = {
    "segments": "preprocess",
    "train": "train",
    "features": "extract",
    "sweep": "sweep",
    "report": "report",
}


def fingerprint(made_of: Mapping[str, Any]) -> str:
    """SHA-256 over the canonical JSON of `made_of`, as 64 hexadecimal digits.

    >>> fingerprint({"b": 1, "a": 2}) == fingerprint({"a": 2, "b": 1})
    True
    """
    text = json.dumps(made_of, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


@dataclass(frozen=True)
class Run:
    """The folder of a run; nothing is read or written until asked."""

    root: Location

    @classmethod
    def at(cls, text: str) -> Run:
        """The run at a path or URI."""
        return cls(Location.parse(text))

    @property
    def config_file(self) -> Location:
        """`config.toml`."""
        return self.root / "config.toml"

    @property
    def model(self) -> Location:
        """Folder of the exported model."""
        return self.root / "model"

    def folder(self, stage: StageName) -> Location:
        """Folder of a stage's outputs."""
        return self.root / stage

    def stage(self, stage: StageName) -> Stage:
        """The stage called `stage`."""
        return Stage(stage, self.folder(stage))

    def config(self) -> Config:
        """The run's resolved configuration.

        Raises
        ------
        MissingStageError
            If this is not the folder of a run.
        """
        if not self.config_file.exists():
            raise MissingStageError(
                f"'{self.root}' is not a run: it has no config.toml. Make one with "
                f"'valence run CORPUS --out {self.root}' or 'valence preprocess'."
            )
        return Config.read(self.config_file)

    def record(self) -> dict[str, Any]:
        """What the `[run]` table of `config.toml` says: corpus, command, synthetic or not."""
        if not self.config_file.exists():
            return {}
        table = tomllib.loads(self.config_file.read_text()).get("run", {})
        assert isinstance(table, dict)
        return table

    def accept(self, stage: StageName, config: Config) -> None:
        """Take over into `config.toml` what a stage has accepted: the sections that it answers for.

        The others stay, because what stands in the folders of later stages was made with them.
        """
        standing = self.config() if self.config_file.exists() else config
        owned = {name: getattr(config, name) for name in _SECTIONS[stage]}
        self.write_config(standing.model_copy(update=owned), self.record())

    def write_config(self, config: Config, record: Mapping[str, Any]) -> None:
        """Write the resolved configuration with the record of the run and the versions."""
        self.config_file.write_text(config.to_toml(run=record, versions=versions()))


@dataclass(frozen=True)
class Stage:
    """What stands in a stage's folder, and whether it may stay."""

    name: StageName
    folder: Location

    @property
    def file(self) -> Location:
        """`stage.json`."""
        return self.folder / "stage.json"

    def record(self) -> dict[str, Any] | None:
        """What `stage.json` says, or None where there is none."""
        return self.file.read_json() if self.file.exists() else None

    def require(self) -> dict[str, Any]:
        """The record of the finished stage.

        Raises
        ------
        MissingStageError
            If the stage has not been finished.
        StaleError
            If another version of this program has made it, whose format is not this one's.
        """
        record = self.record()
        if record is None or record["status"] != "done":
            root = self.folder.path.rpartition("/")[0]
            state = "has not been made" if record is None else "is not finished"
            raise MissingStageError(
                f"'{self.folder}' {state}, and this stage needs it. Run "
                f"'valence {_COMMAND[self.name]}' for '{root}' first."
            )
        there = record["made_of"].get("format")
        if there != FORMAT[self.name]:
            raise StaleError(
                f"'{self.folder}' was made by another version of this program: its format is "
                f"{there}, and {FORMAT[self.name]} is expected. Run 'valence "
                f"{_COMMAND[self.name]}' with --overwrite to make it again."
            )
        return record

    def begin(
        self, made_of: Mapping[str, Any], *, overwrite: bool = False, wipe: bool = True
    ) -> Literal["new", "resumed", "done"]:
        """Claim the folder for outputs made of `made_of`.

        Parameters
        ----------
        made_of
            JSON-like: the configuration and the inputs' fingerprints that the outputs depend on.
        overwrite
            Whether outputs of another fingerprint may be replaced.
        wipe
            Whether replacing removes the whole folder; False leaves it to the stage to replace
            only the outputs that changed.

        Returns
        -------
        `"done"` if finished outputs of this fingerprint stand there, `"resumed"` if a part of them
        does, else `"new"`.

        Raises
        ------
        StaleError
            If outputs of another fingerprint stand there and `overwrite` is False.
        """
        standing = self.standing(made_of, overwrite=overwrite)
        if standing == "new":
            if wipe and self.file.exists():
                self.folder.delete()
            self._write(status="running", made_of=self._complete(made_of), summary={})
        return standing

    def standing(
        self, made_of: Mapping[str, Any], *, overwrite: bool = False
    ) -> Literal["new", "resumed", "done"]:
        """What `begin` would find; nothing is claimed or removed.

        Raises
        ------
        StaleError
            As `begin`.
        """
        made_of, record = self._complete(made_of), self.record()
        if record is None:
            return "new"
        if record["fingerprint"] == fingerprint(made_of):
            return "done" if record["status"] == "done" else "resumed"
        if not overwrite:
            raise StaleError(
                f"'{self.folder}' holds outputs of another configuration or input: "
                f"{difference(record['made_of'], made_of)}. Add --overwrite to make them "
                "again, or choose another run folder."
            )
        return "new"

    def finish(self, summary: Mapping[str, Any]) -> None:
        """Mark the stage done, with what it found (`seconds` among it)."""
        record = self.record()
        assert record is not None, "a stage is begun before it is finished"
        self._write(status="done", made_of=record["made_of"], summary=summary)

    def _complete(self, made_of: Mapping[str, Any]) -> dict[str, Any]:
        """With the format, and as JSON gives it back: a tuple is no difference from a list."""
        complete: dict[str, Any] = json.loads(json.dumps({**made_of, "format": FORMAT[self.name]}))
        return complete

    def _write(
        self, *, status: str, made_of: Mapping[str, Any], summary: Mapping[str, Any]
    ) -> None:
        self.file.write_json(
            {
                "stage": self.name,
                "status": status,
                "fingerprint": fingerprint(made_of),
                "written": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
                "summary": dict(summary),
                "made_of": dict(made_of),
                "versions": versions(),
                # Of the machine that gave the command; a cluster may have done the work.
                "machine": {"cpus": os.cpu_count(), "processor": platform.machine()},
            }
        )


def difference(old: Mapping[str, Any], new: Mapping[str, Any], *, most: int = 6) -> str:
    """What differs between two nested mappings, in words.

    >>> difference({"train": {"epochs": 3}}, {"train": {"epochs": 5}})
    'train.epochs is 3 there and 5 here'
    """
    before, after = dict(_leaves(old)), dict(_leaves(new))
    keys = [key for key in before | after if before.get(key) != after.get(key)]
    told = [
        f"{key} is {before.get(key, 'absent')} there and {after.get(key, 'absent')} here"
        for key in keys[:most]
    ]
    if len(keys) > most:
        told.append(f"and {len(keys) - most} more")
    return "; ".join(told)


def _leaves(tree: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    found: list[tuple[str, Any]] = []
    for key, value in tree.items():
        if isinstance(value, Mapping):
            found += _leaves(value, f"{prefix}{key}.")
        else:
            found.append((f"{prefix}{key}", value))
    return found
