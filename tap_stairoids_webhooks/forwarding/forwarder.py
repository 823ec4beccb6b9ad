"""Deliver the events of the store to a handler, each at least once.

One thread decides: it takes events into the queue, notes the results of requests, and
picks the next events. Workers make one request at a time. An event leaves the queue in
the store only after its delivery, so a forwarder that is killed loses nothing.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime
from typing import Self

from stairoids_common.retry import pause_before
from stairoids_common.time import timestamp
from tap_stairoids_webhooks.exceptions import ConfigError, StoreError
from tap_stairoids_webhooks.forwarding.decision import (
    LONGEST_PAUSE,
    Response,
    Step,
    decide,
)
from tap_stairoids_webhooks.forwarding.handler import Handler
from tap_stairoids_webhooks.forwarding.lanes import Lanes, lane_of
from tap_stairoids_webhooks.forwarding.plan import Plan
from tap_stairoids_webhooks.log_lines import LogLine
from tap_stairoids_webhooks.store.event_filter import EventFilter
from tap_stairoids_webhooks.store.forwards import Forward, ForwardQueue, check_forwarder
from tap_stairoids_webhooks.store.leases import lease_of
from tap_stairoids_webhooks.store.schema import StoredEvent
from tap_stairoids_webhooks.store.store import EventStore

_Result = tuple[Forward, Response]
_BEGAN_AT = time.time() - time.monotonic()

logger = logging.getLogger(__name__)

_MOST_WAITING = 20_000  # events in memory, without their bodies
_ENOUGH_READY = 500  # events to hand out; then no new ones are taken
_PAGE_ROWS = 100
_POLL_SECONDS = 0.25  # between two looks for new events
_RELOAD_SECONDS = 1.0  # between two looks for failures to retry
_LONG_WAIT_SECONDS = 10.0  # after which a wait is logged
_PAUSE_SECONDS = 1.0  # after a store that failed
_STORE_SECONDS = 12.0  # after which the connections to the store are closed
_DRAIN_SECONDS = 12.0  # for requests in flight after SIGTERM
_LEASE_SECONDS = 15.0  # for another forwarder of this name to stop


def _now() -> float:
    """Return the Unix time by a clock that cannot be set while the process runs."""
    return _BEGAN_AT + time.monotonic()


class Forwarder:
    """Delivers events until it is stopped, or until the end of its plan.

    Attributes:
        totals: Number of events that were `delivered`, `retried` or `failed`.
        is_complete: Whether the plan came to its end.
    """

    def __init__(
        self, plan: Plan, handler: Handler, is_stopping: Callable[[], bool]
    ) -> None:
        self._plan = plan
        self._handler = handler
        self._is_stopping = is_stopping
        self._end: int | None = None
        self._is_added = False
        self.totals: Counter[str] = Counter()
        self.is_complete = False
        with EventStore.open_read_only(plan.store_url) as store:
            check_forwarder(store, plan.name)  # an error ends it here

    @property
    def is_ended(self) -> bool:
        """Whether the plan came to its end, or SIGTERM came."""
        return self.is_complete or self._is_stopping()

    def run(self, *, waits: bool = False) -> None:
        """Deliver events. A store that fails is tried again.

        With `waits`, wait without end for another forwarder of this name. Otherwise it
        is a `ConfigError`, and so is a tap of this name.
        """
        is_failing = False
        while not self.is_ended:
            try:
                with _Session(self._plan, self._handler, self._is_stopping) as session:
                    if not session.take_lease(waits=waits):
                        return
                    self._begin(session)
                    is_failing = False
                    self._deliver(session)
            except StoreError as error:
                if not is_failing:
                    logger.error(LogLine("forwarding: store failing", error=str(error)))  # noqa: TRY400 -- a log line has no traceback
                is_failing = True
                threading.Event().wait(_PAUSE_SECONDS)

    def _begin(self, session: _Session) -> None:
        """Find where to begin, and where to end."""
        session.begin()
        if self._end is None:
            self._end = session.reader.last_sequence()
            logger.info(
                LogLine(
                    "forwarding",
                    consumer=self._plan.name,
                    to=self._handler.place,
                    after=session.bookmark,
                    last=self._end,
                )
            )
        if self._plan.sequences is not None and not self._is_added:
            session.add(*self._plan.sequences)
            self._is_added = True

    def _deliver(self, session: _Session) -> None:
        last = self._end if self._plan.once else None
        while session.step(last, self.totals):
            pass
        if not self._is_stopping():
            session.queue.end_replay()
            self.is_complete = True


class _Session:
    """The work of a forwarder while its store does not fail."""

    def __init__(
        self, plan: Plan, handler: Handler, is_stopping: Callable[[], bool]
    ) -> None:
        self._plan = plan
        self._handler = handler
        self._is_stopping = is_stopping
        self._filter = EventFilter(types=plan.types, since=plan.since)
        self._lanes = Lanes()
        self._paused_until = self._reload_at = self._report_at = self._wait_end = 0.0
        self._is_loaded = self._is_behind = False
        self._reason: str | None = None
        self._pause_reason: str | None = None
        self._stop_at: float | None = None
        self._reported: Counter[str] = Counter()
        self._requests: queue.SimpleQueue[tuple[Forward, StoredEvent] | None]
        self._requests = queue.SimpleQueue()
        self._results: queue.SimpleQueue[_Result] = queue.SimpleQueue()
        self._workers = [
            threading.Thread(target=self._work, name="forward", daemon=True)
            for _ in range(plan.workers)
        ]
        self._opened = ExitStack()
        self.bookmark = 0

    def __enter__(self) -> Self:
        url = self._plan.store_url
        with ExitStack() as opened:
            self._store = opened.enter_context(EventStore.open(url))
            self.reader = opened.enter_context(EventStore.open_read_only(url))
            self._lease = lease_of(self._store.database, self._plan.name)
            opened.callback(self._lease.release)
            self.queue = ForwardQueue(self._store, self.reader, self._plan.name)
            self._opened = opened.pop_all()
        for worker in self._workers:
            worker.start()
        return self

    def __exit__(self, *_exc_info: object) -> None:
        """Wait for requests in flight, so that no event overtakes another."""
        self._recall()
        for _ in self._workers:
            self._requests.put(None)
        leave_at = self._stop_at or time.monotonic() + _DRAIN_SECONDS
        for worker in self._workers:
            worker.join(max(0.0, leave_at - time.monotonic()))
        self._opened.close()

    def take_lease(self, *, waits: bool) -> bool:
        """Wait for the lease; return False if SIGTERM came first."""
        give_up_at = time.monotonic() + _LEASE_SECONDS
        while not self._is_stopping():
            with self._time_limit():
                if self._lease.take():
                    return True
            if time.monotonic() > give_up_at and not waits:
                raise ConfigError(
                    f"a forwarder with the name {self._plan.name!r} runs already: give"
                    " this one another --name"
                )
            threading.Event().wait(_POLL_SECONDS)
        return False

    def begin(self) -> None:
        """Find the bookmark of this forwarder, and move it if `since` says so."""
        with self._time_limit():
            since, kinds = self.queue.begin(), self._filter.kinds
            if self._plan.since is not None and self._plan.since != since:
                self.queue.begin_at(self._plan.since, kinds)
            bookmarks = self.queue.bookmarks()
            self.bookmark = min(bookmarks.values(), default=0)
            if self._plan.sequences is not None:
                return
            has_more = "*" not in bookmarks and not set(kinds) <= bookmarks.keys()
            if has_more:
                # From now on `prune` keeps the events.
                self.queue.take([], bookmark=self.bookmark, kinds=kinds)
            types = self._plan.types
            others = 0 if types is None else self.queue.number_of_others(types)
        if has_more and self.bookmark:
            logger.warning(
                LogLine(
                    "forwarding: older events that --event-type left out are not"
                    " delivered. --sequence delivers the whole range again",
                    sequence=f"1..{self.bookmark}",
                )
            )
        if others:
            logger.warning(
                LogLine(
                    "forwarding: events of other types stay in the queue. A start"
                    " without --event-type delivers them",
                    events=others,
                )
            )

    def add(self, first: int, last: int) -> None:
        """Put events into the queue again."""
        after = first - 1
        while not self._is_stopping() and (page := self._page(after, last)):
            with self._time_limit():
                self._check_lease()  # the server ends a session that is idle
                self.queue.take(page)
            after = page[-1].sequence

    def step(self, last: int | None, totals: Counter[str]) -> bool:
        """Do one round of work up to a sequence; return whether there is more to do."""
        results = self._wait_for_results()
        is_stopping = self._is_stopping()
        with self._time_limit():
            self._save(results, totals)
            if is_stopping:
                self._recall()
                self._check_lease()  # the server ends a session that is idle
            else:
                self._refill(last)
                self._send()
                self._report_wait()
        self._report(totals, is_last=is_stopping)
        if is_stopping:
            self._stop_at = self._stop_at or time.monotonic() + _DRAIN_SECONDS
            return self._lanes.in_flight > 0 and time.monotonic() < self._stop_at
        takes_more = last is None or self.bookmark < last
        if (self._plan.sequences is None and takes_more) or len(self._lanes):
            return True
        self._report(totals, is_last=True)
        return not self._is_loaded

    def _wait_for_results(self) -> list[_Result]:
        results: list[_Result] = []
        seconds = 0.0 if self._is_behind else _POLL_SECONDS
        is_paused = time.monotonic() < self._paused_until or self._is_stopping()
        if not is_paused and self._lanes.in_flight < self._most_in_flight:
            seconds = min(seconds, self._lanes.seconds_until_due(_now()))
        while True:
            try:
                results.append(self._results.get(timeout=0 if results else seconds))
            except queue.Empty:
                return results

    @property
    def _most_in_flight(self) -> int:
        """More than there are workers, so that no worker waits for a commit."""
        return 2 * self._plan.workers

    def _save(self, results: list[_Result], totals: Counter[str]) -> None:
        """Note the results of requests in the store, in one commit."""
        done, changed = [], []
        for forward, response in results:
            attempt = forward.attempts + 1
            decision = decide(
                response,
                attempt=attempt,
                backoff=pause_before(attempt + 1),
                most=self._plan.attempts,
            )
            until = time.monotonic() + decision.pause_of_all
            if until > self._paused_until:
                self._paused_until, self._pause_reason = until, response.reason
            if decision.step is Step.DELIVERED:
                done.append(forward)
                continue
            is_last = decision.step is Step.FAILED
            changed.append(
                replace(
                    forward,
                    attempts=attempt,
                    due_at=_now() + decision.pause,
                    reason=response.reason,
                    failed_at=timestamp() if is_last else None,
                )
            )
        if not results:
            return
        self._check_lease()
        self.queue.save([forward.sequence for forward in done], changed)
        for forward in done:
            self._lanes.finish(forward)
        for forward in changed:
            if forward.failed_at is None:
                self._lanes.postpone(forward)
            else:
                self._lanes.finish(forward)
        failed = [forward for forward in changed if forward.failed_at is not None]
        totals["delivered"] += len(done)
        totals["failed"] += len(failed)
        totals["retried"] += len(changed) - len(failed)
        for forward in failed:
            logger.warning(
                LogLine(
                    "forwarding failed, the event is kept",
                    consumer=self._plan.name,
                    sequence=forward.sequence,
                    attempts=forward.attempts,
                    reason=forward.reason,
                )
            )
        self._reason = next((f.reason for f in changed), None)

    def _check_lease(self) -> None:
        if not self._lease.is_held():
            raise StoreError("the lease of the forwarder is lost")

    def _refill(self, last: int | None) -> None:
        """Load the queue, and take new events into it while there is room."""
        now, self._is_behind = time.monotonic(), False
        if len(self._lanes) >= _MOST_WAITING:
            self._lanes.keep_heads(_now())
        has_room = len(self._lanes) < _MOST_WAITING
        is_short = has_room and self._lanes.ready() < _ENOUGH_READY
        if now >= self._reload_at or (is_short and not self._is_loaded):
            self._check_lease()
            self._reload_at = now + _RELOAD_SECONDS
            full = self._lanes.begin_load(_now())
            waiting = self.queue.waiting(
                limit=_MOST_WAITING,
                without=full,
                types=self._plan.types,
                sequences=self._plan.sequences,
            )
            self._is_loaded = len(waiting) < _MOST_WAITING
            latest = _now() + LONGEST_PAUSE  # the clock may have been set back
            for forward in waiting:
                event = replace(forward, due_at=min(forward.due_at, latest))
                if self._lanes.add(event) and event.is_retried:
                    self._paused_until = 0.0
        if self._plan.sequences is not None or not self._is_loaded or not is_short:
            return
        upper = self.reader.last_sequence()
        upper = upper if last is None else min(upper, last)
        if upper <= self.bookmark:
            return
        page = self._page(self.bookmark, upper)
        bookmark = page[-1].sequence if page else upper
        self._check_lease()
        self.queue.take(page, bookmark=bookmark, kinds=self._filter.kinds)
        self.bookmark, self._is_behind = bookmark, bookmark < upper
        for forward in page:
            self._lanes.add(forward)

    def _page(self, after: int, upper: int) -> list[Forward]:
        events = self.reader.read_after(
            after, upper=upper, limit=_PAGE_ROWS, selected=self._filter
        )
        return [Forward(sequence=e.sequence, lane=lane_of(e)) for e in events]

    def _send(self) -> None:
        """Hand due events to the workers."""
        room = self._most_in_flight - self._lanes.in_flight
        if room <= 0 or time.monotonic() < self._paused_until:
            return
        due = self._lanes.next_due(room, _now())
        events = self.queue.events([forward.sequence for forward in due]) if due else {}
        for forward in due:
            if forward.sequence in events:
                self._requests.put((forward, events[forward.sequence]))
            else:  # it was erased or pruned meanwhile
                self.queue.save([forward.sequence], [])
                self._lanes.finish(forward)

    def _recall(self) -> None:
        """Take back the requests that no worker has begun."""
        with suppress(queue.Empty):
            while request := self._requests.get_nowait():
                self._lanes.release(request[0])

    def _work(self) -> None:
        while (request := self._requests.get()) is not None:
            forward, event = request
            self._results.put((forward, self._handler.post(event)))

    def _report(self, totals: Counter[str], *, is_last: bool) -> None:
        """Log the results of the last second."""
        now = time.monotonic()
        new = totals - self._reported
        if not new or (now < self._report_at and not is_last):
            return
        self._report_at = now + 1
        self._reported = totals.copy()
        fields: dict[str, object] = dict(sorted(new.items()))
        if self._reason is not None and new.keys() - {"delivered"}:
            fields["reason"] = self._reason
        logger.info(LogLine("forwarded", consumer=self._plan.name, **fields))

    def _report_wait(self) -> None:
        """Log once until when no request follows, and why, if that is a while."""
        event = self._lanes.next_event()
        if event is None or self._lanes.in_flight:
            return
        until, reason = event.due_at, event.reason
        if (end := _BEGAN_AT + self._paused_until) > until:
            until, reason = end, self._pause_reason
        if until - _now() > _LONG_WAIT_SECONDS and until != self._wait_end:
            self._wait_end = until
            at = timestamp(datetime.fromtimestamp(until, UTC))
            fields = {"consumer": self._plan.name, "until": at, "reason": reason}
            logger.info(LogLine("forwarding waits", **fields))

    @contextmanager
    def _time_limit(self) -> Iterator[None]:
        """Close the connections to a database that does not respond."""

        def interrupt() -> None:
            for store in (self._store, self.reader):
                store.database.interrupt()

        timer = threading.Timer(_STORE_SECONDS, interrupt)
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            timer.cancel()
