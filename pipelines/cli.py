"""The command line: `valence`, or `python -m pipelines`.

Heavy modules are imported by the command that needs them, so that `valence --help` loads neither
torch nor Ray, and so that Ray's environment is set before Ray is imported.
"""

from __future__ import annotations

import sys
import traceback
from enum import StrEnum
from typing import Annotated, Any

import typer

from pipelines.progress import Report
from pipelines.session import ray_session
from valence.config import Config
from valence.errors import ValenceError
from valence.run import Run
from valence.storage import Location

app = typer.Typer(
    name="valence",
    help="How positive or negative a voice sounds, moment by moment.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


class PresetName(StrEnum):
    """Configurations that come with the product."""

    default = "default"
    paper = "paper"


class ExportSplit(StrEnum):
    """Parts of a corpus that can be exported."""

    train = "train"
    validation = "validation"
    test = "test"


CorpusPath = Annotated[str, typer.Argument(metavar="CORPUS", help="Folder or URI of a corpus.")]
RunPath = Annotated[str, typer.Argument(metavar="RUN", help="Folder or URI of a run.")]
OutPath = Annotated[str, typer.Option("--out", metavar="RUN", help="Folder or URI of the run.")]
ConfigFile = Annotated[
    str | None, typer.Option("--config", metavar="FILE.toml", help="Configuration to lay over.")
]
PresetOption = Annotated[PresetName | None, typer.Option("--preset", help="Where to start from.")]
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
    try:
        app()
    except ValenceError as error:
        _end(str(error), error.exit_status)
    except KeyboardInterrupt:
        _end("Stopped. What is finished is kept; the same command goes on from there.", 130)
    except Exception as error:
        # The last resort of a program: whatever it is, a user gets words and a status.
        _end(
            f"Something unexpected went wrong: {type(error).__name__}: {error}. What was finished "
            "before is kept. Run the command again with --debug to see where, and report it.",
            1,
        )


def _end(message: str, status: int) -> None:
    if "--debug" in sys.argv:
        traceback.print_exc()
    print(f"valence: {message}", file=sys.stderr)
    sys.exit(status)


@app.command()
def demo(
    out: OutPath = "runs/demo",
    config: ConfigFile = None,
    set_: Assignments = None,
    address: Address = None,
    overwrite: Overwrite = False,
    debug: Debug = False,
) -> None:
    """Make the embedded corpus, run all stages on it and write the report."""
    from valence.synthesis import write_corpus

    run = Run.at(out)
    corpus = run.root / "corpus"
    report = Report()
    made = corpus / "metadata" / "partition.csv"
    if not made.exists():
        report.say(f"demo: {_DEMO_SUBJECTS} synthetic speakers, {_DEMO_SECONDS:g} s each")
        write_corpus(corpus, subjects=_DEMO_SUBJECTS, seconds=_DEMO_SECONDS)
    base = Config.resolve(Config(), assignments=_DEMO_SETTINGS)
    resolved = _resolve(run, config, None, set_, otherwise=base)
    _all_stages(corpus, run, resolved, address, overwrite, report, synthetic=True)
    report.say(
        "These figures speak of synthetic sound: they show that the system works, and nothing "
        "about people. 'valence run CORPUS --out RUN' does the same with recordings."
    )


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
    from valence.corpus import read_corpus

    resolved = _resolve(None, config, preset, set_)
    print_check(read_corpus(Location.parse(corpus)), resolved)


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
    _all_stages(Location.parse(corpus), target, resolved, address, overwrite, Report())


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
        _preprocess(Location.parse(corpus), target, resolved, overwrite, Report())


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
    resolved = _resolve_existing(target, config, preset, set_)
    with ray_session(address):
        from pipelines import train as stage

        stage.train(target, resolved, overwrite=overwrite, report=Report())
    target.write_config(resolved, target.record())


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
    resolved = _resolve_existing(target, config, preset, set_)
    with ray_session(address):
        from pipelines import extract as stage

        stage.extract(target, resolved, overwrite=overwrite, report=Report())
    target.write_config(resolved, target.record())


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
    resolved = _resolve_existing(target, config, preset, set_)
    with ray_session(address):
        from pipelines import sweep as stage

        stage.sweep(target, resolved, overwrite=overwrite, report=Report())
    target.write_config(resolved, target.record())


def _preprocess(
    corpus: Location, run: Run, config: Config, overwrite: bool, report: Report, **record: Any
) -> None:
    from pipelines import preprocess as stage

    told = {"corpus": str(corpus), "synthetic": False, **run.record(), **record}
    if not run.config_file.exists():
        # Written before the work, so that a stage stopped half-way is resumed as it was begun.
        run.write_config(config, told)
    stage.preprocess(corpus, run, config, overwrite=overwrite, report=report)
    run.write_config(config, {**told, "corpus": str(corpus)})


def _all_stages(
    corpus: Location,
    run: Run,
    config: Config,
    address: str | None,
    overwrite: bool,
    report: Report,
    *,
    synthetic: bool = False,
) -> None:
    with ray_session(address):
        from pipelines import extract, sweep, train

        _preprocess(corpus, run, config, overwrite, report, synthetic=synthetic)
        for stage in (train.train, extract.extract, sweep.sweep):
            stage(run, config, overwrite=overwrite, report=report)
    from valence.report import write_report

    write_report(run, overwrite=overwrite)
    report.say(f"report: {run.folder('report') / 'report.html'}")


def _resolve_existing(
    run: Run, file: str | None, preset: PresetName | None, assignments: list[str] | None
) -> Config:
    """As `_resolve`, for a command that needs a run to work on."""
    run.config()
    return _resolve(run, file, preset, assignments)


def _resolve(
    run: Run | None,
    file: str | None,
    preset: PresetName | None,
    assignments: list[str] | None,
    *,
    otherwise: Config | None = None,
) -> Config:
    """The configuration that a command works with.

    A preset starts afresh; without one, a run that exists goes on with its own configuration, and
    a new one starts from `otherwise`. A file and assignments are laid over either.
    """
    if preset is not None:
        base = Config.preset(preset.value)
    elif run is not None and run.config_file.exists():
        base = run.config()
    else:
        base = otherwise or Config()
    return Config.resolve(
        base,
        file=None if file is None else Location.parse(file),
        assignments=assignments or (),
    )
