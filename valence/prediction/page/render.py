"""Render the page of a recording: one HTML file that needs nothing beside it."""

from __future__ import annotations

import base64
import hashlib
import importlib.resources
import os
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import quote

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from valence.formatting import duration, number
from valence.prediction.outputs.predicted import Predicted
from valence.prediction.page.content import Picture, draw
from valence.prediction.page.curves import Tick, clock, time_ticks
from valence.prediction.page.sound import (
    BYTES_A_SECOND,
    MOST_BYTES,
    listen,
    mel_picture,
)
from valence.storage.filenames import printable
from valence.storage.location import Location

_PACKAGE = "valence.prediction.page"


@dataclass(frozen=True)
class Link:
    """A link to a file: its address, escaped as in a URL, and its text."""

    href: str
    text: str


@dataclass(frozen=True)
class _Page:
    """All that the template shows, in its order.

    Attributes
    ----------
    name, lead
        Heading and first paragraph.
    notices
        Facts that a reader must know before any number.
    picture
        The drawn curves.
    sound
        Address of the sound: a data URI, or a link; an empty string if no browser can reach it.
    trouble
        The sentence to show if the sound cannot be played.
    length
        Length of the recording as on a clock.
    readings
        Name and class of each number at the cursor.
    mel
        Picture of the mel as a data URI.
    times
        Marks of the time axis.
    words
        How to read the page.
    table
        The table with all values, if it lies beside the page.
    model
        Known quality of the model.
    """

    name: str
    lead: str
    notices: tuple[str, ...]
    picture: Picture
    sound: str
    trouble: str
    length: str
    readings: tuple[tuple[str, str], ...]
    mel: str
    times: tuple[Tick, ...]
    words: tuple[str, ...]
    table: Link | None
    model: str


def render(predicted: Predicted) -> bytes:
    """Render the page of a prediction whose table lies beside it, with sound up to an hour."""
    table = Link(href(f"{predicted.name}.csv"), printable(f"{predicted.name}.csv"))
    return render_page(predicted, table=table)


def render_page(predicted: Predicted, *, table: Link | None, most_bytes: int = MOST_BYTES) -> bytes:
    """Render the page of a prediction.

    Parameters
    ----------
    predicted
        The prediction.
    table
        Link to the table with all values; None if there is none.
    most_bytes
        Most bytes of compressed sound that the page carries. A longer recording is linked.

    Raises
    ------
    AudioError
        If the sound cannot be decoded any more.
    """
    timeline = predicted.timeline
    seconds = len(timeline) * timeline.step
    short_enough = seconds * BYTES_A_SECOND <= most_bytes
    sound = listen(
        predicted.path,
        segments=len(timeline),
        step=timeline.step,
        channel=predicted.channel,
        name=predicted.audio,
        compress=short_enough,
    )
    notices: tuple[str, ...] = ()
    if sound.stream is not None:
        address = sound.stream_uri
        told = f"The page holds the sound: 16 kHz, one channel, {len(sound.stream) / 1e6:.1f} MB."
        trouble = "This browser cannot play the sound (MP3) of this page."
    else:
        address = sound_href(predicted.audio, predicted.out)
        shown = printable(predicted.audio.name)
        told = f"The page plays the file '{shown}', which is not in it: keep the file at its place."
        trouble = (
            f"The sound '{shown}' cannot be played from its place. Expected the file there, in a "
            "form that browsers play (WAV, MP3, FLAC, Ogg, M4A). Put it back, or convert it."
        )
        notices = (_why_linked(seconds, most_bytes, short_enough, address, predicted.audio),)
    picture = draw(predicted)
    page = _Page(
        name=printable(predicted.name),
        lead=_lead(predicted, seconds),
        notices=(*predicted.quality.warnings, *notices),
        picture=picture,
        sound=address,
        trouble=trouble,
        length=clock(seconds),
        readings=_readings(picture.data),
        mel=mel_picture(sound.mel),
        times=time_ticks(seconds),
        words=(
            *picture.words,
            *((told,) if address else ()),
            *(f"Sound: {remark}." for remark in timeline.remarks),
        ),
        table=table,
        model=predicted.quality.sentence,
    )
    script, style = asset("page.js"), asset("page.css")
    media = "data:" if sound.stream is not None else "'self' file:"
    return (
        environment()
        .get_template("page.html.j2")
        .render(
            page=page,
            policy=policy(style, script, media=media if address else None),
            css=style,
            js=script,
            clock=clock,
            number=number,
        )
        .encode()
    )


