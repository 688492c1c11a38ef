"""The files of a report: their numbers against the run's own, and the page as HTML."""

from __future__ import annotations

import html.parser
import io
import json
import re
import shlex
from dataclasses import replace
from pathlib import Path
from typing import Any

import audmetric
import numpy as np
import pandas as pd
import pytest
import yaml
from PIL import Image

from pipelines.cli import _DEMO_SETTINGS, _resolve
from pipelines.options import StageOptions
from tests.helpers.reports import copied, metrics_of, page_of
from valence.config import Config
from valence.corpus.subjects import unknown_subjects
from valence.formatting import SUBJECTS
from valence.model.quality import Quality
from valence.model.serialization import read_description
from valence.prediction.predictor import Predictor
from valence.report.analysis.results import Evidence, read_evidence
from valence.report.analysis.runtimes import costs
from valence.report.analysis.scores import find, metrics_json
from valence.report.build import _command, write_report
from valence.report.closing import closing_lines
from valence.report.comparison import compare_runs
from valence.report.model_card import model_card
from valence.report.page import sections as story
from valence.report.page import tables
from valence.run import Run
from valence.storage.location import Location
from valence.sweep.features import read_features, write_features

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


def test_metrics_are_those_of_the_features(reported: Run) -> None:
    features = read_features(reported.folder("features"))
    metrics = metrics_of(reported)
    for split in ("validation", "test"):
        rows = features.of(split)
        y, p = rows.target[:, 0].astype(float), rows.prediction[:, 0].astype(float)
        found = metrics["deep"][split]
        assert list(found)[:6] == ["ccc", "ccc_ci", "pcc", "mse", "mae", "n"]
        assert (found["subjects"], found["ccc_ci_method"]) == (1, None)
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
    page = page_of(reported)
    assert not page.open
    assert len(page.ids) == len(set(page.ids))
    assert {f"figure-{name}" for name in _FIGURES} <= set(page.ids)
    assert len(page.images) == len(_FIGURES)
    for image in page.images:
        assert len(image["alt"] or "") > 40
        assert int(image["width"] or 0) > 100
    for address in page.addresses:
        assert address.startswith(("data:", "#", "recordings/"))
        assert not address.startswith("#") or address[1:] in page.ids


def test_the_numbers_stand_on_the_page_as_text(reported: Run) -> None:
    metrics, text = metrics_of(reported), page_of(reported).text
    numbers = [metrics["deep"][split]["ccc"] for split in ("validation", "test")]
    numbers += [metrics["best_regressor"]["test"]["ccc"]]
    numbers += [each["ccc"] for each in metrics["robustness"]["conditions"].values()]
    numbers += [each["ccc"] for each in metrics["subjects"]["test"].values()]
    for number in numbers:
        assert f"{number:.3f}".replace("-", "−") in text
    results = (reported.folder("sweep") / "results.csv").read_text()
    for value in pd.read_csv(io.StringIO(results))["ccc_validation"]:
        assert f"{value:.4f}".replace("-", "−") in text
    for output in (
        "Synthetic sound",
        "broken.wav",
        "1 recording could not be used",
        f"valence run {metrics['command'].split()[2]} --config",
        "scikit-learn",
        "lstm_hidden = 16",
        "channels = [2, 4, 8]",
        "no interval can be given",
    ):
        assert output in text


def _numbers(content: object) -> list[float]:
    """All numbers in JSON-like content."""
    if isinstance(content, dict):
        return [number for value in content.values() for number in _numbers(value)]
    if isinstance(content, list):
        return [number for value in content for number in _numbers(value)]
    if isinstance(content, (int, float)) and not isinstance(content, bool):
        return [float(content)]
    return []


def test_every_number_in_a_table_stands_in_the_metrics(reported: Run) -> None:
    values = np.array(page_of(reported).values)
    known = np.sort(_numbers(metrics_of(reported)))
    assert len(values) > 600
    place = np.clip(np.searchsorted(known, values), 1, len(known) - 1)
    far = np.minimum(abs(known[place] - values), abs(known[place - 1] - values))
    assert values[far > 1e-9].tolist() == []


