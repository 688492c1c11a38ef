"""Check that the stages of a run belong together: their inputs and their settings.

The record of each stage notes the digests of its inputs and the configuration on which its outputs
depend. A stage that reads other stages is checked here first, so that no score, report or
prediction mixes outputs that do not belong together. Records of older versions note less; anything
that a record does not note is not checked.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, get_args

from pydantic_core import to_jsonable_python

from valence.config import Config, sealed_tables, with_current_names
from valence.errors import DamagedError, StaleError, ValenceError
from valence.provenance import difference
from valence.run import Run
from valence.stage import FORMAT, Stage, StageName

# The inputs of each stage, by the key under which its record notes the digest: the stage that made
# the input, and words for a message if the digest differs.
_INPUTS: dict[StageName, dict[str, tuple[StageName, str]]] = {
    "train": {"segments": ("segments", "other segments than")},
    "features": {
        "segments": ("segments", "other segments than"),
        "model": ("train", "the outputs of another model than"),
    },
}

# Keys of [preprocess] and [train] that change the speed, the place or the patience of the work and
# not its results. There is one exception: the last batch of a pool is left out if it has fewer
# groups of windows than there are workers.
FREE = {
    "preprocess": frozenset({"tasks", "cpus_per_task", "max_rejected_share"}),
    "train": frozenset({"workers", "gpus", "compile", "residency", "host_gib", "max_failures"}),
}

# Sections that the record of each stage states in full and that must agree with `config.toml`,
# except for the listed keys.
_STATED: dict[StageName, dict[str, frozenset[str]]] = {
    "segments": {"preprocess": FREE["preprocess"], "mel": frozenset(), "augment": frozenset()},
    "train": {
        "standardize": frozenset(),
        "sequence": frozenset(),
        "model": frozenset(),
        "train": FREE["train"],
    },
    # The phase concerns only training.
    "features": {"sequence": frozenset({"phase"})},
    "sweep": {"sweep": frozenset()},
}


def require_chain(run: Run, *needed: StageName) -> dict[StageName, dict[str, Any]]:
    """Return the records of finished stages, after checking that they belong together.

    Parameters
    ----------
    run
        The run. If only some folders of a run were kept, stages before the needed ones may be
        absent. Existing earlier stages must be the ones from which the needed stages were made.
    needed
        The stages whose outputs are read.

    Returns
    -------
    The record of each needed stage.

    Raises
    ------
    MissingStageError
        If a needed stage is not finished, or an earlier stage was begun and not finished.
    StaleError
        If a stage was made from other outputs than an earlier stage holds now, or by another
        version, or the features with another [sequence] than the training.
    DamagedError
        If a record is lost or damaged, or a file of a needed stage is.
    """
    names = get_args(StageName)
    last = max(names.index(name) for name in needed)
    records: dict[StageName, dict[str, Any]] = {}
    for name in names[: last + 1]:
        stage = run.stage(name)
        record = stage.require() if name in needed else stage.found()
        if record is None:
            continue
        stage.require_finished(record)
        for key, (earlier, what) in _INPUTS.get(name, {}).items():
            there = records.get(earlier, {}).get("summary", {}).get("digest")
            noted = record["made_of"].get(key)
            if None not in (there, noted) and there != noted:
                raise StaleError(
                    f"'{stage.folder}' was made of {what} '{run.folder(earlier)}' holds now, so "
                    f"the two do not belong together. Run '{stage.command(overwrite=True)}' to "
                    f"make '{stage.folder}' anew, or restore '{run.folder(earlier)}'."
                )
        records[name] = record
    _require_own_sequences(run, records)
    return {name: records[name] for name in needed}


def _require_own_sequences(run: Run, records: Mapping[StageName, Mapping[str, Any]]) -> None:
    """Raise `StaleError` for features of other sequences than the training's.

    Older versions made such features on request.
    """
    sequence = {name: _noted(name, record).get("sequence") for name, record in records.items()}
    trained, extracted = sequence.get("train"), sequence.get("features")
    if trained is None or extracted is None:
        return
    old, new = settings_apart(
        {"sequence": extracted}, {"sequence": trained}, free=_STATED["features"]
    )
    if old:
        stage = run.stage("features")
        found, expected = (
            " and ".join(f"{key} = {value}" for key, value in side.items()) for side in (old, new)
        )
        raise StaleError(
            f"'{stage.folder}' was made with {found}. Expected {expected}, with which "
            f"'{run.folder('train')}' was made. Run '{stage.command(overwrite=True)}' to make the "
            "features again."
        )


def require_own_config(run: Run, *, before: StageName | None = None) -> Config:
    """Return the configuration of a run, if its finished stages were made with it.

    Parameters
    ----------
    run
        The run.
    before
        The stage that will be made. This stage and later stages check their outputs themselves, so
        only earlier stages are checked here; None checks all.

    Raises
    ------
    MissingStageError
        If this is not the folder of a run.
    DamagedError
        If `config.toml` is damaged, or belongs to another run.
    """
    config = run.config()
    here = _with_corpus(config, run.record())
    judged: set[str] = set()
    names = get_args(StageName)
    for name in names[: None if before is None else names.index(before)]:
        stage = run.stage(name)
        try:
            record = stage.record()
        except DamagedError:
            # A reader of the outputs reports the damage; the command that repairs it must go on.
            continue
        if record is None:
            continue
        noted = _noted(name, record)
        # A section that two stages state binds the later one to the earlier: see `require_chain`.
        own = {section: there for section, there in noted.items() if section not in judged}
        judged |= noted.keys()
        wrong = _unlike(name, own, here)
        if wrong is not None:
            raise DamagedError(
                f"'{run.config_file}' is not the configuration that '{stage.folder}' was made "
                f"with: {wrong}. Expected the file that this run wrote. "
                f"{_remedy(run, stage, record)}"
            )
    return config


def all_settings(config: Config) -> dict[str, dict[str, Any]]:
    """Give each key of each section as JSON holds it, also those that a dump leaves out."""
    return {
        name: to_jsonable_python(dict(getattr(config, name))) for name in type(config).model_fields
    }


def settings_apart(
    there: Mapping[str, Mapping[str, Any]],
    here: Mapping[str, Mapping[str, Any]],
    *,
    free: Mapping[str, Collection[str]],
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Find the settings that differ between what a record notes and a configuration.

    Parameters
    ----------
    there
        The sections that the record notes, by name; no others are compared.
    here
        Those of the configuration.
    free
        Keys of a section that may differ.

    Returns
    -------
    The settings that differ, by `SECTION.KEY`, as they are there and as they are here. A key that
    one side lacks was left out of a dump, or came with a later version: it counts as its default.
    """
    defaults = _with_corpus(Config(), {})
    old, new = {}, {}
    for section, noted in there.items():
        default, asked = defaults.get(section, {}), here.get(section, {})
        for key in dict.fromkeys((*asked, *noted)):
            was, now = (side.get(key, default.get(key)) for side in (noted, asked))
            if key not in free.get(section, ()) and was != now:
                old[f"{section}.{key}"], new[f"{section}.{key}"] = was, now
    return old, new


