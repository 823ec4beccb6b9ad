"""The client: each response has one kind, and no response raises."""

from __future__ import annotations

import http.server
import json
import re
import socket
import socketserver
import ssl
import struct
import subprocess
import threading
import time
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import TYPE_CHECKING, Any

import pytest

from target_stairoids.api.client import Client, Response, ResponseKind, _Body, kind_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

KEY = "sk_live_CANARY"
BODY = b'{"type":"trial"}'

# Statuses


@pytest.mark.parametrize(
    ("statuses", "kind"),
    [
        ([200, 201, 202, 204, 299], ResponseKind.ACCEPTED),
        ([301, 302, 303, 304, 307, 308], ResponseKind.REFUSED),
        ([401, 403, 404, 405, 410], ResponseKind.REFUSED),
        ([400, 402, 406, 409, 411, 413, 414, 415, 418, 422, 425, 431, 451, 499],
         ResponseKind.REJECTED),
        ([429], ResponseKind.THROTTLED),
        ([408, 500, 501, 502, 503, 504, 505, 520, 524, 599], ResponseKind.UNKNOWN),
        ([0, 100, 101, 199, 600, 999], ResponseKind.UNKNOWN),
    ],
)  # fmt: skip
def test_status_has_one_kind(statuses: list[int], kind: ResponseKind) -> None:
    found = {status: kind_of(status, asks_to_return=False) for status in statuses}

    assert found == dict.fromkeys(statuses, kind)


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (503, ResponseKind.NOT_SENT),
        (500, ResponseKind.UNKNOWN),
        (429, ResponseKind.THROTTLED),
        (201, ResponseKind.ACCEPTED),
    ],
)
def test_503_with_retry_after_was_not_accepted(status: int, kind: ResponseKind) -> None:
    assert kind_of(status, asks_to_return=True) is kind


# Bodies: the documented shapes, and where the pages disagree


def a_response(body: object, status: int = 201) -> Response:
    kind = kind_of(status, asks_to_return=False)
    return Response(kind=kind, status=status, body=body)


@pytest.mark.parametrize(
    ("body", "signal_id"),
    [
        ({"id": "sig_1", "status": "received", "account_id": None}, "sig_1"),
        ({"id": "sig_1", "account": {"id": "acc_1"}, "score": 12}, "sig_1"),
        (
            {"data": {"id": "sig_1"}, "meta": {"request_id": "req_1"}},
            "sig_1",
        ),
        ({"id": "outer", "data": {"id": "sig_1"}}, "sig_1"),
        ({"id": "sig_1", "data": "no object"}, "sig_1"),
        ({"id": "sig_1", "data": None}, "sig_1"),
        ({"data": {}}, None),
        ({"id": 7}, None),
        ({"id": None}, None),
        ({"data": []}, None),
        ({}, None),
        ([], None),
        ("sig_1", None),
        (None, None),
    ],
)
def test_signal_id_is_read_from_three_documented_shapes(
    body: object, signal_id: str | None
) -> None:
    response = a_response(body)

    assert response.signal_id == signal_id
    assert response.kind is ResponseKind.ACCEPTED


@pytest.mark.parametrize(
    ("body", "request_id"),
    [
        ({"error": {"code": "x", "request_id": "req_1"}}, "req_1"),
        ({"error": {"code": "x"}, "meta": {"request_id": "req_1"}}, "req_1"),
        ({"error": {"code": "x"}, "request_id": "req_1"}, "req_1"),
        ({"data": {}, "meta": {"request_id": "req_1"}}, "req_1"),
        ({"error": "text", "request_id": "req_1"}, "req_1"),
        ({"error": {"request_id": None}, "request_id": "req_1"}, "req_1"),
        ({"request_id": "r" * 5000}, "r" * 100),
        ({"request_id": 7}, None),
        ({"meta": None}, None),
        ({}, None),
        ([], None),
        (None, None),
    ],
)
def test_request_id_is_read_from_three_documented_places(
    body: object, request_id: str | None
) -> None:
    assert a_response(body, 422).request_id == request_id


@pytest.mark.parametrize(
    ("status", "body", "reason"),
    [
        (422, {"error": {"code": "validation_error"}}, "422 validation_error"),
        (400, {"error": {"code": "invalid_payload"}}, "400 invalid_payload"),
        (401, {"error": {"code": "unauthorized", "message": "CANARY"}},
         "401 unauthorized"),
        (422, {"error": {"code": "x", "param": "contact.email", "message": "CANARY"}},
         "422 x"),
        (422, {"error": {"code": "jane CANARY@acme.com"}}, "422 without an error code"),
        (422, {"error": {"code": "x" * 999}}, "422 " + "x" * 60),
        (422, {"error": {"code": ""}}, "422 without an error code"),
        (422, {"error": {"code": 7}}, "422 without an error code"),
        (422, {"error": "CANARY"}, "422 without an error code"),
        (422, {"error": None}, "422 without an error code"),
        (500, None, "500 without an error code"),
        (500, [1], "500 without an error code"),
        (302, None, "302 without an error code"),
    ],
)  # fmt: skip
def test_reason_is_status_and_error_code_without_the_message(
    status: int, body: object, reason: str
) -> None:
    assert a_response(body, status).reason == reason


