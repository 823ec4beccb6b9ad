"""The ledger's tables.

Digests have 16 bytes. The tables `settled` and `latest` hold no personal data. Claims
and dead letters hold signals and records, so that a run or a person can continue from
them. The sync log of signals holds their keys.
"""

from __future__ import annotations

import secrets
from functools import lru_cache

import sqlalchemy as sa
from sqlalchemy.schema import CreateIndex, CreateTable

from stairoids_common.database import BIG_ID, encoding_of, key, optional, required
from target_stairoids.exceptions import LedgerError

SCHEMA_VERSION = 16
metadata = sa.MetaData()
_Digest = sa.LargeBinary(16)

meta = sa.Table("stairoids_meta", metadata, *key("name"), *required(sa.Text, "value"))
#: The first key of a ledger's advisory locks on PostgreSQL, of 31 bits. The number of a
#: table differs for ledgers in several schemas of a database, also for copies. Before
#: the ledger is created, it is "stat" in ASCII.
LOCK_KEY = (
    f"COALESCE(CAST(to_regclass('{meta.name}')::oid::bigint & 2147483647 AS integer),"
    " 1936744820)"
)
_CHANGE = sa.text("(SELECT COALESCE(MAX(sequence), 0) + 1 FROM stairoids_runs)")
runs = sa.Table(
    "stairoids_runs",
    metadata,
    *key("run", kind=BIG_ID),
    *required(sa.Text, "scope", "source", "started_at"),
    *optional(sa.Text, "ended_at", "end_reason", "report"),
    sa.Column("exit_code", sa.SmallInteger),
    # It grows with each change of a run, in the order of commits: see `signals`.
    sa.Column("sequence", BIG_ID, nullable=False, default=_CHANGE, onupdate=_CHANGE),
    sqlite_autoincrement=True,
)
streams = sa.Table(
    "stairoids_streams",
    metadata,
    *key("stream", kind=sa.Integer),
    *required(sa.Text, "scope", "name"),
    sa.Column("alias", sa.Text),  # its keys are made with; null if it is the name
    sa.Column("complete_run", BIG_ID),  # the newest run that settled all its input
    sa.Column("schema", sa.Text),  # the last SCHEMA message, for exporting dead letters
    sa.UniqueConstraint("scope", "name"),
)
# The mappings of a stream so far, so that a change of them is noticed.
mappings = sa.Table(
    "stairoids_mappings",
    metadata,
    *key("stream", kind=sa.Integer),
    *key("mapping"),
    sa.Column("source", sa.Text),  # null if it is not the same for all records
    sa.Column("identity", sa.Text, nullable=False),  # the key's columns, as JSON
)
# Checks that fired, and those that a person lets pass. The subject is a stream.
checks = sa.Table(
    "stairoids_checks",
    metadata,
    *key("scope", "subject", "name"),
    *required(sa.Text, "reason"),
    *required(sa.Boolean, "is_allowed"),
)
# Sources of signals that other producers send as well, as a person decided.
sources = sa.Table("stairoids_sources", metadata, *key("scope", "source"))
# How far Stairoids' signals are accounted for: older ones need not be in the ledger.
known_signals = sa.Table(
    "stairoids_known_signals",
    metadata,
    *key("scope", "source", "type"),
    *required(sa.Text, "known_until"),  # the server's time
    sa.Column("signal_id", sa.Text),  # the last one in that second; null for all
)
# The states of pipelines that people were notified of.
pipelines = sa.Table(
    "stairoids_pipelines",
    metadata,
    *key("scope", "source"),
    *required(sa.Text, "state"),
    *required(BIG_ID, "newest_dead_letter"),
)
# API keys that were used with this ledger, as keyed digests.
api_keys = sa.Table(
    "stairoids_api_keys", metadata, *key("scope"), *key("api_key", kind=_Digest)
)
# The state digest, and the content digest beside it, are looked up by the record's
# entity, so that one index serves both. On SQLite, rows here and in `latest` are in the
# order of insertion, which is the tap's: rows that change together share pages.
settled = sa.Table(
    "stairoids_settled",
    metadata,
    *key("entity", kind=_Digest),
    *key("mapping"),
    *key("state_digest", kind=_Digest),
    *optional(_Digest, "content_digest"),
    *required(sa.Integer, "stream"),
    *required(sa.Text, "outcome"),
    sa.Column("run", BIG_ID, nullable=False),  # it was sent, or read again, last
    *required(_Digest, "mapping_digest"),
    sa.Column("signal_id", sa.Text),
)
# Partial, because most versions have no id and each index costs a page per written row.
settled_signal = sa.Index("stairoids_settled_signal", settled.c.signal_id)
# The sync log, one row for each acceptance. Only one transaction writes at a time, and
# it draws the sequence. So a row that is committed later has a higher sequence.
signals = sa.Table(
    "stairoids_signals",
    metadata,
    *key("sequence", kind=BIG_ID),
    *required(sa.Integer, "stream"),
    *optional(sa.Text, "signal_id", "account_id", "contact_id"),
    *required(sa.Text, "type", "source"),
    sa.Column("key_values", sa.Text),  # a JSON array, or only its digest
    *required(BIG_ID, "run"),
    *required(sa.Text, "accepted_at"),
    sa.Column("email", _Digest),  # of the person, keyed with the ledger's secret
    sqlite_autoincrement=True,
)
latest = sa.Table(
    "stairoids_latest",
    metadata,
    *key("entity", kind=_Digest),
    *key("mapping"),
    *required(sa.Integer, "stream"),
    *optional(_Digest, "state_digest", "content_digest"),
    *optional(sa.Text, "bookmark_value"),
    *required(sa.Boolean, "done"),
    *optional(_Digest, "source_digest", "text_digest"),
    *optional(_Digest, "email", "domain"),  # keyed with the ledger's secret
    *required(BIG_ID, "run", "read_order"),
    *required(sa.Boolean, "is_shared", "is_several"),
    sa.Column("record_entity", _Digest),  # the key that people share
    *required(sa.Boolean, "has_null_key"),
)
# Partial, because most keys are one person's.
latest_person = sa.Index(
    "stairoids_latest_person", latest.c.record_entity, latest.c.text_digest
)
claims = sa.Table(
    "stairoids_claims",
    metadata,
    *key("entity", kind=_Digest),
    *key("mapping"),
    *required(_Digest, "record_entity", "state_digest"),
    *required(_Digest, "content_digest", "mapping_digest"),
    *optional(_Digest, "source_digest", "email", "domain"),
    sa.Column("api_key", _Digest),  # keyed
    *required(sa.Integer, "stream", "attempts"),
    *required(sa.Text, "stream_name", "claimed_at", "attempted_at"),
    *optional(sa.Text, "bookmark_value", "key_values"),
    *required(sa.Boolean, "has_null_key"),
    *required(BIG_ID, "run", "read_order"),
    sa.Column("dead_letter", BIG_ID),  # the one that a person sends again
    *required(sa.LargeBinary, "signal", "record"),
)
dead_letters = sa.Table(
    "stairoids_dead_letters",
    metadata,
    *key("id", kind=BIG_ID),
    *required(_Digest, "entity", "state_digest"),
    *required(sa.Integer, "stream", "attempts"),
    *required(BIG_ID, "read_order"),  # as for a version
    *required(sa.Text, "mapping", "stream_name", "outcome", "reason"),
    *required(sa.Text, "first_at", "last_at"),
    *optional(sa.Text, "request_id", "key_values", "bookmark_value"),
    *optional(_Digest, "email", "domain"),  # keyed with the ledger's secret
    *optional(sa.LargeBinary, "signal"),
    *required(sa.LargeBinary, "record"),
    sa.UniqueConstraint("entity", "mapping", "state_digest"),
    sqlite_autoincrement=True,
)
# Keyed digests only. Each row of the data is one entry. Two rows of one person are two
# entries, so that the removal of one leaves the other.
suppressed = sa.Table(
    "stairoids_suppressed",
    metadata,
    *key("entity", kind=_Digest),
    *key("mapping"),
    sa.Column("digest", _Digest, primary_key=True, index=True),
    *required(sa.Integer, "stream"),
    sqlite_with_rowid=False,
)
days = sa.Table(
    "stairoids_days",
    metadata,
    *key("scope", "day"),
    *required(sa.Integer, "requests"),
)
# Requests of the last minutes, so that runs with one key share its quota.
requests = sa.Table(
    "stairoids_requests",
    metadata,
    *key("api_key", kind=_Digest),
    *key("at", kind=sa.Double),  # seconds of the epoch
    *key("run", kind=BIG_ID),
    *required(sa.Integer, "requests"),
    sa.Column("rate_limit", sa.Integer),  # per minute; null before it is known
)


