"""A headless Chromium (Debian's, driven by playwright): load at a width, collect what goes wrong, click."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from playwright.sync_api import ConsoleMessage, Error, Response, sync_playwright
from playwright.sync_api import Page as Tab

from tests.kit.waiting import eventually


def find_chromium() -> str | None:
    """Return a Chromium on this machine, if there is one."""
    return next(
        (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None
    )


class Page:
    """One tab. `faults` are console errors, uncaught exceptions and requests that failed."""

    def __init__(self, tab: Tab) -> None:
        self._tab = tab
        self.faults: list[str] = []
        tab.on("console", self._note_console)
        tab.on("pageerror", lambda error: self.faults.append(f"exception: {error}"))
        tab.on("response", self._note_response)

    def _note_console(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning", "assert"):
            self.faults.append(f"console.{message.type}: {message.text} {message.location.get('url', '')}")

    def _note_response(self, response: Response) -> None:
        if response.status >= 400:
            self.faults.append(f"{response.status}: {response.url}")

    def size(self, width: int, height: int, *, scheme: str = "light") -> None:
        """Set the window's size in CSS pixels and the colour scheme."""
        self._tab.set_viewport_size({"width": width, "height": height})
        self._tab.emulate_media(color_scheme="dark" if scheme == "dark" else "light")

    def open(self, url: str) -> None:
        """Go to an address and wait until the document is there."""
        self._tab.goto(url, wait_until="load")

    def read(self, expression: str) -> Any:
        """Evaluate JavaScript and return its value."""
        return self._tab.evaluate(expression)

    def wait_for(self, expression: str, timeout_s: float = 60) -> None:
        """Wait until an expression is true, over navigations too."""
        # playwright's own wait evaluates text inside the page, which the page's Content-Security-Policy forbids.
        eventually(lambda: self._holds(expression), within_s=timeout_s, step=lambda: self._tab.wait_for_timeout(50))

    def _holds(self, expression: str) -> bool:
        try:
            return bool(self._tab.evaluate(expression))
        except Error as error:
            if "context was destroyed" in error.message or "navigat" in error.message:
                return False
            raise

    def fill(self, name: str, text: str) -> None:
        """Type into a field, by its id."""
        self._tab.fill(f"#{name}", text)

    def click(self, name: str) -> None:
        """Click an element, by its id."""
        self._tab.click(f"#{name}")

    def press(self, key: str) -> None:
        """Press and release a key."""
        self._tab.keyboard.press(key)

    def shoot(self, target: Path) -> None:
        """Write a PNG of the whole page."""
        self._tab.screenshot(path=str(target), full_page=True)


@contextmanager
def browsing(chromium: str) -> Iterator[Page]:
    """Run a browser with one empty tab."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-dev-shm-usage"])
        try:
            yield Page(browser.new_page())
        finally:
            browser.close()
