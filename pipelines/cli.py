"""The command line: `valence`, or `python -m pipelines`.

Heavy modules are imported by the command that needs them, so that `valence --help` loads neither
torch nor Ray, and so that Ray's environment is set before Ray is imported.
"""

from __future__ import annotations

import importlib
import signal
import sys
import traceback
from collections.abc import Sequence
from typing import Annotated, Any, Literal, get_args

import typer
from typer.core import TyperGroup

from pipelines.runtime.console import Console
from pipelines.runtime.session import ray_session
from pipelines.runtime.stopping import Stopping, exit_status, in_words
from pipelines.runtime.terminal import leave_quietly, prepare_streams, read_no_more
from valence.chain import require_chain, require_own_config
from valence.config import Config, Preset
from valence.errors import UsageError, ValenceError
from valence.run import Run, StageName
from valence.storage.location import Location


class _Raised(Exception):
    """Carries what a command raised past Typer, which ends a program in its own way on some."""


class _Commands(TyperGroup):
    """The commands, which end on Ctrl-C and on a pipe without a reader in the program's words."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command that is named."""
        try:
            return super().invoke(ctx)
        except (KeyboardInterrupt, OSError) as error:
            raise _Raised from error


app = typer.Typer(
    name="valence",
    cls=_Commands,
    help="How positive or negative a voice sounds, moment by moment.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


Exported = Literal["train", "validation", "test", "unlabelled"]
CorpusPath = Annotated[str, typer.Argument(metavar="CORPUS", help="Folder or URI of a corpus.")]
RunPath = Annotated[str, typer.Argument(metavar="RUN", help="Folder or URI of a run.")]
OutPath = Annotated[str, typer.Option("--out", metavar="RUN", help="Folder or URI of the run.")]
ConfigFile = Annotated[
    str | None, typer.Option("--config", metavar="FILE.toml", help="Configuration to lay over.")
]
PresetOption = Annotated[Preset | None, typer.Option("--preset", help="Where to start from.")]
Assignments = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="SECTION.KEY=VALUE", help="One value; may be repeated."),
]
Address = Annotated[
    str | None,
    typer.Option("--address", help="Ray cluster; default: the environment's, else local."),
]
Overwrite = Annotated[
    bool, typer.Option("--overwrite", help="Replace outputs of another configuration or input.")
]
Debug = Annotated[bool, typer.Option("--debug", help="Show a traceback with an error.")]

# The embedded corpus and what suits it: small enough for a laptop's coffee break.
_DEMO_SUBJECTS = 12
_DEMO_SECONDS = 100.0
_DEMO_SETTINGS = ("sequence.stride=10", "train.epochs=12", "train.patience=12")


def main() -> None:
    """Run the program; errors end in one paragraph and the exit status of their kind."""
    prepare_streams()
    status = 0
    with Stopping() as stopping:
        try:
            app()
        except BaseException as error:
            raised = error.__cause__ if isinstance(error, _Raised) else error
            assert raised is not None, "what was raised is the cause"
            if "--debug" in sys.argv and not isinstance(raised, SystemExit):
                traceback.print_exception(raised)
            message, status = _ending(raised, stopping.signum)
            if message is not None:
                print(f"valence: {message}", file=sys.stderr)
    # All is done: a signal that comes as Python ends has nothing left to say.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    for stream in (sys.stdout, sys.stderr):
        leave_quietly(stream)
    sys.exit(status)


def _ending(error: BaseException, signum: int | None) -> tuple[str | None, int]:
    """Find the words and the exit status that a command ends with.

    Parameters
    ----------
    error
        What the command raised; the program's own exit is a `SystemExit`.
    signum
        The signal that asked it to end, if one did. It decides, because what is raised in its wake
        may be anything.
    """
    if signum is not None:
        return in_words(signum), exit_status(signum)
    if isinstance(error, BrokenPipeError) and any(map(read_no_more, (sys.stdout, sys.stderr))):
        # As in `valence check CORPUS | head`: its reader has seen enough.
        return None, exit_status(signal.SIGPIPE)
    match error:
        case SystemExit(code=int(status)):
            return None, status
        case SystemExit():
            return None, 0 if error.code is None else 1
        case ValenceError():
            return str(error), error.exit_status
        case OSError():
            named = "".join(f"{note}: " for note in getattr(error, "__notes__", ()))
            return (
                f"A file could not be read or written: {named}{error}. Check that the path is "
                "right, that you may use it and that there is room, and run the command again: "
                "what is finished stays."
            ), 1
        case KeyboardInterrupt():
            # Raised by a library, without a signal.
            return in_words(signal.SIGINT), exit_status(signal.SIGINT)
        case _:
            # The last resort of a program: whatever it is, a user gets words and a status.
            return (
                f"Something unexpected went wrong: {type(error).__name__}: {error}. What was "
                "finished before is kept. Run the command again with --debug to see where, and "
                "report it."
            ), 1


