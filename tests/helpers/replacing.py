"""Replace the outputs of each stage, by the stages' own functions but without Ray.

Ray only spreads the work of these stages over processes. Here the child process that is killed does
this work itself, so that a kill costs no start of Ray. The product's own code still begins,
removes, writes and finishes the outputs.
"""

from __future__ import annotations

import io
import json
import logging
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from typing import Any
from unittest.mock import patch

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import torch
import torch._dynamo

import pipelines.extract
import pipelines.predict
import pipelines.preprocess.stage
import pipelines.runtime.nodes
import pipelines.runtime.shared_storage
import pipelines.sweep.stage
import pipelines.sweep.trials
import pipelines.train.placement
import pipelines.train.stage
import pipelines.train.worker
from pipelines.extract import ExtractionPlan
from pipelines.runtime.console import Console
from pipelines.runtime.nodes import Node
from tests.helpers.drawings import undrawn
from valence.audio.standardization import Standardizer
from valence.config import Config
from valence.corpus.synthetic import write_corpus
from valence.errors import ValenceError
from valence.model.network import ValenceModel
from valence.model.serialization import export_model, load_model
from valence.prediction.predictor import Predictor
from valence.provenance import fingerprint
from valence.report.build import write_report
from valence.run import Run
from valence.segments.jobs import Job, RecordingOutcome
from valence.segments.preprocessing import begin_recording
from valence.segments.store import SegmentStore
from valence.storage.location import Location
from valence.sweep.features import Features, read_features, write_features
from valence.sweep.kept.results import read_results, read_selection

CONFIG = Config.resolve(
    Config(),
    assignments=[
        "mel.n_mels=16",
        "sequence.length=8",
        "sequence.stride=4",
        "model.channels=[2, 3]",
        "model.lstm_hidden=4",
        "train.epochs=1",
        "train.seeds=[0]",
        "train.batch_size=8",
        "sweep.bootstrap=20",
        'sweep.scalers=["none"]',
        'sweep.reducers=["none"]',
        'sweep.regressors=["linear", "ridge"]',
    ],
)
_NODE = Node("a", "here", {"CPU": 2.0, "memory": 2.0**33}, {})


@dataclass(frozen=True)
class Scenario:
    """Old outputs, the new outputs that replace them, and the commands that use them.

    Attributes
    ----------
    name
        Name of the scenario, which pytest shows.
    prepare
        Function that makes the input of the outputs under a root, from a folder of inputs.
    old, new
        Functions that make the outputs under a root, from a folder of inputs. Their last argument
        is `overwrite`, which replaces other outputs.
    use
        Function that returns, for each command that needs the outputs, its finding or refusal.
    parts
        Folders and files under a root that hold the outputs.
    record
        Path of the stage's record, if there is one.
    change
        Function that changes the inputs before the outputs are replaced, if that is the reason for
        replacing them. After it, the old outputs cannot be made again.
    """

    name: str
    prepare: Callable[[Location, Location], None]
    old: Callable[[Location, Location, bool], None]
    new: Callable[[Location, Location, bool], None]
    use: Callable[[Location], dict[str, Any]]
    parts: tuple[str, ...]
    record: str | None
    change: Callable[[Location, Location], None] | None = None


def make_inputs(folder: str) -> None:
    """Write corpus `a` of four speakers; `b` has no fourth one and other sound of the third."""
    root = Location.parse(folder)
    for name, subjects in (("a", 4), ("b", 3)):
        write_corpus(root / name, subjects=subjects, seconds=8.0, sr=12_000, seed=1)
        table = ["Id,Proposal", "01,train", "02,devel", "03,test", "04,train"]
        (root / name / "metadata/partition.csv").write_text("\n".join(table[: subjects + 1]) + "\n")
    other = root / "other"
    write_corpus(other, subjects=3, seconds=6.0, sr=12_000, seed=2)
    for file in ("raw_data/audio/03.wav", "label_segments/valence/03.csv"):
        (root / "b" / file).write_bytes((other / file).read_bytes())
    other.delete()


def prepare(name: str, inputs: str, root: str) -> None:
    """Make the input of a scenario's outputs."""
    with _alone():
        if (local := Location.parse(root).local) is not None:
            local.mkdir(parents=True)
        SCENARIOS[name].prepare(Location.parse(inputs), Location.parse(root))


