"""Read the events that are in the store when a run begins.

The last sequence is fixed when it is first needed, so that a run ends even while events
arrive. Each page is one short transaction. The store is open only while a stream is
read.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from tap_stairoids_webhooks.exceptions import StoreResetError
from tap_stairoids_webhooks.signature import Verifier

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tap_stairoids_webhooks.store.event_filter import EventFilter
    from tap_stairoids_webhooks.store.schema import StoredEvent
    from tap_stairoids_webhooks.store.store import EventStore

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Start:
    """The store when it was first opened."""

    store_id: str
    place: str
    upper: int


class Snapshot:
    """Reads the events up to now. The store is opened when it is first needed.

    Args:
        store_url: The store that the receiver fills.
        secrets: If given, events that none of them signed are left out.

    Attributes:
        stopped: Set it to end every stream after the current event.
    """

    def __init__(self, store_url: str, *, secrets: Sequence[str] = ()) -> None:
        self._store_url = store_url
        self._verifier = Verifier(secrets) if secrets else None
        self.stopped = False

    @cached_property
    def _start(self) -> _Start:
        with self.open() as store:
            return _Start(
                store_id=_id_of(store), place=store.place, upper=store.last_sequence()
            )

    def open(self, *, read_only: bool = True) -> EventStore:
        """Open the store.

        Raises:
            StoreError: The store cannot be opened.
        """
        from tap_stairoids_webhooks.store.store import EventStore  # noqa: PLC0415 -- SQLAlchemy is slow to import, and --version does not need it

        return (
            EventStore.open_read_only(self._store_url)
            if read_only
            else EventStore.open(self._store_url)
        )

    @property
    def upper(self) -> int:
        """The last sequence of the snapshot."""
        return self._start.upper

    @property
    def store_id(self) -> str:
        """Id of the history that the snapshot shows."""
        return self._start.store_id

    @property
    def place(self) -> str:
        """Name of the store for messages."""
        return self._start.place

    def events_after(
        self, sequence: int, selected: EventFilter
    ) -> Iterator[StoredEvent]:
        """Yield the events after a sequence, in order.

        Raises:
            StoreError: The store cannot be read. Run again.
        """
        failed, first_failed = 0, None
        for stored in self._read_after(sequence, selected):
            if self.stopped:
                return
            if self._is_proven(stored):
                yield stored
            else:
                failed += 1
                first_failed = first_failed or stored.sequence
        if failed:
            logger.warning(
                "events not emitted, signed with none of the secrets given:"
                " number=%d first_sequence=%s",
                failed,
                first_failed,
            )

    def _read_after(
        self, sequence: int, selected: EventFilter
    ) -> Iterator[StoredEvent]:
        upper, store_id = self.upper, self.store_id
        with self.open() as store:
            if _id_of(store) != store_id:
                msg = f"the store {store.place} was replaced during the run: run again"
                raise StoreResetError(msg)
            while page := store.read_after(sequence, upper=upper, selected=selected):
                yield from page
                sequence = page[-1].sequence

    def _is_proven(self, stored: StoredEvent) -> bool:
        if self._verifier is None or stored.erased_at is not None:
            return True
        # The row may have been changed in the store, the signature as well.
        header = stored.signature.encode("ascii", "replace")
        return self._verifier.key_id_for(stored.body, header) is not None


def _id_of(store: EventStore) -> str:
    return f"{store.store_id}/{store.generation}"
