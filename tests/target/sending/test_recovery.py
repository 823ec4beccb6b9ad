"""Recovery: the signals that dead runs left in flight are looked up, not too early."""

from __future__ import annotations

import json
import sqlite3
import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from stairoids_sandbox import Fault, Sandbox
from target_stairoids.sending.queue import Stage
from target_stairoids.sending.recovery import attempted_since, recovered_signal
from tests.support.commands import signals
from tests.support.connectors import on_both_connectors
from tests.support.ledger_builders import a_claim, a_version
from tests.support.singer_io import (
    TargetUnderTest,
    a_record,
    a_schema,
    a_state,
    text_of,
    wait_until,
)

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from tests.support.singer_io import Message

pytestmark = pytest.mark.slow

SIGNAL = b'{"type":"t","source":"s","contact":{"email":"a@b.example"}}'


def seconds_ago(seconds: float) -> str:
    return (datetime.now(UTC) - timedelta(seconds=seconds)).isoformat()


@pytest.mark.parametrize(
    ("age", "wait"),
    [(0, 100), (20, 100), (90, 60), (1_000, 0), (-1_000_000, 100), (None, 100)],
    ids=[
        "just claimed",
        "may have left just now",
        "left 40 s ago at the latest",
        "old",
        "the clock was set back",
        "the server's clock was not known",
    ],
)
def test_recovered_signal_is_looked_up_once_its_request_cannot_be_accepted(
    age: float | None, wait: float
) -> None:
    at = f"~{seconds_ago(9)}" if age is None else seconds_ago(age)
    left = a_claim(a_version(), request=SIGNAL, attempted_at=at)

    signal = recovered_signal(
        left, -1, now=datetime.now(UTC), lookup_delay=100, longest_wait=50
    )

    assert signal.lookup.not_before - time.monotonic() == pytest.approx(wait, abs=10)


def test_recovered_signal_continues_from_its_claim() -> None:
    left = a_claim(
        a_version(), request=SIGNAL, attempts=3, attempted_at=seconds_ago(1_000)
    )

    signal = recovered_signal(left, -1, now=None, lookup_delay=0, longest_wait=0)

    assert signal.number == -1
    assert signal.claim == left
    assert signal.stage is Stage.LOOK_UP
    assert signal.recovered
    assert signal.attempts == 3
    assert signal.lanes == (a_version().key[0], ("email", "a@b.example"))


PEOPLE = [a_schema(), *map(a_record, range(4))]
ONCE = [{"stream": "trials", "send": "once"}, {"stream": "others"}]


def kill_while_sending(
    target: TargetUnderTest,
    sandbox: Sandbox,
    people: Sequence[Message | str] = PEOPLE,
) -> None:
    """Kill a run whose requests Stairoids does not accept.

    They may arrive after the kill, so the fault stays.
    """
    target.config["request_timeout_seconds"] = 1
    target.run(a_schema("others"), a_record(9, "others"))
    sandbox.faults.set([Fault(kind="slow_accept", delay_ms=60_000)])
    before = len(sandbox.requests)
    with target.start(text_of(people), request_timeout_seconds=30) as process:
        assert process.stdin
        process.stdin.close()
        wait_until(lambda: bool(claims_of(target)))
        process.kill()
    assert len(sandbox.requests) == before


