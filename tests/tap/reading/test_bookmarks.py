"""Acknowledged bookmarks, pruned events and restored stores in runs of the tap."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tap_stairoids_webhooks.store.consumers import lags
from tap_stairoids_webhooks.store.erasure import Person, erase
from tap_stairoids_webhooks.store.retention import prune
from tap_stairoids_webhooks.store.store import EventStore
from tests.support.webhook_builders import EMAIL, SECRET, a_body, a_delivery, deliveries

if TYPE_CHECKING:
    from tests.support.running_tap import Runner


def behind(url: str) -> dict[str, int]:
    with EventStore.open_read_only(url) as store:
        return {name: lag.events for name, lag in lags(store).items()}


def only(name: str, run: Runner, folder: Path) -> str:
    """Write a catalog that selects one stream, and return its path."""
    catalog = json.loads(run("--discover").lines)
    for stream in catalog["streams"]:
        for entry in stream["metadata"]:
            if entry["breadcrumb"] == []:
                entry["metadata"]["selected"] = stream["stream"] == name
    path = folder / "catalog.json"
    path.write_text(json.dumps(catalog))
    return str(path)


def test_run_acknowledges_its_incoming_state(run: Runner, filled: str) -> None:
    """The events that it emits may not have arrived yet."""
    run.config["consumer"] = "warehouse"

    first = run()
    after_the_first = behind(filled)
    second = run(state=first.state)

    assert after_the_first == {"warehouse": 10}
    assert behind(filled) == {"warehouse": 0}
    assert second.sequences() == []
    assert prune(filled, before="2030").removed == 10
    assert run(state=second.state).exit_code == 0


@pytest.mark.usefixtures("filled")
def test_two_taps_with_one_consumer_are_a_warning(run: Runner) -> None:
    """`prune` would remove events that one of them has not read."""
    run.config["consumer"] = "warehouse"
    state = run().state
    half = json.loads(json.dumps(state))
    half["bookmarks"]["events"] = {"replication_key_value": 5}

    ahead = run(state=state)
    again = run(state=state)
    behind = run(state=half)
    run.config["event_types"] = ["signal.scored"]
    other = run(state=state)

    warning = "The consumer warehouse has gone back, or reads other events"
    found = [warning in output.log for output in (ahead, again, behind, other)]
    assert found == [False, False, True, True]


def test_run_without_consumer_and_test_run_acknowledge_nothing(
    run: Runner, filled: str
) -> None:
    state = run().state
    run(state=state)
    run.config["consumer"] = "warehouse"
    assert run("--test").exit_code == 0

    assert behind(filled) == {}


def test_deselected_stream_is_not_pending(
    run: Runner, filled: str, tmp_path: Path
) -> None:
    run.config["consumer"] = "crm"

    run("--catalog", only("signal_created", run, tmp_path))
    waiting = behind(filled)
    with EventStore.create(filled) as store:
        store.append(deliveries(3))

    assert waiting == {"crm": 2}
    assert behind(filled) == {"crm": 5}


def test_filtered_events_are_pending_by_type(run: Runner, filled: str) -> None:
    run.config |= {"consumer": "crm", "event_types": ["signal.scored"]}

    run()

    assert behind(filled) == {"crm": 2}  # one scored, one malformed


def test_erased_event_stays_in_events_only(run: Runner, filled: str) -> None:
    erase(filled, Person(email=EMAIL))
    run.config["secrets"] = [SECRET]

    output = run()

    assert output.sequences("events") == list(range(1, 11))
    first, *_ = output.records("events")
    assert (first["payload"], first["malformed"]) == (None, None)
    assert first["erased_at"].endswith("Z")
    assert output.sequences("signal_created") == [10]
    assert EMAIL not in output.lines


def test_erasure_after_an_event_was_read_is_a_record(run: Runner, filled: str) -> None:
    state = run().state
    erase(filled, Person(email=EMAIL))

    output = run(state=state)
    nothing = run(state=output.state)

    erased = output.records("erasures")
    assert output.sequences("events") == []
    assert [e["sequence"] for e in erased] == list(range(1, len(erased) + 1))
    assert [e["event_sequence"] for e in erased] == [1, 2, 3, 4, 5, 6, 8]
    assert (erased[0]["event"], erased[0]["event_id"]) == ("signal.created", "evt_0")
    assert erased[0]["erased_at"].endswith("Z")
    assert EMAIL not in output.lines
    assert nothing.sequences("erasures") == []


def test_restored_store_is_an_error_until_resync(
    run: Runner, filled: str, tmp_path: Path
) -> None:
    """Even when the store has grown past the bookmark."""
    run.config["consumer"] = "crm"
    path = Path(filled.removeprefix("sqlite:///"))
    with closing(sqlite3.connect(path)) as db:
        db.execute("VACUUM INTO ?", [str(tmp_path / "backup.db")])
    with EventStore.create(filled) as store:
        store.append(deliveries(3))
    state = run().state
    run(state=state)

    for file in path.parent.glob("webhooks.db*"):
        file.unlink()
    (tmp_path / "backup.db").rename(path)
    with EventStore.open(filled) as store:
        assert store.begin_generation() == 2
        store.append([a_delivery(a_body(f"evt_new_{n}", "x")) for n in range(9)])
    failed = run(state=state)
    run.config["on_store_reset"] = "resync"
    again = run(state=state)

    assert failed.exit_code == 1
    assert "another store" in failed.log
    assert again.sequences() == list(range(1, 20))
    assert behind(filled) == {"crm": 19}


@pytest.mark.parametrize(
    ("more", "stream", "warned"),
    [
        ({}, "events", True),
        ({"event_types": ["signal.created"]}, "events", True),
        ({}, "signal_created", True),
        ({"event_types": ["contact.unsubscribed"]}, "events", True),  # had no record
        ({"event_types": ["signal.created"]}, "signal_scored", False),
        ({}, "erasures", False),
    ],
    ids=str,
)
def test_unread_pruned_events_are_one_warning(
    run: Runner,
    filled: str,
    tmp_path: Path,
    more: dict[str, object],
    stream: str,
    *,
    warned: bool,
) -> None:
    run.config |= more
    catalog = only(stream, run, tmp_path)
    state = run("--catalog", catalog).state
    with EventStore.create(filled) as store:
        store.append(deliveries(3))
    kept = run("--catalog", catalog, state=state)
    prune(filled, before="2030", force=True)

    lost = run("--catalog", catalog, state=state)
    later = run("--catalog", catalog, state=lost.state)

    assert "were pruned" not in kept.log
    assert lost.log.count("Events after 10 and up to 13 were pruned") == warned
    assert "were pruned" not in later.log
    assert lost.exit_code == later.exit_code == 0


def test_unread_pruned_events_of_all_streams_are_one_warning(
    run: Runner, filled: str
) -> None:
    state = run().state
    with EventStore.create(filled) as store:
        store.append(deliveries(3))
    kept = run(state=state)
    prune(filled, before="2030", force=True)

    lost = run(state=state)

    assert "were pruned" not in kept.log
    assert lost.log.count("Events after 10 and up to 13 were pruned") == 1
    assert lost.exit_code == 0
