"""The tap: bookmarks of other, rewound and damaged stores."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from tests.support.running_receiver import Runner, fill
from tests.support.webhook_builders import (
    SECRET,
)


def test_unproven_row_is_counted_and_not_emitted(run: Runner, filled: str) -> None:
    with closing(sqlite3.connect(filled.removeprefix("sqlite:///"))) as db, db:
        db.execute("UPDATE webhook_events SET body = x'7b7d' WHERE sequence = 2")
        db.execute("UPDATE webhook_events SET signature = 'é' WHERE sequence = 3")
    run.config["secrets"] = ["another", SECRET]

    output = run()

    assert output.exit_code == 0
    assert output.sequences() == [1, 4, 5, 6, 7, 8, 9, 10]
    assert "number=2 first_sequence=2" in output.log


def test_bookmark_of_another_store_is_an_error(run: Runner, filled: str) -> None:
    state = run().state
    for path in Path(filled.removeprefix("sqlite:///")).parent.glob("webhooks.db*"):
        path.unlink()
    fill(filled)

    failed = run(state=state)
    run.config["on_store_reset"] = "resync"
    again = run(state=state)

    assert failed.exit_code == 1
    assert failed.messages == []
    assert "another store" in failed.log
    assert "on_store_reset" in failed.log
    assert again.sequences() == list(range(1, 11))
    assert again.state != state


@pytest.mark.usefixtures("filled")
def test_rewound_store_is_an_error(run: Runner) -> None:
    state = run().state
    state["bookmarks"]["events"]["replication_key_value"] = 11

    output = run(state=state)

    assert output.exit_code == 1
    assert "ends at 10" in output.log


@pytest.mark.usefixtures("filled")
def test_wrong_bookmark_is_refused(run: Runner) -> None:
    bookmark = {"replication_key": "sequence", "replication_key_value": "yesterday"}

    output = run(state={"bookmarks": {"events": bookmark}})

    assert output.exit_code == 1
    assert "bookmark of events is not a whole number" in output.log


@pytest.mark.usefixtures("filled")
def test_state_message_is_not_a_state(run: Runner) -> None:
    """As a state it would count as no state, and every event would be emitted again."""
    run_before = run()
    state = {"type": "STATE", "value": run_before.state}

    output = run(state=state)

    assert output.exit_code == 1
    assert (
        "this is a STATE message; give the tap the content of its `value`" in output.log
    )
    assert output.messages == []
