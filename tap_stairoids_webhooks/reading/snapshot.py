"""A snapshot: the store as one run of the tap sees it.

Its upper end is fixed when it is first asked for, so a run is finite however
fast events arrive. Nothing is held while records are written: each page is one
short read. The store is open for as long as a stream is read, and no longer.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from tap_stairoids_webhooks.exceptions import StoreResetError
from tap_stairoids_webhooks.signature import Verifier

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from tap_stairoids_webhooks.store.schema import StoredEvent, Wanted
    from tap_stairoids_webhooks.store.store import EventStore

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Seen:
    """What was found when the store was first opened."""

    store_id: str
    place: str
    upper: int


class Snapshot:
    """Reads the events up to now, lazily: nothing is opened before it is needed.

    Args:
        store_url: Where the receiver stores events.
        secrets: If given, a row none of them signed is not handed out.

    Attributes:
        stopped: Set to end every reading after the current event.
    """

    def __init__(self, store_url: str, *, secrets: Sequence[str] = ()) -> None:
        self._store_url = store_url
        self._verifier = Verifier(secrets) if secrets else None
        self.stopped = False

    @cached_property
    def _seen(self) -> _Seen:
        with self._opened() as store:
            return _Seen(
                store_id=_id_of(store), place=store.place, upper=store.last_sequence()
            )

    def _opened(self) -> EventStore:
        from tap_stairoids_webhooks.store.store import EventStore  # noqa: PLC0415 -- SQLAlchemy is slow to import, and --version does not need it

        return EventStore.open_to_read(self._store_url)

    @property
    def upper(self) -> int:
        """The last sequence of the snapshot."""
        return self._seen.upper

    @property
    def store_id(self) -> str:
        """Which history it shows."""
        return self._seen.store_id

    def check_bookmark(self, sequence: int, *, store_id: str | None, name: str) -> None:
        """Make sure that a bookmark was taken from this history.

        Raises:
            StoreResetError: It was not; reading on would skip events silently.
        """
        remedy = "restore the store, or set on_store_reset to resync to read it anew"
        if store_id is not None and store_id != self.store_id:
            msg = f"the bookmark of {name} is of another store ({store_id}): {remedy}"
            raise StoreResetError(msg)
        if sequence > self.upper:
            msg = (
                f"the bookmark of {name} is {sequence}, but the store"
                f" {self._seen.place} ends at {self.upper}: {remedy}"
            )
            raise StoreResetError(msg)

    def pruned_after(self, sequence: int) -> int | None:
        """Return up to where events after `sequence` are gone; None for nowhere."""
        from tap_stairoids_webhooks.store.history import pruned_through  # noqa: PLC0415 -- same as above

        with self._opened() as store:
            through = pruned_through(store)
        return through if through > sequence else None

    def acknowledge(self, consumer: str, upto: Mapping[str, int]) -> None:
        """Tell the store what a consumer wants, and up to where it has that.

        Raises:
            StoreError: The store cannot be written to.
        """
        from tap_stairoids_webhooks.store.consumers import acknowledge  # noqa: PLC0415 -- same as above
        from tap_stairoids_webhooks.store.store import EventStore  # noqa: PLC0415 -- same

        with EventStore.open_to_change(self._store_url) as store:
            acknowledge(store, consumer, upto)

    def events_after(self, sequence: int, wanted: Wanted) -> Iterator[StoredEvent]:
        """Yield what was stored after `sequence`, in order.

        Raises:
            StoreError: The store cannot be read on; run again.
        """
        failed, first_failed = 0, None
        for stored in self._read_after(sequence, wanted):
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

    def _read_after(self, sequence: int, wanted: Wanted) -> Iterator[StoredEvent]:
        upper, store_id = self.upper, self.store_id
        with self._opened() as store:
            if _id_of(store) != store_id:
                msg = f"the store {store.place} was replaced during the run: run again"
                raise StoreResetError(msg)
            while page := store.read_after(sequence, upper=upper, wanted=wanted):
                yield from page
                sequence = page[-1].sequence

    def _is_proven(self, stored: StoredEvent) -> bool:
        if self._verifier is None or stored.erased_at is not None:
            return True
        # What is stored may have been tampered with, the signature as well.
        header = stored.signature.encode("ascii", "replace")
        return self._verifier.key_id_for(stored.body, header) is not None


def _id_of(store: EventStore) -> str:
    return f"{store.store_id}/{store.generation}"
