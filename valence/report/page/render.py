"""Render a page of sections with text, tiles, tables and figures as one self-contained file."""

from __future__ import annotations

import importlib.resources
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from valence.figures import HALF, NARROW, WIDE, Drawing, data_uri
from valence.report.page.tables import Table

_POINT = 4 / 3  # CSS pixels


@dataclass(frozen=True)
class Tile:
    """One important number, shown large."""

    title: str
    value: str
    detail: str


@dataclass(frozen=True)
class Picture:
    """A drawing in two sizes: one for a laptop and one for a phone."""

    name: str
    alt: str
    wide: str
    narrow: str
    width: int
    height: int

    @classmethod
    def of(cls, drawing: Drawing, width: float = WIDE) -> Picture:
        """Render a drawing at a laptop's `width` in inches and at a phone's width."""
        svg = drawing.svg(width)
        size = re.search(r'<svg[^>]* viewBox="0 0 ([\d.]+) ([\d.]+)"', svg)
        assert size is not None, "matplotlib states the size of an SVG"
        return cls(
            name=drawing.name,
            alt=drawing.alt,
            wide=data_uri(svg),
            narrow=data_uri(drawing.svg(NARROW)),
            width=round(float(size[1]) * _POINT),
            height=round(float(size[2]) * _POINT),
        )


@dataclass(frozen=True)
class Part:
    """A piece of a section; `kind` decides which attributes are set."""

    kind: Literal["text", "heading", "tiles", "figures", "table", "code"]
    text: str = ""
    tiles: tuple[Tile, ...] = ()
    table: Table | None = None
    figures: tuple[tuple[Picture, str], ...] = ()
    folded: str = ""


@dataclass
class Section:
    """A titled part of the page, filled from top to bottom."""

    id: str
    title: str
    parts: list[Part] = field(default_factory=list)
    drawings: list[Drawing] = field(default_factory=list)

    def say(self, text: str) -> None:
        """Add a paragraph."""
        self.parts.append(Part("text", text))

    def head(self, text: str) -> None:
        """Add a heading."""
        self.parts.append(Part("heading", text))

    def tile(self, tiles: Sequence[Tile]) -> None:
        """Add important numbers, shown large."""
        self.parts.append(Part("tiles", tiles=tuple(tiles)))

    def show(self, drawing: Drawing, caption: str) -> None:
        """Add a figure with its caption."""
        self.drawings.append(drawing)
        self.parts.append(Part("figures", figures=((Picture.of(drawing), caption),)))

    def show_beside(self, *captioned: tuple[Drawing, str]) -> None:
        """Add figures, two in a row where there is room."""
        self.drawings += [drawing for drawing, _ in captioned]
        pictures = tuple((Picture.of(drawing, HALF), caption) for drawing, caption in captioned)
        self.parts.append(Part("figures", figures=pictures))

    def tabulate(self, table: Table, *, folded: str = "") -> None:
        """Add a table; a text in `folded` hides it under this summary."""
        self.parts.append(Part("table", table=table, folded=folded))

    def code(self, text: str, *, folded: str = "") -> None:
        """Add preformatted text; a text in `folded` hides it under this summary."""
        self.parts.append(Part("code", text, folded=folded))


@dataclass(frozen=True)
class Page:
    """The whole page of a report.

    Attributes
    ----------
    title
        Title of the browser's tab.
    heading, lead
        Heading and first paragraph of the page.
    notices
        Facts that a reader must know before any number.
    sections
        Sections in order.
    footer
        Last line of the page.
    """

    title: str
    heading: str
    lead: str
    notices: Sequence[str]
    sections: Sequence[Section]
    footer: str

    def html(self) -> str:
        """Render the HTML file, which contains its styles, script and figures and loads nothing."""
        environment = Environment(
            loader=PackageLoader("valence.report.page", "."),
            autoescape=True,
            undefined=StrictUndefined,
            keep_trailing_newline=True,
        )
        return environment.get_template("page.html.j2").render(
            title=self.title,
            heading=self.heading,
            lead=self.lead,
            notices=self.notices,
            sections=self.sections,
            footer=self.footer,
            css=_asset("page.css"),
            js=_asset("page.js"),
        )


def _asset(name: str) -> Markup:
    """Read a file of this package that is inserted into the page unchanged."""
    return Markup(
        importlib.resources.files("valence.report.page").joinpath(name).read_text("utf-8")
    )