def claims_of(target: TargetUnderTest) -> list[Any]:
    with sqlite3.connect(target.folder / "ledger.db") as ledger:
        return ledger.execute("SELECT entity FROM stairoids_claims").fetchall()


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        ({"api_key": "sk_other"}, "the API key of another workspace"),
        ({"on_unknown": "hold"}, "`on_unknown` is `hold`"),
        ({"suppress": ["example.com"]}, "is suppressed now"),
        ({"signals": [{"stream": "trials", "type": None}]}, "does not make this"),
        ({"signals": [{"stream": "trials", "type": "new"}]}, "does not make this"),
        ({"signals": [{"stream": "trials", "when": "{{ id > 99 }}"}]}, "does not make"),
    ],
    ids=["other key", "hold", "suppressed", "no signal", "other type", "filtered"],
)
def test_left_over_claim_is_a_dead_letter_if_it_must_not_be_sent_again(
    tmp_path: Path, config: dict[str, Any], reason: str
) -> None:
    keys = {"sk_test_sandbox": "read_write", "sk_other": "read_write"}
    with Sandbox(keys=keys, workspaces={"sk_other": "other"}) as sandbox:
        target = TargetUnderTest(tmp_path, sandbox.url)
        kill_while_sending(target, sandbox)
        left = len(claims_of(target))
        if "api_key" in config:  # a person trusts the key, or there is no signal yet
            with sqlite3.connect(tmp_path / "ledger.db") as ledger:
                ledger.execute("DELETE FROM stairoids_signals")
                ledger.execute("UPDATE stairoids_settled SET signal_id = NULL")
                ledger.execute("DELETE FROM stairoids_api_keys")
        run = target.run(**config)
        found = signals(target, "dead-letters", "list").stdout

    assert run.report["recovered"] == {"unknown": left}
    assert reason in found
    assert [s.type for s in sandbox.signals] == ["others"]


def test_left_over_claim_is_sent_again_by_a_mapping_that_makes_the_same_signal(
    sandbox: Sandbox, target: TargetUnderTest
) -> None:
    kill_while_sending(target, sandbox)
    left = len(claims_of(target))
    trials = {"stream": "trials", "properties": "*", "send": "always"}
    same = [trials, {"stream": "others"}]
    sandbox.faults.set([])

    run = target.run(a_schema("others"), a_record(8, "others"), signals=same)

    assert run.report["recovered"] == {"accepted": left}


@pytest.mark.parametrize("number", ["1.10", "1e400"])
def test_left_over_claim_is_made_again_from_its_record_as_the_tap_wrote_it(
    sandbox: Sandbox, target: TargetUnderTest, number: str
) -> None:
    """The number is a property, or it is in a column that the mapping does not use."""
    used = ["id", "mrr"] if number == "1.10" else ["id"]
    target.config["signals"] = [
        {"stream": "trials", "properties": used},
        {"stream": "others"},
    ]
    record = '{"id":1,"email":"u1@example.com","mrr":%s}' % number  # noqa: UP031 - braces
    line = f'{{"type":"RECORD","stream":"trials","record":{record}}}'
    kill_while_sending(target, sandbox, [a_schema(mrr="number"), line])
    changed = {"stream": "trials", "properties": used, "send": "always"}
    sandbox.faults.set([])

    run = target.run(
        a_schema("others"),
        a_record(8, "others"),
        signals=[changed, {"stream": "others"}],
    )

    assert run.report["recovered"] == {"accepted": 1}


def test_recovered_signal_is_looked_up_after_the_request_timeout(
    sandbox: Sandbox, target: TargetUnderTest
) -> None:
    kill_while_sending(target, sandbox)

    run = target.run(request_timeout_seconds=2)

    assert run.report["recovered"] == {"pending": len(claims_of(target))}
    assert run.report["seconds"] >= 2


def test_recovered_signal_is_sent_again_once_a_later_one_is_listed(
    sandbox: Sandbox, target: TargetUnderTest
) -> None:
    kill_while_sending(target, sandbox)
    left = len(claims_of(target))

    alone = target.run()
    sandbox.faults.set([])
    run = target.run(a_schema("others"), a_record(8, "others"))

    assert alone.exit_code == 75
    assert "a signal that is accepted later" in alone.error
    assert alone.report["recovered"] == {"pending": left}
    assert run.report["recovered"] == {"accepted": left}
    assert len(sandbox.signals) == left + 2


