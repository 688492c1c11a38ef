"""The index of pages: it merges with earlier calls and keeps files of others."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.helpers.paged import made_sound
from valence.audio.standardization import Standardizer
from valence.config import Config
from valence.errors import StaleError
from valence.model.network import ValenceModel
from valence.model.serialization import export_model
from valence.prediction.files import listed_row, predict_task
from valence.prediction.inputs import make_tasks
from valence.prediction.listing import Listing
from valence.prediction.outputs.predicted import PredictionOutcome
from valence.prediction.outputs.registry import OUTPUTS
from valence.prediction.page.index import Index
from valence.prediction.predictor import Predictor
from valence.storage.location import Location

_PAGE = (OUTPUTS["page"],)


@pytest.fixture(scope="module")
def predictor(tmp_path_factory: pytest.TempPathFactory, tiny_config: Config) -> Predictor:
    torch.manual_seed(0)
    standardizer = Standardizer("global", np.array([-20], np.float32), np.array([15], np.float32))
    model = ValenceModel(tiny_config.model, n_mels=128, n_frames=34, standardizer=standardizer)
    folder = tmp_path_factory.mktemp("model")
    export_model(Location.parse(folder), model, tiny_config, {})
    return Predictor.load(folder)


def _predicted(predictor: Predictor, folder: Path, *names: str, paged: bool = True) -> Index:
    """Predict made sounds of these names into a folder, and list them there."""
    files = [folder / "sound" / f"{name}.wav" for name in names]
    for file in files:
        made_sound(file, n=24)
    out = Location.parse(folder / "out")
    outcomes = [
        predict_task(predictor, task, out, outputs=_PAGE if paged else ())
        for task in make_tasks([Location.parse(file) for file in files])
    ]
    assert {outcome.status for outcome in outcomes} == {"ok"}
    _list(predictor, out, outcomes)
    return Index(out)


def _list(predictor: Predictor, out: Location, outcomes: list[PredictionOutcome]) -> None:
    Listing(out / "prediction.json").merge(
        {"weighting": "a test"},
        [listed_row(outcome, predictor) for outcome in outcomes],
        order=[outcome.name for outcome in outcomes],
    )


def _links(file: Path) -> list[str]:
    return re.findall(r'<a href="([^"]*)"', file.read_text())


def test_it_lists_the_pages_of_all_calls(predictor: Predictor, tmp_path: Path) -> None:
    index = _predicted(predictor, tmp_path, "b")
    assert index.write() is None, "one page needs no index"
    _predicted(predictor, tmp_path, "without page", paged=False)
    assert index.write() is None
    _predicted(predictor, tmp_path, "a & <b> #1")
    index.check(overwrite=False)
    assert index.write() == Location.parse(tmp_path / "out" / "index.html")
    file = tmp_path / "out" / "index.html"
    assert _links(file) == ["./b.html", "./a%20%26%20%3Cb%3E%20%231.html"]
    text = file.read_text()
    assert "a &amp; &lt;b&gt; #1" in text
    assert "2 recordings, 24.0 s of sound." in text
    _predicted(predictor, tmp_path, "c")
    index.check(overwrite=False)
    index.write()
    assert _links(file) == ["./b.html", "./a%20%26%20%3Cb%3E%20%231.html", "./c.html"]
    (tmp_path / "out" / "b.html").unlink()
    index.write()
    assert "./b.html" not in _links(file), "no link leads to nothing"


def test_the_same_list_leaves_the_file_as_it_is(predictor: Predictor, tmp_path: Path) -> None:
    index = _predicted(predictor, tmp_path, "a", "b")
    index.write()
    file = tmp_path / "out" / "index.html"
    before = file.stat().st_mtime_ns
    index.write()
    assert file.stat().st_mtime_ns == before


def test_what_was_set_aside_is_named_with_its_reason(predictor: Predictor, tmp_path: Path) -> None:
    index = _predicted(predictor, tmp_path, "a", "b")
    failed = PredictionOutcome("bad", "bad.wav", "failed", "It is <silent>.")
    _list(predictor, index.out, [failed])
    index.write()
    assert "<li>bad: It is &lt;silent&gt;.</li>" in (tmp_path / "out" / "index.html").read_text()


def test_a_recording_called_index_keeps_its_page(predictor: Predictor, tmp_path: Path) -> None:
    index = _predicted(predictor, tmp_path, "Index", "b")
    assert index.write() == Location.parse(tmp_path / "out" / "index_2.html")
    assert _links(tmp_path / "out" / "index_2.html") == ["./Index.html", "./b.html"]
    assert "page of a recording" in (tmp_path / "out" / "Index.html").read_text()[:600]


def test_an_index_of_somebody_else_stays(predictor: Predictor, tmp_path: Path) -> None:
    index = _predicted(predictor, tmp_path, "a", "b")
    file = tmp_path / "out" / "index.html"
    file.write_text("<h1>My site</h1>")
    with pytest.raises(StaleError, match="was not written as an index of pages by this program"):
        index.check(overwrite=False)
    assert file.read_text() == "<h1>My site</h1>"
    index.check(overwrite=True)
    index.write()
    assert len(_links(file)) == 2


@pytest.mark.parametrize("damage", ["lost", "cut", "flipped"])
def test_a_table_that_is_lost_or_damaged_costs_its_row_alone(
    predictor: Predictor, tmp_path: Path, damage: str
) -> None:
    index = _predicted(predictor, tmp_path, "a", "b", "c")
    table = tmp_path / "out" / "b.parquet"
    content = bytearray(table.read_bytes())
    match damage:
        case "lost":
            table.unlink()
        case "cut":
            table.write_bytes(content[:12])
        case _:
            content[len(content) // 2] ^= 1
            table.write_bytes(content)
    file = index.write()
    assert file is not None
    text = file.read_text()
    assert _links(tmp_path / "out" / "index.html") == ["./a.html", "./c.html"]
    assert "its table (.parquet) is lost or damaged" in text
