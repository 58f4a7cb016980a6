"""A headless Chromium driven over its DevTools protocol: load at a width, collect what the console says, click."""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from websockets.sync.client import ClientConnection, connect

_FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--hide-scrollbars",
    "--remote-debugging-port=0",
)


def find_chromium() -> str | None:
    """Return a Chromium on this machine, if there is one."""
    return next(
        (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None
    )


class Page:
    """One tab. `faults` are console errors, uncaught exceptions and requests that failed."""

    def __init__(self, connection: ClientConnection) -> None:
        self._connection = connection
        self._last = 0
        self.faults: list[str] = []
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **params: Any) -> Any:
        """Send a command and return its result."""
        self._last += 1
        self._connection.send(json.dumps({"id": self._last, "method": method, "params": params}))
        while True:
            message = json.loads(self._connection.recv(timeout=30))
            if message.get("id") == self._last:
                assert "error" not in message, f"{method}: {message['error']}"
                return message["result"]
            self._note(message)

    def _note(self, message: dict[str, Any]) -> None:
        params = message.get("params", {})
        match message.get("method"):
            case "Runtime.exceptionThrown":
                details = params["exceptionDetails"]
                self.faults.append(f"exception: {details.get('exception', {}).get('description', details['text'])}")
            case "Runtime.consoleAPICalled" if params["type"] in ("error", "warning", "assert"):
                self.faults.append(f"console.{params['type']}: {[each.get('value') for each in params['args']]}")
            case "Log.entryAdded" if params["entry"]["level"] in ("error", "warning"):
                self.faults.append(f"log: {params['entry']['text']} {params['entry'].get('url', '')}")
            case "Network.responseReceived" if params["response"]["status"] >= 400:
                self.faults.append(f"{params['response']['status']}: {params['response']['url']}")

    def size(self, width: int, height: int, *, is_mobile: bool = False, scheme: str = "light", scale: int = 1) -> None:
        """Set the window's size in CSS pixels and the colour scheme."""
        self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=scale, mobile=is_mobile
        )
        self.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])

    def open(self, url: str) -> None:
        """Go to an address and wait until the document is there."""
        self.call("Page.navigate", url=url)
        self.wait_for("document.readyState === 'complete'")

    def read(self, expression: str) -> Any:
        """Evaluate JavaScript and return its value."""
        answer = self.call(
            "Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True, userGesture=True
        )
        assert "exceptionDetails" not in answer, f"{expression}: {answer['exceptionDetails']}"
        return answer["result"].get("value")

    def wait_for(self, expression: str, timeout_s: float = 20) -> Any:
        """Wait until an expression is true and return its value."""
        deadline = time.monotonic() + timeout_s
        while True:
            value = self.read(expression)
            if value:
                return value
            assert time.monotonic() < deadline, f"not true within {timeout_s} s: {expression}; faults: {self.faults}"
            self.read("new Promise((done) => setTimeout(done, 100))")

    def press(self, key: str) -> None:
        """Press and release a key."""
        for kind in ("keyDown", "keyUp"):
            self.call("Input.dispatchKeyEvent", type=kind, key=key, code=key)

    def shoot(self, target: Path, *, is_whole: bool = False) -> None:
        """Write a PNG of the window, or of the whole page."""
        answer = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=is_whole)
        target.write_bytes(base64.b64decode(answer["data"]))


@contextmanager
def browsing(chromium: str) -> Iterator[Page]:
    """Run a browser with one empty tab."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        process = subprocess.Popen(
            [chromium, *_FLAGS, f"--user-data-dir={profile}", "about:blank"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            with connect(_find_tab(process, Path(profile)), max_size=None, proxy=None) as connection:
                yield Page(connection)
        finally:
            process.terminate()
            process.wait(15)


def _find_tab(process: subprocess.Popen[bytes], profile: Path) -> str:
    deadline = time.monotonic() + 30
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    while time.monotonic() < deadline:
        assert process.poll() is None, f"Chromium ended with {process.returncode}"
        try:
            port = (profile / "DevToolsActivePort").read_text().split()[0]
            with opener.open(f"http://127.0.0.1:{port}/json/list", timeout=2) as answer:
                tabs = [tab for tab in json.load(answer) if tab["type"] == "page"]
            if tabs:
                return str(tabs[0]["webSocketDebuggerUrl"])
        except (OSError, IndexError):
            pass
        try:
            process.wait(0.1)
        except subprocess.TimeoutExpired:
            continue
    raise AssertionError("Chromium opened no tab within 30 s")
