"""The best pipeline on disk: what was saved predicts the same, and what is foreign is refused."""

from __future__ import annotations

import hashlib
import json
import os
import zipfile
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import skops.io
from sklearn.decomposition import PCA
from sklearn.feature_selection import SelectKBest
from sklearn.linear_model import Ridge
from sklearn.pipeline import Pipeline

from valence.config import StepConfig, SweepConfig
from valence.errors import ModelError
from valence.provenance import fingerprint
from valence.storage.location import Location
from valence.sweep.grid import ESTIMATORS, SCORE_FUNCTIONS, build, combinations, plain_pipeline
from valence.sweep.kept.serialization import load_regressor, save_regressor

_GENERATOR = np.random.default_rng(0)
_X = _GENERATOR.random((60, 24)) + 0.1
_Y = _X[:, 2] + 0.1 * _GENERATOR.standard_normal(60)


_ABOUT = {"target": "valence", "model": "f" * 64, "steps": {}}


def _round_trip(folder: Path, pipeline: Pipeline) -> None:
    root = Location.parse(folder)
    save_regressor(root, pipeline, columns=24, about=_ABOUT)
    found = load_regressor(root)
    # The same numbers lie elsewhere in memory, where BLAS may add them in another order.
    np.testing.assert_allclose(found.predict(_X), pipeline.predict(_X), rtol=1e-12, atol=1e-12)
    assert found.about["target"] == "valence"
    assert "scikit-learn" in found.about["versions"]


@pytest.mark.parametrize("combination", combinations(SweepConfig())[5:20], ids=str)
def test_combinations_come_back(tmp_path: Path, combination: object) -> None:
    _round_trip(tmp_path, plain_pipeline(combination, SweepConfig()).fit(_X, _Y))


@pytest.mark.parametrize("name", ESTIMATORS["regressor"])
def test_every_regressor_on_offer_comes_back(tmp_path: Path, name: str) -> None:
    small = {"RandomForestRegressor", "ExtraTreesRegressor", "XGBRegressor"}
    parameters = {"n_estimators": 3} if name in small else {}
    if name == "LinearSVR":
        parameters = {"max_iter": 20000}
    step = StepConfig(name="a", estimator=name, parameters=parameters)
    _round_trip(tmp_path, Pipeline([("r", build("regressor", step, seed=0))]).fit(_X, _Y))


def test_neighbours_among_few_columns_come_back(tmp_path: Path) -> None:
    """There scikit-learn would build a tree of a type that is not trusted."""
    steps = [
        ("reducer", PCA(n_components=5)),
        ("r", build("regressor", StepConfig(name="a", estimator="KNeighborsRegressor"), seed=0)),
    ]
    _round_trip(tmp_path, Pipeline(steps).fit(_X, _Y))


@pytest.mark.parametrize("role", ["scaler", "reducer"])
@pytest.mark.filterwarnings("ignore:n_quantiles")
@pytest.mark.filterwarnings("ignore:FastICA did not converge")
def test_every_scaler_and_reducer_on_offer_comes_back(tmp_path: Path, role: str) -> None:
    for name in ESTIMATORS[role]:
        scores = SCORE_FUNCTIONS if name.startswith("Select") else {"": None}
        for score in scores:
            parameters = {"score_func": score} if score else {}
            step = StepConfig(name="a", estimator=name, parameters=parameters)
            made = build(role, step, seed=0)
            _round_trip(tmp_path, Pipeline([("t", made), ("r", Ridge())]).fit(_X, _Y))


def _write(folder: Path, pipeline: Pipeline) -> Location:
    """A file that someone else made, with a checksum that is right."""
    content = skops.io.dumps(pipeline)
    (folder / "pipeline.skops").write_bytes(content)
    about = {"format": 2, "columns": 24, "sha256": hashlib.sha256(content).hexdigest(), **_ABOUT}
    _describe(folder, about)
    return Location.parse(folder)


def _describe(folder: Path, about: dict[str, object]) -> None:
    output = {**about, "digest": fingerprint(about)}
    (folder / "regressor.json").write_text(json.dumps(output))


