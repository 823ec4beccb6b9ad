"""A snapshot: the store as one run of the tap sees it.

Its upper end is fixed when it is first asked for, so a run is finite however
fast events arrive. Nothing is held while records are written: each page is one
short read.
"""

from __future__ import annotations

import logging
from functools import cached_property
from typing import TYPE_CHECKING

from tap_stairoids_webhooks.exceptions import StoreResetError
from tap_stairoids_webhooks.signature import Verifier

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from tap_stairoids_webhooks.rows import StoredEvent, Wanted
    from tap_stairoids_webhooks.store import EventStore

logger = logging.getLogger(__name__)


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
    def _store(self) -> EventStore:
        from tap_stairoids_webhooks.store import EventStore  # noqa: PLC0415 -- SQLAlchemy is slow to import, and --version does not need it

        return EventStore.open_to_read(self._store_url)

    @cached_property
    def upper(self) -> int:
        """The last sequence of the snapshot."""
        return self._store.last_sequence()

    @property
    def store_id(self) -> str:
        """Which history it shows."""
        return f"{self._store.store_id}/{self._store.generation}"

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
                f" {self._store.place} ends at {self.upper}: {remedy}"
            )
            raise StoreResetError(msg)

    def pruned_after(self, sequence: int) -> int | None:
        """Return up to where events after `sequence` are gone; None for nowhere."""
        from tap_stairoids_webhooks.history import pruned_through  # noqa: PLC0415 -- same as above

        through = pruned_through(self._store)
        return through if through > sequence else None

    def acknowledge(self, consumer: str, upto: Mapping[str, int]) -> None:
        """Tell the store what a consumer wants, and up to where it has that.

        Raises:
            StoreError: The store cannot be written to.
        """
        from tap_stairoids_webhooks.consumers import acknowledge  # noqa: PLC0415 -- same as above
        from tap_stairoids_webhooks.store import EventStore  # noqa: PLC0415 -- same

        with EventStore.open_to_change(self._store_url) as store:
            acknowledge(store, consumer, upto)

    def events_after(self, sequence: int, wanted: Wanted) -> Iterator[StoredEvent]:
        """Yield what was stored after `sequence`, in order."""
        failed, first_failed = 0, None
        while page := self._store.read_after(sequence, upper=self.upper, wanted=wanted):
            for stored in page:
                if self.stopped:
                    return
                if self._is_proven(stored):
                    yield stored
                else:
                    failed += 1
                    first_failed = first_failed or stored.sequence
            sequence = page[-1].sequence
        if failed:
            logger.warning(
                "events not emitted, signed with none of the secrets given:"
                " number=%d first_sequence=%s",
                failed,
                first_failed,
            )

    def _is_proven(self, stored: StoredEvent) -> bool:
        if self._verifier is None or stored.erased_at is not None:
            return True
        # What is stored may have been tampered with, the signature as well.
        header = stored.signature.encode("ascii", "replace")
        return self._verifier.key_id_for(stored.body, header) is not None