def change(name: str, inputs: str, root: str) -> None:
    """Change the inputs, if that is the reason why the scenario replaces its outputs."""
    befalls = SCENARIOS[name].change
    if befalls is not None:
        with _alone():
            befalls(Location.parse(inputs), Location.parse(root))


def make(name: str, which: str, inputs: str, root: str, overwrite: bool) -> str | None:
    """Make the old or the new outputs; return the refusal, or None without one."""
    scenario = SCENARIOS[name]
    work = scenario.old if which == "old" else scenario.new
    with _alone(inputs):
        try:
            work(Location.parse(inputs), Location.parse(root), overwrite)
        except ValenceError as error:
            return str(error)
    return None


def found(name: str, root: str) -> dict[str, Any]:
    """Return what each command that uses the outputs finds, or `refused` with its message."""
    with _alone():
        return SCENARIOS[name].use(Location.parse(root))


def go_on(name: str, inputs: str, root: str) -> tuple[dict[str, Any], list[Any]]:
    """Make the calls that a user may make after a kill, and return their results.

    First the outputs are used. Then the old outputs are made, then the new ones, and if that was
    refused, the new ones with `--overwrite`. The result of each call is its refusal, or the
    contents that it left.
    """
    used, outcomes = found(name, root), []
    calls = [("new", False), ("new", True)]
    if SCENARIOS[name].change is None:
        calls.insert(0, ("old", False))
    for which, overwrite in calls:
        refusal = make(name, which, inputs, root, overwrite)
        outcomes.append(refusal if refusal is not None else contents(name, root))
        if which == "new" and refusal is None:
            break
    return used, outcomes


def turn_back(name: str, inputs: str, root: str) -> Any:
    """Make the old outputs over any others; return the contents, or the refusal."""
    refusal = make(name, "old", inputs, root, True)
    return refusal if refusal is not None else contents(name, root)


def contents(name: str, root: str) -> dict[str, str]:
    """Compute digests of all outputs, without parts that differ in every call, such as times."""
    digests = {}
    for path, content in files(Location.parse(root)):
        if path.startswith(SCENARIOS[name].parts):
            lasting = b"" if path.endswith(_PASSING_FILES) else _lasting(path, content)
            digests[path] = sha256(lasting).hexdigest()
    return digests


def files(place: Location, under: str = "") -> Iterator[tuple[str, bytes]]:
    """Yield the path (relative to `place`) and content of each file that is not hidden."""
    for entry in place.everything():
        if entry.is_folder():
            yield from files(entry, f"{under}{entry.name}/")
        elif not entry.name.startswith("."):
            yield f"{under}{entry.name}", entry.read_bytes()


# Keys whose values differ from call to call: in all JSON files, and in files of one name.
_PASSING = {"seconds", "times", "machine", "digest", "former", "command"}
_PASSING_IN = {"prediction.json": {"status"}, "regressor.json": {"sha256"}}
# The path of a root, which is called `run`, and how the address of an object store ends.
_ROOT = re.compile(rb'(s3:/)?/[^" ]*?/run\b')
_QUERY = re.compile(rb'\?endpoint_override=[^" ]*')
_LASTING_IN_RECORD = ("status", "made_of", "fingerprint")


def _lasting(path: str, content: bytes) -> bytes:
    """Return the part of a file that is equal for any two calls that make the same output."""
    name = path.rpartition("/")[2]
    if name.endswith((".json", ".toml", ".md")):
        content = _QUERY.sub(b"", _ROOT.sub(b"RUN", content))
    match name.rpartition(".")[2]:
        case "json" if name == "stage.json":
            record = json.loads(content)
            kept = [*(record[key] for key in _LASTING_IN_RECORD), sorted(record["files"])]
            return json.dumps(kept).encode()
        case "json":
            passing = _PASSING | _PASSING_IN.get(name, set())
            return json.dumps(_less(json.loads(content), passing), sort_keys=True).encode()
        case "csv":
            frame = pd.read_csv(io.BytesIO(content))
            return frame.drop(columns="seconds", errors="ignore").to_csv().encode()
        case "parquet" if path.startswith(("out", "sweep")):
            # Metadata hold the duration and the path of the sound, so only the values count.
            return repr(pq.read_table(io.BytesIO(content)).to_pydict()).encode()
    return content


# Reports and states of a training contain durations, and archives contain the time of their making.
_PASSING_FILES = ("report.html", ".pt", "state.json", "claim.json", ".skops")


