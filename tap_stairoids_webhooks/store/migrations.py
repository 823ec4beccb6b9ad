"""Migrations: what turns a store of an older version into one of this version.

Each step is written once and never changed, in words both databases know, and
only adds: a receiver of the version before it can go on appending meanwhile.
They run in the transaction that opens the store, under its lock.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tap_stairoids_webhooks.store.schema import SCHEMA_VERSION

if TYPE_CHECKING:
    import sqlalchemy as sa

_STEPS: dict[int, tuple[str, ...]] = {
    1: (
        "ALTER TABLE webhook_events ADD COLUMN erased_at TEXT",
        """
        CREATE TABLE webhook_consumers (
            consumer TEXT NOT NULL,
            wanted TEXT NOT NULL,
            sequence BIGINT NOT NULL,
            updated_at TEXT NOT NULL,
            PRIMARY KEY (consumer, wanted)
        )
        """,
        """
        CREATE TABLE webhook_refusals (
            day TEXT NOT NULL,
            reason TEXT NOT NULL,
            number BIGINT NOT NULL,
            last_at TEXT NOT NULL,
            PRIMARY KEY (day, reason)
        )
        """,
    ),
}


def migrate(connection: sa.Connection, version: int) -> None:
    """Bring a store of `version` up to this one; a newer one is left alone."""
    for step in range(version, SCHEMA_VERSION):
        for statement in _STEPS[step]:
            connection.exec_driver_sql(statement)
        connection.exec_driver_sql(
            f"UPDATE webhook_store SET schema_version = {step + 1}"  # noqa: S608 -- a number of ours
        )
