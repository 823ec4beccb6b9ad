"""The receiver: what is answered to a request, and when.

2xx means stored: it is sent after the commit, never before. Whatever is wrong
with a request is found in a fixed order, the cheap checks first, and nothing of
a body is parsed, stored or logged before its signature is proven. Stairoids
sends again on anything but 2xx, so when in doubt the answer is 503.
"""

from __future__ import annotations

import asyncio
import logging
import traceback
from collections import Counter
from dataclasses import dataclass
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

from tap_stairoids_webhooks.event import Delivery, event_from
from tap_stairoids_webhooks.exceptions import StoreError
from tap_stairoids_webhooks.receiver.log_lines import Fact
from tap_stairoids_webhooks.settings import DEFAULT_MAX_BODY_BYTES, DEFAULT_PATH
from tap_stairoids_webhooks.store.schema import Outcome
from tap_stairoids_webhooks.timestamps import now

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, MutableMapping

    from tap_stairoids_webhooks.receiver.commit_queue import CommitQueue
    from tap_stairoids_webhooks.signature import Verifier

    Scope = MutableMapping[str, Any]
    Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
    Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

logger = logging.getLogger(__name__)

ALIAS_PATH = "/webhook/stairoids"
ANSWER_SECONDS = 8.0  # from the end of the head on; Stairoids gives up after 10

#: Everything that may become of a request, so that each is counted from 0 on.
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
    "store_too_slow",
    "store_unavailable",
    "too_large",
    "too_many_large_bodies",
    "too_slow",
)

#: Those that somebody should look at.
ALARMING = {
    Outcome.CONFLICT,
    "disk_full",
    "failed",
    "signature_mismatch",
    "signature_missing",
    "store_too_slow",
    "store_unavailable",
}

_RETRY_AFTER = (b"retry-after", b"10")
_SMALL_BODY_BYTES = 64 * 1024
_MAX_UNPROVEN_BYTES = 64 * 1024 * 1024
_KEPT_HEADER_LENGTH = 200
_SIGNATURE = b"x-stairoids-signature"
_EVENT = b"x-stairoids-event"
_DELIVERY = b"x-stairoids-delivery"
_KEPT = (_EVENT, _DELIVERY, b"content-type")


class Refusal(Exception):  # noqa: N818 -- an answer, not a fault of ours
    """An answer other than 2xx.

    Args:
        status: The HTTP status.
        reason: In a word, for counts.
        headers: What the status asks for.
        text: The answer's text; the reason, if it is not given.
    """

    def __init__(
        self,
        status: int,
        reason: str,
        *headers: tuple[bytes, bytes],
        text: str | None = None,
    ) -> None:
        super().__init__(reason)
        self.text = text or reason
        self.status = status
        self.reason = reason
        self.headers = headers


@dataclass(frozen=True, slots=True, kw_only=True)
class _Head:
    """What the checks need of a request's headers."""

    signature: bytes
    length: int
    kept: dict[str, str]