@pytest.mark.parametrize(("minutes", "recovered"), [(10, "accepted"), (0, "pending")])
def test_recovered_signal_is_sent_again_if_an_earlier_run_sent_a_later_one(
    sandbox: Sandbox, target: TargetUnderTest, minutes: int, recovered: str
) -> None:
    """A request of the killed run may arrive after one that was sent soon after it."""
    kill_while_sending(target, sandbox)
    left = len(claims_of(target))
    sandbox.faults.set([])
    later = text_of([a_schema("others"), a_record(8, "others")])
    with target.start(later, request_timeout_seconds=30) as process:
        wait_until(lambda: len(sandbox.signals) == 2)
        process.terminate()
    with sqlite3.connect(target.folder / "ledger.db") as ledger:
        at = seconds_ago(60 * minutes)
        ledger.execute("UPDATE stairoids_claims SET attempted_at = ?", [at])

    run = target.run()

    assert run.report["recovered"] == {recovered: left}


def test_request_that_sigterm_takes_back_is_no_attempt_of_its_claim(
    sandbox: Sandbox, target: TargetUnderTest
) -> None:
    """A signal that was accepted before SIGTERM still proves the attempt before it."""
    target.config["request_timeout_seconds"] = 1
    sandbox.faults.set([Fault(kind="slow_accept", delay_ms=60_000, containing="corp")])
    people = [a_record(n, email=f"u{n}@corp{n}.example") for n in range(4)]
    text = text_of([a_schema(), a_record(9), *people])
    with target.start(text, request_timeout_seconds=30) as process:
        wait_until(lambda: bool(sandbox.signals) and len(claims_of(target)) == 4)
        process.kill()
    with sqlite3.connect(target.folder / "ledger.db") as ledger:
        at = seconds_ago(600)
        ledger.execute("UPDATE stairoids_claims SET attempted_at = ?", [at])
    sandbox.faults.set([Fault(kind="slow", delay_ms=2_000)])
    with target.start(max_in_flight=1, request_timeout_seconds=30) as process:
        wait_until(lambda: len(sandbox.signals) == 3)
        process.terminate()
    sandbox.faults.set([])

    stopped, run = target.report(), target.run()

    assert stopped["recovered"] == {"accepted": 2, "pending": 2}
    assert run.report["recovered"] == {"accepted": 2}


@pytest.mark.parametrize("send", ["on_change", "always"])
def test_edited_dead_letter_of_a_killed_replay_is_sent_once(
    sandbox: Sandbox, target: TargetUnderTest, send: str
) -> None:
    streams = {"stream": "trials", "send": send}, {"stream": "others"}
    target.config |= {"signals": [*streams], "request_timeout_seconds": 1}
    target.run(a_schema(), a_record(1, email=None))
    exported = signals(target, "dead-letters", "export").stdout
    edited = exported.replace('"email": null', '"email": "ann@acme.example"')
    sandbox.faults.set([Fault(kind="slow", delay_ms=60_000)])
    with target.start(edited, request_timeout_seconds=30) as process:
        assert process.stdin
        process.stdin.close()
        wait_until(lambda: len(sandbox.signals) == 1)
        process.kill()
    sandbox.faults.set([])

    run = target.run_text(edited + text_of([a_schema("others"), a_record(8, "others")]))

    assert run.report["recovered"] == {"accepted": 1}
    assert run.outcomes == {"duplicate": 1, "accepted": 1}
    assert [signal.type for signal in sandbox.signals] == ["trials", "others"]
    assert "No dead letters." in signals(target, "dead-letters", "list").stdout


def test_other_person_under_an_open_key_is_superseded(
    sandbox: Sandbox, target: TargetUnderTest
) -> None:
    target.config["signals"] = ONCE
    kill_while_sending(target, sandbox, [a_schema(), a_record(1)])
    sandbox.faults.set([])
    messages = a_schema(), a_record(1, email="bob@corp.example")

    run = target.run(*messages, a_schema("others"), a_record(8, "others"))

    assert run.outcomes == {"superseded": 1, "accepted": 1}


