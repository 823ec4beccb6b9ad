"""The first-run check: the ledger must fit the signals that Stairoids has."""

from __future__ import annotations

import json
import shutil
import sqlite3
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest

from stairoids_common.time import current_second, rfc3339
from stairoids_sandbox import Fault, Sandbox
from target_stairoids.api.client import Response, kind_of
from target_stairoids.checks.first_run import (
    held_back_reason,
    key_error,
    list_error,
    newest_of,
    unknown_in,
)
from target_stairoids.exceptions import StairoidsError
from target_stairoids.ledger import maintenance
from target_stairoids.ledger.ledger import Ledger
from target_stairoids.ledger.structs import Known, ListFacts
from target_stairoids.settings import Settings
from tests.support.commands import signals as command
from tests.support.connectors import on_both_connectors
from tests.support.raw_server import Server, raw, running
from tests.support.sandbox_client import Client
from tests.support.singer_io import (
    Message,
    TargetUnderTest,
    a_record,
    a_schema,
    a_state,
    text_of,
    wait_until,
)

if TYPE_CHECKING:
    import socket
    from collections.abc import Iterator, Sequence

TWO_SOURCES = [
    {"stream": "trials", "source": "mine"},
    {"stream": "deals", "source": "shared"},
]
TWO_STREAMS = [
    a_schema(),
    a_record(1),
    a_schema("deals"),
    a_record(2, "deals"),
    a_state(),
]


@pytest.fixture(autouse=True)
def guarded(target: TargetUnderTest) -> None:
    target.config["first_run"] = "guard"


def sends(sandbox: Sandbox, **fields: object) -> None:
    """Let another producer send a signal."""
    with Client(sandbox) as client:
        assert client.send(**fields).status_code == 201


def emails(sandbox: Sandbox) -> list[str]:
    return [s.body["contact"]["email"] for s in sandbox.signals]


def lose_ledger(target: TargetUnderTest) -> None:
    for path in target.folder.glob("ledger.db*"):
        path.unlink()


@on_both_connectors
def test_source_with_unknown_signals_is_held_back_also_on_retries(
    sandbox: Sandbox, target: TargetUnderTest
) -> None:
    sends(sandbox, source="shared", type="deals")
    runs = [target.run(*TWO_STREAMS, signals=TWO_SOURCES) for _ in range(4)]

    assert [run.exit_code for run in runs] == [1, 1, 1, 1]
    assert runs[0].outcomes == {"accepted": 1, "pending": 1}
    assert all(run.outcomes == {"duplicate": 1, "pending": 1} for run in runs[1:])
    assert not any(run.states for run in runs)
    assert {run.failure for run in runs} <= {"", "config_error"}
    assert emails(sandbox) == ["jane.doe@acmecorp.com", "u1@example.com"]
    for word in ("`shared`", "`first_run`", "`ledger_url`", "--source shared"):
        assert all(word in run.error for run in runs)
    assert "`mine`" not in runs[0].error


@on_both_connectors
def test_source_that_was_held_back_may_get_another_name(
    sandbox: Sandbox, target: TargetUnderTest
) -> None:
    sends(sandbox, source="crm", type="trials")
    records = a_schema(), a_record(1)

    held_back = target.run(*records, source="crm", first_run="guard")
    renamed = target.run(*records, source="crm-2", first_run="guard")

    assert (held_back.exit_code, held_back.outcomes) == (1, {"pending": 1})
    assert (renamed.exit_code, renamed.outcomes) == (0, {"accepted": 1})


def test_source_is_held_back_also_if_the_ledger_was_filled_by_others(
    sandbox: Sandbox, target: TargetUnderTest
) -> None:
    sends(sandbox, source="shared", type="deals")
    old = a_record(1, at="2020-01-01T00:00:00Z")
    mapping = {"stream": "trials", "occurred_at": "{{ at }}", "source": "mine"}
    old_run = target.run(
        a_schema(at="string"), old, max_event_age_days=1, signals=[mapping]
    )
    target.run(a_schema("calls"), a_record(3, "calls"), source="another")

    run = target.run(*TWO_STREAMS[2:], signals=TWO_SOURCES)

    assert old_run.outcomes == {"too_old": 1}
    assert (run.exit_code, run.outcomes) == (1, {"pending": 1})


