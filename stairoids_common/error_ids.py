"""Add its id to an error. docs/troubleshooting.md has an entry for each id.

`make docs` gives an id to each message of that page, and writes error_ids.json.
"""

from __future__ import annotations

import json
import re
import sys
from functools import cache
from importlib.resources import files
from typing import NoReturn

import click
from typing_extensions import override

from stairoids_common.text import as_message


def with_id(text: str) -> str:
    """Return the text of an error, with its id at the end of each known message."""
    return "\n".join(map(_line_with_id, as_message(text).split("\n")))


class WrongUsageError(click.UsageError):
    """The command line is wrong (exit code 2)."""

    @override
    def format_message(self) -> str:
        return with_id(self.message)


def fail(text: str, exit_code: int = 1) -> NoReturn:
    """End the program with an error on stderr."""
    click.echo(f"Error: {with_id(text)}", err=True)
    sys.exit(exit_code)


def _line_with_id(line: str) -> str:
    found = next((name for pattern, name in _patterns() if pattern.search(line)), None)
    return f"{line} [{found}]" if found else line


@cache
def _patterns() -> list[tuple[re.Pattern[str], str]]:
    """Return the patterns of all messages, those with the most text first."""
    path = files("stairoids_common") / "error_ids.json"
    messages: dict[str, str] = json.loads(path.read_text(encoding="utf-8"))
    ordered = sorted(messages, key=lambda m: len(m.replace("…", "")), reverse=True)
    return [(pattern_of(message), messages[message]) for message in ordered]


def pattern_of(message: str) -> re.Pattern[str]:
    """Return the pattern of a message, in which `…` stands for any text.

    It matches at the begin of a line or sentence, or behind a colon or semicolon.
    """
    begin = "" if message.startswith("…") else "(?:^ *|[.:;] )"
    code = "(?:`[^`]*`|``+ ?[^`].*?``+)"
    words = re.escape(message).replace("`…`", code).replace("…", ".*")
    return re.compile(begin + words)
