"""Compare several runs, with intervals of their differences on the sequences they share."""

from __future__ import annotations

import itertools
import shlex
import warnings
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from valence import figures
from valence.config import Config, SweepConfig
from valence.errors import DamagedError, ForeignError, IncompatibleError, StaleError, UsageError
from valence.formatting import MISSING, Unit, count, interval, number, plural
from valence.metrics import ConstantWarning, Difference, Scores, paired_difference, score
from valence.report.analysis.results import Evidence, read_evidence
from valence.report.analysis.scores import SCORED
from valence.report.page.feature_sets import compared_feature_sets
from valence.report.page.render import Page, Section
from valence.report.page.tables import Cell, Table
from valence.report.page.wording import verdict
from valence.run import Run
from valence.stage import FORMAT, SET_SWEEP, Stage
from valence.storage.location import Location
from valence.sweep.features import Features
from valence.sweep.kept.serialization import Regressor, load_regressor

# Labels that differ by less than this were only rounded, so they count as the same label.
_SAME_LABEL = 1e-5


@dataclass(frozen=True)
class Compared:
    """Scores of several predictors on the sequences that all runs share.

    Attributes
    ----------
    scores
        Scores by the name of the run, the reference first.
    pairs
        CCC of the second run minus CCC of the first, for every pair `(first, second)`, in order.
    """

    scores: Mapping[str, Scores]
    pairs: Mapping[tuple[str, str], Difference]

    @property
    def reference(self) -> str:
        """Return the name of the first run."""
        return next(iter(self.scores))

    def less_reference(self, name: str) -> Difference | None:
        """Return how `name` differs from the reference, or None if it is the reference."""
        return self.pairs.get((self.reference, name))

    def to_json(self) -> dict[str, Any]:
        """Return the scores of the runs for `metrics.json`."""
        found = {}
        for name, scores in self.scores.items():
            less = self.less_reference(name)
            found[name] = {
                **scores.to_json(),
                "less_reference": None if less is None else less.to_json(),
            }
        return found

    def pairs_to_json(self) -> list[dict[str, Any]]:
        """Return the pairs for `metrics.json`."""
        return [
            {"first": first, "second": second, **found.to_json()}
            for (first, second), found in self.pairs.items()
        ]


