"""The tap: bookmarks of other, rewound and damaged stores."""

from __future__ import annotations

import json
import math
import os
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from msgspec.structs import replace

from stairoids_common.time import timestamp
from tap_stairoids_webhooks.reading.snapshot import Snapshot
from tap_stairoids_webhooks.signature import key_id_of
from tap_stairoids_webhooks.store.erasure import Person, erase
from tap_stairoids_webhooks.store.event_filter import EventFilter
from tap_stairoids_webhooks.store.retention import forget_digests, prune
from tap_stairoids_webhooks.store.store import EventStore
from tests.support.running_tap import Runner, fill
from tests.support.webhook_builders import EMAIL, SECRET, a_body, a_delivery


def test_events_that_are_pruned_during_a_run_are_a_warning(
    home: EventStore, home_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    home.append([a_delivery(a_body(f"evt_{number}")) for number in range(1002)])
    with closing(Snapshot(home_url)) as snapshot:
        events = snapshot.events_after(0, EventFilter())
        first = next(events)
        prune(home_url, before=timestamp(), force=True)
        rest = list(events)

    assert (first.sequence, rest[-1].sequence) == (1, 1000)  # the first page
    assert (
        "Events up to 1002 were pruned while this run read events after 0; some may be"
        " missing"
    ) in caplog.text


def test_event_of_a_forgotten_secret_stops_the_run_before_it(
    run: Runner, filled: str
) -> None:
    with EventStore.create(filled) as store:
        store.append([a_delivery(a_body("evt_old"), secret="old")])  # noqa: S106 -- a test's
        store.append([a_delivery(a_body("evt_new"))])
    run.config |= {"secrets": ["another", SECRET], "consumer": "crm"}

    failed = run()
    stopped_again = run(state=failed.state)
    run.config["secrets"] += ["old"]
    rest = run(state=failed.state)

    assert (failed.exit_code, stopped_again.exit_code) == (1, 1)
    assert failed.sequences() == list(range(1, 11))
    assert stopped_again.sequences() == []
    sentence = (
        "none of the secrets signed event 11, which the receiver verified with the"
        f" secret {key_id_of('old')}: add that secret to `secrets`, or set"
        " `on_unverified` to `skip`"
    )
    assert sentence in failed.log.splitlines()[-1]
    assert "unhandled" not in failed.log
    assert "Traceback" not in failed.log
    assert rest.exit_code == 0
    assert rest.sequences() == [11, 12]


def test_unverified_row_is_skipped_on_demand(run: Runner, filled: str) -> None:
    with closing(sqlite3.connect(filled.removeprefix("sqlite:///"))) as db, db:
        db.execute("UPDATE webhook_events SET body = x'7b7d' WHERE sequence = 2")
        db.execute("UPDATE webhook_events SET signature = 'é' WHERE sequence = 3")
    run.config |= {"secrets": ["another", SECRET], "on_unverified": "skip"}

    output = run()

    assert output.exit_code == 0
    assert output.sequences() == [1, 4, 5, 6, 7, 8, 9, 10]
    assert "number=2 first_sequence=2. Later runs do not read them" in output.log

    run.config = {"store_url": filled, "secrets": [SECRET, "another"]}
    assert run(state=output.state).sequences() == []  # as the warning states


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
    assert "Reading events from the start" in again.log
    assert "set on_store_reset" not in again.log
    assert again.sequences() == list(range(1, 11))
    assert again.state != state


@pytest.mark.usefixtures("filled")
def test_rewound_store_is_an_error(run: Runner) -> None:
    state = run().state
    state["bookmarks"]["events"]["replication_key_value"] = 11

    output = run(state=state)

    assert output.exit_code == 1
    assert "ends at 10" in output.log


def copied(url: str, folder: Path) -> Path:
    copy = folder / "copy.db"
    with closing(sqlite3.connect(url.removeprefix("sqlite:///"))) as db:
        db.execute("VACUUM INTO ?", [str(copy)])
    return copy


def put_back(copy: Path, url: str) -> None:
    path = Path(url.removeprefix("sqlite:///"))
    for file in path.parent.glob(f"{path.name}*"):
        file.unlink()
    copy.rename(path)


@pytest.mark.parametrize("then", ["new events", "another order", "pruned"])
def test_older_copy_of_the_store_is_an_error(
    run: Runner, filled: str, tmp_path: Path, then: str
) -> None:
    copy = copied(filled, tmp_path)
    with EventStore.create(filled) as store:
        store.append([a_delivery(a_body(f"evt_late_{n}")) for n in range(3)])
    state = run().state

    put_back(copy, filled)
    with EventStore.create(filled) as store:
        name = "other" if then == "new events" else "late"
        late = [a_delivery(a_body(f"evt_{name}_{n}")) for n in (1, 0, 2, 3, 4)]
        store.append([replace(delivery, received_at=timestamp()) for delivery in late])
    if then == "pruned":
        prune(filled, before="2099", force=True)
    failed = run(state=state)
    run.config["on_store_reset"] = "resync"
    again = run(state=state)

    assert failed.exit_code == 1
    assert failed.messages == []
    assert "stairoids-webhooks restored" in failed.log
    assert "Traceback" not in failed.log
    assert again.sequences() == ([] if then == "pruned" else list(range(1, 16)))


@pytest.mark.parametrize("stream", ["events", "signal_created"])
def test_older_copy_with_the_bookmarked_row_again_is_an_error(
    run: Runner, store_url: str, tmp_path: Path, stream: str
) -> None:
    """The row before differs; an import may repeat the time of the bookmarked row."""
    same = replace(a_delivery(a_body("evt_b")), received_at=timestamp())
    with EventStore.create(store_url) as store:
        store.append([a_delivery(a_body("evt_p"))])
    copy = copied(store_url, tmp_path)
    with EventStore.create(store_url) as store:
        store.append([a_delivery(a_body("evt_a")), same])
    state = run().state
    bookmarks = {stream: state["bookmarks"][stream]}

    put_back(copy, store_url)
    with EventStore.create(store_url) as store:
        store.append([a_delivery(a_body("evt_c")), same])
    failed = run(state={"bookmarks": bookmarks})

    assert failed.exit_code == 1
    assert f"the bookmark of {stream} is 3, but the store" in failed.log
    assert failed.messages == []


def test_other_erasures_in_an_older_copy_are_an_error(
    run: Runner, filled: str, tmp_path: Path
) -> None:
    copy = copied(filled, tmp_path)
    erase(filled, Person(contact_id="con_1"))
    state = run().state
    assert run(state=state).exit_code == 0

    put_back(copy, filled)
    erase(filled, Person(email=EMAIL))
    failed = run(state=state)
    run.config["on_store_reset"] = "resync"
    again = run(state=state)

    assert failed.exit_code == 1
    assert failed.messages == []
    assert "the bookmark of erasures is 1, but the store" in failed.log
    assert "stairoids-webhooks restored" in failed.log
    assert again.sequences("erasures") == list(range(1, 8))
    assert run(state=again.state).exit_code == 0


def test_bookmark_of_a_pruned_event_is_good(run: Runner, filled: str) -> None:
    state = run().state
    prune(filled, before="2099", force=True)
    pruned = run(state=state)
    forget_digests(filled, before="2099")

    assert pruned.exit_code == 0
    assert run(state=state).exit_code == 0


@pytest.mark.parametrize(
    ("before", "after", "config"),
    [
        (
            {"event_types": ["signal.created"]},
            {"event_types": ["signal.created", "signal.scored"]},
            {"event_types": ["signal.scored"]},
        ),
        ({"event_types": ["signal.created"]}, {}, {}),
        (
            {"since": "2024-02-01"},
            {"since": "2024-01-01"},
            {"since": "2024-01-01T00:00:00.000000Z"},
        ),
        ({"since": "2024-02-01"}, {}, {}),
        ({}, {"event_types": ["signal.created"]}, None),
        ({"event_types": ["a", "signal.created"]}, {"event_types": ["a"]}, None),
        ({"since": "2024-01-01"}, {"since": "2024-02-01"}, None),
    ],
)
def test_wider_choice_names_the_command_for_older_events(
    run: Runner,
    filled: str,
    before: dict[str, object],
    after: dict[str, object],
    config: dict[str, object] | None,
) -> None:
    run.config = {"store_url": filled, **before}
    state = run().state
    run.config = {"store_url": filled, **after}

    wider = run(state=state)
    later = run(state=wider.state)

    assert ("now selects older events" in wider.log) is (config is not None)
    if config is not None:
        added = f", and add {json.dumps(config)}" if config else ""
        assert f"without event_types, since and consumer{added}. Run" in wider.log
    assert "now selects older events" not in later.log
    assert wider.exit_code == 0


@pytest.mark.usefixtures("filled")
@pytest.mark.parametrize(
    ("event", "warning"),
    [
        (
            "signal.craeted",
            "no event has the type signal.craeted; did you mean signal.created?",
        ),
        ("no.such", "no event has the type no.such [E285]\n"),
        ("brand.new", None),  # of the store
        ("account.score_changed", None),
    ],
)
def test_misspelt_event_type_is_a_warning(
    run: Runner, event: str, warning: str | None
) -> None:
    run.config["event_types"] = [event]

    log = run().log

    assert (warning or "") in log
    assert ("no event has the type" in log) is (warning is not None)


@pytest.mark.usefixtures("filled")
def test_state_is_read_as_meltano_prints_it(run: Runner) -> None:
    state = run().state

    for printed in (
        {"singer_state": state},
        {"completed": {"singer_state": state}, "partial": {}},
        {"completed": {}, "partial": {"singer_state": state}},
        {"completed": {"singer_state": {"bookmarks": {"events": {}}}}}
        | {"partial": {"singer_state": state}},
    ):
        again = run(state=printed)
        assert again.exit_code == 0
        assert again.sequences() == []


@pytest.mark.usefixtures("filled")
@pytest.mark.parametrize(
    ("state", "message"),
    [
        ({"bookmarks": None}, "it has no `bookmarks` of this tap"),
        ({"bookmarks": []}, "it has no `bookmarks` of this tap"),
        ({"bookmark": {}}, "it has no `bookmarks` of this tap"),
        ({"value": {"bookmarks": {}}}, "it has no `bookmarks` of this tap"),
        ({"singer_state": None}, "it has no `bookmarks` of this tap"),
        ({"bookmarks": {"events": None}}, "it has no `bookmarks` of this tap"),
        ({"bookmarks": {"events": 3}}, "it has no `bookmarks` of this tap"),
        ({"bookmarks": {"users": {}}}, "it has no `bookmarks` of this tap"),
        ([], "not a JSON object"),
        (3, "not a JSON object"),
        ({"bookmarks": {"events": {"replication_key_value": math.nan}}}, "not JSON"),
    ],
)
def test_odd_state_is_one_sentence(run: Runner, state: object, message: str) -> None:
    output = run(state=state)

    assert output.exit_code == 1
    assert output.messages == []
    assert message in output.log
    assert "Traceback" not in output.log


@pytest.mark.usefixtures("filled")
@pytest.mark.parametrize("name", ["state", "catalog"])
@pytest.mark.parametrize("content", [b"", b'{"a', b"[]", b"\xff{}", b"[" * 500])
def test_odd_stdin_is_one_sentence(run: Runner, name: str, content: bytes) -> None:
    output = run(f"--{name}", "-", stdin=content)

    assert output.exit_code == 1
    assert output.messages == []
    assert f"{name}: stdin" in output.log


@pytest.mark.usefixtures("filled")
def test_state_comes_from_stdin_and_from_a_pipe(run: Runner) -> None:
    state = b'{"bookmarks": {"events": {"replication_key_value": 3}}}'
    (reader, writer) = os.pipe()
    os.write(writer, state)
    os.close(writer)

    of_stdin = run("--state", "-", stdin=state)
    of_pipe = run("--state", f"/dev/fd/{reader}")

    os.close(reader)
    assert of_stdin.sequences()[0] == of_pipe.sequences()[0] == 4


@pytest.mark.usefixtures("filled")
def test_bookmark_without_a_replication_key_counts(run: Runner) -> None:
    output = run(state={"bookmarks": {"events": {"replication_key_value": 3}}})

    assert output.exit_code == 0
    assert output.sequences()[0] == 4


@pytest.mark.usefixtures("filled")
@pytest.mark.parametrize("value", ["yesterday", True, None, -1, 2.5, [], {}])
def test_wrong_bookmark_is_refused(run: Runner, value: object) -> None:
    bookmark = {"replication_key": "sequence", "replication_key_value": value}

    output = run(state={"bookmarks": {"events": bookmark}})

    assert output.exit_code == 1
    assert "bookmark of events is not a whole number" in output.log


@pytest.mark.usefixtures("filled")
@pytest.mark.parametrize(
    "bookmark",
    [
        {"sequence": 3},
        {"version": 3},
        {"partitions": []},
        {"replication_key": "id", "replication_key_value": 3},
        {"replication_key": "received_at", "replication_key_value": "2026-01-01"},
        {"progress_markers": {"sequence": 3}},
    ],
    ids=str,
)
def test_bookmark_of_another_tap_is_refused(run: Runner, bookmark: object) -> None:
    output = run(state={"bookmarks": {"events": bookmark}})

    assert output.exit_code == 1
    assert output.sequences() == []
    assert "bookmark of events is not a whole number of `sequence`; put" in output.log


@pytest.mark.usefixtures("filled")
def test_state_of_a_store_without_events_is_read(run: Runner) -> None:
    empty = {"store_id": None, "event_types": None, "since": None}

    output = run(state={"bookmarks": {"events": empty}})

    assert output.exit_code == 0


@pytest.mark.usefixtures("filled")
def test_state_message_is_not_a_state(run: Runner) -> None:
    """As a state it would count as no state, and every event would be emitted again."""
    run_before = run()
    state = {"type": "STATE", "value": run_before.state}

    output = run(state=state)

    assert output.exit_code == 1
    assert "give the tap the `value` of its last STATE message" in output.log
    assert output.messages == []
