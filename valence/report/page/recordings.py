"""Show the best and the worst recordings, each with a link to the page that plays it."""

from __future__ import annotations

from collections.abc import Sequence

from valence.formatting import number
from valence.report.analysis.results import Evidence
from valence.report.analysis.scores import Findings
from valence.report.page.render import Section
from valence.report.page.tables import Cell, Table
from valence.report.recordings import FOLDER, RankedRecording


def recordings(
    ranked: Sequence[RankedRecording], evidence: Evidence, findings: Findings
) -> Section | None:
    """Build the section on the best and worst recordings; None if none has a score."""
    if not ranked:
        return None
    section = Section("recordings", "Best and worst recordings")
    if any(each.page for each in ranked):
        section.say(
            "A page plays the sound of a recording under its predicted and annotated curve. The "
            f"pages lie in the folder {FOLDER} beside this report."
        )
    section.tabulate(_table(ranked, evidence, findings))
    reasons = dict.fromkeys(each.why_not for each in ranked if each.why_not)
    for reason in reasons:
        names = ", ".join(each.recording for each in ranked if each.why_not == reason)
        section.say(f"There is no page of {names}: {reason.rstrip('.')}.")
    return section


def _table(ranked: Sequence[RankedRecording], evidence: Evidence, findings: Findings) -> Table:
    usable = evidence.usable.set_index("Id")
    known = evidence.unit.one == "subject"
    rows = [
        [
            Cell(each.recording, link=each.page),
            *([Cell(str(usable.loc[each.recording, "subject"]))] if known else []),
            Cell(each.kind),
            Cell(number(each.ccc), each.ccc),
        ]
        for each in ranked
    ]
    columns = [("recording", False), *([("subject", False)] if known else [])]
    columns += [("among the", False), ("CCC", True)]
    return Table(
        f"Recordings of the {findings.headline} set by the CCC of their sequences.", columns, rows
    )
