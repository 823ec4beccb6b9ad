"""Claims of other runs, and of a run that SIGTERM or SIGINT stops."""

from __future__ import annotations

import json
import os
import signal
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from stairoids_sandbox import Fault
from target_stairoids.dedup.duplicate_rules import Version
from target_stairoids.dedup.record import canonical_fields, entity_digest, keyed_digest
from target_stairoids.ledger import queries
from target_stairoids.ledger.ledger import Ledger
from target_stairoids.sending import scheduler
from target_stairoids.settings import Settings
from tests.support.ledger_builders import claim, digest
from tests.support.sandbox_client import Client
from tests.support.singer_io import (
    Run,
    TargetUnderTest,
    a_record,
    a_schema,
    a_state,
    interrupted,
    text_of,
    wait_until,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from stairoids_sandbox import Sandbox

SCHEMA = a_schema(plan="string")


@pytest.fixture
def other(target: TargetUnderTest) -> Iterator[Ledger]:
    """Another run on the same ledger with a claim. It lives until it is closed."""
    with open_ledger(target) as ledger:
        ledger.begin_run()
        claim_record(ledger, a_record(1, plan="old")["record"])
        yield ledger


def open_ledger(target: TargetUnderTest) -> Ledger:
    settings = Settings.from_config(target.config)
    return Ledger.create(settings.ledger_url, settings.scope)


def body_of(record: dict[str, Any]) -> dict[str, Any]:
    return {
        "type": "trials",
        "source": "singer",
        "contact": {"email": record["email"]},
        "properties": {"id": record["id"], "plan": record["plan"]},
    }


def claim_record(ledger: Ledger, record: dict[str, Any]) -> None:
    """Claim a record of `trials` as a run does before it sends."""
    entity = entity_digest(ledger.scope, "trials", [record["id"]])
    version = Version(
        key=(entity, "trials"),
        record_key=(entity, "trials"),
        stream=ledger.open_stream("trials", SCHEMA)[0],
        state_digest=keyed_digest(entity, canonical_fields(record)),
        content_digest=digest("content"),
        mapping_digest=digest("mapping"),
    )
    claim(ledger, version, request=as_json(body_of(record)), record=as_json(record))


def as_json(value: object) -> bytes:
    return json.dumps(value).encode()


def plans(sandbox: Sandbox) -> list[str]:
    return [s.body["properties"]["plan"] for s in sandbox.signals]


def send_old(sandbox: Sandbox) -> None:
    """Send the claimed signal, as the other run does."""
    with Client(sandbox) as client:
        client.post("/signals", body_of(a_record(1, plan="old")["record"]))


def claims_in(target: TargetUnderTest) -> int:
    with open_ledger(target) as ledger:
        return queries.counts(ledger).get("trials", {}).get("claimed", 0)


def test_counts_include_claims(other: Ledger) -> None:
    assert queries.counts(other) == {"trials": {"claimed": 1}}


def test_claim_of_a_run_that_dies_in_the_meantime_is_settled_first_and_in_order(
    sandbox: Sandbox, target: TargetUnderTest, other: Ledger
) -> None:
    messages = [
        SCHEMA,
        a_record(9, plan="another"),
        a_record(1, plan="new"),
        a_record(1, plan="newer"),
        a_state(),
    ]
    runs: list[Run] = []
    target.config["request_timeout_seconds"] = 1
    thread = threading.Thread(target=lambda: runs.append(target.run(*messages)))
    send_old(sandbox)

    thread.start()
    wait_until(lambda: len(sandbox.signals) == 2)
    other.close()
    thread.join()

    assert runs[0].exit_code == 0
    assert runs[0].outcomes == {"accepted": 3}
    assert runs[0].report["recovered"] == {"accepted": 1}
    assert plans(sandbox) == ["old", "another", "new", "newer"]
    assert len(runs[0].states) == 1


@pytest.mark.usefixtures("other")
@pytest.mark.parametrize(("on_incomplete", "exit_code"), [("fail", 75), ("succeed", 0)])
def test_signal_claimed_by_a_living_run_is_pending(
    target: TargetUnderTest,
    monkeypatch: pytest.MonkeyPatch,
    on_incomplete: str,
    exit_code: int,
) -> None:
    monkeypatch.setattr(scheduler, "_YIELD_SECONDS", 0.001)
    messages = [SCHEMA, a_record(1, plan="new"), a_state()]

    run = target.run(*messages, on_incomplete=on_incomplete)

    assert run.exit_code == exit_code
    assert run.outcomes == {"pending": 1}
    assert run.report["exit_code"] == exit_code
    assert run.states == []


@pytest.mark.parametrize(
    ("send", "bookmark"),
    [
        ("always", None),
        pytest.param("always", "at", marks=pytest.mark.slow),
        pytest.param("on_change", None, marks=pytest.mark.slow),
        pytest.param("on_change", "at", marks=pytest.mark.slow),
    ],
)
@pytest.mark.slow
def test_two_runs_of_one_stream_send_each_state_once(
    sandbox: Sandbox, target: TargetUnderTest, send: str, bookmark: str | None
) -> None:
    target.config["signals"] = [{"stream": "trials", "send": send}]
    schema = a_schema(bookmark=bookmark, plan="string", at="integer")
    old, new = (
        [a_record(n, plan=plan, at=at) for n in range(1, 9)]
        for at, plan in enumerate(["old", "new"])
    )
    target.run(schema, a_record(99, plan="old", at=0), a_state())
    sandbox.faults.set([Fault(kind="slow", delay_ms=200)])

    first = target.start(text_of([schema, *old, a_state()]))
    wait_until(lambda: len(sandbox.signals) > 1)
    second = target.start(text_of([schema, *old[::-1], *new, a_state()]))
    for process in (second, first):
        process.communicate()

    assert (first.returncode, second.returncode) == (0, 0)
    sent = [(s.body["contact"]["email"], s.body["properties"]) for s in sandbox.signals]
    assert len(sent) == len({json.dumps(one) for one in sent})
    assert sum(properties["plan"] == "new" for _, properties in sent) == len(new)


@pytest.mark.slow
def test_claim_that_was_taken_over_is_kept_if_the_run_is_stopped(
    sandbox: Sandbox, target: TargetUnderTest, other: Ledger
) -> None:
    """Its record may never be read again."""
    other.close()
    send_old(sandbox)
    target.config["request_timeout_seconds"] = 1
    fault = Fault(kind="status", status=503, retry_after=60, on="read")
    sandbox.faults.add(fault)
    with interrupted(lambda: len(sandbox.requests) >= 3, signal.SIGTERM):
        stopped = target.run(SCHEMA)
    left = claims_in(target)
    sandbox.faults.set([])

    resumed = target.run(SCHEMA)

    assert stopped.exit_code == 128 + signal.SIGTERM
    assert left == 1
    assert resumed.report["recovered"] == {"accepted": 1}
    assert plans(sandbox) == ["old"]


@pytest.mark.slow
def test_no_request_is_sent_after_sigint_has_ended_the_run(
    sandbox: Sandbox, target: TargetUnderTest
) -> None:
    sandbox.faults.add(Fault(kind="slow", delay_ms=200))
    messages = [SCHEMA, *(a_record(n, plan="p") for n in range(1, 101)), a_state()]
    with target.start(max_in_flight=2) as process:
        assert process.stdin
        process.stdin.write(text_of(messages).encode())
        process.stdin.flush()
        wait_until(lambda: len(sandbox.signals) > 4)
        process.send_signal(signal.SIGINT)
        process.wait(timeout=60)
        process.stdin.close()
    posted = len(sandbox.requests)
    settled = target.report()["outcomes"]["accepted"]
    sandbox.faults.set([])

    resumed = target.run(*messages)

    assert settled == posted < 100
    assert claims_in(target) == 0
    assert resumed.outcomes == {"accepted": 100 - posted, "duplicate": posted}
    assert len(sandbox.signals) == 100


@pytest.mark.slow
@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_run_that_cannot_write_state_exits_1_and_reports(
    sandbox: Sandbox, target: TargetUnderTest, unbuffered: str
) -> None:
    messages = [SCHEMA, a_record(1, plan="p"), a_state()]
    env = {**os.environ, "PYTHONUNBUFFERED": unbuffered}
    with Path("/dev/full").open("w") as full:
        done = target.shell(text_of(messages), env, stdout=full)
    resumed = target.run(*messages)

    assert done.returncode == 1
    assert "STATE could not be written: No space left on device." in done.stderr
    assert "Traceback" not in done.stderr
    assert target.report()["run"] > 1
    assert resumed.outcomes == {"duplicate": 1}
    assert len(sandbox.signals) == 1
