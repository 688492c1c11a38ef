"""`valence features`: compute eGeMAPSv02 of every recording of a corpus, by tasks of Ray.

Each task measures one recording and writes its file, which says what it was made of. A stopped call
goes on from the files that are there. The set becomes a folder of the corpus, which the sweep and
the model read like a set that another program made.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import islice
from typing import Any, Literal

import numpy as np
import ray
from ray.exceptions import RayError, RayTaskError

from pipelines.runtime.console import Console
from pipelines.runtime.nodes import Selector, cpus_to_share, require_cpus, tell_of_absence
from pipelines.runtime.shared_storage import require_shared
from valence.audio.decoding import AudioReading, checksum, on_disk
from valence.config import Config
from valence.corpus.muse import Corpus, Recording
from valence.errors import (
    CorpusError,
    FeatureError,
    OutputError,
    StaleError,
    UsageError,
    ValenceError,
    first_line,
)
from valence.formatting import plural, some
from valence.provenance import difference, fingerprint
from valence.segments.feature_sets.egemaps import (
    SR,
    Extractor,
    Measured,
    measure_recording,
    require_opensmile,
)
from valence.segments.feature_sets.files import SUFFIXES, read_origin, write_rows
from valence.segments.feature_sets.licence import OPENSMILE
from valence.segments.feature_sets.sets import ABOUT, Folder
from valence.storage.kept_file import MOST_BYTES, parse_json, read_at_most
from valence.storage.location import Location

Per = Literal["segment", "sequence"]

_FORMAT = 1
_MADE_BY = "valence features"
_FOLDERS: Mapping[Per, Folder] = {"segment": "feature_segments", "sequence": "feature_sequences"}
# Tasks that wait for each that works, so that none of them is idle.
_AHEAD = 2


@dataclass(frozen=True)
class FeaturesPlan:
    """The work of the command, decided before anything is changed.

    Attributes
    ----------
    corpus
        The corpus.
    root
        Folder of the set.
    settings
        JSON-like: all that the features depend on beside the sound.
    config
        The whole configuration.
    """

    corpus: Corpus
    root: Location
    settings: Mapping[str, Any]
    config: Config


@dataclass(frozen=True)
class FeaturesOutcome:
    """The outcome of one recording.

    Attributes
    ----------
    id
        Id of the recording.
    rows
        Number of rows in its file.
    kept
        Whether the file was there already.
    reason
        Why the recording has no features, or `""`.
    remarks
        Oddities of the sound.
    """

    id: str
    rows: int = 0
    kept: bool = False
    reason: str = ""
    remarks: tuple[str, ...] = field(default=())


def set_name(per: Per, config: Config) -> str:
    """Name a set that got no name: `egemaps`, or with the seconds of its sequences."""
    seconds = config.sequence.length * config.preprocess.segment_seconds
    return "egemaps" if per == "segment" else f"egemaps-{seconds:g}s"


def plan_features(
    corpus: Corpus, config: Config, *, per: Per, name: str | None, overwrite: bool
) -> FeaturesPlan:
    """Look at what stands in the set's folder; nothing is changed.

    Parameters
    ----------
    corpus, config
        The corpus; the sections `preprocess` and `sequence` matter here.
    per
        Whether a row describes a segment or a sequence.
    name
        Name of the set; None for that of `set_name`.
    overwrite
        Whether files of other settings may be replaced.

    Raises
    ------
    UsageError
        If openSMILE is not installed, the name cannot be that of a folder, or a set of the other
        kind has it.
    FeatureError
        If another program made a set of this name, which is never replaced.
    StaleError
        If the set was made with other settings and `overwrite` is False.
    """
    sequence = config.sequence
    settings = {
        "features": "eGeMAPSv02",
        "opensmile": require_opensmile(),
        "sr": SR,
        "channel": config.preprocess.channel,
        "segment_ms": config.preprocess.segment_ms,
        "length": sequence.length if per == "sequence" else 1,
        "stride": sequence.stride if per == "sequence" else 1,
        "format": _FORMAT,
    }
    name = set_name(per, config) if name is None else name
    if not name or name.startswith(".") or "/" in name or name == "mel":
        raise UsageError(
            f"'--name {name}' was given. Expected a name for a folder, without '/' and with no "
            "point at its beginning, and other than 'mel', which is the model's own input; choose "
            "such a name."
        )
    root = corpus.root / _FOLDERS[per] / name
    other = corpus.root / _FOLDERS["segment" if per == "sequence" else "sequence"] / name
    if other.is_folder():
        raise UsageError(
            f"'{other}' is there already. Expected each name once, of segments or of sequences; "
            "give the new set another name with --name."
        )
    there = _about(root)
    if there is None and any(file.suffix in SUFFIXES for file in root.entries()):
        raise FeatureError(
            f"'{root}' holds a feature set that another program made. Expected an empty folder, or "
            f"a set that '{_MADE_BY}' made; give the new set another name with --name."
        )
    if there is not None and there.get("settings") != settings and not overwrite:
        raise StaleError(
            f"'{root}' was made with other settings: "
            f"{difference(there.get('settings', {}), settings)}. Add --overwrite to make it again, "
            "or give the new set another name with --name."
        )
    return FeaturesPlan(corpus, root, settings, config)


def features(
    corpus: Corpus,
    config: Config,
    *,
    per: Per = "segment",
    name: str | None = None,
    overwrite: bool = False,
    console: Console,
) -> dict[str, Any]:
    """Compute the features of every recording of a corpus.

    Parameters
    ----------
    corpus, config, per, name, overwrite
        As for `plan_features`.
    console
        Progress output.

    Returns
    -------
    The content of `set.json`.

    Raises
    ------
    ValenceError
        As `plan_features`.
    CorpusError
        If no recording can be measured.
    OutputError
        If the folder of the set cannot be written.
    ClusterError
        If no node can run a task, or one does not see the files.
    """
    began = time.monotonic()
    plan = plan_features(corpus, config, per=per, name=name, overwrite=overwrite)
    about = {
        "made_by": _MADE_BY,
        "licence": OPENSMILE,
        "length": plan.settings["length"],
        "settings": dict(plan.settings),
    }
    console.say(f"features: {OPENSMILE}")
    asked = "a recording asks for a CPU"
    selector, _ = require_cpus(1, config.cluster, asked=asked, console=console)
    _begin(plan, about)
    # A link that leads nowhere says nothing about the nodes.
    audio = (each.audio for each in corpus.recordings if each.audio.exists())
    require_shared(plan.root, known=list(islice(audio, 1)))
    outcomes = _measure_all(plan, selector, console)
    made = [each for each in outcomes if not each.reason]
    left_out = {each.id: each.reason for each in outcomes if each.reason}
    for lost in left_out:
        # Features of other sound or settings may stand there still.
        (plan.root / f"{lost}.parquet").delete()
    if not made:
        raise CorpusError(
            f"No recording of '{corpus.root}' could be measured; the first: "
            f"{next(iter(left_out.values()))}"
        )
    remarks = {each.id: list(each.remarks) for each in outcomes if each.remarks}
    about |= {"complete": True, "recordings_left_out": left_out, "remarks": remarks}
    _write(plan, about)
    kept = sum(each.kept for each in made)
    console.say(
        f"features: {plural(len(made), 'recording')} ({kept} were there), "
        f"{sum(each.rows for each in made)} rows in '{plan.root}', "
        f"{time.monotonic() - began:.0f} s"
    )
    for line in _in_words(left_out, remarks):
        console.say(f"features: {line}")
    return about


def _about(root: Location) -> dict[str, Any] | None:
    """Read the `set.json` of a set that this command made; None if there is none."""
    try:
        found = parse_json(read_at_most(root / ABOUT, MOST_BYTES))
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) and found.get("made_by") == _MADE_BY else None


def _begin(plan: FeaturesPlan, about: Mapping[str, Any]) -> None:
    """Claim the folder, and remove files of recordings that the corpus no longer has."""
    _write(plan, {**about, "complete": False})
    plan.root.remove_partial_files()
    names = {f"{each.id}.parquet" for each in plan.corpus.recordings}
    for file in plan.root.files():
        if file.suffix == ".parquet" and file.name not in names:
            file.delete()


def _write(plan: FeaturesPlan, about: Mapping[str, Any]) -> None:
    try:
        (plan.root / ABOUT).write_json(about)
    except OSError as error:
        raise OutputError(
            f"'{plan.root}' cannot be written: {error}. Expected a corpus in which sets of "
            "features can be kept; make a folder with links to the corpus, and give that."
        ) from error


def _measure_all(plan: FeaturesPlan, selector: Selector, console: Console) -> list[FeaturesOutcome]:
    """Measure all recordings, and return their outcomes in the order of their Ids."""
    measure = _measure.options(label_selector=selector or None)
    shared = ray.put(plan.settings)
    channel, root = plan.config.preprocess.channel, plan.root
    # Long recordings first, so that none of them is the last to end.
    recordings = sorted(plan.corpus.recordings, key=_size, reverse=True)
    most = max(1, int(_AHEAD * cpus_to_share(plan.config.cluster)))
    waiting: dict[ray.ObjectRef, Recording] = {}
    found: list[FeaturesOutcome] = []
    with (
        console.bar("features", len(recordings)) as bar,
        tell_of_absence(selector, {"CPU": 1}, console),
    ):
        while recordings or waiting:
            while recordings and len(waiting) < most:
                each = recordings.pop(0)
                waiting[measure.remote(each, root, shared, channel)] = each
            for done in ray.wait(list(waiting))[0]:
                outcome = _outcome(done, waiting.pop(done))
                found.append(outcome)
                bar.advance(1, f"{outcome.rows} rows of {outcome.id}")
    return sorted(found, key=lambda each: each.id)


def _outcome(done: ray.ObjectRef, recording: Recording) -> FeaturesOutcome:
    try:
        outcome: FeaturesOutcome = ray.get(done)
    except RayTaskError as error:
        if isinstance(error.cause, ValenceError):
            # A node lacks openSMILE: that concerns every recording.
            raise error.cause from error
        if isinstance(error.cause, OSError):
            raise OutputError(
                f"The features of '{recording.id}' could not be written: {first_line(error.cause)}."
                " Expected room and permission in the corpus; what is finished stays."
            ) from error
        reason = f"{type(error.cause).__name__}: {first_line(error.cause)}"
    except RayError:
        reason = (
            f"the process that measured '{recording.audio}' died each time it was tried; convert "
            "the file to FLAC, or take the recording out"
        )
    else:
        return outcome
    return FeaturesOutcome(recording.id, reason=reason)


def _size(recording: Recording) -> int:
    try:
        return int(recording.audio.info().size or 0)
    except OSError:
        return 0


@ray.remote(num_cpus=1, max_retries=2)
def _measure(
    recording: Recording, root: Location, settings: Mapping[str, Any], channel: Any
) -> FeaturesOutcome:
    return measure_into(recording, root, settings, channel=channel)


@lru_cache(maxsize=1)
def _extractor() -> Extractor:
    """Load openSMILE once for this process."""
    return Extractor.load()


def measure_into(
    recording: Recording, root: Location, settings: Mapping[str, Any], *, channel: Any
) -> FeaturesOutcome:
    """Measure a recording into its file, unless the file of the same sound is there already.

    Faults of the recording's own file are reported in the outcome and not raised.
    """
    file = root / f"{recording.id}.parquet"
    try:
        with on_disk(recording.audio) as path:
            origin = fingerprint({"audio": checksum(path), "settings": dict(settings)})
            there = read_origin(file)
            if there is not None and there.made_of == origin:
                return FeaturesOutcome(recording.id, there.rows, True, remarks=there.remarks)
            counts, extractor = Measured(), _extractor()
            reading = AudioReading(path, sr=SR, channel=channel, name=recording.audio)
            rows = list(
                measure_recording(
                    extractor,
                    reading,
                    counts,
                    segment_samples=SR * settings["segment_ms"] // 1000,
                    length=settings["length"],
                    stride=settings["stride"],
                )
            )
    except CorpusError as error:
        file.delete()
        return FeaturesOutcome(recording.id, reason=str(error))
    if not rows:
        file.delete()
        seconds = settings["length"] * settings["segment_ms"] / 1000
        return FeaturesOutcome(
            recording.id, reason=f"'{recording.audio}' is shorter than {seconds:g} s"
        )
    starts = np.array([start for start, _ in rows], np.int64)
    value = np.stack([each for _, each in rows])
    timestamp = starts * settings["segment_ms"]
    remarks = [*reading.remarks, *reading.low_rate()]
    if counts.beyond:
        remarks.append(
            f"{plural(counts.beyond, 'sample')} at or beyond full scale were limited, because "
            "openSMILE would turn them to the other sign"
        )
    write_rows(file, extractor.columns, timestamp, value, made_of=origin, remarks=remarks)
    return FeaturesOutcome(recording.id, len(rows), remarks=tuple(remarks))


def _in_words(left_out: Mapping[str, str], remarks: Mapping[str, Sequence[str]]) -> list[str]:
    found = []
    if left_out:
        found.append(
            f"{plural(len(left_out), 'recording')} left out: {some(sorted(left_out))}; the first: "
            f"{next(iter(left_out.values()))}"
        )
    if remarks:
        name, first = next(iter(remarks.items()))
        found.append(
            f"remarks on {plural(len(remarks), 'recording')}, in {ABOUT}; the first, on '{name}': "
            f"{first[0]}"
        )
    return found
