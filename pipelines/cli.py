"""Define the command line `valence`, also run as `python -m pipelines`.

Each command imports the heavy modules that it needs: `valence --help` then loads neither torch nor
Ray, and Ray's environment is set before Ray is imported.
"""

from __future__ import annotations

import importlib
import signal
import sys
import traceback
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from typer.core import TyperGroup

from pipelines.options import (
    Address,
    Assignments,
    ConfigFile,
    CorpusOut,
    CorpusPath,
    Debug,
    OutPath,
    Overwrite,
    PresetOption,
    RunPath,
    SourceOptions,
    StageOptions,
    takes_options,
)
from pipelines.runtime.console import Console
from pipelines.runtime.session import ray_session
from pipelines.runtime.stopping import Stopping, exit_status, in_words
from pipelines.runtime.terminal import leave_quietly, prepare_streams, read_no_more
from valence.chain import require_own_config
from valence.config import Config
from valence.errors import CorpusError, UsageError, ValenceError
from valence.run import Run
from valence.stage import StageName
from valence.storage.addresses import without_secrets
from valence.storage.location import Location

if TYPE_CHECKING:
    from pipelines.corpora.importing import ImportOptions


class _Raised(Exception):
    """Carries a command's error past Typer, which would end the program in its own way."""


class _Commands(TyperGroup):
    """A group of commands that leaves Ctrl-C and closed pipes to `main`."""

    def invoke(self, ctx: Any) -> Any:
        """Run the named command."""
        try:
            return super().invoke(ctx)
        except (KeyboardInterrupt, OSError) as error:
            raise _Raised from error


