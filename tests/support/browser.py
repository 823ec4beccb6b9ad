"""Start the Chromium of this machine."""

from __future__ import annotations

import os
import shutil
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from playwright.sync_api import Browser

_NAMES = (
    "chromium-headless-shell",  # opens a page in a third of the time
    "chromium",
    "chromium-browser",
    "google-chrome",
)
# It must connect only to the page under test.
_ARGUMENTS = (
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-gpu",
    "--disable-quic",
    "--disable-sync",
    "--no-first-run",
)


def chromium() -> str | None:
    """Return the path of a Chromium, or the value of `CHROMIUM`."""
    given = os.environ.get("CHROMIUM")
    return given or next(filter(None, map(shutil.which, _NAMES)), None)


@contextmanager
def a_browser(path: str) -> Iterator[Browser]:
    """Run a browser without a window and with a new profile."""
    from playwright.sync_api import sync_playwright  # noqa: PLC0415 - slow to import, and most runs open no page

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=path,
            args=list(_ARGUMENTS),
            # Root cannot use the sandbox of Chromium.
            chromium_sandbox=os.geteuid() != 0,
        )
        try:
            yield browser
        finally:
            browser.close()
