"""The report page in a real browser: nothing breaks or is loaded, figures show, tables sort."""

from __future__ import annotations

import base64
import itertools
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.helpers.browser import Browser, chromium
from valence.report.build import write_report
from valence.report.comparison import compare_runs
from valence.run import Run
from valence.storage.location import Location

pytestmark = pytest.mark.browser

_WIDTHS = {"laptop": 1280, "phone": 390}
_SCHEMES = ("light", "dark")


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with chromium(tmp_path_factory.mktemp("profile")) as opened:
        yield opened


@pytest.fixture(scope="module")
def pages(finished_run: Run, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A run's report and a comparison of two runs."""
    folder = tmp_path_factory.mktemp("pages")
    for name in ("first", "second"):
        shutil.copytree(finished_run.root.local, folder / name)
    write_report(Run.at(str(folder / "first")))
    runs = [Run.at(str(folder / name)) for name in ("first", "second")]
    compare_runs(runs, Location.parse(folder / "comparison"))
    return {
        "report": folder / "first" / "report" / "report.html",
        "comparison": folder / "comparison" / "report.html",
    }


@pytest.mark.parametrize("page", ["report", "comparison"])
@pytest.mark.parametrize("scheme", _SCHEMES)
@pytest.mark.parametrize("width", _WIDTHS.values(), ids=list(_WIDTHS))
def test_the_page_breaks_nowhere_and_loads_nothing(
    browser: Browser, pages: dict[str, Path], page: str, width: int, scheme: str, tmp_path: Path
) -> None:
    file = pages[page]
    browser.open(file, width=width, scheme=scheme)
    wrong = [
        event
        for event in browser.events
        if event["method"] in ("Log.entryAdded", "Runtime.exceptionThrown")
        or event["method"] == "Runtime.consoleAPICalled"
    ]
    assert not wrong
    asked = {
        event["params"]["request"]["url"].split(",")[0]
        for event in browser.events
        if event["method"] == "Network.requestWillBeSent"
    }
    assert {url for url in asked if not url.startswith("data:")} == {file.as_uri()}

    images = browser.evaluate(
        "[...document.images].map(i => [i.complete, i.naturalWidth, i.clientWidth, i.alt, "
        "i.currentSrc.length])"
    )
    assert len(images) >= (11 if page == "report" else 2)
    for complete, natural, shown, alt, source in images:
        assert complete
        assert natural > 100
        assert shown > 0.6 * min(width, natural)
        assert len(alt) > 40
        assert source > 1000
    # Only boxes made to scroll are wider than the page.
    assert browser.evaluate("document.documentElement.scrollWidth") <= width
    assert browser.evaluate("document.querySelectorAll('h1').length") == 1


def test_the_schemes_differ_in_pages_and_figures(
    browser: Browser, pages: dict[str, Path], tmp_path: Path
) -> None:
    colours = {}
    for scheme in _SCHEMES:
        browser.open(pages["report"], width=1280, scheme=scheme)
        page = browser.evaluate("getComputedStyle(document.body).backgroundColor")
        figure = _mean_ink(browser, "learning-curves")
        colours[scheme] = (page, figure)
    assert colours["light"][0] == "rgb(255, 255, 255)"
    assert sum(map(int, colours["dark"][0][4:-1].split(","))) < 150
    # Ink is dark on white and light on black.
    assert colours["dark"][1] > colours["light"][1] + 40


def _mean_ink(browser: Browser, figure: str) -> float:
    """Mean brightness of what is drawn in a figure, as the browser draws it now, 0 to 255."""
    found = browser.evaluate(
        """(() => {
            const image = document.querySelector('#figure-FIGURE img');
            const canvas = document.createElement('canvas');
            [canvas.width, canvas.height] = [image.naturalWidth, image.naturalHeight];
            const context = canvas.getContext('2d');
            context.drawImage(image, 0, 0);
            const data = context.getImageData(0, 0, canvas.width, canvas.height).data;
            let [sum, count] = [0, 0];
            for (let i = 0; i < data.length; i += 4)
                if (data[i + 3] > 200) { sum += data[i] + data[i + 1] + data[i + 2]; count++; }
            return sum / count / 3;
        })()""".replace("FIGURE", figure)
    )
    return float(found)


def test_text_has_contrast(browser: Browser, pages: dict[str, Path]) -> None:
    """WCAG 2.1 asks for 4.5 between text and what lies behind it."""
    for scheme in _SCHEMES:
        browser.open(pages["report"], width=1280, scheme=scheme)
        ratios = browser.contrasts("p, a, td, th, figcaption, code, h1, h2, h3, summary, .interval")
        assert len(ratios) > 8
        assert min(ratios.values()) >= 4.5, ratios


def test_tables_sort(browser: Browser, pages: dict[str, Path]) -> None:
    browser.open(pages["report"], width=1280, scheme="light")
    browser.evaluate("document.querySelectorAll('details').forEach(d => d.open = true)")
    sorted_by = """
        (column => {
            const table = [...document.querySelectorAll('table.sortable')]
                .find(t => t.tBodies[0].rows.length === 60);
            const head = [...table.tHead.rows[0].cells].find(h => h.textContent === column);
            head.querySelector('button').click();
            const place = head.cellIndex;
            return [head.getAttribute('aria-sort'),
                [...table.tHead.rows[0].cells].filter(h => h.hasAttribute('aria-sort')).length,
                [...table.tBodies[0].rows].map(r => r.cells[place].textContent)];
        })"""

    def numbers(texts: list[str]) -> list[float]:
        return [float(text.replace("−", "-")) for text in texts]

    direction, marked, texts = browser.evaluate(f"{sorted_by}('CCC, test')")
    assert (direction, marked) == ("descending", 1)
    assert len(texts) == 60
    assert numbers(texts) == sorted(numbers(texts), reverse=True)
    direction, marked, texts = browser.evaluate(f"{sorted_by}('CCC, test')")
    assert (direction, marked) == ("ascending", 1)
    assert numbers(texts) == sorted(numbers(texts))
    direction, marked, texts = browser.evaluate(f"{sorted_by}('regressor')")
    assert (direction, marked) == ("ascending", 1)
    assert texts == sorted(texts)
    assert len(set(texts)) == 5


def test_headings_can_be_reached_by_keyboard(browser: Browser, pages: dict[str, Path]) -> None:
    browser.open(pages["report"], width=390, scheme="light")
    reached = browser.evaluate(
        "[...document.querySelectorAll('th button')].every(b => b.tabIndex === 0 && "
        "b.type === 'button' && b.textContent.trim().length > 0)"
    )
    assert reached
    assert browser.evaluate(
        "[...document.querySelectorAll('.scroll')].every(s => s.tabIndex === 0 && "
        "s.getAttribute('aria-label').length > 2)"
    )


def test_it_prints(browser: Browser, pages: dict[str, Path]) -> None:
    browser.open(pages["report"], width=1280, scheme="light")
    on_white = _mean_ink(browser, "learning-curves")
    browser.open(pages["report"], width=1280, scheme="dark", media="print")
    # Paper is white and ink is dark, whatever the screen was, in text and in figures.
    assert browser.evaluate("getComputedStyle(document.body).backgroundColor") == (
        "rgb(255, 255, 255)"
    )
    figures = browser.evaluate("[...document.images].map(i => getComputedStyle(i).colorScheme)")
    assert set(figures) == {"light"}
    assert _mean_ink(browser, "learning-curves") == pytest.approx(on_white, abs=2)
    printed = base64.b64decode(browser.call("Page.printToPDF", printBackground=False)["data"])
    assert printed.startswith(b"%PDF")
    assert 4 <= printed.count(b"/Type /Page\n") + printed.count(b"/Type /Page ") <= 40


def test_what_is_folded_is_printed_and_folded_again(
    browser: Browser, pages: dict[str, Path]
) -> None:
    browser.open(pages["report"], width=1280, scheme="light")
    unfolded = "[...document.querySelectorAll('details')].map(d => d.open)"
    browser.evaluate("document.querySelector('details').open = true")
    before = browser.evaluate(unfolded)
    assert before.count(True) == 1
    assert len(before) >= 6
    browser.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert all(browser.evaluate(unfolded))
    browser.evaluate("dispatchEvent(new Event('afterprint'))")
    assert browser.evaluate(unfolded) == before


def test_screenshots_can_be_taken(browser: Browser, pages: dict[str, Path], tmp_path: Path) -> None:
    """What a person looks at: VALENCE_SCREENSHOTS names a folder to keep them in."""
    keep = os.environ.get("VALENCE_SCREENSHOTS")
    folder = Path(keep) if keep else tmp_path
    for (name, width), scheme in itertools.product(_WIDTHS.items(), _SCHEMES):
        browser.open(pages["report"], width=width, scheme=scheme)
        browser.screenshot(folder / f"report-{name}-{scheme}.png")
    sizes = {file.stat().st_size for file in folder.glob("report-*.png")}
    assert len(sizes) == 4
    assert min(sizes) > 100_000
