"""Commit waiting deliveries to the store together, in one thread.

A commit waits for the disk, so its time hardly depends on the number of deliveries. The
deliveries that arrive during a commit share the next one. A single delivery is
committed at once.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import queue
import threading
import time
from typing import TYPE_CHECKING

from tap_stairoids_webhooks.exceptions import StoreError, StoreUnavailableError
from tap_stairoids_webhooks.receiver.log_lines import LogLine

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from tap_stairoids_webhooks.event import Delivery
    from tap_stairoids_webhooks.store.schema import Outcome, RefusalCount
    from tap_stairoids_webhooks.store.store import EventStore

    _Item = tuple[Delivery, asyncio.Future[Outcome]]
    _Refusals = Mapping[str, RefusalCount]

logger = logging.getLogger(__name__)

MAX_BATCH_ROWS = 256
MAX_BATCH_BYTES = 8 * 1024 * 1024
MAX_WAITING_BYTES = 64 * 1024 * 1024


class CommitQueue:
    """Commits deliveries of the event loop in a thread.

    Args:
        store: The store. Only the thread of this queue appends to it.
        last_commit_at: Unix time of the last commit before the start.
        on_commit: Called after a commit with its number of rows and its seconds.

    Attributes:
        waiting: Number of deliveries that are not committed yet.
        waiting_bytes: Size of their bodies.
        failing: True if the last commit failed.
        last_commit_at: Unix time of the last commit; None for never.
    """

    def __init__(
        self,
        store: EventStore,
        *,
        last_commit_at: float | None = None,
        on_commit: Callable[[int, float], None] | None = None,
    ) -> None:
        self._store = store
        self._waiting: queue.SimpleQueue[_Item | _Refusals | None] = queue.SimpleQueue()
        self._left_over: _Item | None = None
        self._refusals: _Refusals = {}
        self.waiting = 0
        self.waiting_bytes = 0
        self.failing = False
        self.last_commit_at = last_commit_at
        self._on_commit = on_commit
        self._thread = threading.Thread(target=self._run, name="commits")

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def submit(self, delivery: Delivery) -> asyncio.Future[Outcome]:
        """Queue a delivery.

        Returns:
            A future of the outcome. It fails with a `StoreError` if the delivery
            was not committed.

        Raises:
            StoreUnavailableError: Too many deliveries are waiting.
        """
        if self.waiting_bytes > MAX_WAITING_BYTES:
            msg = "too many deliveries are waiting for the store"
            raise StoreUnavailableError(msg)
        future = asyncio.get_running_loop().create_future()
        self.waiting += 1
        self.waiting_bytes += len(delivery.body)
        self._waiting.put((delivery, future))
        return future

    def add_refusals(self, refusals: _Refusals) -> None:
        """Queue counts of refused deliveries, by reason; lost if the store fails."""
        self._waiting.put(refusals)

    def close(self) -> None:
        """Commit the waiting deliveries, then stop the thread."""
        self._waiting.put(None)
        self._thread.join()

    def _run(self) -> None:
        while (batch := self._next_batch()) is not None:
            if batch:
                self._commit(batch)
            if self._refusals:
                with contextlib.suppress(StoreError):  # logged when a commit fails
                    self._store.add_refusals(self._refusals)
                self._refusals = {}

    def _commit(self, batch: list[_Item]) -> None:
        result: list[Outcome] | StoreError
        began = time.perf_counter()
        try:
            result = self._store.append([delivery for delivery, _ in batch])
        except StoreError as error:
            result = error
        except Exception as error:  # noqa: BLE001 -- without its thread the receiver could not respond any more
            result = StoreUnavailableError(f"not stored: {type(error).__name__}")
        else:
            self.last_commit_at = time.time()
            if self._on_commit is not None:
                self._on_commit(len(batch), time.perf_counter() - began)
        self._report(result, len(batch))
        loop = batch[0][1].get_loop()
        # A closed loop has no request that waits for the outcome.
        with contextlib.suppress(RuntimeError):
            loop.call_soon_threadsafe(self._resolve, batch, result)

    def _next_batch(self) -> list[_Item] | None:
        """Wait for a delivery and return it with those behind it; None at the end.

        The batch is empty if there are only refusals to store.
        """
        item = self._left_over or self._waiting.get()
        self._left_over = None
        batch: list[_Item] = []
        size = 0
        while item is not None:
            if not isinstance(item, tuple):
                self._refusals = item
                return batch
            size += len(item[0].body)
            if batch and size > MAX_BATCH_BYTES:
                self._left_over = item
                return batch
            batch.append(item)
            if len(batch) == MAX_BATCH_ROWS:
                return batch
            try:
                item = self._waiting.get_nowait()
            except queue.Empty:
                return batch
        if not batch:
            return None
        self._waiting.put(None)  # the end of the queue, for the next call
        return batch

    def _resolve(self, batch: list[_Item], result: list[Outcome] | StoreError) -> None:
        """Resolve the futures that still wait; runs on the event loop."""
        for index, (delivery, future) in enumerate(batch):
            self.waiting -= 1
            self.waiting_bytes -= len(delivery.body)
            if future.done():
                continue
            if isinstance(result, StoreError):
                future.set_exception(result)
            else:
                future.set_result(result[index])

    def _report(self, result: list[Outcome] | StoreError, number: int) -> None:
        """Log the first failure and the recovery, but no failure in between."""
        if isinstance(result, StoreError) and not self.failing:
            logger.error(LogLine("store failing", deliveries=number, error=str(result)))
        elif self.failing and not isinstance(result, StoreError):
            logger.info(LogLine("store working again", deliveries=number))
        self.failing = isinstance(result, StoreError)
