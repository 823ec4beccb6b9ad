"""Send deliveries to their endpoints over HTTP, with retries.

Each delivery is a task in the server's loop. An endpoint that hangs delays only its own
deliveries, and a delivery that waits for its next attempt delays no other.
"""

from __future__ import annotations

import asyncio
import ssl
import time
import uuid
from collections import Counter
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import TYPE_CHECKING

from stairoids_sandbox.exceptions import NotRunningError
from stairoids_sandbox.webhooks.delivery import (
    KEPT_BYTES,
    MAX_ATTEMPTS,
    Attempt,
    Delivery,
)

if TYPE_CHECKING:
    import httpx

    from stairoids_sandbox.state.models import Signal
    from stairoids_sandbox.webhooks.delivery import Endpoint, Owner

_AT_ONCE_PER_URL = 16
KEPT = 10_000  # deliveries; older ones are forgotten
_MAX_RESPONSE_BYTES = 1_048_576


class WebhookSender:
    """Accept deliveries from any thread, and send them in the server's loop.

    Args:
        retry_base_seconds: Delay before the second attempt. Each further delay is
            twice as long. The real delays are not documented.
        timeout_seconds: The longest time for one attempt.

    Attributes:
        ended: The number of deliveries that ended as ``success`` and as ``failed``.
        started: The number of all deliveries, also of forgotten ones.
    """

    def __init__(
        self, *, retry_base_seconds: float = 1.0, timeout_seconds: float = 10.0
    ) -> None:
        self._retry_base = retry_base_seconds
        self._timeout = timeout_seconds
        self._loop: asyncio.AbstractEventLoop | None = None
        self._client: httpx.AsyncClient | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._slots: dict[str, asyncio.Semaphore] = {}
        self._deliveries: dict[str, Delivery] = {}
        self.ended: Counter[str] = Counter()
        self.started = 0

    def all(self) -> list[Delivery]:
        """Return a copy of the deliveries in order of creation."""
        return list(self._deliveries.values())

    def get(self, delivery_id: str) -> Delivery | None:
        """Return the delivery with an id."""
        return self._deliveries.get(delivery_id)

    def open(self, loop: asyncio.AbstractEventLoop) -> None:
        """Accept deliveries from now on."""
        self._loop = loop

    async def close(self) -> None:
        """Cancel the unfinished deliveries and accept no more."""
        self._loop = None
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._client is not None:
            await self._client.aclose()

    def send(
        self,
        event: str,
        body: bytes,
        owner: Owner,
        endpoint: Endpoint,
        *,
        signal: Signal,
        again_of: Delivery | None = None,
    ) -> Delivery:
        """Start a delivery and return it at once.

        Raises:
            NotRunningError: The sandbox does not run.
        """
        if self._loop is None:
            raise NotRunningError("deliveries need a running sandbox")
        self.started += 1
        delivery = Delivery(
            id=str(uuid.uuid4()),
            event=event,
            endpoint=endpoint,
            owner=owner,
            body=body,
            signal=signal,
            created=time.monotonic(),
            sequence=self.started,
            again_of=again_of.id if again_of else None,
        )
        if again_of is not None:
            again_of.again_as = delivery.id
        self._deliveries[delivery.id] = delivery
        if len(self._deliveries) > KEPT:
            del self._deliveries[next(iter(self._deliveries))]
        self._loop.call_soon_threadsafe(self._start, delivery)
        return delivery

    def _start(self, delivery: Delivery) -> None:
        if self._loop is not None:
            task = self._loop.create_task(self._deliver(delivery))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _deliver(self, delivery: Delivery) -> None:
        url = delivery.endpoint.url
        slot = self._slots.setdefault(url, asyncio.Semaphore(_AT_ONCE_PER_URL))
        for number in range(MAX_ATTEMPTS):
            if number:
                delay = self._retry_base * 2 ** (number - 1)
                delivery.next_at = time.monotonic() + delay
                await asyncio.sleep(delay)
            async with slot:
                delivery.next_at = None
                attempt = await self._attempt(delivery)
            delivery.attempts = (*delivery.attempts, attempt)
            if attempt.acknowledged:
                break
        self.ended[delivery.status] += 1

    async def _attempt(self, delivery: Delivery) -> Attempt:
        import httpx  # noqa: PLC0415 -- slow, and only needed for webhooks

        if self._client is None:
            self._client = _http_client()
        delivery_id = str(uuid.uuid4())
        request = self._client.stream(
            "POST",
            delivery.endpoint.url,
            headers=_headers_of(delivery, delivery_id),
            content=delivery.body,
        )
        began = time.monotonic()
        status, error, content_type, body = None, None, "", bytearray()
        try:
            async with asyncio.timeout(self._timeout), request as response:
                status = response.status_code
                content_type = response.headers.get("content-type", "")
                await _read(response, body)
        except TimeoutError:
            status, error = None, f"no response within {self._timeout:g} s"
        except (httpx.HTTPError, httpx.InvalidURL, UnicodeError) as problem:
            if status is None:  # an error in the body does not matter
                error = str(problem) or type(problem).__name__
        return Attempt(
            delivery_id=delivery_id,
            status=status,
            error=error,
            began=began,
            ended=time.monotonic(),
            content_type=content_type,
            response=bytes(body),
        )


def _http_client() -> httpx.AsyncClient:
    """Return a client that opens a connection for each request.

    It follows no redirects, takes no cookies, and reads no proxy, password or
    certificate from the environment.
    """
    import httpx  # noqa: PLC0415 -- same

    client = httpx.AsyncClient(
        verify=ssl.create_default_context(),
        timeout=None,  # noqa: S113 -- an attempt as a whole has one
        trust_env=False,
        cookies=CookieJar(DefaultCookiePolicy(allowed_domains=[])),
        limits=httpx.Limits(max_connections=None, max_keepalive_connections=0),
    )
    client.headers.clear()  # the documentation shows no User-Agent and no Accept
    return client


def _headers_of(delivery: Delivery, delivery_id: str) -> list[tuple[bytes, bytes]]:
    headers = {
        **delivery.endpoint.headers,
        "Connection": "close",
        "Content-Type": "application/json",
        "X-Stairoids-Event": delivery.event,
        "X-Stairoids-Delivery": delivery_id,
    }
    if (signature := delivery.signature) is not None:
        headers["X-Stairoids-Signature"] = signature
    return [(name.encode(), value.encode()) for name, value in headers.items()]


async def _read(response: httpx.Response, kept: bytearray) -> None:
    """Read the body of a response, because some receivers fail otherwise.

    Args:
        kept: Gets its first bytes, also if the connection breaks later.
    """
    size = 0
    async for chunk in response.aiter_raw():
        size += len(chunk)
        kept += chunk[: KEPT_BYTES - len(kept)]
        if size > _MAX_RESPONSE_BYTES:
            return
