"""Requests with an `Upgrade` header are ordinary deliveries.

Java's HttpClient sends `Upgrade: h2c` with every request in plain text.
"""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

import pytest

from tap_stairoids_webhooks.store.statistics import statistics_of
from tests.support.webhook_builders import a_body, exchange, headers_for, raw_request

if TYPE_CHECKING:
    from tap_stairoids_webhooks.receiver.server import Receiver

OFFER = (b"Connection: Upgrade, HTTP2-Settings", b"Upgrade: h2c", b"HTTP2-Settings: A")


def in_chunks(body: bytes, *lines: bytes) -> bytes:
    head = [b"POST /webhooks/stairoids HTTP/1.1", b"Host: x"]
    head += [f"{name}: {value}".encode() for name, value in headers_for(body).items()]
    chunks = b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)
    return b"\r\n".join([*head, *lines, b"Transfer-Encoding: chunked", b"", chunks])


@pytest.mark.parametrize(
    ("split", "chunked"), [(1, False), (7, True), (100, False), (100_000, True)]
)
def test_body_of_an_upgrade_request_is_verified(
    receiver: Receiver, address: tuple[str, int], split: int, *, chunked: bool
) -> None:
    body = a_body("evt_1", pad="x" * 1_000)
    request = in_chunks(body, *OFFER) if chunked else raw_request(body, *OFFER)

    with socket.create_connection(address, timeout=60) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for start in range(0, len(request), split):
            connection.sendall(request[start : start + split])
        assert connection.recv(65536).startswith(b"HTTP/1.1 200")

    assert [event.body for event in receiver.store.read_after(0, upper=9)] == [body]


def test_requests_after_an_upgrade_request_get_a_response(
    receiver: Receiver, address: tuple[str, int]
) -> None:
    offers = [raw_request(a_body(f"evt_{n}"), *OFFER) for n in range(3)]
    usual = raw_request(a_body("evt_usual"))

    with socket.create_connection(address, timeout=60) as connection:
        connection.sendall(offers[0] + usual + offers[1] + offers[2])
        responses = b""
        while responses.count(b"stored") < 4:
            received = connection.recv(65536)
            assert received
            responses += received

    assert statistics_of(receiver.store).total == 4


def test_upgrade_request_needs_a_signature(address: tuple[str, int]) -> None:
    unsigned = raw_request(a_body(), *OFFER, headers={})
    altered = raw_request(a_body(), *OFFER).replace(b"evt_1", b"evt_2")
    smuggled = raw_request(a_body(), *OFFER, b"Transfer-Encoding: chunked")

    assert exchange(address, unsigned) == 401
    assert exchange(address, altered) == 401
    assert exchange(address, smuggled) == 400
