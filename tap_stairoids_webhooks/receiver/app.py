"""Check each webhook request, store its event, and respond.

The response 200 is sent after the commit. The checks run in a fixed order, cheap checks
first. No body is parsed, stored or logged before its signature is verified. Stairoids
sends again on every response except 2xx, so the response to a fault is 503.
"""

from __future__ import annotations

import asyncio
import logging
import time
import traceback
from collections import Counter
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass, field
from pathlib import PurePath
from typing import Any
from urllib.parse import quote, unquote

from stairoids_common.time import timestamp
from tap_stairoids_webhooks.environment import HEALTH_PATH, ReceiverSettings
from tap_stairoids_webhooks.event import Delivery, event_from
from tap_stairoids_webhooks.exceptions import RefusedRequestError, StoreError
from tap_stairoids_webhooks.log_lines import LogLine
from tap_stairoids_webhooks.receiver.commit_queue import CommitQueue
from tap_stairoids_webhooks.signature import Verifier
from tap_stairoids_webhooks.store.schema import Outcome

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

logger = logging.getLogger(__name__)

ALIAS_PATH = "/webhook/stairoids"
RESPONSE_SECONDS = 8.0  # after the end of the head; Stairoids gives up after 10

#: Every result that a request can have, so that each counter starts from 0.
RESULTS = (
    *Outcome,
    "content_encoding",
    "content_length",
    "disconnected",
    "disk_full",
    "draining",
    "failed",
    "large_head",
    "method_not_allowed",
    "not_found",
    "not_http",
    "repeated_header",
    "signature_mismatch",
    "signature_missing",
    "small_chunks",
    "store_too_slow",
    "store_unavailable",
    "too_large",
    "too_many_connections",
    "too_many_large_bodies",
    "too_many_requests",
    "too_slow",
)

#: Results that are logged as a warning.
ALARMING = {
    Outcome.CONFLICT,
    "disk_full",
    "failed",
    "signature_mismatch",
    "signature_missing",
    "store_too_slow",
    "store_unavailable",
    "too_many_connections",
}

RETRY_AFTER = (b"retry-after", b"10")
_SMALL_BODY_BYTES = 64 * 1024
_MAX_UNPROVEN_BYTES = 64 * 1024 * 1024
_KEPT_HEADER_LENGTH = 200
_LOGGED_PATH_LENGTH = 100
_ONCE = {b"content-encoding", b"content-length", b"content-type"}
_SIGNATURE = b"x-stairoids-signature"
_EVENT = b"x-stairoids-event"
_DELIVERY = b"x-stairoids-delivery"
_KEPT = (_EVENT, _DELIVERY, b"content-type")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Head:
    """The headers of a delivery that the receiver uses."""

    signature: bytes
    length: int
    kept: dict[str, str]


