"""Build the tables of a report page, with cells as text and a value to sort by."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from valence.figures import Shares
from valence.formatting import MISSING, Unit, count, duration, interval, number, spread
from valence.report.analysis.attention import Examples
from valence.report.analysis.results import Evidence
from valence.report.analysis.robustness import Robustness
from valence.report.analysis.runtimes import Cost
from valence.report.analysis.scores import (
    PAPER_DEEP,
    PAPER_PCA_BELOW,
    PAPER_REGRESSORS,
    PAPER_XGBOOST,
    SCORED,
    STEPS,
    Findings,
    split_rows,
    sweep_rows,
)
from valence.report.analysis.seeds import SCORES, Seeds
from valence.uncertainty import FEWEST


@dataclass(frozen=True)
class Cell:
    """The content of a cell: its text, the value to sort by, a smaller text after it, and a link.

    The link is a relative path that is escaped as in a URL, or an empty string.
    """

    text: str
    value: float | str | None = None
    aside: str = ""
    link: str = ""


@dataclass(frozen=True)
class Table:
    """A table; numeric columns are aligned right and sort by value.

    Attributes
    ----------
    caption
        Caption above the table.
    columns
        Title of each column, and whether the column is numeric.
    rows
        Cells; the first cell of each row is its header.
    sortable
        Whether a reader can sort the table.
    """

    caption: str
    columns: Sequence[tuple[str, bool]]
    rows: Sequence[Sequence[Cell]]
    sortable: bool = False


ScoresJson = Mapping[str, Any]


def results_table(evidence: Evidence, findings: Findings) -> Table:
    """List the deep model, the best regressor and the baselines, one row each."""
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
    return Table(
        f"CCC with its 95 % interval over {evidence.unit.many}, from {FEWEST} of them on; n counts "
        "sequences.",
        columns,
        rows,
    )


_BASELINES = {
    "constant": "Baseline: always the training mean",
    "functionals": "Baseline: ridge on statistics of the mel",
}


def paper_table(evidence: Evidence, findings: Findings) -> Table:
    """Show this run beside the study's figures, on test sets chosen by the same protocol."""
    test = findings.deep[evidence.target]["test"]
    ours = {} if test is None else test.to_json()
    rows = [
        [
            Cell("Deep model"),
            *(
                cell
                for name, digits in _STUDIED
                for cell in (
                    value_cell(PAPER_DEEP[name], digits),
                    value_cell(ours.get(name), digits),
                )
            ),
        ]
    ]
    results = evidence.results
    for names, ccc in PAPER_REGRESSORS.items():
        chosen = (
            None if results is None else results[(results[list(STEPS)] == list(names)).all(axis=1)]
        )
        rows.append([Cell(" + ".join(names)), *_beside(value_cell(ccc, 3), chosen)])
    families = (
        ("best with PCA", "reducer", "pca", Cell(f"< {PAPER_PCA_BELOW:g}", PAPER_PCA_BELOW)),
        ("best with XGBoost", "regressor", "xgboost", value_cell(PAPER_XGBOOST, 2)),
    )
    for title, step, prefix, theirs in families:
        chosen = None if results is None else results[results[step].str.startswith(prefix)]
        rows.append([Cell(title), *_beside(theirs, chosen)])
    columns = [
        (f"{name}, {whose}", True)
        for name in ("CCC", "MSE", "MAE")
        for whose in ("study", "this run")
    ]
    return Table(
        "Scores on the test set. The study's recordings are those of MuSe: on another corpus the "
        "scores cannot be compared. The best with PCA and with XGBoost are chosen by their test "
        "scores, as in the study.",
        [("", False), *columns],
        rows,
    )


_STUDIED = (("ccc", 3), ("mse", 4), ("mae", 4))


def _beside(theirs: Cell, chosen: pd.DataFrame | None) -> list[Cell]:
    """Show the study's CCC beside the test scores of the best row in `chosen`.

    The study gives no MSE or MAE for its regressors.
    """
    scored = None if chosen is None else chosen.dropna(subset=["ccc_test"])
    best = None
    if scored is not None and len(scored):
        best = scored.iloc[int(scored["ccc_test"].to_numpy().argmax())]
    cells = []
    for place, (name, digits) in enumerate(_STUDIED):
        cells.append(Cell(MISSING) if place else theirs)
        cells.append(value_cell(None if best is None else float(best[f"{name}_test"]), digits))
    return cells