def test_a_foreign_function_is_refused(tmp_path: Path) -> None:
    selector = SelectKBest(partial(os.system), k=2)
    with pytest.raises(ModelError, match="types that no sweep makes"):
        load_regressor(_write(tmp_path, Pipeline([("s", selector), ("r", Ridge())])))


def test_a_damaged_file_is_refused(tmp_path: Path) -> None:
    root = _write(tmp_path, Pipeline([("r", Ridge())]).fit(_X, _Y))
    content = (tmp_path / "pipeline.skops").read_bytes()
    (tmp_path / "pipeline.skops").write_bytes(content[: len(content) // 2])
    with pytest.raises(ModelError, match="damaged"):
        load_regressor(root)


def test_a_folder_without_one_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="holds no regressor"):
        load_regressor(Location.parse(tmp_path))


@pytest.mark.parametrize(
    "content",
    [b"{", b"[]", b"null", b'{"format": 2}', b"\xff\xfe\x00", b"[" * 100_000, b"1e999", b""],
    ids=lambda content: repr(content[:12]),
)
def test_a_damaged_description_is_refused(tmp_path: Path, content: bytes) -> None:
    root = _write(tmp_path, Pipeline([("r", Ridge())]).fit(_X, _Y))
    (tmp_path / "regressor.json").write_bytes(content)
    with pytest.raises(ModelError, match="damaged"):
        load_regressor(root)


@pytest.mark.parametrize(
    "change",
    [{"columns": "24"}, {"target": "joy"}, {"target": None}, {"model": 3}, {"steps": []}],
    ids=str,
)
def test_a_description_with_a_digest_that_is_right_is_looked_at_all_the_same(
    tmp_path: Path, change: dict[str, object]
) -> None:
    root = _write(tmp_path, Pipeline([("r", Ridge())]).fit(_X, _Y))
    about = json.loads((tmp_path / "regressor.json").read_text())
    del about["digest"]
    _describe(tmp_path, {**about, **change})
    with pytest.raises(ModelError, match=f"damaged.*{next(iter(change))}"):
        load_regressor(root)


def test_an_edited_description_is_refused(tmp_path: Path) -> None:
    root = _write(tmp_path, Pipeline([("r", Ridge())]).fit(_X, _Y))
    file = tmp_path / "regressor.json"
    file.write_text(file.read_text().replace('"columns": 24', '"columns": 25'))
    with pytest.raises(ModelError, match="its digest is not the one"):
        load_regressor(root)
    file.write_text(file.read_text().replace('"format": 2', '"format": 1'))
    with pytest.raises(ModelError, match="of format 1"):
        load_regressor(root)


@pytest.mark.parametrize("made", [Ridge(), {"a": 1}, [1, 2]], ids=repr)
def test_what_is_no_pipeline_is_refused(tmp_path: Path, made: object) -> None:
    with pytest.raises(ModelError, match="Expected a pipeline"):
        load_regressor(_write(tmp_path, made))


def test_a_pipeline_taken_apart_is_refused(tmp_path: Path) -> None:
    """The archive is whole, its checksum right, and its schema leads nowhere."""
    root = _write(tmp_path, Pipeline([("r", Ridge())]).fit(_X, _Y))
    file = tmp_path / "pipeline.skops"
    with zipfile.ZipFile(file) as archive:
        schema = json.loads(archive.read("schema.json"))
    schema["content"] = {"__loader__": "NoSuchNode"}
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("schema.json", json.dumps(schema))
    about = json.loads((tmp_path / "regressor.json").read_text())
    del about["digest"]
    _describe(tmp_path, {**about, "sha256": hashlib.sha256(file.read_bytes()).hexdigest()})
    with pytest.raises(ModelError, match="cannot be read by the installed versions"):
        load_regressor(root)


def test_features_of_another_width_are_refused(tmp_path: Path) -> None:
    found = load_regressor(_write(tmp_path, Pipeline([("r", Ridge())]).fit(_X, _Y)))
    with pytest.raises(ModelError, match="24 columns"):
        found.predict(_X[:, :5])
    assert found.predict(np.empty((0, 24))).shape == (0,)
    np.testing.assert_allclose(
        found.predict(_X.astype(np.float32)), found.predict(_X), rtol=0, atol=1e-6
    )