@on_both_connectors
@pytest.mark.parametrize("answer", ["send", "baseline"])
def test_first_run_answers_for_later_runs(
    sandbox: Sandbox, target: TargetUnderTest, answer: str
) -> None:
    for number in range(3):
        sends(sandbox, source="shared", type="deals", properties={"n": number})
    refused = target.run(*TWO_STREAMS[2:], signals=TWO_SOURCES)
    answered = target.run(*TWO_STREAMS[2:], signals=TWO_SOURCES, first_run=answer)
    more = [a_schema("deals"), a_record(2, "deals"), a_record(3, "deals"), a_state()]
    later = target.run(*more, signals=TWO_SOURCES)
    sends(sandbox, source="shared", type="deals", properties={"n": 4})
    again = target.run(*more, a_record(4, "deals"), signals=TWO_SOURCES)

    assert refused.exit_code == 1
    outcome = {"send": "accepted", "baseline": "baselined"}[answer]
    assert (answered.exit_code, answered.outcomes) == (0, {outcome: 1})
    assert (later.exit_code, later.outcomes) == (0, {"duplicate": 1, "accepted": 1})
    assert (again.exit_code, again.outcomes) == (1, {"duplicate": 2, "pending": 1})


@on_both_connectors
def test_lost_ledger_is_noticed(sandbox: Sandbox, target: TargetUnderTest) -> None:
    target.run(a_schema(), a_record(1))
    lose_ledger(target)

    run = target.run(a_schema(), a_record(1), a_state())

    assert (run.exit_code, run.outcomes, run.states) == (1, {"pending": 1}, [])
    assert run.failure in {"", "config_error"}
    assert len(sandbox.signals) == 1


@on_both_connectors
@pytest.mark.parametrize("first_run", ["guard", "send"])
def test_old_copy_of_the_ledger_is_noticed(
    sandbox: Sandbox, target: TargetUnderTest, first_run: str
) -> None:
    ledger, copy = target.folder / "ledger.db", target.folder / "copy.db"
    target.run(a_schema(), a_record(1), first_run=first_run)
    shutil.copy(ledger, copy)
    target.run(a_schema(), a_record(1), a_record(2), first_run=first_run)
    shutil.copy(ledger, target.folder / "new.db")
    lose_ledger(target)
    shutil.copy(copy, ledger)

    old = target.run(a_schema(), a_record(1), a_record(2), a_record(3), a_state())
    shutil.copy(target.folder / "new.db", ledger)
    restored = target.run(a_schema(), a_record(1), a_record(2), a_record(3))

    assert (old.exit_code, old.outcomes) == (1, {"duplicate": 1, "pending": 2})
    assert (restored.exit_code, restored.outcomes["accepted"]) == (0, 1)
    assert emails(sandbox) == [f"u{n}@example.com" for n in (1, 2, 3)]


def test_baseline_remembers_also_known_streams_of_an_old_ledger(
    sandbox: Sandbox, target: TargetUnderTest
) -> None:
    ledger, copy = target.folder / "ledger.db", target.folder / "copy.db"
    target.run(a_schema(), a_record(1))
    shutil.copy(ledger, copy)
    target.run(a_schema(), a_record(1), a_record(2))
    lose_ledger(target)
    shutil.copy(copy, ledger)

    messages = [a_schema(), a_record(1), a_record(2)]
    baseline = target.run(*messages, a_state(), first_run="baseline")
    later = target.run(*messages, a_record(3))

    assert baseline.outcomes == {"duplicate": 1, "baselined": 1}
    assert (baseline.exit_code, baseline.states) == (0, [{"at": 1}])
    assert later.outcomes == {"duplicate": 2, "accepted": 1}
    assert len(sandbox.signals) == 3


