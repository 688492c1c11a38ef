"""`valence predict`: timelines of new recordings, in this process for a few, on Ray for many.

Ray takes seconds to start, in which this process predicts hours of sound, so it is started only
where the recordings are long enough for it to win, or where a cluster is named.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator, Sequence
from typing import Any, Literal

import torch

from pipelines.addresses import cluster_address
from pipelines.progress import Report
from pipelines.session import ray_session
from pipelines.tally import some
from valence.audio import read_header
from valence.config import ClusterConfig
from valence.errors import AudioError, CorpusError, ModelError, OutputError, StaleError
from valence.prediction import Predictor, model_folder
from valence.storage import Location
from valence.timelines import WEIGHTING, Outcome, Task, find_audio, make_tasks, predict_task

# Seconds of sound from which on Ray is faster, its start included: about so on two cores, and
# earlier where there are more. `tests/bench/bench_predict.py RUN --ray` measures it where you are.
RAY_SECONDS = 3 * 3600.0
_TOLD = 10


def predict(
    audio: Sequence[str],
    model: Location,
    out: Location,
    *,
    labels: Location | None = None,
    regressor: Literal["best"] | None = None,
    address: str | None = None,
    overwrite: bool = False,
    report: Report,
) -> dict[str, Any]:
    """Predict recordings and write their files to `out`.

    Parameters
    ----------
    audio
        Files, folders, patterns or URIs.
    model
        Folder of a run, or of a model.
    out
        For each recording `<name>.csv` (`timestamp` in ms, a column a target, a row a segment),
        `<name>.parquet` and `<name>.png`; and `prediction.json`, which lists them and what earlier
        calls left there.
    labels
        Annotations to draw: a CSV of the only recording, or a folder with `<target>/<stem>.csv`.
    regressor
        `"best"`: predict with the best pipeline of the run's sweep in place of the model's head.
    address
        Ray cluster to work on, however short the recordings are; the environment's `RAY_ADDRESS`
        says the same.
    overwrite
        Whether files of another model or sound may be replaced.
    report
        Hears of progress.

    Returns
    -------
    The content of `prediction.json`.

    Raises
    ------
    UsageError
        If an argument names nothing.
    ModelError
        If there is no model or regressor, or one is damaged.
    CorpusError
        If none of the recordings could be predicted; the good ones are, where there are some.
    StaleError
        If files of another model or sound stand in the way and `overwrite` is False; the others
        are written.
    OutputError
        If `out` cannot be written.
    ClusterError
        If the cluster cannot be reached.
    """
    began = time.monotonic()
    tasks = make_tasks(find_audio(audio), labels)
    predictor = Predictor.load(model, regressor=regressor)
    listing = out / "prediction.json"
    before = _listed(listing, overwrite=overwrite)
    out.remove_partial_files()
    outcomes = []
    with report.bar("predict", len(tasks)) as bar:
        for outcome in _outcomes(
            predictor, model, regressor, tasks, out, address, overwrite, report
        ):
            outcomes.append(outcome)
            bar.advance(1, outcome.name)
            if len(tasks) <= _TOLD or outcome.status == "failed":
                report.say(_line(outcome))
    order = {task.name: place for place, task in enumerate(tasks)}
    outcomes.sort(key=lambda outcome: order[outcome.name])
    sha256 = predictor.description.sha256
    steps = predictor.regressor and predictor.regressor.about["steps"]
    summary = {
        "model": str(model_folder(model)),
        "sha256": sha256,
        "regressor": steps,
        "weighting": WEIGHTING,
        "recordings": [
            *(row for row in before if row["name"] not in order),
            *({**outcome.to_json(), "model": sha256, "regressor": steps} for outcome in outcomes),
        ],
        "seconds": time.monotonic() - began,
    }
    listing.write_json(summary)
    _tell(report, outcomes, time.monotonic() - began, out)
    _refuse(outcomes, out)
    return summary


def _listed(listing: Location, *, overwrite: bool) -> list[dict[str, Any]]:
    """The rows that earlier calls left; a file of that name from elsewhere is not replaced."""
    if not listing.exists():
        return []
    try:
        content = listing.read_json()
        if content["weighting"] and all("name" in row for row in content["recordings"]):
            return list(content["recordings"])
    except (ValueError, KeyError, TypeError):
        pass
    if overwrite:
        return []
    raise StaleError(
        f"'{listing}' is damaged, or was not written by this program. Add --overwrite to replace "
        "it, or choose another folder."
    )


def _outcomes(
    predictor: Predictor,
    model: Location,
    regressor: Literal["best"] | None,
    tasks: Sequence[Task],
    out: Location,
    address: str | None,
    overwrite: bool,
    report: Report,
) -> Iterator[Outcome]:
    # A cluster that is named does the work, whatever this machine has.
    named = cluster_address(address) is not None
    if not named and not _is_much(tasks):
        # As in an actor: a second thread gains little, and sums would be added in another order.
        torch.set_num_threads(1)
        for task in tasks:
            yield predict_task(predictor, task, out, overwrite=overwrite)
        return
    with ray_session(address):
        yield from _on_ray(model, regressor, tasks, out, overwrite, report)


def _is_much(tasks: Sequence[Task]) -> bool:
    """Whether Ray's start is worth it; headers are read only until that is known."""
    cpus = len(os.sched_getaffinity(0))
    total = 0.0
    if cpus > 1 and len(tasks) > 1:
        for task in tasks:
            try:
                total += read_header(task.audio).duration
            except AudioError:
                continue  # What is wrong with it is told when its turn comes.
            if total > RAY_SECONDS:
                return True
    return False


