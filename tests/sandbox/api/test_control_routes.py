"""The sandbox is watched and controlled over HTTP, from this machine only."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import requests

from tests.support.sandbox_client import Client, wait_until
from tests.support.sandbox_receiver import SECRET

if TYPE_CHECKING:
    from stairoids_sandbox import Sandbox
    from tests.support.sandbox_receiver import Receiver


def ask(sandbox: Sandbox, path: str) -> Any:  # noqa: ANN401 -- any JSON
    response = requests.get(f"{sandbox.origin}/_sandbox{path}", timeout=30)
    assert response.status_code == 200
    return response.json()


def set_faults(sandbox: Sandbox, body: object) -> requests.Response:
    return requests.post(f"{sandbox.origin}/_sandbox/faults", json=body, timeout=30)


def test_faults_are_set_and_removed(sandbox: Sandbox, client: Client) -> None:
    set_faults(sandbox, {"faults": [{"kind": "status", "status": 502}]})
    shown = ask(sandbox, "/faults")["faults"]
    failed = client.send().status_code
    set_faults(sandbox, {"faults": []})

    assert [(fault["kind"], fault["status"]) for fault in shown] == [("status", 502)]
    assert (failed, client.send().status_code) == (502, 201)


@pytest.mark.parametrize(
    "body",
    [
        [],
        {},
        {"faults": {}},
        {"faults": [{}]},
        {"faults": [{"kind": "meteor"}]},
        {"faults": [{"kind": "slow", "delay": 3}]},
        {"faults": [{"kind": "status", "status": "500"}]},
        {"faults": [{"kind": "slow", "delay_ms": -1}]},
        {"faults": [], "mode": 1},
    ],
)
def test_wrong_faults_change_nothing(sandbox: Sandbox, body: Any) -> None:  # noqa: ANN401 -- any JSON
    set_faults(sandbox, {"faults": [{"kind": "reset"}]})

    response = set_faults(sandbox, body)

    assert response.status_code == 400
    assert [fault.kind for fault in sandbox.faults.all()] == ["reset"]


def test_signals_and_counts_are_shown(sandbox: Sandbox, client: Client) -> None:
    sent = [client.send().json()["id"] for _ in range(3)]

    shown = ask(sandbox, "/signals?limit=2")

    assert shown["total"] == 3
    assert [signal["id"] for signal in shown["signals"]] == sent[1:]
    assert shown["signals"][0]["key"] == "key-1"
    assert ask(sandbox, "/stats") == {"signals": 3, "requests": 3, "deliveries": {}}


def test_deliveries_are_shown_and_sent_again(
    sandbox: Sandbox, client: Client, receiver: Receiver
) -> None:
    sandbox.automations.add(type="*", url=receiver.url, secret=SECRET)
    client.send()
    wait_until(lambda: sandbox.deliveries[0].status == "success")

    shown = ask(sandbox, "/deliveries")
    again = requests.post(
        f"{sandbox.origin}/_sandbox/deliveries/"
        f"{shown['deliveries'][0]['id']}/send-again",
        timeout=30,
    )
    wait_until(lambda: len(receiver.received) == 2)

    assert shown["total"] == 1
    assert shown["deliveries"][0]["body"] == receiver.received[0].json()
    assert shown["deliveries"][0]["attempts"][0]["status"] == 204
    assert SECRET not in str(shown)
    assert again.status_code == 202


def test_unknown_delivery_is_404(sandbox: Sandbox) -> None:
    response = requests.post(
        f"{sandbox.origin}/_sandbox/deliveries/x/send-again", timeout=5
    )

    assert response.status_code == 404


def test_foreign_host_name_is_refused(sandbox: Sandbox) -> None:
    """A web page whose own name resolves to 127.0.0.1 must not get in."""
    response = requests.get(
        f"{sandbox.origin}/_sandbox/signals",
        headers={"Host": "attacker.example"},
        timeout=30,
    )

    assert response.status_code == 403


def test_root_lists_the_routes(sandbox: Sandbox) -> None:
    response = requests.get(sandbox.origin, timeout=30)

    assert response.status_code == 200
    assert "/v1/signals" in response.text


def test_controls_are_not_counted_as_api_requests(sandbox: Sandbox) -> None:
    ask(sandbox, "/stats")

    assert sandbox.requests == []