@pytest.mark.parametrize("shape", [{}, {"status": "received"}])
def test_signals_without_an_id_are_accounted_for(
    target: TargetUnderTest, shape: Message
) -> None:
    listed = {"id": "sig_1", "type": "trials", "created_at": rfc3339(current_second())}
    server = Server()

    def respond(connection: socket.socket) -> None:
        is_list = server.requests[-1][0].startswith("GET")
        page = [] if len(server.requests) == 1 else [listed]
        body = {"data": page} if is_list else shape
        connection.sendall(raw(200 if is_list else 201, json.dumps(body)))

    server.response = respond
    with running(server):
        target.config["api_url"] = server.url
        runs = [target.run(a_schema(), a_record(n)) for n in (1, 2, 3)]

    assert [run.outcomes for run in runs] == [{"accepted": 1}] * 3


@pytest.mark.slow
def test_lost_ledger_is_noticed_behind_a_page_of_another_type(
    sandbox: Sandbox, target: TargetUnderTest
) -> None:
    target.run(a_schema(), a_record(1))
    views = [a_record(n, "views") for n in range(200)]
    target.run(a_schema("views"), *views)
    lose_ledger(target)

    run = target.run(a_schema(), a_record(1), a_state())

    assert (run.exit_code, run.outcomes) == (1, {"pending": 1})
    assert len(sandbox.signals) == 201


@on_both_connectors
def test_other_producer_is_allowed_by_a_person(
    sandbox: Sandbox, target: TargetUnderTest
) -> None:
    target.run(a_schema(), a_record(1), source="web")
    sends(sandbox, source="web", type="trials")
    refused = target.run(a_schema(), a_record(2), a_state(), source="web")

    done = command(target, "ledger", "allow", "--source", "web")
    allowed = target.run(a_schema(), a_record(2), a_state(), source="web")

    assert refused.exit_code == 1
    assert done.returncode == 0, done.stderr
    assert (allowed.exit_code, allowed.outcomes) == (0, {"accepted": 1})


def test_source_of_other_producers_is_named_in_each_run(
    target: TargetUnderTest, caplog: pytest.LogCaptureFixture
) -> None:
    target.run(a_schema(), a_record(1), source="web")
    command(target, "ledger", "allow", "--source", "web")

    for number in (2, 3):
        caplog.clear()
        target.run(a_schema(), a_record(number), source="web")
        assert "Other producers send signals of source `web` as well" in caplog.text


def test_signals_of_other_types_do_not_hold_back_a_source(
    sandbox: Sandbox, target: TargetUnderTest
) -> None:
    sends(sandbox, source="web", type="page_visit")

    runs = [target.run(a_schema(), a_record(n), source="web") for n in (1, 2)]

    assert [run.exit_code for run in runs] == [0, 0]
    later = target.run(a_schema("page_visit"), a_record(1, "page_visit"), source="web")
    assert (later.exit_code, later.outcomes) == (1, {"pending": 1})


@pytest.mark.slow
def test_claim_of_a_killed_run_and_an_unknown_dead_letter_explain_signals(
    sandbox: Sandbox, target: TargetUnderTest
) -> None:
    lost = Fault(kind="drop_after_accept", count=1)
    sandbox.faults.set([lost])
    held = target.run(a_schema(), a_record(1), on_unknown="hold")
    run = target.run(a_schema(), a_record(2))
    sandbox.faults.set([Fault(kind="slow", delay_ms=60_000, on="send")])
    process = target.start(text_of([a_schema(), a_record(3)]))
    wait_until(lambda: len(sandbox.signals) == 3)
    process.kill()
    process.communicate()
    sandbox.faults.set([])
    records = [a_record(3), a_record(4)]
    after = target.run(a_schema(), *records, request_timeout_seconds=2)

    assert held.outcomes == {"unknown": 1}
    assert (run.exit_code, run.outcomes) == (0, {"accepted": 1})
    assert after.exit_code == 0
    assert emails(sandbox) == [f"u{n}@example.com" for n in (1, 2, 3, 4)]


