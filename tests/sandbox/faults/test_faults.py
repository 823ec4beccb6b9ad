"""Each fault fails the requests it names, and the same ones in every run."""

from __future__ import annotations

import time
from contextlib import suppress
from typing import Any

import pytest
import requests

from stairoids_sandbox import Fault, Sandbox
from stairoids_sandbox.exceptions import UsageError
from stairoids_sandbox.faults.faults import KINDS, Faults
from tests.support.sandbox_client import Client, a_body, wait_until


@pytest.mark.parametrize(
    ("kind", "stored"),
    [("drop_after_accept", 1), ("truncate_after_accept", 1), ("reset", 0)],
)
def test_connection_breaks(
    sandbox: Sandbox, client: Client, kind: str, stored: int
) -> None:
    sandbox.faults.add(Fault(kind=kind, count=1))

    with pytest.raises(requests.RequestException) as caught:
        client.send()

    assert len(sandbox.signals) == stored
    assert ("reset by peer" in str(caught.value)) == (kind == "reset")
    assert sandbox.requests[0].status is None
    assert client.send().status_code == 201


@pytest.mark.parametrize("kind", KINDS)
def test_request_is_handled_or_not_as_its_kind_says(
    sandbox: Sandbox, client: Client, kind: str
) -> None:
    sandbox.faults.add(Fault(kind=kind))

    with suppress(requests.RequestException):
        client.send()

    assert len(sandbox.signals) == KINDS[kind].is_handled


@pytest.mark.parametrize(
    ("kind", "stored"), [("status", 0), ("status_after_accept", 1)]
)
@pytest.mark.parametrize("status", [500, 429])
def test_status_replaces_the_response(
    sandbox: Sandbox, client: Client, kind: str, stored: int, status: int
) -> None:
    sandbox.faults.add(Fault(kind=kind, status=status, retry_after=7))

    response = client.send()

    assert response.status_code == status
    assert response.headers["Retry-After"] == "7"
    assert len(sandbox.signals) == stored


def test_status_has_no_retry_after_by_default(sandbox: Sandbox, client: Client) -> None:
    sandbox.faults.add(Fault(kind="status"))

    assert "Retry-After" not in client.send().headers


def test_slow_response_is_late(sandbox: Sandbox, client: Client) -> None:
    sandbox.faults.add(Fault(kind="slow", delay_ms=60_000))

    with pytest.raises(requests.Timeout):
        client.session.post(client.url + "/signals", json=a_body(), timeout=0.1)

    wait_until(lambda: len(sandbox.signals) == 1)


def test_slow_accept_handles_the_request_late_and_without_its_client(
    sandbox: Sandbox, client: Client
) -> None:
    sandbox.faults.add(Fault(kind="slow_accept", delay_ms=300))

    with pytest.raises(requests.Timeout):
        client.session.post(client.url + "/signals", json=a_body(), timeout=0.1)

    assert sandbox.signals == []
    wait_until(lambda: len(sandbox.signals) == 1)


@pytest.mark.parametrize("on", ["send", "all"])
def test_html_page_replaces_the_response(
    sandbox: Sandbox, client: Client, on: str
) -> None:
    sandbox.faults.add(Fault(kind="html", on=on))

    response = client.send()

    assert response.status_code == 200
    assert response.headers["Content-Type"].startswith("text/html")
    assert sandbox.signals == []
    assert ("json" in client.get("/signals").headers["Content-Type"]) == (on == "send")


def test_fault_may_affect_bodies_with_a_text_only(
    sandbox: Sandbox, client: Client
) -> None:
    sandbox.faults.add(Fault(kind="status", status=500, containing="poison"))

    statuses = [client.send(type=type_).status_code for type_ in ("poison", "trial")]

    assert statuses == [500, 201]


def test_refused_signal_is_refused_despite_a_fault_after_accepting(
    sandbox: Sandbox, client: Client
) -> None:
    sandbox.faults.add(Fault(kind="drop_after_accept"))

    assert client.send(type="").status_code == 400


def test_faults_affect_sending_by_default(sandbox: Sandbox, client: Client) -> None:
    sandbox.faults.add(Fault(kind="status"))

    assert client.get("/signals").status_code == 200
    assert client.post("/webhooks", {}).status_code == 400


def test_faults_can_affect_reads_or_all(sandbox: Sandbox, client: Client) -> None:
    sandbox.faults.set([Fault(kind="status", on="read")])
    reads = (client.get("/signals").status_code, client.send().status_code)
    sandbox.faults.set([Fault(kind="status", on="all")])
    everything = (client.get("/webhooks").status_code, client.send().status_code)

    assert reads == (503, 201)
    assert everything == (503, 503)


def test_count_limits_a_fault_to_the_first_requests(
    sandbox: Sandbox, client: Client
) -> None:
    sandbox.faults.add(Fault(kind="status", count=2))

    assert [client.send().status_code for _ in range(3)] == [503, 503, 201]


def test_same_seed_affects_the_same_requests() -> None:
    def affected(seed: int) -> list[bool]:
        faults = Faults([Fault(kind="reset", probability=0.5, seed=seed)])
        return [faults.effect_on("POST", "/v1/signals") is not None for _ in range(64)]

    assert affected(1) == affected(1) != affected(2)
    assert 16 < sum(affected(1)) < 48


def test_first_fault_decides_and_delays_add_up() -> None:
    faults = Faults(
        [
            Fault(kind="slow", delay_ms=20),
            Fault(kind="status", status=500),
            Fault(kind="slow", delay_ms=30),
            Fault(kind="reset"),
        ]
    )

    effect = faults.effect_on("POST", "/v1/signals")

    assert effect is not None
    assert effect.fault is not None
    assert effect.fault.status == 500
    assert effect.delay == pytest.approx(0.05)


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
def test_wrong_fault_is_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match=next(reversed(fields))):
        Fault(**fields)


def test_stop_does_not_wait_for_slow_responses() -> None:
    with Sandbox(faults=[Fault(kind="slow", delay_ms=60_000)]) as sandbox:
        with Client(sandbox) as client, pytest.raises(requests.Timeout):
            client.session.post(client.url + "/signals", json=a_body(), timeout=0.1)
        wait_until(lambda: len(sandbox.signals) == 1)
        began = time.monotonic()
        sandbox.stop()

    assert time.monotonic() - began < 30
