"""Requests without a usable response: not sent, or unknown."""

from __future__ import annotations

import socket
import ssl
import subprocess
import time
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest

from target_stairoids.api.client import Client, Response, ResponseKind, _Body
from tests.support.raw_server import KEY, Server, drip, post, raw, reset, running

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def test_refused_connection_was_not_sent() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]

    response = post(f"http://127.0.0.1:{port}/v1")

    assert response.kind is ResponseKind.NOT_SENT
    assert response.failure == "no connection (connection refused)"


def test_unknown_host_was_not_sent() -> None:
    response = post("http://no-such-host.invalid/v1")

    assert response.kind is ResponseKind.NOT_SENT
    assert response.failure == "no connection (host not found)"


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


def hang(connection: socket.socket) -> None:
    connection.recv(1)  # until the client hangs up


def trickle(connection: socket.socket) -> None:
    """Send a head that promises more than comes."""
    connection.sendall(b"HTTP/1.1 201 Created\r\nContent-Length: 100\r\n\r\n{")
    hang(connection)


_NONE = "the connection broke off before a response"


@pytest.mark.parametrize(
    ("broken", "failure"),
    [
        (reset, _NONE),
        (b"", _NONE),
        (b"HTTP/1.1 2", _NONE),
        (b"HTTP/1.1 422 Unproc", _NONE),
        (b"HTTP/1.1 422 No\r\nContent-Le", _NONE),
        (b"HTTP/1.1 201 Created\r\nContent-Length: 0\r\n", _NONE),
        (
            b"HTTP/1.1 401 No\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n",
            "the response broke off",
        ),
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
    failure: str,
) -> None:
    server.response = broken

    response = post(server.url)

    assert len(server.requests) == 1
    assert response.kind is ResponseKind.UNKNOWN
    assert response.status is None
    assert response.failure == failure


@pytest.mark.parametrize(
    "status", ["100 Continue", "102 Processing", "103 Early Hints"]
)
def test_interim_response_is_skipped(server: Server, status: str) -> None:
    interim = f"HTTP/1.1 {status}\r\nLink: <https://example.com>\r\n\r\n".encode()
    server.response = interim * 2 + raw(201, '{"id": "sig_1"}')

    response = post(server.url)

    assert response.kind is ResponseKind.ACCEPTED
    assert response.status == 201


def test_body_whose_last_chunk_has_no_empty_line_is_whole(server: Server) -> None:
    """Some servers close the connection instead."""
    head = b"HTTP/1.1 201 Created\r\nTransfer-Encoding: chunked\r\n\r\n"
    server.response = head + b'f\r\n{"id": "sig_1"}\r\n0\r\n'

    response = post(server.url)

    assert response.kind is ResponseKind.ACCEPTED


@pytest.mark.parametrize("slow", [hang, trickle])
def test_response_that_does_not_come_in_time_is_unknown(
    server: Server, slow: Callable[[socket.socket], object]
) -> None:
    server.response = slow

    response = post(server.url, timeout=0.2)

    assert response.kind is ResponseKind.UNKNOWN


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
    response, requests = response_over_tls(certificate, raw(201, "{}"))

    assert response.kind is ResponseKind.NOT_SENT
    assert response.failure == "no connection (TLS failed)"
    assert requests == 0


def test_certificate_from_the_environment_is_trusted(
    certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate))

    response, _ = response_over_tls(certificate, raw(201, "{}"))

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


def test_read_ends_though_each_part_of_the_response_comes_in_time(
    server: Server,
) -> None:
    server.response = drip
    client = Client(server.url, KEY, timeout=0.2)

    began = time.monotonic()
    response = client.list_signals({})

    assert response.kind is ResponseKind.UNKNOWN
    assert response.failure == "no response in time"
    assert time.monotonic() - began < 5


def test_signal_is_not_sent_long_after_its_timeout() -> None:
    """A host name may resolve after minutes."""
    body = _Body(b"{}", leave_by=time.monotonic() - 1)

    with pytest.raises(TimeoutError):
        body.read()
    assert not body.has_left


def test_redirect_that_cannot_be_read_is_a_response_at_once(server: Server) -> None:
    server.response = raw(302, "", Location="http://[x")
    with closing(Client(server.url, KEY, timeout=30)) as client:
        response = client.list_signals({})

    assert response.kind is ResponseKind.UNKNOWN
    assert response.failure == "the request failed (ValueError)"
