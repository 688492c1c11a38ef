"""`valence check`: a corpus as a table, per recording and in sum."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from valence.config import Config
from valence.corpus import Corpus
from valence.errors import CorpusError
from valence.filenames import printable
from valence.inspection import Finding, check_corpus, remarks_on_stamps
from valence.splits import assign_splits, resolve_protocol

_PLAIN_WIDTH = 160


def check(corpus: Corpus, config: Config) -> None:
    """Print what the corpus holds and what is wrong with it, on standard output.

    Raises
    ------
    CorpusError
        If no recording is usable, or none is left for training or validation.
    SplitError
        If the corpus cannot be divided as configured; the table is printed before.
    """
    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=_PLAIN_WIDTH)
    findings = check_corpus(corpus, config)
    console.print(_table(findings))
    for remark in (*corpus.remarks, *remarks_on_stamps(findings)):
        console.print(f"remark: {remark}", markup=False)
    usable = [finding for finding in findings if finding.problem is None]
    for line in _sums(findings, usable):
        console.print(line, markup=False)
    bad = sum(f.problem is not None for f in findings if f.id not in corpus.missing)
    most = config.preprocess.max_rejected_share
    if bad > most * len(corpus.recordings):
        console.print(
            f"remark: {bad} of {len(corpus.recordings)} recordings would be rejected, more than "
            f"preprocess.max_rejected_share = {most:g} lets pass",
            markup=False,
        )
    if not usable:
        raise CorpusError(
            f"Nothing in '{corpus.root}' can be used; the table says why for every recording. Mend "
            "what it names and check again."
        )
    _print_split(console, corpus, config, usable)


def _table(findings: Sequence[Finding]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("Id", "subject", "split"):
        table.add_column(name, no_wrap=True)
    for name in ("seconds", "Hz", "channels"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("format", no_wrap=True)
    table.add_column("labelled", justify="right", no_wrap=True)
    table.add_column("what is wrong, and remarks", overflow="fold")
    for finding in findings:
        wrong = [] if finding.problem is None else [f"REJECTED: {finding.problem}"]
        table.add_row(
            escape(printable(finding.id)),
            escape(finding.subject),
            finding.split or "-",
            "-" if finding.duration is None else f"{finding.duration:.1f}",
            "-" if finding.sr is None else str(finding.sr),
            "-" if finding.channels is None else str(finding.channels),
            finding.format or "-",
            "-" if finding.labelled is None else f"{finding.labelled:.0%}",
            escape("; ".join([*wrong, *finding.remarks])),
        )
    return table


def _sums(findings: Sequence[Finding], usable: Sequence[Finding]) -> list[str]:
    hours = sum(finding.duration or 0.0 for finding in usable) / 3600
    subjects = {finding.subject for finding in usable}
    lines = [
        f"{_count(len(findings), 'recording')}: {len(usable)} usable ({hours:.2f} h, "
        f"{_count(len(subjects), 'subject')}), {len(findings) - len(usable)} not"
    ]
    for split, count in sorted(Counter(f.split for f in usable if f.split).items()):
        members = [finding for finding in usable if finding.split == split]
        voices = len({finding.subject for finding in members})
        length = sum(finding.duration or 0.0 for finding in members) / 3600
        told = f"{_count(count, 'recording')}, {_count(voices, 'subject')}, {length:.2f} h"
        lines.append(f"  {split}: {told}")
    return lines


def _print_split(
    console: Console, corpus: Corpus, config: Config, usable: Sequence[Finding]
) -> None:
    assign_splits(corpus, config.split)
    protocol = resolve_protocol(corpus, config.split)
    console.print(f"split: protocol '{protocol}'", markup=False)
    for split, name in (("train", "training"), ("validation", "validation")):
        if not any(finding.split == split for finding in usable):
            raise CorpusError(
                f"No usable recording of '{corpus.root}' is for {name}. Mend what the table names, "
                "or divide the corpus otherwise."
            )


def _count(number: int, thing: str) -> str:
    return f"{number} {thing}" if number == 1 else f"{number} {thing}s"
