"""Metrics: what a receiver knows of itself, as text that Prometheus reads.

Everything is read when somebody asks; a delivery costs nothing more for it, and a
commit two observations.
"""

from __future__ import annotations

import logging
import threading
import time
from typing import TYPE_CHECKING, Any

from prometheus_client import CollectorRegistry, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector
from typing_extensions import override

from tap_stairoids_webhooks.exceptions import StoreError
from tap_stairoids_webhooks.receiver.app import RESULTS
from tap_stairoids_webhooks.receiver.log_lines import Fact
from tap_stairoids_webhooks.store.consumers import Lag, lags
from tap_stairoids_webhooks.store.store import EventStore

if TYPE_CHECKING:
    from collections.abc import Iterator

    from prometheus_client.core import Metric

    from tap_stairoids_webhooks.receiver.app import ReceiverApp
    from tap_stairoids_webhooks.receiver.commit_queue import CommitQueue

logger = logging.getLogger(__name__)

_PREFIX = "stairoids_webhooks_"
_SECONDS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5)
_ROWS = (1, 2, 4, 8, 16, 32, 64, 128, 256)


class Facts(Collector):
    """What can be told of a running receiver.

    Args:
        app: Counts requests.
        commits: Knows what waits for the disk.
        store: The receiver's own; only asked for sizes.
        store_url: Read through a connection of its own, so that no answer waits
            for a commit.
    """

    def __init__(
        self, app: ReceiverApp, commits: CommitQueue, store: EventStore, store_url: str
    ) -> None:
        self._app = app
        self._commits = commits
        self._store = store
        self._store_url = store_url
        self._reader: EventStore | None = None
        self._opening = threading.Lock()
        self._registry = CollectorRegistry()
        seconds = Histogram(
            f"{_PREFIX}commit_seconds",
            "How long a commit takes.",
            buckets=_SECONDS,
            registry=self._registry,
        )
        rows = Histogram(
            f"{_PREFIX}commit_rows",
            "How many deliveries share a commit.",
            buckets=_ROWS,
            registry=self._registry,
        )

        def observe(number: int, took: float) -> None:
            rows.observe(number)
            seconds.observe(took)

        commits.on_commit = observe
        self._registry.register(self)

    def readiness(self) -> dict[str, Any]:
        """Say whether deliveries are taken now, and what speaks for or against it."""
        last = self._commits.last_commit_at
        app, commits = self._app, self._commits
        ready = not (app.draining or app.disk_full or commits.failing)
        return {
            "ready": ready,
            "draining": app.draining,
            "disk_full": app.disk_full,
            "store_failing": commits.failing,
            "queue": commits.waiting,
            "queue_bytes": commits.waiting_bytes,
            "free_bytes": commits.free_bytes(),
            "seconds_since_commit": None if last is None else time.time() - last,
        }

    def counts(self) -> dict[str, int]:
        """Count the requests since the start, by what became of them."""
        return self._app.counts.copy()

    def keys(self) -> dict[str, int]:
        """Count the deliveries taken since the start, by active secret."""
        return {key: self._app.keys[key] for key in self._app.key_ids}

    def reader(self) -> EventStore:
        """Return the store to read, through a connection of its own.

        Raises:
            StoreError: It cannot be opened.
        """
        with self._opening:
            if self._reader is None:
                self._reader = EventStore.open_to_read(self._store_url)
            return self._reader

    def text(self) -> bytes:
        """Return the metrics; asks the store, so not for an event loop."""
        return generate_latest(self._registry)

    def close(self) -> None:
        """Let go of the store."""
        if self._reader is not None:
            self._reader.close()

    @override
    def collect(self) -> Iterator[Metric]:
        # From 0: Prometheus sees no increase in a series that begins with 1.
        results = {**dict.fromkeys(RESULTS, 0), **self.counts()}
        yield _counter("requests", "By what became of them.", "result", results)
        yield _counter("deliveries", "Taken, by secret.", "key_id", self.keys())
        facts = self.readiness()
        gauges = {
            "ready": ("1 if deliveries are taken.", facts["ready"]),
            "queue_deliveries": ("Waiting for a commit.", facts["queue"]),
            "queue_bytes": ("Waiting for a commit.", facts["queue_bytes"]),
            "unproven_bytes": ("Of large bodies, unread.", self._app.unproven_bytes),
            "free_bytes": ("Room on the disk of the store.", facts["free_bytes"]),
            "last_commit_timestamp_seconds": (
                "When deliveries were last committed.",
                self._commits.last_commit_at,
            ),
        }
        for name, (text, value) in gauges.items():
            if value is not None:
                yield GaugeMetricFamily(_PREFIX + name, text, value=float(value))
        yield _gauges("store_bytes", "Size on disk.", "part", self._store.sizes())
        behind = {name: lag.events for name, lag in self._lags().items()}
        yield _gauges("consumer_lag_events", "Waited for.", "consumer", behind)

    def _lags(self) -> dict[str, Lag]:
        try:
            return lags(self.reader())
        except StoreError as error:
            logger.warning(Fact("lag of the consumers is not known", error=str(error)))
            return {}


def _counter(name: str, text: str, label: str, counts: dict[str, int]) -> Metric:
    family = CounterMetricFamily(_PREFIX + name, text, labels=[label])
    for value, number in sorted(counts.items()):
        family.add_metric([value], number)
    return family


def _gauges(name: str, text: str, label: str, values: dict[str, int]) -> Metric:
    family = GaugeMetricFamily(_PREFIX + name, text, labels=[label])
    for value, number in sorted(values.items()):
        family.add_metric([value], number)
    return family