def test_what_the_figures_show_stands_in_the_metrics(reported: Run) -> None:
    metrics = metrics_of(reported)
    history = pd.read_csv(io.StringIO((reported.folder("train") / "history.csv").read_text()))
    assert metrics["training"]["history"] == history.to_dict("records")
    for seed, row in zip((0, 1), metrics["training"]["seeds"], strict=True):
        own = history[history["seed"] == seed]
        assert row["seed"] == seed
        assert row["validation_ccc"] == own["validation_ccc"].max()
        assert row["epochs"] == len(own)
    best = [row["validation_ccc"] for row in metrics["training"]["seeds"]]
    assert metrics["training"]["mean"]["validation_ccc"] == pytest.approx(np.mean(best))
    sd = abs(best[0] - best[1]) / np.sqrt(2)
    assert metrics["training"]["sd"]["validation_ccc"] == pytest.approx(sd)
    output = f"{np.mean(best):.3f} ± {sd:.3f}"
    assert output in page_of(reported).text

    weights = np.array(metrics["attention"]["percent"])
    assert weights.shape == (20,)
    assert weights.sum() == pytest.approx(100, abs=1e-3)
    assert len(metrics["sweep"]) == 60
    assert (
        metrics["sweep"][0]["ccc_validation_ci"]
        == metrics["best_regressor"]["validation"]["ccc_ci"]
    )
    labels = read_features(reported.folder("features")).of("train").target[:, 0]
    shares = metrics["distribution"]["splits"]["train"]["label"]
    expected = np.histogram(labels, metrics["distribution"]["edges"])[0] / len(labels)
    np.testing.assert_allclose(np.array(shares["percent"]) / 100, expected)
    assert shares["mean"] == pytest.approx(labels.mean(), abs=1e-6)
    assert metrics["corpus"]["recordings"] == 7
    assert [row["Id"] for row in metrics["corpus"]["rejected"]] == ["broken"]
    assert metrics["seeds"] == {"split": 0, "preprocess": 0, "training": [0], "sweep": 0}
    assert metrics["versions"]["train"]["torch"] in page_of(reported).text
    assert [row["stage"] for row in metrics["times"]] == [
        "preprocess",
        "train",
        "extract",
        "sweep",
        "report",
    ]
    assert Config.model_validate(metrics["configuration"]) == reported.config()


def test_the_command_makes_the_same_run_again(reported: Run, tmp_path: Path) -> None:
    program, command, corpus, *options = shlex.split(metrics_of(reported)["command"])
    assert (program, command, corpus) == ("valence", "run", reported.record()["corpus"])
    assert options[::2] == ["--config", "--out"]
    assert options[3] == f"{reported.root}-again"
    assert _again(options, otherwise=Config()) == reported.config()


def test_the_command_of_a_demo_repeats_what_was_set(
    reported: Run, make_run: Any, tiny_config: Config, tmp_path: Path
) -> None:
    run = copied(reported, tmp_path / "my demo")
    demo = Config.resolve(Config(), assignments=_DEMO_SETTINGS)
    asked = Config.resolve(demo, assignments=["train.seeds=[3]", "sequence.length=20"])
    run.write_config(asked, {**run.record(), "corpus": str(run.root / "corpus")})
    output = _command(read_evidence(run))
    program, command, *options = shlex.split(output)
    assert (program, command) == ("valence", "demo")
    assert options[3] == f"{run.root}-again"
    assert _again(options, otherwise=demo) == asked


def _again(options: list[str], *, otherwise: Config) -> Config:
    """The configuration that a command line with these options comes to."""
    given = dict(zip(options[::2], options[1::2], strict=True))
    target = Run.at(given["--out"])
    return _resolve(target, StageOptions(config=given["--config"]), otherwise=otherwise)


def test_what_chose_the_regressor_is_what_is_told(reported: Run, tmp_path: Path) -> None:
    """`selection.json` says what the sweep did; the configuration may have moved on."""
    run = copied(reported, tmp_path / "run")
    evidence = read_evidence(run)
    findings = find(evidence)
    notice = "was chosen by its test score"
    moved = Config.resolve(run.config(), assignments=["sweep.select_on=test"])
    for config, chosen, marked in ((moved, "validation", False), (run.config(), "test", True)):
        changed = replace(
            evidence, config=config, selection={**evidence.selection, "select_on": chosen}
        )
        assert any(notice in each for each in story.notices(changed, findings)) is marked
        assert metrics_json(changed, findings)["select_on"] == chosen
        (output,) = (p.text for p in story.regressors(changed).parts[:1])
        # The difference shown is that of the test rows: they flatter where they chose.
        assert ("chosen by these same rows" in output) is marked


