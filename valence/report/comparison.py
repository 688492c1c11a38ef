"""Several runs side by side, with intervals of their differences on the sequences they share."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from valence import figures
from valence.config import Config
from valence.errors import StaleError, UsageError
from valence.features import Features
from valence.metrics import ConstantWarning, Difference, Scores, paired_difference, score
from valence.report.evidence import Evidence, read_evidence
from valence.report.findings import SCORED
from valence.report.page import Page, Section
from valence.report.tables import Cell, Table
from valence.report.verdict import verdict
from valence.run import Run, Stage
from valence.storage import Location
from valence.words import MISSING, count, interval, number, plural

# Labels that differ by less were rounded, not annotated anew.
_SAME_LABEL = 1e-5


@dataclass(frozen=True)
class Compared:
    """A run's scores on the sequences that all runs share, and how they differ from the first's."""

    name: str
    scores: Scores
    difference: Difference | None


def compare_runs(runs: Sequence[Run], out: Location, *, overwrite: bool = False) -> dict[str, Any]:
    """Write `report.html`, `metrics.json` and `figures/*.png` that set runs side by side.

    The first run is the reference. Only sequences count that every run predicted and that have the
    same label in all: the same recording, start and value.

    Parameters
    ----------
    runs
        At least two, their features extracted.
    out
        Folder for the files, with a `stage.json` of its own.
    overwrite
        Whether a comparison of other results, or another program's files of these names, may be
        replaced. The outputs of a run's stage never are.

    Returns
    -------
    The content of `metrics.json`.

    Raises
    ------
    UsageError
        If there are fewer than two runs, they predict different targets, or share no sequence, or
        if `out` belongs to a run.
    StaleError
        If other files stand in `out` and `overwrite` is False.
    MissingStageError
        If one of them is not that far.
    """
    if len(runs) < 2:
        raise UsageError("One run was given. Expected at least two to compare.")
    evidence = [read_evidence(run) for run in runs]
    targets = {each.target for each in evidence}
    if len(targets) > 1:
        raise UsageError(
            f"The runs predict {' and '.join(sorted(targets))} first. Expected one target in all; "
            "compare those that agree in model.targets."
        )
    names = _names(runs)
    stage = Stage("report", out)
    made_of = {
        "compared": {
            name: {
                stage: record["fingerprint"]
                for stage, record in each.stages.items()
                if stage != "report"
            }
            for name, each in zip(names, evidence, strict=True)
        }
    }
    _refuse(stage, made_of, overwrite=overwrite)
    compared = {split: _compare(evidence, names, split) for split in SCORED}
    if not any(compared.values()):
        raise UsageError(
            "The runs share no labelled sequence: no recording, start and label stand in all. "
            "Compare runs of one corpus and one sequence.length."
        )
    stage.begin(made_of, overwrite=overwrite, wipe=False)
    sections = [_result(evidence, compared), _settings(evidence, names)]
    for section in sections:
        for drawing in section.drawings:
            (out / "figures" / f"{drawing.name}.png").write_bytes(drawing.png())
    page = Page(
        title="Comparison – valence",
        heading=f"{plural(len(runs), 'run')} side by side",
        lead=f"Predictions of {evidence[0].target} on the sequences that all of them share. The "
        f"reference is {names[0]}.",
        notices=["Synthetic sound: these figures say nothing about people."]
        if any(each.synthetic for each in evidence)
        else [],
        sections=sections,
        footer="The numbers on this page stand in metrics.json beside it.",
    )
    (out / "report.html").write_text(page.html())
    metrics = {
        "reference": names[0],
        "runs": {name: str(run.root) for name, run in zip(names, runs, strict=True)},
        **{split: _json(each) for split, each in compared.items()},
    }
    (out / "metrics.json").write_json(metrics)
    stage.finish({})
    return metrics


def _refuse(stage: Stage, made_of: Mapping[str, Any], *, overwrite: bool) -> None:
    """See that nothing in the folder is replaced that is not a comparison's own."""
    record = stage.record()
    if record is not None and "compared" not in record["made_of"]:
        raise UsageError(
            f"'{stage.folder}' holds a stage of a run. Choose a folder of its own for the "
            "comparison."
        )
    standing = [
        name
        for name in ("report.html", "metrics.json", "figures")
        if (stage.folder / name).exists()
    ]
    if record is None and standing and not overwrite:
        raise StaleError(
            f"'{stage.folder}' holds {' and '.join(standing)} from elsewhere. Add --overwrite to "
            "replace them, or choose another folder."
        )


def _names(runs: Sequence[Run]) -> list[str]:
    """What tells the runs apart: as much of the end of each path as it takes."""
    paths = [PurePosixPath(run.root.path).parts for run in runs]
    for kept in range(1, max(len(parts) for parts in paths) + 1):
        names = ["/".join(parts[-kept:]) for parts in paths]
        if len(set(names)) == len(names):
            return names
    raise UsageError("The same run was given twice. Expected different ones to compare.")


