"""The ledger's tables.

Digests have 16 bytes. The tables `settled` and `latest` hold no personal data. Claims
and dead letters hold signals and records, so that a run or a person can continue from
them.
"""

from __future__ import annotations

import secrets

import sqlalchemy as sa

from target_stairoids.exceptions import LedgerError

SCHEMA_VERSION = 8
#: First key of our advisory locks on PostgreSQL: "stat" in ASCII.
LOCK_CLASS = 1_936_744_820

metadata = sa.MetaData()
_Id = sa.BigInteger().with_variant(sa.Integer, "sqlite")

meta = sa.Table(
    "stairoids_meta",
    metadata,
    sa.Column("name", sa.String(40), primary_key=True),
    sa.Column("value", sa.Text, nullable=False),
)
runs = sa.Table(
    "stairoids_runs",
    metadata,
    sa.Column("run", _Id, primary_key=True, autoincrement=True),
    sa.Column("scope", sa.Text, nullable=False),
    sa.Column("started_at", sa.String(32), nullable=False),
    sa.Column("ended_at", sa.String(32)),
    sa.Column("exit_code", sa.SmallInteger),
    sa.Column("end_reason", sa.Text),
    sa.Column("api_key", sa.LargeBinary(16)),  # keyed digest
    sa.Column("is_complete", sa.Boolean),  # all its input is settled
    sa.Column("report", sa.Text),
    sqlite_autoincrement=True,
)
streams = sa.Table(
    "stairoids_streams",
    metadata,
    sa.Column("stream", sa.Integer, primary_key=True, autoincrement=True),
    sa.Column("scope", sa.Text, nullable=False),
    sa.Column("name", sa.Text, nullable=False),
    sa.Column("alias", sa.Text),  # the former name, which its keys were made with
    sa.Column("complete_run", _Id),  # the newest run that settled all its input
    sa.Column("schema", sa.Text),  # the last SCHEMA message, for exporting dead letters
    sa.UniqueConstraint("scope", "name"),
)
# The state digest, and the content digest beside it, are looked up by the record's
# entity, so that one index serves both.
# The mappings of a stream so far, so that a change of them is noticed.
mappings = sa.Table(
    "stairoids_mappings",
    metadata,
    sa.Column("stream", sa.Integer, primary_key=True),
    sa.Column("mapping", sa.Text, primary_key=True),
    sa.Column("source", sa.Text),  # null if it is not the same for all records
    sa.Column("identity", sa.LargeBinary(16), nullable=False),  # of the key's columns
    sa.Column("run", _Id, nullable=False),  # the first one that read the stream
)
# Checks that fired, and those that a person lets pass.
checks = sa.Table(
    "stairoids_checks",
    metadata,
    sa.Column("scope", sa.Text, primary_key=True),
    sa.Column("subject", sa.Text, primary_key=True),  # a stream
    sa.Column("name", sa.String(40), primary_key=True),
    sa.Column("reason", sa.Text, nullable=False),
    sa.Column("run", _Id, nullable=False),
    sa.Column("is_allowed", sa.Boolean, nullable=False),
)
# Sources of signals, and the decisions of a person about them.
sources = sa.Table(
    "stairoids_sources",
    metadata,
    sa.Column("scope", sa.Text, primary_key=True),
    sa.Column("source", sa.Text, primary_key=True),
    sa.Column("has_other_producers", sa.Boolean, nullable=False),
    sa.Column("notified_state", sa.String(16)),
    sa.Column("notified_at", sa.String(32)),
)
# How far Stairoids' signals are accounted for: older ones need not be in the ledger.
known_signals = sa.Table(
    "stairoids_known_signals",
    metadata,
    sa.Column("scope", sa.Text, primary_key=True),
    sa.Column("source", sa.Text, primary_key=True),
    sa.Column("type", sa.Text, primary_key=True),
    sa.Column("known_until", sa.String(32), nullable=False),  # the server's time
    sa.Column("signal_id", sa.Text),  # the last one in that second; null for all
)
# API keys that were used with this ledger, and their plans.
api_keys = sa.Table(
    "stairoids_api_keys",
    metadata,
    sa.Column("scope", sa.Text, primary_key=True),
    sa.Column("api_key", sa.LargeBinary(16), primary_key=True),  # keyed digest
    sa.Column("requests_per_minute", sa.Integer),
    sa.Column("plan", sa.Text),
    sa.Column("learnt_at", sa.String(32)),
)
settled = sa.Table(
    "stairoids_settled",
    metadata,
    sa.Column("entity", sa.LargeBinary(16), primary_key=True),
    sa.Column("mapping", sa.Text, primary_key=True),
    sa.Column("state_digest", sa.LargeBinary(16), primary_key=True),
    sa.Column("content_digest", sa.LargeBinary(16)),
    sa.Column("stream", sa.Integer, nullable=False),
    sa.Column("outcome", sa.String(16), nullable=False),
    sa.Column("run", _Id, nullable=False),  # it was sent, or read again, last
    sa.Column("mapping_digest", sa.LargeBinary(16), nullable=False),
    sa.Column("signal_id", sa.Text),
    sa.Column("account_id", sa.Text),
    sa.Column("contact_id", sa.Text),
    sa.Column("accepted_at", sa.String(32)),
    sa.Column("key_values", sa.Text),  # a JSON array
    sqlite_with_rowid=False,
)
# Partial, because most versions have no id and each index costs a page per written row.
settled_signal = sa.Index("stairoids_settled_signal", settled.c.signal_id)
# On SQLite in the order of insertion, which is the tap's order: rows that change
# together share pages.
latest = sa.Table(
    "stairoids_latest",
    metadata,
    sa.Column("entity", sa.LargeBinary(16), primary_key=True),
    sa.Column("mapping", sa.Text, primary_key=True),
    sa.Column("stream", sa.Integer, nullable=False),
    sa.Column("state_digest", sa.LargeBinary(16)),
    sa.Column("content_digest", sa.LargeBinary(16)),
    sa.Column("bookmark_value", sa.Text),
    sa.Column("done", sa.Boolean, nullable=False),
    sa.Column("source_digest", sa.LargeBinary(16)),
    sa.Column("text_digest", sa.LargeBinary(16)),
    sa.Column("email", sa.LargeBinary(16)),  # keyed with the ledger's secret
    sa.Column("domain", sa.LargeBinary(16)),  # as well
    sa.Column("run", _Id, nullable=False),
    sa.Column("is_shared", sa.Boolean, nullable=False),
    sa.Column("is_several", sa.Boolean, nullable=False),
    sa.Column("record_entity", sa.LargeBinary(16)),  # the key that people share
)
# Partial, because most keys are one person's.
latest_person = sa.Index(
    "stairoids_latest_person", latest.c.record_entity, latest.c.text_digest
)
claims = sa.Table(
    "stairoids_claims",
    metadata,
    sa.Column("entity", sa.LargeBinary(16), primary_key=True),
    sa.Column("mapping", sa.Text, primary_key=True),
    sa.Column("record_entity", sa.LargeBinary(16), nullable=False),
    sa.Column("state_digest", sa.LargeBinary(16), nullable=False),
    sa.Column("stream", sa.Integer, nullable=False),
    sa.Column("stream_name", sa.Text, nullable=False),
    sa.Column("content_digest", sa.LargeBinary(16), nullable=False),
    sa.Column("bookmark_value", sa.Text),
    sa.Column("mapping_digest", sa.LargeBinary(16), nullable=False),
    sa.Column("email", sa.LargeBinary(16)),
    sa.Column("domain", sa.LargeBinary(16)),
    sa.Column("key_values", sa.Text),
    sa.Column("api_key", sa.LargeBinary(16)),  # keyed digest
    sa.Column("run", _Id, nullable=False),
    sa.Column("attempts", sa.Integer, nullable=False),
    sa.Column("claimed_at", sa.String(32), nullable=False),
    sa.Column("attempted_at", sa.String(32), nullable=False),
    sa.Column("signal", sa.LargeBinary, nullable=False),
    sa.Column("record", sa.LargeBinary, nullable=False),
)
dead_letters = sa.Table(
    "stairoids_dead_letters",
    metadata,
    sa.Column("id", _Id, primary_key=True, autoincrement=True),
    sa.Column("entity", sa.LargeBinary(16), nullable=False),
    sa.Column("state_digest", sa.LargeBinary(16), nullable=False),
    sa.Column("mapping", sa.Text, nullable=False),
    sa.Column("stream", sa.Integer, nullable=False),
    sa.Column("stream_name", sa.Text, nullable=False),
    sa.Column("outcome", sa.String(16), nullable=False),
    sa.Column("reason", sa.Text, nullable=False),
    sa.Column("request_id", sa.Text),
    sa.Column("attempts", sa.Integer, nullable=False),
    sa.Column("first_at", sa.String(32), nullable=False),
    sa.Column("last_at", sa.String(32), nullable=False),
    sa.Column("signal", sa.LargeBinary),
    sa.Column("record", sa.LargeBinary, nullable=False),
    sa.UniqueConstraint("entity", "mapping", "state_digest"),
    sqlite_autoincrement=True,
)
# Keyed digests only. Each row of the data is one entry. Two rows of one person are two
# entries, so that the removal of one leaves the other.
suppressed = sa.Table(
    "stairoids_suppressed",
    metadata,
    sa.Column("entity", sa.LargeBinary(16), primary_key=True),
    sa.Column("mapping", sa.Text, primary_key=True),
    sa.Column("digest", sa.LargeBinary(16), primary_key=True, index=True),
    sa.Column("stream", sa.Integer, nullable=False),
    sqlite_with_rowid=False,
)
days = sa.Table(
    "stairoids_days",
    metadata,
    sa.Column("scope", sa.Text, primary_key=True),
    sa.Column("day", sa.String(10), primary_key=True),
    sa.Column("requests", sa.Integer, nullable=False),
)


