"""Hostile and broken requests get a response, and delay no other sender."""

from __future__ import annotations

import http.client
import logging
import select
import socket
from contextlib import ExitStack, closing
from functools import partial
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest
import requests

from tap_stairoids_webhooks.receiver.server import Receiver
from tests.support.webhook_builders import (
    EMAIL,
    SECRET,
    a_body,
    a_receiver,
    exchange,
    headers_for,
    raw_request,
    status_from,
)
from tests.tap.receiver.test_app import Address, address_of, post, until
from tests.tap.receiver.test_server import serving

if TYPE_CHECKING:
    from collections.abc import Iterator

GOOD = headers_for(a_body())["X-Stairoids-Signature"].encode()
CHUNKED = (
    b"POST /webhooks/stairoids HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n"
)
SIGNED = (
    b"X-Stairoids-Signature: "
    + headers_for(b"{}")["X-Stairoids-Signature"].encode()
    + b"\r\n"
)
#: Those with endless bodies are signed, because others may be refused before the end.
HOSTILE = {
    "signature twice": (
        raw_request(a_body(), b"X-Stairoids-Signature: " + GOOD),
        400,
    ),
    "delivery id twice": (raw_request(a_body(), b"x-stairoids-delivery: 2"), 400),
    "underscores": (
        raw_request(a_body(), headers={"X_Stairoids_Signature": GOOD.decode()}),
        401,
    ),
    "body changed": (raw_request(a_body()).replace(b"sig_1", b"sig_2"), 401),
    "compressed": (raw_request(a_body(), b"Content-Encoding: gzip"), 415),
    "identity": (raw_request(a_body(), b"Content-Encoding: Identity"), 200),
    "announced too large": (
        raw_request(b"", headers={"X-Stairoids-Signature": "x"}).replace(
            b"Content-Length: 0", b"Content-Length: 1000000000000"
        ),
        413,
    ),
    "chunked too large": (
        b"POST /webhooks/stairoids HTTP/1.1\r\nHost: x\r\nX-Stairoids-Signature: x\r\n"
        b"Transfer-Encoding: chunked\r\n\r\n"
        b"10000\r\n"
        + b"x" * 65536
        + b"\r\n" * 1
        + (b"10000\r\n" + b"x" * 65536 + b"\r\n") * 3,
        413,
    ),
    "two lengths": (raw_request(a_body(), b"Content-Length: 1"), 400),
    "length and chunked": (raw_request(a_body(), b"Transfer-Encoding: chunked"), 400),
    "negative length": (
        raw_request(b"").replace(b"Content-Length: 0", b"Content-Length: -1"),
        400,
    ),
    "bare line feeds": (raw_request(a_body()).replace(b"\r\n", b"\n"), 400),
    "folded header": (raw_request(a_body(), b"X-A: 1", b" 2"), 400),
    "NUL in a header": (raw_request(a_body(), b"X-A: \x00"), 400),
    "space in a name": (raw_request(a_body(), b"X A: 1"), 400),
    "not HTTP": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\r\n\r\n", 400),
    "one long header": (raw_request(a_body(), b"X-A: " + b"x" * 1_000_000), 431),
    "many headers": (raw_request(a_body(), *[b"X-A: 1"] * 10_000), 431),
    "a long path": (raw_request(a_body(), path="/" + "x" * 100_000), 431),
    "bytes in the path": (raw_request(a_body(), path="/\xff%ff%00"), 400),
    "absolute URL": (raw_request(a_body(), path="http://x/webhooks/stairoids"), 200),
    "asterisk": (raw_request(a_body(), path="*"), 404),
    "space behind the signature": (
        raw_request(a_body(), headers={"X-Stairoids-Signature": f"{GOOD.decode()} \t"}),
        200,
    ),
    "space behind the length": (
        raw_request(a_body()).replace(b"\r\nX-St", b" \t\r\nX-St", 1),
        200,
    ),
    "compressed, then not": (
        raw_request(a_body(), b"Content-Encoding: gzip", b"Content-Encoding: identity"),
        400,
    ),
    "slash behind the path": (raw_request(a_body(), path="/webhooks/stairoids/"), 200),
    "signature as a trailer": (
        CHUNKED + b"\r\n2\r\n{}\r\n0\r\n" + SIGNED + b"\r\n",
        401,
    ),
    "trailer that is dropped": (
        CHUNKED + SIGNED + b"\r\n2\r\n{}\r\n0\r\n" + SIGNED + b"\r\n",
        200,
    ),
    "endless trailers": (
        CHUNKED + SIGNED + b"\r\n0\r\n" + b"X-A: b\r\n" * 100_000,
        431,
    ),
    "endless trailer": (CHUNKED + SIGNED + b"\r\n0\r\nX-A: " + b"b" * 1_000_000, 431),
    "endless chunk extension": (CHUNKED + SIGNED + b"\r\n1;" + b"b" * 1_000_000, 431),
    "one-byte chunks": (CHUNKED + SIGNED + b"\r\n" + b"1\r\nx\r\n" * 100_000, 400),
    "small chunks": (
        CHUNKED + SIGNED + b"\r\n" + (b"10\r\n" + b"x" * 16 + b"\r\n") * 10_000,
        400,
    ),
    "CONNECT": (b"CONNECT x:1 HTTP/1.1\r\nHost: x\r\n\r\n", 400),
    "upgrade": (raw_request(a_body(), b"Connection: upgrade", b"Upgrade: h2c"), 200),
    "websocket": (raw_request(b"", b"Connection: upgrade", b"Upgrade: websocket"), 200),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_request(
    shared_receiver: Receiver, shared_address: Address, name: str
) -> None:
    request, status = HOSTILE[name]

    assert exchange(shared_address, request) == status
    assert exchange(shared_address, raw_request(a_body("evt_honest"))) == 200
    assert shared_receiver.counts["failed"] == 0


def test_unusable_url_is_not_counted_as_small_chunks(
    receiver: Receiver, address: Address
) -> None:
    for path in ("http://[::1/x", "http://x:abc/", "http://", "http://@/"):
        assert exchange(address, raw_request(a_body(), path=path)) == 400
    assert exchange(address, HOSTILE["CONNECT"][0]) == 400

    assert receiver.counts == {"not_http": 5}


def test_unknown_path_is_logged(
    receiver: Receiver, address: Address, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)

    assert exchange(address, raw_request(a_body(), path="/hook%0Ax?a=1")) == 404
    receiver.__exit__()

    assert "deliveries: not_found=1 unknown_path=/hook%0Ax\n" in caplog.text


def test_largest_body_is_accepted_and_a_larger_one_refused(receiver: Receiver) -> None:
    largest = b'"' + b"x" * 199_998 + b'"'

    assert post(receiver, largest).status_code == 200
    assert post(receiver, largest + b" ").status_code == 413


def test_slow_body_is_408(store_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tap_stairoids_webhooks.receiver.app.RESPONSE_SECONDS", 0.3)
    with a_receiver(store_url) as receiver:
        assert exchange(address_of(receiver), raw_request(a_body())[:-5]) == 408


@pytest.fixture
def impatient(store_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Receiver]:
    """A receiver that waits 0.3 s for a request, and looks every 0.1 s."""
    package = "tap_stairoids_webhooks.receiver"
    monkeypatch.setattr(f"{package}.http_limits.REQUEST_SECONDS", 0.3)
    monkeypatch.setattr(f"{package}.server._TICKS_PER_SECOND", 1)
    with a_receiver(store_url) as receiver:
        yield receiver


def test_slow_head_is_408(impatient: Receiver) -> None:
    for begin in (b"", b"POST /webhooks", b"POST / HTTP/1.1\r\nHost: x\r\n", b"\r\n"):
        assert exchange(address_of(impatient), begin) == 408


def test_refused_sender_is_disconnected(impatient: Receiver) -> None:
    request = HOSTILE["announced too large"][0]
    address = address_of(impatient)
    with socket.create_connection(address, timeout=60) as connection:
        connection.sendall(request)
        assert status_from(connection) == 413

        assert status_from(connection) == 0


def test_stalled_connections_delay_no_others(
    receiver: Receiver, address: Address, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = "tap_stairoids_webhooks.receiver"
    monkeypatch.setattr(f"{package}.http_limits.REQUEST_SECONDS", 600)
    monkeypatch.setattr(f"{package}.app.RESPONSE_SECONDS", 600)
    with ExitStack() as stack:
        for _ in range(200):
            connection = stack.enter_context(socket.create_connection(address))
            connection.sendall(raw_request(a_body())[:-1])

        assert post(receiver, a_body()).status_code == 200


def test_oldest_stalled_connection_is_closed(
    store_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "tap_stairoids_webhooks.receiver.http_limits.MAX_CONNECTIONS", 10
    )
    with a_receiver(store_url) as receiver, ExitStack() as st:
        stalled = [
            st.enter_context(socket.create_connection(address_of(receiver), timeout=60))
            for _ in range(30)
        ]

        assert post(receiver, a_body()).status_code == 200
        assert status_from(stalled[0]) == 0


def test_idle_connections_make_room_first(
    store_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "tap_stairoids_webhooks.receiver.http_limits.MAX_CONNECTIONS", 10
    )
    health = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"
    with a_receiver(store_url) as receiver, ExitStack() as st:

        def connection() -> socket.socket:
            address = address_of(receiver)
            return st.enter_context(socket.create_connection(address, timeout=60))

        slow = connection()
        slow.sendall(raw_request(a_body())[:-5])
        for _ in range(40):
            idle = connection()
            idle.sendall(health)
            assert status_from(idle) == 200
        slow.sendall(raw_request(a_body())[-5:])

        assert status_from(slow) == 200
        assert receiver.counts["too_many_connections"] == 31


@pytest.mark.slow
@pytest.mark.soak
def test_idle_connection_of_a_proxy_is_kept(store_url: str) -> None:
    health = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"
    with (
        a_receiver(store_url) as receiver,
        socket.create_connection(address_of(receiver), timeout=60) as proxy,
    ):
        for seconds in (0, 125):  # Caddy keeps an idle connection for 120
            assert select.select([proxy], [], [], seconds)[0] == []  # not closed
            proxy.sendall(health)
            assert status_from(proxy) == 200


@pytest.mark.slow
def test_connections_stay_below_the_limit_of_descriptors(store_url: str) -> None:
    limits = ["bash", "-c", 'ulimit -n 500; exec "$@"', "--"]
    with serving(store_url, *limits) as (_, url), ExitStack() as stack:
        parts = urlsplit(url)
        for _ in range(600):
            idle = stack.enter_context(
                socket.create_connection((str(parts.hostname), int(parts.port or 0)))
            )
            idle.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")

        response = requests.post(
            url, a_body(), headers=headers_for(a_body()), timeout=15
        )

    assert response.text == "stored"


def test_connection_ends_after_its_last_request(
    address: Address, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tap_stairoids_webhooks.receiver.http_limits.MAX_REQUESTS", 3)
    connection = http.client.HTTPConnection(*address, timeout=60)
    with closing(connection):
        endings = []
        for number in range(3):
            body = a_body(f"evt_{number}")
            connection.request("POST", "/webhooks/stairoids", body, headers_for(body))
            response = connection.getresponse()
            response.read()
            endings.append(response.getheader("Connection"))

    assert endings == [None, None, "close"]


def test_endless_requests_without_a_pause_are_refused(
    receiver: Receiver, address: Address
) -> None:
    with socket.create_connection(address, timeout=60) as connection:
        connection.sendall(b"GET /healthz HTTP/1.1\r\n\r\n" * 2000)

        assert status_from(connection) == 429

    assert receiver.counts["too_many_requests"] == 1
    assert post(receiver, a_body()).status_code == 200


@pytest.mark.slow
def test_sender_that_reads_no_response_is_disconnected(impatient: Receiver) -> None:
    lost = select.poll()
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
        connection.connect(address_of(impatient))
        lost.register(connection, select.POLLERR | select.POLLHUP)
        sent = 0
        while not lost.poll(0):
            connection.sendall(b"GET / HTTP/1.1\r\n\r\n" * 8)
            sent += 8
            until(partial(_is_lost_or_done, lost, impatient, sent))

    assert impatient.counts["too_many_requests"] == 0


def _is_lost_or_done(lost: select.poll, receiver: Receiver, sent: int) -> bool:
    return bool(lost.poll(0)) or receiver.counts["not_found"] == sent


def test_early_disconnect_does_not_disturb_others(
    receiver: Receiver, address: Address
) -> None:
    for size in (30, 200, len(raw_request(a_body()))):
        with socket.create_connection(address) as connection:
            connection.sendall(raw_request(a_body())[:size])

    assert post(receiver, a_body("evt_2")).status_code == 200
    assert receiver.counts["failed"] == 0


def test_nothing_secret_or_personal_is_logged(
    receiver: Receiver, address: Address, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)

    post(receiver, a_body())
    post(receiver, a_body(), **{"X-Stairoids-Signature": "sha256=canary"})
    post(receiver, b'{"a": "' + EMAIL.encode())
    for request, _ in HOSTILE.values():
        exchange(address, request)
    receiver.__exit__()

    assert "deliveries: " in caplog.text
    for canary in (EMAIL, "canary", SECRET, GOOD.decode()):
        assert canary not in caplog.text