def sweep_table(evidence: Evidence) -> Table:
    """List every combination of the sweep, sortable, with intervals where they are known."""
    rows = sweep_rows(evidence)
    has_status = any(row.get("status", "ok") != "ok" or row.get("reason") for row in rows)
    cells = []
    for row in rows:
        scores = {split: row[f"ccc_{split}_ci"] for split in SCORED}
        cells.append(
            [
                *(Cell(str(row[name])) for name in STEPS),
                *(value_cell(row[f"ccc_{split}"], 4, interval(scores[split])) for split in SCORED),
                *(value_cell(row[name], 4) for name in ("mse_test", "mae_test")),
                value_cell(row["seconds"], 2),
                Cell(str(row.get("engine") or MISSING)),
                Cell(MISSING) if row.get("rows") is None else count_cell(row["rows"]),
                *(
                    [Cell(str(row.get("status", "ok")), aside=str(row.get("reason") or ""))]
                    if has_status
                    else []
                ),
            ]
        )
    columns = [(name, False) for name in STEPS]
    columns += [(title, True) for title in ("CCC, validation", "CCC, test", "MSE, test")]
    columns += [("MAE, test", True), ("seconds", True), ("engine", False), ("rows fitted on", True)]
    columns += [("status", False)] if has_status else []
    limit = (evidence.selection or {}).get("svr_max_rows")
    caption = (
        f"All {len(rows)} combinations; 95 % intervals over {evidence.unit.many} for the best, "
        f"where there are at least {FEWEST} of them."
    )
    if limit is not None:
        caption += f" SVR and NuSVR were fitted on at most {count(limit)} rows"
        caption += " (sweep.svr_max_rows)."
    return Table(caption, columns, cells, sortable=True)


def subjects_table(findings: Findings, unit: Unit) -> Table:
    """List the scores of each subject, or of each `unit` in its place, sortable."""
    columns = [(unit.one, False), ("split", False)]
    columns += [(name, True) for name in ("CCC", "PCC", "MSE", "MAE", "sequences")]
    rows = [
        [
            Cell(subject),
            Cell(split),
            *(value_cell(getattr(scores, name), 3) for name in ("ccc", "pcc", "mse", "mae")),
            count_cell(scores.n),
        ]
        for split in SCORED
        for subject, scores in findings.subjects[split].items()
    ]
    return Table(f"Scores of each {unit.one}.", columns, rows, sortable=True)


def splits_table(evidence: Evidence) -> Table:
    """Count the recordings and sequences of each split, and the rejected recordings."""
    # If subjects are unknown, their number would only repeat the number of recordings.
    known = evidence.unit.one == "subject"
    rows = [
        [
            Cell(row["split"]),
            *([count_cell(row["subjects"])] if known else []),
            count_cell(row["recordings"]),
            Cell(duration(row["seconds"]), row["seconds"]),
            *(count_cell(row[name]) for name in ("segments", "sequences", "rejected")),
        ]
        for row in split_rows(evidence)
    ]
    titles = ["recordings", "sound", "segments", "sequences", "rejected recordings"]
    if known:
        titles.insert(0, evidence.unit.many)
    return Table("", [("split", False), *((title, True) for title in titles)], rows)


def recordings_table(evidence: Evidence, findings: Findings) -> Table:
    """List every usable recording, sortable."""
    known = evidence.unit.one == "subject"
    ccc = {track.name: track.ccc for tracks in findings.tracks.values() for track in tracks}
    rows = [
        [
            Cell(str(row["Id"])),
            *([Cell(str(row["subject"]))] if known else []),
            Cell(str(row["split"])),
            value_cell(row["duration"], 1),
            count_cell(row["segments"]),
            count_cell(row["labelled"]),
            value_cell(ccc.get(str(row["Id"])), 3),
            Cell("; ".join(row["remarks"])),
        ]
        for row in evidence.usable.to_dict("records")
    ]
    columns = [("recording", False), *([("subject", False)] if known else []), ("split", False)]
    columns += [("sound [s]", True)]
    columns += [(name, True) for name in ("segments", "labelled", "CCC")] + [("remarks", False)]
    return Table("Every recording that could be used.", columns, rows, sortable=True)


def rejected_table(evidence: Evidence) -> Table:
    """List the rejected recordings, with the reasons."""
    rows = [
        [Cell(str(row["Id"])), Cell(str(row["split"])), Cell(str(row["reason"]))]
        for row in evidence.rejected.to_dict("records")
    ]
    return Table("", [("recording", False), ("split", False), ("reason", False)], rows)


