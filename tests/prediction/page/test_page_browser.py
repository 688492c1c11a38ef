"""Pages in a real browser: they play, seek, obey keys, tell the CSV's numbers and load nothing."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from tests.helpers.browser import Browser, chromium
from tests.helpers.paged import made_page_input
from valence.model.quality import Quality
from valence.prediction.outputs import table
from valence.prediction.page.render import render, render_page

pytestmark = pytest.mark.browser

_WIDTHS = {"laptop": 1280, "phone": 390}
_SCHEMES = ("light", "dark")
_KNOWN = Quality(corpus="made", ccc=0.4, ccc_ci=(0.2, 0.6), test_subjects=9, rmse=0.1)


@dataclass(frozen=True)
class Made:
    """Pages of one recording: with its sound, with a link to it, and with a link to nothing."""

    carried: Path
    linked: Path
    broken: Path
    csv: list[float]


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with chromium(tmp_path_factory.mktemp("profile")) as opened:
        yield opened


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    folder = tmp_path_factory.mktemp("pages")
    annotated = np.linspace(-0.5, 0.5, 40).astype(np.float32)
    predicted = made_page_input(
        folder / "sound #1" / "talk.wav",
        name="a <talk> & more",
        annotation={"valence": annotated},
        quality=_KNOWN,
        out=folder,
    )
    (folder / "talk.csv").write_bytes(table.render(predicted))
    files = {name: folder / f"{name}.html" for name in ("carried", "linked", "broken")}
    files["carried"].write_bytes(render(predicted))
    files["linked"].write_bytes(render_page(predicted, table=None, most_bytes=0))
    elsewhere = made_page_input(folder / "gone" / "talk.wav", out=folder)
    files["broken"].write_bytes(render_page(elsewhere, table=None, most_bytes=0))
    (folder / "gone" / "talk.wav").unlink()
    return Made(**files, csv=pd.read_csv(folder / "talk.csv")["valence"].tolist())


def _place(browser: Browser, share: float) -> tuple[float, float]:
    """Find the point of the view at a share of the curves' width, over the last curve."""
    x, y, width, height = browser.evaluate(
        "(() => { const b = document.getElementById('track').getBoundingClientRect();"
        "return [b.x, b.y, b.width, b.height]; })()"
    )
    return x + share * width, y + 0.8 * height


def _state(browser: Browser) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(
        browser.evaluate(
            """JSON.stringify((() => {
                const track = document.getElementById('track').getBoundingClientRect();
                const cursor = document.getElementById('cursor').getBoundingClientRect();
                const sound = document.getElementById('sound');
                return {
                    share: (cursor.x + cursor.width / 2 - track.x) / track.width,
                    time: sound.currentTime,
                    paused: sound.paused,
                    value: document.getElementById('value-0').textContent,
                    annotated: document.getElementById('value-1').textContent,
                    speech: document.getElementById('value-2').textContent,
                    now: document.getElementById('now').textContent,
                    words: document.getElementById('track').getAttribute('aria-valuetext'),
                    label: document.getElementById('play').getAttribute('aria-label'),
                };
            })())"""
        )
    )
    return found


def _wait(browser: Browser, condition: str) -> None:
    """Wait until a condition holds, ten seconds at most."""
    assert browser.evaluate(
        f"""new Promise(done => {{
            const end = performance.now() + 10000;
            const look = () => ({condition}) ? done(true)
                : performance.now() > end ? done(false) : setTimeout(look, 20);
            look();
        }})"""
    ), condition


def _open(browser: Browser, file: Path, *, width: int = 1280, scheme: str = "light") -> None:
    browser.open(file, width=width, scheme=scheme)
    _wait(browser, "document.getElementById('sound').readyState >= 3")


def _number(text: str) -> float:
    return float(text.replace("−", "-"))


