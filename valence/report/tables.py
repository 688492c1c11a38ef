"""The tables of a report page: cells as text, with the value that they sort by."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from valence.report.evidence import SPLITS, Evidence
from valence.report.findings import PAPER_DEEP, PAPER_REGRESSORS, SCORED, Findings
from valence.report.robustness import Robustness
from valence.run import StageName
from valence.words import MISSING, count, duration, interval, number


@dataclass(frozen=True)
class Cell:
    """What stands in a cell; `value` sorts it, `aside` follows it in small."""

    text: str
    value: float | str | None = None
    aside: str = ""


@dataclass(frozen=True)
class Table:
    """A table; a column that is numeric is set flush right and sorts by value.

    Attributes
    ----------
    caption
        What it shows.
    columns
        Title of each column, and whether it is numeric.
    rows
        Cells, the first of a row being its header.
    sortable
        Whether a reader can sort it.
    """

    caption: str
    columns: Sequence[tuple[str, bool]]
    rows: Sequence[Sequence[Cell]]
    sortable: bool = False


ScoresJson = Mapping[str, Any]


def results_table(evidence: Evidence, findings: Findings) -> Table:
    """The deep model, the best regressor and the baselines, a row each."""
    of_deep = findings.deep[evidence.target]
    deep = {split: None if s is None else s.to_json() for split, s in of_deep.items()}
    rows = [_scores_row("Deep model", deep)]
    selection = evidence.selection
    if selection is not None:
        best = selection["best"]
        name = f"Best regressor: {best['scaler']} + {best['reducer']} + {best['regressor']}"
        rows.append(_scores_row(name, best))
        rows += [
            _scores_row(_BASELINES.get(name, name), scores)
            for name, scores in selection["baselines"].items()
        ]
    for target, by_split in list(findings.deep.items())[1:]:
        further = {split: None if s is None else s.to_json() for split, s in by_split.items()}
        rows.append(_scores_row(f"Deep model, {target}", further))
    columns = [("", False), ("CCC, validation", True), ("CCC, test", True)]
    columns += [(f"{name}, test", True) for name in ("PCC", "MSE", "MAE")] + [("n, test", True)]
    return Table("CCC with its 95 % interval over subjects; n counts sequences.", columns, rows)


_BASELINES = {
    "constant": "Baseline: always the training mean",
    "functionals": "Baseline: ridge on statistics of the mel",
}


def paper_table(evidence: Evidence, findings: Findings) -> Table:
    """This run beside the study's own figures, on test sets chosen by the same protocol."""
    test = findings.deep[evidence.target]["test"]
    rows = [
        [
            Cell("Deep model"),
            _value(PAPER_DEEP["ccc"], 3),
            _value(None if test is None else test.ccc, 3),
        ]
    ]
    results = evidence.results
    for names, ccc in PAPER_REGRESSORS.items():
        ours = None if results is None else _of_combination(results, names)
        rows.append([Cell(" + ".join(names)), _value(ccc, 3), _value(ours, 3)])
    return Table(
        "CCC on the test set. The study's recordings are MuSe's; where this corpus is another, the "
        "two columns cannot be compared as scores.",
        [("", False), ("the study", True), ("this run", True)],
        rows,
    )


def sweep_table(results: pd.DataFrame) -> Table:
    """Every combination of the sweep, sortable."""
    numbers = {
        "ccc_validation": "CCC, validation",
        "ccc_test": "CCC, test",
        "mse_test": "MSE, test",
        "mae_test": "MAE, test",
        "seconds": "seconds",
    }
    columns = [(name, False) for name in ("scaler", "reducer", "regressor")]
    columns += [(title, True) for title in numbers.values()]
    told = "status" in results and (results["status"] != "ok").any()
    columns += [("status", False)] if told else []
    rows = []
    for row in results.to_dict("records"):
        cells = [Cell(str(row[name])) for name in ("scaler", "reducer", "regressor")]
        for name in numbers:
            cells.append(_value(row.get(name), 2 if name == "seconds" else 4))
        if told:
            reason = row.get("reason")
            cells.append(Cell(str(row["status"]), aside=reason if isinstance(reason, str) else ""))
        rows.append(cells)
    return Table(f"All {len(results)} combinations.", columns, rows, sortable=True)


def subjects_table(findings: Findings) -> Table:
    """Scores of each subject, sortable."""
    columns = [("subject", False), ("split", False)]
    columns += [(name, True) for name in ("CCC", "PCC", "MSE", "MAE", "sequences")]
    rows = [
        [
            Cell(subject),
            Cell(split),
            *(_value(getattr(scores, name), 3) for name in ("ccc", "pcc", "mse", "mae")),
            _count(scores.n),
        ]
        for split in SCORED
        for subject, scores in findings.subjects[split].items()
    ]
    return Table("Scores of each subject.", columns, rows, sortable=True)


def splits_table(evidence: Evidence) -> Table:
    """How the corpus is divided, and what was set aside."""
    usable = evidence.recordings[evidence.recordings["status"] == "ok"]
    rejected = evidence.recordings[evidence.recordings["status"] != "ok"]
    rows = []
    for split in SPLITS:
        own = usable[usable["split"] == split]
        sequences = int((evidence.features.split == split).sum())
        if len(own) or (rejected["split"] == split).any():
            rows.append(
                [
                    Cell(split),
                    _count(own["subject"].nunique()),
                    _count(len(own)),
                    Cell(duration(float(own["duration"].sum()))),
                    _count(int(own["segments"].sum())),
                    _count(sequences),
                    _count(int((rejected["split"] == split).sum())),
                ]
            )
    titles = ("subjects", "recordings", "sound", "segments", "sequences", "rejected recordings")
    return Table("", [("split", False), *((title, True) for title in titles)], rows)


