"""Keep a run on disk: its configuration, and a folder for the outputs of each stage."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, get_args

from valence.config import Config, seal_text, sealed_tables
from valence.errors import DamagedError, MissingStageError
from valence.provenance import versions
from valence.stage import SET_SWEEP, Stage, StageName
from valence.storage.kept_file import MOST_BYTES, read_at_most, unreadable
from valence.storage.location import Location

# The sections of the configuration that each stage writes to `config.toml`.
_SECTIONS: dict[StageName, tuple[str, ...]] = {
    "segments": ("corpus", "labels", "split", "preprocess", "mel", "augment"),
    "train": ("standardize", "sequence", "model", "train", "mlflow"),
    "features": (),
    "sweep": ("sweep",),
    "report": (),
}


@dataclass(frozen=True)
class Run:
    """The folder of a run; making this object reads and writes nothing."""

    root: Location

    @classmethod
    def at(cls, text: str) -> Run:
        """Return the run at a path or URI."""
        return cls(Location.parse(text))

    @property
    def config_file(self) -> Location:
        """Return the location of `config.toml`."""
        return self.root / "config.toml"

    @property
    def model(self) -> Location:
        """Return the folder of the exported model."""
        return self.root / "model"

    def folder(self, stage: StageName) -> Location:
        """Return the folder of a stage's outputs."""
        return self.root / stage

    def stage(self, stage: StageName) -> Stage:
        """Return the stage called `stage`."""
        return Stage(stage, self.folder(stage))

    def set_sweep(self, features: str) -> Stage:
        """Return the stage of the sweep on the feature set called `features`."""
        return Stage("sweep", self.root / f"{SET_SWEEP}{features}")

    def set_sweeps(self) -> dict[str, Stage]:
        """Find the sweeps on feature sets, finished or not, by the name of the set."""
        return {
            entry.name.removeprefix(SET_SWEEP): Stage("sweep", entry)
            for entry in self.root.everything()
            if entry.name.startswith(SET_SWEEP) and entry.is_folder()
        }

    def config(self) -> Config:
        """Read the resolved configuration of the run.

        Raises
        ------
        MissingStageError
            If this is not the folder of a run.
        DamagedError
            If `config.toml` has changed since it was written.
        """
        if not self.config_file.exists():
            raise MissingStageError(
                f"'{self.root}' is not a run: it has no config.toml. Make one with "
                f"'valence run CORPUS --out {self.root}' or 'valence preprocess'."
            )
        self._require_whole_config()
        return Config.read(self.config_file)

    def record(self) -> dict[str, Any]:
        """Read the table `[run]` of `config.toml`: corpus, command, synthetic or not.

        Raises
        ------
        DamagedError
            If the file has changed since it was written.
        """
        if not self.config_file.exists():
            return {}
        table: dict[str, Any] = self._require_whole_config()["run"]
        return table

    def corpus(self, *, needed_for: str) -> Location:
        """Return the folder of the corpus that the run was made of.

        Parameters
        ----------
        needed_for
            What the corpus holds that is needed, for the message.

        Raises
        ------
        MissingStageError
            If the run does not say where its corpus is, or the corpus is not there.
        """
        corpus = self.record().get("corpus")
        if corpus and Location.parse(corpus).is_folder():
            return Location.parse(corpus)
        found = (
            f"'{corpus}', the corpus that '{self.root}' was made of, is no longer there"
            if corpus
            else f"'{self.root}' does not say which corpus it was made of"
        )
        raise MissingStageError(
            f"{found}. Expected the corpus, which holds {needed_for}. Run 'valence preprocess "
            f"CORPUS --out {self.root}' with the place where the corpus lies now; segments that "
            "are whole stay."
        )

    def _require_whole_config(self) -> dict[str, Any]:
        """Read the tables of `config.toml`, which must not have changed since it was written."""
        try:
            return sealed_tables(read_at_most(self.config_file, MOST_BYTES))
        except OSError as error:
            found, first = unreadable(error)
            raise DamagedError(
                f"'{self.config_file}' {found}. Expected the configuration of the run. {first}"
                f"{self._config_remedy()}"
            ) from error
        except ValueError as error:
            raise DamagedError(
                f"'{self.config_file}' is not what was written: {error}. {self._config_remedy()} "
                "If you have changed a setting in it by hand, give that with --set or --config "
                "instead."
            ) from error

    def _config_remedy(self) -> str:
        """Say how to restore `config.toml`: from its copy, if the copy is whole."""
        copy = self.config_copy
        try:
            sealed_tables(read_at_most(copy, MOST_BYTES))
        except (OSError, ValueError):
            return (
                f"Restore it from a copy; or remove it, and run 'valence run CORPUS --out "
                f"{self.root}' with the settings of the run (--config or --set): where one differs "
                "from what the outputs were made with, the command says so and changes nothing."
            )
        return f"Copy '{copy}' to its place: the run keeps the same content there."

    def is_one(self) -> bool:
        """Tell a run's folder, by `config.toml` or its copy, from one with other programs' files.

        Raises
        ------
        OSError
            If neither is known to be a run's, and one cannot be read.
        """
        unread: OSError | None = None
        for file in (self.config_file, self.config_copy):
            try:
                sealed_tables(read_at_most(file, MOST_BYTES))
            except FileNotFoundError:
                continue
            except OSError as error:
                unread = error
            except ValueError:
                # It is damaged, or another program's.
                continue
            else:
                return True
        if unread is not None:
            raise unread
        return False

    @property
    def config_copy(self) -> Location:
        """Return the location of `config.copy.toml`, a copy of `config.toml`."""
        return self.root / "config.copy.toml"

    def accept(
        self, stage: StageName, config: Config, record: Mapping[str, Any] | None = None
    ) -> None:
        """Write the settings that a stage has accepted into `config.toml`.

        These are the sections of the stage itself, and of later stages that were not begun. Other
        sections stay unchanged, because existing outputs of later stages were made with them.

        Parameters
        ----------
        stage
            The stage.
        config
            The configuration with which the stage works.
        record
            The new table `run`; None keeps the existing one.
        """
        standing = self.config() if self.config_file.exists() else config
        names = get_args(StageName)
        accepted = {
            section: getattr(config, section)
            for name in names[names.index(stage) :]
            if name == stage or not self.stage(name).file.exists()
            for section in _SECTIONS[name]
        }
        kept = self.record() if record is None else record
        self.write_config(standing.model_copy(update=accepted), kept)

    def write_config(self, config: Config, record: Mapping[str, Any]) -> None:
        """Write the resolved configuration with the record of the run and the versions.

        A copy is written beside the file, so that the file can be restored.
        """
        text = seal_text(config.to_toml(run=record, versions=versions()))
        self.config_file.write_text(text)
        self.config_copy.write_text(text)
