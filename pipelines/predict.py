"""Run `valence predict`: predict timelines, in this process for few recordings, on Ray for many.

Ray takes seconds to start, and this process predicts much sound in that time. Ray is therefore
started only if the recordings are long enough to win by it, or if a cluster is named.
"""

from __future__ import annotations

import os
import pickle
import time
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch

from pipelines.runtime.addresses import cluster_address
from pipelines.runtime.console import Console
from pipelines.runtime.session import ray_session
from valence.audio.decoding import read_header
from valence.audio.speech import DEFAULT, SpeechSettings, speech_method
from valence.config import ClusterConfig
from valence.errors import (
    AudioError,
    CorpusError,
    ModelError,
    OutputError,
    StaleError,
    UsageError,
    ValenceError,
)
from valence.formatting import plural, some
from valence.model.serialization import model_folder
from valence.prediction.features import find_features
from valence.prediction.files import WEIGHTING, listed_row, predict_task
from valence.prediction.inputs import PredictionTask, find_audio, make_tasks
from valence.prediction.listing import Listing
from valence.prediction.outputs.predicted import Output, PredictionOutcome
from valence.prediction.outputs.registry import chosen_outputs
from valence.prediction.page.index import Index
from valence.prediction.predictor import Predictor
from valence.storage.filenames import printable
from valence.storage.location import Location

# With more seconds of sound than this, Ray is faster, its start included. The value is for two
# cores; with more cores Ray wins earlier. `tests/bench/bench_predict.py RUN --ray` measures it.
RAY_SECONDS = 3 * 3600.0
# Up to so many recordings get a line each, and up to so many remarks are listed.
_MOST_LINES = 10


def predict(
    audio: Sequence[str],
    model: Location,
    out: Location,
    *,
    labels: Location | None = None,
    labels_range: tuple[float, float] | None = None,
    features: Location | None = None,
    regressor: Literal["best"] | None = None,
    outputs: Sequence[str] = (),
    speech: SpeechSettings = DEFAULT,
    address: str | None = None,
    overwrite: bool = False,
    console: Console,
) -> dict[str, Any]:
    """Predict recordings and write their files to `out`.

    Parameters
    ----------
    audio
        Files, folders, patterns or URIs.
    model
        Folder of a run or of a model, or a file of `valence model`.
    out
        Folder of the results. Each recording gets `<name>.csv` (a row for each segment:
        `timestamp` of its start in ms, a column for each target, `end` in ms), `<name>.parquet`
        and `<name>.png`. `prediction.json` lists these files and those of earlier calls, and
        states the model's quality.
    labels
        Annotations to draw: a CSV for a single recording, or a folder with `<target>/<stem>.csv`.
        `timestamp` then follows the labels: it is the start or the end of a segment, whichever the
        labels state, and there is no column `end`.
    labels_range
        Lowest and highest value of the annotations' scale; None for the scale of the model's own
        labels.
    features
        Folder with the features of each recording, `<stem>.csv` or `.parquet`, or a corpus with
        them, for a model that takes a set of features.
    regressor
        `"best"`: predict with the sweep's best regressor instead of the deep model.
    outputs
        Names of further outputs (`valence.prediction.outputs.registry.OUTPUTS`) for each recording.
    speech
        How speech is found, and whether values are left out where nobody speaks.
    address
        Ray cluster to work on, even if the recordings are short; the environment's `RAY_ADDRESS`
        has the same effect.
    overwrite
        Whether to replace files of another model or sound.
    console
        Progress output.

    Returns
    -------
    The content of `prediction.json`.

    Raises
    ------
    UsageError
        If an argument matches no file; if an output is not known; or if the model takes a set of
        features and none are given, or it takes none and some are.
    ModelError
        If the model or the regressor is missing or damaged.
    CorpusError
        If no recording at all could be predicted.
    StaleError
        If files of another model or sound exist and `overwrite` is False. The other recordings are
        written.
    OutputError
        If `out` cannot be written.
    ClusterError
        If the cluster cannot be reached.
    """
    chosen = chosen_outputs(outputs)
    # Every machine must find speech in the same way, so the method is chosen here.
    speech = replace(speech, by=speech_method(speech.by))
    tasks = make_tasks(find_audio(audio), labels, scale=labels_range)
    predictor = Predictor.load(model, regressor=regressor)
    predictor.require_input(given=features is not None)
    taken, step_ms = predictor.description.features, predictor.config.preprocess.segment_ms
    if features is not None and taken is not None:
        source = find_features(features, taken, step_ms=step_ms)
        tasks = [replace(task, features=source) for task in tasks]
    plan = PredictionPlan(tuple(tasks), model, regressor, out, chosen, speech, overwrite)
    for line in predictor.quality.lines:
        console.say(f"model: {line}")
    finished = _Finished(plan, predictor)
    if remark := finished.listing.check(overwrite=overwrite):
        console.say(f"predict: {remark}")
    if "page" in outputs:
        Index(out).check(overwrite=overwrite)
    out.remove_partial_files()
    try:
        with (
            console.bar("predict", len(plan.tasks)) as bar,
            closing(_outcomes(plan, predictor, address, console)) as outcomes,
        ):
            for outcome in outcomes:
                finished.outcomes.append(outcome)
                bar.advance(1, printable(outcome.name))
                if len(plan.tasks) <= _MOST_LINES or outcome.status == "failed":
                    console.say(_line(outcome))
    except BaseException:
        finished.keep_before_the_end(console)
        raise
    listed = finished.list()
    if "page" in outputs and (index := Index(out).write()) is not None:
        console.say(f"predict: the pages are listed in '{index}'")
    _say_totals(console, finished, out)
    _refuse(finished.outcomes, out)
    return listed


