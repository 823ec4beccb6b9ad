"""Check the bookmarks of a run against the store, and acknowledge them.

Both connectors use it: the Singer tap and the Airbyte source.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

from stairoids_common.settings import settings_from
from tap_stairoids_webhooks.config import TapConfig
from tap_stairoids_webhooks.exceptions import ConfigError, StoreResetError
from tap_stairoids_webhooks.reading.payload_schemas import KNOWN_EVENTS
from tap_stairoids_webhooks.reading.records import ERASURES, EVENTS, all_records
from tap_stairoids_webhooks.reading.snapshot import Snapshot
from tap_stairoids_webhooks.store.event_filter import EventFilter

if TYPE_CHECKING:
    from tap_stairoids_webhooks.store.store import EventStore

logger = logging.getLogger(__name__)

_ANY_SEQUENCE = 2**62
_REMEDY = "restore the store, or set on_store_reset to resync to read it again"


def unknown_types(store: EventStore, types: Iterable[str]) -> Iterator[str]:
    """Yield each type that is not documented and that no event has, with a hint."""
    for event in sorted(types):
        only = EventFilter(types=frozenset({event}), erased=True)
        if event in KNOWN_EVENTS or store.read_after(
            0, upper=_ANY_SEQUENCE, limit=1, selected=only
        ):
            continue
        near = get_close_matches(event.strip().lower(), KNOWN_EVENTS, 1)
        hint = f"; did you mean {near[0]}?" if near else ""
        yield f"{event}{hint}"


class Reading:
    """The streams of one run, and the places where they begin. Close its snapshot."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        self._config = settings = settings_from(TapConfig, config)
        self._filter = settings.event_filter
        self.snapshot = Snapshot(
            settings.store_url,
            secrets=settings.secrets or (),
            skips_unverified=settings.on_unverified == "skip",
        )
        found = all_records(self.snapshot, self._filter)
        self.streams = {records.name: records for records in found}
        self._has_warned = False

    def stop(self) -> None:
        """End every stream after the current record."""
        self.snapshot.stopped = True

    def marks_of(self, name: str) -> dict[str, Any]:
        """Return the facts that the state of a stream carries beside its sequence."""
        records = self.streams[name]
        marks: dict[str, Any] = {
            "store_id": self.snapshot.history_id,
            **self._filter.as_json(),
        }
        if records.read_through is not None:
            marks["read_through"] = records.read_through
        if at := records.at:
            marks["row"] = records.row_digest(at)
            marks["row_before"] = records.row_digest(at - 1)
        return marks

    def resumes(self, name: str, sequence: object, marks: Mapping[str, object]) -> bool:
        """Return whether a stream can resume after its bookmark. If not, read it again.

        `marks` is the result of `marks_of` in the state. Any fact may be absent.

        Raises:
            ConfigError: The bookmark is not a whole number.
            StoreResetError: The bookmark is of another store, and a person decides.
        """
        if not isinstance(sequence, int) or isinstance(sequence, bool) or sequence < 0:
            raise ConfigError(f"state: the bookmark of {name} is not a whole number")
        try:
            self._check(name, sequence, marks)
        except StoreResetError as error:
            if self._config.on_store_reset != "resync":
                raise
            reason = str(error).partition(f": {_REMEDY}")[0]
            logger.warning("Reading %s from the start: %s", name, reason)
            return False
        through = marks.get("read_through")
        records = self.streams[name]
        records.read_through = through if isinstance(through, int) else sequence
        self._warn_of_wider_choice(name, sequence, marks)
        return True

    def _check(self, name: str, sequence: int, marks: Mapping[str, object]) -> None:
        """Refuse a bookmark of another history: to resume would skip events."""
        store_id, row = marks.get("store_id"), marks.get("row")
        before = marks.get("row_before", ...)
        store = self.snapshot.store
        if store_id is not None and store_id != self.snapshot.history_id:
            msg = f"the bookmark of {name} is of another store ({store_id}): {_REMEDY}"
            raise StoreResetError(msg)
        records = self.streams[name]
        if sequence > records.upper:
            raise StoreResetError(
                f"the bookmark of {name} is {sequence}, but the store"
                f" {store.place} ends at {records.upper}: {_REMEDY}"
            )
        is_here = row is None or records.has_row(sequence, row)
        if is_here and (before is ... or records.has_row(sequence - 1, before)):
            return
        raise StoreResetError(
            f"the bookmark of {name} is {sequence}, but the store {store.place} has"
            " another record there, as after a copy was put back. Run"
            " stairoids-webhooks restored, and set on_store_reset to resync to read"
            " the store again"
        )

    def _warn_of_wider_choice(
        self, name: str, sequence: int, marks: Mapping[str, object]
    ) -> None:
        """Warn once of older events that an earlier choice of events left out."""
        earlier = EventFilter.from_json(marks)
        if name != EVENTS:  # the others have no bookmark of events they leave out
            earlier = replace(earlier, types=None)
        unread = self._filter.beyond(earlier)
        if unread is not None and name != ERASURES and not self._has_warned:
            self._has_warned = True
            added = json.dumps({k: v for k, v in unread.as_json().items() if v})
            logger.warning(
                "event_types or since now selects older events, but the state has"
                " passed event %d. To read these events, copy your config without"
                " event_types, since and consumer%s. Run the tap once without a state:"
                " tap-stairoids-webhooks --config COPY. Keep your old state",
                sequence,
                "" if added == "{}" else f", and add {added}",
            )

    def check_consumer(self) -> None:
        """Raise the error of `acknowledge`, if there is one; store nothing."""
        if self._config.consumer is None:
            return
        from tap_stairoids_webhooks.store.consumers import check_tap  # noqa: PLC0415 -- SQLAlchemy is slow to import, and --version does not need it
        from tap_stairoids_webhooks.store.store import EventStore  # noqa: PLC0415 -- as above

        with EventStore.open(self._config.store_url) as store:
            check_tap(store, self._config.consumer)

    def acknowledge(self, bookmarks: Mapping[str, int]) -> None:
        """Store which events have arrived, as the incoming state proves it.

        `bookmarks` has the sequence of each stream that this run reads, 0 for none.
        Nothing is stored without the setting `consumer`.
        """
        for event in unknown_types(self.snapshot.store, self._filter.types or ()):
            logger.warning("event_types: no event has the type %s", event)
        consumer = self._config.consumer
        if consumer is None:
            return
        by_kind: dict[str, int] = {}
        for name, records in self.streams.items():
            if name not in bookmarks:
                continue
            bookmark = bookmarks[name]
            for kind in records.selected.kinds:
                by_kind[kind] = min(bookmark, by_kind.get(kind, bookmark))
        if not by_kind:
            return
        from tap_stairoids_webhooks.store.consumers import acknowledge  # noqa: PLC0415 -- SQLAlchemy is slow to import, and --version does not need it
        from tap_stairoids_webhooks.store.store import EventStore  # noqa: PLC0415 -- as above

        with EventStore.open(self._config.store_url) as store:
            is_back = acknowledge(store, consumer, by_kind)
        logger.info("Acknowledged as %s: %s", consumer, by_kind)
        if is_back:
            logger.warning(
                "The consumer %s has gone back, or reads other events than in its last"
                " run. If two taps have this name, give each its own, or prune may"
                " remove events that one of them has not read",
                consumer,
            )
