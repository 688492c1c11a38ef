"""Run `valence check`: print a corpus as a table of recordings, and its totals."""

from __future__ import annotations

import math
import textwrap
from collections import Counter
from collections.abc import Sequence

from rich.cells import cell_len
from rich.console import Console as RichConsole

from pipelines.runtime.terminal import PlainConsole
from valence.config import Config
from valence.corpus.muse import Corpus
from valence.corpus.splits import assign_splits, resolve_protocol
from valence.errors import CorpusError
from valence.formatting import Unit, raters_agree, unit_of
from valence.fusion.record import read_agreement
from valence.segments.feature_sets import check_sets, require_model_input
from valence.segments.inspection import Finding, check_corpus, remarks_on_rates, remarks_on_stamps
from valence.storage.filenames import printable

# Lines are never folded to less; a terminal that is narrower wraps them by itself.
_NARROWEST = 40
_GAP = "  "
_INDENT = "    "

# The first two columns hold names, which have any length.
_NAMES = 2
_HEADER = ("Id", "subject", "split", "seconds", "Hz", "channels", "format", "labelled")
_RIGHT = {"seconds", "Hz", "channels", "labelled"}
_WRONG = "what is wrong, and remarks"


def check(corpus: Corpus, config: Config) -> None:
    """Print the recordings of a corpus and their faults to standard output.

    Raises
    ------
    CorpusError
        If no recording is usable, or none is left for training or validation.
    UsageError, FeatureError
        If `model.input` names a feature set that is not there or cannot be used.
    SplitError
        If the corpus cannot be divided as configured. The table is printed before the error.
    """
    console = PlainConsole()
    findings = check_corpus(corpus, config)
    width = max(_NARROWEST, console.width) if console.is_terminal else None
    for number, line in enumerate(listing(findings, width)):
        console.print(line, style=None if number else "bold")
    odd = (*remarks_on_stamps(findings), *remarks_on_rates(findings, config.preprocess.sr))
    for remark in (*corpus.remarks, *odd):
        console.print(f"remark: {printable(remark)}")
    usable = [finding for finding in findings if finding.problem is None]
    for line in _sums(findings, usable, unit_of(corpus.subjects_remark)):
        console.print(line)
    agreement, changed = read_agreement(corpus.root)
    for target in agreement or {}:
        console.print(raters_agree(agreement, target))
    if changed:
        console.print(f"remark: {printable(changed)}")
    lengths = {f.id: f.segments for f in findings if f.id not in corpus.missing}
    sets, beside = check_sets(corpus.root, lengths, config)
    for line in (*(line for each in sets for line in each.in_words()), *beside):
        console.print(printable(line))
    bad = sum(f.problem is not None for f in findings if f.id not in corpus.missing)
    most = config.preprocess.max_rejected_share
    if bad > most * len(corpus.recordings):
        console.print(
            f"remark: {bad} of {len(corpus.recordings)} recordings would be rejected, more than "
            f"preprocess.max_rejected_share = {most:g} lets pass"
        )
    if not usable:
        raise CorpusError(
            f"Nothing in '{corpus.root}' can be used; the table says why for every recording. Mend "
            "what it names and check again."
        )
    _print_split(console, corpus, config, usable)
    require_model_input(corpus.root, {f.id: f.segments for f in usable}, sets, config)


def listing(findings: Sequence[Finding], width: int | None) -> list[str]:
    """Lay out findings as lines: a header, then each recording with its faults.

    No text is cut. Faults stand behind the recording's facts where the line has room, else below
    them. A recording whose facts do not fit on one line becomes a paragraph.

    Parameters
    ----------
    findings
        Findings in the order of the list.
    width
        Columns of the terminal, or None if lines may have any length.
    """
    rows = [_facts(finding) for finding in findings]
    remarks = [_remarks(finding) for finding in findings]
    longest = _longest_name(rows, width)
    beside = [max(map(cell_len, row[:_NAMES])) <= longest for row in rows]
    table = [_HEADER, *(row for row, fits in zip(rows, beside, strict=True) if fits)]
    widths = [max(map(cell_len, column)) for column in zip(*table, strict=True)]
    header = _aligned(_HEADER, widths)
    whole = f"{header}{_GAP}{_WRONG}"
    lines = [whole if width is None or cell_len(whole) <= width else header.rstrip()]
    if not any(beside):
        lines = ["recordings"]
    for row, remark, fits in zip(rows, remarks, beside, strict=True):
        facts = _aligned(row, widths) if fits else ""
        line = f"{facts}{_GAP}{remark}".rstrip()
        if width is None or (fits and cell_len(line) <= width):
            lines.append(line)
        elif fits:
            lines += [facts.rstrip(), *_folded(remark, width)]
        else:
            lines += _paragraph(row, remark, width)
    return lines


