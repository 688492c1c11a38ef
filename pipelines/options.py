"""Declare the arguments and options that several commands share."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from typing import Annotated, Any

import typer

from valence.config import Preset

CorpusPath = Annotated[str, typer.Argument(metavar="CORPUS", help="Folder or URI of a corpus.")]
RunPath = Annotated[str, typer.Argument(metavar="RUN", help="Folder or URI of a run.")]
OutPath = Annotated[
    str, typer.Option("--out", metavar="RUN", help="Write the run to this folder or URI.")
]
CorpusOut = Annotated[
    str, typer.Option("--out", metavar="CORPUS", help="Write the corpus to this folder or URI.")
]
ConfigFile = Annotated[
    str | None,
    typer.Option(
        "--config",
        metavar="FILE.toml",
        help="TOML file whose settings override the preset's.",
    ),
]
PresetOption = Annotated[
    Preset | None,
    typer.Option("--preset", help="Base settings: default, or the study's."),
]
Assignments = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="SECTION.KEY=VALUE",
        help="Override one setting, e.g. train.epochs=50; repeatable.",
    ),
]
Address = Annotated[
    str | None,
    typer.Option("--address", help="Work on this Ray cluster; default: RAY_ADDRESS, else locally."),
]
Overwrite = Annotated[
    bool, typer.Option("--overwrite", help="Replace outputs of another configuration or input.")
]
Debug = Annotated[bool, typer.Option("--debug", help="Show a traceback with an error.")]


@dataclass(frozen=True)
class StageOptions:
    """The options of every command that runs stages; the fields are in the order of the help.

    `debug` is declared for the help only: `main` finds it among the program's arguments.
    """

    config: ConfigFile = None
    preset: PresetOption = None
    assignments: Assignments = None
    address: Address = None
    overwrite: Overwrite = False
    debug: Debug = False


@dataclass(frozen=True)
class SourceOptions:
    """The options of the commands that read a corpus in another form."""

    form: Annotated[
        str | None,
        typer.Option(
            "--form",
            metavar="NAME|FILE.toml",
            help="Form of the source, or a declaration of it; default: the form that fits.",
        ),
    ] = None
    audio: Annotated[
        str | None,
        typer.Option(
            "--audio", metavar="DIR", help="Find the audio files here; default: beside the labels."
        ),
    ] = None
    copy: Annotated[
        bool, typer.Option("--copy", help="Copy audio files; default: link them where possible.")
    ] = False
    declare: Annotated[
        list[str] | None,
        typer.Option(
            "--declare",
            metavar="KEY=VALUE",
            help="Override the declaration, e.g. 'labels.scale=[1,7]'; repeatable.",
        ),
    ] = None
    debug: Debug = False


def takes_options(kind: type[Any]) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Add the fields of a dataclass to a command, which receives them in its last parameter.

    Typer reads a command's options from its signature. The signature returned here therefore lists
    the command's own parameters, and then one parameter for each field.
    """

    def add(command: Callable[..., None]) -> Callable[..., None]:
        *own, receiver = inspect.signature(command, eval_str=True).parameters.values()
        fields = inspect.signature(kind, eval_str=True).parameters

        @wraps(command)
        def with_options(**given: Any) -> None:
            options = kind(**{name: given.pop(name) for name in fields})
            command(**given, **{receiver.name: options})

        parameters = [
            each.replace(kind=inspect.Parameter.KEYWORD_ONLY) for each in (*own, *fields.values())
        ]
        with_options.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        with_options.__annotations__ = {each.name: each.annotation for each in parameters}
        return with_options

    return add
