"""Checks beside the requests: free space, the commit thread, counts and log lines."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime

from stairoids_common.time import timestamp
from tap_stairoids_webhooks.log_lines import LogLine
from tap_stairoids_webhooks.receiver.app import ALARMING, RESPONSE_SECONDS, ReceiverApp
from tap_stairoids_webhooks.receiver.commit_queue import CommitQueue
from tap_stairoids_webhooks.store.database import Database
from tap_stairoids_webhooks.store.schema import Outcome, RefusalCount

logger = logging.getLogger(__name__)


@dataclass(eq=False)
class Housekeeping:
    """Checks a receiver. Call `check` every second and `store_refusals` sometimes.

    `interrupts` close the connections of a PostgreSQL that does not respond.
    """

    app: ReceiverApp
    commits: CommitQueue
    database: Database
    interrupts: Sequence[Callable[[], None]]
    _reported: Counter[str] = field(default_factory=Counter)
    _stored: Counter[str] = field(default_factory=Counter)

    def check(self) -> None:
        """Check the disk and the store, and log the new requests."""
        self.check_disk()
        is_ready = not any(problems_of(self.app, self.commits).values())
        since = self.app.not_ready_since or timestamp()
        self.app.not_ready_since = None if is_ready else since
        if self.commits.is_stuck:
            logger.error(LogLine("store does not respond"))
            for interrupt in self.interrupts:
                interrupt()
        self.report()

    def check_disk(self) -> None:
        """Refuse deliveries while the disk is nearly full."""
        free = self.database.free_bytes()
        wanted = self.app.settings.min_free
        full = free is not None and free < wanted
        if full and not self.app.disk_full:
            logger.error(
                LogLine(
                    "disk nearly full, deliveries get 503",
                    free_bytes=free,
                    wanted=wanted,
                )
            )
        elif self.app.disk_full and not full:
            logger.info(LogLine("disk has room again", free_bytes=free))
        self.app.disk_full = full

    def report(self) -> None:
        """Log the number of new requests by result, and the last unknown path."""
        counts = self.app.counts.copy()
        new = counts - self._reported
        self._reported = counts
        if new:
            level = logging.WARNING if ALARMING & new.keys() else logging.INFO
            fields: dict[str, object] = dict(sorted(new.items()))
            if "not_found" in new:
                fields["unknown_path"] = self.app.unknown_path
            logger.log(level, LogLine("deliveries", **fields))

    def store_refusals(self) -> None:
        """Add new refusals to the counts in the store, for `stats`."""
        if self.commits.failing:
            return  # they would be lost
        counts = self.app.counts.copy()
        new = {
            reason: RefusalCount(
                number=number,
                last_at=timestamp(
                    datetime.fromtimestamp(self.app.last_at[reason], UTC)
                ),
            )
            for reason, number in (counts - self._stored).items()
            if reason not in {*Outcome}
        }
        if new:
            self.commits.add_refusals(new)
        self._stored = counts


@contextmanager
def logged_error() -> Iterator[None]:
    """Log an unforeseen error, so that the receiver and later checks go on."""
    try:
        yield
    except Exception as error:  # noqa: BLE001 -- deliveries must still be received
        logger.error(LogLine("check failed", reason=type(error).__name__))  # noqa: TRY400 -- a log line has no traceback


def problems_of(app: ReceiverApp, commits: CommitQueue) -> dict[str, bool]:
    """Return the reasons for which deliveries are refused now, or not."""
    return {
        "draining": app.draining,
        "disk_full": app.disk_full,
        "store_failing": commits.failing or not commits.is_alive,
        "store_too_slow": commits.oldest_seconds > RESPONSE_SECONDS,
    }