class _Worker:
    """An actor of the pool: holds the model."""

    def __init__(
        self,
        model: Location,
        regressor: Literal["best"] | None,
        device: str | None,
        out: Location,
        overwrite: bool,
    ) -> None:
        torch.set_num_threads(1)
        # Torch may see a GPU that Ray has not given to this actor.
        self._predictor = Predictor.load(model, regressor=regressor, device=device)
        self._out, self._overwrite = out, overwrite

    def __call__(self, batch: dict[str, Any]) -> dict[str, list[str]]:
        told = []
        for text in batch["task"]:
            task = _task_from_json(json.loads(text))
            try:
                outcome = predict_task(self._predictor, task, self._out, overwrite=self._overwrite)
                told.append(json.dumps({"outcome": outcome.to_json()}))
            except (OutputError, ModelError) as error:
                # Raised, it would come back as Ray's, with its traceback.
                told.append(json.dumps({"error": [type(error).__name__, str(error)]}))
        return {"told": told}


def _on_ray(
    model: Location,
    regressor: Literal["best"] | None,
    tasks: Sequence[Task],
    out: Location,
    overwrite: bool,
    report: Report,
) -> Iterator[Outcome]:
    import ray
    import ray.data
    from ray.data import ActorPoolStrategy

    from pipelines.nodes import cpu_nodes, cpus_of, gpus_of, living_nodes, tell_of_absence

    gpus = gpus_of(living_nodes())
    selector, nodes = ({}, []) if gpus else cpu_nodes(ClusterConfig())
    actors = min(len(tasks), gpus or int(cpus_of(nodes)))
    worker: Any = _Worker
    dataset = ray.data.from_items(
        [{"task": json.dumps(_task_to_json(task))} for task in tasks],
        override_num_blocks=len(tasks),
    ).map_batches(
        worker,
        fn_constructor_args=(model, regressor, None if gpus else "cpu", out, overwrite),
        batch_size=1,
        # The pool grows as it is kept busy: an actor takes seconds to load torch.
        compute=ActorPoolStrategy(min_size=1, max_size=actors),
        # Ray Data itself needs a part of a CPU.
        num_cpus=0.9,
        num_gpus=1 if gpus else 0,
    )
    dataset.context.execution_options.label_selector = selector or None
    with tell_of_absence(selector, {"GPU": 1} if gpus else {"CPU": 1}, report):
        for row in dataset.iter_rows():
            told = json.loads(row["told"])
            if "error" in told:
                kind, message = told["error"]
                raise {"OutputError": OutputError, "ModelError": ModelError}[kind](message)
            yield Outcome(**told["outcome"])


def _task_to_json(task: Task) -> dict[str, Any]:
    return {
        "audio": task.audio.uri,
        "name": task.name,
        "labels": {target: file.uri for target, file in task.labels.items()},
    }


def _task_from_json(content: dict[str, Any]) -> Task:
    labels = {target: Location.parse(uri) for target, uri in content["labels"].items()}
    return Task(Location.parse(content["audio"]), content["name"], labels)


def _line(outcome: Outcome) -> str:
    match outcome.status:
        case "ok":
            remark = ", shorter than a sequence" if outcome.short else ""
            odd = f" ({outcome.reason})" if outcome.reason else ""
            scores = "".join(f", {name} CCC {ccc:.3f}" for name, ccc in (outcome.ccc or {}).items())
            return (
                f"{outcome.name}: {outcome.rows} rows, {outcome.sound_seconds:g} s of sound in "
                f"{outcome.seconds:.1f} s{remark}{scores}{odd}"
            )
        case "skipped":
            return f"{outcome.name}: nothing to do"
        case "stale":
            return f"{outcome.name}: files of another model or sound stand there"
        case "failed":
            return f"{outcome.name}: set aside. {outcome.reason}"


def _tell(report: Report, outcomes: Sequence[Outcome], seconds: float, out: Location) -> None:
    count = {
        status: sum(outcome.status == status for outcome in outcomes)
        for status in ("ok", "skipped", "failed", "stale")
    }
    sound = sum(outcome.sound_seconds for outcome in outcomes if outcome.status == "ok")
    short = [outcome.name for outcome in outcomes if outcome.short]
    if short:
        report.say(
            f"predict: shorter than a sequence, so that one value holds throughout: {some(short)}"
        )
    report.say(
        f"predict: {count['ok']} predicted ({sound:g} s of sound in {seconds:.1f} s), "
        f"{count['skipped']} stood there already, {count['failed'] + count['stale']} set aside; "
        f"files in '{out}'"
    )


def _refuse(outcomes: Sequence[Outcome], out: Location) -> None:
    stale = [outcome.name for outcome in outcomes if outcome.status == "stale"]
    if stale:
        more = f" and {len(stale) - 1} more" if len(stale) > 1 else ""
        raise StaleError(
            f"'{out}' holds files of another model, sound or annotation for '{stale[0]}'{more}. "
            "Add --overwrite to replace them, or choose another folder."
        )
    failed = [outcome for outcome in outcomes if outcome.status == "failed"]
    if len(failed) == len(outcomes):
        others = f" {len(failed) - 1} others failed too." if len(failed) > 1 else ""
        raise CorpusError(f"Nothing could be predicted. {failed[0].reason}{others}")
