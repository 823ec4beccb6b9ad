"""The courier: brings deliveries to their endpoints, again if need be.

Deliveries wait as tasks of the server's loop. A delivery that waits for its next
attempt occupies nothing, and an endpoint that hangs holds up only itself.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from collections import Counter
from itertools import islice
from typing import TYPE_CHECKING

from stairoids_sandbox.exceptions import NotRunningError
from stairoids_sandbox.webhooks.delivery import MAX_ATTEMPTS, Attempt, Delivery
from stairoids_sandbox.webhooks.http_request import post
from stairoids_sandbox.webhooks.signature import signature_of

if TYPE_CHECKING:
    from stairoids_sandbox.webhooks.delivery import Endpoint

_AT_ONCE_PER_URL = 16


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
        began = time.monotonic()
        delivery_id = str(uuid.uuid4())
        headers = {
            **delivery.endpoint.headers,
            "Content-Type": "application/json",
            "X-Stairoids-Event": delivery.event,
            "X-Stairoids-Delivery": delivery_id,
        }
        if delivery.endpoint.secret is not None:
            headers["X-Stairoids-Signature"] = signature_of(
                delivery.body, delivery.endpoint.secret
            )
        status, error = None, None
        try:
            async with asyncio.timeout(self._timeout):
                status = await post(delivery.endpoint.url, headers, delivery.body)
        except TimeoutError:
            error = f"no answer within {self._timeout:g} s"
        except OSError as problem:
            error = str(problem) or type(problem).__name__
        return Attempt(
            delivery_id=delivery_id,
            status=status,
            error=error,
            began=began,
            ended=time.monotonic(),
        )
