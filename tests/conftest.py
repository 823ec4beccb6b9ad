"""What the browser tests of every page share."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.browser import a_browser, chromium

if TYPE_CHECKING:
    from collections.abc import Iterator

    from playwright.sync_api import Browser, Page


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    path = chromium()
    if path is None:
        pytest.skip("no Chromium here: apt-get install chromium, or set CHROMIUM")
    with a_browser(path) as running:
        yield running


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """A tab that fails the test if its script fails, or a policy is broken."""
    tab = browser.new_page(viewport={"width": 1440, "height": 900})
    wrong: list[str] = []
    tab.on("pageerror", lambda error: wrong.append(str(error)))
    tab.on("dialog", lambda dialog: wrong.append(f"dialog: {dialog.message}"))
    tab.on(
        "console",
        lambda message: (
            wrong.append(message.text) if "Security Policy" in message.text else None
        ),
    )
    tab.set_default_timeout(10_000)
    yield tab
    tab.close()
    assert wrong == []
