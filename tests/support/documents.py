"""Reads the documents: their code blocks and their command lines."""

from __future__ import annotations

import re
import textwrap

from tests.support.paths import ROOT

#: Page -> the test that runs its commands in place of test_docs_run.py.
RUN_ELSEWHERE = {
    "README.md": "docs/test_readme.py",
    "concepts/performance.md": "../benchmarks/__main__.py",  # they take too long
    "guides/forward-events.md": "docs/test_forwarding.py",
    "start/meltano.md": "docs/test_meltano_page.py",
    "start/sandbox.md": "docs/test_readme.py",
}


def page(name: str) -> str:
    """Return the text of `README.md` or of a page in docs/."""
    folder = ROOT if name == "README.md" else ROOT / "docs"
    return (folder / name).read_text(encoding="utf-8")


def page_names() -> list[str]:
    """Return the names of all documents for users: `guides/erase.md`."""
    docs = ROOT / "docs"
    names = (str(path.relative_to(docs)) for path in docs.rglob("*.md"))
    return ["README.md", *sorted(names)]


def blocks(text: str, language: str) -> list[str]:
    """Return the code blocks of a language."""
    fenced = rf"^( *)```{language}\n(.*?)^\1```"
    found = re.findall(fenced, text, re.DOTALL | re.MULTILINE)
    return [textwrap.dedent(block) for _, block in found]


def command_lines(text: str) -> list[str]:
    """Return the command lines of a document; those that go on are joined."""
    joined = "".join(blocks(text, "sh")).replace("\\\n", " ").replace("|\n", "| ")
    return [line for line in joined.splitlines() if line and line[0] != "#"]


def expected_code(line: str, printed: str) -> int:
    """Return the exit code of a documented command, of which the output is known.

    Only `dead-letters` may end with 1: if one stays, or if there is no such one.
    """
    if not re.search(r"dead-letters[ -](replay|resolve|discard|export)\b", line):
        return 0
    found = re.search(
        r"dead letters? stays?\.|Dead letters? [\d, ]+ (is|are) not there", printed
    )
    return 1 if found else 0
