"""The responses of the receiver to deliveries."""

from __future__ import annotations

import http.client
import socket
import sqlite3
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest
import requests

from tap_stairoids_webhooks.receiver.server import Receiver
from tap_stairoids_webhooks.store.statistics import statistics_of
from tests.support.webhook_builders import (
    a_body,
    a_receiver,
    exchange,
    headers_for,
    raw_request,
    status_from,
)

if TYPE_CHECKING:
    from collections.abc import Callable

Address = tuple[str, int]


def post(receiver: Receiver, body: bytes, **changes: str | None) -> requests.Response:
    headers = {**headers_for(body), **changes}
    return requests.post(receiver.url, data=body, headers=headers, timeout=60)


def stored(receiver: Receiver) -> int:
    return statistics_of(receiver.store).total


def until(condition: Callable[[], bool], *, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def address_of(receiver: Receiver) -> Address:
    parts = urlsplit(receiver.url)
    return str(parts.hostname), int(parts.port or 0)


def is_closed(address: Address) -> bool:
    try:
        socket.create_connection(address, timeout=60).close()
    except ConnectionRefusedError:
        return True
    return False


def test_delivery_is_stored_when_it_is_acknowledged(receiver: Receiver) -> None:
    response = post(receiver, a_body("evt_1"))

    assert (response.status_code, response.text) == (200, "stored")
    (event,) = receiver.store.read_after(0, upper=9)
    assert event.body == a_body("evt_1")
    assert event.headers["x-stairoids-delivery"] == "d-1"


def test_redelivery_is_acknowledged_and_stored_once(receiver: Receiver) -> None:
    post(receiver, a_body("evt_1"))
    again = post(receiver, a_body("evt_1"), **{"X-Stairoids-Delivery": "d-2"})

    assert (again.status_code, again.text) == (200, "duplicate")
    assert stored(receiver) == 1


def test_any_signed_body_is_stored(receiver: Receiver) -> None:
    bodies = [b"", b"not JSON", b"\xff\x00", b'{"event": "brand.new"}', b"[]"]

    assert [post(receiver, body).text for body in bodies] == ["stored"] * 5
    assert [event.body for event in receiver.store.read_after(0, upper=9)] == bodies


def test_unsigned_header_does_not_set_the_type(receiver: Receiver) -> None:
    """A sender who replays a delivery can choose the header."""
    post(receiver, a_body("evt_1"), **{"X-Stairoids-Event": "other.type"})

    assert statistics_of(receiver.store).events == {"signal.created": 1}


def test_replay_with_another_delivery_id_blocks_nothing(receiver: Receiver) -> None:
    post(receiver, a_body("evt_1"), **{"X-Stairoids-Delivery": "d-2"})
    response = post(receiver, a_body("evt_2"), **{"X-Stairoids-Delivery": "d-2"})

    assert response.text == "stored"


@pytest.mark.parametrize("path", ["/stairoids%20hooks", "/h\u00f6ren", "/"])
def test_url_of_the_receiver_accepts_deliveries(store_url: str, path: str) -> None:
    with a_receiver(store_url, path=path) as receiver:
        assert post(receiver, a_body()).status_code == 200


def test_alias_path_accepts_deliveries(receiver: Receiver) -> None:
    body = a_body()
    url = receiver.url.replace("/webhooks/", "/webhook/")

    response = requests.post(url, data=body, headers=headers_for(body), timeout=60)

    assert response.status_code == 200


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/healthz", 200),
        ("HEAD", "/healthz", 200),
        ("POST", "/healthz", 405),
        ("GET", "/", 404),
        ("POST", "/", 404),
        ("POST", "/webhooks/stairoids/", 401),
        ("POST", "/webhooks/stairoids//", 404),
        ("POST", "/webhooks/stairoids/../x", 404),
        ("POST", "/readyz", 404),
        ("GET", "/webhooks/stairoids", 405),
        ("PUT", "/webhooks/stairoids", 405),
        ("DELETE", "/webhook/stairoids", 405),
        ("OPTIONS", "/webhooks/stairoids", 405),
    ],
)
def test_route(shared_address: Address, method: str, path: str, status: int) -> None:
    request = f"{method} {path} HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n"

    assert exchange(shared_address, request.encode()) == status


