"""Links, files and figures in the documents are there, and their examples parse."""

from __future__ import annotations

import re
import subprocess
from typing import TYPE_CHECKING

import pytest
import yaml

from benchmarks.__main__ import RESULTS
from benchmarks.figures import as_markdown, read
from target_stairoids.mapping.schema import LOG_POSITIONS
from tests.support.documents import blocks, command_lines, page, page_names
from tests.support.paths import ROOT

if TYPE_CHECKING:
    from pathlib import Path


#: Words that a reader types into the search box -> the page with the answer.
QUESTIONS = {
    "map a nested field": "guides/nested-fields.md",
    "send only new rows": "guides/send-only-changes.md",
    "first run with a million rows": "guides/first-run.md",
    "test with one record": "guides/send-one.md",
    "after a crash": "deploy/runbook.md",
    "stop sending at once": "guides/stop-sending.md",
    "rotate a secret": "guides/rotate-a-secret.md",
    "docker": "deploy/docker.md",
    "kubernetes": "deploy/kubernetes.md",
    "resend a failed record": "guides/replay.md",
    "where the ledger is back up": "guides/move-the-ledger.md",
    "without a disk": "guides/runners-without-a-disk.md",
    "environment variables": "guides/environment.md",
    "airflow": "deploy/airflow.md",
    "superseded": "concepts/outcomes.md",
}
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


def test_design_names_each_module_of_the_target() -> None:
    table = page("concepts/design.md").splitlines()
    rows = filter(None, (re.match(r"\| `(\w+)/` \| (.*) \|$", row) for row in table))
    named = {row[1]: set(re.findall(r"`([a-z_]+)`", row[2])) for row in rows}
    target = ROOT / "target_stairoids"
    there = {
        folder: {path.stem for path in (target / folder).glob("*.py")}
        for folder in named
    }

    assert named
    assert {name: modules - {"__init__"} for name, modules in there.items()} == named


def test_page_names_each_column_with_a_log_position() -> None:
    text = page("concepts/same-signal.md")
    [columns] = re.findall(r"log position of a tap:\n(.*)\.", text)

    assert re.findall(r"`(\w+)`", columns) == [*LOG_POSITIONS]


def test_no_paragraph_breaks_into_a_list_by_accident() -> None:
    broken = [
        f"{name}: {line}"
        for name in page_names()
        for line in re.findall(
            r"^ *\d+\) .*|^.*\w\n *(?:[2-9]|\d\d+)\. .*", page(name), re.MULTILINE
        )
    ]

    assert broken == []


def test_each_picture_is_on_a_page() -> None:
    text = "".join(map(page, page_names()))

    unused = [p.name for p in (ROOT / "docs/images").iterdir() if p.name not in text]
    assert unused == []


def test_external_links_are_addresses_of_sites() -> None:
    documents = (*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"))
    texts = [path.read_text("utf-8") for path in documents]
    links = [
        link for text in texts for link in re.findall(r"\]\((https?:[^)]*)\)", text)
    ]

    assert len(links) > 10
    site = r"https://[a-z0-9-]+(\.[a-z0-9-]+)+(/[\w./%-]*)?(#[\w-]+)?"
    assert [link for link in links if not re.fullmatch(site, link)] == []


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


def test_no_page_has_a_placeholder() -> None:
    assert [name for name in page_names() if "<<" in page(name)] == []


def test_documents_have_the_last_benchmark_figures() -> None:
    assert as_markdown(read(RESULTS)) in page("concepts/performance.md")


@pytest.mark.parametrize(("words", "name"), QUESTIONS.items())
def test_words_of_a_question_are_in_a_heading_of_the_page(
    words: str, name: str
) -> None:
    headings = re.findall(r"^#+ (.*)", page(name), re.MULTILINE)

    assert any({*words.split()} <= {*re.split(r"[ `,:]+", h.lower())} for h in headings)
    assert f"({name}" in page("index.md")
    assert f"({name}" in page("faq.md")