def _less(tree: Any, keys: set[str]) -> Any:
    if isinstance(tree, dict):
        return {key: _less(value, keys) for key, value in tree.items() if key not in keys}
    return [_less(each, keys) for each in tree] if isinstance(tree, list) else tree


@contextmanager
def _alone(inputs: str = "") -> Iterator[None]:
    """Do the work of Ray in this process, which then is the only node."""
    kept = Location.parse(inputs) / "trained"
    torch.set_num_threads(1)
    logging.disable()
    with undrawn(), ExitStack() as stack:
        for target, attribute, value in (
            (pipelines.runtime.nodes, "living_nodes", lambda: [_NODE]),
            (pipelines.runtime.shared_storage, "living_nodes", lambda: [_NODE]),
            (pipelines.train.placement, "living_nodes", lambda: [_NODE]),
            (pipelines.preprocess.stage, "process_recordings", _process),
            (pipelines.extract, "_outcomes", _extract),
            (pipelines.train.stage, "_run_ray_train", partial(_train, kept)),
            (pipelines.sweep.stage, "run_trials", _run_trials),
            (pipelines.sweep.stage, "start_functionals", lambda *_: None),
            (pipelines.sweep.stage.ray, "put", lambda value: value),
            (pipelines.sweep.trials.ray, "get", lambda value: value),
        ):
            stack.enter_context(patch.object(target, attribute, value))
        yield


def _process(
    jobs: Sequence[Job],
    store: SegmentStore,
    config: Config,
    *,
    sizes: Any,
    selector: Any,
    replace: bool,
) -> Iterator[RecordingOutcome]:
    for job in jobs:
        outcome = begin_recording(job, store, config, replace=replace)
        assert isinstance(outcome, RecordingOutcome), "these are short"
        yield outcome


def _extract(todo: list[dict[str, Any]], plan: ExtractionPlan, console: Console) -> Any:
    for row in todo:
        rows = {key: np.array([value]) for key, value in row.items()}
        done = pipelines.extract.extract_recordings(
            rows, run=plan.run, config=plan.config, inputs=plan.inputs, threads=1, device="cpu"
        )
        yield {key: value[0] for key, value in done.items()}


def _train(kept: Location, settings: Any, *_: Any) -> None:
    """Train, or copy the files that an equal training has left in `kept`."""
    here = kept / fingerprint(settings.made_of)
    if here.exists():
        settings.claim.take()
        for path, content in files(here):
            (settings.folder / path).write_bytes(content)
        return
    with (
        patch.object(pipelines.train.worker.ray.train, "report", lambda _: None),
        patch.object(pipelines.train.worker.ray.train, "get_context", _Context),
    ):
        assert pipelines.train.worker.train_worker({"settings": settings}) is None
    for path, content in files(settings.folder):
        if "stage.json" not in path and "claim.json" not in path:
            (here / path).write_bytes(content)


class _Context:
    def get_local_world_size(self) -> int:
        return 1


def _run_trials(work: Any, missing: list[str], *_: Any, **__: Any) -> dict[str, str]:
    for name in missing:
        trial = object.__new__(pipelines.sweep.trials.SweepTrial)
        trial.setup({}, work)
        trial.config = {"combination": name}
        trial.step()
    return {}


def _with(*assignments: str) -> Config:
    return Config.resolve(CONFIG, assignments=assignments)


def address(place: Location) -> str:
    """Return an address that is parsed to `place`, with the credentials that its URI lacks."""
    return place.uri.replace("s3://", "s3://key:secret@")


def _console() -> Console:
    from rich.console import Console as RichConsole

    return Console(RichConsole(file=io.StringIO(), force_terminal=True))


def _asked(**calls: Callable[[], Any]) -> dict[str, Any]:
    """Return the result of each call, or its refusal."""
    results: dict[str, Any] = {}
    for name, call in calls.items():
        try:
            results[name] = call()
        except ValenceError as error:
            results[name] = {"refused": str(error)}
    return results


# The segments.


def _preprocess(corpus: str, *assignments: str) -> Callable[[Location, Location, bool], None]:
    def make(inputs: Location, root: Location, overwrite: bool) -> None:
        pipelines.preprocess.stage.preprocess(
            inputs / corpus, Run(root), _with(*assignments), overwrite=overwrite, console=_console()
        )

    return make


def _nothing(inputs: Location, root: Location) -> None:
    pass