@pytest.mark.parametrize(
    "decision",
    [
        "dead-letters resolve 1 --delivered",
        "dead-letters discard 1 --yes",
        "ledger erase --email u1@example.com --yes",
    ],
)
def test_signal_that_a_person_decided_on_is_accounted_for(
    sandbox: Sandbox, target: TargetUnderTest, decision: str
) -> None:
    sandbox.faults.set([Fault(kind="drop_after_accept", count=1)])
    held = target.run(a_schema(), a_record(1), on_unknown="hold")
    decided = command(target, *decision.split())
    later = target.run(a_schema(), a_record(1), a_record(2))
    sends(sandbox, source="singer", type="trials")
    other = target.run(a_schema(), a_record(3))

    assert (held.outcomes, decided.returncode) == ({"unknown": 1}, 0)
    assert (later.exit_code, later.outcomes) == (0, {"duplicate": 1, "accepted": 1})
    assert (other.exit_code, other.outcomes) == (1, {"pending": 1})


def test_decision_on_an_old_request_explains_no_later_signals(
    sandbox: Sandbox, target: TargetUnderTest
) -> None:
    sandbox.faults.set([Fault(kind="reset", count=1)])
    target.run(a_schema(), a_record(1), on_unknown="hold")
    with sqlite3.connect(target.folder / "ledger.db") as ledger:
        ledger.execute("UPDATE stairoids_dead_letters SET last_at = '2026-01-01'")
    sends(sandbox, source="singer", type="trials")

    command(target, "dead-letters", "resolve", "1", "--delivered")
    run = target.run(a_schema(), a_record(2))

    assert (run.exit_code, run.outcomes) == (1, {"pending": 1})


def test_run_compares_at_most_ten_sources_and_asks_once_about_the_others(
    sandbox: Sandbox, target: TargetUnderTest
) -> None:
    sends(sandbox, source="s14", type="trials")
    records = [a_record(n) for n in range(15)]
    mapping = {"stream": "trials", "source": "s{{ id }}"}

    run = target.run(a_schema(), *records, a_state(), signals=[mapping])

    assert (run.exit_code, run.outcomes) == (1, {"accepted": 14, "pending": 1})
    assert "`s14`" in run.error
    assert [r.method for r in sandbox.requests].count("GET") == 10


def test_source_of_other_producers_is_not_held_back_among_many_sources(
    sandbox: Sandbox, target: TargetUnderTest
) -> None:
    target.run(a_schema(), a_record(99))
    sends(sandbox, source="s14", type="trials")
    command(target, "ledger", "allow", "--source", "s14")
    records = [a_record(n) for n in range(15)]
    mapping = {"stream": "trials", "source": "s{{ id }}"}

    run = target.run(a_schema(), *records, a_state(), signals=[mapping])

    assert (run.exit_code, run.outcomes) == (0, {"accepted": 15})


@pytest.mark.usefixtures("short_backoff")
def test_failed_comparison_is_repeated(
    sandbox: Sandbox, target: TargetUnderTest
) -> None:
    sends(sandbox, source="web", type="trials")
    sandbox.faults.add(Fault(kind="status", status=500, on="read", count=2))

    run = target.run(a_schema(), a_record(1), a_state(), source="web")

    assert (run.exit_code, run.outcomes) == (1, {"pending": 1})
    reads = [r.status for r in sandbox.requests if r.method == "GET"]
    assert reads == [500, 500, 200]


def test_first_run_check_is_one_request_for_each_run(
    sandbox: Sandbox, target: TargetUnderTest
) -> None:
    runs = [target.run(a_schema(), a_record(n)) for n in (1, 2)]
    target.run(a_schema(), a_record(2))

    assert [run.outcomes for run in runs] == [{"accepted": 1}, {"accepted": 1}]
    assert [r.method for r in sandbox.requests] == ["GET", "POST", "GET", "POST"]


def test_states_that_return_within_a_run_are_accounted_for(
    sandbox: Sandbox, target: TargetUnderTest
) -> None:
    schema = a_schema(plan="string", at="string", bookmark="at")
    returns = [
        a_record(1, plan=plan, at=f"2026-01-0{day}")
        for day, plan in enumerate("ABA", start=1)
    ]
    mapping = {"stream": "trials", "send": "always", "properties": ["plan"]}
    first = target.run(schema, *returns, signals=[mapping])
    later = a_record(1, plan="C", at="2026-01-04")
    second = target.run(schema, later, signals=[mapping])

    assert first.outcomes == {"accepted": 3}
    assert (second.exit_code, second.outcomes) == (0, {"accepted": 1})
    assert len(sandbox.signals) == 4


