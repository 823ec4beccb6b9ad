"""The courier: brings deliveries to their endpoints, again if need be.

Deliveries wait as tasks of the server's loop. A delivery that waits for its next
attempt occupies nothing, and an endpoint that hangs holds up only itself.
"""

from __future__ import annotations

import asyncio
import ssl
import time
import uuid
from collections import Counter
from itertools import islice
from typing import TYPE_CHECKING

from stairoids_sandbox.exceptions import NotRunningError
from stairoids_sandbox.webhooks.delivery import MAX_ATTEMPTS, Attempt, Delivery
from stairoids_sandbox.webhooks.signature import signature_of

if TYPE_CHECKING:
    import httpx

    from stairoids_sandbox.webhooks.delivery import Endpoint

_AT_ONCE_PER_URL = 16
_MAX_RESPONSE_BYTES = 1_048_576


class Courier:
    """Take deliveries from any thread; attempt them in the server's loop.

    Args:
        retry_base_seconds: Delay before the second attempt; each further delay is
            twice the one before. The real delays are not documented.
        timeout_seconds: How long an endpoint may take to answer.

    Attributes:
        ended: How many deliveries ended as ``success`` and as ``failed``.
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

    def __len__(self) -> int:
        return len(self._deliveries)

    def all(self) -> list[Delivery]:
        """Copy the deliveries, in the order they were made."""
        return list(self._deliveries.values())

    def latest(self, number: int) -> list[Delivery]:
        """List so many deliveries at most, the newest first."""
        return list(islice(reversed(self._deliveries.values()), number))

    def get(self, delivery_id: str) -> Delivery | None:
        """Find a delivery by its id."""
        return self._deliveries.get(delivery_id)

    def open(self, loop: asyncio.AbstractEventLoop) -> None:
        """Take deliveries from now on."""
        self._loop = loop

    async def close(self) -> None:
        """Give up what is under way; take nothing more."""
        self._loop = None
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._client is not None:
            await self._client.aclose()

    def send(
        self, event: str, body: bytes, endpoint: Endpoint, *, signal_id: str
    ) -> Delivery:
        """Start a delivery and return it at once.

        Raises:
            NotRunningError: The sandbox does not run; the delivery is not made.
        """
        delivery = Delivery(
            id=str(uuid.uuid4()),
            event=event,
            endpoint=endpoint,
            body=body,
            signal_id=signal_id,
        )
        if self._loop is None:
            msg = "deliveries need a running sandbox"
            raise NotRunningError(msg)
        self._deliveries[delivery.id] = delivery
        self._loop.call_soon_threadsafe(self._start, delivery)
        return delivery

    def send_again(self, delivery: Delivery) -> Delivery:
        """Start a delivery of the same bytes to the same endpoint.

        Raises:
            NotRunningError: The sandbox does not run; the delivery is not made.
        """
        return self.send(
            delivery.event,
            delivery.body,
            delivery.endpoint,
            signal_id=delivery.signal_id,
        )

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
                await asyncio.sleep(self._retry_base * 2 ** (number - 1))
            async with slot:
                attempt = await self._attempt(delivery)
            delivery.attempts = (*delivery.attempts, attempt)
            if attempt.acknowledged:
                break
        self.ended[delivery.status] += 1

    async def _attempt(self, delivery: Delivery) -> Attempt:
        import httpx  # noqa: PLC0415 -- takes half a second, which a sandbox without webhooks saves

        if self._client is None:
            self._client = _http_client()
        delivery_id = str(uuid.uuid4())
        began = time.monotonic()
        status, error = None, None
        try:
            async with asyncio.timeout(self._timeout):
                status = await _post(self._client, delivery, delivery_id)
        except TimeoutError:
            error = f"no response within {self._timeout:g} s"
        except (httpx.HTTPError, httpx.InvalidURL) as problem:
            error = str(problem) or type(problem).__name__
        return Attempt(
            delivery_id=delivery_id,
            status=status,
            error=error,
            began=began,
            ended=time.monotonic(),
        )


def _http_client() -> httpx.AsyncClient:
    """Make a client that opens a connection for each request.

    It follows no redirects and reads no proxy, password or certificate from the
    environment.
    """
    import httpx  # noqa: PLC0415 -- as above

    client = httpx.AsyncClient(
        verify=ssl.create_default_context(),
        timeout=None,  # noqa: S113 -- an attempt as a whole has one
        trust_env=False,
        limits=httpx.Limits(max_connections=None, max_keepalive_connections=0),
    )
    client.headers.clear()  # the documentation shows no User-Agent and no Accept
    return client


async def _post(client: httpx.AsyncClient, delivery: Delivery, delivery_id: str) -> int:
    """Post the body of a delivery and return the status of the response.

    The body of the response is read before the connection closes, because some
    receivers fail otherwise. It is not kept.

    Raises:
        httpx.HTTPError: No connection, or no complete response.
    """
    endpoint = delivery.endpoint
    headers = {
        **endpoint.headers,
        "Connection": "close",
        "Content-Type": "application/json",
        "X-Stairoids-Event": delivery.event,
        "X-Stairoids-Delivery": delivery_id,
    }
    if endpoint.secret is not None:
        headers["X-Stairoids-Signature"] = signature_of(delivery.body, endpoint.secret)
    async with client.stream(
        "POST",
        endpoint.url,
        headers=[(name.encode(), value.encode()) for name, value in headers.items()],
        content=delivery.body,
    ) as response:
        size = 0
        async for chunk in response.aiter_raw():
            size += len(chunk)
            if size > _MAX_RESPONSE_BYTES:
                break
        return response.status_code
