"""Every fault does what it says, to whom it says, and the same in every run."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import pytest
import requests

from stairoids_sandbox import Fault, Sandbox
from stairoids_sandbox.exceptions import UsageError
from stairoids_sandbox.faults.faults import Faults
from tests.support.sandbox_client import Client, a_body

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def faulty(sandbox: Sandbox) -> Iterator[Sandbox]:
    yield sandbox
    sandbox.faults.clear()


@pytest.mark.parametrize(
    ("kind", "stored"),
    [("drop_after_accept", 1), ("truncate_after_accept", 1), ("reset", 0)],
)
def test_broken_connection(
    faulty: Sandbox, client: Client, kind: str, stored: int
) -> None:
    faulty.faults.add(Fault(kind=kind, count=1))

    with pytest.raises(requests.RequestException) as caught:
        client.send()

    assert len(faulty.signals) == stored
    assert ("reset by peer" in str(caught.value)) == (kind == "reset")
    assert faulty.requests[0].status is None
    assert client.send().status_code == 201


@pytest.mark.parametrize(
    ("kind", "stored"), [("status", 0), ("status_after_accept", 1)]
)
@pytest.mark.parametrize("status", [500, 502, 503, 504, 429])
def test_status_instead_of_the_answer(
    faulty: Sandbox, client: Client, kind: str, stored: int, status: int
) -> None:
    faulty.faults.add(Fault(kind=kind, status=status, retry_after=7))

    answer = client.send()

    assert answer.status_code == status
    assert answer.headers["Retry-After"] == "7"
    assert len(faulty.signals) == stored


def test_status_comes_without_retry_after_unless_asked(
    faulty: Sandbox, client: Client
) -> None:
    faulty.faults.add(Fault(kind="status"))

    assert "Retry-After" not in client.send().headers


def test_slow_answers_late_but_accepts_at_once(faulty: Sandbox, client: Client) -> None:
    faulty.faults.add(Fault(kind="slow", delay_ms=60_000))

    with pytest.raises(requests.Timeout):
        client.session.post(client.url + "/signals", json=a_body(), timeout=0.1)

    assert len(faulty.signals) == 1


def test_refused_signal_is_refused_despite_a_fault_after_accepting(
    faulty: Sandbox, client: Client
) -> None:
    faulty.faults.add(Fault(kind="drop_after_accept"))

    assert client.send(type="").status_code == 400


def test_faults_meet_sending_only_unless_asked(faulty: Sandbox, client: Client) -> None:
    faulty.faults.add(Fault(kind="status"))

    assert client.get("/signals").status_code == 200
    assert client.post("/webhooks", {}).status_code == 400


def test_faults_may_meet_reads_or_all(faulty: Sandbox, client: Client) -> None:
    faulty.faults.set([Fault(kind="status", on="read")])
    reads = (client.get("/signals").status_code, client.send().status_code)
    faulty.faults.set([Fault(kind="status", on="all")])
    everything = (client.get("/webhooks").status_code, client.send().status_code)

    assert reads == (503, 201)
    assert everything == (503, 503)


def test_count_limits_a_fault_to_the_first_requests(
    faulty: Sandbox, client: Client
) -> None:
    faulty.faults.add(Fault(kind="status", count=2))

    assert [client.send().status_code for _ in range(3)] == [503, 503, 201]


def test_same_seed_strikes_the_same_requests() -> None:
    def strikes(seed: int) -> list[bool]:
        faults = Faults([Fault(kind="reset", probability=0.5, seed=seed)])
        return [faults.strike("POST", "/v1/signals") is not None for _ in range(64)]

    assert strikes(1) == strikes(1) != strikes(2)
    assert 16 < sum(strikes(1)) < 48


def test_first_fault_decides_and_delays_add_up() -> None:
    faults = Faults(
        [
            Fault(kind="slow", delay_ms=20),
            Fault(kind="status", status=500),
            Fault(kind="slow", delay_ms=30),
            Fault(kind="reset"),
        ]
    )

    strike = faults.strike("POST", "/v1/signals")

    assert strike is not None
    assert strike.fault is not None
    assert strike.fault.status == 500
    assert strike.delay == pytest.approx(0.05)


@pytest.mark.parametrize(
    "fields",
    [
        {"kind": "meteor"},
        {"kind": "reset", "probability": 1.1},
        {"kind": "reset", "probability": float("nan")},
        {"kind": "reset", "count": -1},
        {"kind": "reset", "on": "write"},
        {"kind": "status", "status": 200},
        {"kind": "slow", "delay_ms": -1},
    ],
)
def test_unfit_fault_is_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match=next(reversed(fields))):
        Fault(**fields)


def test_stop_does_not_wait_for_slow_answers() -> None:
    with Sandbox(faults=[Fault(kind="slow", delay_ms=60_000)]) as sandbox:
        with Client(sandbox) as client, pytest.raises(requests.Timeout):
            client.session.post(client.url + "/signals", json=a_body(), timeout=0.1)
        began = time.monotonic()
        sandbox.stop()

    assert time.monotonic() - began < 1
    assert len(sandbox.signals) == 1
