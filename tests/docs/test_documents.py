"""Links, files and figures in the documents are there, and their examples parse."""

from __future__ import annotations

import re
import subprocess
from typing import TYPE_CHECKING

import yaml

from benchmarks.__main__ import RESULTS
from benchmarks.figures import as_markdown, read
from tests.support.documents import blocks, command_lines, page, page_names
from tests.support.paths import ROOT

if TYPE_CHECKING:
    from pathlib import Path


#: Paths that a command makes.
BUILT = {"build/site"}


def test_links_lead_to_files() -> None:
    missing = set()
    for path in (*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")):
        links = re.findall(r"\]\((?!https?:)([^)\s]+)\)", path.read_text("utf-8"))
        for file, _, anchor in (link.partition("#") for link in links):
            to = path.parent / file if file else path
            if not to.exists() or (anchor and anchor not in anchors_of(to)):
                missing.add(f"{path.name}: {file}#{anchor}")

    assert missing == set()


def anchors_of(path: Path) -> set[str]:
    """Return the anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)", path.read_text("utf-8"), re.MULTILINE)
    words = [re.sub(r"[^\w\- ]", "", heading.lower()) for heading in headings]
    return {text.replace(" ", "-") for text in words}


def test_paths_in_contributing_exist() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text("utf-8")
    paths = re.findall(r"`(\w+/[\w./]+)`", text)

    assert len(paths) > 30
    assert {path for path in paths if not (ROOT / path).exists()} <= BUILT


def test_sample_files_in_the_readme_exist() -> None:
    lines = "\n".join(command_lines(page("README.md")))
    named = re.findall(r"\bsample_configs/[\w./-]+", lines)

    assert {path for path in named if not (ROOT / path).exists()} == set()


def test_examples_are_well_formed() -> None:
    text = "\n".join(map(page, page_names()))

    for block in blocks(text, "python"):
        compile(block, "an example", "exec")
    for block in blocks(text, "yaml"):
        assert yaml.safe_load(block)
    for block in blocks(text, "bash"):
        subprocess.run(["bash", "-n"], input=block, text=True, check=True)


def test_documents_have_the_last_benchmark_figures() -> None:
    assert as_markdown(read(RESULTS)) in page("concepts/performance.md")