def test_subjects_in_more_than_one_split_are_told_of(reported: Run) -> None:
    evidence = read_evidence(reported)
    findings = find(evidence)
    allowed = Config.resolve(evidence.config, assignments=["split.allow_subject_overlap=true"])
    for config, marked in ((evidence.config, False), (allowed, True)):
        output = story.notices(replace(evidence, config=config), findings)
        assert any("do not speak of unknown voices" in each for each in output) is marked


def _notices(evidence: Evidence) -> list[str]:
    return story.notices(evidence, find(evidence))


def test_unknown_subjects_are_told_by_page_numbers_and_card(reported: Run, tmp_path: Path) -> None:
    run = copied(reported, tmp_path / "run")
    evidence = read_evidence(run)
    assert not any("subjects are unknown" in each.lower() for each in _notices(evidence))
    known = {"known_by": "unknown", "remark": "subjects are unknown: nobody says who speaks"}
    segments = evidence.stages["segments"]
    summary = {**segments["summary"], "subjects": known}
    stages = {**evidence.stages, "segments": {**segments, "summary": summary}}
    changed = replace(evidence, stages=stages)
    assert "Subjects are unknown: nobody says who speaks." in _notices(changed)
    metrics = metrics_json(changed, find(changed))
    assert metrics["subjects_known_by"] == "unknown"
    assert metrics["subjects_remark"] == known["remark"]
    description = read_description(run.model)
    card = model_card(
        changed, find(changed), description, "not measured", parameters=1, quality=Quality()
    )
    assert "- Subjects are unknown: nobody says who speaks.\n" in card


def test_the_agreement_of_raters_stands_beside_the_scores(reported: Run) -> None:
    evidence = read_evidence(reported)
    target = evidence.target
    segments = evidence.stages["segments"]
    of = {
        "raters": 6,
        "recordings": 3,
        "recordings_rated": 4,
        "step": 0.25,
        "as_rated": {"ccc": 0.4012, "ccc_others": 0.55},
        "as_fused": {"ccc": 0.7, "ccc_others": None},
    }
    summary = {**segments["summary"], "agreement": {target: of}}
    stages = {**evidence.stages, "segments": {**segments, "summary": summary}}
    changed = replace(evidence, stages=stages)
    assert "gree at CCC" not in _headline(evidence)
    words = f"Raters of {target} agree at CCC 0.401 in pairs as they rated (6 raters, steps of"
    assert words in _headline(changed)
    assert metrics_json(changed, find(changed))["raters"] == {target: of}
    assert metrics_json(evidence, find(evidence))["raters"] is None
    description = read_description(reported.model)
    card = model_card(
        changed, find(changed), description, "not measured", parameters=1, quality=Quality()
    )
    assert f"\n- {words} 0.25 s, 4 recordings), and at 0.700 after the steps" in card
    assert "agree at 0.550 and –." in card
    # A single rater agrees with nobody.
    of |= {"raters": 1, "as_rated": {"ccc": None, "ccc_others": None}}
    assert "Raters among each other" not in _headline(changed)
    assert f"Nothing shows how well raters of {target} agree (1 rater," in _headline(changed)


def _headline(evidence: Evidence) -> str:
    section = story.headline(evidence, find(evidence))
    return str(section)


# What would be said of known subjects: a count of them, or an interval over them.
_OF_SUBJECTS = re.compile(r"\b\d+ subjects?\b|\bover subjects\b|\b(each|a|the) subject\b|subject</")