def _use_segments(root: Location) -> dict[str, Any]:
    def segments() -> str:
        run = Run(root)
        run.stage("segments").require()
        store = SegmentStore(run.folder("segments"))
        frame = store.recordings()
        digest = sha256(store.digest().encode())
        digest.update(json.dumps(store.standardizer().to_json()).encode())
        for row in frame.itertuples(index=False):
            for copy in range(row.copies + 1):
                digest.update(store.read(row.Id, copy).mel.tobytes())
        section = run.config()
        return f"{digest.hexdigest()} {section.preprocess} {section.augment}"

    return _asked(segments=segments)


# The model.


def _segments(inputs: Location, root: Location) -> None:
    _preprocess("a")(inputs, root, False)


def _train_with(*assignments: str) -> Callable[[Location, Location, bool], None]:
    def make(inputs: Location, root: Location, overwrite: bool) -> None:
        pipelines.train.stage.train(
            Run(root), _with(*assignments), overwrite=overwrite, console=_console()
        )

    return make


def _use_model(root: Location) -> dict[str, Any]:
    run = Run(root)

    def as_extract() -> str:
        trained = run.stage("train").require()["summary"]["digest"]
        assert load_model(run.model)[1].sha256 == trained
        return f"{trained} {run.config().train.seeds}"

    def as_predict() -> str:
        return Predictor.load(run).description.sha256

    return _asked(extract=as_extract, predict=as_predict)


# The features.


def _model(folder: Location, seed: int) -> str:
    torch.manual_seed(seed)
    standardizer = Standardizer("global", np.zeros(1, np.float32), np.ones(1, np.float32))
    model = ValenceModel(CONFIG.model, n_mels=16, n_frames=34, standardizer=standardizer)
    return export_model(folder, model, CONFIG, {"seed": seed})


def _trained(root: Location, seed: int) -> None:
    run = Run(root)
    stage = run.stage("train")
    stage.begin({"seed": seed}, overwrite=True)
    stage.finish({"seconds": 0.0, "workers": 1, "digest": _model(run.model, seed)})


def _segments_and_model(inputs: Location, root: Location) -> None:
    _segments(inputs, root)
    _trained(root, 0)


def _another_model(inputs: Location, root: Location) -> None:
    _trained(root, 1)


def _extract_with(*assignments: str) -> Callable[[Location, Location, bool], None]:
    def make(inputs: Location, root: Location, overwrite: bool) -> None:
        pipelines.extract.extract(
            Run(root), _with(*assignments), overwrite=overwrite, console=_console()
        )

    return make


def _use_features(root: Location) -> dict[str, Any]:
    def features() -> str:
        stage = Run(root).stage("features")
        stage.require()
        found = read_features(stage.folder)
        return sha256(found.feature.tobytes() + found.prediction.tobytes()).hexdigest()

    return _asked(features=features)


# The sweep.


def _made_up_features(inputs: Location, root: Location) -> None:
    run, rng = Run(root), np.random.default_rng(0)
    run.write_config(CONFIG, {"corpus": "/corpus"})
    _trained(root, 0)
    stage = run.stage("features")
    model = run.stage("train").require()["summary"]["digest"]
    stage.begin({"model": model})
    for number, split in enumerate(["train", "train", "validation", "validation", "test", "test"]):
        feature = rng.standard_normal((12, 6)).astype(np.float32)
        label = np.tanh(feature @ np.arange(6) / 9)[:, None].astype(np.float32)
        name = f"r{number}"
        rows = Features(
            recording=np.array([name] * 12),
            subject=np.array([name] * 12),
            split=np.array([split] * 12),
            start=np.arange(12, dtype=np.int32),
            target=label,
            feature=feature,
            prediction=label + np.float32(0.3),
            targets=("valence",),
        )
        write_features(stage.folder / f"{name}.parquet", rows)
    stage.finish({"digest": "of these features", "seconds": 0.0})


def _sweep_with(*assignments: str) -> Callable[[Location, Location, bool], None]:
    def make(inputs: Location, root: Location, overwrite: bool) -> None:
        pipelines.sweep.stage.sweep(
            Run(root), _with(*assignments), overwrite=overwrite, console=_console()
        )

    return make