@pytest.mark.parametrize(
    ("change", "rejected", "outcomes", "recovered"),
    [
        ({"plan": "pro"}, "free", {"accepted": 2}, "rejected"),
        ({"plan": "pro"}, "none", {"accepted": 1, "duplicate": 1}, "accepted"),
        ({"email": "bob@corp.example"}, "free", {"accepted": 2}, "rejected"),
    ],
    ids=["other state", "accepted", "other person"],
)
def test_other_state_with_once_is_sent_if_the_open_claim_is_rejected(
    sandbox: Sandbox,
    target: TargetUnderTest,
    change: dict[str, Any],
    rejected: str,
    outcomes: dict[str, int],
    recovered: str,
) -> None:
    target.config["signals"] = [ONCE[0] | {"properties": ["plan"]}, ONCE[1]]
    schema = a_schema(plan="string")
    kill_while_sending(target, sandbox, [schema, a_record(1, plan="free")])
    sandbox.faults.set([Fault(kind="status", status=422, containing=rejected)])
    record = a_record(1, plan="trial")
    record["record"] |= change
    messages = schema, record, a_schema("others"), a_record(8, "others"), a_state(1)
    run = target.run(*messages)

    assert run.outcomes == outcomes
    assert run.report["recovered"] == {recovered: 1}
    assert [s.type for s in sandbox.signals] == ["others", "others", "trials"]


def test_claim_with_half_a_surrogate_pair_is_recovered_with_a_changed_mapping(
    sandbox: Sandbox, target: TargetUnderTest
) -> None:
    trials: dict[str, Any] = {"stream": "trials", "properties": ["plan"]}
    target.config["signals"] = [trials, ONCE[1]]
    messages = [a_schema(plan="string"), a_record(1, plan="pro", note="\ud83d")]
    kill_while_sending(target, sandbox, messages)
    sandbox.faults.set([])
    target.config["signals"] = [trials | {"when": "plan == 'pro'"}, ONCE[1]]

    run = target.run(*messages, a_schema("others"), a_record(8, "others"))

    assert run.outcomes == {"accepted": 1, "duplicate": 1}, run.error
    assert run.report["recovered"] == {"accepted": 1}
    assert [s.type for s in sandbox.signals] == ["others", "others", "trials"]


LATE = Fault(kind="slow_accept", delay_ms=3_000, containing="u1@")


def test_late_request_of_a_dead_run_is_found_in_a_list_that_lags(
    tmp_path: Path,
) -> None:
    with Sandbox(list_lag_seconds=2.5) as sandbox:
        target = TargetUnderTest(tmp_path, sandbox.url, request_timeout_seconds=3)
        target.run(a_schema("others"), a_record(9, "others"))
        sandbox.faults.set([LATE])
        with target.start(text_of([a_schema(), *map(a_record, (2, 1, 3))])) as process:
            assert process.stdin
            process.stdin.close()
            wait_until(lambda: len(sandbox.signals) == 3)  # so that 1 has left
            process.kill()
        sandbox.faults.set([])

        run = target.run(a_schema("others"), a_record(8, "others"))

    assert run.report["recovered"].keys() == {"accepted"}
    assert [signal.type for signal in sandbox.signals].count("trials") == 3


def test_each_page_serves_all_left_over_claims(
    sandbox: Sandbox, target: TargetUnderTest
) -> None:
    """Of 200 requests, Stairoids accepts 50. Its list has two pages since then."""
    people = [a_record(n, email=f"there{n}@example.com") for n in range(50)]
    people += [a_record(n, email=f"late{n}@example.com") for n in range(50, 200)]
    first = [a_schema("others"), a_record(9, "others")]
    target.run(*first)
    kinds = {"slow": "there", "slow_accept": "late"}
    sandbox.faults.set(
        [Fault(kind=k, delay_ms=60_000, containing=c) for k, c in kinds.items()]
    )
    text = text_of([first[0], a_record(8, "others"), a_schema(), *people])
    with target.start(text, max_in_flight=50) as process:
        assert process.stdin
        process.stdin.close()
        wait_until(lambda: (len(claims_of(target)), len(sandbox.signals)) == (200, 52))
        process.kill()
    sandbox.faults.set([])
    more = TargetUnderTest(
        target.folder, sandbox.url, ledger_url=f"{target.config['ledger_url']}.more"
    )
    more.run(a_schema("more"), *(a_record(n, "more") for n in range(200)))
    before = len(sandbox.requests)

    run = target.run(first[0], a_record(7, "others"), request_timeout_seconds=1)
    reads = [r for r in sandbox.requests[before:] if r.method == "GET"]

    assert run.report["recovered"] == {"accepted": 200}
    assert len(sandbox.signals) == 52 + 150 + 200 + 1
    assert len(reads) < 20


