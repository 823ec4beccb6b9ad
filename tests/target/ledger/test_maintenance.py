"""`stairoids-signals ledger`: forget, prune, erase, copy and baseline, as typed."""

from __future__ import annotations

import json
import subprocess
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import update

from target_stairoids.ledger import maintenance
from target_stairoids.ledger.ledger import Ledger
from target_stairoids.ledger.schema import runs
from tests.support.singer_io import BIN, TargetUnderTest, a_record, a_schema, text_of

if TYPE_CHECKING:
    from pathlib import Path

    from stairoids_sandbox import Sandbox


def ledger_command(
    target: TargetUnderTest, *words: str, text: str = ""
) -> subprocess.CompletedProcess[str]:
    path = target.folder / "config.json"
    path.write_text(json.dumps(target.config))
    return subprocess.run(
        [BIN / "stairoids-signals", "ledger", *words, "--config", path],
        input=text,
        capture_output=True,
        text=True,
        check=False,
    )


def test_forgotten_stream_is_sent_again(
    sandbox: Sandbox, target: TargetUnderTest
) -> None:
    target.run(a_schema(), a_record(), a_schema("leads"), a_record(stream="leads"))

    done = ledger_command(target, "forget", "--stream", "trials", "--yes")
    again = target.run(
        a_schema(), a_record(), a_schema("leads"), a_record(stream="leads")
    )

    assert done.stdout == "Forgot 1 signal of `trials`.\n"
    assert again.report["streams"] == {
        "trials": {"accepted": 1},
        "leads": {"duplicate": 1},
    }
    assert len(sandbox.signals) == 3


def test_unknown_stream_is_named(target: TargetUnderTest) -> None:
    target.run(a_schema(), a_record())

    done = ledger_command(target, "forget", "--stream", "trails", "--yes")

    assert done.returncode == 1
    assert "knows no stream `trails`" in done.stderr


def test_pruning_keeps_the_latest_of_each_entity(target: TargetUnderTest) -> None:
    for plan in ("a", "b", "c"):
        target.run(a_schema(plan="string"), a_record(plan=plan))
    with Ledger(target.config["ledger_url"], _scope(target)) as ledger:
        with ledger.transaction() as transaction:
            transaction.write(
                update(runs).values(started_at="2020-01-01T00:00:00.000Z")
            )

        removed = maintenance.prune(ledger, older_than=timedelta(days=30))

    assert removed == 2
    again = target.run(a_schema(plan="string"), a_record(plan="c"))
    assert again.outcomes == {"duplicate": 1}


def test_young_versions_are_not_pruned(target: TargetUnderTest) -> None:
    for plan in ("a", "b"):
        target.run(a_schema(plan="string"), a_record(plan=plan))

    done = ledger_command(target, "prune", "--older-than", "30d")

    assert done.stdout == "Removed 0 old versions.\n"


def test_pruning_what_was_settled_today_is_refused(target: TargetUnderTest) -> None:
    target.run(a_schema(), a_record())

    done = ledger_command(target, "prune", "--older-than", "30m")  # months, perhaps

    assert done.returncode == 2
    assert "less than 1 day." in done.stderr


def test_erased_person_is_nowhere_in_the_files(target: TargetUnderTest) -> None:
    mapping = {"stream": "trials", "account": {"domain": "none"}}
    target.run(
        a_schema(),
        a_record(1, email="Ann.Canary@example.com"),
        a_record(2, email="bob@example.com"),
        signals=[mapping],
    )

    done = ledger_command(target, "erase", "--email", "ann.canary@example.com")

    assert done.stdout.startswith("Erased 1 claim or dead letter.\n")
    left = b"".join(p.read_bytes() for p in target.folder.glob("ledger.db*"))
    assert b"anary" not in left
    assert b"bob@example.com" in left


def test_copied_ledger_knows_what_was_sent(
    sandbox: Sandbox, target: TargetUnderTest, tmp_path: Path
) -> None:
    target.run(a_schema(), a_record(1), a_record(2, email=None))
    url = f"sqlite:///{tmp_path / 'other.db'}"

    done = ledger_command(target, "copy", "--to", url)
    run = target.run(a_schema(), a_record(1), a_record(3), ledger_url=url)
    twice = ledger_command(target, "copy", "--to", url)

    assert done.returncode == 0, done.stderr
    assert "settled: 1" in done.stdout
    assert run.outcomes == {"duplicate": 1, "accepted": 1}
    assert len(sandbox.signals) == 2
    assert twice.returncode == 1
    assert "is not empty" in twice.stderr


@pytest.mark.parametrize("first_run", ["send", "guard"])
def test_baseline_remembers_even_what_a_known_stream_brings(
    sandbox: Sandbox, target: TargetUnderTest, first_run: str
) -> None:
    target.config["first_run"] = first_run
    target.run(a_schema(), a_record(1))

    done = ledger_command(
        target, "baseline", text=text_of([a_schema(), a_record(1), a_record(2)])
    )
    run = target.run(a_schema(), a_record(1), a_record(2), a_record(3))

    assert done.returncode == 0, done.stderr
    assert "2 signals = 1 duplicate + 1 baselined (2 records read" in done.stderr
    assert "METRIC" not in done.stderr
    assert run.outcomes == {"duplicate": 2, "accepted": 1}
    assert len(sandbox.signals) == 2


def _scope(target: TargetUnderTest) -> str:
    return str(target.config["api_url"]).removesuffix("/v1")


def test_erasing_whom_nobody_can_be_is_an_error(target: TargetUnderTest) -> None:
    target.run(a_schema(), a_record(1))

    done = ledger_command(target, "erase", "--email", "not an address")

    assert done.returncode == 1
    assert "is not an email address" in done.stderr