def compare_runs(runs: Sequence[Run], out: Location, *, overwrite: bool = False) -> dict[str, Any]:
    """Write `report.html`, `metrics.json` and `figures/*.png` that compare runs.

    The first run is the reference, and each run is also compared with each other run. Only shared
    sequences count: every run must have the same recording, start and label. The deep models are
    compared, and so are the best regressors of the runs that have one. Swept feature sets are
    listed, each beside the deep model of its own run.

    Parameters
    ----------
    runs
        At least two runs, with features extracted.
    out
        Folder for the files, with its own `stage.json`.
    overwrite
        Whether to replace a comparison of other results, or another program's files of these
        names. The outputs of a run's stage are never replaced.

    Returns
    -------
    The content of `metrics.json`.

    Raises
    ------
    UsageError
        If there are fewer than two runs, if they predict different targets or share no sequence,
        or if `out` belongs to a run.
    StaleError
        If `out` holds other files and `overwrite` is False.
    MissingStageError
        If preprocessing, training or extraction of a run is not finished.
    DamagedError, ModelError
        If a file of a run, or the record of the comparison, is damaged; the message names the
        command that makes it again.
    """
    if len(runs) < 2:
        raise UsageError("One run was given. Expected at least two to compare.")
    evidence = [read_evidence(run, scores=False) for run in runs]
    targets = {each.target for each in evidence}
    if len(targets) > 1:
        raise UsageError(
            f"The runs predict {' and '.join(sorted(targets))} first. Expected one target in all; "
            "compare those that agree in model.targets."
        )
    names = _names(runs)
    command = shlex.join(["valence", "report", *(str(run.root) for run in runs), "--out", str(out)])
    stage, made_of = Stage("report", out, by=command), _made_of(evidence, names)
    _refuse(stage, made_of, overwrite=overwrite)
    shared = {
        split: dict(
            zip(names, _shared([each.features.of(split) for each in evidence]), strict=True)
        )
        for split in SCORED
    }
    settings = evidence[0].config.sweep
    deep = {
        split: _compare(
            {name: (part, part.prediction[:, 0]) for name, part in parts.items()}, settings
        )
        for split, parts in shared.items()
    }
    if not any(deep.values()):
        raise UsageError(
            "The runs share no labelled sequence: no recording, start and label stand in all. "
            "Compare runs of one corpus and one sequence.length."
        )
    best, remarks = _regressors(evidence, names)
    stage.begin(made_of, overwrite=overwrite, wipe=False)
    regressors = {
        split: _compare(
            {
                name: (parts[name], found.predict(parts[name].feature))
                for name, found in best.items()
            },
            settings,
        )
        for split, parts in shared.items()
    }
    page = _page(evidence, names, deep, regressors, remarks)
    for section in page.sections:
        for drawing in section.drawings:
            (out / "figures" / f"{drawing.name}.png").write_bytes(drawing.png())
    (out / "report.html").write_text(page.html())
    metrics = {
        "reference": names[0],
        "runs": {name: str(run.root) for name, run in zip(names, runs, strict=True)},
        **{split: None if each is None else each.to_json() for split, each in deep.items()},
        "pairs": {
            split: None if each is None else each.pairs_to_json() for split, each in deep.items()
        },
        "best_regressors": {
            split: None if each is None else {"runs": each.to_json(), "pairs": each.pairs_to_json()}
            for split, each in regressors.items()
        },
        **_feature_sets_json(evidence, names),
    }
    (out / "metrics.json").write_json(metrics)
    stage.finish({})
    return metrics


def _made_of(evidence: Sequence[Evidence], names: Sequence[str]) -> dict[str, Any]:
    return {
        "compared": {
            name: {
                **{
                    stage: record["fingerprint"]
                    for stage, record in each.stages.items()
                    if stage != "report"
                },
                **{f"{SET_SWEEP}{sweep.name}": sweep.fingerprint for sweep in each.set_sweeps},
            }
            for name, each in zip(names, evidence, strict=True)
        }
    }


def _feature_sets_json(evidence: Sequence[Evidence], names: Sequence[str]) -> dict[str, Any]:
    """Return the swept feature sets of each run; nothing if no run has any."""
    found = {
        name: [sweep.to_json() for sweep in each.set_sweeps]
        for name, each in zip(names, evidence, strict=True)
        if each.set_sweeps
    }
    return {"feature_sets": found} if found else {}


def _page(
    evidence: Sequence[Evidence],
    names: Sequence[str],
    deep: Mapping[str, Compared | None],
    regressors: Mapping[str, Compared | None],
    remarks: Sequence[str],
) -> Page:
    target, unit = evidence[0].target, evidence[0].unit
    of_sets = compared_feature_sets(evidence, names)
    sections = [
        _result("result", "Result", target, deep, unit=unit),
        _result(
            "regressors",
            "Best regressors",
            target,
            regressors,
            remarks,
            unit=unit,
            chosen_by={"validation", *(each.select_on for each in evidence if each.selection)},
        ),
        *([] if of_sets is None else [of_sets]),
        _settings(evidence, names),
    ]
    return Page(
        title="Comparison – valence",
        heading=f"{plural(len(names), 'run')} side by side",
        lead=f"Predictions of {target} on the sequences that all of them share. The reference is "
        f"{names[0]}.",
        notices=_notices(evidence, names),
        sections=sections,
        footer="The numbers on this page stand in metrics.json beside it.",
    )