@dataclass(frozen=True)
class PredictionPlan:
    """The recordings of one call and what is to be done with them.

    Attributes
    ----------
    tasks
        The recordings.
    model
        Folder of a run or of a model, or a file of `valence model`.
    regressor
        `"best"` for the sweep's best regressor, None for the deep model.
    out
        Folder of the results.
    outputs
        Further outputs for each recording.
    speech
        How speech is found, and what happens where nobody speaks.
    overwrite
        Whether to replace files of another model or sound.
    """

    tasks: tuple[PredictionTask, ...]
    model: Location
    regressor: Literal["best"] | None
    out: Location
    outputs: tuple[Output, ...]
    speech: SpeechSettings
    overwrite: bool

    def predict(self, predictor: Predictor, number: int) -> PredictionOutcome:
        """Predict the recording of this number, and write its files."""
        task = self.tasks[number]
        return predict_task(
            predictor,
            task,
            self.out,
            outputs=self.outputs,
            speech=self.speech,
            overwrite=self.overwrite,
        )


class _Finished:
    """The recordings that are finished, and the listing that names them."""

    def __init__(self, plan: PredictionPlan, predictor: Predictor) -> None:
        self._began = time.monotonic()
        self._plan, self._predictor = plan, predictor
        self.listing = Listing(plan.out / "prediction.json")
        self.outcomes: list[PredictionOutcome] = []

    @property
    def seconds(self) -> float:
        """Return the seconds since the call began."""
        return time.monotonic() - self._began

    def list(self) -> dict[str, Any]:
        """Write the finished recordings into the listing, and return its content."""
        order = {task.name: place for place, task in enumerate(self._plan.tasks)}
        self.outcomes.sort(key=lambda outcome: order[outcome.name])
        regressor = self._predictor.regressor
        call = {
            "model": str(model_folder(self._plan.model)),
            "sha256": self._predictor.description.sha256,
            "regressor": regressor and regressor.about["steps"],
            "quality": self._predictor.quality.to_json(),
            "weighting": WEIGHTING,
            "seconds": self.seconds,
        }
        return self.listing.merge(
            call,
            [listed_row(outcome, self._predictor) for outcome in self.outcomes],
            order=[*order],
            overwrite=self._plan.overwrite,
        )

    def keep_before_the_end(self, console: Console) -> None:
        """List the finished recordings after an error or a signal, and say what is kept."""
        asked = len(self._plan.tasks)
        if not self.outcomes:
            console.say(
                f"predict: ended before the first of {plural(asked, 'recording')} was finished, "
                f"so '{self.listing.file}' says nothing of this call"
            )
            return
        try:
            self.list()
        except OutputError:
            # The error that ended the work is the one to tell.
            return
        console.say(
            f"predict: ended after {len(self.outcomes)} of {asked} recordings, which are kept "
            f"and listed in '{self.listing.file}'; the same command goes on with the others"
        )


def _outcomes(
    plan: PredictionPlan, predictor: Predictor, address: str | None, console: Console
) -> Generator[PredictionOutcome]:
    # A named cluster does the work, whatever this machine has.
    named = cluster_address(address) is not None
    if not named and not _is_much(plan.tasks):
        # One thread, like an actor: a second gains little, and would add sums in another order.
        torch.set_num_threads(1)
        for number in range(len(plan.tasks)):
            yield plan.predict(predictor, number)
        return
    with ray_session(address):
        yield from _on_ray(plan, console)


def _is_much(tasks: Sequence[PredictionTask]) -> bool:
    """Decide whether starting Ray pays; headers are read only until that is known."""
    cpus = len(os.sched_getaffinity(0))
    total = 0.0
    if cpus > 1 and len(tasks) > 1:
        for task in tasks:
            try:
                total += read_header(task.audio).duration
            except AudioError:
                continue  # The prediction of this file reports its fault later.
            if total > RAY_SECONDS:
                return True
    return False


class _Worker:
    """An actor of the pool, which keeps the model loaded."""

    def __init__(self, plan: PredictionPlan, device: str | None) -> None:
        torch.set_num_threads(1)
        # Without `device`, torch might use a GPU that Ray has not given to this actor.
        self._predictor = Predictor.load(plan.model, regressor=plan.regressor, device=device)
        self._plan = plan

    def __call__(self, batch: dict[str, Any]) -> dict[str, list[bytes]]:
        return {"outcome": [pickle.dumps(self._predict(number)) for number in batch["number"]]}

    def _predict(self, number: int) -> PredictionOutcome | ValenceError:
        try:
            return self._plan.predict(self._predictor, number)
        except (OutputError, ModelError, UsageError) as error:
            # If raised, it would come back as an error of Ray's, with a traceback.
            return error