def test_unknown_subjects_are_nowhere_counted_as_subjects(reported: Run, tmp_path: Path) -> None:
    run = copied(reported, tmp_path / "run")
    assert _OF_SUBJECTS.search((run.folder("report") / "report.html").read_text())
    stage = run.stage("segments")
    record = stage.record()
    assert record is not None
    remark = unknown_subjects(["1", "2"])
    stage.finish(
        {**record["summary"], "subjects": {"known_by": "unknown", "remark": remark}},
        stage.noted(),
    )
    written = write_report(run, overwrite=True)
    page = (run.folder("report") / "report.html").read_text()
    card = (run.model / "README.md").read_text()
    closing = "\n".join(closing_lines(written["metrics"]))
    quality = Predictor.load(run.root).quality
    # The notice itself says what a recording counts as.
    for text in (page, card, closing, *quality.lines):
        rest = text.replace(remark[1:], "").replace(html.escape(remark[1:]), "")
        assert _OF_SUBJECTS.findall(rest) == []
    assert "95 % interval over recordings (subjects unknown)" in page
    assert "CCC within each of 2 recordings (subjects unknown)" in page
    assert "95 % interval over recordings (subjects unknown)" in card
    assert "from 1 recording (subjects unknown)" in quality.score
    assert "validation (1 recording)  test (1 recording)" in closing
    assert closing.endswith("Counts and intervals are over recordings (subjects unknown).")
    name = compare_runs([run, reported], Location.parse(tmp_path / "compared"))["reference"]
    compared = (tmp_path / "compared/report.html").read_text()
    assert "intervals over recordings (subjects unknown)" in compared
    assert "there is 1 recording (subjects unknown), and a verdict takes 6" in compared
    assert f"In {name}, subjects are unknown:" in compared


def test_a_difference_is_told_with_what_its_interval_says(reported: Run) -> None:
    evidence = read_evidence(reported)
    findings = find(evidence)
    for ci, words in (
        ([0.1, 0.3], "The deep model is better than that baseline"),
        ([-0.3, -0.1], "The deep model is worse than that baseline"),
        ([-0.1, 0.3], "cannot be told apart"),
        (None, "cannot be told from so few: there are 2 subjects, and a verdict takes 6"),
    ):
        paired = {"difference": 0.1, "ci": ci, "subjects": 8 if ci else 2, "comparisons": 1}
        pair = {"test": paired, "validation": None}
        selection = {**evidence.selection, "deep_less_baseline": {"functionals": pair}}
        section = story.headline(replace(evidence, selection=selection), findings)
        assert words in " ".join(part.text for part in section.parts)
    without = {**evidence.selection, "baselines": {}, "deep_less_baseline": {}}
    unswept = story.headline(replace(evidence, selection=None), findings)
    assert "'valence sweep' adds a baseline" in " ".join(part.text for part in unswept.parts)
    section = story.headline(replace(evidence, selection=without), findings)
    assert "ridge" not in " ".join(part.text for part in section.parts)


def test_the_sweeps_table_tells_engines_rows_and_limits(reported: Run) -> None:
    evidence = read_evidence(reported)
    selection = {**evidence.selection, "svr_max_rows": 80}
    table = tables.sweep_table(replace(evidence, selection=selection))
    assert "at most 80 rows (sweep.svr_max_rows)" in table.caption
    assert [title for title, _ in table.columns][-2:] == ["engine", "rows fitted on"]
    assert [cell.text for cell in table.rows[0]][-2:] == ["sklearn", "100"]
    assert "svr_max_rows" not in tables.sweep_table(evidence).caption


def test_beside_the_study_stand_its_errors_and_its_best_by_family(reported: Run) -> None:
    evidence = read_evidence(reported)
    table = tables.paper_table(evidence, find(evidence))
    rows = {row[0].text: [cell.text for cell in row[1:]] for row in table.rows}
    assert rows["Deep model"][::2] == ["0.336", "0.0802", "0.2246"]
    assert len(rows) == 8
    results = evidence.results
    pca = results[results["reducer"].isin(["pca10", "pca20"])]["ccc_test"].max()
    assert rows["best with PCA"][:2] == ["< 0.25", f"{pca:.3f}"]
    boosted = results[results["regressor"] == "xgboost"]["ccc_test"].max()
    assert rows["best with XGBoost"][:2] == ["0.24", f"{boosted:.3f}".replace("-", "−")]


def test_throughput_is_that_of_what_was_done(reported: Run) -> None:
    evidence = read_evidence(reported)
    found = {cost.stage: cost for cost in costs(evidence, report=2.0)}
    assert found["train"].seconds == 16 * 2.5
    assert found["train"].rate == "24 epochs a minute"
    assert found["preprocess"].rate == f"{240 / 1.5:.0f} s of sound a second"

    def resumed(**changes: dict[str, object]) -> Evidence:
        stages = dict(evidence.stages)
        for name, values in changes.items():
            stages[name] = {
                **stages[name],
                "summary": {**stages[name]["summary"], **values},
            }
        return replace(evidence, stages=stages)

    again = resumed(
        segments={"processed": 1, "skipped": 5, "audio_hours_per_hour": 20.0},
        train={"seconds": 0.2},
        features={"skipped": 4},
    )
    found = {cost.stage: cost for cost in costs(again, report=2.0)}
    assert found["preprocess"].rate == (
        "20 s of sound a second (5 recordings more stood there already)"
    )
    assert found["train"].rate == "24 epochs a minute", "whatever the last call took"
    assert found["extract"].rate == (
        "1.3 recordings a second (4 recordings more stood there already)"
    )
    nothing = resumed(segments={"processed": 0, "skipped": 7, "audio_hours_per_hour": 0.0})
    assert costs(nothing, report=2.0)[0].rate == "nothing was left to do"