def _notices(evidence: Sequence[Evidence], names: Sequence[str]) -> list[str]:
    """List the facts that a reader must know before any number, and the runs they hold for."""

    def of(holds: Callable[[Evidence], bool]) -> str:
        return ", ".join(name for name, each in zip(names, evidence, strict=True) if holds(each))

    notices = []
    if any(each.synthetic for each in evidence):
        notices.append("Synthetic sound: these figures say nothing about people.")
    unknown: dict[str, list[str]] = {}
    for name, each in zip(names, evidence, strict=True):
        if remark := each.subjects_known["remark"]:
            unknown.setdefault(remark, []).append(name)
    notices += [f"In {', '.join(them)}, {remark}." for remark, them in unknown.items()]
    if overlapping := of(lambda each: each.config.split.allow_subject_overlap):
        notices.append(
            f"Subjects may stand in more than one split (split.allow_subject_overlap) in "
            f"{overlapping}: those scores do not speak of unknown voices."
        )
    if by_test := of(lambda each: each.selection is not None and each.select_on == "test"):
        notices.append(
            f"The best regressor was chosen by its test score (sweep.select_on = test) in "
            f"{by_test}: that score flatters it."
        )
    return notices


def _refuse(stage: Stage, made_of: Mapping[str, Any], *, overwrite: bool) -> None:
    """Raise an error rather than replace files that no comparison wrote."""
    try:
        record = stage.record()
        foreign = record is not None and "compared" not in record["made_of"]
    except ForeignError:
        record, foreign = None, True
    except DamagedError:
        if not (overwrite or _is_of_run(stage.folder)):
            raise
        record, foreign = None, False
    if foreign or (record is None and _is_of_run(stage.folder)):
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


def _is_of_run(folder: Location) -> bool:
    """Whether a folder without a sound record is the place of a run's stage."""
    return folder.name in FORMAT and Run(folder.parent).is_one()


def _names(runs: Sequence[Run]) -> list[str]:
    """Name the runs by the ends of their paths, as short as distinct names allow."""
    paths = [PurePosixPath(run.root.path).parts for run in runs]
    for kept in range(1, max(len(parts) for parts in paths) + 1):
        names = ["/".join(parts[-kept:]) for parts in paths]
        if len(set(names)) == len(names):
            return names
    raise UsageError("The same run was given twice. Expected different ones to compare.")


def _compare(
    predicted: Mapping[str, tuple[Features, NDArray[Any]]], settings: SweepConfig
) -> Compared | None:
    """Score the predictions `[rows]` of each run on the shared rows, and compare each pair."""
    if not predicted:
        return None
    rows, _ = next(iter(predicted.values()))
    if not len(rows):
        return None
    y, predictions = rows.target[:, 0], {name: found for name, (_, found) in predicted.items()}
    pairs = list(itertools.combinations(predictions, 2))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConstantWarning)
        return Compared(
            scores={
                name: score(
                    y,
                    prediction,
                    subjects=rows.subject,
                    bootstrap=settings.bootstrap,
                )
                for name, prediction in predictions.items()
            },
            pairs={
                (first, second): paired_difference(
                    y,
                    predictions[first],
                    predictions[second],
                    rows.subject,
                    bootstrap=settings.bootstrap,
                    seed=settings.seed,
                    # The more pairs there are, the more of them differ by chance.
                    comparisons=len(pairs),
                )
                for first, second in pairs
            },
        )


def _regressors(
    evidence: Sequence[Evidence], names: Sequence[str]
) -> tuple[dict[str, Regressor], list[str]]:
    """Load the best regressor of each run; the remarks say why a run's is not compared."""
    found, remarks = {}, []
    for name, each in zip(names, evidence, strict=True):
        if each.results is None:
            remarks.append(f"{name}: {each.why_no_sweep}")
            continue
        try:
            regressor = load_regressor(each.run.folder("sweep") / "best", each.stages["sweep"])
        except IncompatibleError as error:
            # The file is whole, so the other regressors are still worth a comparison.
            remarks.append(f"{name}'s best regressor is not compared: {error}")
            continue
        if regressor.about["target"] == each.target:
            found[name] = regressor
        else:
            remarks.append(f"{name}'s best regressor predicts {regressor.about['target']}.")
    return found, remarks


