"""Check the bookmarks of a run against the store, and acknowledge them.

Both connectors use it: the Singer tap and the Airbyte source.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from tap_stairoids_webhooks.config import TapConfig
from tap_stairoids_webhooks.exceptions import ConfigError, StoreResetError
from tap_stairoids_webhooks.reading.records import EVENTS, Records, all_records
from tap_stairoids_webhooks.reading.snapshot import Snapshot
from tap_stairoids_webhooks.store.event_filter import EventFilter

if TYPE_CHECKING:
    from collections.abc import Mapping

logger = logging.getLogger(__name__)

_REMEDY = "restore the store, or set on_store_reset to resync to read it again"


class Reading:
    """The streams of one run, and the places where they begin.

    Args:
        config: A config in which `config.problems_in` found nothing.

    Attributes:
        snapshot: The events of this run.
        records: The records of every stream.
    """

    def __init__(self, config: Mapping[str, Any]) -> None:
        self._config = settings = TapConfig.from_config(config)
        self._filter = settings.event_filter
        self.snapshot = Snapshot(settings.store_url, secrets=settings.secrets or ())
        self.records: list[Records] = all_records(self.snapshot, self._filter)

    def can_resume(self, name: str, sequence: object, *, store_id: str | None) -> bool:
        """Return whether a stream can resume after its bookmark.

        Returns:
            False if the bookmark is of another store and the setting `on_store_reset`
            is `resync`. Then read the stream from the start.

        Raises:
            ConfigError: The bookmark is not a whole number.
            StoreResetError: The bookmark is of another store, and a person decides.
        """
        if not isinstance(sequence, int):
            msg = f"state: the bookmark of {name} is not a whole number"
            raise ConfigError(msg)
        try:
            self._check(name, sequence, store_id=store_id)
        except StoreResetError as error:
            if self._config.on_store_reset != "resync":
                raise
            logger.warning("Reading %s from the start: %s", name, error)
            return False
        self._warn_of_pruned_events(name, sequence)
        return True

    def _check(self, name: str, sequence: int, *, store_id: str | None) -> None:
        """Check that a bookmark belongs to the history of this store.

        Raises:
            StoreResetError: It does not. To resume would skip events silently.
        """
        if store_id is not None and store_id != self.snapshot.store_id:
            msg = f"the bookmark of {name} is of another store ({store_id}): {_REMEDY}"
            raise StoreResetError(msg)
        if sequence > self.snapshot.upper:
            msg = (
                f"the bookmark of {name} is {sequence}, but the store"
                f" {self.snapshot.place} ends at {self.snapshot.upper}: {_REMEDY}"
            )
            raise StoreResetError(msg)

    def _warn_of_pruned_events(self, name: str, sequence: int) -> None:
        """Warn of events that were pruned before this run could read them.

        Only stream `events` without a filter has every sequence.
        """
        if name != EVENTS or self._filter != EventFilter():
            return
        with self.snapshot.open() as store:
            through = store.pruned_through()
        if through > sequence:
            logger.warning(
                "Events after %d and up to %d were pruned before this state had them;"
                " the setting consumer prevents that",
                sequence,
                through,
            )

    def acknowledge(self, bookmarks: Mapping[str, int]) -> None:
        """Store which events have arrived, as the incoming state proves it.

        Does nothing without the setting `consumer`.

        Args:
            bookmarks: The sequence of each stream that this run reads, 0 for none.

        Raises:
            StoreError: The store cannot be written.
        """
        consumer = self._config.consumer
        if consumer is None:
            return
        by_kind: dict[str, int] = {}
        for records in self.records:
            if records.name not in bookmarks:
                continue
            bookmark = bookmarks[records.name]
            for kind in records.selected.kinds:
                by_kind[kind] = min(bookmark, by_kind.get(kind, bookmark))
        if not by_kind:
            return
        from tap_stairoids_webhooks.store.consumers import acknowledge  # noqa: PLC0415 -- SQLAlchemy is slow to import, and --version does not need it

        with self.snapshot.open(read_only=False) as store:
            acknowledge(store, consumer, by_kind)
        logger.info("Acknowledged as %s: %s", consumer, by_kind)
