"""The commands of docs/guides/forward-events.md print the output on the page."""

from __future__ import annotations

import os
import re
from functools import partial
from pathlib import Path

import pytest

from tests.support.documents import blocks, page
from tests.support.page_shell import PageShell, a_free_port, is_served
from tests.support.singer_io import wait_until

PAGE = page("guides/forward-events.md")
pytestmark = pytest.mark.slow

_VARIES = re.compile(r"\d{4}-\d\d-\d\dT\S+Z")


def test_commands_of_the_page_print_its_output(tmp_path: Path, programs: str) -> None:
    receiver, handler = str(a_free_port()), str(a_free_port())
    (program,) = blocks(PAGE, "python")
    (tmp_path / "handler.py").write_text(program.replace("3000", handler))
    env = {
        **os.environ,
        "PATH": programs,
        "STAIROIDS_WEBHOOKS_PORT": receiver,
        "STAIROIDS_WEBHOOKS_LOG_LEVEL": "error",
    }
    printed = []
    with PageShell(tmp_path, env) as shell:
        for line in "".join(blocks(PAGE, "sh")).splitlines():
            here = line.replace("3000", handler).replace("8880", receiver)
            ends_with_1 = "--sequence" in line
            printed.append(shell.run(f"! {here}" if ends_with_1 else here))
            for port, begin in (
                (receiver, "stairoids-webhooks serve"),
                (handler, "py"),
            ):
                if line.startswith(begin):
                    wait_until(partial(is_served, port))

    shown = "".join(_VARIES.sub("TIME", text) for text in printed)
    for block in blocks(PAGE, "json") + blocks(PAGE, "text"):
        for line in block.splitlines():
            assert _VARIES.sub("TIME", line) in shown
