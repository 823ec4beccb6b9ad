"""The commands in `console` blocks run in their order and print the shown output."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from stairoids_sandbox import Sandbox
from tests.support.documents import page, page_names
from tests.support.page_shell import PageShell
from tests.support.singer_io import TargetUnderTest, a_record, a_schema

GUIDES = [n for n in page_names() if re.match("guides/|deploy/", n)]
GUIDES += ["start/quickstart.md", "start/first-webhook.md", "start/go-live.md"]
TYPED = [n for n in page_names() if "```console" in page(n) and n != "README.md"]
#: A list of symptoms, and no steps.
WITHOUT_STEPS = {"deploy/runbook.md"}
SECTIONS = ("You need", "Verify", "If it fails", "See also")
MAX_WORDS = 600
#: A file below its name, or commands with their output.
STEP = re.compile(
    r"^`([\w.-]+)`:\n\n```\w+\n(.*?)^```|^```console\n(.*?)^```",
    re.DOTALL | re.MULTILINE,
)
COMMAND = re.compile(r"^\$ (.*)\n((?:[^$\n].*\n)*)", re.MULTILINE)
DURATION = re.compile(r"\d+\.\d s")


@pytest.mark.parametrize("guide", sorted({*GUIDES} - WITHOUT_STEPS))
def test_guide_is_short_and_has_each_section(guide: str) -> None:
    text = page(guide)
    prose = re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE)

    assert [s for s in SECTIONS if f"\n## {s}\n" not in text] == []
    assert len(prose.split()) <= MAX_WORDS


@pytest.mark.slow
@pytest.mark.parametrize("guide", TYPED)
def test_commands_of_a_guide_print_the_shown_output(
    guide: str, tmp_path: Path, programs: str
) -> None:
    lacking = []
    with Sandbox() as sandbox:
        env = {
            **os.environ,
            "PATH": programs,
            "STAIROIDS_API_KEY": "sk_test_sandbox",
            "STAIROIDS_API_URL": sandbox.url,
        }
        with PageShell(tmp_path, env) as shell:
            for name, content, commands in STEP.findall(page(guide)):
                if name:
                    (tmp_path / name).write_text(content)
                for line, shown in COMMAND.findall(commands):
                    printed = DURATION.sub("… s", shell.run(line))
                    lacking += [
                        (line, expected, printed)
                        for expected in DURATION.sub("… s", shown).splitlines()
                        if expected not in printed
                    ]

    assert lacking == []


@pytest.mark.parametrize("send", ["once", "on_change", "always"])
def test_life_of_one_row_is_as_the_guide_shows(send: str, tmp_path: Path) -> None:
    text = page("guides/send-only-changes.md")
    rows = re.findall(
        r"^\| \d \| plan (\w+), (\d) logins \|(.*)\|$", text, re.MULTILINE
    )
    column = ["once", "on_change", "always"].index(send)
    mapping = {"stream": "trials", "send": send, "properties": ["plan"]}
    with Sandbox() as sandbox:
        target = TargetUnderTest(tmp_path, sandbox.url, signals=[mapping])
        sent = []
        for plan, logins, _ in rows:
            schema = a_schema(plan="string", logins="integer")
            target.run(schema, a_record(1, plan=plan, logins=int(logins)))
            sent.append(len(sandbox.signals))

    shown = ["sent" in cells.split("|")[column] for _, _, cells in rows]
    assert len(rows) == 5
    assert [a > b for a, b in zip(sent, [0, *sent], strict=False)] == shown