def test_reason_without_a_response_is_the_trouble() -> None:
    response = Response(kind=ResponseKind.UNKNOWN, trouble="no response in time")

    assert response.reason == "no response in time"
    assert response.request_id is None
    assert response.signal_id is None


# A small server with any response


class Server(socketserver.ThreadingTCPServer):
    """Responds to the first request of each connection, then hangs up.

    Attributes:
        response: Raw bytes, or a function that gets the connection after the request.
        requests: Head and body of each request.
    """

    daemon_threads = True
    allow_reuse_address = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.response: bytes | Callable[[socket.socket], object] = b""
        self.requests: list[tuple[str, bytes]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/v1"


class Handler(socketserver.StreamRequestHandler):
    server: Server

    def handle(self) -> None:
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            line = self.rfile.readline()
            if not line:
                return
            head += line
        length = re.search(rb"(?i)content-length: *(\d+)", head)
        body = self.rfile.read(int(length[1])) if length else b""
        self.server.requests.append((head.decode(), body))
        if callable(self.server.response):
            self.server.response(self.connection)
        else:
            self.wfile.write(self.server.response)


@contextmanager
def running(server: socketserver.BaseServer) -> Iterator[None]:
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()
    with running(server):
        yield server


@pytest.fixture
def clean_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy", "NETRC"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


def raw(status: int, body: bytes | str = b"", **headers: str) -> bytes:
    content = body.encode() if isinstance(body, str) else body
    lines = [f"HTTP/1.1 {status} Some Reason", f"Content-Length: {len(content)}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "Connection: close", "", ""]).encode() + content


def post(url: str, *, timeout: float = 5) -> Response:
    client = Client(url, KEY, timeout=timeout)
    try:
        return client.post_signal(BODY)
    finally:
        client.close()


pytestmark = pytest.mark.usefixtures("clean_environment")


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
    client = Client(server.url, KEY, timeout=5)

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
        (200, ResponseKind.ACCEPTED, BODIES),
        (422, ResponseKind.REJECTED, BODIES[-2:]),
        (502, ResponseKind.UNKNOWN, BODIES[-2:]),
    ],
)
def test_status_decides_with_any_body(
    server: Server, status: int, kind: ResponseKind, bodies: list[bytes]
) -> None:
    for body in bodies:
        server.response = raw(status, body, Content_Type="text/html")

        response = post(server.url)

        assert response.kind is kind
        assert response.status == status
        assert response.signal_id is None
        assert len(response.reason) < 100


def test_204_without_a_body_is_accepted(server: Server) -> None:
    server.response = b"HTTP/1.1 204 No Content\r\n\r\n"

    assert post(server.url).kind is ResponseKind.ACCEPTED


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
    server.response = raw(201, X_RateLimit_Limit=limit, X_RateLimit_Remaining=remaining)

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
    server.response = raw(201)

    post(server.url)

    ((head, _),) = server.requests
    assert f"\r\nAuthorization: Bearer {KEY}\r\n" in head
    assert "Basic" not in head


# No response


def test_refused_connection_was_not_sent() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]

    response = post(f"http://127.0.0.1:{port}/v1")

    assert response.kind is ResponseKind.NOT_SENT
    assert response.trouble == "no connection (connection refused)"


def test_unknown_host_was_not_sent() -> None:
    response = post("http://no-such-host.invalid/v1")

    assert response.kind is ResponseKind.NOT_SENT
    assert response.trouble == "no connection (host not found)"


