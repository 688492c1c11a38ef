"""Find the state that a training resumes from, and refuse states of other trainings."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pipelines.runtime.console import Console
from valence.chain import FREE, all_settings, refuse_other_settings, settings_apart
from valence.config import Config, with_former_names
from valence.errors import ModelError, StaleError
from valence.model.network import FeatureInput
from valence.provenance import difference, fingerprint
from valence.run import Run
from valence.storage.location import Location
from valence.training.checkpoint import TrainingState, load_state, state_bytes


def require_own_segments(made_of: Mapping[str, Any], run: Run, config: Config) -> None:
    """Refuse segments that were made with other settings than those of `config`.

    The record of the segments lists the settings that they depend on, and the run's configuration
    states how they were split. The number of copies must be the same, too: the statistics that
    standardise the mel include all copies. The length of sequences may differ; some recordings may
    then be too short.

    Raises
    ------
    StaleError
        If a setting differs.
    """
    here, standing = all_settings(config), all_settings(run.config())
    there = {name: kept for name, kept in made_of.items() if name in here and name != "sequence"}
    there |= {name: standing[name] for name in ("corpus", "labels", "split")}
    # Segments depend on the targets alone, and their record notes no other key of this section.
    here["model"] = {key: here["model"].get(key) for key in there.get("model", {})}
    old, new = settings_apart(there, here, free=FREE)
    refuse_other_settings(run.stage("segments"), old, new, asks="training")


def newest_state(
    folder: Location, made_of: Mapping[str, Any], config: Config, console: Console
) -> tuple[TrainingState | None, tuple[str, ...]]:
    """Load the newest whole state, print the remarks on those passed over, and return both."""
    state, remarks = own_state(folder, made_of, config)
    for remark in remarks:
        console.say(f"train: {remark}")
    return state, remarks


def own_state(
    folder: Location, made_of: Mapping[str, Any], config: Config
) -> tuple[TrainingState | None, tuple[str, ...]]:
    """Load the newest whole state with `load_state`, and refuse one of another training.

    Raises
    ------
    StaleError
        If the state belongs to another configuration or input.
    """
    state, remarks = load_state(folder, most=state_bytes(config, columns_of(made_of)))
    if state is not None and fingerprint(state.made_of) != fingerprint(made_of):
        raise StaleError(
            f"'{folder}' holds the state of a training of another configuration or input: "
            f"{difference(state.made_of, made_of)}. Add --overwrite to train anew, or choose "
            "another run folder."
        )
    return state, remarks


def holds_own_state(
    folder: Location, made_of: dict[str, Any], config: Config, *, overwrite: bool
) -> bool:
    """Refuse to resume from a state that belongs to another configuration or input.

    Only the state counts, not `stage.json`. The result is False if `overwrite` is True and the
    state has to be replaced, and otherwise True.

    Raises
    ------
    StaleError
        If the state belongs to another configuration or input and `overwrite` is False.
    ModelError
        If there are states, none is whole, and `overwrite` is False.
    """
    try:
        own_state(folder, made_of, config)
    except (StaleError, ModelError):
        if not overwrite:
            raise
        return False
    return True


def columns_of(made_of: Mapping[str, Any]) -> int:
    """Return the number of features that a training takes; 0 if it takes mel."""
    return int(made_of.get("features", {}).get("columns", 0))


def made_of_training(
    config: Config, digest: str, features: FeatureInput | None = None
) -> dict[str, Any]:
    """List what a training depends on: settings, digest of the segments, set of features."""
    sections = config.model_dump(mode="json", exclude_none=True)
    kept = {key: value for key, value in sections["train"].items() if key not in FREE["train"]}
    names = ("standardize", "sequence", "model")
    kept = with_former_names("train", kept)
    made_of = {"segments": digest, "train": kept, **{name: sections[name] for name in names}}
    if features is not None:
        made_of["features"] = {"columns": len(features.columns), "digest": features.digest}
    return made_of
