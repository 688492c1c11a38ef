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


@dataclass(frozen=True)
class ModelOptions:
    """The options of `valence export --onnx` and `--audonnx`.

    Attributes
    ----------
    onnx
        The file for ONNX Runtime, if it is written.
    audonnx
        The folder for audonnx, if it is written.
    takes
        The input of the file for ONNX Runtime; None for samples. audonnx always gets samples.
    regressor
        The predictor in place of the deep model's own head.
    overwrite
        Whether files that hold something else are replaced.
    """

    onnx: Location | None = None
    audonnx: Location | None = None
    takes: Literal["samples", "mel", "set"] | None = None
    regressor: Literal["best"] | None = None
    overwrite: bool = False


def export(run: Run, *, npz: NpzOptions | None, model: ModelOptions, console: Console) -> None:
    """Write the exports that are named.

    Parameters
    ----------
    run
        A run whose stages up to the training are finished, and the sweep for its regressor. For
        the model alone also the folder of a model, or a file of `valence model`.
    npz
        Where and how the study's sequence files are written, if they are.
    model
        Where and how the model is written.
    console
        Progress output.

    Raises
    ------
    UsageError
        If no export is named, a split is unknown, a package is missing, or the model or its
        regressor cannot be exported.
    ConfigError, MissingStageError, DamagedError, ModelError
        If the run cannot be exported.
    """
    exported = model.onnx is not None or model.audonnx is not None
    if npz is None and not exported:
        raise UsageError(
            "Nothing to export was named. Add --npz DIR, --onnx FILE or --audonnx DIR."
        )
    if model.takes is not None and model.onnx is None:
        raise UsageError(
            f"--input {model.takes} was given without --onnx. Expected the file whose input it "
            "chooses: a folder for audonnx always takes samples. Add --onnx FILE, or leave out "
            "--input."
        )
    if model.regressor is not None and not exported:
        raise UsageError(
            "--regressor was given without --onnx or --audonnx. The study's files hold no "
            "predictor. Add one of the two, or leave out --regressor."
        )
    run = Run(opened_model(run.root))
    # No export reads the features. A model that travels has no run.
    if npz is not None or run.config_file.exists():
        config = require_own_config(run, before="features")
    if exported:
        _export_model(run, model, console)
    if npz is not None:
        _export_segments(run, config, npz, console)


def _export_model(run: Run, options: ModelOptions, console: Console) -> None:
    from valence.model.onnx.audonnx import export_audonnx
    from valence.model.onnx.export import export_onnx
    from valence.model.onnx.network import own_head
    from valence.model.onnx.regressors import regressor_head
    from valence.prediction.predictor import Predictor

    predictor = Predictor.load(run, regressor=options.regressor, device="cpu")
    model, description, best = predictor.model, predictor.description, predictor.regressor
    head = own_head(model)
    if best is not None:
        about = {"steps": best.about["steps"], "sha256": best.about["sha256"]}
        head = regressor_head(best.pipeline, target=best.about["target"], about=about)
    if options.audonnx is not None:
        export_audonnx(options.audonnx, model, description, head, overwrite=options.overwrite)
        console.say(f"export: {options.audonnx}")
    if options.onnx is not None:
        export_onnx(
            options.onnx,
            model,
            description,
            takes=options.takes or "samples",
            head=head,
            overwrite=options.overwrite,
        )
        console.say(f"export: {options.onnx}")


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
