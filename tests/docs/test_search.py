"""The site's search box finds the page of each question among the first three."""

from __future__ import annotations

from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import TYPE_CHECKING

import pytest

from tests.docs.test_site import build
from tests.support.paths import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from playwright.sync_api import Page

pytestmark = pytest.mark.slow
QUESTIONS = {
    "guides/nested-fields": ("map a nested field", "nested json", "json path"),
    "guides/send-only-changes": (
        "send only new rows",
        "incremental",
        "skip rows already sent",
    ),
    "guides/first-run": (
        "first run with a million rows",
        "initial load",
        "initial sync",
        "large table million",
        "initial load large table",
    ),
    "guides/send-one": ("test with one record", "send a single record", "single row"),
    "deploy/runbook": (
        "after a crash",
        "what to do after a crash",
        "interrupted",
        "power loss",
        "process killed halfway",
    ),
    "guides/rotate-a-secret": ("rotate the secret", "webhook secret rotation"),
    "deploy/docker": ("receiver in Docker", "container", "webhook server container"),
    "deploy/kubernetes": (
        "receiver in Kubernetes",
        "k8s",
        "webhook server container k8s",
    ),
    "guides/replay": (
        "resend a failed record",
        "retry failed record",
        "dead letters",
        "retry",
        "rejected rows",
    ),
    "guides/move-the-ledger": (
        "where is the ledger",
        "back up the ledger",
        "ledger state",
    ),
    "guides/runners-without-a-disk": ("run without a disk", "ephemeral"),
    "guides/environment": ("environment variables", "env var", "env vars prefix"),
    "deploy/airflow": ("Airflow", "schedule with airflow"),
    "concepts/outcomes": ("superseded", "What does superseded mean?", "superceded"),
}


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        """Log nothing."""


@contextmanager
def served(folder: Path) -> Iterator[str]:
    """Serve a folder on loopback, and return its URL."""
    handler = partial(Quiet, directory=str(folder))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_search_finds_the_page_of_each_question(page: Page, tmp_path: Path) -> None:
    assert build(ROOT / "docs", tmp_path).returncode == 0
    cases = [(name, text) for name, texts in QUESTIONS.items() for text in texts]

    with served(tmp_path) as origin:
        for wanted, question in cases:
            page.goto(origin)
            page.locator("input[name=q]:visible").fill(question)
            page.keyboard.press("Enter")
            page.get_by_text("Search finished").wait_for()
            links = page.locator("ul.search > li > a").all()[:3]
            found = [link.get_attribute("href") or "" for link in links]
            assert any(href.startswith(f"{wanted}.html") for href in found), (
                f"{question}: {found}"
            )
