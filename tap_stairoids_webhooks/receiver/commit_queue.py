"""Commit waiting deliveries to the store together, in one thread.

A commit waits for the disk, so its time hardly depends on the number of deliveries. The
deliveries that arrive during a commit share the next one. A single delivery is
committed at once. After a slow commit of several deliveries the thread waits a moment
for more, because senders that got a response send their next delivery.

A batch has at most half of the deliveries that waited at the end of the last commit. So
the event loop responds to one half of the senders while the other half is committed.

While no delivery comes, the thread tries the store every second, so that `failing`
follows the store in both directions.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from tap_stairoids_webhooks.event import Delivery
from tap_stairoids_webhooks.exceptions import (
    RowRefusedError,
    StoreError,
    StoreUnavailableError,
)
from tap_stairoids_webhooks.log_lines import LogLine
from tap_stairoids_webhooks.store.schema import Outcome, RefusalCount
from tap_stairoids_webhooks.store.store import EventStore

_Item = tuple[Delivery, asyncio.Future[Outcome]]
_Refusals = Mapping[str, RefusalCount]
_Result = Outcome | StoreError

logger = logging.getLogger(__name__)

MAX_BATCH_ROWS = 256
_SMALL_BATCH_ROWS = 16  # smaller ones would not be committed sooner
MAX_BATCH_BYTES = 8 * 1024 * 1024  # and the rest of the last delivery
MAX_WAITING_BYTES = 64 * 1024 * 1024
STUCK_SECONDS = 9.0  # the deliveries have got 503 by then
_TRY_SECONDS = 1.0
_FAST_COMMIT_SECONDS = 0.006
_MAX_PAUSE_SECONDS = 0.005


@dataclass(eq=False)
class CommitQueue:
    """Commits deliveries of the event loop in a thread. Only this thread appends.

    Attributes:
        waiting_bytes: Size of the bodies that are not committed yet.
        failing: True if the store failed when it was last used.
        failure: The error of that use; empty if the store works.
        last_commit_at: Unix time of the last commit; None for never.
    """

    store: EventStore
    last_commit_at: float | None = None
    on_commit: Callable[[int, float], None] | None = None
    waiting_bytes: int = 0
    failing: bool = False
    failure: str = ""

    def __post_init__(self) -> None:
        self._waiting: queue.SimpleQueue[_Item | _Refusals | None] = queue.SimpleQueue()
        self._since: deque[float] = deque()  # when each waiting delivery came
        self._busy_since: float | None = None
        self._pause = 0.0  # seconds before the next commit
        self._most_rows = MAX_BATCH_ROWS  # in the next commit
        self._thread = threading.Thread(target=self._run, name="commits", daemon=True)

    @property
    def waiting(self) -> int:
        """Number of deliveries that are not committed yet."""
        return len(self._since)

    @property
    def oldest_seconds(self) -> float:
        """How long the oldest delivery has waited; 0 for none."""
        try:
            return time.monotonic() - self._since[0]
        except IndexError:
            return 0.0

    @property
    def is_alive(self) -> bool:
        """Whether the thread runs."""
        return self._thread.is_alive()

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def submit(self, delivery: Delivery) -> asyncio.Future[Outcome]:
        """Queue a delivery; return a future of its outcome, or of a `StoreError`.

        `StoreUnavailableError` if too many deliveries are waiting.
        """
        if self.waiting_bytes > MAX_WAITING_BYTES:
            raise StoreUnavailableError("too many deliveries are waiting for the store")
        future = asyncio.get_running_loop().create_future()
        self._since.append(time.monotonic())
        self.waiting_bytes += len(delivery.body)
        self._waiting.put((delivery, future))
        return future

    def add_refusals(self, refusals: _Refusals) -> None:
        """Queue counts of refused deliveries, by reason; lost if the store fails."""
        self._waiting.put(refusals)

    @property
    def is_stuck(self) -> bool:
        """Whether the store has not responded for long, as a dead peer never does."""
        since = self._busy_since
        return since is not None and time.monotonic() - since > STUCK_SECONDS

    def close(self, *, seconds: float | None = None) -> bool:
        """Commit the waiting deliveries; return whether the thread ended in time."""
        self._waiting.put(None)
        self._thread.join(seconds)
        return not self.is_alive

    def _run(self) -> None:
        is_open = True
        while is_open:
            try:
                is_open = self._work()
            except Exception as error:  # noqa: BLE001 -- without its thread the receiver could not respond any more
                self.failing = True
                name = type(error).__name__
                logger.error(LogLine("commit thread failed", error=name))  # noqa: TRY400 -- a traceback may repeat a body

    def _work(self) -> bool:
        """Commit the next batch, or try the store; return False at the end."""
        try:
            batch, refusals = self._next_batch()
        except queue.Empty:
            self._try_store()
            return True
        if batch:
            self._commit(batch)
        if refusals:
            with contextlib.suppress(StoreError):  # logged when a commit fails
                self._use(lambda: self.store.add_refusals(refusals))
        return batch is not None

    def _use(self, action: Callable[[], list[Outcome] | None]) -> list[Outcome]:
        """Use the store, and remember since when."""
        self._busy_since = time.monotonic()
        try:
            return action() or []
        except StoreError:
            raise
        except Exception as error:
            raise RowRefusedError(f"not stored: {type(error).__name__}") from error
        finally:
            self._busy_since = None

    def _try_store(self) -> None:
        try:
            self._use(lambda: self.store.try_commit(writes=self.failing))
        except StoreError as error:
            self._report(error, 0)
        else:
            self._report(None, 0)

    def _commit(self, batch: list[_Item]) -> None:
        results: list[_Result] = []
        try:
            results = self._results_of([delivery for delivery, _ in batch])
        finally:
            missing = StoreUnavailableError("not stored")
            results += [missing] * (len(batch) - len(results))
            loop = batch[0][1].get_loop()
            # A closed loop has no request that waits for the outcome.
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(self._resolve, batch, results)

    def _results_of(self, deliveries: Sequence[Delivery]) -> list[_Result]:
        """Append deliveries; one that the store refuses does not take the others."""
        began = time.perf_counter()
        try:
            outcomes: list[_Result] = list(
                self._use(lambda: self.store.append(deliveries))
            )
        except RowRefusedError as error:
            if len(deliveries) == 1:
                logger.error(LogLine("delivery not stored", error=str(error)))  # noqa: TRY400 -- a traceback may repeat the row
                return [error]
            half = len(deliveries) // 2
            parts = (deliveries[:half], deliveries[half:])
            return [result for part in parts for result in self._results_of(part)]
        except StoreError as error:
            self._report(error, len(deliveries))
            return [error] * len(deliveries)
        self.last_commit_at = time.time()
        self._report(None, len(deliveries))
        seconds = time.perf_counter() - began
        slowness = max(0.0, seconds - _FAST_COMMIT_SECONDS) * (len(deliveries) > 1)
        self._pause = min(slowness / 2, _MAX_PAUSE_SECONDS)
        half = max(_SMALL_BATCH_ROWS, self.waiting // 2)
        self._most_rows = min(half, MAX_BATCH_ROWS)
        if self.on_commit is not None:
            self.on_commit(len(deliveries), seconds)
        return outcomes

    def _next_batch(self) -> tuple[list[_Item] | None, _Refusals]:
        """Wait for a delivery and return it with those behind it; None at the end.

        The batch is empty if there are only refusals. `queue.Empty` if nothing came.
        """
        item = self._waiting.get(timeout=_TRY_SECONDS)
        time.sleep(self._pause)
        batch: list[_Item] = []
        size = 0
        while item is not None:
            if not isinstance(item, tuple):
                return batch, item
            batch.append(item)
            size += len(item[0].body)
            if len(batch) >= self._most_rows or size >= MAX_BATCH_BYTES:
                return batch, {}
            try:
                item = self._waiting.get_nowait()
            except queue.Empty:
                return batch, {}
        if not batch:
            return None, {}
        self._waiting.put(None)  # the end of the queue, for the next call
        return batch, {}

    def _resolve(self, batch: list[_Item], results: list[_Result]) -> None:
        """Resolve the futures that still wait; runs on the event loop."""
        for (delivery, future), result in zip(batch, results, strict=True):
            self._since.popleft()
            self.waiting_bytes -= len(delivery.body)
            if future.done():
                continue
            if isinstance(result, StoreError):
                future.set_exception(result)
            else:
                future.set_result(result)

    def _report(self, error: StoreError | None, number: int) -> None:
        """Log the first failure and the recovery, but no failure in between."""
        if error is not None and not self.failing:
            logger.error(LogLine("store failing", deliveries=number, error=str(error)))
        elif self.failing and error is None:
            logger.info(LogLine("store working again", deliveries=number))
        self.failing = error is not None
        self.failure = str(error or "")
