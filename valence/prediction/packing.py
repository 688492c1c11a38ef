"""Pack all that a prediction needs into one file: model, quality, card, best regressor."""

from __future__ import annotations

from dataclasses import dataclass

from valence.config import MlflowConfig
from valence.errors import DamagedError, ModelError, UsageError
from valence.model.quality import EVALUATION
from valence.model.serialization import CARD, MODEL_FILES, model_folder
from valence.model.sharing.bundle import bundle_bytes, opened_model
from valence.prediction.predictor import Predictor
from valence.provenance import versions
from valence.run import Run
from valence.storage.kept_file import read_at_most, require_free
from valence.storage.location import Location
from valence.sweep.kept.serialization import REGRESSOR_FILES

CONFIGURATION = "configuration.toml"
# A pipeline is limited by its own loader, which has read it before.
_MOST_BYTES = 2**32


@dataclass(frozen=True)
class Packed:
    """A model that was packed.

    Attributes
    ----------
    files
        Names of the packed files.
    size
        Bytes of the bundle.
    remarks
        What a person who gets the file has to know: what is not in it, and why.
    """

    files: tuple[str, ...]
    size: int
    remarks: tuple[str, ...]


def pack_model(root: Location, file: Location, *, overwrite: bool = False) -> Packed:
    """Pack the model of a run, or of a model's folder, into a file that `Predictor.load` takes.

    The same model gives the same bytes. No path of this machine is added; `model.json` names the
    corpus as the training noted it.

    Parameters
    ----------
    root
        The run or folder.
    file
        The file to write, `.zip`.
    overwrite
        Whether to replace a file that holds something else.

    Raises
    ------
    UsageError
        If the file has another suffix.
    StaleError
        If the file holds something else, and `overwrite` is False.
    ModelError, MissingStageError, DamagedError
        If the model cannot be loaded.
    """
    if file.suffix != ".zip":
        raise UsageError(
            f"'{file}' was named for the model. Expected a file that ends in .zip. Write --out "
            f"{file}.zip."
        )
    root = opened_model(root)
    # Loading checks all that is packed.
    predictor = Predictor.load(root, device="cpu")
    remarks = [] if predictor.quality.ccc is not None else [_not_evaluated(predictor)]
    folder = model_folder(root)
    files = {f"model/{name}": _read(folder / name) for name in MODEL_FILES}
    for name in (EVALUATION, CARD):
        if (folder / name).exists():
            files[f"model/{name}"] = _read(folder / name)
        else:
            remarks.append(f"{name} is not in it: run 'valence report RUN' first to have it")
    found = _regressor_of(root, folder)
    if isinstance(found, str):
        remarks.append(found)
    else:
        files |= found
    if configuration := _configuration_of(root):
        files[CONFIGURATION] = configuration
    content = bundle_bytes(files, name=str(root))
    require_free(file, content, overwrite=overwrite)
    file.write_bytes(content)
    return Packed(tuple(files), len(content), tuple(dict.fromkeys(remarks)))


def _not_evaluated(predictor: Predictor) -> str:
    return f"no score is known of it: {predictor.quality.not_evaluated}"


def _read(file: Location) -> bytes:
    return read_at_most(file, _MOST_BYTES)


def _regressor_of(root: Location, folder: Location) -> dict[str, bytes] | str:
    """Read the sweep's best regressor, or say why there is none."""
    best = root / "sweep" / "best"
    if folder == root or not (root / "sweep").exists():
        return "it has no regressor, because there is no sweep"
    try:
        Predictor.load(root, regressor="best", device="cpu")
    except (ModelError, UsageError, DamagedError) as error:
        # The model is whole without it. Who packs it reads why, and decides.
        return f"the sweep's regressor is left out. {error}"
    return {f"sweep/best/{name}": _read(best / name) for name in REGRESSOR_FILES}


def _configuration_of(root: Location) -> bytes | None:
    """Return the whole configuration of a run as TOML, without what is of this machine alone."""
    packed = root / CONFIGURATION
    if packed.exists():
        return _read(packed)
    run = Run(root)
    if not run.is_one():
        return None
    # The tracking server is of this machine, too.
    config = run.config().model_copy(update={"mlflow": MlflowConfig()})
    return config.to_toml(versions=versions()).encode()