def _use_sweep(root: Location) -> dict[str, Any]:
    run = Run(root)

    def as_report() -> str:
        record = run.stage("sweep").require()
        frame = read_results(run.folder("sweep"), record).drop(columns="seconds")
        best = read_selection(run.folder("sweep"), record)["best"]
        return f"{frame.to_csv()} {best} {run.config().sweep.scalers}"

    def as_predict() -> str:
        best = Predictor.load(run, regressor="best").regressor
        assert best is not None
        return f"{best.about['steps']}"

    return _asked(report=as_report, predict=as_predict)


# The report.


def _all_but_report(inputs: Location, root: Location) -> None:
    _segments_and_model(inputs, root)
    _extract_with()(inputs, root, False)


def _other_features(inputs: Location, root: Location) -> None:
    _extract_with("sequence.stride=2")(inputs, root, True)
    # A training with this stride would have stated it.
    run = Run(root)
    run.write_config(_with("sequence.stride=2"), run.record())


def _write_report(inputs: Location, root: Location, overwrite: bool) -> None:
    write_report(Run(root), overwrite=overwrite)


def _use_report(root: Location) -> dict[str, Any]:
    def report() -> str:
        stage = Run(root).stage("report")
        stage.require()
        if amiss := stage.amiss():
            return f"mixed: {amiss}"
        content = (stage.folder / "metrics.json").read_bytes()
        return _lasting("metrics.json", content).decode()

    return _asked(report=report)


# Predictions.


def _models_and_sound(inputs: Location, root: Location) -> None:
    _model(root / "first", 0)
    _model(root / "second", 1)
    _sound("a", inputs, root)


def _sound(corpus: str, inputs: Location, root: Location) -> None:
    for name in ("02.wav", "03.wav"):
        sound = (inputs / corpus / "raw_data/audio" / name).read_bytes()
        (root / "sound" / name).write_bytes(sound)


def _other_sound(inputs: Location, root: Location) -> None:
    _sound("b", inputs, root)


def _predict_with(model: str) -> Callable[[Location, Location, bool], None]:
    def make(inputs: Location, root: Location, overwrite: bool) -> None:
        pipelines.predict.predict(
            [address(root / "sound")],
            root / model,
            root / "out",
            overwrite=overwrite,
            console=_console(),
        )

    return make


def _use_nothing(root: Location) -> dict[str, Any]:
    return {}


SCENARIOS = {
    each.name: each
    for each in (
        Scenario(
            "preprocess: all files are others",
            _nothing,
            _preprocess("a"),
            _preprocess("a", "preprocess.level=rms"),
            _use_segments,
            ("config.toml", "config.copy.toml", "segments"),
            "segments/stage.json",
        ),
        Scenario(
            "preprocess: some files stay",
            _nothing,
            _preprocess("a"),
            _preprocess("b", "augment.copies=0"),
            _use_segments,
            ("config.toml", "config.copy.toml", "segments"),
            "segments/stage.json",
        ),
        Scenario(
            "train",
            _segments,
            _train_with(),
            _train_with("train.seeds=[1]"),
            _use_model,
            ("config.toml", "config.copy.toml", "train", "model"),
            "train/stage.json",
        ),
        Scenario(
            "extract: another model",
            _segments_and_model,
            _extract_with(),
            _extract_with(),
            _use_features,
            ("features",),
            "features/stage.json",
            _another_model,
        ),
        Scenario(
            "extract: another stride",
            _segments_and_model,
            _extract_with(),
            _extract_with("sequence.stride=2"),
            _use_features,
            ("features",),
            "features/stage.json",
        ),
        Scenario(
            "sweep",
            _made_up_features,
            _sweep_with(),
            _sweep_with('sweep.scalers=["standard"]'),
            _use_sweep,
            ("config.toml", "config.copy.toml", "sweep"),
            "sweep/stage.json",
        ),
        Scenario(
            "report: other results",
            _all_but_report,
            _write_report,
            _write_report,
            _use_report,
            ("report", "model"),
            "report/stage.json",
            _other_features,
        ),
        Scenario(
            "report: the same again",
            _all_but_report,
            _write_report,
            _write_report,
            _use_report,
            ("report", "model"),
            "report/stage.json",
            _nothing,
        ),
        Scenario(
            "predict: another model",
            _models_and_sound,
            _predict_with("first"),
            _predict_with("second"),
            _use_nothing,
            ("out",),
            None,
        ),
        Scenario(
            "predict: other sound",
            _models_and_sound,
            _predict_with("first"),
            _predict_with("first"),
            _use_nothing,
            ("out",),
            None,
            _other_sound,
        ),
    )
}
