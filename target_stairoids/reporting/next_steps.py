"""Suggest the next command after a run."""

from __future__ import annotations

import os
import re
import shlex
import sys
from collections.abc import Iterator, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

from stairoids_common.config import default_inputs
from stairoids_common.text import CODE, as_code
from target_stairoids.dedup.outcome import EFFECTS, Outcome
from target_stairoids.ledger.structs import Effect

#: The outcomes that make a dead letter.
DEAD_OUTCOMES = [o for o, its in EFFECTS.items() if its.is_dead_letter]

_LEDGER_COMMAND = "stairoids-signals ledger "
_OPTION = re.compile(r"(?<=^--config)=")
_PROGRAMS = {"target-stairoids", "stairoids-signals"}


def next_steps(report: dict[str, Any]) -> Iterator[str]:
    """Yield a sentence for each thing that is left to do after a run."""
    outcomes = report["outcomes"]
    is_dry = not report["run"]  # and has written no dead letters
    if changes := ", ".join(_suppression_changes(report["reasons"])):
        yield f"Suppression list: {changes}."
    has_failed = outcomes[Outcome.INVALID] or outcomes[Outcome.REJECTED]
    # A later state of its record closes a dead letter.
    if has_failed and report["dead_letters"] and not is_dry:
        yield f"See which, and why: {dead_letters_command()}"
    if outcomes[Outcome.UNKNOWN] or report["recovered"].get(Outcome.UNKNOWN):
        yield (
            "Check in Stairoids whether the unknown signals arrived, then run: "
            "stairoids-signals dead-letters resolve --help"
        )
    has_error = report["exit_code"] == 1  # with a next step of its own
    if outcomes[Outcome.PENDING] and not (has_error or is_dry):
        yield "No signals were lost. The next run resumes the pending ones."
    if outcomes[Outcome.WOULD_SEND] and is_dry:
        yield "This was a dry run. Without `dry_run` it sends."
    if outcomes[Outcome.BASELINED] and is_dry:
        yield "This was a dry run, so the ledger remembers none of these records."


def _suppression_changes(reasons: list[dict[str, Any]]) -> Iterator[str]:
    """Yield `12 added` and `1 removed`, without zeros."""
    for effect in (Effect.ADDED, Effect.REMOVED):
        if count := sum(e["count"] for e in reasons if e["reason"] == effect.value):
            yield f"{count:,} {effect.name.lower()}"


def dead_letters_in(outcomes: Mapping[Any, int]) -> int:
    """Return how many dead letters a run made."""
    return sum(outcomes.get(outcome, 0) for outcome in DEAD_OUTCOMES)


def dead_letters_command() -> str:
    """Return the command that lists dead letters, with the config of this process."""
    return _command("dead-letters list --with-key", "dead-letters --with-key")


def check_command() -> str:
    """Return the command that checks the API, with the config of this process."""
    return _command("check", "check")


def explain_command() -> str:
    """Return the command that explains each record, with the config of this process."""
    return _command("explain MESSAGES", "explain MESSAGES")


def with_config(command: str) -> str:
    """Return a `ledger` command of a message with the config of this process."""
    words = command.removeprefix(_LEDGER_COMMAND)
    if " -- " in words:  # the option must come before it
        name, _, rest = words.partition(" ")
        return _command(f"ledger {name}", f"ledger-{words}", f" {rest}")
    return _command(f"ledger {words}", f"ledger-{words}")


def _command(typed: str, invoked: str, rest: str = "") -> str:
    """Return a command as a person types it, or as Meltano invokes it."""
    if "MELTANO_PROJECT_ROOT" in os.environ:
        return f"meltano invoke target-stairoids:{invoked}"
    return f"stairoids-signals {typed} {_config_option()}{rest}"


def with_configs(text: str) -> str:
    """Return a message whose `ledger` commands have the config of this process."""
    return CODE.sub(
        lambda found: (
            as_code(with_config(found["code"]))
            if found["code"].startswith(_LEDGER_COMMAND)
            else found[0]
        ),
        text,
    )


def ledger_commands(text: str) -> list[str]:
    """Return the `ledger` commands in a message, as they were written."""
    codes = (found["code"] for found in CODE.finditer(text))
    return [code for code in codes if code.startswith(_LEDGER_COMMAND)]


def _config_option() -> str:
    """Return `--config` with the config of this process, or with its default."""
    given: list[str] = []
    if Path(sys.argv[0]).name in _PROGRAMS:
        words = [w for word in sys.argv for w in _OPTION.split(word, maxsplit=1)]
        given = [value for option, value in pairwise(words) if option == "--config"]
    configs = given or default_inputs() or ["config.json"]
    return " ".join(f"--config {shlex.quote(config)}" for config in configs)
