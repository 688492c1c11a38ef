"""A pipeline's archive holds what it declares, and no more than a sweep's may."""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.sparse
from sklearn.linear_model import Ridge
from sklearn.pipeline import Pipeline
from sklearn.svm import SVR
from sklearn.tree import DecisionTreeRegressor
from xgboost import XGBRegressor

from valence.errors import ModelError
from valence.provenance import fingerprint
from valence.storage.location import Location
from valence.sweep.kept import archive as pipeline_archive
from valence.sweep.kept.archive import most_bytes, require_as_declared
from valence.sweep.kept.serialization import dump, load_regressor, save_regressor

_X = np.random.default_rng(0).random((60, 6))
_Y = _X[:, 2]
_ABOUT = {"target": "valence", "model": None, "steps": {}, "rows": 60}


@pytest.fixture
def root(tmp_path: Path) -> Location:
    pipeline = Pipeline([("r", Ridge())]).fit(_X, _Y)
    save_regressor(Location.parse(tmp_path), pipeline, columns=6, about=_ABOUT)
    return Location.parse(tmp_path)


def _repack(
    content: bytes,
    change: Callable[[dict[str, bytes]], object] = lambda members: None,
    compression: int = zipfile.ZIP_STORED,
) -> bytes:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    change(members)
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression=compression) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return buffer.getvalue()


def _forge(root: Location, content: bytes) -> None:
    """Put another pipeline into the folder, with digests that are right."""
    about = (root / "regressor.json").read_json()
    del about["digest"]
    about["sha256"] = hashlib.sha256(content).hexdigest()
    (root / "pipeline.skops").write_bytes(content)
    (root / "regressor.json").write_json({**about, "digest": fingerprint(about)})


def test_what_unpacks_to_more_than_it_is_is_refused(root: Location) -> None:
    def grow(members: dict[str, bytes]) -> None:
        members["more"] = bytes(300_000)

    content = (root / "pipeline.skops").read_bytes()
    _forge(root, _repack(content, grow, zipfile.ZIP_DEFLATED))
    with pytest.raises(ModelError, match=r"unpacks to 311,895 bytes.*nothing is compressed"):
        load_regressor(root)


def test_a_file_beyond_what_the_description_needs_is_not_read(
    root: Location, tmp_path: Path
) -> None:
    with (tmp_path / "pipeline.skops").open("ab") as file:
        # Sparse: it takes no room.
        file.truncate(2**40)
    with pytest.raises(ModelError, match=r"has 1,099,511,627,776 bytes, and .* are the most"):
        load_regressor(root)


def test_the_limit_grows_with_rows_and_columns_and_ends_somewhere() -> None:
    assert most_bytes(rows=0, columns=512) < most_bytes(rows=1000, columns=512)
    assert most_bytes(rows=1000, columns=512) < most_bytes(rows=1000, columns=1024)
    assert most_bytes(rows=10**15, columns=512) == 4 * 2**30
    # An SVR on 50,000 rows of 512 columns, and a forest on as many.
    assert most_bytes(rows=50_000, columns=512) > 2 * 50_000 * 512 * 8
    assert most_bytes(rows=20_000, columns=512) > 500 * 2 * 20_000 * 72


@pytest.mark.parametrize("shape", ["(1000000000000,)", "(7,)", "(2, 3)"])
def test_an_array_that_declares_another_size_is_refused(shape: str) -> None:
    def change(members: dict[str, bytes]) -> None:
        name = next(name for name in members if name.endswith(".npy"))
        text = f"{{'descr': '<f8', 'fortran_order': False, 'shape': {shape}, }}".encode()
        header = text + b" " * (117 - len(text)) + b"\n"
        members[name] = b"\x93NUMPY\x01\x00\x76\x00" + header + bytes(8 * 5)

    content = _repack(dump(Ridge().fit(_X, _Y)), change)
    with pytest.raises(ValueError, match="an array of 40 bytes that declares the shape"):
        require_as_declared(content)


def _with_schema(content: bytes, change: Callable[[dict[str, Any]], object]) -> bytes:
    def edit(members: dict[str, bytes]) -> None:
        schema = json.loads(members["schema.json"])
        change(schema)
        members["schema.json"] = json.dumps(schema).encode()

    return _repack(content, edit)


def test_a_member_that_is_read_again_and_again_is_refused() -> None:
    def change(schema: dict[str, Any]) -> None:
        attributes = schema["content"]["content"]
        for number in range(500):
            attributes[f"more{number}"] = {**attributes["support_vectors_"], "__id__": number + 1}

    content = _with_schema(dump(SVR().fit(_X, _Y)), change)
    with pytest.raises(ValueError, match=r"reads .* bytes out of"):
        require_as_declared(content)


def test_a_member_that_is_not_there_is_refused() -> None:
    def change(schema: dict[str, Any]) -> None:
        schema["content"]["content"]["coef_"]["file"] = "../elsewhere.npy"

    with pytest.raises(ValueError, match=r"refers to a member '\.\./elsewhere\.npy'"):
        require_as_declared(_with_schema(dump(Ridge().fit(_X, _Y)), change))


def test_an_archive_in_the_archive_is_refused() -> None:
    model = Ridge().fit(_X, _Y)
    model.coef_ = scipy.sparse.csr_matrix(np.zeros((1, 6)))
    with pytest.raises(ValueError, match="sparse matrix"):
        require_as_declared(dump(model))


def test_a_tree_of_many_outputs_is_refused() -> None:
    content = dump(DecisionTreeRegressor().fit(_X, _Y))
    require_as_declared(content)

    def change(schema: dict[str, Any]) -> None:
        tree = schema["content"]["content"]["tree_"]
        tree["__reduce__"]["args"]["content"][2]["content"] = "1000"

    with pytest.raises(ValueError, match="tree of 1000 outputs"):
        require_as_declared(_with_schema(content, change))


def test_trees_of_xgboost_that_are_cut_are_refused() -> None:
    model = XGBRegressor(n_estimators=2, n_jobs=1).fit(_X, _Y)

    def change(members: dict[str, bytes]) -> None:
        name = next(name for name in members if name.endswith(".bin"))
        members[name] = members[name][:-5]

    with pytest.raises(ValueError, match="no trees of XGBoost"):
        require_as_declared(_repack(dump(model), change))


def test_a_schema_is_bounded_and_json(monkeypatch: pytest.MonkeyPatch) -> None:
    content = dump(Ridge().fit(_X, _Y))
    for data, says in ((b"[" * 100_000, "nested too deeply"), (b"{", "no JSON")):
        broken = _repack(content, lambda members, data=data: members.update({"schema.json": data}))
        with pytest.raises(ValueError, match=says):
            require_as_declared(broken)
    without = _repack(content, lambda members: members.pop("schema.json"))
    with pytest.raises(ValueError, match=r"has no schema\.json"):
        require_as_declared(without)
    monkeypatch.setattr(pipeline_archive, "_MOST_SCHEMA_BYTES", 100)
    with pytest.raises(ValueError, match="100 are the most"):
        require_as_declared(content)