@pytest.mark.usefixtures("short_backoff")
def test_each_page_serves_all_left_over_claims_of_a_company(
    sandbox: Sandbox, target: TargetUnderTest
) -> None:
    people = [a_record(n, email=f"u{n}@acme.com") for n in range(20)]
    sandbox.faults.set([Fault(kind="status", status=500)])
    failed = target.run(a_schema(), *people, outage_seconds=60)
    sandbox.faults.set([])
    before = len(sandbox.requests)

    run = target.run(
        a_schema("others"), a_record(8, "others"), request_timeout_seconds=1
    )
    reads = [r for r in sandbox.requests[before:] if r.method == "GET"]

    assert failed.exit_code == 75
    assert run.report["recovered"] == {"accepted": 20}
    assert len(reads) < 10


def test_runs_that_only_look_up_a_signal_are_no_attempts(
    sandbox: Sandbox, target: TargetUnderTest
) -> None:
    kill_while_sending(target, sandbox)
    left = len(claims_of(target))

    runs = [target.run() for _ in range(9)]
    sandbox.faults.set([])
    run = target.run(a_schema("others"), a_record(8, "others"))

    assert [run.exit_code for run in runs] == [75] * 9
    assert runs[-1].report["recovered"] == {"pending": left}
    assert run.report["recovered"] == {"accepted": left}


@pytest.mark.parametrize(
    ("again", "config"),
    [
        ({}, {}),
        ({"updated_at": "2026-03-02"}, {}),
        ({"plan": "pro"}, {"signals": ONCE}),
    ],
    ids=["same record", "touched record", "once"],
)
def test_record_of_an_open_claim_is_pending_in_each_sum(
    sandbox: Sandbox,
    target: TargetUnderTest,
    again: dict[str, Any],
    config: dict[str, Any],
) -> None:
    target.config |= config
    schema = a_schema(updated_at="string", plan="string")
    kill_while_sending(target, sandbox, [schema, a_record(1)])
    messages = text_of([schema, a_record(1, **again), a_record(1, **again)])

    explained = signals(target, "explain", text=messages).stdout
    run = target.run_text(messages)
    table = signals(target, "report", "--format", "json").stdout
    sandbox.faults.set([])
    later = target.run_text(text_of([a_schema("others"), a_record(8, "others")]))

    assert run.outcomes == {"pending": 1, "duplicate": run.report["signals"] - 1}
    assert run.report["recovered"] == {}
    assert {line.split()[0] for line in explained.splitlines()} == {*run.outcomes}
    assert "pending     trials  id=1  the request of an earlier run" in explained
    assert json.loads(table)["outcomes"] == {"accepted": 1} | run.outcomes
    assert later.report["recovered"] == {"accepted": 1}


def test_report_counts_the_open_claims_that_no_record_repeats(
    sandbox: Sandbox, target: TargetUnderTest
) -> None:
    kill_while_sending(target, sandbox)
    left = len(claims_of(target))

    runs = [target.run() for _ in range(2)]
    table = signals(target, "report", "--format", "json").stdout

    assert [run.report["recovered"] for run in runs] == [{"pending": left}] * 2
    assert json.loads(table)["outcomes"] == {"accepted": 1, "pending": left}


def test_record_of_an_open_claim_of_a_shared_key_is_pending(
    sandbox: Sandbox, target: TargetUnderTest
) -> None:
    first = [a_schema(), *(a_record(1, email=f"{p}@example.com") for p in "ab")]
    target.run(*first)
    people = [a_schema(), *(a_record(1, email=f"{p}@example.com") for p in "abc")]
    kill_while_sending(target, sandbox, people)

    run = target.run(*people)

    assert run.outcomes == {"duplicate": 2, "pending": 1}


