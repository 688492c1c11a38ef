"""The file of a page: escaped, self-contained, with the numbers of the CSV and honest words."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import numpy as np
import pandas as pd
import pytest

from tests.helpers.paged import made_page_input
from valence.model.quality import Quality
from valence.prediction.outputs import table
from valence.prediction.outputs.registry import OUTPUTS
from valence.prediction.page import content
from valence.prediction.page.render import Link, render, render_page, sound_href
from valence.prediction.page.sound import MOST_BYTES
from valence.storage.location import Location


class _Read(HTMLParser):
    """Collect the elements, the text and the data of a page."""

    def __init__(self, page: bytes) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.text: dict[str, list[str]] = {}
        self._open = [""]
        self.feed(page.decode())
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        known = {name: value or "" for name, value in attrs}
        self.elements.append((tag, known))
        self._open.append("json" if known.get("type") == "application/json" else tag)

    def handle_endtag(self, tag: str) -> None:
        self._open.append("")

    def handle_data(self, data: str) -> None:
        self.text.setdefault(self._open[-1], []).append(data)

    def every(self, tag: str) -> list[dict[str, str]]:
        return [attributes for name, attributes in self.elements if name == tag]

    @property
    def data(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads("".join(self.text["json"]))
        return found

    @property
    def words(self) -> str:
        every = [
            part
            for tag, parts in self.text.items()
            if tag not in ("json", "script", "style")
            for part in parts
        ]
        return re.sub(r"\s+", " ", " ".join(every))


def test_the_numbers_are_those_of_the_csv_to_the_last_digit(tmp_path: Path) -> None:
    annotated = np.linspace(-1, 1, 40).astype(np.float32)
    annotated[:3] = np.nan
    predicted = made_page_input(tmp_path / "talk.wav", annotation={"valence": annotated})
    (tmp_path / "talk.csv").write_bytes(table.render(predicted))
    data = _Read(render(predicted)).data
    frame = pd.read_csv(tmp_path / "talk.csv", dtype={"valence": str})
    (curve,) = data["curves"]
    assert [float(text) for text in frame["valence"]] == curve["predicted"]
    assert data["step"] == 0.5
    assert data["seconds"] == 20
    assert curve["annotated"][:3] == [None] * 3
    assert curve["annotated"][3:] == [float(str(value)) for value in annotated[3:]]
    assert data["speech"][11:13] == [1.0, 0.0]


@pytest.mark.parametrize(
    "name",
    [
        "</script><script>alert(1)</script>",
        "a\"b'c & <i>d</i>",
        "50% #1?x=y:z",
        "Zoë 会議 \u202egnp.exe",
        "{{ 7 * 7 }}",
        "-rf",
    ],
)
def test_any_name_is_text_and_its_table_is_linked(tmp_path: Path, name: str) -> None:
    page = _Read(render(replace(made_page_input(tmp_path / "x.wav"), name=name)))
    (heading,) = page.text["h1"]
    assert heading == name.replace("\u202e", "\\u202e")
    (link,) = page.every("a")
    assert unquote(link["href"]) == f"./{name}.csv"
    assert not set(link["href"]) & set("<>\"' ?#:&")
    assert len(page.every("script")) == 2
    assert not page.every("i")


def test_it_allows_only_what_it_holds(tmp_path: Path) -> None:
    content_ = render(made_page_input(tmp_path / "talk.wav"))
    page = _Read(content_)
    (rule,) = [each["content"] for each in page.every("meta") if "http-equiv" in each]
    rules = dict(part.split(" ", 1) for part in rule.split("; "))
    assert rules["default-src"] == "'none'"
    assert rules["media-src"] == rules["img-src"] == "data:"
    for tag in ("script", "style"):
        inner = re.findall(f"<{tag}>(.*?)</{tag}>".encode(), content_, flags=re.DOTALL)[-1]
        digest = base64.b64encode(hashlib.sha256(inner).digest()).decode()
        assert rules[f"{tag}-src"] == f"'sha256-{digest}'"
    # A style attribute would be refused by the browser.
    assert not [attributes for _, attributes in page.elements if "style" in attributes]
    sources = [value for _, each in page.elements for key, value in each.items() if key == "src"]
    assert len(sources) == 2
    assert all(source.startswith("data:") for source in sources)
    assert b"http:" not in content_
    assert b"https:" not in content_
    assert str(tmp_path).encode() not in content_, "no path of this machine is told"


def test_the_same_recording_gives_the_same_bytes(tmp_path: Path) -> None:
    predicted = made_page_input(tmp_path / "talk.wav")
    assert render(predicted) == render(predicted)
    assert OUTPUTS["page"].suffix == ".html"
    assert OUTPUTS["page"].render(predicted) == render(predicted)


def test_a_band_is_drawn_only_with_a_stated_error(tmp_path: Path) -> None:
    predicted = made_page_input(tmp_path / "talk.wav")
    plain = _Read(render(predicted))
    assert not [each for each in plain.every("path") if each.get("class") == "band"]
    assert "states no test error, so no band is drawn" in plain.words
    known = Quality(corpus="made", ccc=0.4, ccc_ci=(0.2, 0.6), test_subjects=9, rmse=0.25)
    banded = _Read(render(replace(predicted, quality=known)))
    # One in the legend and one in the plot.
    assert len([each for each in banded.every("path") if each.get("class") == "band"]) == 2
    assert "The band is valence ± 0.25: the model's root mean square error" in banded.words
    assert "no interval for a single value" in banded.words


def test_the_models_quality_stands_on_the_page(tmp_path: Path) -> None:
    bad = Quality(corpus="made", synthetic=True, ccc=-0.1, ccc_ci=(-0.3, 0.1), test_subjects=9)
    page = _Read(render(replace(made_page_input(tmp_path / "talk.wav"), quality=bad)))
    for warning in bad.warnings:
        assert warning in page.words
    assert len(bad.warnings) == 2
    assert bad.sentence in page.words


def test_silence_is_drawn_where_it_is_known(tmp_path: Path) -> None:
    page = _Read(render(made_page_input(tmp_path / "talk.wav")))
    quiet = [each for each in page.every("rect") if each.get("class") == "quiet" and "x" in each]
    # Segments 12 to 17, behind the wave and behind the curve.
    assert [(each["x"], each["width"]) for each in quiet] == [("12", "6")] * 2
    assert "Nobody speaks in 3.0 s of the recording" in page.words
    assert "less than 10% of speech, found by a made share" in page.words
    assert "A value there is not about a voice" in page.words
    unknown = _Read(render(made_page_input(tmp_path / "talk.wav", speech=False)))
    assert not [each for each in unknown.every("rect") if each.get("class") == "quiet"]
    assert "speaks" not in unknown.words
    assert unknown.data["speech"] is None


def test_a_recording_longer_than_a_page_is_linked_in_words(tmp_path: Path) -> None:
    out = tmp_path / "out"
    file = tmp_path / "my talks" / "talk #1.wav"
    predicted = made_page_input(file, name="talk #1", out=out)
    page = _Read(render_page(predicted, table=None, most_bytes=99_999))
    (audio,) = page.every("audio")
    assert audio["src"] == "../my%20talks/talk%20%231.wav"
    assert (
        "The recording lasts 20.0 s, and a page holds 20.0 s of sound at most. This one plays the "
        "file 'talk #1.wav' from its place: keep both where they are."
    ) in page.words
    (rule,) = [each["content"] for each in page.every("meta") if "http-equiv" in each]
    assert "media-src 'self' file:" in rule
    carried = _Read(render_page(predicted, table=None, most_bytes=100_000))
    assert carried.every("audio")[0]["src"].startswith("data:audio/mpeg;base64,")


def test_sound_in_a_store_is_named_and_not_linked(tmp_path: Path) -> None:
    predicted = made_page_input(
        tmp_path / "talk.wav", audio="s3://bucket/talks/talk.wav?region=us-east-1"
    )
    page = _Read(render_page(predicted, table=Link("./t.csv", "t.csv"), most_bytes=0))
    assert not page.every("audio")
    place = "s3://bucket/talks/talk.wav?region=us-east-1"
    assert f"The file lies at '{place}', which a browser cannot play" in page.words
    # With the sound in the page, it makes no difference where the file lies.
    assert _Read(render(predicted)).every("audio")


def test_links_to_sound_are_relative_where_that_is_possible(tmp_path: Path) -> None:
    audio = Location.parse("/d/a b.wav")
    assert sound_href(audio, Location.parse("/d")) == "./a%20b.wav"
    assert sound_href(audio, Location.parse("/d/out")) == "../a%20b.wav"
    assert sound_href(audio, None) == "file:///d/a%20b.wav"
    assert (
        sound_href(audio, Location.parse("s3://bucket/out?region=us-east-1"))
        == "file:///d/a%20b.wav"
    )
    assert MOST_BYTES == 3600 * 5000, "one hour, as the documentation states"


def test_values_of_very_long_recordings_are_thinned_and_said_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(content, "MOST_STEPS", 20)
    monkeypatch.setattr(content, "MOST_DRAWN", 10)
    predicted = made_page_input(tmp_path / "talk.wav")
    page = _Read(render(predicted))
    (curve,) = page.data["curves"]
    assert page.data["step"] == 1.0
    means = predicted.timeline.to_frame()["valence"].to_numpy().reshape(20, 2).mean(axis=1)
    assert curve["predicted"] == pytest.approx(means.tolist(), abs=1e-6)
    assert "each drawn step is the mean of 4 values" in page.words
    assert "The value under the cursor is the mean of 2 values" in page.words


def test_a_recording_of_one_value_has_no_passages(tmp_path: Path) -> None:
    predicted = made_page_input(tmp_path / "talk.wav", n=3, speech=False)
    values = np.full((3, 1), 0.2, np.float32)
    short = replace(predicted, timeline=replace(predicted.timeline, values=values, short=True))
    page = _Read(render(short))
    assert "so one value holds throughout" in page.words
    assert "has no passage that stands out" in page.words
    assert len(page.every("button")) == 1