@app.command()
def demo(
    out: OutPath = "runs/demo",
    config: ConfigFile = None,
    preset: PresetOption = None,
    set_: Assignments = None,
    address: Address = None,
    overwrite: Overwrite = False,
    debug: Debug = False,
) -> None:
    """Make the embedded corpus, run all stages on it and write the report."""
    from valence.corpus.synthetic import SYNTHETIC, write_corpus

    run = Run.at(out)
    corpus = run.root / "corpus"
    told = Console()
    if not (corpus / SYNTHETIC).exists():
        told.say(f"demo: {_DEMO_SUBJECTS} synthetic speakers, {_DEMO_SECONDS:g} s each")
        write_corpus(corpus, subjects=_DEMO_SUBJECTS, seconds=_DEMO_SECONDS)
    base = Config.resolve(Config(), assignments=_DEMO_SETTINGS)
    resolved = _resolve(run, config, preset, set_, otherwise=base)
    told.say(
        "demo: what follows speaks of synthetic sound: it shows that the system works, and nothing "
        "about people. 'valence run CORPUS --out RUN' does the same with recordings."
    )
    _all_stages(corpus, run, resolved, address, overwrite, told)


@app.command()
def check(
    corpus: CorpusPath,
    config: ConfigFile = None,
    preset: PresetOption = None,
    set_: Assignments = None,
    debug: Debug = False,
) -> None:
    """Show what a corpus holds and what is wrong with it, per recording and in sum."""
    from pipelines.check import check as print_check
    from valence.corpus.muse import read_corpus

    resolved = _resolve(None, config, preset, set_)
    print_check(read_corpus(Location.parse(corpus), resolved.corpus.subjects), resolved)


@app.command()
def run(
    corpus: CorpusPath,
    out: OutPath,
    config: ConfigFile = None,
    preset: PresetOption = None,
    set_: Assignments = None,
    address: Address = None,
    overwrite: Overwrite = False,
    debug: Debug = False,
) -> None:
    """Run all stages, from recordings to the report; again, it goes on where it stopped."""
    target = Run.at(out)
    resolved = _resolve(target, config, preset, set_)
    _all_stages(Location.parse(corpus), target, resolved, address, overwrite, Console())


@app.command()
def preprocess(
    corpus: CorpusPath,
    out: OutPath,
    config: ConfigFile = None,
    preset: PresetOption = None,
    set_: Assignments = None,
    address: Address = None,
    overwrite: Overwrite = False,
    debug: Debug = False,
) -> None:
    """Cut, level, augment and transform the recordings into the segment store."""
    target = Run.at(out)
    resolved = _resolve(target, config, preset, set_)
    with ray_session(address):
        from pipelines.preprocess.stage import preprocess as stage

        stage(Location.parse(corpus), target, resolved, overwrite=overwrite, console=Console())


@app.command()
def train(
    run: RunPath,
    config: ConfigFile = None,
    preset: PresetOption = None,
    set_: Assignments = None,
    address: Address = None,
    overwrite: Overwrite = False,
    debug: Debug = False,
) -> None:
    """Train the deep model on the segments of a run."""
    target = Run.at(run)
    resolved = _resolve_existing(target, "train", config, preset, set_)
    _load_torch()
    with ray_session(address):
        from pipelines.train.stage import train as stage

        stage(target, resolved, overwrite=overwrite, console=Console())