@pytest.mark.parametrize("namespace", ["one", "other"])
def test_signals_of_a_forgotten_stream_are_accounted_for(
    sandbox: Sandbox, target: TargetUnderTest, namespace: str
) -> None:
    slow = Fault(kind="slow", delay_ms=100, containing="u1@")
    sandbox.faults.set([slow])  # so its response comes after that of a newer signal
    records = [a_record(n) for n in (1, 2, 3)]
    target.config["namespace"] = "one"
    target.run(a_schema(), *records)
    sandbox.faults.set([])
    command(target, "ledger", "forget", "--stream", "trials", "--yes")

    again = target.run(a_schema(), *records, namespace=namespace)

    assert (again.exit_code, again.outcomes) == (0, {"accepted": 3})


@pytest.mark.slow
def test_preview_and_check_compare_with_stairoids_only_if_asked(
    sandbox: Sandbox, target: TargetUnderTest
) -> None:
    target.config |= {"signals": [{"stream": "trials"}]}
    messages = text_of([a_schema(), a_record(1)])
    target.run(a_schema(), a_record(1))
    lose_ledger(target)
    before = len(sandbox.requests)

    quiet = command(target, "preview", text=messages)
    asked = len(sandbox.requests) - before
    online = command(target, "preview", "--online", text=messages)
    as_json = command(target, "preview", "--online", "--format", "json", text=messages)
    check = command(target, "check")
    check_online = command(target, "check", "--online")

    assert (asked, "First-run check: not made." in quiet.stdout) == (0, True)
    assert "First-run check: not made." in check.stderr
    assert [online.returncode, as_json.returncode, check_online.returncode] == [1, 1, 1]
    for done in (online, as_json, check_online):
        assert "`singer`" in done.stdout
        assert "--source singer" in done.stdout
    assert "[E018]" in online.stdout
    assert "[E018]" in check_online.stdout
    del target.config["signals"]
    inferred = command(target, "check", "--online")
    assert (inferred.returncode, "are not compared" in inferred.stdout) == (0, True)
    target.config |= {"first_run": "send", "signals": [{"stream": "trials"}]}
    sends = command(target, "check", "--online")
    assert (sends.returncode, "as `first_run` is `send`" in sends.stdout) == (0, True)
    target.run(a_schema(), a_record(1))
    target.config["first_run"] = "guard"
    fits = command(target, "check", "--online")
    assert (fits.returncode, "known to the ledger" in fits.stdout) == (0, True)
    assert len(sandbox.signals) == 2


@pytest.mark.parametrize("nothing", [{"type": None}, {"suppress": "{{ email }}"}])
def test_check_compares_no_mapping_that_sends_nothing(
    target: TargetUnderTest, nothing: Message
) -> None:
    target.run(a_schema(), a_record(1))
    lose_ledger(target)
    sends = {"stream": "orders", "type": "order"}
    target.config["signals"] = [{"stream": "trials", **nothing}, sends]

    check = command(target, "check", "--online")

    assert (check.returncode, "known to the ledger" in check.stdout) == (0, True)


