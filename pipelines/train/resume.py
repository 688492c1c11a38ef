"""Which state a training resumes from, and whether it is its own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pipelines.runtime.console import Console
from valence.chain import FREE, all_settings, refuse_other_settings, settings_apart
from valence.config import Config, with_former_names
from valence.errors import (
    ModelError,
    StaleError,
)
from valence.provenance import difference, fingerprint
from valence.run import Run
from valence.storage.location import Location
from valence.training.checkpoint import (
    TrainingState,
    load_state,
    state_bytes,
)


def require_own_segments(made_of: Mapping[str, Any], run: Run, config: Config) -> None:
    """See to it that the segments are those that `config` would make.

    Which settings they depend on, their record says, and how they were split, the run's. Fewer
    copies than are stored will not do either: the statistics that standardise are those of all.
    Sequences may be of another length, for which some recordings may be too short.

    Raises
    ------
    StaleError
        If they were made with others.
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
    """The newest state that is whole, and what was said of those that were passed over."""
    state, remarks = own_state(folder, made_of, config)
    for remark in remarks:
        console.say(f"train: {remark}")
    return state, remarks


def own_state(
    folder: Location, made_of: Mapping[str, Any], config: Config
) -> tuple[TrainingState | None, tuple[str, ...]]:
    """As `load_state`, and none but this training's.

    Raises
    ------
    StaleError
        If it is the state of another configuration or input.
    """
    state, remarks = load_state(folder, most=state_bytes(config))
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
    """Whether what would be gone on from is this training's, whatever `stage.json` says.

    False means that all of it is to be replaced, which `overwrite` allows.

    Raises
    ------
    StaleError
        If a state of another configuration or input stands there and `overwrite` is False.
    ModelError
        If no state there is whole and `overwrite` is False.
    """
    try:
        own_state(folder, made_of, config)
    except (StaleError, ModelError):
        if not overwrite:
            raise
        return False
    return True


def made_of_training(config: Config, digest: str) -> dict[str, Any]:
    """State what a training is made of: its settings and the digest of its segments."""
    sections = config.model_dump(mode="json", exclude_none=True)
    kept = {key: value for key, value in sections["train"].items() if key not in FREE["train"]}
    names = ("standardize", "sequence", "model")
    kept = with_former_names("train", kept)
    return {"segments": digest, "train": kept, **{name: sections[name] for name in names}}