def _shared(parts: Sequence[Features]) -> list[Features]:
    """Select the rows that all parts share, in the same order."""
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


def _result(
    id: str,
    title: str,
    target: str,
    compared: Mapping[str, Compared | None],
    remarks: Sequence[str] = (),
    *,
    unit: Unit,
    chosen_by: Collection[str] = ("validation",),
) -> Section:
    """Show a comparison; splits in `chosen_by` were used for choosing and give no verdict."""
    section = Section(id, title)
    for remark in remarks:
        section.say(remark)
    for split, runs in compared.items():
        if runs is None:
            if any(compared.values()):
                section.say(f"There is nothing to compare on the {split} set.")
            continue
        section.head(split.capitalize())
        n = runs.scores[runs.reference].n
        section.show(
            figures.intervals(
                f"comparison-{split}" if id == "result" else f"comparison-{id}-{split}",
                [figures.Bar(name, each.ccc, each.ccc_ci) for name, each in runs.scores.items()],
                title="run",
                target=target,
            ),
            f"CCC on {plural(n, 'shared sequence')} of the {split} set, with 95 % intervals over "
            f"{unit.many} where there are enough. Overlapping intervals do not mean that runs are "
            f"equal: the difference below compares each {unit.one} with itself.",
        )
        section.tabulate(_scores_table(runs))
        if split == "validation":
            section.say("Each was chosen by its score on these same rows, which flatters it.")
        if runs.pairs:
            section.tabulate(_pairs_table(runs, unit, chosen=split in chosen_by))
    return section


def _scores_table(runs: Compared) -> Table:
    rows = []
    for name, scores in runs.scores.items():
        less = runs.less_reference(name)
        rows.append(
            [
                Cell(name),
                Cell(number(scores.ccc), scores.ccc, interval(scores.ccc_ci)),
                Cell(MISSING) if less is None else _difference(less),
                *(
                    Cell(number(value, digits), value)
                    for value, digits in ((scores.pcc, 3), (scores.mse, 4), (scores.mae, 4))
                ),
                Cell(count(scores.n), scores.n),
            ]
        )
    titles = ("CCC", f"less {runs.reference}'s", "PCC", "MSE", "MAE", "n")
    return Table("", [("run", False), *((title, True) for title in titles)], rows, sortable=True)


def _pairs_table(runs: Compared, unit: Unit, *, chosen: bool) -> Table:
    """Show each pair; `chosen` rows were used for choosing, so they allow no verdict."""
    rows = [
        [
            Cell(f"{second} less {first}"),
            _difference(found),
            Cell(
                "No verdict is given: these same rows chose what is compared, which flatters it."
                if chosen and found.ci is not None
                else verdict(second, first, found.to_json(), unit)
            ),
        ]
        for (first, second), found in runs.pairs.items()
    ]
    columns = [("runs", False), ("CCC", True), ("what the interval says", False)]
    return Table(
        "Every two runs, paired; the intervals hold for all pairs together at 95 %.", columns, rows
    )


def _difference(found: Difference) -> Cell:
    return Cell(number(found.difference), found.difference, interval(found.ci))


def _settings(evidence: Sequence[Evidence], names: Sequence[str]) -> Section:
    section = Section("settings", "What differs")
    leaves = [_leaves(each.config) for each in evidence]
    # The configuration of a run may lack a section that another one has.
    known = dict.fromkeys(key for each in leaves for key in each)
    keys = [key for key in known if len({each.get(key, "None") for each in leaves}) > 1]
    if not keys:
        section.say("The runs have the same configuration.")
        return section
    rows = [[Cell(key), *(Cell(each.get(key, "None")) for each in leaves)] for key in keys]
    section.tabulate(Table("", [("key", False), *((name, False) for name in names)], rows))
    return section


def _leaves(config: Config) -> dict[str, str]:
    return {
        f"{section}.{key}": str(value)
        for section, values in config.model_dump(mode="json").items()
        for key, value in values.items()
    }
