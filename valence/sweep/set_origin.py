"""Find the feature set that a sweep takes, and tell whether a finished sweep is of its files."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from typing import Any

from valence.config import Config, SweepConfig
from valence.errors import StaleError
from valence.provenance import fingerprint
from valence.run import Run
from valence.segments.feature_sets import FeatureSet, open_any, require_fit
from valence.stage import Stage


def open_own_set(run: Run, name: str) -> FeatureSet:
    """Open a feature set of the run's corpus, on the segments of the run.

    Raises
    ------
    MissingStageError
        If the run does not say where its corpus is, or the corpus is no longer there.
    UsageError, FeatureError
        As `open_any`.
    """
    corpus = run.corpus(needed_for=f"the feature set '{name}'")
    return open_any(corpus, name, _recordings(run), step_ms=run.config().preprocess.segment_ms)


def fitting_set(run: Run, name: str, length: int) -> FeatureSet:
    """Open a feature set; refuse one whose segments or sequences are not those of the run.

    Parameters
    ----------
    run, name
        As for `open_own_set`.
    length
        Number of segments in a sequence of the run.

    Raises
    ------
    MissingStageError, UsageError
        As `open_own_set`.
    FeatureError
        If the set cannot be used, or was made for other segments or sequences.
    """
    chosen = open_own_set(run, name)
    require_fit(chosen, length, of=f"'{run.root}'")
    return chosen


def set_digest(run: Run, chosen: FeatureSet) -> str:
    """Compute a fingerprint of a set's files of the recordings that have features."""
    files = chosen.digests(name for name in _recordings(run) if chosen.has(name))
    return fingerprint({"files": files, "columns": chosen.columns, "length": chosen.length})


def require_swept_files(run: Run, stage: Stage, record: Mapping[str, Any]) -> None:
    """Refuse the sweep of a feature set whose files are not those that were swept.

    Parameters
    ----------
    run
        The run.
    stage, record
        The set's sweep, and its record. A record that notes no files is not compared.

    Raises
    ------
    StaleError
        If a file was changed, added or removed since.
    MissingStageError, UsageError, FeatureError
        If corpus or set are no longer there, or cannot be read.
    """
    made_of = record["made_of"]
    if "set_digest" not in made_of:
        return
    chosen = open_own_set(run, made_of["set"])
    if set_digest(run, chosen) != made_of["set_digest"]:
        raise StaleError(
            f"The files in '{chosen.root}' are not those that the sweep of the feature set "
            f"'{chosen.name}' was made of. Expected the same; "
            f"'{command_of(run, stage, record, overwrite=True)}' repeats it."
        )


def command_of(
    run: Run, stage: Stage, record: Mapping[str, Any], *, overwrite: bool = False
) -> str:
    """Return the command that goes on with a set's sweep, or repeats it, with its own settings.

    The run's configuration does not hold them: a sweep of a set states its settings in its own
    record.
    """
    noted: Mapping[str, Any] = record["made_of"].get("sweep", {})
    base = run.config() if run.config_file.exists() else Config()
    words: list[str] = []
    standing = base.sweep.model_dump(mode="json")
    if any(value is None and standing.get(key) is not None for key, value in noted.items()):
        # No assignment takes a setting away; the preset that lacks it does.
        words += ["--preset", "default"]
        standing = SweepConfig().model_dump(mode="json")
        if base.split.allow_subject_overlap:
            words += ["--set", "split.allow_subject_overlap=true"]
    for key, value in noted.items():
        if value is not None and value != standing.get(key):
            words += ["--set", f"sweep.{key}={_in_toml(_shortened(key, value))}"]
    command = stage.command(overwrite=overwrite)
    return f"{command} {shlex.join(words)}" if words else command


def _recordings(run: Run) -> list[str]:
    """List the Ids of the recordings that have deep features."""
    # Records of older versions note no files.
    names = run.stage("features").noted() or [each.name for each in run.folder("features").files()]
    return [name.removesuffix(".parquet") for name in names if name.endswith(".parquet")]


def _shortened(key: str, value: Any) -> Any:
    """Name the steps that are defaults, as a configuration may."""
    field = SweepConfig.model_fields.get(key)
    if field is None or not isinstance(value, list) or not isinstance(field.default, tuple):
        return value
    known = {step.name: step.model_dump(mode="json") for step in field.default}
    return [step["name"] if known.get(step["name"]) == step else step for step in value]


def _in_toml(value: Any) -> str:
    """Write a JSON value as TOML on one line.

    >>> _in_toml(["none", {"name": "ridge", "parameters": {"alpha": 0.5, "fit_intercept": True}}])
    '["none", {name = "ridge", parameters = {alpha = 0.5, fit_intercept = true}}]'
    """
    match value:
        case dict():
            return "{" + ", ".join(f"{key} = {_in_toml(each)}" for key, each in value.items()) + "}"
        case list():
            return "[" + ", ".join(map(_in_toml, value)) + "]"
        case _:
            return json.dumps(value, ensure_ascii=False)