def test_a_subject_in_two_splits_keeps_both_scores(reported: Run) -> None:
    evidence = read_evidence(reported)
    features = evidence.features
    features.subject[np.isin(features.split, ["validation", "test"])] = "05"
    found = find(evidence)
    assert found.subjects["validation"]["05"] != found.subjects["test"]["05"]
    output = [row[:2] for row in tables.subjects_table(found, SUBJECTS).rows]
    assert [[cell.text for cell in row] for row in output] == [["05", "validation"], ["05", "test"]]
    drawing = story.agreement(evidence, found).drawings[1]
    assert len(drawing.figure().axes[0].get_yticklabels()) == 2


def test_without_test_labels_there_is_no_test_score(reported: Run, tmp_path: Path) -> None:
    run = copied(reported, tmp_path / "run")
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
    metrics = metrics_of(run)
    assert metrics["deep"]["test"] is None
    assert metrics["best_regressor"]["test"] is None
    assert metrics["robustness"]["split"] == "validation"
    assert "there is no test score" in page_of(run).text
    assert json.dumps(metrics).count("NaN") == 0


def test_the_model_has_a_card(reported: Run) -> None:
    card = (reported.model / "README.md").read_text()
    metrics = metrics_of(reported)
    assert f"{metrics['deep']['test']['ccc']:.3f}".replace("-", "−") in card
    for output in (
        "synthetic sound",
        "Not meant for",
        "Licence",
        "4 subjects",
        "not what a person feels",
        "average over 10 s",
    ):
        assert output in card
    assert str(reported.root) not in card
    assert reported.record()["corpus"] not in card
    assert "has not been tested" not in card


def test_the_model_folder_says_how_good_the_model_is(reported: Run, tmp_path: Path) -> None:
    metrics = metrics_of(reported)
    quality = Predictor.load(reported.root).quality
    assert quality.ccc == metrics["deep"]["test"]["ccc"]
    assert quality.synthetic
    assert quality.test_subjects == len(metrics["subjects"]["test"])
    card = (reported.model / "README.md").read_text()
    _, head, text = card.split("---\n", 2)
    first = text.splitlines()[0]
    assert quality.sentence in first
    assert quality.warnings[0] in first
    # The head that the hub reads has the same score, rounded.
    scores = [
        (each["dataset"]["split"], metric["value"])
        for each in yaml.safe_load(head)["model-index"][0]["results"]
        for metric in each["metrics"]
        if metric["type"] == "ccc"
    ]
    assert scores == [
        (split, round(metrics["deep"][split]["ccc"], 4)) for split in ("validation", "test")
    ]

    run = copied(reported, tmp_path / "run")
    (run.model / "evaluation.json").delete()
    assert "not evaluated" in Predictor.load(run.root).quality.sentence
    write_report(run)
    assert Predictor.load(run.root).quality == quality


def test_a_run_closes_with_four_lines(reported: Run) -> None:
    metrics = metrics_of(reported)
    head, *lines = closing_lines(metrics)
    assert [line.split("  ")[0] for line in lines] == [
        "deep model",
        "best regressor",
        "ridge baseline",
        "mean of labels",
    ]
    assert all(len(line) <= 80 for line in (head, *lines))
    assert "validation (" in head
    assert f"test ({len(metrics['subjects']['test'])} subject" in head
    deep = metrics["deep"]
    for split in ("validation", "test"):
        assert f"{deep[split]['ccc']:.3f}".replace("-", "−") in lines[0]
    unswept = closing_lines({**metrics, "best_regressor": None, "baselines": None})
    assert [line.split()[-2:] for line in unswept[2:]] == [["–", "–"]] * 3
