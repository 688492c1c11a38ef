"""Read the sweeps of feature sets, and set their best beside the deep model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from valence.run import Run
from valence.segments.feature_sets.licence import licence_of
from valence.stage import FORMAT
from valence.sweep.kept.results import read_selection


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
    """

    name: str
    fingerprint: str
    selection: Mapping[str, Any]

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
        }


def read_set_sweeps(run: Run, features: str) -> tuple[tuple[SetSweep, ...], tuple[str, ...]]:
    """Read the finished sweeps of feature sets.

    Parameters
    ----------
    run
        The run.
    features
        Digest of its deep features; a sweep beside others says nothing about this model.

    Returns
    -------
    The sweeps, and a sentence for each that is not shown.

    Raises
    ------
    DamagedError
        If a record or a selection is lost or damaged.
    """
    found, left_out = [], []
    for name, stage in sorted(run.set_sweeps().items()):
        record = stage.record()
        if record is None or record["status"] != "done":
            left_out.append(
                f"The sweep of the feature set '{name}' is not finished: '{stage.command()}', "
                "with the settings that it was begun with, goes on."
            )
        elif (
            record["made_of"].get("features") != features
            or record["made_of"].get("format") != FORMAT["sweep"]
        ):
            left_out.append(
                f"The sweep of the feature set '{name}' stands beside other deep features than "
                f"these: '{stage.command(overwrite=True)}' repeats it."
            )
        else:
            selection = read_selection(stage.folder, record)
            found.append(SetSweep(name, record["fingerprint"], selection))
    return tuple(found), tuple(left_out)