@pytest.mark.parametrize(
    ("mark", "seconds", "hours"),
    [
        ("", 7_200, 2),  # on the server's clock
        ("~", 7_200, 24 + 2 + 5),
        ("~", -7_200, 24 + 5),  # our clock was set back
    ],
    ids=["server's clock", "own clock", "own clock, set back"],
)
def test_lookup_reads_back_to_the_attempt_on_the_clock_that_was_known(
    mark: str, seconds: int, hours: float
) -> None:
    """The server's clock is five hours behind ours."""
    claimed_at = f"{mark}{seconds_ago(seconds)}"
    left = a_claim(a_version(), request=SIGNAL, claimed_at=claimed_at)

    since = attempted_since(left, datetime.now(UTC) - timedelta(hours=5))

    assert since is not None
    ago = datetime.now(UTC) - since
    assert ago / timedelta(hours=1) == pytest.approx(hours, abs=0.1)


def test_lookup_of_a_run_that_died_before_any_response_ends_a_day_earlier(
    tmp_path: Path,
) -> None:
    db, old = tmp_path / "signals.db", -3 * 86_400
    with Sandbox(db=db, clock_offset_seconds=old) as sandbox:
        target = TargetUnderTest(tmp_path, sandbox.url, request_timeout_seconds=1)
        target.run(
            a_schema("past"),
            *(a_record(n, "past", email=f"u@past{n}.com") for n in range(450)),
        )
        port = int(sandbox.url.rsplit(":", 1)[1].split("/")[0])
    with Sandbox(db=db, port=port) as sandbox:
        slow = Fault(kind="slow_accept", delay_ms=60_000)
        sandbox.faults.set([slow])
        with target.start(text_of(PEOPLE), request_timeout_seconds=30) as process:
            assert process.stdin
            process.stdin.close()
            wait_until(lambda: bool(claims_of(target)))
            process.kill()
        sandbox.faults.set([])

        run = target.run(a_schema("others"), a_record(9, "others"))
        pages = [r for r in sandbox.requests if r.method == "GET"]

    assert run.report["recovered"] == {"accepted": 1}
    assert not any("cursor" in page.query for page in pages)


@pytest.mark.parametrize(
    ("send", "second", "third", "sent"),
    [
        ("once", {"email": "new@example.com"}, {}, [0, 0]),
        ("on_change", {"plan": "pro"}, {}, [1, 1]),
        ("on_change", {}, {}, [0, 0]),
    ],
    ids=["changed address", "returned state", "same state"],
)
def test_claim_of_a_killed_run_counts_as_sent_in_that_run(
    sandbox: Sandbox,
    target: TargetUnderTest,
    send: str,
    second: dict[str, Any],
    third: dict[str, Any],
    sent: list[int],
) -> None:
    trials = {"stream": "trials", "properties": ["plan"], "send": send}
    target.config["signals"] = [trials, {"stream": "others"}]
    schema = a_schema(plan="string")
    kill_while_sending(target, sandbox, [schema, a_record(1)])
    sandbox.faults.set([])

    runs = [
        target.run(schema, a_record(1, **again), a_schema("others"), other)
        for again, other in (
            (second, a_record(7, "others")),
            (third, a_record(8, "others")),
        )
    ]

    assert runs[0].report["recovered"] == {"accepted": 1}
    trials_sent = [run.report["streams"]["trials"].get("accepted", 0) for run in runs]
    assert trials_sent == sent
    assert [run.exit_code for run in runs] == [0, 0]


OPTED_OUT: dict[str, Any] = {"unsubscribed": True}