def test_proxy_that_cannot_be_reached_was_not_sent(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("http_proxy", "http://user:CANARY@127.0.0.1:1")

    response = post("http://stairoids.invalid/v1")

    assert response.kind is ResponseKind.NOT_SENT
    assert "CANARY" not in repr(response)


def test_plain_text_where_tls_is_expected_was_not_sent(server: Server) -> None:
    """The server does not get a request."""
    response = post(server.url.replace("http://", "https://"), timeout=0.2)

    assert response.kind is ResponseKind.NOT_SENT
    assert server.requests == []


def reset(connection: socket.socket) -> None:
    linger = struct.pack("ii", 1, 0)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
    connection.close()


def hang(connection: socket.socket) -> None:
    connection.recv(1)  # until the client hangs up


def trickle(connection: socket.socket) -> None:
    """Send a head that promises more than comes."""
    connection.sendall(b"HTTP/1.1 201 Created\r\nContent-Length: 100\r\n\r\n{")
    hang(connection)


@pytest.mark.parametrize(
    ("broken", "trouble"),
    [
        (reset, "the connection broke off before a response"),
        (b"", "the connection broke off before a response"),
        (b"HTTP/1.1 2", "the response is not HTTP"),
        (b"nonsense\r\n\r\n", "the response is not HTTP"),
        (
            b"HTTP/1.1 201 Created\r\nContent-Length: 100\r\n\r\n{",
            "the response broke off",
        ),
        (
            b"HTTP/1.1 201 Created\r\nTransfer-Encoding: chunked\r\n\r\nff\r\n{",
            "the response broke off",
        ),
        (
            raw(201, "no gzip", Content_Encoding="gzip"),
            "the response cannot be decoded",
        ),
        (
            b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 200,
            "the response is not HTTP",
        ),
        (
            b"HTTP/1.1 200 OK\r\nX: " + b"y" * 100_000,
            "the response is not HTTP",
        ),
    ],
    ids=lambda value: getattr(value, "__name__", str(value))[:40],
)
def test_response_that_breaks_off_is_unknown(
    server: Server,
    broken: bytes | Callable[[socket.socket], object],
    trouble: str,
) -> None:
    server.response = broken

    response = post(server.url)

    assert len(server.requests) == 1
    assert response.kind is ResponseKind.UNKNOWN
    assert response.status is None
    assert response.trouble == trouble


@pytest.mark.parametrize("slow", [hang, trickle])
def test_response_that_does_not_come_in_time_is_unknown(
    server: Server, slow: Callable[[socket.socket], object]
) -> None:
    server.response = slow
    started = time.monotonic()

    response = post(server.url, timeout=0.2)

    assert response.kind is ResponseKind.UNKNOWN
    assert time.monotonic() - started < 2


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    """A certificate for 127.0.0.1 and its key, in one file."""
    path = tmp_path / "tls.pem"
    command = (
        "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 "
        f"-subj /CN=tests -addext subjectAltName=IP:127.0.0.1 -keyout {path} "
        f"-out {path}.crt"
    )
    try:
        subprocess.run(command.split(), check=True, capture_output=True)
    except FileNotFoundError:
        pytest.skip("needs the command openssl")
    path.write_text(path.read_text() + (tmp_path / "tls.pem.crt").read_text())
    return path


class TlsServer(Server):
    """Speaks TLS until the request is read, then responds without it."""

    def __init__(self, certificate: Path) -> None:
        super().__init__()
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(certificate)

    def get_request(self) -> tuple[ssl.SSLSocket, Any]:
        connection, address = super().get_request()
        return self._context.wrap_socket(connection, server_side=True), address

    def handle_error(self, request: object, client_address: object) -> None:
        """Print nothing."""


def response_over_tls(
    certificate: Path, response: bytes | Callable[[ssl.SSLSocket], object]
) -> tuple[Response, int]:
    server = TlsServer(certificate)
    server.response = response  # type: ignore[assignment]  # its sockets are SSL sockets
    with running(server):
        found = post(server.url.replace("http://", "https://"))
    return found, len(server.requests)


def test_untrusted_certificate_means_not_sent(certificate: Path) -> None:
    response, requests = response_over_tls(certificate, raw(201))

    assert response.kind is ResponseKind.NOT_SENT
    assert response.trouble == "no connection (TLS failed)"
    assert requests == 0


def test_certificate_from_the_environment_is_trusted(
    certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate))

    response, _ = response_over_tls(certificate, raw(201))

    assert response.kind is ResponseKind.ACCEPTED


def test_tls_that_breaks_after_the_request_is_unknown(
    certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A broken TLS record looks like a failed handshake, but the signal was sent."""
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate))

    def speak_plainly(connection: ssl.SSLSocket) -> None:
        with socket.socket(fileno=connection.detach()) as below:
            below.sendall(b"this is no TLS record, but a plain text")

    response, requests = response_over_tls(certificate, speak_plainly)

    assert requests == 1
    assert response.kind is ResponseKind.UNKNOWN


# Secrets


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
    client = Client(server.url, KEY, timeout=5)

    found = client.post_signal(BODY)

    shown = f"{client!r} {vars(client)!r} {found!r} {found.reason} {found.trouble}"
    client.close()
    assert "CANARY" not in shown


# Threads


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
    client = Client(f"http://127.0.0.1:{server.server_port}/v1", KEY, timeout=5)
    with running(server):
        threads = [threading.Thread(target=send_three) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    assert len(peers) == 6
    assert sorted(peers.count(peer) for peer in set(peers)) == [3, 3]


def test_signal_is_not_sent_long_after_its_timeout() -> None:
    """A host name may resolve after minutes."""
    body = _Body(b"{}", leave_by=time.monotonic() - 1)

    with pytest.raises(TimeoutError):
        body.read()
    assert not body.has_left
