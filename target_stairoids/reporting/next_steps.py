"""Advice: the next command to type after a run."""

from __future__ import annotations

import os
import shlex
import sys
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from target_stairoids.dedup.rules import Outcome

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

#: The outcomes of which a dead letter is kept.
DEAD = (Outcome.INVALID, Outcome.REJECTED, Outcome.UNKNOWN)

_PROGRAMS = {"target-stairoids", "stairoids-signals"}


def advice(report: dict[str, Any]) -> Iterator[str]:
    """Yield what to do next, if anything is left to do."""
    outcomes = report["outcomes"]
    is_dry = not report["run"]  # and has written no dead letters
    if (outcomes[Outcome.INVALID] or outcomes[Outcome.REJECTED]) and not is_dry:
        yield f"See which, and why: {dead_letters_command()}"
    if outcomes[Outcome.UNKNOWN]:
        yield (
            "Nobody knows whether the unknown ones arrived; say so: "
            "stairoids-signals dead-letters resolve --help"
        )
    if outcomes[Outcome.PENDING] and report["exit_code"] != 1:  # which says it itself
        yield "Nothing is lost: the next run resumes what is pending."
    if outcomes[Outcome.WOULD_SEND]:
        yield "This was a dry run; without `dry_run` it sends."


def dead_letters_in(outcomes: Mapping[Any, int]) -> int:
    """Return how many records of a run became dead letters."""
    return sum(outcomes[outcome] for outcome in DEAD)


def dead_letters_command() -> str:
    """Return the command that lists dead letters, with this process' own config."""
    if "MELTANO_PROJECT_ROOT" in os.environ:
        return "meltano invoke target-stairoids:dead-letters --with-key"
    config = shlex.quote(_config_of(sys.argv))
    return f"stairoids-signals dead-letters list --with-key --config {config}"


def _config_of(arguments: Sequence[str]) -> str:
    """Return the config on a command line, else what the docs call it."""
    if Path(arguments[0]).name in _PROGRAMS:
        for option, value in pairwise(arguments):
            if option == "--config":
                return value
    return "config.json"