def check_encoding(connection: sa.Connection, name: str) -> None:
    """Raise `LedgerError` if a database in PostgreSQL cannot store any text."""
    if encoding := encoding_of(connection):
        raise LedgerError(
            f"The ledger {name} is in a database with the encoding {encoding}, which "
            "cannot store every key. Create a database with ENCODING 'UTF8', and name "
            "it in `ledger_url`."
        )


def is_created(connection: sa.Connection) -> bool:
    """Return whether a database holds a ledger."""
    return sa.inspect(connection).has_table(meta.name)


def create(connection: sa.Connection) -> None:
    """Create the tables, unless a release has done so."""
    if is_created(connection):
        return
    for index in (settled_signal, latest_person):
        # Only now, because these options import all drivers of their dialect.
        first = index.columns[0].is_not(None)
        index.dialect_kwargs[f"{connection.dialect.name}_where"] = first
    for statement in _definitions(connection.dialect):
        connection.exec_driver_sql(statement)
    rows = {"schema_version": str(SCHEMA_VERSION), "secret": secrets.token_hex(32)}
    values = [{"name": name, "value": value} for name, value in rows.items()]
    connection.execute(sa.insert(meta), values)


@lru_cache(maxsize=1)
def _definitions(dialect: sa.Dialect) -> list[str]:
    """Return the statements that create the tables; it takes longer than they do."""
    tables = metadata.sorted_tables
    parts: list[sa.DDLElement] = [*map(CreateTable, tables)]
    parts += (CreateIndex(index) for table in tables for index in table.indexes)
    return [str(part.compile(dialect=dialect)) for part in parts]


def checked_secret_of(connection: sa.Connection) -> bytes:
    """Return the secret, 32 bytes; `LedgerError` if the schema has another version."""
    values = {row.name: row.value for row in connection.execute(sa.select(meta))}
    found = values.get("schema_version")
    if found != str(SCHEMA_VERSION):
        raise LedgerError(
            f"The ledger has schema version {found}, this release reads "
            f"{SCHEMA_VERSION}. Install the release that wrote it, or upgrade "
            "singer-stairoids, or name another ledger in `ledger_url`."
        )
    return bytes.fromhex(values["secret"])


def replace_secret(connection: sa.Connection, secret: bytes) -> None:
    """Give a ledger the secret of the ledger that it is a copy of."""
    is_secret = meta.c.name == "secret"
    connection.execute(sa.update(meta).where(is_secret).values(value=secret.hex()))