app = typer.Typer(
    name="valence",
    cls=_Commands,
    help="Predict how positive or negative a voice sounds, moment by moment.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


class _Format(StrEnum):
    """The forms of `valence predict --format`; Typer takes no list of literals."""

    EAF = "eaf"
    TEXTGRID = "textgrid"
    AUDACITY = "audacity"
    AUDFORMAT = "audformat"


# The embedded corpus and its settings: small enough for a coffee break on a laptop.
_DEMO_SUBJECTS = 12
_DEMO_SECONDS = 100.0
_DEMO_SETTINGS = ("sequence.stride=10", "train.epochs=12", "train.patience=12")


def main() -> None:
    """Run the program; an error ends it with one paragraph and the exit status of its kind."""
    prepare_streams()
    status = 0
    with Stopping() as stopping:
        try:
            app()
        except BaseException as error:
            raised = error.__cause__ if isinstance(error, _Raised) else error
            assert raised is not None, "the command's error is the cause"
            if "--debug" in sys.argv and not isinstance(raised, SystemExit):
                traceback.print_exception(raised)
            message, status = _ending(raised, stopping.signum)
            if message is not None:
                # The client of an object store may repeat an address with its token.
                print(f"valence: {without_secrets(message)}", file=sys.stderr)
    # The work is over: a signal that arrives while Python exits needs no message.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    for stream in (sys.stdout, sys.stderr):
        leave_quietly(stream)
    sys.exit(status)


def _ending(error: BaseException, signum: int | None) -> tuple[str | None, int]:
    """Choose the message and the exit status that a command ends with.

    Parameters
    ----------
    error
        The exception that the command raised; a regular exit raises `SystemExit`.
    signum
        The signal that asked the command to end, if one did. The signal takes precedence: after it,
        libraries may raise any error.
    """
    if signum is not None:
        return in_words(signum), exit_status(signum)
    if isinstance(error, BrokenPipeError) and any(map(read_no_more, (sys.stdout, sys.stderr))):
        # The reader has seen enough, for example in `valence check CORPUS | head`.
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
            # A library raised it; no signal came.
            return in_words(signal.SIGINT), exit_status(signal.SIGINT)
        case _:
            # The last resort: every error ends with a message and a status.
            return (
                f"Something unexpected went wrong: {type(error).__name__}: {error}. What was "
                "finished before is kept. Run the command again with --debug to see where, and "
                "report it."
            ), 1


@app.command()
@takes_options(StageOptions)
def demo(out: OutPath = "runs/demo", *, options: StageOptions) -> None:
    """Make the embedded corpus, run all stages on it and write the report."""
    from valence.corpus.synthetic import SYNTHETIC, write_corpus

    run = Run.at(out)
    corpus = run.root / "corpus"
    console = Console()
    if not (corpus / SYNTHETIC).exists():
        console.say(f"demo: {_DEMO_SUBJECTS} synthetic speakers, {_DEMO_SECONDS:g} s each")
        write_corpus(corpus, subjects=_DEMO_SUBJECTS, seconds=_DEMO_SECONDS)
    base = Config.resolve(Config(), assignments=_DEMO_SETTINGS)
    resolved = _resolve(run, options, otherwise=base)
    console.say(
        "demo: what follows speaks of synthetic sound: it shows that the system works, and nothing "
        "about people. 'valence run CORPUS --out RUN' does the same with recordings."
    )
    _all_stages(corpus, run, resolved, options, console)


@app.command()
def check(
    corpus: CorpusPath,
    config: ConfigFile = None,
    preset: PresetOption = None,
    set_: Assignments = None,
    debug: Debug = False,
) -> None:
    """Check a corpus: list its recordings, their faults and the totals."""
    from pipelines.corpora.check import check as print_check
    from pipelines.corpora.importing import hint_of_import
    from valence.corpus.muse import read_corpus

    resolved = _resolve(None, StageOptions(config, preset, set_))
    root = Location.parse(corpus)
    if hint := hint_of_import(root):
        raise CorpusError(hint)
    print_check(read_corpus(root, resolved.corpus.subjects), resolved)


@app.command(name="import")
@takes_options(SourceOptions)
def import_(
    source: Annotated[
        str, typer.Argument(metavar="SOURCE", help="Folder or URI of a corpus in another form.")
    ],
    out: CorpusOut,
    *,
    options: SourceOptions,
) -> None:
    """Make a corpus in the MuSe layout from one in another form."""
    from pipelines.corpora.importing import import_corpus

    import_corpus(
        Location.parse(source), Location.parse(out), _import_options(options), console=Console()
    )


@app.command()
@takes_options(SourceOptions)
def fuse(
    traces: Annotated[
        str, typer.Argument(metavar="TRACES", help="Folder or URI with the traces of raters.")
    ],
    out: CorpusOut,
    config: ConfigFile = None,
    set_: Assignments = None,
    *,
    options: SourceOptions,
) -> None:
    """Fuse the traces of several raters to one curve, and make a corpus of it."""
    from pipelines.corpora.fusing import fuse_corpus

    resolved = _resolve(None, StageOptions(config, None, set_))
    fuse_corpus(
        Location.parse(traces),
        Location.parse(out),
        _import_options(options),
        resolved.fuse,
        console=Console(),
    )


@app.command()
@takes_options(StageOptions)
def run(corpus: CorpusPath, out: OutPath, options: StageOptions) -> None:
    """Run all stages, from recordings to the report; run again, it goes on where it stopped."""
    target = Run.at(out)
    resolved = _resolve(target, options)
    _all_stages(Location.parse(corpus), target, resolved, options, Console())


@app.command()
@takes_options(StageOptions)
def preprocess(corpus: CorpusPath, out: OutPath, options: StageOptions) -> None:
    """Cut, level, augment and transform the recordings into the segment store."""
    target = Run.at(out)
    resolved = _resolve(target, options)
    with ray_session(options.address):
        from pipelines.preprocess.stage import preprocess as stage

        overwrite, console = options.overwrite, Console()
        stage(Location.parse(corpus), target, resolved, overwrite=overwrite, console=console)


@app.command()
@takes_options(StageOptions)
def train(run: RunPath, options: StageOptions) -> None:
    """Train the deep model on the segments of a run."""
    target = Run.at(run)
    resolved = _resolve_existing(target, "train", options)
    _load_torch()
    with ray_session(options.address):
        from pipelines.train.stage import train as stage

        stage(target, resolved, overwrite=options.overwrite, console=Console())


@app.command()
@takes_options(StageOptions)
def extract(run: RunPath, options: StageOptions) -> None:
    """Compute the deep features and predictions of every sequence."""
    target = Run.at(run)
    resolved = _resolve_existing(target, "features", options)
    _load_torch()
    with ray_session(options.address):
        from pipelines.extract import extract as stage

        stage(target, resolved, overwrite=options.overwrite, console=Console())


@app.command()
@takes_options(StageOptions)
def sweep(
    run: RunPath,
    features: Annotated[
        str | None,
        typer.Option(
            "--features",
            metavar="SET",
            help="Sweep a feature set of the corpus in place of the deep features.",
        ),
    ] = None,
    *,
    options: StageOptions,
) -> None:
    """Evaluate the combinations of scaler, reducer and regressor on the deep features."""
    target = Run.at(run)
    resolved = _resolve_existing(target, "sweep", options)
    with ray_session(options.address):
        from pipelines.sweep.stage import sweep as stage

        overwrite, console = options.overwrite, Console()
        stage(target, resolved, overwrite=overwrite, console=console, features=features)


@app.command()
@takes_options(StageOptions)
def features(
    corpus: CorpusPath,
    per: Annotated[
        Literal["segment", "sequence"],
        typer.Option("--per", help="A row for each segment, or for each sequence."),
    ] = "segment",
    name: Annotated[
        str | None,
        typer.Option("--name", metavar="SET", help="Name of the set; default: egemaps."),
    ] = None,
    *,
    options: StageOptions,
) -> None:
    """Compute eGeMAPSv02 of a corpus with openSMILE, which may not be used commercially."""
    from valence.corpus.muse import read_corpus
    from valence.segments.feature_sets.egemaps import require_opensmile

    resolved = _resolve(None, options)
    require_opensmile()
    found = read_corpus(Location.parse(corpus), resolved.corpus.subjects)
    with ray_session(options.address):
        from pipelines.features import features as stage

        overwrite, console = options.overwrite, Console()
        stage(found, resolved, per=per, name=name, overwrite=overwrite, console=console)


@app.command()
def report(
    runs: Annotated[
        list[str],
        typer.Argument(metavar="RUN...", help="Run to report on, or several runs to compare."),
    ],
    out: Annotated[
        str | None,
        typer.Option("--out", metavar="DIR", help="Write the comparison of several runs here."),
    ] = None,
    overwrite: Overwrite = False,
    debug: Debug = False,
) -> None:
    """Write the report of a run, or compare several side by side."""
    console = Console()
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
            console.say(f"report: {remark}")
        console.say(f"report: {run.folder('report') / 'report.html'}")
        _send_report(run, console)
        return
    from valence.report.comparison import compare_runs

    if out is None:
        raise UsageError(
            f"{len(runs)} runs were given to compare, and nowhere to write. Add --out DIR."
        )
    folder = Location.parse(out)
    compare_runs([Run.at(run) for run in runs], folder, overwrite=overwrite)
    console.say(f"report: {folder / 'report.html'}")


@app.command()
def predict(
    audio: Annotated[
        list[str],
        typer.Argument(
            metavar="AUDIO...",
            help="Audio files, folders of them, patterns such as 'talks/**/*.wav', or URIs.",
        ),
    ],
    model: Annotated[
        str,
        typer.Option(
            "--model",
            metavar="RUN",
            help="Predict with the model of this run, folder, file of 'valence model', or URI.",
        ),
    ],
    out: Annotated[
        str, typer.Option("--out", metavar="DIR", help="Write the timelines to this folder.")
    ],
    labels: Annotated[
        str | None,
        typer.Option("--labels", metavar="PATH", help="Draw these annotations beside the curves."),
    ] = None,
    labels_range: Annotated[
        tuple[float, float] | None,
        typer.Option(
            "--labels-range",
            metavar="LOW HIGH",
            help="Scale of the annotations, e.g. 1 7; default: that of the model's own labels.",
        ),
    ] = None,
    features: Annotated[
        str | None,
        typer.Option(
            "--features",
            metavar="FOLDER",
            help="Features of the recordings, for a model that takes a set of features.",
        ),
    ] = None,
    regressor: Annotated[
        Literal["best"] | None,
        typer.Option(
            "--regressor", help="Predict with the sweep's best regressor instead of the deep model."
        ),
    ] = None,
    page: Annotated[
        bool,
        typer.Option("--page", help="Write a page that plays the sound under the curve, as HTML."),
    ] = False,
    formats: Annotated[
        list[_Format] | None,
        typer.Option(
            "--format",
            help="Also write ELAN, Praat TextGrid, Audacity labels or an audformat table; "
            "repeatable.",
        ),
    ] = None,
    speech: Annotated[
        Literal["auto", "silero", "energy"],
        typer.Option(
            "--speech",
            help="Find speech by Silero VAD or by energy; auto: Silero where it is installed.",
        ),
    ] = "auto",
    speech_share: Annotated[
        float,
        typer.Option(
            "--speech-share",
            metavar="SHARE",
            help="A half second with less speech than this share counts as silent.",
        ),
    ] = 0.1,
    mask_silence: Annotated[
        bool, typer.Option("--mask-silence", help="Leave out the values of silent half seconds.")
    ] = False,
    address: Address = None,
    overwrite: Overwrite = False,
    debug: Debug = False,
) -> None:
    """Predict valence over time; write a table and a picture for every recording."""
    from pipelines.predict import predict as stage
    from valence.audio.speech import SpeechSettings

    stage(
        audio,
        Location.parse(model),
        Location.parse(out),
        labels=None if labels is None else Location.parse(labels),
        labels_range=labels_range,
        features=None if features is None else Location.parse(features),
        regressor=regressor,
        outputs=[*(["page"] if page else []), *(formats or ())],
        speech=SpeechSettings(speech, speech_share, mask_silence),
        address=address,
        overwrite=overwrite,
        console=Console(),
    )


@app.command()
def model(
    run: RunPath,
    out: Annotated[
        str, typer.Option("--out", metavar="FILE.zip", help="Write the model to this file or URI.")
    ],
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace a file that holds something else.")
    ] = False,
    debug: Debug = False,
) -> None:
    """Pack the model of a run into one file, which `--model` takes."""
    from valence.prediction.packing import pack_model

    file = Location.parse(out)
    packed = pack_model(Location.parse(run), file, overwrite=overwrite)
    console = Console()
    for remark in packed.remarks:
        console.say(f"model: {remark}")
    console.say(f"model: {file}: {len(packed.files)} files, {packed.size / 1e6:.1f} MB")


