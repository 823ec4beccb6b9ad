"""One HTTP request from Stairoids to a customer's endpoint.

The answer's body is read to its end, so that the receiver is never reset, and
thrown away.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import httptools

if TYPE_CHECKING:
    from collections.abc import Mapping

_CHUNK = 65_536
_DEFAULT_PORTS = {"http": 80, "https": 443}


async def post(url: str, headers: Mapping[str, str], body: bytes) -> int:
    """Post ``body`` over a connection of its own; return the status.

    Raises:
        OSError: No connection, or it broke before the answer was complete.
    """
    parts = urlsplit(url)
    port = parts.port or _DEFAULT_PORTS[parts.scheme]
    secure = True if parts.scheme == "https" else None
    reader, writer = await asyncio.open_connection(parts.hostname, port, ssl=secure)
    try:
        writer.write(_head(parts.path, parts.query, parts.netloc, headers, body) + body)
        return await _status_from(reader)
    finally:
        writer.close()


def _head(
    path: str, query: str, netloc: str, headers: Mapping[str, str], body: bytes
) -> bytes:
    lines = [
        f"POST {path or '/'}{'?' if query else ''}{query} HTTP/1.1",
        f"Host: {netloc.rpartition('@')[2]}",
        f"Content-Length: {len(body)}",
        "Connection: close",
        *(f"{name}: {value}" for name, value in headers.items()),
    ]
    return "\r\n".join([*lines, "\r\n"]).encode()


async def _status_from(reader: asyncio.StreamReader) -> int:
    answer = _Answer()
    parser = httptools.HttpResponseParser(answer)
    while not answer.complete:
        chunk = await reader.read(_CHUNK)
        if not chunk:
            break
        try:
            parser.feed_data(chunk)
        except httptools.HttpParserError as error:
            msg = "the answer is not HTTP"
            raise ConnectionError(msg) from error
        answer.status = parser.get_status_code()
    if not answer.headed:
        msg = "the connection closed before an answer"
        raise ConnectionError(msg)
    return answer.status


class _Answer:
    """What the parser has seen of an answer."""

    def __init__(self) -> None:
        self.status = 0
        self.headed = False
        self.complete = False

    def on_headers_complete(self) -> None:
        self.headed = True

    def on_message_complete(self) -> None:
        self.complete = True
