"""Limit the time, the head size and the number of HTTP connections.

The HTTP parser is strict, but it waits for slow senders without end and takes headers
of any size. It also drops the body of a request that offers another protocol.
"""

from __future__ import annotations

import time
from functools import partial
from typing import TYPE_CHECKING, Protocol, cast

import httptools
from typing_extensions import override
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

REQUEST_SECONDS = 10.0  # for a head and its body; `app` has a shorter limit for both
MAX_HEAD_BYTES = 32 * 1024
MAX_HEADERS = 100
MAX_CONNECTIONS = 500


class Counting(Protocol):
    """An application that counts the results of requests."""

    def count(self, result: str) -> None:
        """Count the result of a request."""


class Connection(HttpToolsProtocol):
    """A connection that refuses large heads and slow requests."""

    # When the current request began. The clock of the event loop stands still while
    # connections are accepted, so it would not show which connection is the oldest.
    waiting_since: float | None = None
    _head_bytes = 0
    _in_head = True
    _refused = False

    @override
    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn declares it
        super().connection_made(transport)
        self.waiting_since = time.monotonic()
        if len(self.connections) > MAX_CONNECTIONS:
            self._make_room()

    @override
    def data_received(self, data: bytes) -> None:
        if self._refused:
            return
        if self.waiting_since is None and self._is_idle:
            self.waiting_since = time.monotonic()
        if self._in_head:
            self._head_bytes += len(data)
        self._parse(data)
        if self._in_head and self._head_bytes > MAX_HEAD_BYTES:
            self._refuse(b"431 Request Header Fields Too Large")

    @override
    def on_headers_complete(self) -> None:
        self._in_head = False
        size = sum(len(name) + len(value) for name, value in self.headers)
        if len(self.headers) > MAX_HEADERS or size + len(self.url) > MAX_HEAD_BYTES:
            self._refuse(b"431 Request Header Fields Too Large")
            return
        super().on_headers_complete()

    @override
    def on_body(self, body: bytes) -> None:
        if not self._refused:
            super().on_body(body)

    @override
    def on_message_complete(self) -> None:
        if self.parser.should_upgrade():
            return  # a body may follow; see `_parse`
        self.waiting_since = None
        self._in_head = True
        self._head_bytes = 0
        if not self._refused:
            super().on_message_complete()

    def _parse(self, data: bytes) -> None:
        """Parse data, also after the head of a request that offers another protocol.

        The receiver ignores the offer, as RFC 9110 section 7.8 allows. The parser
        however takes the body for the first bytes of the other protocol.
        """
        self._unset_keepalive_if_required()
        while data:
            try:
                self.parser.feed_data(data)
            except httptools.HttpParserUpgrade as upgrade:
                data = data[upgrade.args[0] :]
                self._restart_parser_at_body()
            except httptools.HttpParserError:
                self.send_400_response("Invalid HTTP request received.")
                return
            else:
                return

    def _restart_parser_at_body(self) -> None:
        """Continue with a new parser that is at the body of this request."""
        framing = [
            name + b": " + value + b"\r\n"
            for name, value in self.headers
            if name in {b"content-length", b"transfer-encoding"}
        ]
        self.parser = httptools.HttpRequestParser(_AfterHead(self))
        self.parser.feed_data(b"".join([b"POST / HTTP/1.1\r\n", *framing, b"\r\n"]))

    @property
    def _is_idle(self) -> bool:
        """True if the application has no request of this connection."""
        cycle = cast("RequestResponseCycle | None", self.cycle)
        return cycle is None or cycle.response_complete

    def close_if_late(self) -> None:
        """Close the connection if its request takes too long to arrive."""
        if (
            self.waiting_since is None
            or time.monotonic() - self.waiting_since < REQUEST_SECONDS
        ):
            return
        if self._in_head and self._is_idle:
            self._refuse(b"408 Request Timeout")
        else:
            self.transport.close()

    @override
    def send_400_response(self, msg: str) -> None:
        self._count("not_http")
        super().send_400_response(msg)

    def _refuse(self, status: bytes) -> None:
        self._count("too_slow" if status.startswith(b"408") else "large_head")
        self._refused = True
        self.transport.write(
            b"HTTP/1.1 "
            + status
            + b"\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"
        )
        self.transport.close()

    def _count(self, result: str) -> None:
        cast("Counting", self.app).count(result)

    def _make_room(self) -> None:
        """Close the other connection whose request has taken the longest time."""
        ages = {
            connection: connection.waiting_since
            for connection in self.connections
            if isinstance(connection, Connection)
            and connection is not self
            and connection.waiting_since is not None
            and not connection.transport.is_closing()
        }
        if ages:
            min(ages, key=ages.__getitem__).transport.abort()


class _AfterHead:
    """Forwards the callbacks of a parser after the first head."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._past_head = False
        self.on_body = connection.on_body
        self.on_message_complete = connection.on_message_complete
        for name in ("on_message_begin", "on_url", "on_header"):
            setattr(self, name, partial(self._forward, getattr(connection, name)))

    def _forward(self, callback: Callable[..., None], *arguments: bytes) -> None:
        if self._past_head:
            callback(*arguments)

    def on_headers_complete(self) -> None:
        self._forward(self._connection.on_headers_complete)
        self._past_head = True