@app.command()
def export(
    run: RunPath,
    npz: Annotated[
        str | None,
        typer.Option(
            "--npz", metavar="DIR", help="Write the study's sequence files to this folder."
        ),
    ] = None,
    onnx: Annotated[
        str | None,
        typer.Option(
            "--onnx", metavar="FILE", help="Write the model for ONNX Runtime to this file."
        ),
    ] = None,
    audonnx: Annotated[
        str | None,
        typer.Option(
            "--audonnx", metavar="DIR", help="Write the model for audonnx to this folder."
        ),
    ] = None,
    input_: Annotated[
        Literal["samples", "mel", "set"] | None,
        typer.Option(
            "--input",
            help="With --onnx: the input of the file: sound (samples, the default), mel, or set: "
            "features.",
        ),
    ] = None,
    regressor: Annotated[
        Literal["best"] | None,
        typer.Option(
            "--regressor",
            help="With --onnx or --audonnx: predict with the sweep's best regressor.",
        ),
    ] = None,
    split: Annotated[
        list[str] | None,
        typer.Option(
            "--split", help="With --npz: write only this split; repeatable. Default: all."
        ),
    ] = None,
    stride: Annotated[
        int | None,
        typer.Option(
            "--stride",
            min=1,
            help="With --npz: segments from one sequence to the next; default: the run's.",
        ),
    ] = None,
    yes: Annotated[
        bool, typer.Option("--yes", help="With --npz: write even more than 1 GB.")
    ] = False,
    overwrite: Annotated[
        bool,
        typer.Option(
            "--overwrite", help="With --onnx or --audonnx: replace files that hold something else."
        ),
    ] = False,
    debug: Debug = False,
) -> None:
    """Export a run for other programs: the study's `.npz` files, or the model as ONNX."""
    from pipelines.exporting import ModelOptions, NpzOptions
    from pipelines.exporting import export as write

    folder = None if npz is None else Location.parse(npz)
    write(
        Run.at(run),
        npz=None if folder is None else NpzOptions(folder, split or (), stride, yes),
        model=ModelOptions(
            None if onnx is None else Location.parse(onnx),
            None if audonnx is None else Location.parse(audonnx),
            input_,
            regressor,
            overwrite,
        ),
        console=Console(),
    )


