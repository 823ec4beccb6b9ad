"""The client: requests as documented, headers, secrets and threads."""

from __future__ import annotations

import http.server
import json
import threading
from contextlib import closing
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import TYPE_CHECKING

import pytest

from target_stairoids.api.client import Client, ResponseKind
from tests.support.raw_server import BODY, KEY, Server, post, raw, reset, running

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable
    from pathlib import Path


def test_signal_is_posted_as_documented(server: Server) -> None:
    server.response = raw(201, '{"id":"sig_1"}')

    response = post(server.url)

    assert response.kind is ResponseKind.ACCEPTED
    assert response.signal_id == "sig_1"
    ((head, body),) = server.requests
    assert head.startswith("POST /v1/signals HTTP/1.1\r\n")
    assert f"\r\nAuthorization: Bearer {KEY}\r\n" in head
    assert "\r\nContent-Type: application/json\r\n" in head
    assert f"\r\nContent-Length: {len(BODY)}\r\n" in head
    assert "transfer-encoding" not in head.lower()
    assert body == BODY


def test_signals_are_listed_as_documented(server: Server) -> None:
    server.response = raw(200, '{"data":[{"id":"sig_1"}],"meta":{"next_cursor":null}}')
    client = Client(server.url, KEY, timeout=30)

    response = client.list_signals({"contact_email": "a+b@acme.com", "limit": 200})
    client.close()

    assert response.data == [{"id": "sig_1"}]
    ((head, _),) = server.requests
    assert head.startswith(
        "GET /v1/signals?contact_email=a%2Bb%40acme.com&limit=200 HTTP/1.1\r\n"
    )
    assert f"\r\nAuthorization: Bearer {KEY}\r\n" in head


BODIES = [
    b"",
    b"OK",
    b"null",
    b"[]",
    b'{"id":',
    b'{"id":"sig_1"} trailing',
    b"\xff\xfe",
    b'"\xff"',
    b'{"a": NaN}',
    b"[" * 100_000,
    b"9" * 10_000,
    b"<html><body>Bad gateway</body></html>",
    b"<html>" + b"x" * 1_000_000,
]


@pytest.mark.parametrize(
    ("status", "kind", "bodies"),
    [
        (200, ResponseKind.FOREIGN, BODIES),
        (422, ResponseKind.REJECTED, BODIES[-2:]),
        (502, ResponseKind.UNKNOWN, BODIES[-2:]),
    ],
)
def test_body_that_is_no_json_object_is_never_accepted(
    server: Server, status: int, kind: ResponseKind, bodies: list[bytes]
) -> None:
    for body in bodies:
        server.response = raw(status, body, Content_Type="text/html")

        response = post(server.url)

        assert response.kind is kind
        assert response.status == status
        assert response.signal_id is None
        assert len(response.reason) < 100


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("<html>", "200 with HTML"),
        (" \n<!doctype html>", "200 with HTML"),
        ("[]", "200 with no JSON object"),
        ("", "200 with no JSON object"),
        ('{"error": {"code": "unauthorized"}}', "200 with an error"),
    ],
)
def test_foreign_response_is_described(server: Server, body: str, reason: str) -> None:
    server.response = raw(200, body)

    assert post(server.url).reason == reason


def test_204_without_a_body_is_not_accepted(server: Server) -> None:
    server.response = b"HTTP/1.1 204 No Content\r\n\r\n"

    assert post(server.url).kind is ResponseKind.FOREIGN


@pytest.mark.parametrize(
    ("retry_after", "seconds"),
    [
        ("0", 0),
        ("7", 7),
        (" 7 ", 7),
        ("120", 120),
        ("86400", 86400),
        ("Wed, 21 Oct 2015 07:28:00 GMT", 0),
        ("-5", None),
        ("1.5", None),
        ("soon", None),
        ("", None),
        ("Mon, 99 Foo 9999 00:00:00 GMT", None),
        ("Mon, 01 Jan 99999999999999999999 00:00:00 GMT", None),
        ("Mon, 01 Jan 2024 00:00:00 +99999999999999", None),
    ],
)
def test_retry_after_has_seconds_or_a_date(
    server: Server, retry_after: str, seconds: float | None
) -> None:
    server.response = raw(429, Retry_After=retry_after)

    response = post(server.url)

    assert response.kind is ResponseKind.THROTTLED
    assert response.retry_after == seconds