def seeds_table(seeds: Seeds) -> Table:
    """List the best epoch of each seed, then mean and spread over the seeds."""
    digits = dict(zip(SCORES, (3, 4, 4), strict=True))
    rows = [
        [
            Cell(str(row["seed"])),
            count_cell(row["epochs"]),
            count_cell(row["epoch"]),
            *(value_cell(row[name], places) for name, places in digits.items()),
            Cell(duration(row["seconds"]), row["seconds"]),
        ]
        for row in seeds.best
    ]
    if seeds.sd is not None:
        means = [
            Cell(spread(seeds.mean[name], seeds.sd[name], places), seeds.mean[name])
            for name, places in digits.items()
        ]
        rows.append([Cell("mean ± SD"), Cell(""), Cell(""), *means, Cell("")])
    titles = ("epochs", "best epoch", "CCC, validation", "MSE", "MAE", "time")
    return Table("", [("seed", False), *((title, True) for title in titles)], rows)


def epochs_table(history: pd.DataFrame) -> Table:
    """List every epoch of every seed, sortable: the data of the learning curves."""
    shown = {
        "train_loss": ("loss, training", 4),
        "train_ccc": ("CCC, training", 4),
        "validation_ccc": ("CCC, validation", 4),
        "validation_mse": ("MSE, validation", 4),
        "validation_mae": ("MAE, validation", 4),
        "learning_rate": ("learning rate", 6),
        "seconds": ("seconds", 1),
    }
    rows = [
        [
            Cell(str(row["seed"])),
            count_cell(row["epoch"]),
            *(value_cell(row[name], digits) for name, (_, digits) in shown.items()),
        ]
        for row in history.to_dict("records")
    ]
    columns = [("seed", False), ("epoch", True), *((title, True) for title, _ in shown.values())]
    return Table("Every epoch.", columns, rows, sortable=True)


def attention_table(
    examples: Examples, weights: NDArray[np.float32], *, segment_seconds: float
) -> Table:
    """List the attention weight of every segment of the example sequence, `[segments]`."""
    rows = []
    for place, weight in enumerate(weights.tolist()):
        start = examples.start_seconds + place * segment_seconds
        rows.append([Cell(number(start, 1)), value_cell(100 * weight, 3)])
    return Table(
        f"Attention over the sequence of {examples.recording}.",
        [("segment at [s]", False), ("attention [%]", True)],
        rows,
        sortable=True,
    )


def distribution_table(shares: Shares) -> Table:
    """Show the share of each split's sequences in each bin, annotated and predicted."""
    columns = [("from", False), ("to", True)]
    for split in shares.n:
        columns += [(f"{split}, annotated [%]", True), (f"{split}, predicted [%]", True)]
    rows = []
    for place, (low, high) in enumerate(itertools.pairwise(shares.edges.tolist())):
        cells = [Cell(number(low, 3)), value_cell(high, 3)]
        for split in shares.n:
            cells.append(value_cell(float(shares.label[split][place]), 1))
            cells.append(value_cell(float(shares.prediction[split][place]), 1))
        rows.append(cells)
    return Table("Share of sequences by value.", columns, rows)


def times_table(costs: Sequence[Cost]) -> Table:
    """List wall time and throughput of each stage."""
    rows = [
        [Cell(cost.stage), Cell(duration(cost.seconds), cost.seconds), Cell(cost.rate or MISSING)]
        for cost in costs
    ]
    return Table("", [("stage", False), ("wall time", True), ("throughput", False)], rows)


def robustness_table(found: Robustness) -> Table:
    """List the scores under each condition."""
    rows = [
        [
            Cell(each.label),
            Cell(number(each.scores.ccc), each.scores.ccc, interval(each.scores.ccc_ci)),
            value_cell(found.change(each), 3),
            value_cell(each.scores.mse, 4),
            value_cell(each.scores.mae, 4),
        ]
        for each in found.conditions
    ]
    titles = ("CCC", "change", "MSE", "MAE")
    return Table("", [("condition", False), *((title, True) for title in titles)], rows)


def _scores_row(name: str, by_split: Mapping[str, ScoresJson | None]) -> list[Cell]:
    validation, test = by_split["validation"], by_split["test"]
    none: ScoresJson = {}
    return [
        Cell(name),
        score_cell(validation),
        score_cell(test),
        *(
            value_cell((test or none).get(key), 3 if key == "pcc" else 4)
            for key in ("pcc", "mse", "mae")
        ),
        Cell(MISSING) if test is None else count_cell(test["n"]),
    ]


def score_cell(scores: ScoresJson | None) -> Cell:
    """Show a CCC with its interval."""
    if scores is None:
        return Cell(MISSING)
    return Cell(number(scores["ccc"]), scores["ccc"], interval(scores["ccc_ci"]))


def value_cell(value: float | None, digits: int, aside: str = "") -> Cell:
    """Show a number; a dash if there is none."""
    if value is None or not math.isfinite(value):
        return Cell(MISSING)
    return Cell(number(value, digits), float(value), aside)


def count_cell(value: int) -> Cell:
    """Show a whole number."""
    return Cell(count(value), float(value))