@pytest.mark.parametrize("page", ["carried", "linked"])
@pytest.mark.parametrize("scheme", _SCHEMES)
@pytest.mark.parametrize("width", _WIDTHS.values(), ids=list(_WIDTHS))
def test_nothing_breaks_and_nothing_is_loaded_from_outside(
    browser: Browser, made: Made, page: str, width: int, scheme: str
) -> None:
    file = getattr(made, page)
    _open(browser, file, width=width, scheme=scheme)
    assert not browser.faults()
    sound = {(made.linked.parent / "sound #1" / "talk.wav").as_uri()}
    assert browser.asked_for() == {file.as_uri()} | (sound if page == "linked" else set())
    assert browser.evaluate("document.documentElement.scrollWidth") <= width
    assert browser.evaluate("document.querySelectorAll('h1').length") == 1
    natural = browser.evaluate("document.querySelector('.mel img').naturalWidth")
    assert natural == 640
    seconds = browser.evaluate("document.getElementById('sound').duration")
    assert seconds == pytest.approx(20, abs=0.1)
    curve = "document.querySelector('.curve .predicted').getBoundingClientRect().width"
    assert browser.evaluate(curve) > 0.6 * min(width, 960)


@pytest.mark.parametrize("page", ["carried", "linked"])
def test_the_cursor_runs_while_it_plays(browser: Browser, made: Made, page: str) -> None:
    _open(browser, getattr(made, page))
    assert _state(browser)["share"] == pytest.approx(0, abs=1e-3)
    browser.press(" ")
    _wait(browser, "document.getElementById('sound').currentTime > 1")
    early = _state(browser)
    assert not early["paused"]
    assert early["label"] == "Pause"
    _wait(browser, f"document.getElementById('sound').currentTime > {early['time'] + 0.5}")
    late = _state(browser)
    assert late["share"] > early["share"] > 0.03
    browser.press(" ")
    _wait(browser, "document.getElementById('play').getAttribute('aria-label') === 'Play'")
    stopped = _state(browser)
    assert stopped["label"] == "Play"
    assert stopped["share"] == pytest.approx(stopped["time"] / 20, abs=2e-3)
    assert _number(stopped["value"]) == pytest.approx(
        made.csv[int(stopped["time"] / 0.5)], abs=6e-4
    )
    assert not browser.faults()


def test_a_click_seeks_and_a_drag_follows(browser: Browser, made: Made) -> None:
    _open(browser, made.carried)
    browser.click(*_place(browser, 0.5125))
    _wait(browser, "!document.getElementById('sound').seeking")
    found = _state(browser)
    assert found["time"] == pytest.approx(10.25, abs=0.05)
    assert found["share"] == pytest.approx(0.5125, abs=2e-3)
    assert found["paused"]
    browser.mouse("Pressed", *_place(browser, 0.2))
    assert _state(browser)["share"] == pytest.approx(0.2, abs=2e-3)
    browser.mouse("Moved", *_place(browser, 0.8))
    assert _state(browser)["share"] == pytest.approx(0.8, abs=2e-3)
    browser.mouse("Released", *_place(browser, 0.8))
    browser.mouse("Moved", *_place(browser, 0.3))
    assert _state(browser)["share"] == pytest.approx(0.8, abs=2e-3), "the button is up"


def test_the_numbers_are_those_of_the_csv(browser: Browser, made: Made) -> None:
    _open(browser, made.carried)
    for segment, value in enumerate(made.csv):
        browser.evaluate(f"seek({0.5 * segment + 0.25})")
        found = _state(browser)
        assert _number(found["value"]) == pytest.approx(value, abs=5.1e-4)
        annotated = -0.5 + segment / 39
        assert _number(found["annotated"]) == pytest.approx(annotated, abs=5.1e-4)
        assert found["speech"] == ("0 %" if 12 <= segment < 18 else "100 %")
        # The value under the mouse, while the cursor stands elsewhere.
        browser.evaluate("seek(0)")
        browser.mouse("Moved", *_place(browser, (segment + 0.5) / 40))
        tip = browser.evaluate("document.getElementById('tip').textContent")
        assert f"valence {found['value']}" in tip
    exact = browser.evaluate("data.curves[0].predicted")
    assert exact == made.csv


