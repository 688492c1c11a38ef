"""Run `valence export`: write a run's segments or its model for other programs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from pipelines.runtime.console import Console
from valence.chain import require_chain, require_own_config
from valence.config import Config
from valence.errors import UsageError
from valence.model.sharing.bundle import opened_model
from valence.run import Run
from valence.storage.location import Location

Split = Literal["train", "validation", "test", "unlabelled"]


@dataclass(frozen=True)
class NpzOptions:
    """The options of `valence export --npz`.

    Attributes
    ----------
    folder
        Folder to write to.
    splits
        Names of the splits to write; empty for all of them.
    stride
        Segments from one sequence to the next; None for the run's.
    agreed
        Whether the user has agreed to a large export.
    """

    folder: Location
    splits: Sequence[str] = ()
    stride: int | None = None
    agreed: bool = False


def export(run: Run, *, npz: NpzOptions | None, onnx: Location | None, console: Console) -> None:
    """Write the exports that are named.

    Parameters
    ----------
    run
        A finished run, or one whose stages up to the training are finished. For the model alone
        also the folder of a model, or a file of `valence model`.
    npz
        Where and how the study's sequence files are written, if they are.
    onnx
        The file of the model for ONNX Runtime, if it is written.
    console
        Progress output.

    Raises
    ------
    UsageError
        If no export is named, a split is unknown, or a package is missing.
    ConfigError, MissingStageError, DamagedError, ModelError
        If the run cannot be exported.
    """
    if npz is None and onnx is None:
        raise UsageError("Nothing to export was named. Add --npz DIR or --onnx FILE.")
    run = Run(opened_model(run.root))
    # No export reads the features or the sweep's records. A model that travels has no run.
    if npz is not None or run.config_file.exists():
        config = require_own_config(run, before="features")
    if onnx is not None:
        _export_model(run, onnx, console)
    if npz is not None:
        _export_segments(run, config, npz, console)


def _export_model(run: Run, file: Location, console: Console) -> None:
    from valence.model.onnx_export import export_onnx
    from valence.model.serialization import load_any_model

    export_onnx(file, *load_any_model(run.root))
    console.say(f"export: {file}")


def _export_segments(run: Run, config: Config, options: NpzOptions, console: Console) -> None:
    from valence.segments.npz import plan_npz, write_npz
    from valence.segments.store import SegmentStore

    require_chain(run, "segments")
    store, folder = SegmentStore(run.folder("segments")), options.folder
    splits = _known(options.splits or get_args(Split))
    plan = plan_npz(store, config, splits=splits, stride=options.stride or config.sequence.stride)
    plan.refuse_if_large(folder, agreed=options.agreed)
    console.say(f"export: {plan.files} files, {plan.size / 1e9:.2f} GB, to '{folder}'")
    with console.bar("export", plan.files) as bar:
        for files in write_npz(store, config, plan, folder):
            bar.advance(files)


def _known(names: Sequence[str]) -> list[Split]:
    """Return the named splits in their usual order; an unknown name is refused."""
    known: tuple[Split, ...] = get_args(Split)
    unknown = [name for name in names if name not in known]
    if unknown:
        raise UsageError(f"--split {unknown[0]} was found. Expected one of {', '.join(known)}.")
    return [name for name in known if name in names]
