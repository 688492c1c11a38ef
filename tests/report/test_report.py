"""The files of a report: their numbers against the run's own, and the page as HTML."""

from __future__ import annotations

import html.parser
import io
import json
import shutil
from pathlib import Path
from typing import Any

import audmetric
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from valence.config import Config
from valence.errors import MissingStageError, StaleError
from valence.features import read_features, write_features
from valence.report import write_report
from valence.run import Run

_FIGURES = {
    "architecture",
    "attention",
    "ccc-per-subject",
    "distributions",
    "learning-curves",
    "mel-segment",
    "mel-sequence",
    "over-time",
    "predicted-against-target",
    "robustness",
    "sweep-heatmap",
}


class _Page(html.parser.HTMLParser):
    """The parts of a page that tests look at."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.images: list[dict[str, str | None]] = []
        self.addresses: list[str] = []
        self.ids: list[str] = []
        self.open: list[str] = []
        self.text = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        if tag == "img":
            self.images.append(given)
        if tag not in {"meta", "link", "img", "source"}:
            self.open.append(tag)
        self.addresses += [
            value or "" for name, value in attrs if name in {"src", "href", "srcset"}
        ]
        self.ids += [value or "" for name, value in attrs if name == "id"]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag, f"{tag} is closed and was not the last to be opened"

    def handle_data(self, data: str) -> None:
        if not {"style", "script"} & set(self.open):
            self.text += data


@pytest.fixture(scope="module")
def reported(finished_run: Run, tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("reported") / "run"
    shutil.copytree(finished_run.root.local, folder)
    run = Run.at(str(folder))
    write_report(run)
    return run


def _copy(run: Run, folder: Path) -> Run:
    shutil.copytree(run.root.local, folder)
    return Run.at(str(folder))


def _json(run: Run) -> dict[str, Any]:
    return (run.folder("report") / "metrics.json").read_json()


def _page(run: Run) -> _Page:
    return _Page((run.folder("report") / "report.html").read_text())


def test_metrics_are_those_of_the_features(reported: Run) -> None:
    features = read_features(reported.folder("features"))
    metrics = _json(reported)
    for split in ("validation", "test"):
        rows = features.of(split)
        y, p = rows.target[:, 0].astype(float), rows.prediction[:, 0].astype(float)
        found = metrics["deep"][split]
        assert list(found) == ["ccc", "ccc_ci", "pcc", "mse", "mae", "n"]
        assert found["ccc"] == pytest.approx(audmetric.concordance_cc(y, p), abs=1e-9)
        assert found["pcc"] == pytest.approx(np.corrcoef(y, p)[0, 1], abs=1e-9)
        assert found["mse"] == pytest.approx(((y - p) ** 2).mean())
        assert found["mae"] == pytest.approx(abs(y - p).mean())
        assert found["n"] == len(y)
        assert found["ccc_ci"] is None, "one subject gives no interval"
    selection = (reported.folder("sweep") / "selection.json").read_json()
    assert metrics["best_regressor"] == selection["best"]
    assert metrics["synthetic"] is True
    assert metrics["protocol"] == "partition"
    assert metrics["subjects"]["test"]["06"]["ccc"] == pytest.approx(metrics["deep"]["test"]["ccc"])


def test_predictions_hold_every_sequence(reported: Run) -> None:
    features = read_features(reported.folder("features"))
    file = reported.folder("report") / "predictions.csv"
    rows = pd.read_csv(io.StringIO(file.read_text()), dtype={"recording": str, "subject": str})
    assert rows.columns.tolist() == [
        "recording",
        "subject",
        "split",
        "start",
        "timestamp",
        "valence",
        "prediction",
    ]
    assert rows["recording"].tolist() == features.recording.tolist()
    assert rows["timestamp"].tolist() == (500 * features.start).tolist()
    np.testing.assert_allclose(rows["prediction"], features.prediction[:, 0], rtol=1e-6)
    np.testing.assert_allclose(rows["valence"], features.target[:, 0], rtol=1e-6)


def test_figures_are_png_of_a_good_size(reported: Run) -> None:
    files = (reported.folder("report") / "figures").files()
    assert {file.stem for file in files} == _FIGURES
    for file in files:
        image = Image.open(io.BytesIO(file.read_bytes()))
        assert image.format == "PNG"
        assert 900 < image.width < 2100


def test_the_page_is_whole_and_holds_everything(reported: Run) -> None:
    file = reported.folder("report") / "report.html"
    assert len(file.read_bytes()) < 6_000_000
    page = _page(reported)
    assert not page.open
    assert len(page.ids) == len(set(page.ids))
    assert {f"figure-{name}" for name in _FIGURES} <= set(page.ids)
    assert len(page.images) == len(_FIGURES)
    for image in page.images:
        assert len(image["alt"] or "") > 40
        assert int(image["width"] or 0) > 100
    for address in page.addresses:
        assert address.startswith(("data:", "#"))
        assert not address.startswith("#") or address[1:] in page.ids


def test_the_numbers_stand_on_the_page_as_text(reported: Run) -> None:
    metrics, text = _json(reported), _page(reported).text
    numbers = [metrics["deep"][split]["ccc"] for split in ("validation", "test")]
    numbers += [metrics["best_regressor"]["test"]["ccc"]]
    numbers += [each["ccc"] for each in metrics["robustness"]["conditions"].values()]
    numbers += [each["ccc"] for each in metrics["subjects"]["test"].values()]
    for number in numbers:
        assert f"{number:.3f}".replace("-", "−") in text
    results = (reported.folder("sweep") / "results.csv").read_text()
    for value in pd.read_csv(io.StringIO(results))["ccc_validation"]:
        assert f"{value:.4f}".replace("-", "−") in text
    for told in (
        "Synthetic sound",
        "broken.wav",
        "1 recording could not be used",
        "valence demo --out",
        "scikit-learn",
        "lstm_hidden = 16",
        "channels = [2, 4, 8]",
        "no interval can be given",
    ):
        assert told in text


def test_a_report_is_made_once(reported: Run) -> None:
    file = reported.folder("report") / "report.html"
    before = file.info().mtime_ns
    summary = write_report(reported)
    assert file.info().mtime_ns == before
    assert summary["metrics"] == _json(reported)


def test_a_report_that_lost_a_file_is_made_again(reported: Run, tmp_path: Path) -> None:
    run = _copy(reported, tmp_path / "run")
    lost = run.folder("report") / "figures" / "attention.png"
    lost.delete()
    write_report(run)
    assert lost.exists()


def test_robustness_is_measured_once_the_corpus_is_back(reported: Run, tmp_path: Path) -> None:
    run = _copy(reported, tmp_path / "run")
    config, record = run.config(), run.record()
    run.write_config(config, {**record, "corpus": str(tmp_path / "not mounted")})
    (run.folder("report") / "report.html").delete()
    write_report(run)
    assert "cannot be read now" in _json(run)["robustness"]["skipped"]
    run.write_config(config, record)
    write_report(run)
    assert _json(run)["robustness"] == _json(reported)["robustness"]


def test_a_report_of_other_results_is_not_replaced_unasked(reported: Run, tmp_path: Path) -> None:
    run = _copy(reported, tmp_path / "run")
    run.stage("features").begin({"made_for": "another test"}, overwrite=True, wipe=False)
    run.stage("features").finish({"seconds": 1.0})
    with pytest.raises(StaleError, match="overwrite"):
        write_report(run)
    assert write_report(run, overwrite=True)["metrics"]["deep"] == _json(reported)["deep"]


def test_a_report_grows_by_the_sweep_and_tells_every_target(
    make_run: Any, add_sweep: Any, tmp_path: Path, tiny_config: Config
) -> None:
    config = Config.resolve(tiny_config, assignments=['model.targets=["valence","arousal"]'])
    run = make_run(tmp_path / "run <b>&amp;", swept=False, config=config)
    write_report(run)
    assert _json(run)["best_regressor"] is None
    page = _page(run)
    assert "The sweep has not been run" in page.text
    assert "run <b>&amp;" in page.text, "a name is text, whatever it looks like"
    assert "Deep model, arousal" in page.text

    features = read_features(run.folder("features")).of("test")
    found = _json(run)["further_targets"]["arousal"]["test"]["mse"]
    assert found == pytest.approx(np.mean((features.target - features.prediction)[:, 1] ** 2))
    rows = pd.read_csv(io.StringIO((run.folder("report") / "predictions.csv").read_text()))
    assert rows.columns.tolist()[-4:] == ["valence", "prediction", "arousal", "prediction_arousal"]

    add_sweep(run)
    write_report(run)
    assert _json(run)["best_regressor"]["scaler"] in ("none", "standard", "minmax")


def test_without_test_labels_there_is_no_test_score(reported: Run, tmp_path: Path) -> None:
    run = _copy(reported, tmp_path / "run")
    file = run.folder("features") / "06.parquet"
    features = read_features(run.folder("features"))
    rows = features.rows(features.recording == "06")
    rows.target[:] = np.nan
    write_features(file, rows)
    selection = (run.folder("sweep") / "selection.json").read_json()
    for scores in (selection["best"], selection["deep"], *selection["baselines"].values()):
        scores["test"] = None
    selection["paired"]["test"] = None
    (run.folder("sweep") / "selection.json").write_json(selection)
    run.folder("report").delete()
    write_report(run)
    metrics = _json(run)
    assert metrics["deep"]["test"] is None
    assert metrics["best_regressor"]["test"] is None
    assert metrics["robustness"]["split"] == "validation"
    assert "there is no test score" in _page(run).text
    assert json.dumps(metrics).count("NaN") == 0


def test_what_a_report_needs_is_named(finished_run: Run, tmp_path: Path) -> None:
    with pytest.raises(MissingStageError, match="is not a run"):
        write_report(Run.at(str(tmp_path)))
    run = _copy(finished_run, tmp_path / "run")
    run.folder("features").delete()
    with pytest.raises(MissingStageError, match="valence extract"):
        write_report(run)


def test_the_model_has_a_card(reported: Run) -> None:
    card = (reported.model / "README.md").read_text()
    metrics = _json(reported)
    assert f"{metrics['deep']['test']['ccc']:.3f}".replace("-", "−") in card
    for told in (
        "synthetic sound",
        "Not meant for",
        "Licence",
        "4 subjects",
        "not what a person feels",
        "average over 10 s",
    ):
        assert told in card
