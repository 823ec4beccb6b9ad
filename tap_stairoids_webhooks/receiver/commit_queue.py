"""The commit queue: one thread that appends whatever is waiting, in one commit.

A commit waits for the disk, so its cost hardly depends on how many deliveries it
holds. While one is under way the next deliveries gather; nobody waits for
company, and a single delivery is committed at once.
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
from tap_stairoids_webhooks.receiver.log_lines import Fact

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from tap_stairoids_webhooks.event import Delivery
    from tap_stairoids_webhooks.store.schema import Outcome, Refused
    from tap_stairoids_webhooks.store.store import EventStore

    _Item = tuple[Delivery, asyncio.Future[Outcome]]
    _Refusals = Mapping[str, Refused]

logger = logging.getLogger(__name__)

MAX_BATCH_ROWS = 256
MAX_BATCH_BYTES = 8 * 1024 * 1024
MAX_WAITING_BYTES = 64 * 1024 * 1024


class CommitQueue:
    """Takes deliveries from the event loop and tells it when they are on disk.

    Args:
        store: Where to append; only this queue's thread does.
        last_commit_at: When that was last done before, as `time.time` tells it.

    Attributes:
        waiting: Deliveries not yet committed.
        waiting_bytes: The size of their bodies.
        failing: True if the last commit failed.
        last_commit_at: When deliveries were last committed; None for never.
        on_commit: Called after a commit with its rows and seconds.
    """

    def __init__(
        self, store: EventStore, *, last_commit_at: float | None = None
    ) -> None:
        self._store = store
        self._waiting: queue.SimpleQueue[_Item | _Refusals | None] = queue.SimpleQueue()
        self._left_over: _Item | None = None
        self._notes: _Refusals = {}
        self.waiting = 0
        self.waiting_bytes = 0
        self.failing = False
        self.last_commit_at = last_commit_at
        self.on_commit: Callable[[int, float], None] = lambda _rows, _seconds: None
        self._thread = threading.Thread(target=self._run, name="commits")

    def start(self) -> None:
        """Begin to commit."""
        self._thread.start()

    def submit(self, delivery: Delivery) -> asyncio.Future[Outcome]:
        """Queue a delivery.

        Returns:
            Done once the delivery is committed, or with the `StoreError` that
            kept it from being so.

        Raises:
            StoreUnavailableError: Too much is waiting already.
        """
        if self.waiting_bytes > MAX_WAITING_BYTES:
            msg = "too many deliveries are waiting for the store"
            raise StoreUnavailableError(msg)
        future = asyncio.get_running_loop().create_future()
        self.waiting += 1
        self.waiting_bytes += len(delivery.body)
        self._waiting.put((delivery, future))
        return future

    def note(self, refusals: _Refusals) -> None:
        """Have the store add up what was refused, by reason.

        It is lost if the store fails.
        """
        self._waiting.put(refusals)

    def free_bytes(self) -> int | None:
        """Return the room left on the disk of the store, if it is on ours."""
        return self._store.free_bytes()

    def close(self) -> None:
        """Commit what is waiting, then stop."""
        self._waiting.put(None)
        self._thread.join()

    def _run(self) -> None:
        while (batch := self._next_batch()) is not None:
            if batch:
                self._commit(batch)
            if self._notes:
                with contextlib.suppress(StoreError):  # told when a delivery meets it
                    self._store.note_refusals(self._notes)
                self._notes = {}

    def _commit(self, batch: list[_Item]) -> None:
        result: list[Outcome] | StoreError
        began = time.perf_counter()
        try:
            result = self._store.append([delivery for delivery, _ in batch])
        except StoreError as error:
            result = error
        except Exception as error:  # noqa: BLE001 -- a dead thread would answer nobody ever again
            result = StoreUnavailableError(f"not stored: {type(error).__name__}")
        else:
            self.last_commit_at = time.time()
            self.on_commit(len(batch), time.perf_counter() - began)
        self._report(result, len(batch))
        loop = batch[0][1].get_loop()
        # A closed loop has no request left that waits for the answer.
        with contextlib.suppress(RuntimeError):
            loop.call_soon_threadsafe(self._settle, batch, result)

    def _next_batch(self) -> list[_Item] | None:
        """Wait for one delivery, then take those that are there; None at the end.

        Refusals are put aside; if they come alone, the batch is empty.
        """
        item = self._left_over or self._waiting.get()
        self._left_over = None
        batch: list[_Item] = []
        size = 0
        while item is not None:
            if not isinstance(item, tuple):
                self._notes = item
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
        self._waiting.put(None)  # met the end: come back to it
        return batch

    def _settle(self, batch: list[_Item], result: list[Outcome] | StoreError) -> None:
        """Answer those who still wait; runs on the event loop."""
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
        """Log the first failure and the recovery, not each of a thousand."""
        if isinstance(result, StoreError) and not self.failing:
            logger.error(Fact("store failing", deliveries=number, error=str(result)))
        elif self.failing and not isinstance(result, StoreError):
            logger.info(Fact("store working again", deliveries=number))
        self.failing = isinstance(result, StoreError)
