"""Read the sweeps of feature sets, and set their best beside the deep model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from valence.errors import FeatureError, MissingStageError, StaleError, UsageError
from valence.run import Run
from valence.segments.feature_sets.licence import licence_of
from valence.stage import FORMAT
from valence.sweep.feature_sets import remarks_on
from valence.sweep.kept.results import read_selection
from valence.sweep.set_origin import command_of, require_swept_files


@dataclass(frozen=True)
class SetSweep:
    """The finished sweep of a feature set.

    Attributes
    ----------
    name
        Name of the set.
    fingerprint
        Fingerprint of all that it was made of.
    selection
        Content of its `selection.json`.
    not_compared
        Why its files could not be compared with those in the corpus, or `""`.
    """

    name: str
    fingerprint: str
    selection: Mapping[str, Any]
    not_compared: str = ""

    @property
    def about(self) -> Mapping[str, Any]:
        """Return the columns of the set, and what took no part."""
        found: Mapping[str, Any] = self.selection["feature_set"]
        return found

    @property
    def licence(self) -> str | None:
        """Return the bond of its features in words, if one is known."""
        return licence_of(self.about["columns"], self.about["made"])

    @property
    def remarks(self) -> list[str]:
        """Return what a reader must know of the set, in sentences without their ends."""
        found = remarks_on(self.about)
        if self.not_compared:
            found.append(
                "its files could not be compared with those that were swept: "
                f"{self.not_compared.rstrip('.')}"
            )
        return found

    @property
    def regressor(self) -> str:
        """Return the names of its best combination."""
        best = self.selection["best"]
        return " + ".join(best[step] for step in ("scaler", "reducer", "regressor"))

    def to_json(self) -> dict[str, Any]:
        """Return its scores and differences for `metrics.json`."""
        about = {key: value for key, value in self.about.items() if key not in ("fill", "columns")}
        return {
            "name": self.name,
            "select_on": self.selection["select_on"],
            "best": self.selection["best"],
            "deep_on_the_same_sequences": self.selection["deep"],
            "best_less_deep": self.selection["paired"],
            "licence": self.licence,
            "feature_set": about,
            **({"not_compared": self.not_compared} if self.not_compared else {}),
        }


@dataclass(frozen=True)
class UnusedSetSweep:
    """The sweep of a feature set that is not shown.

    Attributes
    ----------
    name
        Name of the set.
    sentence
        Why it is not shown, and the command that changes that.
    is_outdated
        Whether files of the set are others than those that were swept.
    """

    name: str
    sentence: str
    is_outdated: bool = False


def read_set_sweeps(
    run: Run, features: str
) -> tuple[tuple[SetSweep, ...], tuple[UnusedSetSweep, ...]]:
    """Read the finished sweeps of feature sets, and compare the sets' files with those swept.

    Parameters
    ----------
    run
        The run.
    features
        Digest of its deep features; a sweep beside others says nothing about this model.

    Returns
    -------
    The sweeps, and those that are not shown.

    Raises
    ------
    DamagedError
        If a record or a selection is lost or damaged.
    """
    found, left_out = [], []
    for name, stage in sorted(run.set_sweeps().items()):
        record = stage.record()
        if record is None or record["status"] != "done":
            command = stage.command() if record is None else command_of(run, stage, record)
            left_out.append(
                UnusedSetSweep(
                    name,
                    f"The sweep of the feature set '{name}' is not finished: '{command}' goes on.",
                )
            )
        elif (
            record["made_of"].get("features") != features
            or record["made_of"].get("format") != FORMAT["sweep"]
        ):
            command = command_of(run, stage, record, overwrite=True)
            left_out.append(
                UnusedSetSweep(
                    name,
                    f"The sweep of the feature set '{name}' stands beside other deep features than "
                    f"these: '{command}' repeats it.",
                )
            )
        else:
            not_compared = ""
            try:
                require_swept_files(run, stage, record)
            except StaleError as error:
                left_out.append(UnusedSetSweep(name, str(error), is_outdated=True))
                continue
            except (MissingStageError, UsageError, FeatureError) as error:
                # A run is also reported where its corpus is not at hand.
                not_compared = str(error)
            selection = read_selection(stage.folder, record)
            found.append(SetSweep(name, record["fingerprint"], selection, not_compared))
    return tuple(found), tuple(left_out)