def recordings_table(evidence: Evidence, findings: Findings) -> Table:
    """Every usable recording, sortable."""
    ccc = {track.name: track.ccc for tracks in findings.tracks.values() for track in tracks}
    usable = evidence.recordings[evidence.recordings["status"] == "ok"]
    rows = [
        [
            Cell(str(row["Id"])),
            Cell(str(row["subject"])),
            Cell(str(row["split"])),
            _value(row["duration"], 1),
            _count(row["segments"]),
            _count(row["labelled"]),
            _value(ccc.get(str(row["Id"])), 3),
            Cell("; ".join(row["remarks"])),
        ]
        for row in usable.to_dict("records")
    ]
    columns = [("recording", False), ("subject", False), ("split", False), ("sound [s]", True)]
    columns += [(name, True) for name in ("segments", "labelled", "CCC")] + [("remarks", False)]
    return Table("Every recording that could be used.", columns, rows, sortable=True)


def rejected_table(evidence: Evidence) -> Table:
    """Recordings set aside, with the reason."""
    rejected = evidence.recordings[evidence.recordings["status"] != "ok"]
    rows = [
        [Cell(str(row["Id"])), Cell(str(row["split"])), Cell(str(row["reason"]))]
        for row in rejected.to_dict("records")
    ]
    return Table("", [("recording", False), ("split", False), ("reason", False)], rows)


def seeds_table(history: pd.DataFrame) -> Table:
    """The best epoch of each seed."""
    rows = []
    for seed in history["seed"].unique():
        own = history[history["seed"] == seed]
        best = own.iloc[int(own["validation_ccc"].to_numpy().argmax())]
        rows.append(
            [
                Cell(str(seed)),
                _count(len(own)),
                _count(int(best["epoch"])),
                _value(best["validation_ccc"], 3),
                _value(best["validation_mse"], 4),
                _value(best["validation_mae"], 4),
                Cell(duration(float(own["seconds"].sum()))),
            ]
        )
    titles = ("epochs", "best epoch", "CCC, validation", "MSE", "MAE", "time")
    return Table("", [("seed", False), *((title, True) for title in titles)], rows)


def times_table(evidence: Evidence, seconds: Mapping[str, float]) -> Table:
    """Wall time and throughput of each stage; `seconds` adds what this report took itself."""
    rows = []
    for name, (title, did) in _work_done(evidence).items():
        if name not in evidence.stages:
            continue
        took = float(evidence.stages[name]["summary"].get("seconds", 0.0))
        amount, unit = did
        rate = f"{_rate(amount / took)} {unit}" if took > 0 else MISSING
        rows.append([Cell(title), Cell(duration(took)), Cell(rate)])
    rows += [[Cell(title), Cell(duration(took)), Cell(MISSING)] for title, took in seconds.items()]
    return Table("", [("stage", False), ("wall time", True), ("throughput", False)], rows)


def robustness_table(found: Robustness) -> Table:
    """Scores under each degradation."""
    rows = [
        [
            Cell(each.label),
            Cell(number(each.scores.ccc), each.scores.ccc, interval(each.scores.ccc_ci)),
            _value(each.scores.ccc - found.conditions[0].scores.ccc, 3),
            _value(each.scores.mse, 4),
            _value(each.scores.mae, 4),
        ]
        for each in found.conditions
    ]
    titles = ("CCC", "change", "MSE", "MAE")
    return Table("", [("condition", False), *((title, True) for title in titles)], rows)


def _work_done(evidence: Evidence) -> dict[StageName, tuple[str, tuple[float, str]]]:
    usable = evidence.recordings[evidence.recordings["status"] == "ok"]
    sound = float((usable["duration"] * (1 + usable["copies"])).sum())
    epochs = 0 if evidence.history is None else len(evidence.history)
    combinations = 0 if evidence.results is None else len(evidence.results)
    return {
        "segments": ("preprocess", (sound, "s of sound a second, augmented copies counted")),
        "train": ("train", (60 * epochs, "epochs a minute")),
        "features": ("extract", (len(evidence.features), "sequences a second")),
        "sweep": ("sweep", (60 * combinations, "combinations a minute")),
    }


def _rate(value: float) -> str:
    return count(value) if value >= 10 else number(value, 1)


def _scores_row(name: str, by_split: Mapping[str, ScoresJson | None]) -> list[Cell]:
    validation, test = by_split["validation"], by_split["test"]
    none: ScoresJson = {}
    return [
        Cell(name),
        _score(validation),
        _score(test),
        *(
            _value((test or none).get(key), 3 if key == "pcc" else 4)
            for key in ("pcc", "mse", "mae")
        ),
        Cell(MISSING) if test is None else _count(test["n"]),
    ]


def _score(scores: ScoresJson | None) -> Cell:
    if scores is None:
        return Cell(MISSING)
    return Cell(number(scores["ccc"]), scores["ccc"], interval(scores["ccc_ci"]))


def _value(value: float | None, digits: int) -> Cell:
    if value is None or not math.isfinite(value):
        return Cell(MISSING)
    return Cell(number(value, digits), float(value))


def _count(value: int) -> Cell:
    return Cell(count(value), float(value))


def _of_combination(results: pd.DataFrame, names: tuple[str, str, str]) -> float | None:
    rows = results[(results[["scaler", "reducer", "regressor"]] == names).all(axis=1)]
    return float(rows["ccc_test"].iloc[0]) if len(rows) else None
