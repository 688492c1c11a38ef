"""A packed model predicts what its run predicts, wherever the file lies."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from pyarrow import fs
from typer.testing import CliRunner

from pipelines.cli import app
from tests.helpers.random_models import export_random, fit_random
from valence import Predictor
from valence.config import Config
from valence.errors import ModelError, StaleError, UsageError
from valence.model.quality import write_evaluation
from valence.model.sharing.bundle import read_bundle
from valence.prediction.packing import pack_model
from valence.run import Run
from valence.storage.location import Location

_SR = 16_000
_EVALUATION = {"corpus": "voices", "synthetic": False, "recordings": 9, "subjects": 4}
_SCORES = {"ccc": 0.25, "ccc_ci": [0.1, 0.4], "n": 50, "subjects": 7}


@pytest.fixture
def run(tmp_path: Path, tiny_config: Config) -> Run:
    """A run of which model, evaluation and regressor were kept, without records."""
    run = Run(Location.parse(tmp_path / "run"))
    digest = export_random(run.model, tiny_config)
    write_evaluation(run.model, {**_EVALUATION, "model": digest, "test": {"valence": _SCORES}})
    fit_random(run.folder("sweep") / "best", tiny_config, digest)
    return run


def _sound(seconds: float = 13.0) -> np.ndarray:
    return np.random.default_rng(0).standard_normal(round(seconds * _SR)).astype(np.float32)


def test_a_packed_model_predicts_the_same(run: Run, tmp_path: Path) -> None:
    file = Location.parse(tmp_path / "model.zip")
    packed = pack_model(run.root, file)
    assert packed.remarks == ()
    assert packed.size == file.info().size
    assert set(read_bundle(file)) == {
        "model/model.json",
        "model/model.safetensors",
        "model/evaluation.json",
        "model/README.md",
        "sweep/best/regressor.json",
        "sweep/best/pipeline.skops",
    }
    for regressor in (None, "best"):
        here, there = (
            Predictor.load(root, regressor=regressor)  # type: ignore[arg-type]
            for root in (run, file)
        )
        assert np.array_equal(there(_sound(), sr=_SR).values, here(_sound(), sr=_SR).values)
        assert there.quality == here.quality
    assert Predictor.load(str(file.local)).quality.ccc == 0.25
    # Packed again, from the run or from the file itself, it is the same file.
    again = Location.parse(tmp_path / "again.zip")
    pack_model(file, again)
    assert again.read_bytes() == file.read_bytes()
    pack_model(run.root, file)


def test_an_object_store_holds_packed_models_too(run: Run, tmp_path: Path) -> None:
    # What has a scheme is not read as a local path, whatever serves it.
    file = Location(fs.LocalFileSystem(), str(tmp_path / "bucket/model.zip"), "s3")
    (tmp_path / "bucket").mkdir()
    pack_model(run.root, file)
    expected = Predictor.load(run)(_sound(), sr=_SR).values
    assert np.array_equal(Predictor.load(file)(_sound(), sr=_SR).values, expected)


def test_what_is_not_packed_is_said(tmp_path: Path, tiny_config: Config) -> None:
    run = Run(Location.parse(tmp_path / "run"))
    digest = export_random(run.model, tiny_config)
    (run.model / "README.md").delete()
    mirrored = Config.resolve(tiny_config, assignments=["mlflow.uri=http://server.intern:5000"])
    run.write_config(mirrored, {"corpus": "/home/somebody/voices", "synthetic": False})
    file = Location.parse(tmp_path / "model.zip")
    remarks = " ".join(pack_model(run.root, file).remarks)
    assert "no score is known of it" in remarks
    assert "evaluation.json is not in it" in remarks
    assert "README.md is not in it" in remarks
    assert "it has no regressor, because there is no sweep" in remarks
    # The configuration comes along without the paths of this machine.
    text = read_bundle(file)["configuration.toml"].decode()
    assert "epochs = 2" in text
    assert "/home/somebody" not in text
    assert "server.intern" not in text
    # In a run, outputs without the record of their stage are not believed.
    fit_random(run.folder("sweep") / "best", tiny_config, digest)
    left_out = [r for r in pack_model(run.root, file).remarks if "regressor" in r]
    assert len(left_out) == 1
    assert "is left out" in left_out[0]
    assert "stage.json' is missing" in left_out[0]


def test_a_regressor_of_another_model_is_left_out(
    run: Run, tmp_path: Path, tiny_config: Config
) -> None:
    fit_random(run.folder("sweep") / "best", tiny_config, "0" * 64)
    packed = pack_model(run.root, Location.parse(tmp_path / "model.zip"))
    assert "was fitted on the features of another model" in packed.remarks[0]
    assert not any(name.startswith("sweep") for name in packed.files)


def test_a_file_that_stands_there_is_not_lost(run: Run, tmp_path: Path) -> None:
    file = Location.parse(tmp_path / "photos.zip")
    file.write_bytes(b"holiday")
    with pytest.raises(StaleError, match="Add --overwrite to replace it"):
        pack_model(run.root, file)
    assert file.read_bytes() == b"holiday"
    pack_model(run.root, file, overwrite=True)
    assert "model/model.json" in read_bundle(file)
    with pytest.raises(UsageError, match=r"Expected a file that ends in \.zip"):
        pack_model(run.root, Location.parse(tmp_path / "model"))


def test_a_damaged_model_is_not_packed(run: Run, tmp_path: Path) -> None:
    weights = run.model / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    file = Location.parse(tmp_path / "model.zip")
    with pytest.raises(ModelError, match="is damaged"):
        pack_model(run.root, file)
    assert not file.exists()


def test_commands_take_the_file(run: Run, tmp_path: Path) -> None:
    import soundfile

    soundfile.write(tmp_path / "talk.wav", 0.1 * _sound(), _SR)
    file = tmp_path / "model.zip"
    root = str(run.root)

    def call(*words: str) -> str:
        result = CliRunner().invoke(app, [*words], catch_exceptions=False)
        assert result.exit_code == 0
        return result.output

    assert "model.zip: 6 files" in call("model", root, "--out", str(file))
    talk = str(tmp_path / "talk.wav")
    for model, out in ((root, "run"), (str(file), "file")):
        call("predict", talk, "--model", model, "--out", str(tmp_path / out))
    same = [(tmp_path / out / "talk.csv").read_bytes() for out in ("run", "file")]
    assert same[0] == same[1]
    listed = Location.parse(tmp_path / "file/prediction.json").read_json()
    assert listed["model"] == str(file)
    pytest.importorskip("onnx")
    call("export", str(file), "--onnx", str(tmp_path / "of_file.onnx"))
    call("export", root, "--onnx", str(tmp_path / "of_run.onnx"))
    assert (tmp_path / "of_file.onnx").read_bytes() == (tmp_path / "of_run.onnx").read_bytes()
