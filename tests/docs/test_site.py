"""`make docs` builds a site with all pages, a search and no broken link."""

from __future__ import annotations

import re
import subprocess
import sys
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING

import pytest

from tests.support import documents
from tests.support.paths import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator

    from playwright.sync_api import Page

pytestmark = pytest.mark.slow
QUESTIONS = {
    "guides/stop-sending": ("stop everything", "emergency stop", "wrong signals"),
    "guides/find-a-signal": ("person got no signal",),
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


#: Searches in the open page, without a reload, and without the text of each result.
SEARCH = """question => {
    DOCUMENTATION_OPTIONS.SHOW_SEARCH_SUMMARY = false;
    document.getElementById("search-results").replaceChildren();
    history.replaceState(null, "", "?" + new URLSearchParams({q: question}));
    Search.performSearch(question);
}"""


#: The starts of the blocks and tables that are wider than the paper.
CUT = """() => [...document.querySelectorAll("pre, .table-wrapper > table")]
    .filter(e => e.scrollWidth > e.clientWidth + 1
        || e.getBoundingClientRect().right > innerWidth)
    .map(e => e.textContent.trim().slice(0, 60))"""


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


def build(source: Path, to: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "sphinx", "-q", "-W", "--keep-going"]
    return subprocess.run(
        [*command, str(source), str(to)], capture_output=True, text=True, check=False
    )


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of the built site."""
    folder = tmp_path_factory.mktemp("site")
    done = build(ROOT / "docs", folder)
    assert (done.returncode, done.stderr) == (0, "")
    return folder


def test_site_has_each_page_and_a_search_and_needs_no_network(site: Path) -> None:
    written = {path.relative_to(site) for path in site.rglob("*.html")}
    names = set(documents.page_names()) - {"README.md"}
    assert {Path(name).with_suffix(".html") for name in names} <= written
    home = (site / "index.html").read_text(encoding="utf-8")
    sections = re.findall(r"^## (.*)", documents.page("index.md"), re.MULTILINE)
    assert re.findall(r'caption-text">([^<]*)', home) == sections
    assert 'action="search.html"' in home
    assert not re.findall(r'<(?:script|img|link)[^>]* (?:src|href)="http', home)
    assert "troubleshoot" in (site / "searchindex.js").read_text(encoding="utf-8")
    for picture in re.findall(r'srcset="([^"]*)"', documents.page("start/sandbox.md")):
        assert (site / "start" / picture).is_file()


@pytest.mark.parametrize(
    "are_all_typed",
    # The soak types each question, which reloads the site for each.
    [False, pytest.param(True, marks=pytest.mark.soak)],
)
def test_search_finds_the_page_of_each_question(
    page: Page, site: Path, *, are_all_typed: bool
) -> None:
    """It is among the first three. The first question is typed, as by a reader."""
    cases = [(name, text) for name, texts in QUESTIONS.items() for text in texts]

    with served(site) as origin:
        for number, (wanted, question) in enumerate(cases):
            if are_all_typed or number == 0:
                page.goto(origin)
                page.locator("input[name=q]:visible").fill(question)
                page.keyboard.press("Enter")
            else:
                page.evaluate(SEARCH, question)
            page.get_by_text("Search finished").wait_for()
            links = page.locator("ul.search > li > a").all()[:3]
            found = [link.get_attribute("href") or "" for link in links]
            assert any(href.startswith(f"{wanted}.html") for href in found), (
                f"{question}: {found}"
            )


def test_printed_pages_show_all_of_each_code_block_and_table(
    page: Page, site: Path
) -> None:
    page.emulate_media(media="print")
    page.set_viewport_size({"width": 718, "height": 1000})  # A4 with margins
    for name in ("guides/namespaces", "guides/replay", "start/airbyte"):
        page.goto((site / f"{name}.html").as_uri())
        assert page.evaluate(CUT) == []


def test_broken_anchor_fails_the_build(tmp_path: Path) -> None:
    docs = tmp_path / "docs"
    (docs / "images").mkdir(parents=True)
    for name in ("conf.py", "search_ranking.js", "site.css"):
        (docs / name).write_bytes((ROOT / "docs" / name).read_bytes())
    (docs / "index.md").write_text("# Home\n\nSee [this](#nothing-here).\n")

    done = build(docs, tmp_path / "site")

    assert done.returncode == 1
    assert "nothing-here" in done.stderr