@on_both_connectors
@pytest.mark.parametrize("bookmark", [None, "2026-03-02"])
def test_left_over_claim_is_not_sent_if_its_row_was_read_in_another_state(
    sandbox: Sandbox, target: TargetUnderTest, bookmark: str | None
) -> None:
    when = "{{ plan != 'hidden' and not unsubscribed }}"
    target.config["signals"] = [
        {"stream": "trials", "properties": ["plan"], "when": when},
        {"stream": "once", "properties": ["plan"], "send": "once"},
        {"stream": "others"},
    ]
    since: list[dict[str, Any]] = [
        OPTED_OUT,
        {"_sdc_deleted_at": "2026-03-02T00:00:00Z"},
        {"plan": "hidden"},
        {"email": "unknown"},
        {"email": "new@corp.com"},
    ]
    schema, once = rows_schema(bookmark), rows_schema(bookmark, "once")
    before = [a_row(n, updated_at="2026-03-01") for n in range(5)]
    first = a_row(9, "once", updated_at="2026-03-01")
    target.run(a_schema("others"), a_record(6, "others"))
    control = a_schema("others"), a_record(7, "others")
    text = text_of([*control, schema, *before, once, first])
    late = Fault(kind="slow_accept", delay_ms=60_000, containing="acme")
    sandbox.faults.set([late])
    with target.start(text, max_in_flight=10) as process:
        assert process.stdin
        process.stdin.close()
        wait_until(lambda: len(claims_of(target)) == 6)
        process.kill()
    target.config["request_timeout_seconds"] = 1
    after = [a_row(n, updated_at=bookmark, **s) for n, s in enumerate(since)]
    last = a_row(9, "once", updated_at=bookmark, **OPTED_OUT)
    others = a_schema("others"), a_record(8, "others")

    run = target.run(schema, *after, once, last, a_state(), *others)

    assert run.report["recovered"] == {"filtered": 6}
    assert (run.exit_code, run.states) == (0, [{"at": 1}])
    assert [
        s.body["contact"]["email"] for s in sandbox.signals if s.type != "others"
    ] == ["new@corp.com"]


def test_requests_per_day_counts_the_access_check_of_a_run_with_open_claims(
    sandbox: Sandbox, target: TargetUnderTest
) -> None:
    kill_while_sending(target, sandbox)
    sandbox.faults.set([])
    asked = len(sandbox.requests)

    run = target.run(a_schema("others"), a_record(8, "others"), requests_per_day=2)

    assert run.exit_code == 75
    paths = [request.path for request in sandbox.requests[asked:]]
    assert (len(paths), paths[0]) == (2, "/v1")


def test_state_does_not_pass_a_filtered_row_before_its_claim_has_an_outcome(
    sandbox: Sandbox, target: TargetUnderTest
) -> None:
    kill_while_sending(target, sandbox, [rows_schema(), a_row()])
    sandbox.faults.set([])
    rows = rows_schema(), a_row(**OPTED_OUT), a_state()

    alone = target.run(*rows)
    run = target.run(*rows, a_schema("others"), a_record(8, "others"))

    assert (alone.report["recovered"], alone.states) == ({"pending": 1}, [])
    assert (run.report["recovered"], run.states) == ({"filtered": 1}, [{"at": 1}])


@pytest.mark.parametrize(
    "rows",
    [
        [{"updated_at": "2026-02-28", **OPTED_OUT}],
        [{"updated_at": "2026-03-01", **OPTED_OUT}, {"updated_at": "2026-03-01"}],
        [{"email": "b@corp.com"}, {}],
        [{}, {"email": "b@corp.com"}],
    ],
    ids=["older", "returned", "other person first", "other person last"],
)
def test_left_over_claim_is_sent_again_if_its_row_still_needs_it(
    sandbox: Sandbox, target: TargetUnderTest, rows: list[dict[str, Any]]
) -> None:
    at = "2026-03-01" if "updated_at" in rows[0] else None
    schema = rows_schema(at)
    kill_while_sending(target, sandbox, [schema, a_row(updated_at=at)])
    sandbox.faults.set([])
    others = a_schema("others"), a_record(8, "others")
    read = [a_row(**{"updated_at": at} | row) for row in rows]

    run = target.run(schema, *read, *others)

    assert run.exit_code == 0
    emails = [signal.body["contact"]["email"] for signal in sandbox.signals]
    assert emails.count("u1@acme1.com") == 1


def test_filtered_claim_is_not_sent_by_a_run_that_reads_both_states_again(
    sandbox: Sandbox, target: TargetUnderTest
) -> None:
    kill_while_sending(target, sandbox, [rows_schema(), a_row()])
    sandbox.faults.set([])
    both = rows_schema(), a_row(), a_row(**OPTED_OUT)

    runs = [
        target.run(*both, a_schema("others"), a_record(number, "others"))
        for number in (7, 8)
    ]

    assert runs[0].report["recovered"] == {"filtered": 1}
    assert [run.outcomes["filtered"] for run in runs] == [1, 1]
    assert {signal.type for signal in sandbox.signals} == {"others"}


