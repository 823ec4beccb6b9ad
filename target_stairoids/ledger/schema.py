"""The ledger's tables, and how a database becomes a ledger of this version.

Digests are 16 bytes; the settled part holds no personal data. Claims and dead letters
hold signals and records, because a crash and a person must be able to go on from them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
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
    update,
)

from target_stairoids.exceptions import LedgerError

if TYPE_CHECKING:
    from sqlalchemy import Connection

SCHEMA_VERSION = 5
LOCK_CLASS = 1_936_744_820  # "stat" in ASCII; keeps us out of others' advisory locks

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
    Column("is_complete", Boolean),  # all it read is settled
    Column("report", Text),
    sqlite_autoincrement=True,
)
streams = Table(
    "stairoids_streams",
    metadata,
    Column("stream", Integer, primary_key=True, autoincrement=True),
    Column("scope", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("complete_run", _Id),  # the newest run that settled all of it
    Column("schema", Text),  # the last SCHEMA message, for exporting dead letters
    UniqueConstraint("scope", "name"),
)
settled = Table(
    "stairoids_settled",
    metadata,
    Column("version", LargeBinary(16), primary_key=True),
    Column("mapping", Text, primary_key=True),
    Column("stream", Integer, nullable=False),
    Column("outcome", String(16), nullable=False),
    Column("run", _Id, nullable=False),
    Column("fingerprint", LargeBinary(16), nullable=False),
    Column("signal_id", Text),
    sqlite_with_rowid=False,
)
# Most versions have no id, and each index costs a page of each row that is written.
settled_signal = Index(
    "stairoids_settled_signal",
    settled.c.signal_id,
    sqlite_where=settled.c.signal_id.is_not(None),
    postgresql_where=settled.c.signal_id.is_not(None),
)
latest = Table(
    "stairoids_latest",
    metadata,
    Column("entity", LargeBinary(16), primary_key=True),
    Column("mapping", Text, primary_key=True),
    Column("stream", Integer, nullable=False),
    Column("version", LargeBinary(16), nullable=False),
    Column("content", LargeBinary(16)),
    Column("position", Text),
    Column("done", Boolean, nullable=False),
    Column("run", _Id, nullable=False),
    Column("basis", LargeBinary(16)),
    Column("spelling", LargeBinary(16)),
)
claims = Table(
    "stairoids_claims",
    metadata,
    Column("entity", LargeBinary(16), primary_key=True),
    Column("mapping", Text, primary_key=True),
    Column("version", LargeBinary(16), nullable=False),
    Column("stream", Integer, nullable=False),
    Column("stream_name", Text, nullable=False),
    Column("content", LargeBinary(16), nullable=False),
    Column("position", Text),
    Column("fingerprint", LargeBinary(16), nullable=False),
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
    Column("version", LargeBinary(16), nullable=False),
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
    UniqueConstraint("version", "mapping"),
    sqlite_autoincrement=True,
)

days = Table(
    "stairoids_days",
    metadata,
    Column("scope", Text, primary_key=True),
    Column("day", String(10), primary_key=True),
    Column("requests", Integer, nullable=False),
)


def is_prepared(connection: Connection) -> bool:
    """Say whether a database holds a ledger."""
    return inspect(connection).has_table(meta.name)


def prepare(connection: Connection) -> None:
    """Create the tables where they are missing, and upgrade those of an older release.

    Raises:
        LedgerError: A newer release wrote this ledger; upgrade.
    """
    meta.create(connection, checkfirst=True)
    version = check_version(connection)
    metadata.create_all(connection)
    if version is None:
        connection.execute(
            insert(meta).values(name="schema_version", value=str(SCHEMA_VERSION))
        )
        return
    for older in range(version, SCHEMA_VERSION):
        _MIGRATIONS[older](connection)
    if version < SCHEMA_VERSION:
        connection.execute(
            update(meta)
            .where(meta.c.name == "schema_version")
            .values(value=str(SCHEMA_VERSION))
        )


def _index_only_signals(connection: Connection) -> None:
    """To version 3: no index of runs, which are only pruned by, nor of missing ids."""
    for index in ("stairoids_settled_run", "stairoids_settled_signal_id"):
        connection.exec_driver_sql(f"DROP INDEX IF EXISTS {index}")
    settled_signal.create(connection, checkfirst=True)


def _keep_what_content_is_made_of(connection: Connection) -> None:
    """To version 4: what a content was made of, so that it need not be made again."""
    column = latest.c.basis
    kind = column.type.compile(dialect=connection.dialect)
    table = f"{latest.name} ADD COLUMN {column.name} {kind}"
    connection.exec_driver_sql(f"ALTER TABLE {table}")


def _keep_spelling(connection: Connection) -> None:
    """To version 5: how the latest version was spelt, and rows in the order they came.

    Taps read rows in much the same order each time, digests have none: where the rows
    are kept as they came, those that change together share pages.
    """
    column = latest.c.spelling
    kind = column.type.compile(dialect=connection.dialect)
    table = f"{latest.name} ADD COLUMN {column.name} {kind}"
    connection.exec_driver_sql(f"ALTER TABLE {table}")
    if connection.dialect.name == "sqlite":
        old = f"{latest.name}_4"
        names = ", ".join(column.name for column in latest.c)
        rows = f"({names}) SELECT {names} FROM {old}"  # noqa: S608 - names of our own tables
        connection.exec_driver_sql(f"ALTER TABLE {latest.name} RENAME TO {old}")
        latest.create(connection)
        connection.exec_driver_sql(f"INSERT INTO {latest.name} {rows}")
        connection.exec_driver_sql(f"DROP TABLE {old}")


#: How a ledger of each version becomes one of the next.
_MIGRATIONS = {
    1: _index_only_signals,
    2: _index_only_signals,
    3: _keep_what_content_is_made_of,
    4: _keep_spelling,
}


def check_version(connection: Connection) -> int | None:
    """Return the version of a ledger's tables; None if it has none yet.

    Raises:
        LedgerError: A newer release wrote this ledger; upgrade.
    """
    found = connection.scalar(
        select(meta.c.value).where(meta.c.name == "schema_version")
    )
    if found is not None and int(found) > SCHEMA_VERSION:
        msg = (
            f"The ledger has schema version {found}, this release knows "
            f"{SCHEMA_VERSION}: upgrade singer-stairoids, or name another ledger in "
            "`ledger_url`."
        )
        raise LedgerError(msg)
    return None if found is None else int(found)


def check_is_current(connection: Connection) -> None:
    """Refuse a ledger that would have to be upgraded first.

    Raises:
        LedgerError: It is of another release; the text says what to do.
    """
    if check_version(connection) != SCHEMA_VERSION:
        msg = (
            "The ledger is of an older release. Run `stairoids-signals check`, which "
            "upgrades it, and then this again."
        )
        raise LedgerError(msg)
