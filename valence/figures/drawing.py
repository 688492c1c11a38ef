"""Define the style of all figures, and render figures as SVG (page) and PNG (folder)."""

from __future__ import annotations

import base64
import io
import re
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

# Widths in inches of 72 points. WIDE fits a laptop without scaling, HALF fits beside another
# figure, and NARROW fits a phone.
WIDE = 10.0
HALF = 4.85
NARROW = 4.1

# Okabe and Ito's palette, whose colours differ for every common form of colour blindness.
INK = "#20262b"
MUTED = "#626c75"
GRID = "#e1e5e9"
BLUE = "#0072b2"
VERMILION = "#d55e00"
GREEN = "#009e73"
PURPLE = "#b0568a"
# For pixels, which cannot follow the light or dark scheme: visible on white and on black.
BLUE_ON_ANY = "#2a8fd0"

# The same roles on a dark page. Text over a colour map keeps its colour in both schemes.
_ON_DARK = {
    INK: "#e8eaec",
    MUTED: "#9aa4ad",
    GRID: "#343c44",
    BLUE: "#56b4e9",
    VERMILION: "#ff8f4a",
    GREEN: "#35c99d",
    PURPLE: "#e08fbe",
}
# Text over dark and over light colours of a colour map; the cell's luminance decides which.
OVER_DARK, OVER_LIGHT = "#fdfdfd", "#141414"
SOUND_MAP = "magma"
SCORE_MAP = "cividis"

_STYLE: dict[Any, Any] = {
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 9.5,
    "text.color": INK,
    # A recording's name with two dollar signs must not be read as a formula.
    "text.parse_math": False,
    "axes.titlesize": 9.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.titlecolor": INK,
    "axes.labelcolor": MUTED,
    "axes.labelsize": 9,
    "axes.edgecolor": MUTED,
    "axes.linewidth": 0.7,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": False,
    "axes.axisbelow": True,
    "axes.facecolor": "none",
    "axes.unicode_minus": True,
    "grid.color": GRID,
    "grid.linewidth": 0.7,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": MUTED,
    "ytick.labelcolor": MUTED,
    "xtick.major.pad": 5.5,
    "ytick.major.pad": 5.5,
    "xtick.labelsize": 8.5,
    "ytick.labelsize": 8.5,
    "xtick.major.width": 0.7,
    "ytick.major.width": 0.7,
    "lines.linewidth": 1.6,
    "lines.solid_capstyle": "round",
    "legend.frameon": False,
    "legend.fontsize": 8.5,
    "legend.labelcolor": INK,
    "figure.facecolor": "none",
    # Keep text as text, so that the reader's own font is used and the page stays small.
    "svg.fonttype": "none",
    "svg.hashsalt": "valence",
}
_FONTS = "system-ui,-apple-system,'Segoe UI',Roboto,'Noto Sans',sans-serif"
_RASTER_DPI = 144


@dataclass(frozen=True)
class Drawing:
    """A figure that can be drawn at any width, with its description in words.

    Attributes
    ----------
    name
        Stem of its file, such as `learning-curves`.
    alt
        Description of the content, with numbers, for readers who cannot see the figure.
    draw
        Function from a width in inches to the figure.
    """

    name: str
    alt: str
    draw: Callable[[float], Figure]

    def png(self, width: float = WIDE) -> bytes:
        """Render the figure on white, at twice the pixels of its size on a page."""
        buffer = io.BytesIO()
        with _styled():
            self._drawn(width).savefig(
                buffer,
                format="png",
                dpi=_RASTER_DPI * 4 / 3,
                facecolor="white",
                metadata={"Software": None},
            )
        return buffer.getvalue()

    def svg(self, width: float = WIDE) -> str:
        """Render the figure as SVG that follows the reader's light or dark scheme."""
        buffer = io.StringIO()
        with _styled():
            self._drawn(width).savefig(
                buffer, format="svg", dpi=_RASTER_DPI, metadata={"Date": None}
            )
        return _themed(buffer.getvalue())

    def figure(self, width: float = WIDE) -> Figure:
        """Return the figure itself, laid out, so that its content can be inspected."""
        with _styled():
            figure = self._drawn(width)
            figure.draw_without_rendering()
        return figure

    def _drawn(self, width: float) -> Figure:
        figure = self.draw(width)
        FigureCanvasAgg(figure)
        return figure


@contextmanager
def _styled() -> Iterator[None]:
    """Apply the style of all figures; characters that the font lacks are drawn as boxes."""
    with mpl.rc_context(_STYLE), warnings.catch_warnings():
        # The SVG shows such characters in the reader's own font, and no user can repair the PNG.
        warnings.filterwarnings("ignore", "Glyph .* missing from font", UserWarning)
        yield


def data_uri(svg: str) -> str:
    """Encode the SVG as a data URI, which needs no file."""
    return f"data:image/svg+xml;base64,{base64.b64encode(svg.encode()).decode()}"


def new_figure(width: float, height: float) -> Figure:
    """Make an empty figure of a size in inches, with a layout that avoids overlaps."""
    return Figure(
        figsize=(width, height), layout=ConstrainedLayoutEngine(w_pad=0.06, h_pad=0.06, hspace=0.06)
    )


def is_narrow(width: float) -> bool:
    """Return whether a figure of this width is for a phone."""
    return width < (HALF + WIDE) / 2


def quiet_grid(axes: Axes, axis: str = "y") -> None:
    """Draw light grid lines behind the data."""
    axes.grid(visible=True, axis=axis)  # type: ignore[arg-type]
    axes.tick_params(length=0, which="both")


def _themed(svg: str) -> str:
    """Turn colours of an SVG into CSS variables, and remove data that browsers do not use."""
    body = svg[svg.index("<svg") :]
    body = re.sub(r"\s*<metadata>.*?</metadata>", "", body, flags=re.DOTALL)
    body = re.sub(r"font-family: [^;\"]*;?\s*", "", body)
    # Two decimals suffice: no screen shows a hundredth of a point.
    body = re.sub(r"<[^>]+>", lambda tag: re.sub(r"(\d\.\d\d)\d+", r"\1", tag[0]), body)
    for number, colour in enumerate(_ON_DARK):
        body = body.replace(colour, f"var(--c{number})")
    light = ";".join(f"--c{i}:{colour}" for i, colour in enumerate(_ON_DARK))
    dark = ";".join(f"--c{i}:{colour}" for i, colour in enumerate(_ON_DARK.values()))
    style = (
        f"<style>:root{{{light}}}@media (prefers-color-scheme:dark){{:root{{{dark}}}}}"
        f"text{{font-family:{_FONTS}}}</style>"
    )
    return re.sub(r"<defs>", f"{style}<defs>", body, count=1)