@app.command()
def extract(
    run: RunPath,
    config: ConfigFile = None,
    preset: PresetOption = None,
    set_: Assignments = None,
    address: Address = None,
    overwrite: Overwrite = False,
    debug: Debug = False,
) -> None:
    """Compute the deep features and predictions of every sequence."""
    target = Run.at(run)
    resolved = _resolve_existing(target, "features", config, preset, set_)
    _load_torch()
    with ray_session(address):
        from pipelines.extract import extract as stage

        stage(target, resolved, overwrite=overwrite, console=Console())


@app.command()
def sweep(
    run: RunPath,
    config: ConfigFile = None,
    preset: PresetOption = None,
    set_: Assignments = None,
    address: Address = None,
    overwrite: Overwrite = False,
    debug: Debug = False,
) -> None:
    """Evaluate the combinations of scaler, reducer and regressor on the deep features."""
    target = Run.at(run)
    resolved = _resolve_existing(target, "sweep", config, preset, set_)
    with ray_session(address):
        from pipelines.sweep.stage import sweep as stage

        stage(target, resolved, overwrite=overwrite, console=Console())


@app.command()
def report(
    runs: Annotated[list[str], typer.Argument(metavar="RUN...", help="One run, or several.")],
    out: Annotated[
        str | None, typer.Option("--out", metavar="DIR", help="Where a comparison of several goes.")
    ] = None,
    overwrite: Overwrite = False,
    debug: Debug = False,
) -> None:
    """Write the report of a run, or compare several side by side."""
    told = Console()
    if len(runs) == 1:
        if out is not None:
            raise UsageError(
                "--out was given with one run, whose report goes to RUN/report. Leave --out out, "
                "or name further runs to compare with it."
            )
        from valence.report.build import write_report

        run = Run.at(runs[0])
        written = write_report(run, overwrite=overwrite)
        for remark in written["remarks"]:
            told.say(f"report: {remark}")
        told.say(f"report: {run.folder('report') / 'report.html'}")
        return
    from valence.report.comparison import compare_runs

    if out is None:
        raise UsageError(
            f"{len(runs)} runs were given to compare, and nowhere to write. Add --out DIR."
        )
    folder = Location.parse(out)
    compare_runs([Run.at(run) for run in runs], folder, overwrite=overwrite)
    told.say(f"report: {folder / 'report.html'}")


@app.command()
def predict(
    audio: Annotated[
        list[str],
        typer.Argument(
            metavar="AUDIO...",
            help="Files, folders (the audio in them), patterns such as 'talks/**/*.wav', URIs.",
        ),
    ],
    model: Annotated[str, typer.Option("--model", metavar="RUN", help="A run, or a model folder.")],
    out: Annotated[str, typer.Option("--out", metavar="DIR", help="Folder for the timelines.")],
    labels: Annotated[
        str | None,
        typer.Option("--labels", metavar="PATH", help="Annotations to draw beside the curves."),
    ] = None,
    labels_range: Annotated[
        tuple[float, float] | None,
        typer.Option(
            "--labels-range",
            metavar="LOW HIGH",
            help="Their scale, such as 1 7; otherwise that of the model's own labels.",
        ),
    ] = None,
    regressor: Annotated[
        Literal["best"] | None,
        typer.Option("--regressor", help="The sweep's best in place of the deep model's head."),
    ] = None,
    address: Address = None,
    overwrite: Overwrite = False,
    debug: Debug = False,
) -> None:
    """Predict valence over time: a table and a picture for every recording."""
    from pipelines.predict import predict as stage

    stage(
        audio,
        Location.parse(model),
        Location.parse(out),
        labels=None if labels is None else Location.parse(labels),
        labels_range=labels_range,
        regressor=regressor,
        address=address,
        overwrite=overwrite,
        console=Console(),
    )


