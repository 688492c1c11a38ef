"""Copy runs with reports, and read what a report says."""

from __future__ import annotations

import html.parser
import shutil
from pathlib import Path
from typing import Any

from valence.run import Run


class ParsedPage(html.parser.HTMLParser):
    """The parts of a page that tests look at."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.images: list[dict[str, str | None]] = []
        self.addresses: list[str] = []
        self.values: list[float] = []
        self.ids: list[str] = []
        self.open: list[str] = []
        self.text = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        if tag == "img":
            self.images.append(given)
        if tag not in {"meta", "link", "img", "source"}:
            self.open.append(tag)
        self.addresses += [
            value or "" for name, value in attrs if name in {"src", "href", "srcset"}
        ]
        if given.get("data-value"):
            self.values.append(float(given["data-value"] or 0))
        self.ids += [value or "" for name, value in attrs if name == "id"]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag, f"{tag} is closed and was not the last to be opened"

    def handle_data(self, data: str) -> None:
        if not {"style", "script"} & set(self.open):
            self.text += data


def copied(run: Run, folder: Path) -> Run:
    """Copy a run to a folder."""
    shutil.copytree(run.root.local, folder)
    return Run.at(str(folder))


def metrics_of(run: Run) -> dict[str, Any]:
    """Read `metrics.json`."""
    return (run.folder("report") / "metrics.json").read_json()


def page_of(run: Run) -> ParsedPage:
    """Parse the page."""
    return ParsedPage((run.folder("report") / "report.html").read_text())
