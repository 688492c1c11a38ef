"""Show the best of each feature set beside the deep model, in one table."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from valence.formatting import MISSING, interval, number
from valence.report.analysis.feature_sets import SetSweep
from valence.report.analysis.results import Evidence
from valence.report.analysis.scores import STEPS, Findings
from valence.report.page.render import Section
from valence.report.page.tables import Cell, Table, count_cell, score_cell
from valence.report.page.wording import verdict
from valence.sweep.feature_sets import remarks_on
from valence.uncertainty import FEWEST

_MEL = "Mean and standard deviation of the mel"


def feature_sets(evidence: Evidence, findings: Findings) -> Section | None:
    """Build the section on feature sets; None for a run on which none was swept."""
    if not evidence.set_sweeps and not evidence.unused_set_sweeps:
        return None
    section = Section("feature-sets", "Feature sets beside the deep model")
    split = findings.headline
    if evidence.set_sweeps:
        section.tabulate(feature_sets_table(evidence, findings))
    for each in evidence.set_sweeps:
        section.say(f"{each.name}: {_difference_in_words(each, split, evidence)}")
        for remark in remarks_on(each.about):
            section.say(f"Remark on {each.name}: {remark}.")
    for sentence in evidence.unused_set_sweeps:
        section.say(sentence)
    return section


def feature_sets_table(evidence: Evidence, findings: Findings) -> Table:
    """List the deep model, the best on its features, and the best on each set, one row each."""
    split = findings.headline
    of_deep = findings.deep[evidence.target]
    deep = {part: None if s is None else s.to_json() for part, s in of_deep.items()}
    rows = [_row("Deep model", "", deep, None, split)]
    selection = evidence.selection
    if selection is not None:
        best = selection["best"]
        regressor = " + ".join(best[step] for step in STEPS)
        rows.append(_row("Deep features", regressor, best, selection["paired"][split], split))
        if (mel := selection["baselines"].get("functionals")) is not None:
            less = _turned((selection.get("deep_less_baseline") or {})["functionals"][split])
            rows.append(_row(_MEL, "ridge", mel, less, split))
    for each in evidence.set_sweeps:
        paired, chosen_on = each.selection["paired"][split], each.selection["select_on"]
        row = _row(each.name, each.regressor, each.selection["best"], paired, split)
        if chosen_on != evidence.select_on:
            row[1] = Cell(each.regressor, aside=f"chosen by {chosen_on} CCC")
        rows.append(row)
    columns = [("features", False), ("regressor", False)]
    columns += [("CCC, validation", True), ("CCC, test", True)]
    columns += [(f"less the deep model, {split}", True), (f"n, {split}", True)]
    return Table(_caption(evidence), columns, rows)


def _caption(evidence: Evidence) -> str:
    text = (
        f"CCC with its 95 % interval over {evidence.unit.many}, from {FEWEST} of them on; n counts "
        "sequences. A set is scored on the sequences that it describes, and its difference is "
        "taken to the deep model on the same ones. Each best is chosen by "
        f"{evidence.select_on} CCC."
    )
    bound: dict[str, list[str]] = {}
    for each in evidence.set_sweeps:
        if each.licence is not None:
            bound.setdefault(each.licence, []).append(each.name)
    for licence, names in bound.items():
        text += f" Licence of {', '.join(names)}: {licence}."
    return text


def _row(
    name: str,
    regressor: str,
    scores: Mapping[str, Any],
    paired: Mapping[str, Any] | None,
    split: str,
) -> list[Cell]:
    own = scores[split]
    return [
        Cell(name),
        Cell(regressor),
        score_cell(scores["validation"]),
        score_cell(scores["test"]),
        Cell(MISSING)
        if paired is None
        else Cell(number(paired["difference"]), paired["difference"], interval(paired["ci"])),
        Cell(MISSING) if own is None else count_cell(own["n"]),
    ]


def _turned(difference: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """Turn the difference of two CCCs round."""
    if difference is None:
        return None
    ci = difference["ci"]
    turned = None if ci is None else (-ci[1], -ci[0])
    return {**difference, "difference": -difference["difference"], "ci": turned}


def _difference_in_words(each: SetSweep, split: str, evidence: Evidence) -> str:
    paired = each.selection["paired"][split]
    if paired is None:
        return f"the {split} set has no sequence that it describes."
    ends = f" {interval(paired['ci'])}" if paired["ci"] else ""
    text = (
        f"in {split}, the CCC of its best regressor less that of the deep model on the same "
        f"sequences is {number(paired['difference'])}{ends}."
    )
    if split == each.selection["select_on"]:
        return f"{text} No verdict is given: the regressor was chosen by these same sequences."
    return f"{text} {verdict('The set', 'the deep model', paired, evidence.unit)}"