class ReceiverApp:
    """The ASGI application behind the public listener.

    Args:
        verifier: Knows the secrets.
        commits: Where proven deliveries go.
        path: Where deliveries come in, beside the alias.
        max_body_bytes: A larger body is refused.

    Attributes:
        counts: Answers so far, by what became of the request.
        last_at: When the last of each was.
        keys: Deliveries taken so far, by the secret that signed them.
        draining: Set to refuse new deliveries while the old ones are finished.
        disk_full: Set to refuse new deliveries until there is room.
    """

    def __init__(
        self,
        *,
        verifier: Verifier,
        commits: CommitQueue,
        path: str = DEFAULT_PATH,
        max_body_bytes: int = DEFAULT_MAX_BODY_BYTES,
    ) -> None:
        self._verifier = verifier
        self._commits = commits
        self._paths = {path, ALIAS_PATH}
        self._max_body_bytes = max_body_bytes
        self._unproven_bytes = 0
        self.counts: Counter[str] = Counter()
        self.last_at: dict[str, str] = {}
        self.keys: Counter[str] = Counter()
        self.draining = False
        self.disk_full = False

    @property
    def unproven_bytes(self) -> int:
        """How much of large bodies is in memory, not yet verified."""
        return self._unproven_bytes

    @property
    def key_ids(self) -> list[str]:
        """The secrets that are active, by their names, the newest first."""
        return self._verifier.key_ids

    def count(self, result: str) -> None:
        """Count what became of a request, now."""
        self.counts[result] += 1
        self.last_at[result] = now()

    def refusals(self) -> Counter[str]:
        """Return how many requests were not taken so far, by reason."""
        taken = {str(outcome) for outcome in Outcome}
        return Counter({k: n for k, n in self.counts.items() if k not in taken})

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request; no exception reaches the server."""
        try:
            text = await self._handle(scope, receive)
            await send_answer(send, 200, text.encode())
        except Refusal as refusal:
            self.count(refusal.reason)
            text = refusal.text
            await send_answer(send, refusal.status, text.encode(), *refusal.headers)
        except ConnectionError:
            self.count("disconnected")
        except Exception as error:  # noqa: BLE001 -- the edge: a defect of ours must still be a 503
            self.count("failed")
            # Not the error's text, which may repeat what it choked on.
            where = traceback.extract_tb(error.__traceback__)[-1]
            at = f"{PurePath(where.filename).name}:{where.lineno}"
            logger.error(Fact("request failed", error=type(error).__name__, at=at))  # noqa: TRY400 -- same
            await send_answer(send, 503, b"failed", _RETRY_AFTER)

    async def _handle(self, scope: Scope, receive: Receive) -> str:
        if scope["path"] == "/healthz":
            return _health(scope["method"])
        self._check_taken(scope["method"], scope["path"])
        head = _head_of(scope["headers"])
        if head.length > self._max_body_bytes:
            raise Refusal(413, "too_large")
        body = None
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                body = await self._read(receive)
                key_id = self._verifier.key_id_for(body, head.signature)
                if key_id is None:
                    raise Refusal(401, "signature_mismatch")
                return await self._store(body, key_id, head)
        except StoreError:
            raise Refusal(503, "store_unavailable", _RETRY_AFTER) from None
        except TimeoutError:
            if body is None:
                raise Refusal(408, "too_slow", (b"connection", b"close")) from None
            raise Refusal(503, "store_too_slow", _RETRY_AFTER) from None

    def _check_taken(self, method: str, path: str) -> None:
        """Refuse what is no delivery, and deliveries while none are taken."""
        if path not in self._paths:
            raise Refusal(404, "not_found")
        if method != "POST":
            raise Refusal(405, "method_not_allowed", (b"allow", b"POST"))
        if self.draining:
            raise Refusal(503, "draining", _RETRY_AFTER)
        if self.disk_full:
            raise Refusal(503, "disk_full", _RETRY_AFTER)

    async def _read(self, receive: Receive) -> bytes:
        """Read the body, never more than may be kept."""
        chunks: list[bytes] = []
        size = counted = 0
        try:
            while True:
                message = await receive()
                if message["type"] != "http.request":
                    raise ConnectionError
                chunks.append(message.get("body", b""))
                size += len(chunks[-1])
                if size > self._max_body_bytes:
                    raise Refusal(413, "too_large")
                # Only large bodies share a budget, so that senders of those
                # cannot keep the usual small one out.
                if size > _SMALL_BODY_BYTES:
                    self._unproven_bytes += size - counted
                    counted = size
                    if self._unproven_bytes > _MAX_UNPROVEN_BYTES:
                        raise Refusal(503, "too_many_large_bodies", _RETRY_AFTER)
                if not message.get("more_body"):
                    return b"".join(chunks)
        finally:
            self._unproven_bytes -= counted

    async def _store(self, body: bytes, key_id: str, head: _Head) -> str:
        """Return what became of a proven delivery, once that is on disk."""
        if len(body) > _SMALL_BODY_BYTES:
            event = await asyncio.to_thread(event_from, body)
        else:
            event = event_from(body)
        delivery = Delivery(
            body=body,
            signature=head.signature.decode("ascii"),
            key_id=key_id,
            received_at=now(),
            headers=head.kept,
            event=event,
        )
        outcome = await self._commits.submit(delivery)
        self.count(outcome)
        self.keys[key_id] += 1
        return outcome


def _head_of(headers: list[tuple[bytes, bytes]]) -> _Head:
    """Check the headers of a delivery.

    Raises:
        Refusal: They are missing, ambiguous, or announce what is not taken.
    """
    found: dict[bytes, bytes] = {}
    for name, value in headers:
        if name in found and name.startswith(b"x-stairoids-"):
            raise Refusal(400, "repeated_header")
        found[name] = value
    if _SIGNATURE not in found:
        raise Refusal(401, "signature_missing")
    if found.get(b"content-encoding", b"identity").strip().lower() != b"identity":
        raise Refusal(415, "content_encoding", (b"accept-encoding", b"identity"))
    length = found.get(b"content-length", b"0")
    if not length.isdigit() or len(length) > 20:
        raise Refusal(400, "content_length")
    kept = {
        name.decode("ascii"): found[name][:_KEPT_HEADER_LENGTH].decode("latin-1")
        for name in _KEPT
        if name in found
    }
    return _Head(signature=found[_SIGNATURE], length=int(length), kept=kept)


def _health(method: str) -> str:
    if method not in {"GET", "HEAD"}:
        raise Refusal(405, "method_not_allowed", (b"allow", b"GET, HEAD"))
    return "ok"


async def send_answer(
    send: Send,
    status: int,
    body: bytes,
    *headers: tuple[bytes, bytes],
    content_type: bytes = b"text/plain; charset=utf-8",
) -> None:
    """Answer a request."""
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
