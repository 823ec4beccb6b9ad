"""A lost ledger: `ledger rebuild`, `reconcile` and `find`."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Any

import pytest

from stairoids_sandbox import Fault, Sandbox
from tests.support.commands import signals as command
from tests.support.singer_io import (
    Message,
    TargetUnderTest,
    a_record,
    a_schema,
    a_state,
    text_of,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

A_SCHEMA = a_schema(plan="string", score="number")


@pytest.fixture(autouse=True)
def guarded(target: TargetUnderTest) -> None:
    target.config["first_run"] = "guard"


def lose_ledger(target: TargetUnderTest) -> None:
    for path in target.folder.glob("ledger.db*"):
        path.unlink()


def rebuild(
    target: TargetUnderTest, *messages: Message, words: Iterable[str] = ()
) -> tuple[int, int, int]:
    """Rebuild the ledger; return how many were found, not there, and ambiguous."""
    done = command(target, "ledger", "rebuild", *words, text=text_of(messages))
    assert done.returncode == 0, done.stderr
    found = dict(line.split(":", 1) for line in done.stdout.splitlines()[:3])
    counts = [int(text.split()[0].replace(",", "")) for text in found.values()]
    assert list(found) == ["found there", "not there", "ambiguous"]
    return counts[0], counts[1], counts[2]


def trials(*numbers: int, **fields: Any) -> list[Message]:
    """Return records of companies with a name of their own."""
    return [a_record(n, email=f"u@firm{n}.com", plan="a", **fields) for n in numbers]


def test_run_after_a_rebuild_sends_the_missing_signals_only(
    sandbox: Sandbox, target: TargetUnderTest
) -> None:
    target.run(A_SCHEMA, *trials(*range(450)))
    lose_ledger(target)
    messages = [A_SCHEMA, *trials(*range(453)), a_state()]

    lost = target.run(*messages)
    counts = rebuild(target, *messages)
    run = target.run(*messages)
    again = target.run(*messages)

    assert (lost.exit_code, lost.outcomes) == (1, {"pending": 453})
    assert "`stairoids-signals ledger rebuild MESSAGES`" in lost.error
    assert counts == (450, 3, 0)
    assert (run.exit_code, run.outcomes) == (0, {"duplicate": 450, "accepted": 3})
    assert (again.exit_code, again.outcomes) == (0, {"duplicate": 453})
    assert len(sandbox.signals) == 453


def test_rebuild_sends_nothing_and_emits_no_state(
    sandbox: Sandbox, target: TargetUnderTest
) -> None:
    messages = [A_SCHEMA, *trials(1, 2), a_state()]

    done = command(target, "ledger", "rebuild", text=text_of(messages))

    assert done.returncode == 0
    assert done.stdout.splitlines() == [
        "found there: 0",
        "not there: 2 (the next run sends them)",
        "ambiguous: 0 (similar to a signal there, never sent)",
    ]
    assert len(sandbox.signals) == 0
    assert target.run(*messages).outcomes == {"accepted": 2}


def test_dry_run_of_a_rebuild_writes_nothing(
    sandbox: Sandbox, target: TargetUnderTest
) -> None:
    messages = [A_SCHEMA, *trials(1, 2)]
    target.run(*messages)
    lose_ledger(target)

    counts = rebuild(target, *messages, words=["--dry-run"])

    assert counts == (2, 0, 0)
    assert not (target.folder / "ledger.db").exists()
    assert target.run(*messages).outcomes == {"pending": 2}
    assert rebuild(target, *messages, words=["--dry-run"]) == (2, 0, 0)
    assert rebuild(target, *messages) == (2, 0, 0)
    assert target.run(*messages).outcomes == {"duplicate": 2}
    assert len(sandbox.signals) == 2


def test_old_copy_gets_the_signals_that_it_lacks(
    sandbox: Sandbox, target: TargetUnderTest
) -> None:
    ledger, copy = target.folder / "ledger.db", target.folder / "copy.db"
    target.run(A_SCHEMA, *trials(*range(100)))
    shutil.copy(ledger, copy)
    changed = trials(*range(100), score=2)
    target.run(
        A_SCHEMA,
        *changed,
        *trials(100),
        signals=[{"stream": "trials", "bulk_changes": "expected"}],
    )
    lose_ledger(target)
    shutil.copy(copy, ledger)

    counts = rebuild(target, A_SCHEMA, *changed, *trials(100, 101))
    run = target.run(A_SCHEMA, *changed, *trials(100, 101))

    assert counts == (101, 1, 0)
    assert run.outcomes == {"duplicate": 101, "accepted": 1}
    assert len(sandbox.signals) == 202


def test_changed_record_is_not_there_and_is_sent(
    sandbox: Sandbox, target: TargetUnderTest
) -> None:
    target.run(A_SCHEMA, *trials(1, 2))
    lose_ledger(target)
    changed = [A_SCHEMA, *trials(1), a_record(2, email="u@firm2.com", plan="b")]

    assert rebuild(target, *changed) == (1, 1, 0)
    assert target.run(*changed).outcomes == {"duplicate": 1, "accepted": 1}
    assert sandbox.signals[-1].body["properties"]["plan"] == "b"


@pytest.mark.parametrize(
    "mapping",
    [
        {"send": "once"},  # any earlier state of the person's signal
        {"properties": ["plan", "id", "score"]},  # the mapping has one more property
    ],
    ids=["once", "more properties"],
)
def test_similar_signal_is_a_dead_letter_and_is_not_sent(
    sandbox: Sandbox, target: TargetUnderTest, mapping: dict[str, Any]
) -> None:
    before = {"stream": "trials", "properties": ["plan"]}
    target.run(A_SCHEMA, *trials(1), signals=[before])
    lose_ledger(target)
    target.config["signals"] = [{**before, **mapping}]
    plan = "b" if "send" in mapping else "a"
    messages = [A_SCHEMA, a_record(1, email="u@firm1.com", plan=plan, score=3)]

    counts = rebuild(target, *messages)
    run = target.run(*messages)
    listed = command(target, "dead-letters", "list")

    assert counts == (0, 0, 1)
    assert (run.exit_code, run.outcomes) == (0, {"duplicate": 1})
    assert "Stairoids has a similar signal, which may be this one" in listed.stdout
    assert len(sandbox.signals) == 1


def test_each_signal_there_is_found_once(
    sandbox: Sandbox, target: TargetUnderTest
) -> None:
    visits = {"stream": "visits", "properties": ["plan"]}
    schema = a_schema("visits", plan="string")
    same = [a_record(n, "visits", email="a@firm.com", plan="p") for n in range(5)]
    target.run(schema, *same[:3], signals=[visits])
    lose_ledger(target)

    target.config["signals"] = [visits]
    assert len(sandbox.signals) == 3
    assert rebuild(target, schema, *same) == (3, 2, 0)
    assert target.run(schema, *same).outcomes == {"duplicate": 3, "accepted": 2}


def test_claim_of_a_killed_run_stays_for_the_next_run(
    sandbox: Sandbox, target: TargetUnderTest
) -> None:
    sandbox.faults.add(Fault(kind="drop_after_accept", count=1))
    killed = target.run(A_SCHEMA, *trials(1), outage_seconds=0)

    counts = rebuild(target, A_SCHEMA, *trials(1, 2))
    run = target.run(A_SCHEMA, *trials(1, 2))

    assert (killed.exit_code, killed.outcomes) == (75, {"pending": 1})
    assert counts == (1, 1, 0)
    assert (run.exit_code, run.outcomes) == (0, {"duplicate": 1, "accepted": 1})
    assert len(sandbox.signals) == 2


@pytest.mark.parametrize("status", [403, 404])
def test_rebuild_stops_if_the_key_may_not_read(
    sandbox: Sandbox, target: TargetUnderTest, status: int
) -> None:
    messages = [A_SCHEMA, *trials(1)]
    target.run(*messages)
    sandbox.faults.add(Fault(kind="status", status=status, on="read"))

    done = command(target, "ledger", "rebuild", text=text_of([*messages, *trials(2)]))

    assert done.returncode == 1
    assert "The API key may not read" in done.stderr
    assert len(sandbox.signals) == 1


def test_rebuild_stops_at_html_and_survives_failed_pages(
    sandbox: Sandbox, target: TargetUnderTest
) -> None:
    messages = [A_SCHEMA, *trials(1)]
    target.run(*messages)
    lose_ledger(target)

    sandbox.faults.add(Fault(kind="html", on="read", count=1))
    refused = command(target, "ledger", "rebuild", text=text_of(messages))
    sandbox.faults.add(Fault(kind="status", status=500, on="read", count=1))
    counts = rebuild(target, *messages)

    assert refused.returncode == 1
    assert "does not look like the Stairoids API" in refused.stderr
    assert counts == (1, 0, 0)