def _longest_name(rows: Sequence[Sequence[str]], width: int | None) -> float:
    """Compute how long an Id and a subject may be in a row of `width`; negative if none fits."""
    if width is None:
        return math.inf
    others = [max(map(cell_len, column)) for column in zip(_HEADER, *rows, strict=True)][_NAMES:]
    longest = (width - sum(others) - len(_GAP) * (len(_HEADER) - 1)) // _NAMES
    return longest if longest >= max(map(cell_len, _HEADER[:_NAMES])) else -1


def _aligned(row: Sequence[str], widths: Sequence[int]) -> str:
    cells = []
    for name, cell, size in zip(_HEADER, row, widths, strict=True):
        space = " " * (size - cell_len(cell))
        cells.append(space + cell if name in _RIGHT else cell + space)
    return _GAP.join(cells)


def _paragraph(row: Sequence[str], remark: str, width: int) -> list[str]:
    """Write a recording's Id, then its facts with their names, then its faults."""
    facts = (f"{name} {cell}" for name, cell in zip(_HEADER[1:], row[1:], strict=True))
    return [row[0], *_folded(", ".join(facts), width), *_folded(remark, width)]


def _folded(text: str, width: int) -> list[str]:
    """Break text into indented lines; a word longer than a line stays whole."""
    return textwrap.wrap(
        text,
        width,
        initial_indent=_INDENT,
        subsequent_indent=_INDENT,
        # A path that is broken here cannot be copied; one that the terminal wraps can.
        break_long_words=False,
        break_on_hyphens=False,
    )


def _facts(finding: Finding) -> tuple[str, ...]:
    return (
        printable(finding.id),
        printable(finding.subject),
        finding.split or "-",
        "-" if finding.duration is None else f"{finding.duration:.1f}",
        "-" if finding.sr is None else str(finding.sr),
        "-" if finding.channels is None else str(finding.channels),
        finding.format or "-",
        "-" if finding.labelled is None else f"{finding.labelled:.0%}",
    )


def _remarks(finding: Finding) -> str:
    wrong = [] if finding.problem is None else [f"REJECTED: {finding.problem}"]
    return printable("; ".join([*wrong, *finding.remarks]))


def _sums(findings: Sequence[Finding], usable: Sequence[Finding], unit: Unit) -> list[str]:
    hours = sum(finding.duration or 0.0 for finding in usable) / 3600
    lines = [
        f"{_count(len(findings), 'recording')}: {len(usable)} usable ({hours:.2f} h, "
        f"{_voices(usable, unit)}), {len(findings) - len(usable)} not"
    ]
    for split, count in sorted(Counter(f.split for f in usable if f.split).items()):
        members = [finding for finding in usable if finding.split == split]
        length = sum(finding.duration or 0.0 for finding in members) / 3600
        sums = f"{_count(count, 'recording')}, {_voices(members, unit)}, {length:.2f} h"
        lines.append(f"  {split}: {sums}")
    return lines


def _voices(findings: Sequence[Finding], unit: Unit) -> str:
    """Say how many subjects speak, or that their number is unknown."""
    if unit.one == "recording":
        return unit.note
    return unit.count(len({finding.subject for finding in findings}))


def _print_split(
    console: RichConsole, corpus: Corpus, config: Config, usable: Sequence[Finding]
) -> None:
    assign_splits(corpus, config.split)
    protocol = resolve_protocol(corpus, config.split)
    console.print(f"split: protocol '{protocol}'")
    for split, name in (("train", "training"), ("validation", "validation")):
        if not any(finding.split == split for finding in usable):
            raise CorpusError(
                f"No usable recording of '{corpus.root}' is for {name}. Mend what the table names, "
                "or divide the corpus otherwise."
            )


def _count(number: int, thing: str) -> str:
    return f"{number} {thing}" if number == 1 else f"{number} {thing}s"
