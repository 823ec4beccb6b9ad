"""Links, files and figures in the documents are there, and their examples parse."""

from __future__ import annotations

import re
import subprocess

import yaml

from benchmarks.__main__ import RESULTS, headlines
from benchmarks.figures import as_markdown, read
from tests.support.documents import blocks, command_lines, page
from tests.support.paths import ROOT


def test_links_lead_to_files() -> None:
    linked = {
        path.parent / link
        for path in (ROOT / "README.md", *(ROOT / "docs").glob("*.md"))
        for link in re.findall(r"\]\((?!https?:)([^)#]+)", path.read_text("utf-8"))
    }

    assert {path for path in linked if not path.exists()} == set()


def test_sample_files_in_the_readme_exist() -> None:
    lines = "\n".join(command_lines(page("README.md")))
    named = re.findall(r"\bsample_configs/[\w./-]+", lines)

    assert {path for path in named if not (ROOT / path).exists()} == set()


def test_examples_in_operations_are_well_formed() -> None:
    text = page("operations.md")

    for block in blocks(text, "python"):
        compile(block, "operations.md", "exec")
    for block in blocks(text, "yaml"):
        assert yaml.safe_load(block)
    for block in blocks(text, "bash"):
        subprocess.run(["bash", "-n"], input=block, text=True, check=True)


def test_documents_have_the_last_benchmark_figures() -> None:
    kept = read(RESULTS)

    assert as_markdown(kept) in page("performance.md")
    assert as_markdown(headlines(kept)) in page("README.md")
