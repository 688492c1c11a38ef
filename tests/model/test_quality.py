"""What is said of a model's worth, and from which files it is believed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from valence.model.quality import EVALUATION, Quality, is_evaluated, read_quality, write_evaluation
from valence.storage.location import Location

RECORD = {
    "corpus": "s3://someone/nemo?endpoint_override=10.0.0.7:9000",
    "synthetic": False,
    "subjects": {"train": ["1", "2"], "test": ["8", "9", "10"]},
    "recordings": {"train": ["1", "2", "3"]},
}
EVALUATED = {
    "model": "a" * 64,
    "corpus": "nemo",
    "synthetic": False,
    "recordings": 3,
    "subjects": 2,
    "seconds": 1800.0,
    "subjects_remark": "",
    "test": {"valence": {"ccc": 0.25, "ccc_ci": [0.1, 0.4], "subjects": 12}},
}


def _quality(folder: Path, **more: Any) -> Quality:
    return read_quality(
        Location.parse(folder), sha256="a" * 64, record=RECORD, target="valence", **more
    )


def test_an_evaluation_is_told(tmp_path: Path) -> None:
    write_evaluation(Location.parse(tmp_path), EVALUATED)
    quality = _quality(tmp_path)
    assert quality.sentence == (
        "Trained on 'nemo' (3 recordings, 2 subjects, 30 min); test CCC 0.250 [0.100, 0.400] from "
        "12 subjects."
    )
    assert quality.warnings == ()
    assert is_evaluated(Location.parse(tmp_path), "a" * 64)
    assert "someone" not in json.dumps(quality.to_json())


def test_a_model_without_an_evaluation_says_so(tmp_path: Path) -> None:
    quality = _quality(tmp_path)
    assert quality.sentence.startswith("Trained on 'nemo' (3 recordings, 2 subjects); not evaluat")
    assert "valence report" in quality.sentence
    assert quality.ccc is None


@pytest.mark.parametrize("fault", ["flipped", "cut", "empty", "foreign", "huge", "list", "scores"])
def test_an_evaluation_that_is_not_this_models_is_not_believed(tmp_path: Path, fault: str) -> None:
    folder = Location.parse(tmp_path)
    content = EVALUATED | {"model": "b" * 64} if fault == "foreign" else EVALUATED
    write_evaluation(folder, EVALUATED | {"test": [1]} if fault == "scores" else content)
    file = tmp_path / EVALUATION
    good = file.read_text()
    match fault:
        case "flipped":
            file.write_text(good.replace("0.25", "0.85"))
        case "cut":
            file.write_text(good[:100])
        case "empty":
            file.write_text("")
        case "huge":
            file.write_text(good + " " * 2**20)
        case "list":
            file.write_text("[]")
    quality = _quality(tmp_path)
    assert quality.ccc is None
    assert EVALUATION in quality.not_evaluated
    assert not is_evaluated(folder, "a" * 64)


def test_a_folder_in_place_of_an_evaluation_is_named(tmp_path: Path) -> None:
    (tmp_path / EVALUATION).mkdir()
    assert not is_evaluated(Location.parse(tmp_path), "a" * 64)
    assert _quality(tmp_path).not_evaluated == (
        f"'{tmp_path / EVALUATION}' is a folder and no evaluation: move it away; then 'valence "
        "report RUN' writes its scores into the model's folder"
    )


@pytest.mark.parametrize(
    ("known", "said"),
    [
        ({"ccc": -0.043, "ccc_ci": (-0.2, 0.1), "test_subjects": 9}, "no better than the mean"),
        ({"ccc": 0.0, "test_subjects": 2}, "no better than the mean of the labels"),
        ({"ccc": 0.2, "ccc_ci": (-0.1, 0.5), "test_subjects": 9}, "the interval holds 0: do not"),
        ({"ccc": 0.4, "test_subjects": 2}, "From 2 subjects it cannot be told"),
        ({"synthetic": True, "ccc": 0.4, "ccc_ci": (0.2, 0.6)}, "do not use it on people"),
        ({"synthetic": True, "not_evaluated": "x"}, "do not use it on people"),
    ],
)
def test_what_speaks_against_a_model_is_said_in_plain_words(
    known: dict[str, Any], said: str
) -> None:
    (warning,) = Quality(**known).warnings
    assert said in warning
    assert Quality(**known).lines[1] == f"Warning: {warning}"


def test_few_subjects_without_an_interval_leave_it_unknown() -> None:
    quality = Quality(corpus="nemo", ccc=0.4, test_subjects=2)
    assert quality.score == "test CCC 0.400 from 2 subjects: unknown for others"


@pytest.mark.parametrize(
    ("remark", "trained", "counted"),
    [
        (
            "subjects are unknown: metadata/subjects.csv is absent",
            "(3 recordings, subjects unknown, 30 min)",
            "12 recordings (subjects unknown)",
        ),
        (
            "subjects are unknown in part: metadata/subjects.csv does not name 1 of 3",
            "(3 recordings, 2 subjects (unknown in part), 30 min)",
            "12 subjects (unknown in part)",
        ),
    ],
)
def test_subjects_that_are_unknown_are_not_counted(
    tmp_path: Path, remark: str, trained: str, counted: str
) -> None:
    scores = {"ccc": 0.25, "ccc_ci": [-0.1, 0.4], "subjects": 12}
    write_evaluation(
        Location.parse(tmp_path),
        EVALUATED | {"subjects_remark": remark, "test": {"valence": scores}},
    )
    quality = _quality(tmp_path)
    assert quality.sentence == (
        f"Trained on 'nemo' {trained}; test CCC 0.250 [−0.100, 0.400] from {counted}."
    )
    over = counted.removeprefix("12 ")
    assert quality.warnings == (
        "It cannot be told from the mean of the labels, because the interval over "
        f"{over} holds 0: do not use it.",
    )
    few = {"ccc": 0.25, "ccc_ci": None, "subjects": 12}
    write_evaluation(
        Location.parse(tmp_path), EVALUATED | {"subjects_remark": remark, "test": {"valence": few}}
    )
    assert _quality(tmp_path).warnings[0].startswith(f"From {counted} it cannot be told")


def test_a_model_that_is_not_evaluated_says_that_its_subjects_are_unknown(tmp_path: Path) -> None:
    record = RECORD | {"subjects_remark": "subjects are unknown: nobody says who speaks"}
    quality = read_quality(
        Location.parse(tmp_path), sha256="a" * 64, record=record, target="valence"
    )
    assert quality.training == "trained on 'nemo' (3 recordings, subjects unknown)"


def test_a_regressor_has_scores_of_its_own(tmp_path: Path) -> None:
    steps = {name: {"name": name[0]} for name in ("scaler", "reducer", "regressor")}
    about = {"steps": steps, "scores": {"test": {"ccc": 0.4, "ccc_ci": None}}}
    before = _quality(tmp_path, regressor=about)
    assert (before.predictor, before.ccc, before.test_subjects) == ("s + r + r", 0.4, 3)
    write_evaluation(Location.parse(tmp_path), EVALUATED)
    assert _quality(tmp_path, regressor=about).test_subjects == 12
    untested = _quality(tmp_path, regressor={"steps": steps, "scores": {"test": None}})
    assert untested.ccc is None
    assert "no test set" in untested.not_evaluated