def is_created(connection: sa.Connection) -> bool:
    """Return whether a database holds a ledger."""
    return sa.inspect(connection).has_table(meta.name)


def create(connection: sa.Connection) -> None:
    """Create the tables, unless a release has done so."""
    meta.create(connection, checkfirst=True)
    if _value(connection, "schema_version") is None:
        for index in (settled_signal, latest_person):
            # Only now, because these options import all drivers of their dialect.
            first = index.columns[0].is_not(None)
            index.dialect_kwargs[f"{connection.dialect.name}_where"] = first
        metadata.create_all(connection)
        rows = {"schema_version": str(SCHEMA_VERSION), "secret": secrets.token_hex(32)}
        for name, value in rows.items():
            connection.execute(sa.insert(meta).values(name=name, value=value))


def check_version(connection: sa.Connection) -> None:
    """Raise `LedgerError` for a ledger of another release."""
    found = _value(connection, "schema_version")
    if found != str(SCHEMA_VERSION):
        raise LedgerError(
            f"The ledger has schema version {found}, this release reads "
            f"{SCHEMA_VERSION}. Install the release that wrote it, or upgrade "
            "singer-stairoids, or name another ledger in `ledger_url`."
        )


def secret_of(connection: sa.Connection) -> bytes:
    """Return the ledger's own secret: 32 bytes, the key of digests of people."""
    return bytes.fromhex(_value(connection, "secret") or "")


def replace_secret(connection: sa.Connection, secret: bytes) -> None:
    """Give a ledger the secret of the ledger that it is a copy of."""
    is_secret = meta.c.name == "secret"
    connection.execute(sa.update(meta).where(is_secret).values(value=secret.hex()))


def _value(connection: sa.Connection, name: str) -> str | None:
    found: str | None = connection.scalar(
        sa.select(meta.c.value).where(meta.c.name == name)
    )
    return found