def refuse_other_settings(
    stage: Stage, there: Mapping[str, Any], here: Mapping[str, Any], *, asks: str
) -> None:
    """Refuse settings that differ from those with which an earlier stage was made.

    Parameters
    ----------
    stage
        The earlier stage.
    there, here
        The settings of the earlier stage, and the requested ones.
    asks
        The work that requests the settings, such as "training".

    Raises
    ------
    StaleError
        If the settings differ.
    """
    if there != here:
        raise StaleError(
            f"'{stage.folder}' was made with another configuration than this {asks} asks for: "
            f"{difference(there, here)}. Leave the setting as it is there, or run "
            f"'{stage.command(overwrite=True)}' with the other one first."
        )


def _noted(name: StageName, record: Mapping[str, Any]) -> dict[str, Any]:
    """Return the sections in the record of a stage, if this version has finished the stage."""
    made_of = record["made_of"]
    if record["status"] != "done" or made_of.get("format") != FORMAT[name]:
        return {}
    stated = {
        section: with_current_names(section, made_of[section])
        for section in _STATED.get(name, {})
        if section in made_of
    }
    # The segments' `made_of` lacks some sections and has only what resulted from these; their
    # summary states the sections themselves.
    return {**stated, **record["summary"].get("settings", {})}


def _with_corpus(config: Config, record: Mapping[str, Any]) -> dict[str, Any]:
    """Return every section, also empty ones, and the corpus from the table `run`."""
    return all_settings(config) | {"run": {key: record.get(key) for key in ("corpus", "synthetic")}}


def _unlike(name: StageName, there: Mapping[str, Any], here: Mapping[str, Any]) -> str | None:
    """Describe how `here` differs from a stage's record; None if it does not."""
    old, new = settings_apart(there, here, free=_STATED.get(name, {}))
    return difference(old, new) if old else None


def _remedy(run: Run, stage: Stage, record: Mapping[str, Any]) -> str:
    """Say how to make the configuration and a stage agree again."""
    copy = run.config_copy
    try:
        tables = sealed_tables(copy.read_bytes())
        copied = _with_corpus(Config.read(copy), tables["run"])
    except (OSError, ValueError, ValenceError):
        # A copy with a key of another version is whole, but this version cannot use it.
        copied = None
    if copied is not None and _unlike(stage.name, _noted(stage.name, record), copied) is None:
        return f"Copy '{copy}' over it: the run keeps the same content there."
    return (
        f"Restore it from a copy; or, if it is right, run '{stage.command(overwrite=True)}' to "
        "make those outputs with it."
    )
