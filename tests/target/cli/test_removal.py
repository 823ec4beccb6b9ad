"""All commands that remove something ask first, and can be tried with `--dry-run`."""

from __future__ import annotations

import json
import os
import pty
import subprocess
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner

from stairoids_common.text import counted
from tap_stairoids_webhooks.store.consumers import acknowledge
from tap_stairoids_webhooks.store.store import EventStore
from tests.support.commands import without_ids
from tests.support.programs import COMMANDS
from tests.support.singer_io import BIN, TargetUnderTest, a_record, a_schema
from tests.support.webhook_builders import EMAIL, deliveries

if TYPE_CHECKING:
    from pathlib import Path

REMOVALS = [
    ("stairoids-signals ledger forget --stream leads", "1 signal of `leads`"),
    ("stairoids-signals ledger prune --older-than 2d", "0 old versions"),
    (
        "stairoids-signals ledger erase --email u1@example.com",
        "1 claim, dead letter or key",
    ),
    ("stairoids-signals dead-letters discard 1", "1 dead letter with"),
    ("stairoids-webhooks prune --older-than 1d", "2 events"),
    (f"stairoids-webhooks erase --email {EMAIL}", "3 events"),
    ("stairoids-webhooks forget crm", "the consumer 'crm'"),
    ("stairoids-webhooks delete wh_1", "the endpoint 'wh_1'"),
]
QUESTIONS = pytest.mark.parametrize(
    ("line", "removed"), REMOVALS, ids=[line for line, _ in REMOVALS]
)


@pytest.fixture
def home(target: TargetUnderTest) -> Path:
    """A folder with a ledger, a store and a config."""
    mapping = {"stream": "trials", "account": {"domain": "{{ 'no host' }}"}}
    lead = [a_schema("leads"), a_record(2, "leads")]
    target.run(a_schema(), a_record(1), *lead, signals=[mapping])
    folder = target.folder
    (folder / "config.json").write_text(json.dumps(target.config))
    with EventStore.create(f"sqlite:///{folder / 'webhooks.db'}") as store:
        store.append(deliveries(3))
        acknowledge(store, "crm", {"*": 2})
    return folder


def environment(home: Path) -> dict[str, str]:
    return {
        "PATH": os.environ["PATH"],
        "STAIROIDS_WEBHOOKS_STORE_URL": f"sqlite:///{home / 'webhooks.db'}",
        "STAIROIDS_API_KEY": "sk_test_sandbox",
    }


def words_of(line: str, home: Path) -> list[str]:
    config = ["--config", str(home / "config.json")]
    return [*line.split(), *(config if "signals" in line else [])]


def run(line: str, home: Path) -> tuple[int, str, str]:
    name, *words = words_of(line, home)
    done = CliRunner().invoke(COMMANDS[name], words, env=environment(home))
    return done.exit_code, done.stdout, without_ids(done.stderr)


@QUESTIONS
def test_removal_without_terminal_and_yes_is_refused(
    home: Path, line: str, removed: str
) -> None:
    code, stdout, stderr = run(line, home)

    assert code == 2
    assert stderr == (
        "Error: This command removes data. Add --yes, or --dry-run to look first.\n"
    )
    assert stdout == ""
    assert removed in run(f"{line} --dry-run", home)[1]


@QUESTIONS
def test_dry_run_of_a_removal_prints_the_number_and_removes_nothing(
    home: Path, line: str, removed: str
) -> None:
    first = run(f"{line} --dry-run", home)
    again = run(f"{line} --dry-run --yes", home)

    assert first == again
    assert first[0] == 0
    assert removed in first[1]
    assert first[1].endswith("Nothing was removed (--dry-run).\n")


@pytest.mark.slow
@pytest.mark.parametrize(("reply", "count"), [("n", 1), ("y", 0)])
def test_removal_on_a_terminal_asks(home: Path, reply: str, count: int) -> None:
    line = "stairoids-signals dead-letters discard 1"
    name, *words = words_of(line, home)
    here, there = pty.openpty()
    os.write(here, f"{reply}\n".encode())

    done = subprocess.run(
        [BIN / name, *words], stdin=there, capture_output=True, text=True, check=False
    )

    os.close(here)
    os.close(there)
    assert "1 dead letter with these ids is there. Go on? [y/N]" in done.stderr
    assert done.returncode == int(reply == "n")
    code, left, _ = run(f"{line} --dry-run", home)
    assert (code, counted(1, "dead letter") in left) == (1 - count, count == 1)
