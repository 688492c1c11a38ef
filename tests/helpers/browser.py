"""Open pages in a headless Chromium: look, click, press keys, and note what they ask for."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

_CODES = {" ": ("Space", 32), "ArrowLeft": ("ArrowLeft", 37), "ArrowRight": ("ArrowRight", 39)}
_CODES |= {"ArrowUp": ("ArrowUp", 38), "ArrowDown": ("ArrowDown", 40), "Enter": ("Enter", 13)}
_CODES |= {"PageUp": ("PageUp", 33), "PageDown": ("PageDown", 34), "Tab": ("Tab", 9)}
_CODES |= {"Home": ("Home", 36), "End": ("End", 35)}


_CONTRASTS = """(() => {
    const light = (c) => {
        const [r, g, b] = c.match(/[\\d.]+/g).map(Number).map(v => v / 255)
            .map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
        return 0.2126 * r + 0.7152 * g + 0.0722 * b;
    };
    const behind = (e) => {
        const colour = getComputedStyle(e).backgroundColor;
        return /, 0\\)$|transparent/.test(colour) && e.parentElement
            ? behind(e.parentElement) : colour;
    };
    const found = {};
    for (const e of document.querySelectorAll(SELECTOR)) {
        const style = getComputedStyle(e);
        const [a, b] = [light(e.tagName === 'text' ? style.fill : style.color), light(behind(e))];
        found[e.tagName + '.' + (e.className.baseVal ?? e.className) + e.id] =
            (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    }
    return found;
})()"""


class Browser:
    """A headless Chromium, spoken to by its DevTools protocol."""

    def __init__(self, program: str, profile: Path) -> None:
        self._process = subprocess.Popen(
            [
                program,
                "--headless=new",
                "--no-sandbox",
                "--disable-gpu",
                "--disable-dev-shm-usage",
                "--hide-scrollbars",
                "--remote-debugging-port=0",
                f"--user-data-dir={profile}",
                "about:blank",
            ],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        self._loop = asyncio.new_event_loop()
        self.events: list[dict[str, Any]] = []
        self._number = 0
        try:
            self._loop.run_until_complete(self._connect(profile / "DevToolsActivePort"))
        except BaseException:
            self.close()
            raise

    async def _connect(self, port_file: Path) -> None:
        deadline = time.monotonic() + 60
        while not (port_file.exists() and port_file.read_text().strip()):
            assert self._process.poll() is None, "Chromium ended before it could be spoken to"
            assert time.monotonic() < deadline, "Chromium did not start within a minute"
            await asyncio.sleep(0.1)
        port = port_file.read_text().split()[0]
        self._session = aiohttp.ClientSession()
        async with self._session.get(f"http://127.0.0.1:{port}/json/list") as answer:
            pages = [page for page in await answer.json() if page["type"] == "page"]
        self._socket = await self._session.ws_connect(
            pages[0]["webSocketDebuggerUrl"], max_msg_size=0
        )

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Send a command and return its result; events that come meanwhile are kept."""
        return self._loop.run_until_complete(self._call(method, parameters))

    async def _call(self, method: str, parameters: dict[str, Any]) -> dict[str, Any]:
        self._number += 1
        await self._socket.send_json({"id": self._number, "method": method, "params": parameters})
        while True:
            message = json.loads((await self._socket.receive(timeout=60)).data)
            if message.get("id") == self._number:
                assert "error" not in message, message
                result: dict[str, Any] = message["result"]
                return result
            self.events.append(message)

    def evaluate(self, script: str) -> Any:
        """The value of a JavaScript expression, awaited."""
        result = self.call(
            "Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True
        )
        assert "exceptionDetails" not in result, result
        return result["result"].get("value")

    def contrasts(self, selector: str) -> dict[str, float]:
        """Measure WCAG's contrast between the text of elements and what lies behind it."""
        script = _CONTRASTS.replace("SELECTOR", json.dumps(selector))
        found: dict[str, float] = self.evaluate(script)
        return found

    def open(self, file: Path, *, width: int, scheme: str, media: str = "") -> None:
        """Show a file at a width in a colour scheme, and wait until it is drawn."""
        self.events.clear()
        for domain in ("Page", "Runtime", "Network", "Log"):
            self.call(f"{domain}.enable")
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=900,
            deviceScaleFactor=1,
            mobile=width < 640,
        )
        self.call(
            "Emulation.setEmulatedMedia",
            media=media,
            features=[{"name": "prefers-color-scheme", "value": scheme}],
        )
        self.call("Page.navigate", url=file.as_uri())
        self.evaluate(
            "new Promise(done => document.readyState === 'complete' ? done(1) "
            ": addEventListener('load', () => done(1)))"
        )
        self.evaluate(
            "Promise.all([...document.images].map(image => image.decode())).then(() => 1)"
        )

    def screenshot(self, file: Path) -> None:
        """The whole page as PNG."""
        size = self.call("Page.getLayoutMetrics")["cssContentSize"]
        taken = self.call(
            "Page.captureScreenshot",
            captureBeyondViewport=True,
            clip={"x": 0, "y": 0, "width": size["width"], "height": size["height"], "scale": 1},
        )
        file.write_bytes(base64.b64decode(taken["data"]))

    def close(self) -> None:
        """End it."""
        if hasattr(self, "_session"):
            self._loop.run_until_complete(self._session.close())
        self._loop.close()
        self._process.terminate()
        self._process.wait(timeout=30)

    def mouse(self, kind: str, x: float, y: float) -> None:
        """Send an event of the mouse: `Pressed`, `Released` or `Moved`, at a place of the view."""
        pressed = {} if kind == "Moved" else {"button": "left", "clickCount": 1}
        self.call("Input.dispatchMouseEvent", type=f"mouse{kind}", x=x, y=y, **pressed)

    def click(self, x: float, y: float) -> None:
        """Click at a place of the view."""
        for kind in ("Moved", "Pressed", "Released"):
            self.mouse(kind, x, y)

    def press(self, key: str) -> None:
        """Press a key and release it."""
        code, number = _CODES[key]
        known = {"key": key, "code": code, "windowsVirtualKeyCode": number}
        text = {"text": " "} if key == " " else {"text": "\r"} if key == "Enter" else {}
        self.call(
            "Input.dispatchKeyEvent", type="keyDown" if text else "rawKeyDown", **known, **text
        )
        self.call("Input.dispatchKeyEvent", type="keyUp", **known)

    def faults(self) -> list[dict[str, Any]]:
        """Return what the page has written to the console, and its exceptions."""
        self.evaluate("1")
        return [
            event
            for event in self.events
            if event["method"]
            in ("Log.entryAdded", "Runtime.exceptionThrown", "Runtime.consoleAPICalled")
        ]

    def asked_for(self) -> set[str]:
        """Return the addresses that the page has asked for, without data URIs."""
        self.evaluate("1")
        asked = {
            event["params"]["request"]["url"]
            for event in self.events
            if event["method"] == "Network.requestWillBeSent"
        }
        return {url for url in asked if not url.startswith("data:")}


@contextmanager
def chromium(profile: Path) -> Iterator[Browser]:
    """Start a Chromium for the block; the test is skipped where there is none."""
    program = (
        os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
    )
    if program is None:
        pytest.skip("no Chromium here: 'apt-get install chromium' brings one")
    opened = Browser(program, profile)
    try:
        yield opened
    finally:
        opened.close()