def test_dry_run_says_that_it_does_not_compare(
    target: TargetUnderTest, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    target.run(a_schema(), a_record(1), dry_run=True)

    assert "First-run check: not made." in caplog.text


# Keys and workspaces


@pytest.fixture
def two_workspaces() -> Iterator[Sandbox]:
    keys = {"first": "read_write", "second": "read_write", "writer": "write"}
    with Sandbox(keys=keys, workspaces={"second": "other"}) as running:
        yield running


@on_both_connectors
def test_key_of_another_workspace_stops_the_run(
    two_workspaces: Sandbox, target: TargetUnderTest
) -> None:
    target.config["api_url"] = two_workspaces.url
    target.run(a_schema(), a_record(1), api_key="first")

    runs = [
        target.run(a_schema(), a_record(1), *more, a_state(), api_key="second")
        for more in ([], [a_record(2)], [a_record(2)])
    ]
    sent = target.run(a_schema(), a_record(2), api_key="second", first_run="send")
    back = target.run(a_schema(), a_record(2), api_key="first")
    own = target.run(a_schema(), a_record(2), api_key="second", namespace="second")

    for run in (*runs, sent):
        assert (run.exit_code, run.states) == (1, [])
        assert run.failure in {"", "config_error"}
        command = "`stairoids-signals ledger allow --key --config config.json`"
        for word in ("`ledger_url`", "`namespace`", command):
            assert word in run.error
    assert back.outcomes == own.outcomes == {"accepted": 1}
    assert [s.key_name for s in two_workspaces.signals] == ["key-1", "key-1", "key-2"]


def test_key_of_another_workspace_stops_the_run_after_a_prune(
    two_workspaces: Sandbox, target: TargetUnderTest
) -> None:
    target.config |= {"api_url": two_workspaces.url, "api_key": "first"}
    target.run(a_schema(), a_record(1))
    settings = Settings.from_config(target.config)
    with Ledger.open(settings.ledger_url, settings.scope) as ledger:
        maintenance.prune(ledger, older_than=datetime.now(UTC))

    run = target.run(a_schema(), a_record(2), api_key="second")

    assert run.exit_code == 1
    assert "another workspace" in run.error
    assert len(two_workspaces.signals) == 1


def test_new_key_of_the_same_workspace_is_accepted_and_remembered(
    target: TargetUnderTest,
) -> None:
    with Sandbox(keys={"old": "read_write", "new": "read_write"}) as sandbox:
        target.config["api_url"] = sandbox.url
        target.run(a_schema(), *(a_record(n) for n in range(4)), api_key="old")
        before = len(sandbox.requests)
        run = target.run(a_schema(), a_record(5), api_key="new")
        asked = [r.path for r in sandbox.requests[before:] if r.method == "GET"]
        again = target.run(a_schema(), a_record(6), api_key="new")

    assert (run.outcomes, again.outcomes) == ({"accepted": 1}, {"accepted": 1})
    assert len(asked) == 2
    assert asked[1] == "/v1/signals"


@on_both_connectors
def test_key_is_allowed_by_a_person(
    two_workspaces: Sandbox, target: TargetUnderTest
) -> None:
    target.config |= {"api_url": two_workspaces.url, "api_key": "first"}
    target.run(a_schema(), a_record(1))
    target.config["api_key"] = "second"
    refused = target.run(a_schema(), a_record(2))

    done = command(target, "ledger", "allow", "--key")
    allowed = target.run(a_schema(), a_record(2))

    assert refused.exit_code == 1
    assert done.returncode == 0, done.stderr
    assert (allowed.exit_code, allowed.outcomes) == (0, {"accepted": 1})


@on_both_connectors
def test_key_that_may_not_read_stops_a_new_ledger_each_time(
    two_workspaces: Sandbox, target: TargetUnderTest
) -> None:
    target.config |= {"api_url": two_workspaces.url, "api_key": "writer"}
    messages = [a_schema(), a_record(1), a_state()]
    for _ in range(3):
        lose_ledger(target)
        run = target.run(*messages)
        assert (run.exit_code, run.outcomes) == (1, {"pending": 1})
        assert run.failure in {"", "config_error"}
        assert "may not read" in run.error
    assert not two_workspaces.signals


def test_key_that_may_not_read_goes_on_once_it_is_known(
    two_workspaces: Sandbox, target: TargetUnderTest
) -> None:
    target.config["api_url"] = two_workspaces.url
    target.run(a_schema(), a_record(1), api_key="first")
    refused = target.run(a_schema(), a_record(2), api_key="writer")
    sent = target.run(a_schema(), a_record(2), api_key="writer", first_run="send")
    later = target.run(a_schema(), a_record(3), api_key="writer")

    assert (refused.exit_code, "may not read" in refused.error) == (1, True)
    assert sent.outcomes == later.outcomes == {"accepted": 1}


# Pure decisions


def a_response(status: int, body: object = None) -> Response:
    kind = kind_of(status, asks_to_return=False)
    return Response(kind=kind, status=status, body=body)


AT_1 = "2026-01-01T00:00:01Z"


def listed(name: str, second: int = 0, **fields: object) -> Message:
    moment = f"2026-01-01T00:00:{second:02}Z"
    return {"id": name, "type": "t", "source": "s", "created_at": moment, **fields}


@pytest.mark.parametrize(
    ("page", "known", "unknown"),
    [
        ([], None, False),
        ([listed("own")], None, False),
        ([listed("new")], None, True),
        ([listed("new", type="other")], None, False),
        ([listed("new", 2), listed("own", 1)], Known(AT_1, "own"), True),
        ([listed("new", 1), listed("own", 1)], Known(AT_1, "own"), True),
        ([listed("own", 1), listed("old", 1)], Known(AT_1, "own"), False),
        ([listed("old", 0)], Known(AT_1, "gone"), False),
        ([listed("new", 1)], Known(AT_1, ""), True),
        ([listed("old", 1)], Known(AT_1, None), False),
        ([listed("new", 2)], Known(AT_1, None), True),
        ([listed("new", created_at=None)], Known(AT_1, None), True),
        ([{"type": "t"}], None, True),
        ([listed("new", 2, id=["own"])], Known(AT_1, "own"), True),
        ([listed("old", 0, id={"own": 1})], Known(AT_1, "own"), False),
        ([listed("sent", 2)], Known(AT_1, "old"), False),
    ],
)  # fmt: skip
def test_signal_is_unknown_unless_the_ledger_has_it_or_it_is_older(
    page: list[Message], known: Known | None, *, unknown: bool
) -> None:
    pair = ("s", "t")
    facts = ListFacts(
        {"own"}, {pair: known} if known else {}, list, {"sent"}.intersection
    )

    assert (pair in unknown_in(page, "s", facts)) is unknown


def test_unclear_request_explains_an_equal_signal_only() -> None:
    email: Message = {"contact": {"email": "a@x.com"}}
    page = [listed("one", **email), listed("two", **email, properties={"n": 1})]
    sent = b'{"type":"t","source":"s","contact":{"email":"a@x.com"}}'

    facts = ListFacts((), {}, lambda: [sent], set().intersection)
    assert unknown_in(page[:1], "s", facts) == set()
    assert unknown_in(page, "s", facts) == {("s", "t")}


def test_newest_signal_of_a_page_is_the_first_of_its_second() -> None:
    page = [listed("b", 5), listed("a", 5), listed("c", 1)]

    known = newest_of(a_response(200, {"data": page}))

    assert (known.until[:19], known.signal_id) == ("2026-01-01T00:00:05", "b")


@pytest.mark.parametrize(
    ("response", "is_trusted", "words"),
    [
        (a_response(200, {"data": []}), False, None),
        (a_response(200, {"signals": []}), False, None),
        (a_response(200, "<html>"), True, "`api_url`"),
        (a_response(200, {"data": ["x"]}), True, "`api_url`"),
        (a_response(401), False, "Stairoids refuses the request"),
        (a_response(403), False, "may not read"),
        (a_response(404), False, "may not read"),
        (a_response(422), False, "may not read"),
        (a_response(405), True, None),
    ],
)
def test_list_of_signals_is_required_from_a_new_key(
    response: Response, words: str | None, *, is_trusted: bool
) -> None:
    error = list_error(response, "https://x", is_trusted=is_trusted)

    assert (words in str(error)) if words else error is None


@pytest.mark.parametrize(
    ("responses", "words", "code"),
    [
        ([], None, 0),
        ([a_response(404), a_response(200, {"data": {"id": "x"}})], None, 0),
        ([a_response(404)] * 3, "another workspace", 1),
        ([a_response(200, "<html>")], "`api_url`", 1),
        ([a_response(403)], "may not read", 1),
        ([a_response(401)], "`api_key`", 1),
        ([a_response(500)], "Run again", 75),
    ],
)
def test_new_key_must_see_a_signal_of_the_ledger(
    responses: Sequence[Response], words: str | None, code: int
) -> None:
    error = key_error(responses, "https://x", must_read=True)

    if words is None:
        assert error is None
    else:
        assert isinstance(error, StairoidsError)
        assert (words in str(error), error.exit_code) == (True, code)


def test_error_names_each_source_and_the_remedies() -> None:
    text = held_back_reason({"b", "a"})

    for name in ("`a`, `b`", "`ledger_url`", "`send`", "`baseline`", "--source a"):
        assert name in text