def _all_stages(
    corpus: Location,
    run: Run,
    config: Config,
    options: StageOptions,
    console: Console,
) -> None:
    from valence.sweep.grid import combinations
    from valence.training.tracking import require_mlflow

    _load_torch()
    # A mistake in the last stage's configuration is found before hours of work, not after them.
    combinations(config.sweep)
    require_mlflow(config.mlflow)
    if config.model.feature_set is not None:
        from valence.corpus.muse import read_corpus
        from valence.segments.feature_sets import open_set

        ids = [each.id for each in read_corpus(corpus, config.corpus.subjects).recordings]
        open_set(corpus, config.model.feature_set, ids, step_ms=config.preprocess.segment_ms)
    with ray_session(options.address):
        from pipelines.extract import extract
        from pipelines.preprocess.stage import preprocess
        from pipelines.sweep.stage import sweep
        from pipelines.train.stage import train

        overwrite = options.overwrite
        preprocess(corpus, run, config, overwrite=overwrite, console=console)
        train(run, config, overwrite=overwrite, console=console)
        extract(run, config, overwrite=overwrite, console=console)
        sweep(run, config, overwrite=overwrite, console=console)
    from valence.report.build import write_report
    from valence.report.closing import closing_lines

    written = write_report(run, overwrite=options.overwrite)
    for remark in written["remarks"]:
        console.say(f"report: {remark}")
    console.say(f"report: {run.folder('report') / 'report.html'}")
    _send_report(run, console)
    for line in closing_lines(written["metrics"]):
        console.say(line)


