"""Reading: what a run reads of the store, and whether its bookmarks fit that.

It is settled here for every protocol that carries it.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from tap_stairoids_webhooks.exceptions import ConfigError, StoreResetError
from tap_stairoids_webhooks.reading.records import EVENTS, Choice, Records, all_records
from tap_stairoids_webhooks.reading.snapshot import Snapshot
from tap_stairoids_webhooks.settings import DEFAULT_STORE_URL
from tap_stairoids_webhooks.timestamps import stamp_from

if TYPE_CHECKING:
    from collections.abc import Mapping

Json = Any  # what JSON can hold; narrowed where it is read

logger = logging.getLogger(__name__)


class Reading:
    """What one run reads of the store, and from where on.

    Args:
        config: One in which `problems_in` found nothing.

    Attributes:
        records: Those of every stream.
    """

    def __init__(self, config: Mapping[str, Json]) -> None:
        events, since = config.get("event_types"), config.get("since")
        self._choice = Choice(
            events=None if events is None else frozenset(events),
            since=stamp_from(since) if since else None,
        )
        self._resyncs = config.get("on_store_reset") == "resync"
        self._consumer = config.get("consumer")
        self.snapshot = Snapshot(
            config.get("store_url", DEFAULT_STORE_URL),
            secrets=config.get("secrets") or (),
        )
        self.records: list[Records] = all_records(self.snapshot, self._choice)

    def may_go_on(self, name: str, sequence: object, *, store_id: str | None) -> bool:
        """Say whether a stream's bookmark is a place in this store's history.

        Returns:
            False if it is not and the settings say to read the stream anew.

        Raises:
            ConfigError: It is no bookmark at all.
            StoreResetError: It is of another history, and a person is to decide.
        """
        if not isinstance(sequence, int):
            msg = f"state: the bookmark of {name} is not a whole number"
            raise ConfigError(msg)
        try:
            self.snapshot.check_bookmark(sequence, store_id=store_id, name=name)
        except StoreResetError as error:
            if not self._resyncs:
                raise
            logger.warning("Reading %s anew: %s", name, error)
            return False
        self._warn_of_pruning(name, sequence)
        return True

    def _warn_of_pruning(self, name: str, sequence: int) -> None:
        """Tell what nobody can read any more; only `events` holds every sequence."""
        if name != EVENTS or self._choice != Choice():
            return
        if through := self.snapshot.pruned_after(sequence):
            logger.warning(
                "Events after %d and up to %d were pruned before this state had them;"
                " the setting consumer prevents that",
                sequence,
                through,
            )

    def acknowledge(self, bookmarks: Mapping[str, int]) -> None:
        """Tell the store what the incoming state proves to have arrived.

        Nothing is told for a run without the setting `consumer`.

        Args:
            bookmarks: Name of each stream this run reads -> its sequence, 0 for none.
        """
        if not self._consumer:
            return
        upto: dict[str, int] = {}
        for records in self.records:
            if records.name not in bookmarks:
                continue
            bookmark = bookmarks[records.name]
            for kind in records.wants:
                upto[kind] = min(bookmark, upto.get(kind, bookmark))
        if upto:
            self.snapshot.acknowledge(self._consumer, upto)
            logger.info("Acknowledged as %s: %s", self._consumer, upto)
