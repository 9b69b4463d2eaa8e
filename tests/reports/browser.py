"""Headless Chromium through chromedriver's W3C WebDriver protocol: what the pages' tests need, without a library."""

from __future__ import annotations

import json
import re
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.request
from base64 import b64decode
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
DRIVERS = ("chromedriver", "chromium.chromedriver")
_ELEMENT = "element-6066-11e4-a52e-4f735466cecf"  # the key of a web element in the protocol
_START_SECONDS = 60


def missing() -> str:
    """What has to be installed before a browser can be opened; empty where nothing is missing."""
    lacking = [names[0] for names in (BROWSERS, DRIVERS) if _find(names) is None]
    return f"no {' and no '.join(lacking)} here (Debian: apt install chromium chromium-driver)" if lacking else ""


class Browser:
    """One window."""

    def __init__(self, url: str, session: str) -> None:
        self._url = f"{url}/session/{session}"

    def open(self, page: Path | str) -> None:
        """Load a file, or an address, and wait until it is complete."""
        _call("POST", f"{self._url}/url", {"url": page if isinstance(page, str) else page.resolve().as_uri()})

    def run(self, script: str, *arguments: Any) -> Any:
        """The value that a function body returns."""
        return _call("POST", f"{self._url}/execute/sync", {"script": script, "args": list(arguments)})

    def box(self, selector: str) -> dict[str, float]:
        """Where an element lies in the window: ``x``, ``y``, ``width`` and ``height`` in px, scrolled into view."""
        return self.run(
            "const e = document.querySelector(arguments[0]); e.scrollIntoView({block: 'center'});"
            "return e.getBoundingClientRect().toJSON();",
            selector,
        )

    def drag(self, selector: str, start: float, end: float) -> None:
        """Press the pointer on an element, move it across and let it go; places are shares of its width."""
        box = self.box(selector)
        y = round(box["y"] + box["height"] / 2)
        xs = [round(box["x"] + box["width"] * (start + (end - start) * step / 8)) for step in range(9)]
        move = [{"type": "pointerMove", "duration": 20, "x": x, "y": y} for x in xs]
        actions = [move[0], {"type": "pointerDown", "button": 0}, *move[1:], {"type": "pointerUp", "button": 0}]
        pointer = {"type": "pointer", "id": "mouse", "parameters": {"pointerType": "mouse"}, "actions": actions}
        _call("POST", f"{self._url}/actions", {"actions": [pointer]})

    def click(self, selector: str) -> None:
        """Click an element as a user would: one that another covers raises an error."""
        found = _call("POST", f"{self._url}/element", {"using": "css selector", "value": selector})
        _call("POST", f"{self._url}/element/{found[_ELEMENT]}/click", {})

    def press(self, key: str) -> None:
        """Press a key and let it go."""
        strokes = [{"type": kind, "value": key} for kind in ("keyDown", "keyUp")]
        _call("POST", f"{self._url}/actions", {"actions": [{"type": "key", "id": "keyboard", "actions": strokes}]})

    def wait_until(self, condition: str) -> None:
        """Wait until an expression is true."""
        until = time.monotonic() + _START_SECONDS
        while not self.run(f"return Boolean({condition});"):
            assert time.monotonic() < until, condition
            time.sleep(0.02)

    def resize(self, width_px: int, height_px: int, *, dark: bool = False) -> None:
        """Set the size of the page (as a phone would have it) and what colours its user prefers."""
        size = {"width": width_px, "height": height_px, "deviceScaleFactor": 1, "mobile": False}
        scheme = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
        for command, given in (
            ("Emulation.setDeviceMetricsOverride", size),
            ("Emulation.setEmulatedMedia", {"features": scheme}),
        ):
            _call("POST", f"{self._url}/goog/cdp/execute", {"cmd": command, "params": given})

    def complaints(self) -> list[str]:
        """What the console has said since the last call: errors, warnings, and files that could not be had."""
        entries = _call("POST", f"{self._url}/se/log", {"type": "browser"})
        return [f"{entry['level']}: {entry['message']}" for entry in entries if entry["level"] != "INFO"]

    def screenshot(self, path: Path) -> None:
        """Write what the window shows as PNG."""
        path.write_bytes(b64decode(_call("GET", f"{self._url}/screenshot")))


@contextmanager
def chromium(profile: Path) -> Iterator[Browser]:
    """A headless window of the installed Chromium, with the empty folder ``profile`` for its own; closed at the end."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    driver = _find(DRIVERS)
    assert driver is not None
    log = profile.with_name("chromedriver.log")
    process = subprocess.Popen([driver, f"--port={port}", f"--log-path={log}"], stdout=subprocess.DEVNULL)
    try:
        _wait_for(url)
        flags = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run"]
        options = {"args": [*flags, f"--user-data-dir={profile}"], "binary": _find(BROWSERS)}
        wanted = {"browserName": "chrome", "goog:chromeOptions": options, "goog:loggingPrefs": {"browser": "ALL"}}
        session = _call("POST", f"{url}/session", {"capabilities": {"alwaysMatch": wanted}})["sessionId"]
        try:
            yield Browser(url, session)
        finally:
            _call("DELETE", f"{url}/session/{session}")
    finally:
        process.terminate()
        process.wait(10)


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with chromium(tmp_path_factory.mktemp("browser") / "profile") as opened:
        yield opened


def _find(names: tuple[str, ...]) -> str | None:
    return next((path for name in names if (path := shutil.which(name)) is not None), None)


def _wait_for(url: str) -> None:
    until = time.monotonic() + _START_SECONDS
    while True:
        try:
            if _call("GET", f"{url}/status")["ready"]:
                return
        except OSError:
            if time.monotonic() > until:
                raise
        time.sleep(0.1)


def _call(method: str, url: str, body: dict[str, Any] | None = None) -> Any:
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"Content-Type": "application/json"}, method=method)
    # Not through a proxy: the driver is on this machine.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=300) as answer:
            return json.load(answer)["value"]
    except urllib.error.HTTPError as error:
        raise AssertionError(re.sub(r"\s+", " ", error.read().decode())[:500]) from error


NEEDS_BROWSER = [pytest.mark.browser, pytest.mark.skipif(bool(missing()), reason=missing() or "a browser is here")]
