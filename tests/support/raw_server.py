"""A small server that responds with any bytes, and a client for it."""

from __future__ import annotations

import json
import re
import socket
import socketserver
import struct
import threading
import time
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from email.utils import format_datetime
from typing import TYPE_CHECKING, Any

from stairoids_common.time import rfc3339
from target_stairoids.api.client import Client, Response

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


KEY = "sk_live_CANARY"
BODY = b'{"type":"trial"}'


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
    """Reads one request and responds."""

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


class ListServer(Server):
    """Accepts signals, loses the first response, and lists with each change asked for.

    Attributes:
        changes: Fields of each listed signal.
        is_endless: Whether each page is the first one, with a cursor of its own.
        gaps: Number of empty pages behind each signal; None for one page with all.
    """

    def __init__(
        self,
        *,
        is_endless: bool = False,
        gaps: int | None = None,
        **changes: object,
    ) -> None:
        super().__init__()
        self.changes, self.is_endless, self.gaps = changes, is_endless, gaps
        self.signals: list[dict[str, Any]] = []
        self.response = self.respond

    def respond(self, connection: socket.socket) -> None:
        head, body = self.requests[-1]
        now = datetime.now(UTC)
        date = format_datetime(now, usegmt=True)
        if head.startswith("GET"):
            page = [signal | self.changes for signal in reversed(self.signals)]
            cursor = f"{len(self.requests)}" if self.is_endless else None
            if self.gaps is not None:
                found = re.search(r"cursor=(\d+)", head)
                number = int(found[1]) if found else 0
                index, place = divmod(number, self.gaps + 1)
                cursor = f"{number + 1}" if index + 1 < len(page) else None
                page = [] if place else page[index : index + 1]
            listed = json.dumps({"data": page, "meta": {"next_cursor": cursor}})
            connection.sendall(raw(200, listed, Date=date))
            return
        name, created_at = f"sig_{len(self.signals)}", rfc3339(now)
        self.signals.append({**json.loads(body), "id": name, "created_at": created_at})
        if len(self.signals) > 1:
            connection.sendall(raw(201, json.dumps({"id": name}), Date=date))


@contextmanager
def running(server: socketserver.BaseServer) -> Iterator[None]:
    """Run a server in a thread."""
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def raw(status: int, body: bytes | str = b"", **headers: str) -> bytes:
    """Return a response. `_` in the name of a header stands for `-`."""
    content = body.encode() if isinstance(body, str) else body
    lines = [f"HTTP/1.1 {status} Some Reason", f"Content-Length: {len(content)}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "Connection: close", "", ""]).encode() + content


def reset(connection: socket.socket) -> None:
    """Reset a connection."""
    linger = struct.pack("ii", 1, 0)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
    connection.close()


def drip(connection: socket.socket) -> None:
    """Send a body byte by byte until the client hangs up."""
    connection.sendall(raw(200, b" " * 1_000_000)[:-1_000_000])
    with suppress(OSError):
        while True:
            connection.sendall(b" ")
            time.sleep(0.01)  # far below each timeout


def post(url: str, *, timeout: float = 5) -> Response:
    """Send a signal with the client under test."""
    client = Client(url, KEY, timeout=timeout)
    try:
        return client.post_signal(BODY)
    finally:
        client.close()
