"""The history of a store: which past its sequences count.

A back-up that is put back counts on from an earlier sequence, so numbers return
under other events, and a bookmark taken before would skip them without a word. Its
generation tells the two pasts apart.
"""

from __future__ import annotations

import sqlalchemy as sa

from tap_stairoids_webhooks.store.schema import CONSUMERS, STORE
from tap_stairoids_webhooks.store.store import EventStore


def begin_generation(url: str) -> int:
    """Begin another past from here on, in which no consumer has anything.

    Returns:
        Its generation; bookmarks of an earlier one are refused by the tap.

    Raises:
        StoreError: The store cannot be used; nothing has changed.
    """
    with (
        EventStore.open_to_change(url) as store,
        store.transaction("cannot begin a generation", lock=True) as connection,
    ):
        connection.execute(sa.update(STORE).values(generation=STORE.c.generation + 1))
        connection.execute(sa.update(CONSUMERS).values(sequence=0))
        return int(connection.execute(sa.select(STORE.c.generation)).scalar_one())


def pruned_through(store: EventStore) -> int:
    """Return the last sequence that was ever removed, 0 for none."""
    with store.transaction("cannot be read") as connection:
        return int(connection.execute(sa.select(STORE.c.pruned_through)).scalar_one())