def test_keys_move_by_values_and_a_screen_reader_hears_them(browser: Browser, made: Made) -> None:
    _open(browser, made.carried)
    for _ in range(3):
        browser.press("ArrowRight")
    assert _state(browser)["now"] == "0:01.5"
    browser.press("ArrowLeft")
    found = _state(browser)
    assert found["now"] == "0:01.0"
    value = f"{made.csv[2]:.3f}".replace("-", "−")
    assert found["words"] == f"1 s, valence {value}, annotated −0.449, speech 100 %"
    browser.press("PageUp")
    assert _state(browser)["now"] == "0:01.0", "these keys scroll until the curves have the focus"
    browser.evaluate("document.getElementById('track').focus()")
    for key, now in (
        ("PageUp", "0:11.0"),
        ("PageDown", "0:01.0"),
        ("ArrowUp", "0:01.5"),
        ("ArrowDown", "0:01.0"),
        ("End", "0:20.0"),
        ("ArrowRight", "0:20.0"),
        ("Home", "0:00.0"),
        ("ArrowLeft", "0:00.0"),
    ):
        browser.press(key)
        assert _state(browser)["now"] == now, key
    roles = browser.evaluate(
        "['role', 'aria-label', 'aria-valuemin', 'aria-valuemax', 'aria-valuenow']"
        ".map(name => document.getElementById('track').getAttribute(name))"
    )
    assert roles == ["slider", "Position in the recording", "0", "20.0", "0.0"]
    assert not browser.faults()


def test_the_tab_key_reaches_all_that_can_be_used_and_shows_it(
    browser: Browser, made: Made
) -> None:
    _open(browser, made.carried, width=390)
    reached = []
    for _ in range(20):
        browser.press("Tab")
        name, outline = browser.evaluate(
            "(e => [e.id || e.textContent.trim(), getComputedStyle(e).outlineStyle])"
            "(document.activeElement)"
        )
        if reached and name == reached[0]:
            break
        reached.append(name)
        if name and "valence" not in name:
            assert outline == "solid", name
        if "csv" in name:
            break
    assert reached[:2] == ["play", "track"]
    assert "csv" in reached[-1]
    passages = browser.evaluate("document.querySelectorAll('button[data-start]').length")
    assert len(reached) == 3 + passages


def test_a_passage_is_a_place_to_jump_to(browser: Browser, made: Made) -> None:
    _open(browser, made.carried)
    starts = browser.evaluate("passages.map(b => [+b.dataset.start, +b.dataset.end])")
    assert len(starts) >= 2
    for number, (start, end) in enumerate(starts):
        browser.evaluate(f"passages[{number}].click()")
        found = _state(browser)
        assert found["share"] == pytest.approx(start / 20, abs=2e-3)
        assert end - start >= 2
        assert browser.evaluate(f"passages[{number}].getAttribute('aria-current')") == "true"
    # The highest begins where the values are high.
    best = starts[0]
    inside = made.csv[int(best[0] / 0.5) : int(best[1] / 0.5)]
    assert np.mean(inside) > np.quantile(made.csv, 0.8)


def test_a_lost_sound_is_said_in_words_and_the_curve_stays(browser: Browser, made: Made) -> None:
    browser.open(made.broken, width=390, scheme="dark")
    _wait(browser, "!document.getElementById('trouble').hidden")
    text = browser.evaluate("document.getElementById('trouble').textContent")
    assert "'talk.wav' cannot be played from its place" in text
    assert browser.evaluate("document.getElementById('play').disabled")
    browser.press("ArrowRight")
    assert browser.evaluate("document.getElementById('now').textContent") == "0:00.5"


def test_text_has_contrast(browser: Browser, made: Made) -> None:
    """WCAG 2.1 asks for 4.5 between text and what lies behind it."""
    for scheme in _SCHEMES:
        _open(browser, made.carried, scheme=scheme)
        ratios = browser.contrasts("p, a, h1, h2, h3, li, button, dt, dd, kbd, .stage text, .mean")
        assert len(ratios) > 10
        assert min(ratios.values()) >= 4.5, ratios


def test_screenshots_can_be_taken(browser: Browser, made: Made, tmp_path: Path) -> None:
    """What a person looks at: VALENCE_SCREENSHOTS names a folder to keep them in."""
    keep = os.environ.get("VALENCE_SCREENSHOTS")
    folder = Path(keep) if keep else tmp_path
    colours = set()
    for name, width in _WIDTHS.items():
        for scheme in _SCHEMES:
            _open(browser, made.carried, width=width, scheme=scheme)
            browser.screenshot(folder / f"page-{name}-{scheme}.png")
            colours.add(browser.evaluate("getComputedStyle(document.body).backgroundColor"))
    assert len(colours) == 2
    assert min(file.stat().st_size for file in folder.glob("page-*.png")) > 30_000