def _lead(predicted: Predicted, seconds: float) -> str:
    timeline = predicted.timeline
    targets = " and ".join(timeline.targets).capitalize()
    text = f"{targets} of {duration(seconds)} of sound, a value every {timeline.step:g} s."
    for target, ccc in (predicted.outcome.ccc or {}).items():
        text += f" CCC of {target} with the annotations: {number(ccc, 2)}"
        silent = predicted.silent
        differs = silent is not None and bool(silent.any())
        spoken = (predicted.outcome.ccc_speech or {}).get(target) if differs else None
        text += "." if spoken is None else f", and {number(spoken, 2)} where somebody speaks."
    return text


def _why_linked(
    seconds: float, most_bytes: int, short_enough: bool, address: str, audio: Location
) -> str:
    most = duration(most_bytes / BYTES_A_SECOND)
    if short_enough:
        found = "The installed libsndfile writes no MP3, so this page does not hold the sound."
    else:
        found = (
            f"The recording lasts {duration(seconds)}, and a page holds {most} of sound at most."
        )
    if not address:
        return (
            f"{found} The file lies at '{audio}', which a browser cannot play: the curves are "
            "here without sound. Predict a copy on this machine to hear it."
        )
    return (
        f"{found} This one plays the file '{printable(audio.name)}' from its place: keep both "
        "where they are."
    )


def _readings(data: Any) -> tuple[tuple[str, str], ...]:
    """Name the numbers at the cursor in the order of the script, each with its class."""
    found = []
    for curve in data["curves"]:
        found.append((curve["name"], f"is-{curve['name']}"))
        if curve["annotated"]:
            found.append(("annotated", "is-annotated"))
    if data["speech"]:
        found.append(("speech", "is-speech"))
    return tuple(found)


def sound_href(audio: Location, out: Location | None) -> str:
    """Build the address of a sound for a page in the folder `out`, as far as a browser reaches it.

    A file of this machine is linked relative to the page, so that both can be moved together, or
    by its path if the page's folder is not known. An object in a store has no address.
    """
    if audio.local is None:
        return ""
    if out is None or out.local is None:
        return Path(os.path.abspath(audio.local)).as_uri()  # noqa: PTH100 keeps links as they are
    return href(os.path.relpath(audio.local, out.local))


def href(path: str) -> str:
    """Escape a relative path for a link.

    >>> href("a b#1.csv"), href("../x:y?.wav")
    ('./a%20b%231.csv', '../x%3Ay%3F.wav')
    """
    # Without a folder in front, a name with a colon would read as an address.
    return quote(path if path.startswith("../") else f"./{path}", safe="/")


def policy(css: str, js: str = "", *, media: str | None = None) -> str:
    """State what a page may load: its own style and script, by their digests, and its own media.

    Parameters
    ----------
    css, js
        Style and script as they stand in the page.
    media
        Sources of sound; None if there is none.
    """
    rules = ["default-src 'none'", "img-src data:", f"style-src '{_digest(css)}'"]
    if js:
        rules.append(f"script-src '{_digest(js)}'")
    if media:
        rules.append(f"media-src {media}")
    return "; ".join([*rules, "base-uri 'none'", "form-action 'none'"])


def _digest(text: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"


@cache
def environment() -> Environment:
    """Make the environment of the templates, which escapes all text."""
    return Environment(
        loader=PackageLoader(_PACKAGE, "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=False,
        keep_trailing_newline=True,
    )


@cache
def asset(name: str) -> Markup:
    """Read a file of this package that is inserted into a page unchanged."""
    return Markup(importlib.resources.files(_PACKAGE).joinpath(name).read_text("utf-8"))
