"""Hostile and broken requests get a response, and delay no other sender."""

from __future__ import annotations

import logging
import socket
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest

from tap_stairoids_webhooks.receiver.server import Receiver
from tests.support.webhook_builders import (
    EMAIL,
    SECRET,
    a_body,
    exchange,
    headers_for,
    raw_request,
    status_from,
)
from tests.tap.receiver.test_app import Address, address_of, post

if TYPE_CHECKING:
    from collections.abc import Iterator

GOOD = headers_for(a_body())["X-Stairoids-Signature"].encode()
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


def test_largest_body_is_accepted_and_a_larger_one_refused(receiver: Receiver) -> None:
    largest = b'"' + b"x" * 199_998 + b'"'

    assert post(receiver, largest).status_code == 200
    assert post(receiver, largest + b" ").status_code == 413


def test_slow_body_is_408(store_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tap_stairoids_webhooks.receiver.app.RESPONSE_SECONDS", 0.3)
    with Receiver(store_url=store_url, secrets=[SECRET]) as receiver:
        assert exchange(address_of(receiver), raw_request(a_body())[:-5]) == 408


@pytest.fixture
def impatient(store_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Receiver]:
    """A receiver that waits 0.3 s for a request, and looks every 0.1 s."""
    package = "tap_stairoids_webhooks.receiver"
    monkeypatch.setattr(f"{package}.http_limits.REQUEST_SECONDS", 0.3)
    monkeypatch.setattr(f"{package}.server._TICKS_PER_SECOND", 1)
    with Receiver(store_url=store_url, secrets=[SECRET]) as receiver:
        yield receiver


def test_slow_head_is_408(impatient: Receiver) -> None:
    for begin in (b"", b"POST /webhooks", b"POST / HTTP/1.1\r\nHost: x\r\n", b"\r\n"):
        assert exchange(address_of(impatient), begin) == 408


def test_refused_sender_is_disconnected(impatient: Receiver) -> None:
    request = HOSTILE["announced too large"][0]
    address = address_of(impatient)
    with socket.create_connection(address, timeout=15) as connection:
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
    with Receiver(store_url=store_url, secrets=[SECRET]) as receiver, ExitStack() as st:
        stalled = [
            st.enter_context(socket.create_connection(address_of(receiver), timeout=15))
            for _ in range(30)
        ]

        assert post(receiver, a_body()).status_code == 200
        assert status_from(stalled[0]) == 0


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