def _compare(
    evidence: Sequence[Evidence], names: Sequence[str], split: str
) -> list[Compared] | None:
    parts = _shared([each.features.of(split) for each in evidence])
    reference = parts[0]
    if not len(reference):
        return None
    y = reference.target[:, 0]
    sweep = evidence[0].config.sweep
    compared = []
    for name, part in zip(names, parts, strict=True):
        prediction = part.prediction[:, 0]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConstantWarning)
            scores = score(
                y,
                prediction,
                subjects=reference.subject,
                bootstrap=sweep.bootstrap,
                seed=sweep.seed,
            )
            difference = None
            if part is not reference:
                difference = paired_difference(
                    y,
                    reference.prediction[:, 0],
                    prediction,
                    reference.subject,
                    bootstrap=sweep.bootstrap,
                    seed=sweep.seed,
                )
        compared.append(Compared(name, scores, difference))
    return compared


def _shared(parts: Sequence[Features]) -> list[Features]:
    """The rows that all have, in the same order."""
    keys = [
        {
            (str(recording), int(start)): row
            for row, (recording, start) in enumerate(zip(part.recording, part.start, strict=True))
        }
        for part in parts
    ]
    first = parts[0]
    chosen = [
        key
        for key, row in keys[0].items()
        if all(
            key in other
            and abs(float(part.target[other[key], 0] - first.target[row, 0])) < _SAME_LABEL
            for other, part in zip(keys[1:], parts[1:], strict=True)
        )
    ]

    def rows(index: Mapping[tuple[str, int], int]) -> NDArray[np.intp]:
        return np.array([index[key] for key in chosen], np.intp)

    return [part.rows(rows(index)) for part, index in zip(parts, keys, strict=True)]


def _result(evidence: Sequence[Evidence], compared: Mapping[str, list[Compared] | None]) -> Section:
    section = Section("result", "Result")
    for split, runs in compared.items():
        if runs is None:
            section.say(f"The runs share no labelled sequence of the {split} set.")
            continue
        section.head(split.capitalize())
        section.show(
            figures.intervals(
                f"comparison-{split}",
                [figures.Bar(each.name, each.scores.ccc, each.scores.ccc_ci) for each in runs],
                title="run",
                target=evidence[0].target,
            ),
            f"CCC on {plural(runs[0].scores.n, 'shared sequence')} of the {split} set, with 95 % "
            "intervals over subjects. Overlapping intervals do not mean that runs are equal: the "
            "difference below is of the same resampled subjects in both.",
        )
        section.tabulate(_scores_table(runs))
        section.say(" ".join(_verdicts(runs)))
    return section


def _scores_table(runs: Sequence[Compared]) -> Table:
    rows = []
    for each in runs:
        scores, difference = each.scores, each.difference
        rows.append(
            [
                Cell(each.name),
                Cell(number(scores.ccc), scores.ccc, interval(scores.ccc_ci)),
                Cell(MISSING)
                if difference is None
                else Cell(
                    number(difference.difference), difference.difference, interval(difference.ci)
                ),
                *(
                    Cell(number(value, digits), value)
                    for value, digits in ((scores.pcc, 3), (scores.mse, 4), (scores.mae, 4))
                ),
                Cell(count(scores.n), scores.n),
            ]
        )
    titles = ("CCC", "less the reference's", "PCC", "MSE", "MAE", "n")
    return Table("", [("run", False), *((title, True) for title in titles)], rows, sortable=True)


def _verdicts(runs: Sequence[Compared]) -> Iterable[str]:
    for each in runs[1:]:
        assert each.difference is not None, "all but the reference have one"
        yield verdict(each.name, runs[0].name, each.difference.ci)


def _settings(evidence: Sequence[Evidence], names: Sequence[str]) -> Section:
    section = Section("settings", "What differs")
    leaves = [_leaves(each.config) for each in evidence]
    keys = [key for key in leaves[0] if len({each[key] for each in leaves}) > 1]
    if not keys:
        section.say("The runs have the same configuration.")
        return section
    rows = [[Cell(key), *(Cell(each[key]) for each in leaves)] for key in keys]
    section.tabulate(Table("", [("key", False), *((name, False) for name in names)], rows))
    return section


def _leaves(config: Config) -> dict[str, str]:
    return {
        f"{section}.{key}": str(value)
        for section, values in config.model_dump(mode="json").items()
        for key, value in values.items()
    }


def _json(runs: Sequence[Compared] | None) -> dict[str, Any] | None:
    if runs is None:
        return None
    return {
        each.name: each.scores.to_json()
        | {"less_reference": None if each.difference is None else each.difference.to_json()}
        for each in runs
    }
