"""The ledger's tables.

Digests have 16 bytes. The tables `settled` and `latest` hold no personal data. Claims
and dead letters hold signals and records, so that a run or a person can continue from
them.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Connection,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    SmallInteger,
    String,
    Table,
    Text,
    UniqueConstraint,
    insert,
    inspect,
    select,
)

from target_stairoids.exceptions import LedgerError

SCHEMA_VERSION = 6
#: First key of our advisory locks on PostgreSQL: "stat" in ASCII.
LOCK_CLASS = 1_936_744_820

metadata = MetaData()
_Id = BigInteger().with_variant(Integer, "sqlite")

meta = Table(
    "stairoids_meta",
    metadata,
    Column("name", String(40), primary_key=True),
    Column("value", Text, nullable=False),
)
runs = Table(
    "stairoids_runs",
    metadata,
    Column("run", _Id, primary_key=True, autoincrement=True),
    Column("scope", Text, nullable=False),
    Column("started_at", String(32), nullable=False),
    Column("ended_at", String(32)),
    Column("exit_code", SmallInteger),
    Column("is_complete", Boolean),  # all its input is settled
    Column("report", Text),
    sqlite_autoincrement=True,
)
streams = Table(
    "stairoids_streams",
    metadata,
    Column("stream", Integer, primary_key=True, autoincrement=True),
    Column("scope", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("complete_run", _Id),  # the newest run that settled all its input
    Column("schema", Text),  # the last SCHEMA message, for exporting dead letters
    UniqueConstraint("scope", "name"),
)
settled = Table(
    "stairoids_settled",
    metadata,
    Column("state_digest", LargeBinary(16), primary_key=True),
    Column("mapping", Text, primary_key=True),
    Column("stream", Integer, nullable=False),
    Column("outcome", String(16), nullable=False),
    Column("run", _Id, nullable=False),
    Column("mapping_digest", LargeBinary(16), nullable=False),
    Column("signal_id", Text),
    sqlite_with_rowid=False,
)
# Partial, because most versions have no id and each index costs a page per written row.
settled_signal = Index(
    "stairoids_settled_signal",
    settled.c.signal_id,
    sqlite_where=settled.c.signal_id.is_not(None),
    postgresql_where=settled.c.signal_id.is_not(None),
)
# On SQLite in the order of insertion, which is the tap's order: rows that change
# together share pages.
latest = Table(
    "stairoids_latest",
    metadata,
    Column("entity", LargeBinary(16), primary_key=True),
    Column("mapping", Text, primary_key=True),
    Column("stream", Integer, nullable=False),
    Column("state_digest", LargeBinary(16), nullable=False),
    Column("content_digest", LargeBinary(16)),
    Column("bookmark_value", Text),
    Column("done", Boolean, nullable=False),
    Column("run", _Id, nullable=False),
    Column("source_digest", LargeBinary(16)),
    Column("text_digest", LargeBinary(16)),
)
claims = Table(
    "stairoids_claims",
    metadata,
    Column("entity", LargeBinary(16), primary_key=True),
    Column("mapping", Text, primary_key=True),
    Column("state_digest", LargeBinary(16), nullable=False),
    Column("stream", Integer, nullable=False),
    Column("stream_name", Text, nullable=False),
    Column("content_digest", LargeBinary(16), nullable=False),
    Column("bookmark_value", Text),
    Column("mapping_digest", LargeBinary(16), nullable=False),
    Column("run", _Id, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("claimed_at", String(32), nullable=False),
    Column("attempted_at", String(32), nullable=False),
    Column("signal", LargeBinary, nullable=False),
    Column("record", LargeBinary, nullable=False),
)
dead_letters = Table(
    "stairoids_dead_letters",
    metadata,
    Column("id", _Id, primary_key=True, autoincrement=True),
    Column("state_digest", LargeBinary(16), nullable=False),
    Column("mapping", Text, nullable=False),
    Column("stream", Integer, nullable=False),
    Column("stream_name", Text, nullable=False),
    Column("outcome", String(16), nullable=False),
    Column("reason", Text, nullable=False),
    Column("request_id", Text),
    Column("attempts", Integer, nullable=False),
    Column("first_at", String(32), nullable=False),
    Column("last_at", String(32), nullable=False),
    Column("signal", LargeBinary),
    Column("record", LargeBinary, nullable=False),
    UniqueConstraint("state_digest", "mapping"),
    sqlite_autoincrement=True,
)
days = Table(
    "stairoids_days",
    metadata,
    Column("scope", Text, primary_key=True),
    Column("day", String(10), primary_key=True),
    Column("requests", Integer, nullable=False),
)


def is_created(connection: Connection) -> bool:
    """Return whether a database holds a ledger."""
    return inspect(connection).has_table(meta.name)


def create(connection: Connection) -> None:
    """Create the tables, unless a release has done so."""
    meta.create(connection, checkfirst=True)
    if _version(connection) is None:
        metadata.create_all(connection)
        connection.execute(
            insert(meta).values(name="schema_version", value=str(SCHEMA_VERSION))
        )


def check_version(connection: Connection) -> None:
    """Refuse a ledger of another release.

    Raises:
        LedgerError: The message says which versions differ.
    """
    found = _version(connection)
    if found != str(SCHEMA_VERSION):
        msg = (
            f"The ledger has schema version {found}, this release reads "
            f"{SCHEMA_VERSION}. Install the release that wrote it, or upgrade "
            "singer-stairoids, or name another ledger in `ledger_url`."
        )
        raise LedgerError(msg)


def _version(connection: Connection) -> str | None:
    found: str | None = connection.scalar(
        select(meta.c.value).where(meta.c.name == "schema_version")
    )
    return found