def _send_report(run: Run, console: Console) -> None:
    """Send the report to the tracking server of the run's configuration, if it names one."""
    config = run.config().mlflow
    if config.uri is not None:
        from pipelines.train.mirror import send_report

        send_report(run, config, console)


def _load_torch() -> None:
    """Load torch before Ray and scikit-learn load their libraries.

    Loaded after them in the driver of a job, torch's MKL may find no room and end the process
    ("Cannot load libtorch_cpu.so").
    """
    importlib.import_module("torch")


def _resolve_existing(run: Run, stage: StageName, options: StageOptions) -> Config:
    """Build the configuration for a later stage, once the earlier stages of the run are there."""
    require_own_config(run, before=stage)
    return _resolve(run, options)


def _import_options(options: SourceOptions) -> ImportOptions:
    """Turn the words of the command line into the options of an import."""
    from pipelines.corpora.importing import ImportOptions

    return ImportOptions(
        options.form,
        tuple(options.declare or ()),
        None if options.audio is None else Location.parse(options.audio),
        "copy" if options.copy else "link",
    )


def _resolve(run: Run | None, options: StageOptions, *, otherwise: Config | None = None) -> Config:
    """Build the configuration that a command works with.

    A preset is the base where one is given. Without a preset, an existing run keeps its own
    configuration as the base, and a new run starts from `otherwise`. The file's settings override
    the base, and assignments override the file.
    """
    if options.preset is not None:
        base = Config.preset(options.preset)
    elif run is not None and run.config_file.exists():
        base = run.config()
    else:
        base = otherwise or Config()
    return Config.resolve(
        base,
        file=None if options.config is None else Location.parse(options.config),
        assignments=options.assignments or (),
    )
