"""`make docs` builds a site with all pages, a search and no broken link."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.documents import page, page_names
from tests.support.paths import ROOT

pytestmark = pytest.mark.slow


def build(source: Path, to: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "sphinx", "-q", "-W", "--keep-going"]
    return subprocess.run(
        [*command, str(source), str(to)], capture_output=True, text=True, check=False
    )


def test_site_has_each_page_and_a_search_and_needs_no_network(tmp_path: Path) -> None:
    done = build(ROOT / "docs", tmp_path)

    assert (done.returncode, done.stderr) == (0, "")
    written = {path.relative_to(tmp_path) for path in tmp_path.rglob("*.html")}
    names = set(page_names()) - {"README.md"}
    assert {Path(name).with_suffix(".html") for name in names} <= written
    home = (tmp_path / "index.html").read_text(encoding="utf-8")
    sections = re.findall(r"^## (.*)", page("index.md"), re.MULTILINE)
    assert re.findall(r'caption-text">([^<]*)', home) == sections
    assert 'action="search.html"' in home
    assert not re.findall(r'<(?:script|img|link)[^>]* (?:src|href)="http', home)
    assert "troubleshoot" in (tmp_path / "searchindex.js").read_text(encoding="utf-8")
    for picture in re.findall(r'srcset="([^"]*)"', page("start/sandbox.md")):
        assert (tmp_path / "start" / picture).is_file()


def test_broken_anchor_fails_the_build(tmp_path: Path) -> None:
    docs = tmp_path / "docs"
    (docs / "images").mkdir(parents=True)
    for name in ("conf.py", "search_ranking.js"):
        (docs / name).write_bytes((ROOT / "docs" / name).read_bytes())
    (docs / "index.md").write_text("# Home\n\nSee [this](#nothing-here).\n")

    done = build(docs, tmp_path / "site")

    assert done.returncode == 1
    assert "nothing-here" in done.stderr
