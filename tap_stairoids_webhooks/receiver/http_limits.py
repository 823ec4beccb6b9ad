"""Limit the time, the size and the number of HTTP connections and requests.

The HTTP parser is strict, but it waits for slow senders without end and takes headers
and trailers of any size. It also drops the body of a request that offers another
protocol. No setting of uvicorn limits these, so this module uses its private parts.
The version of uvicorn is pinned, and tests cover each limit.
"""

from __future__ import annotations

import asyncio
import resource
import time
from collections.abc import Callable
from functools import partial
from typing import Any, cast

import httptools
from typing_extensions import override
from uvicorn.protocols.http.httptools_impl import (
    HttpToolsProtocol,
    RequestResponseCycle,
)

REQUEST_SECONDS = 10.0  # for a head and its body; `app` has a shorter limit for both
MAX_HEAD_BYTES = 32 * 1024
MAX_HEADERS = 100
MAX_REQUESTS = 10_000  # on one connection
MAX_PIPELINED = 8  # requests that wait for the response to an earlier one
MAX_CONNECTIONS = 500
#: A body may have this number of chunks, and one more for each 64 bytes.
_FREE_CHUNKS = 1_000
_BYTES_OF_CHUNK = 64
#: For the store, the admin port and connections that wait; at most half of all.
_SPARE_DESCRIPTORS = 400


def max_connections() -> int:
    """Return the largest number of connections, below the limit of descriptors."""
    descriptors, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if descriptors == resource.RLIM_INFINITY:
        return MAX_CONNECTIONS
    spare = min(_SPARE_DESCRIPTORS, descriptors // 2)
    return max(1, min(MAX_CONNECTIONS, descriptors - spare))


_STATUSES = {
    "small_chunks": b"400 Bad Request",
    "too_slow": b"408 Request Timeout",
    "too_many_requests": b"429 Too Many Requests",
    "large_head": b"431 Request Header Fields Too Large",
}


class Connection(HttpToolsProtocol):
    """A connection that refuses large heads and slow requests."""

    # When the current request began. The clock of the event loop stands still while
    # connections are accepted, so it would not show which connection is the oldest.
    waiting_since: float | None = None
    # When the connection was made, or its last response was complete.
    idle_since = 0.0
    # When the sender was last seen to read while responses waited for it, and the
    # bytes that waited then.
    _unread_since: float | None = None
    _unread_bytes = 0
    is_dropped = False
    _in_head = True
    _refused = False
    _requests = 0
    # Of the current request: bytes of its body, chunks, and all other bytes.
    _body_bytes = 0
    _chunks = 0
    _other_bytes = 0

    @override
    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn declares it
        super().connection_made(transport)
        self.waiting_since = self.idle_since = time.monotonic()
        if len(self.connections) > max_connections():
            self._count("too_many_connections")
            self._make_room()

    @override
    def data_received(self, data: bytes) -> None:
        if self._refused:
            return
        if self.waiting_since is None and self._is_idle:
            self.waiting_since = time.monotonic()
        requests, body_bytes = self._requests, self._body_bytes
        self._parse(data)
        if self._requests != requests:
            return  # the rest of the data is the begin of the next request
        self._other_bytes += len(data) - (self._body_bytes - body_bytes)
        most = MAX_HEAD_BYTES
        if not self._in_head:  # trailers and the sizes of chunks
            most += MAX_HEAD_BYTES + self._body_bytes // 4
        if self._other_bytes > most:
            self._refuse("large_head")

    @override
    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header of the head, and drop trailers."""
        if self._in_head and not self._refused and len(self.headers) <= MAX_HEADERS:
            super().on_header(name, value)

    @override
    def on_headers_complete(self) -> None:
        self._in_head = False
        size = sum(len(name) + len(value) for name, value in self.headers)
        if len(self.headers) > MAX_HEADERS or size + len(self.url) > MAX_HEAD_BYTES:
            self._refuse("large_head")
            return
        if len(self.pipeline) >= MAX_PIPELINED:
            self._refuse("too_many_requests")
            raise ValueError  # it stops the parser
        super().on_headers_complete()
        if self._requests >= MAX_REQUESTS - 1:
            self.cycle.keep_alive = False

    @override
    def on_body(self, body: bytes) -> None:
        if self._refused:
            return
        self._body_bytes += len(body)
        self._chunks += 1
        if self._chunks > _FREE_CHUNKS + self._body_bytes // _BYTES_OF_CHUNK:
            self._refuse("small_chunks")
            raise ValueError  # it stops the parser
        super().on_body(body)

    @override
    def on_message_complete(self) -> None:
        if self.parser.should_upgrade():
            return  # a body may follow; see `_parse`
        self.waiting_since = None
        self._in_head = True
        self._requests += 1
        self._body_bytes = self._chunks = self._other_bytes = 0
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
            except httptools.HttpParserError:  # also for a URL without a path
                if not self._refused:
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

    @override
    def on_response_complete(self) -> None:
        self.idle_since = time.monotonic()
        super().on_response_complete()

    @property
    def _is_idle(self) -> bool:
        """True if the application has no request of this connection."""
        cycle = cast("RequestResponseCycle | None", self.cycle)
        return cycle is None or cycle.response_complete

    def close_if_late(self) -> None:
        """Close the connection if its sender sends or reads too slowly."""
        now = time.monotonic()
        waiting, before = self.transport.get_write_buffer_size(), self._unread_bytes
        self._unread_bytes = waiting
        if not waiting:
            self._unread_since = None
        elif self._unread_since is None or waiting < before:
            self._unread_since = now
        elif now - self._unread_since >= REQUEST_SECONDS:
            self.transport.abort()
            return
        if self.waiting_since is None or now - self.waiting_since < REQUEST_SECONDS:
            return
        if self._in_head and self._is_idle:
            self._refuse("too_slow")
        else:
            self.transport.close()

    @override
    def send_400_response(self, msg: str) -> None:
        self._count("not_http")
        super().send_400_response(msg)

    def _refuse(self, reason: str) -> None:
        self._count(reason)
        self._refused = True
        if self._is_idle or not self.cycle.response_started:
            head = b"HTTP/1.1 %b\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"
            self.transport.write(head % _STATUSES[reason])
        self.transport.close()

    def _count(self, result: str) -> None:
        cast("Any", self.app).count(result)  # each of our applications counts

    def _make_room(self) -> None:
        """Close another connection, and this one if all others are busy.

        An idle connection goes first, then the request that arrives for the longest
        time. A request that has arrived is never closed.
        """
        ages = {
            connection: connection.age_if_unneeded
            for connection in self.connections
            if isinstance(connection, Connection)
            and connection is not self
            and not connection.is_dropped
        }
        found = {c: age for c, age in ages.items() if age is not None}
        oldest = min(found, key=found.__getitem__, default=self)
        oldest.is_dropped = True
        oldest.transport.abort()

    @property
    def age_if_unneeded(self) -> tuple[bool, float] | None:
        """The rank for `_make_room`; None while a response is made."""
        if self._unread_since is not None and self.transport.get_write_buffer_size():
            return False, self._unread_since
        if self._is_idle and self._other_bytes == 0:
            return False, self.idle_since
        if self.waiting_since is None:
            return None
        return True, self.waiting_since


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