def test_row_of_a_filtered_claim_that_returns_is_sent(
    sandbox: Sandbox, target: TargetUnderTest
) -> None:
    kill_while_sending(target, sandbox, [rows_schema(), a_row()])
    sandbox.faults.set([])
    others = a_schema("others"), a_record(8, "others")

    run = target.run(rows_schema(), a_row(**OPTED_OUT), *others)
    returned = target.run(rows_schema(), a_row())

    assert run.report["recovered"] == {"filtered": 1}
    assert returned.outcomes == {"accepted": 1}


def test_row_that_returns_after_a_filtered_claim_is_sent(
    sandbox: Sandbox, target: TargetUnderTest
) -> None:
    target.run(rows_schema(), a_row(plan="b"))
    kill_while_sending(target, sandbox, [rows_schema(), a_row(plan="a")])
    sandbox.faults.set([])
    rows = a_row(plan="a"), a_row(plan="a", **OPTED_OUT)

    for number in (7, 8):
        others = a_schema("others"), a_record(number, "others")
        target.run(rows_schema(), *rows, *others)
    returned = target.run(rows_schema(), a_row(plan="b"))

    assert returned.outcomes == {"accepted": 1}


def test_another_row_of_its_key_does_not_send_the_claim_of_an_opted_out_row(
    sandbox: Sandbox, target: TargetUnderTest
) -> None:
    target.run(rows_schema(), a_row(plan="b"))
    kill_while_sending(target, sandbox, [rows_schema(), a_row(plan="c")])
    sandbox.faults.set([])
    rows = a_row(plan="c", **OPTED_OUT), a_row(plan="b")

    run = target.run(rows_schema(), *rows, a_schema("others"), a_record(8, "others"))

    assert run.report["recovered"] == {"filtered": 1}


def test_left_over_claim_of_a_filtered_row_is_accepted_if_stairoids_has_it(
    sandbox: Sandbox, target: TargetUnderTest
) -> None:
    kill_while_sending(target, sandbox, [rows_schema(), a_row()])
    sandbox.faults.set([])
    url = f"{target.config['ledger_url']}.more"
    late = TargetUnderTest(target.folder, sandbox.url, ledger_url=url)
    late.run(rows_schema(), a_row())  # as if the request came late
    others = a_schema("others"), a_record(8, "others")

    run = target.run(rows_schema(), a_row(**OPTED_OUT), *others)

    assert run.report["recovered"] == {"accepted": 1}
    assert [signal.type for signal in sandbox.signals].count("trials") == 1


def rows_schema(bookmark: str | None = None, stream: str = "trials") -> Message:
    columns = dict.fromkeys(("plan", "updated_at", "_sdc_deleted_at"), "string")
    by = "updated_at" if bookmark else None
    return a_schema(stream, bookmark=by, **columns, unsubscribed="boolean")


def a_row(number: int = 1, stream: str = "trials", **fields: object) -> Message:
    email = f"u{number}@acme{number}.com"
    return a_record(number, stream, **{"email": email, "plan": "free"} | fields)


def test_dry_run_knows_that_the_key_of_an_open_claim_has_several_rows(
    sandbox: Sandbox, target: TargetUnderTest
) -> None:
    rows = a_row(plan="a"), a_row(plan="b")
    for night in (rows[:1], rows[1:], rows):
        target.run(rows_schema(), *night)
    kill_while_sending(target, sandbox, [rows_schema(), a_row(plan="c")])
    sandbox.faults.set([])

    dry = target.run(rows_schema(), rows[0], dry_run=True)
    run = target.run(rows_schema(), rows[0], a_schema("others"), a_record(8, "others"))

    assert dry.outcomes == {"duplicate": 1}
    assert run.outcomes == {"duplicate": 1, "accepted": 1}
