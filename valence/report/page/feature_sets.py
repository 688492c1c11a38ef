"""Show the best of each feature set beside the deep model, in one table."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from valence.formatting import MISSING, Unit, interval, number
from valence.report.analysis.feature_sets import SetSweep
from valence.report.analysis.results import Evidence
from valence.report.analysis.scores import STEPS, Findings
from valence.report.page.render import Section
from valence.report.page.tables import Cell, Table, count_cell, score_cell
from valence.report.page.wording import verdict
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
        for remark in each.remarks:
            section.say(f"Remark on {each.name}: {remark}.")
    for unused in evidence.unused_set_sweeps:
        section.say(unused.sentence)
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
    rows += [_row_of_set(each, split, evidence.select_on) for each in evidence.set_sweeps]
    columns = [("features", False), ("regressor", False)]
    columns += [("CCC, validation", True), ("CCC, test", True)]
    columns += [(f"less the deep model, {split}", True), (f"n, {split}", True)]
    return Table(_caption(evidence), columns, rows)


def compared_feature_sets(evidence: Sequence[Evidence], names: Sequence[str]) -> Section | None:
    """Build the section of a comparison on the sets that were swept in its runs; None without any.

    Parameters
    ----------
    evidence, names
        The runs, and their names.
    """
    pairs = list(zip(names, evidence, strict=True))
    unused = [(name, sweep) for name, each in pairs for sweep in each.unused_set_sweeps]
    swept = [(name, sweep) for name, each in pairs for sweep in each.set_sweeps]
    if not swept and not unused:
        return None
    section = Section("feature-sets", "Feature sets in each run")
    if swept:
        section.tabulate(_compared_table(swept, evidence[0].unit))
    for name, sweep in swept:
        for remark in sweep.remarks:
            section.say(f"Remark on {sweep.name} in {name}: {remark}.")
    for name, left_out in unused:
        section.say(f"{name}: {left_out.sentence}")
    return section


def _compared_table(swept: Sequence[tuple[str, SetSweep]], unit: Unit) -> Table:
    """List the best on each set of each run; their test rows, or the validation rows without."""
    with_test = any(sweep.selection["paired"]["test"] is not None for _, sweep in swept)
    split = "test" if with_test else "validation"
    rows = [[Cell(name), *_row_of_set(sweep, split, "validation")] for name, sweep in swept]
    columns = [("run", False), ("features", False), ("regressor", False)]
    columns += [("CCC, validation", True), ("CCC, test", True)]
    columns += [(f"less its deep model, {split}", True), (f"n, {split}", True)]
    caption = (
        f"CCC with its 95 % interval over {unit.many}, from {FEWEST} of them on; n counts "
        "sequences. Each run scores its sets on its own sequences, not on the shared ones alone, "
        "and the difference is to its own deep model on the same sequences."
        f"{_licences(sweep for _, sweep in swept)}"
    )
    return Table(caption, columns, rows)


def _row_of_set(sweep: SetSweep, split: str, select_on: str) -> list[Cell]:
    """Build the row of a set; it says so if its best was chosen on other rows than `select_on`."""
    chosen_on = sweep.selection["select_on"]
    paired = sweep.selection["paired"][split]
    row = _row(sweep.name, sweep.regressor, sweep.selection["best"], paired, split)
    if chosen_on != select_on:
        row[1] = Cell(sweep.regressor, aside=f"chosen by {chosen_on} CCC")
    return row


def _caption(evidence: Evidence) -> str:
    return (
        f"CCC with its 95 % interval over {evidence.unit.many}, from {FEWEST} of them on; n counts "
        "sequences. A set is scored on the sequences that it describes, and its difference is "
        "taken to the deep model on the same ones. Each best is chosen by "
        f"{evidence.select_on} CCC.{_licences(evidence.set_sweeps)}"
    )


def _licences(sweeps: Iterable[SetSweep]) -> str:
    """State the licences that bind sets, each once."""
    bound: dict[str, dict[str, None]] = {}
    for each in sweeps:
        if each.licence is not None:
            bound.setdefault(each.licence, {})[each.name] = None
    return "".join(
        f" Licence of {', '.join(names)}: {licence}." for licence, names in bound.items()
    )


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
