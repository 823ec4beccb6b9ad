"""Make the metrics for Prometheus, and the readiness of the receiver.

The values are collected when they are requested. A delivery costs nothing extra, a
commit two observations.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from prometheus_client import (
    CollectorRegistry,
    Histogram,
    ProcessCollector,
    generate_latest,
)
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from typing_extensions import override

from stairoids_common.http import Result, in_thread
from stairoids_common.time import parse_time
from tap_stairoids_webhooks.exceptions import StoreError, StoreUnavailableError
from tap_stairoids_webhooks.log_lines import LogLine
from tap_stairoids_webhooks.receiver.app import RESULTS, ReceiverApp
from tap_stairoids_webhooks.receiver.commit_queue import CommitQueue
from tap_stairoids_webhooks.receiver.housekeeping import problems_of
from tap_stairoids_webhooks.store.consumers import Lag, lags
from tap_stairoids_webhooks.store.store import EventStore

logger = logging.getLogger(__name__)

_AT_ONCE = 4  # more reads wait
_STOPPING = "the receiver is stopping"
_PREFIX = "stairoids_webhooks_"
_SECONDS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5)
_ROWS = (1, 2, 4, 8, 16, 32, 64, 128, 256)


class CommitHistograms:
    """Histograms of the commits."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self._seconds = Histogram(
            f"{_PREFIX}commit_seconds",
            "How long a commit takes.",
            buckets=_SECONDS,
            registry=self.registry,
        )
        self._rows = Histogram(
            f"{_PREFIX}commit_rows",
            "How many deliveries share a commit.",
            buckets=_ROWS,
            registry=self.registry,
        )

    def observe(self, rows: int, seconds: float) -> None:
        """Count a commit."""
        self._rows.observe(rows)
        self._seconds.observe(seconds)


class StoreReads:
    """Calls functions that read the store, a few at once, in threads of their own.

    A search in many events takes long. Large deliveries wait for the threads of
    `asyncio.to_thread`, and so does the end of the process.
    """

    def __init__(self) -> None:
        self._slots = asyncio.Semaphore(_AT_ONCE)
        self._waiting: set[asyncio.Future[Any]] = set()
        self._is_stopped = False

    async def run(self, call: Callable[[], Result]) -> Result:
        """Return the result of a call, unless the receiver stops."""
        async with self._slots:
            if self._is_stopped:
                raise StoreUnavailableError(_STOPPING)
            found = asyncio.wrap_future(in_thread(call))
            self._waiting.add(found)
            try:
                return await found
            except asyncio.CancelledError:
                if self._is_stopped:
                    raise StoreUnavailableError(_STOPPING) from None
                raise
            finally:
                self._waiting.discard(found)

    def stop(self) -> None:
        """Give up the calls that have no result yet, and all later calls."""
        self._is_stopped = True
        for found in self._waiting:
            found.cancel()


@dataclass(eq=False, repr=False)  # the URL may hold a password
class ReceiverStatus(Collector):
    """The status of a running receiver; `reads` runs the functions that read the store.

    The store is opened again to read, so that no response waits for a commit.
    """

    app: ReceiverApp
    commits: CommitQueue
    store: EventStore
    registry: CollectorRegistry

    def __post_init__(self) -> None:
        self._reader: EventStore | None = None
        self._opening = threading.Lock()
        self.reads = StoreReads()
        self.registry.register(self)

    def readiness(self) -> dict[str, Any]:
        """Return whether deliveries are accepted now, with the reasons."""
        app, commits = self.app, self.commits
        problems, last = problems_of(app, commits), commits.last_commit_at
        return {
            "ready": not any(problems.values()),
            **problems,
            "queue": commits.waiting,
            "queue_oldest_seconds": commits.oldest_seconds,
            "queue_bytes": commits.waiting_bytes,
            "free_bytes": self.store.database.free_bytes(),
            "seconds_since_commit": None if last is None else time.time() - last,
        }

    def reader(self) -> EventStore:
        """Return the store, opened to read."""
        with self._opening:
            if self._reader is None:
                url = self.app.settings.store_url
                self._reader = EventStore.open_read_only(url)
            return self._reader

    def metrics(self) -> bytes:
        """Return the metrics as text; reads the store, so not for an event loop."""
        return generate_latest(self.registry)

    def interrupt(self) -> None:
        """Close connections on which a response waits."""
        if self._reader is not None:
            self._reader.database.interrupt()

    def close(self) -> None:
        """Close the store that was opened to read."""
        if self._reader is not None:
            self._reader.close()

    @override
    def collect(self) -> Iterator[Metric]:
        # From 0, because Prometheus sees no increase in a series that begins with 1.
        results = {**dict.fromkeys(RESULTS, 0), **self.app.counts.copy()}
        yield _family("requests", "Requests by result.", result=results)
        keys = {key: self.app.keys[key] for key in self.app.verifier.key_ids}
        yield _family("deliveries", "Deliveries by secret.", key_id=keys)
        found = self.readiness()
        gauges = {
            "ready": ("1 if deliveries are accepted.", found["ready"]),
            "queue_deliveries": ("Deliveries that wait for a commit.", found["queue"]),
            "queue_bytes": ("Bytes that wait for a commit.", found["queue_bytes"]),
            "queue_oldest_seconds": (
                "How long the oldest delivery has waited for a commit.",
                found["queue_oldest_seconds"],
            ),
            "unproven_bytes": ("Unverified large bodies.", self.app.unproven_bytes),
            "free_bytes": ("Free bytes on the store's disk.", found["free_bytes"]),
            "last_commit_timestamp_seconds": (
                "Unix time of the last commit.",
                self.commits.last_commit_at,
            ),
        }
        for name, (text, value) in gauges.items():
            if value is not None:
                yield GaugeMetricFamily(_PREFIX + name, text, value=float(value))
        sizes = self.store.database.sizes()
        yield _family("store_bytes", "Size on disk.", GaugeMetricFamily, part=sizes)
        found_lags = self._lags()
        of_consumers: dict[str, tuple[str, Callable[[Lag], int | None]]] = {
            "consumer_lag_events": ("Unread events.", lambda lag: lag.events),
            "consumer_lag_seconds": ("Age of the oldest unread event.", _age),
            "forward_failures": (
                "Events that a forwarder could not deliver.",
                lambda lag: lag.failures,
            ),
        }
        for name, (text, read) in of_consumers.items():
            values = {consumer: read(lag) for consumer, lag in found_lags.items()}
            known = {c: value for c, value in values.items() if value is not None}
            yield _family(name, text, GaugeMetricFamily, consumer=known)

    def _lags(self) -> dict[str, Lag]:
        try:
            return lags(self.reader())
        except StoreError as error:
            logger.warning(
                LogLine("lag of the consumers is not known", error=str(error))
            )
            return {}


def _age(lag: Lag) -> int:
    oldest = lag.oldest_received_at
    return int(time.time() - parse_time(oldest).timestamp()) if oldest else 0


def _family(
    name: str,
    text: str,
    kind: type[CounterMetricFamily | GaugeMetricFamily] = CounterMetricFamily,
    **by_label: dict[str, int],
) -> Metric:
    """Return a metric with one label."""
    ((label, values),) = by_label.items()
    family = kind(_PREFIX + name, text, labels=[label])
    for value, number in sorted(values.items()):
        family.add_metric([value], number)
    return family