def _on_ray(plan: PredictionPlan, console: Console) -> Iterator[PredictionOutcome]:
    import ray
    import ray.data
    from ray.data import ActorPoolStrategy

    from pipelines.runtime.nodes import cpu_nodes, cpus_of, gpus_of, living_nodes, tell_of_absence

    gpus = gpus_of(living_nodes())
    selector, nodes = ({}, []) if gpus else cpu_nodes(ClusterConfig())
    actors = min(len(plan.tasks), gpus or int(cpus_of(nodes)))
    worker: Any = _Worker
    # The actors know the plan, so a number tells each of them which recording is meant.
    dataset = ray.data.from_items(
        [{"number": number} for number in range(len(plan.tasks))],
        override_num_blocks=len(plan.tasks),
    ).map_batches(
        worker,
        fn_constructor_args=(plan, None if gpus else "cpu"),
        batch_size=1,
        # Start with one actor, since each takes seconds to load torch; a busy pool grows.
        compute=ActorPoolStrategy(min_size=1, max_size=actors),
        # The rest is for Ray Data itself, which needs a part of a CPU.
        num_cpus=0.9,
        num_gpus=1 if gpus else 0,
    )
    dataset.context.execution_options.label_selector = selector or None
    with tell_of_absence(selector, {"GPU": 1} if gpus else {"CPU": 1}, console):
        for row in dataset.iter_rows():
            outcome = pickle.loads(row["outcome"])
            if isinstance(outcome, Exception):
                raise outcome
            yield outcome


def _line(outcome: PredictionOutcome) -> str:
    name = printable(outcome.name)
    match outcome.status:
        case "ok":
            remark = ", shorter than a sequence" if outcome.short else ""
            odd = f" ({outcome.reason})" if outcome.reason else ""
            scores = "".join(_score(outcome, target) for target in outcome.ccc or {})
            sound = f"; {'; '.join(outcome.remarks)}" if outcome.remarks else ""
            return (
                f"{name}: {outcome.rows} rows, {outcome.sound_seconds:g} s of sound in "
                f"{outcome.seconds:.1f} s{remark}{scores}{odd}{sound}"
            )
        case "skipped":
            return f"{name}: nothing to do"
        case "stale":
            return f"{name}: left as it is: {outcome.reason}"
        case "failed":
            return f"{name}: set aside. {outcome.reason}"


def _score(outcome: PredictionOutcome, target: str) -> str:
    """Say the agreement on a target, and beside it the agreement where somebody speaks."""
    spoken = (outcome.ccc_speech or {}).get(target)
    beside = "" if spoken is None else f" ({spoken:.3f} where somebody speaks)"
    return f", {target} CCC {(outcome.ccc or {})[target]:.3f}{beside}"


def _say_totals(console: Console, finished: _Finished, out: Location) -> None:
    outcomes = finished.outcomes
    count = {
        status: sum(outcome.status == status for outcome in outcomes)
        for status in ("ok", "skipped", "failed", "stale")
    }
    sound = sum(outcome.sound_seconds for outcome in outcomes if outcome.status == "ok")
    short = [outcome.name for outcome in outcomes if outcome.short]
    if short:
        console.say(
            f"predict: shorter than a sequence, so that one value holds throughout: {some(short)}"
        )
    if len(outcomes) > _MOST_LINES:
        _say_remarks(console, outcomes)
    console.say(
        f"predict: {count['ok']} predicted ({sound:g} s of sound in {finished.seconds:.1f} s), "
        f"{count['skipped']} stood there already, {count['failed'] + count['stale']} set aside; "
        f"files in '{out}'"
    )


def _say_remarks(console: Console, outcomes: Sequence[PredictionOutcome]) -> None:
    """Say each remark on the sound once, with the recordings that it applies to."""
    names: dict[str, list[str]] = {}
    for outcome in outcomes:
        for remark in outcome.remarks:
            names.setdefault(remark, []).append(outcome.name)
    for remark, of in list(names.items())[:_MOST_LINES]:
        console.say(f"predict: {remark}: {some(of)}")
    if len(names) > _MOST_LINES:
        console.say(f"predict: and {len(names) - _MOST_LINES} more remarks: see prediction.json")


def _refuse(outcomes: Sequence[PredictionOutcome], out: Location) -> None:
    stale = [outcome for outcome in outcomes if outcome.status == "stale"]
    if stale:
        first = stale[0]
        more = f" {len(stale) - 1} more stay too." if len(stale) > 1 else ""
        raise StaleError(
            f"The files of '{printable(first.name)}' in '{out}' were not replaced: {first.reason}."
            f"{more} Add --overwrite to replace them, or choose another folder."
        )
    failed = [outcome for outcome in outcomes if outcome.status == "failed"]
    if len(failed) == len(outcomes):
        others = f" {len(failed) - 1} others failed too." if len(failed) > 1 else ""
        raise CorpusError(f"Nothing could be predicted. {failed[0].reason}{others}")
