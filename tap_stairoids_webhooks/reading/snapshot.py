"""Read the events that are in the store when a run begins.

The last sequence is fixed when the store is opened, so that a run ends even while
events arrive. Each page is one short transaction.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from functools import cached_property
from typing import TYPE_CHECKING

from tap_stairoids_webhooks.exceptions import UnverifiedEventError
from tap_stairoids_webhooks.signature import Verifier
from tap_stairoids_webhooks.store.event_filter import EventFilter

if TYPE_CHECKING:
    from tap_stairoids_webhooks.store.schema import Erasure, StoredEvent
    from tap_stairoids_webhooks.store.store import EventStore

logger = logging.getLogger(__name__)


class Snapshot:
    """Reads the events up to now. The store is opened when it is first needed.

    Close it at the end of the run. If `secrets` are given, the signature of each event
    is verified. An event that none of them signed is an error, or left out. Set
    `stopped` to end every stream after the current event.
    """

    def __init__(
        self,
        store_url: str,
        *,
        secrets: Sequence[str] = (),
        skips_unverified: bool = False,
    ) -> None:
        self._store_url = store_url
        self._verifier = Verifier(secrets) if secrets else None
        self._skips_unverified = skips_unverified
        self._opened = ExitStack()
        self._warned_after: set[int] = set()
        self.stopped = False

    @cached_property
    def store(self) -> EventStore:
        """The store, opened to read."""
        from tap_stairoids_webhooks.store.store import EventStore  # noqa: PLC0415 -- SQLAlchemy is slow to import, and --version does not need it

        return self._opened.enter_context(EventStore.open_read_only(self._store_url))

    @cached_property
    def upper(self) -> int:
        """The last sequence of the snapshot."""
        return self.store.last_sequence()

    @cached_property
    def last_erasure(self) -> int:
        """The number of the last erasure in the snapshot."""
        return self.store.last_erasure()

    @property
    def history_id(self) -> str:
        """Id of the store and of its generation, which a restored backup raises."""
        return f"{self.store.store_id}/{self.store.generation}"

    def close(self) -> None:
        """Close the store."""
        self._opened.close()

    def events_after(
        self, sequence: int, selected: EventFilter
    ) -> Iterator[StoredEvent]:
        """Yield the events after a sequence, in order."""
        skipped, first_skipped = 0, None
        for stored in self._read_after(sequence, selected):
            if self.stopped:
                return
            if self._is_verified(stored):
                yield stored
                continue
            if not self._skips_unverified:
                raise UnverifiedEventError(
                    f"none of the secrets signed event {stored.sequence}, which the"
                    f" receiver verified with the secret {stored.key_id}: add that"
                    " secret to `secrets`, or set `on_unverified` to `skip`"
                )
            skipped += 1
            first_skipped = first_skipped or stored.sequence
        if skipped:
            logger.warning(
                "events not emitted, signed with none of the secrets given:"
                " number=%d first_sequence=%s. Later runs do not read them. Add their"
                " secret, and run the tap once without a state",
                skipped,
                first_skipped,
            )

    def warn_of_pruned_events(self, read_through: int) -> None:
        """Warn once of events that were pruned before this run could read them."""
        through = self.store.pruned_through()
        if through > read_through and read_through not in self._warned_after:
            self._warned_after.add(read_through)
            logger.warning(
                "Events after %d and up to %d were pruned before this state had them;"
                " the setting consumer, with another name in each tap, prevents that",
                read_through,
                through,
            )

    def erasures_after(self, number: int) -> Iterator[Erasure]:
        """Yield the erasures after a number, in order."""
        last = self.last_erasure
        while page := self.store.erasures_after(number):
            for erasure in page:
                if self.stopped or erasure.number > last:
                    return
                yield erasure
            number = page[-1].number

    def _read_after(
        self, sequence: int, selected: EventFilter
    ) -> Iterator[StoredEvent]:
        start, pruned = sequence, self.store.pruned_through()
        read = self.store.read_after
        while page := read(sequence, upper=self.upper, selected=selected):
            yield from page
            sequence = page[-1].sequence
        through = self.store.pruned_through()
        if through > max(start, pruned):
            logger.warning(
                "Events up to %d were pruned while this run read events after %d;"
                " some may be missing",
                through,
                start,
            )

    def _is_verified(self, stored: StoredEvent) -> bool:
        if self._verifier is None or stored.erased_at is not None:
            return True
        # The row may have been changed in the store, the signature as well.
        header = stored.signature.encode("ascii", "replace")
        return self._verifier.key_id_for(stored.body, header) is not None
