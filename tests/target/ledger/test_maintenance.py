"""`stairoids-signals ledger`: forget, prune, erase, copy and baseline."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from stairoids_sandbox import Fault
from target_stairoids.ledger import maintenance
from target_stairoids.ledger.ledger import Ledger
from target_stairoids.settings import Settings
from tests.support.commands import signals
from tests.support.singer_io import TargetUnderTest, a_record, a_schema, text_of

if TYPE_CHECKING:
    from stairoids_sandbox.server import Sandbox


def test_forgotten_stream_is_sent_again(
    sandbox: Sandbox, target: TargetUnderTest
) -> None:
    messages = [a_schema(), a_record(), a_schema("leads"), a_record(stream="leads")]
    target.run(*messages)

    done = signals(target, "ledger", "forget", "--stream", "trials", "--yes")
    again = target.run(*messages)

    assert done.stdout == "Forgot 1 signal of `trials`.\n"
    assert again.report["streams"] == {
        "trials": {"accepted": 1},
        "leads": {"duplicate": 1},
    }
    assert len(sandbox.signals) == 3


def test_unknown_stream_is_named(target: TargetUnderTest) -> None:
    target.run(a_schema(), a_record())

    done = signals(target, "ledger", "forget", "--stream", "trails", "--yes")

    assert done.returncode == 1
    assert "knows no stream `trails`; did you mean `trials`?" in done.stderr


def test_pruning_keeps_the_latest_version_of_each_entity(
    target: TargetUnderTest,
) -> None:
    for plan in ("a", "b", "c"):
        target.run(a_schema(plan="string"), a_record(plan=plan))
    settings = Settings.from_config(target.config)
    now = datetime.now(UTC)

    with Ledger.open(settings.ledger_url, settings.scope) as ledger:
        kept = maintenance.prune(ledger, older_than=now - timedelta(days=30))
        removed = maintenance.prune(ledger, older_than=now)

    again = target.run(a_schema(plan="string"), a_record(plan="c"))
    assert (kept, removed) == (0, 2)
    assert again.outcomes == {"duplicate": 1}


@pytest.mark.parametrize("plans", ["ab", "aba"])
def test_pruning_keeps_the_rows_of_a_key(
    sandbox: Sandbox, target: TargetUnderTest, plans: str
) -> None:
    """They are of one person, so the ledger has one latest version for both."""
    both = [a_schema(plan="string"), *(a_record(plan=plan) for plan in "ab")]
    for plan in plans:
        target.run(a_schema(plan="string"), a_record(plan=plan))
    target.run(*both)
    settings, sent = Settings.from_config(target.config), len(sandbox.signals)

    with Ledger.open(settings.ledger_url, settings.scope) as ledger:
        maintenance.prune(ledger, older_than=datetime.now(UTC))
    target.run(*both)
    target.run(both[0], both[2], both[1])

    assert len(sandbox.signals) == sent


def test_young_versions_are_not_pruned(target: TargetUnderTest) -> None:
    target.run(a_schema(), a_record())

    done = signals(target, "ledger", "prune", "--older-than", "30d", "--yes")
    today = signals(
        target, "ledger", "prune", "--older-than", "30m", "--yes"
    )  # months, perhaps

    assert done.stdout == "Removed 0 old versions.\n"
    assert today.returncode == 2
    assert "less than 1 day." in today.stderr


def test_erased_person_is_nowhere_in_the_files(target: TargetUnderTest) -> None:
    mapping = {"stream": "trials", "account": {"domain": "{{ 'no host' }}"}}
    target.run(
        a_schema(),
        a_record(1, email="Ann.Canary@example.com"),
        a_record(2, email="bob@example.com"),
        signals=[mapping],
    )

    done = signals(
        target, "ledger", "erase", "--email", "ann.canary@example.com", "--yes"
    )

    assert done.stdout.startswith("Erased 1 claim, dead letter or key.\n")
    left = b"".join(p.read_bytes() for p in target.folder.glob("ledger.db*"))
    assert b"anary" not in left
    assert b"bob@example.com" in left


def test_erased_person_of_a_killed_run_gets_no_second_signal(
    sandbox: Sandbox, target: TargetUnderTest
) -> None:
    sandbox.faults.add(Fault(kind="drop_after_accept", count=1))
    messages = [a_schema(), a_record(1, email="ann@example.com")]
    killed = target.run(*messages, outage_seconds=0)

    done = signals(target, "ledger", "erase", "--email", "ann@example.com", "--yes")
    run = target.run(*messages)

    assert killed.outcomes == {"pending": 1}
    assert done.stdout.startswith("Erased 1 claim, dead letter or key.\n")
    assert run.outcomes == {"duplicate": 1}
    assert len(sandbox.signals) == 1


@pytest.mark.parametrize("email", ["Ann.Canary@acme.con", "ann.canary@x..com"])
def test_address_that_no_signal_can_have_is_erased(
    target: TargetUnderTest, email: str
) -> None:
    run = target.run(a_schema(), a_record(1, email=email))

    done = signals(target, "ledger", "erase", "--email", email, "--yes")

    assert run.outcomes == {"invalid": 1}
    assert done.stdout.startswith("Erased 1 claim, dead letter or key.\n")
    left = b"".join(p.read_bytes() for p in target.folder.glob("ledger.db*"))
    assert b"anary" not in left


def test_text_that_is_no_email_cannot_be_erased(target: TargetUnderTest) -> None:
    target.run(a_schema(), a_record(1))

    done = signals(target, "ledger", "erase", "--email", "not an address", "--yes")

    assert done.returncode == 1
    assert "mail address" in done.stderr


def test_ledger_is_not_copied_onto_itself(target: TargetUnderTest) -> None:
    target.run(a_schema(), a_record(1))

    same = signals(target, "ledger", "copy", "--to", target.config["ledger_url"])
    wrong = signals(target, "ledger", "copy", "--to", "ledger2.db")

    assert (same.returncode, wrong.returncode) == (1, 1)
    assert "--to is the URL of this ledger. Name an empty one." in same.stderr
    assert "Error: --to: `ledger_url` is not an SQLAlchemy URL" in wrong.stderr


def test_copied_ledger_has_all_outcomes(
    sandbox: Sandbox, target: TargetUnderTest
) -> None:
    target.run(a_schema(), a_record(1), a_record(2, email=None))
    url = f"sqlite:///{target.folder / 'other.db'}"

    done = signals(target, "ledger", "copy", "--to", url)
    run = target.run(a_schema(), a_record(1), a_record(3), ledger_url=url)
    twice = signals(target, "ledger", "copy", "--to", url)

    assert done.returncode == 0, done.stderr
    assert "settled: 1" in done.stdout
    assert run.outcomes == {"duplicate": 1, "accepted": 1}
    assert len(sandbox.signals) == 2
    assert twice.returncode == 1
    assert "is not empty" in twice.stderr


def test_baseline_settles_also_new_records_of_a_known_stream(
    sandbox: Sandbox, target: TargetUnderTest
) -> None:
    target.config["first_run"] = "guard"
    target.run(a_schema(), a_record(1))

    messages = text_of([a_schema(), a_record(1), a_record(2)])
    done = signals(target, "ledger", "baseline", text=messages)
    run = target.run(a_schema(), a_record(1), a_record(2), a_record(3))

    assert done.returncode == 0, done.stderr
    assert "= 1 duplicate + 1 baselined (2 records read" in done.stderr
    assert "METRIC" not in done.stderr
    assert run.outcomes == {"duplicate": 2, "accepted": 1}
    assert len(sandbox.signals) == 2