@dataclass(eq=False, kw_only=True)
class ReceiverApp:
    """The ASGI application behind the public listener.

    Attributes:
        counts: Number of requests by result.
        last_at: Unix time of the last request by result.
        keys: Number of accepted deliveries by the key id of their secret.
        unproven_bytes: Size of the large bodies in memory that are not verified yet.
        unknown_path: Path of the last request to an unknown path, in ASCII.
        draining: Set it to refuse new deliveries while the server stops.
        disk_full: Set it to refuse new deliveries while the disk is full.
        not_ready_since: Since when deliveries are refused, as RFC 3339; None if they
            are accepted. `Housekeeping` sets it.
    """

    settings: ReceiverSettings
    verifier: Verifier
    commits: CommitQueue
    counts: Counter[str] = field(default_factory=Counter)
    last_at: dict[str, float] = field(default_factory=dict)
    keys: Counter[str] = field(default_factory=Counter)
    unproven_bytes: int = 0
    unknown_path: str = ""
    draining: bool = False
    disk_full: bool = False
    not_ready_since: str | None = None

    def __post_init__(self) -> None:
        path = self.settings.path
        self._paths = {unquote(path.removesuffix("/") or path), ALIAS_PATH}

    def count(self, result: str) -> None:
        """Count the result of a request."""
        self.counts[result] += 1
        self.last_at[result] = time.time()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Respond to one request; no exception reaches the server."""
        try:
            text = await self._handle(scope, receive)
            await send_response(send, 200, text.encode())
        except RefusedRequestError as refused:
            self.count(refused.reason)
            text = refused.text
            await send_response(send, refused.status, text.encode(), *refused.headers)
        except ConnectionError:
            self.count("disconnected")
        except Exception as error:  # noqa: BLE001 -- the outer edge: a bug must get a 503 as well
            self.count("failed")
            # Without the error's text, which may repeat a part of the body.
            where = traceback.extract_tb(error.__traceback__)[-1]
            at = f"{PurePath(where.filename).name}:{where.lineno}"
            logger.error(LogLine("request failed", error=type(error).__name__, at=at))  # noqa: TRY400 -- a traceback may repeat a part of the body
            await send_response(send, 503, b"failed", RETRY_AFTER)

    async def _handle(self, scope: Scope, receive: Receive) -> str:
        if scope["path"] == HEALTH_PATH:
            if scope["method"] in {"GET", "HEAD"}:
                return "ok"
            allowed = (b"allow", b"GET, HEAD")
            raise RefusedRequestError(405, "method_not_allowed", allowed)
        self._check_route(scope["method"], scope["path"])
        head = _head_of(scope["headers"])
        if head.length > self.settings.max_body:
            raise RefusedRequestError(413, "too_large")
        body = None
        try:
            async with asyncio.timeout(RESPONSE_SECONDS):
                body = await self._read(receive)
                key_id = self.verifier.key_id_for(body, head.signature)
                if key_id is None:
                    raise RefusedRequestError(401, "signature_mismatch")
                return await self._store(body, key_id, head)
        except StoreError:
            raise RefusedRequestError(503, "store_unavailable", RETRY_AFTER) from None
        except TimeoutError:
            if body is None:
                raise RefusedRequestError(
                    408, "too_slow", (b"connection", b"close")
                ) from None
            raise RefusedRequestError(503, "store_too_slow", RETRY_AFTER) from None

    def _check_route(self, method: str, path: str) -> None:
        """Refuse other routes, and every delivery while none can be stored."""
        if (path.removesuffix("/") or path) not in self._paths:
            self.unknown_path = quote(path)[:_LOGGED_PATH_LENGTH]
            raise RefusedRequestError(404, "not_found")
        if method != "POST":
            raise RefusedRequestError(405, "method_not_allowed", (b"allow", b"POST"))
        if self.draining:
            raise RefusedRequestError(503, "draining", RETRY_AFTER)
        if self.disk_full:
            raise RefusedRequestError(503, "disk_full", RETRY_AFTER)

    async def _read(self, receive: Receive) -> bytes:
        """Read the body up to the size limits."""
        chunks: list[bytes] = []
        size = counted = 0
        try:
            while True:
                message = await receive()
                if message["type"] != "http.request":
                    raise ConnectionError
                chunks.append(message.get("body", b""))
                size += len(chunks[-1])
                if size > self.settings.max_body:
                    raise RefusedRequestError(413, "too_large")
                # Only large bodies share a budget, so that their senders cannot
                # keep out the usual small bodies.
                if size > _SMALL_BODY_BYTES:
                    self.unproven_bytes += size - counted
                    counted = size
                    if self.unproven_bytes > _MAX_UNPROVEN_BYTES:
                        raise RefusedRequestError(
                            503, "too_many_large_bodies", RETRY_AFTER
                        )
                if not message.get("more_body"):
                    return b"".join(chunks)
        finally:
            self.unproven_bytes -= counted

    async def _store(self, body: bytes, key_id: str, head: _Head) -> str:
        """Return the outcome of a verified delivery after its commit."""
        if len(body) > _SMALL_BODY_BYTES:
            event = await asyncio.to_thread(event_from, body)
        else:
            event = event_from(body)
        delivery = Delivery(
            body=body,
            signature=head.signature.decode("ascii"),
            key_id=key_id,
            received_at=timestamp(),
            headers=head.kept,
            event=event,
        )
        outcome = await self.commits.submit(delivery)
        self.count(outcome)
        self.keys[key_id] += 1
        return outcome


def _head_of(headers: list[tuple[bytes, bytes]]) -> _Head:
    """Return the headers of a delivery; refuse ambiguous or missing ones."""
    found: dict[bytes, bytes] = {}
    for name, value in headers:
        if name in found and (name.startswith(b"x-stairoids-") or name in _ONCE):
            raise RefusedRequestError(400, "repeated_header")
        found[name] = value.strip(b" \t")
    if _SIGNATURE not in found:
        raise RefusedRequestError(401, "signature_missing")
    if found.get(b"content-encoding", b"identity").lower() != b"identity":
        raise RefusedRequestError(
            415, "content_encoding", (b"accept-encoding", b"identity")
        )
    length = found.get(b"content-length", b"0")
    if not length.isdigit() or len(length) > 20:
        raise RefusedRequestError(400, "content_length")
    kept = {
        name.decode("ascii"): found[name][:_KEPT_HEADER_LENGTH].decode("latin-1")
        for name in _KEPT
        if name in found
    }
    return _Head(signature=found[_SIGNATURE], length=int(length), kept=kept)


async def send_response(
    send: Send,
    status: int,
    body: bytes,
    *headers: tuple[bytes, bytes],
    content_type: bytes = b"text/plain; charset=utf-8",
) -> None:
    """Send a whole response."""
    await send(
        {
            "type": "http.response.start",
            "status": status,
            "headers": [
                (b"content-type", content_type),
                (b"content-length", str(len(body)).encode()),
                *headers,
            ],
        }
    )
    await send({"type": "http.response.body", "body": body})