def test_retry_after_with_a_date_is_the_seconds_until_then(server: Server) -> None:
    date = datetime.now(UTC) + timedelta(seconds=100)
    server.response = raw(503, Retry_After=format_datetime(date, usegmt=True))

    response = post(server.url)

    assert response.kind is ResponseKind.NOT_SENT
    assert response.retry_after is not None
    assert 90 < response.retry_after <= 100


@pytest.mark.parametrize(
    ("limit", "remaining", "read"),
    [
        ("60", "59", (60, 59)),
        ("1000", "0", (1000, 0)),
        (" 60 ", "", (60, None)),
        ("unlimited", "-1", (None, None)),
        ("6e1", "5.5", (None, None)),
        ("9" * 5000, "9" * 5000, (None, None)),
    ],
)
def test_rate_limit_is_read_from_whole_numbers_only(
    server: Server, limit: str, remaining: str, read: tuple[int | None, int | None]
) -> None:
    server.response = raw(
        201, "{}", X_RateLimit_Limit=limit, X_RateLimit_Remaining=remaining
    )

    response = post(server.url)

    assert (response.limit, response.remaining) == read
    assert response.kind is ResponseKind.ACCEPTED


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_redirect_is_refused_and_not_followed(server: Server, status: int) -> None:
    elsewhere = Server()
    with running(elsewhere):
        server.response = raw(status, Location=f"{elsewhere.url}/signals")

        response = post(server.url)

    assert response.kind is ResponseKind.REFUSED
    assert elsewhere.requests == []
    assert len(server.requests) == 1


def test_netrc_does_not_replace_the_key(server: Server, tmp_path: Path) -> None:
    netrc = tmp_path / ".netrc"
    netrc.write_text("machine 127.0.0.1 login netrc password netrc\n")
    netrc.chmod(0o600)
    server.response = raw(201, "{}")

    post(server.url)

    ((head, _),) = server.requests
    assert f"\r\nAuthorization: Bearer {KEY}\r\n" in head
    assert "Basic" not in head


def test_cookies_are_not_sent_back(server: Server) -> None:
    server.response = raw(201, "{}", **{"Set-Cookie": "session=1"})

    with closing(Client(server.url, KEY, timeout=30)) as client:
        client.post_signal(BODY)
        client.post_signal(BODY)

    assert len(server.requests) == 2
    assert not any("Cookie" in head for head, _ in server.requests)


def echo(connection: socket.socket) -> None:
    """Respond with the key and the signal, as a debugging proxy does."""
    connection.sendall(raw(500, json.dumps({"key": KEY, "email": "CANARY@acme.com"})))


@pytest.mark.parametrize(
    "response", [echo, reset, b"", raw(401), raw(422, '{"error":{"message":"CANARY"}}')]
)
def test_key_and_values_are_not_in_any_repr_or_reason(
    server: Server, response: bytes | Callable[[socket.socket], object]
) -> None:
    server.response = response
    client = Client(server.url, KEY, timeout=30)

    found = client.post_signal(BODY)

    shown = f"{client!r} {vars(client)!r} {found!r} {found.reason} {found.failure}"
    client.close()
    assert "CANARY" not in shown


def test_each_thread_has_its_own_connection() -> None:
    class KeepAlive(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            peers.append(self.client_address[1])
            self.send_response(201)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_args: object) -> None:
            """Print nothing."""

    def send_three() -> None:
        for _ in range(3):
            client.post_signal(BODY)
        client.close()

    peers: list[int] = []
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), KeepAlive)
    client = Client(f"http://127.0.0.1:{server.server_port}/v1", KEY, timeout=30)
    with running(server):
        threads = [threading.Thread(target=send_three) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    assert len(peers) == 6
    assert sorted(peers.count(peer) for peer in set(peers)) == [3, 3]