@app.command()
def export(
    run: RunPath,
    npz: Annotated[
        str | None, typer.Option("--npz", metavar="DIR", help="Write the study's sequence files.")
    ] = None,
    onnx: Annotated[
        str | None, typer.Option("--onnx", metavar="FILE", help="Write the model for ONNX Runtime.")
    ] = None,
    split: Annotated[
        list[str] | None,
        typer.Option("--split", help="With --npz: which parts; may be repeated. Default: all."),
    ] = None,
    stride: Annotated[
        int | None,
        typer.Option("--stride", min=1, help="With --npz: default is the run's sequence.stride."),
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="With --npz: write more than 1 GB.")] = False,
    debug: Debug = False,
) -> None:
    """Write what other people's code reads: the study's `.npz` files, or the model as ONNX."""
    target = Run.at(run)
    # Neither export reads the features or the sweep.
    config = require_own_config(target, before="features")
    told = Console()
    if npz is None and onnx is None:
        raise UsageError("Nothing to export was named. Add --npz DIR or --onnx FILE.")
    if onnx is not None:
        from valence.model.onnx_export import export_onnx
        from valence.model.serialization import load_own_model

        export_onnx(Location.parse(onnx), *load_own_model(target))
        told.say(f"export: {onnx}")
    if npz is not None:
        from valence.segments.npz import plan_npz, write_npz
        from valence.segments.store import SegmentStore

        require_chain(target, "segments")
        store, folder = SegmentStore(target.folder("segments")), Location.parse(npz)
        splits = _exported(split or get_args(Exported))
        plan = plan_npz(store, config, splits=splits, stride=stride or config.sequence.stride)
        plan.refuse_if_large(folder, agreed=yes)
        told.say(f"export: {plan.files} files, {plan.size / 1e9:.2f} GB, to '{folder}'")
        with told.bar("export", plan.files) as bar:
            for files in write_npz(store, config, plan, folder):
                bar.advance(files)


def _exported(names: Sequence[str]) -> list[Exported]:
    known: tuple[Exported, ...] = get_args(Exported)
    unknown = [name for name in names if name not in known]
    if unknown:
        raise UsageError(f"--split {unknown[0]} was found. Expected one of {', '.join(known)}.")
    return [name for name in known if name in names]


def _all_stages(
    corpus: Location,
    run: Run,
    config: Config,
    address: str | None,
    overwrite: bool,
    console: Console,
) -> None:
    from valence.sweep.grid import combinations

    _load_torch()
    # A mistake in the last stage's configuration is told before hours of work, not after.
    combinations(config.sweep)
    with ray_session(address):
        from pipelines.extract import extract
        from pipelines.preprocess.stage import preprocess
        from pipelines.sweep.stage import sweep
        from pipelines.train.stage import train

        preprocess(corpus, run, config, overwrite=overwrite, console=console)
        train(run, config, overwrite=overwrite, console=console)
        extract(run, config, overwrite=overwrite, console=console)
        sweep(run, config, overwrite=overwrite, console=console)
    from valence.report.build import write_report
    from valence.report.closing import closing_lines

    written = write_report(run, overwrite=overwrite)
    for remark in written["remarks"]:
        console.say(f"report: {remark}")
    console.say(f"report: {run.folder('report') / 'report.html'}")
    for line in closing_lines(written["metrics"]):
        console.say(line)


def _load_torch() -> None:
    """Load torch before what Ray and scikit-learn load.

    Loaded after them, in the driver of a job, its MKL may find no room to load itself and ends the
    process ("Cannot load libtorch_cpu.so").
    """
    importlib.import_module("torch")


def _resolve_existing(
    run: Run,
    stage: StageName,
    file: str | None,
    preset: Preset | None,
    assignments: list[str] | None,
) -> Config:
    """As `_resolve`, for a command that makes a stage of a run whose earlier ones are there."""
    require_own_config(run, before=stage)
    return _resolve(run, file, preset, assignments)


def _resolve(
    run: Run | None,
    file: str | None,
    preset: Preset | None,
    assignments: list[str] | None,
    *,
    otherwise: Config | None = None,
) -> Config:
    """The configuration that a command works with.

    A preset starts afresh; without one, a run that exists goes on with its own configuration, and
    a new one starts from `otherwise`. A file and assignments are laid over either.
    """
    if preset is not None:
        base = Config.preset(preset)
    elif run is not None and run.config_file.exists():
        base = run.config()
    else:
        base = otherwise or Config()
    return Config.resolve(
        base,
        file=None if file is None else Location.parse(file),
        assignments=assignments or (),
    )
