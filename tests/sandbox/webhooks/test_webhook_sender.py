"""Deliveries are signed, acknowledged by any 2xx, and attempted five times."""

from __future__ import annotations

import hashlib
import hmac
import itertools
import socket
import threading
from typing import TYPE_CHECKING

import pytest

from stairoids_sandbox import Sandbox
from stairoids_sandbox.exceptions import NotRunningError
from tests.support.sandbox_client import Client, wait_until
from tests.support.sandbox_receiver import SECRET, Receiver

if TYPE_CHECKING:
    from collections.abc import Iterator

    from stairoids_sandbox.webhooks.delivery import Delivery

BASE = 0.02


@pytest.fixture
def quick() -> Iterator[Sandbox]:
    with Sandbox(retry_base_seconds=BASE) as running:
        yield running


def delivered(sandbox: Sandbox, url: str, secret: str | None = SECRET) -> Delivery:
    """Deliver one signal to an endpoint, and wait for the end."""
    sandbox.automations.add(type="*", url=url, secret=secret)
    with Client(sandbox) as client:
        client.send()
    (delivery,) = sandbox.deliveries
    wait_until(lambda: delivery.status in {"success", "failed"})
    return delivery


def test_delivery_carries_the_documented_headers(
    quick: Sandbox, receiver: Receiver
) -> None:
    delivery = delivered(quick, receiver.url)

    (received,) = receiver.received
    expected = hmac.new(SECRET.encode(), received.body, hashlib.sha256).hexdigest()
    assert received.headers["X-Stairoids-Signature"] == f"sha256={expected}"
    assert received.headers["X-Stairoids-Event"] == "automation.action_triggered"
    assert received.headers["Content-Type"] == "application/json"
    assert received.headers["X-Stairoids-Delivery"] == delivery.attempts[0].delivery_id
    assert received.path == "/webhooks/stairoids?a=b"
    assert received.body == delivery.body


def test_no_secret_means_no_signature(quick: Sandbox, receiver: Receiver) -> None:
    delivered(quick, receiver.url, secret=None)

    assert "X-Stairoids-Signature" not in receiver.received[0].headers


@pytest.mark.parametrize("status", [200, 299])
def test_any_2xx_acknowledges(quick: Sandbox, receiver: Receiver, status: int) -> None:
    receiver.responses = [status]

    delivery = delivered(quick, receiver.url)

    assert delivery.status == "success"
    assert [attempt.status for attempt in delivery.attempts] == [status]


def test_other_response_is_retried_with_a_new_delivery_id(
    quick: Sandbox, receiver: Receiver
) -> None:
    receiver.responses = [500, 404, 301, 0, 200]

    delivery = delivered(quick, receiver.url)

    assert [attempt.status for attempt in delivery.attempts] == [
        *(500, 404, 301, None, 200)
    ]
    ids = {received.headers["X-Stairoids-Delivery"] for received in receiver.received}
    assert len(ids) == 5
    assert len({received.body for received in receiver.received}) == 1
    assert not any("Cookie" in received.headers for received in receiver.received)


def test_delivery_fails_after_five_attempts_with_doubling_delays(
    quick: Sandbox, receiver: Receiver
) -> None:
    receiver.responses = [503] * 6

    delivery = delivered(quick, receiver.url)

    assert delivery.status == "failed"
    assert len(delivery.attempts) == len(receiver.received) == 5
    for number in range(4):
        pause = delivery.attempts[number + 1].began - delivery.attempts[number].ended
        assert pause >= BASE * 2**number * 0.9


def test_delivery_ignores_the_proxy_of_the_environment(
    quick: Sandbox, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    monkeypatch.delenv("NO_PROXY", raising=False)

    assert delivered(quick, receiver.url).status == "success"
    assert "User-Agent" not in receiver.received[0].headers


def test_endless_response_body_is_cut_off(quick: Sandbox, receiver: Receiver) -> None:
    receiver.body = itertools.repeat(b"x" * 65_536)

    assert delivered(quick, receiver.url).status == "success"


def test_incomplete_response_body_acknowledges(quick: Sandbox) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(30)

        def respond() -> None:
            connection, _ = listener.accept()
            with connection:
                request = b""
                while not request.endswith(b"}"):
                    request += connection.recv(65_536)
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf")

        thread = threading.Thread(target=respond)
        thread.start()
        delivery = delivered(quick, f"http://127.0.0.1:{listener.getsockname()[1]}/")
        thread.join()

    assert [attempt.status for attempt in delivery.attempts] == [200]


def test_missing_endpoint_is_retried(quick: Sandbox) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/"

    delivery = delivered(quick, url)

    assert delivery.status == "failed"
    assert all(attempt.error for attempt in delivery.attempts)


def test_host_that_is_no_name_fails(quick: Sandbox) -> None:
    delivery = delivered(quick, "https://xn--a/")

    assert delivery.status == "failed"
    assert all(attempt.error for attempt in delivery.attempts)


def test_hanging_endpoint_times_out_and_delays_no_other(receiver: Receiver) -> None:
    with (
        Sandbox(delivery_timeout_seconds=0.3) as sandbox,
        Receiver() as hanging,
        Client(sandbox) as client,
    ):
        hanging.release.clear()
        sandbox.automations.add(type="*", url=hanging.url)
        sandbox.automations.add(type="*", url=receiver.url)
        for _ in range(20):
            client.send()
        wait_until(lambda: len(receiver.received) >= 20)
        wait_until(lambda: any(d.attempts for d in sandbox.deliveries[::2]))
        late = next(d for d in sandbox.deliveries[::2] if d.attempts)

    assert late.attempts[0].error == "no response within 0.3 s"


def test_retries_delay_no_other_delivery(receiver: Receiver) -> None:
    receiver.responses = [500]
    with Sandbox(retry_base_seconds=60) as sandbox, Client(sandbox) as client:
        sandbox.automations.add(type="*", url=receiver.url)
        client.send()
        wait_until(lambda: sandbox.deliveries[0].status == "retrying")
        client.send()
        wait_until(lambda: sandbox.deliveries[1].status == "success")

    assert sandbox.deliveries[0].status == "retrying"


def test_delivery_sent_again_has_the_same_body_and_a_new_delivery_id(
    quick: Sandbox, receiver: Receiver
) -> None:
    first = delivered(quick, receiver.url)

    again = quick.send_again(first)
    wait_until(lambda: again.status == "success")

    one, two = receiver.received
    assert one.body == two.body
    assert one.headers["X-Stairoids-Signature"] == two.headers["X-Stairoids-Signature"]
    assert one.headers["X-Stairoids-Delivery"] != two.headers["X-Stairoids-Delivery"]
    assert quick.deliveries == [first, again]


def test_stopped_sandbox_sends_no_delivery(receiver: Receiver) -> None:
    with Sandbox() as sandbox:
        delivery = delivered(sandbox, receiver.url)

    with pytest.raises(NotRunningError):
        sandbox.send_again(delivery)
    assert len(sandbox.deliveries) == 1


def test_secret_is_in_no_repr(quick: Sandbox, receiver: Receiver) -> None:
    delivery = delivered(quick, receiver.url)

    assert SECRET not in repr(delivery)
    assert SECRET not in repr(quick.automations.all())