@pytest.mark.parametrize(
    "signature",
    [
        None,
        "",
        "sha256=",
        "sha256=" + "0" * 64,
        "sha256=" + "é" * 64,
        "sha1=" + "0" * 40,
        "x" * 20_000,
    ],
)
def test_unproven_delivery_is_refused(
    shared_receiver: Receiver, shared_address: Address, signature: str | None
) -> None:
    before = stored(shared_receiver)
    headers = {} if signature is None else {"X-Stairoids-Signature": signature}

    assert exchange(shared_address, raw_request(a_body(), headers=headers)) == 401
    assert stored(shared_receiver) == before


def test_chunked_body_is_verified_as_a_whole(receiver: Receiver) -> None:
    body = a_body("evt_1", pad="x" * 150_000)
    parts = (body[n : n + 10_000] for n in range(0, len(body), 10_000))

    response = requests.post(
        receiver.url, data=parts, headers=headers_for(body), timeout=15
    )

    assert response.status_code == 200


def test_concurrent_redeliveries_are_stored_once(receiver: Receiver) -> None:
    with ThreadPoolExecutor(16) as pool:
        responses = list(pool.map(lambda _: post(receiver, a_body("evt_1")), range(48)))

    assert {response.status_code for response in responses} == {200}
    assert sum(response.text == "stored" for response in responses) == 1
    assert stored(receiver) == 1


def test_locked_store_is_503_and_recovers(
    store_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tap_stairoids_webhooks.store.database._BUSY_SECONDS", 0)
    path = store_url.removeprefix("sqlite:///")
    with a_receiver(store_url) as receiver:
        with closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            refused = post(receiver, a_body())

        assert refused.status_code == 503
        assert int(refused.headers["Retry-After"]) > 0
        assert post(receiver, a_body()).text == "stored"


def test_slow_store_is_503(store_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    name = "tap_stairoids_webhooks.receiver.app.RESPONSE_SECONDS"
    path = store_url.removeprefix("sqlite:///")
    with a_receiver(store_url) as receiver:
        with closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            with monkeypatch.context() as context:
                context.setattr(name, 0.3)
                refused = post(receiver, a_body())

        assert (refused.status_code, refused.text) == (503, "store_too_slow")
        until(lambda: stored(receiver) == 1)
        assert post(receiver, a_body()).text == "duplicate"


def test_connection_is_kept_for_the_next_delivery(address: Address) -> None:
    connection = http.client.HTTPConnection(*address, timeout=60)
    with closing(connection):
        for number in range(3):
            body = a_body(f"evt_{number}")
            connection.request("POST", "/webhooks/stairoids", body, headers_for(body))
            response = connection.getresponse()
            assert (response.status, response.read()) == (200, b"stored")


def test_pipelined_deliveries_each_get_a_response(address: Address) -> None:
    requests_ = b"".join(raw_request(a_body(f"evt_{n}")) for n in range(3))
    with socket.create_connection(address, timeout=60) as connection:
        connection.sendall(requests_)
        responses = b""
        while responses.count(b"stored") < 3:
            received = connection.recv(65536)
            assert received
            responses += received

    assert responses.count(b"HTTP/1.1 200") == 3


def test_draining_receiver_finishes_begun_requests(receiver: Receiver) -> None:
    begun, rest = raw_request(a_body())[:-5], raw_request(a_body())[-5:]
    address = address_of(receiver)
    health = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"
    with socket.create_connection(address, timeout=60) as connection:
        connection.sendall(begun)
        # This response shows that the receiver has read the bytes before it.
        assert exchange(address, health) == 200
        stopping = threading.Thread(target=receiver.__exit__)
        stopping.start()
        until(lambda: is_closed(address))
        connection.sendall(rest)
        assert status_from(connection) == 200

    stopping.join()
