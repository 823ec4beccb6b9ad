"""Write the outcomes of versions: the tables `settled`, `latest` and `signals`."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import Any

import msgspec
from msgspec.structs import astuple, replace

from stairoids_common.time import timestamp
from target_stairoids.dedup.duplicate_rules import Key, Latest, latest_after
from target_stairoids.dedup.outcome import Outcome
from target_stairoids.ledger import lookup
from target_stairoids.ledger.closing import close_with_signals
from target_stairoids.ledger.schema import latest, settled, signals
from target_stairoids.ledger.structs import LatestRow, SettledVersion
from target_stairoids.ledger.transaction import END_CLAIM, Transaction

Row = tuple[Any, ...]
_SETTLE = lookup.upsert_text(  # a known id stays known
    settled, signal_id=f"COALESCE(excluded.signal_id, {settled.name}.signal_id)"
)
_SET_LATEST = lookup.upsert_text(
    latest, ("entity", "mapping", "stream", *Latest.__struct_fields__)
)
#: The state digest and bookmark value to replace; NULL for none.
_IS_SAME = f"{latest.name}.state_digest IS ? AND {latest.name}.bookmark_value IS ?"
_REPLACE_LATEST = f"{_SET_LATEST} WHERE {_IS_SAME}"
_TOUCH_LATEST = (
    f"UPDATE {latest.name} SET bookmark_value = ?, text_digest = ?"  # noqa: S608 - names of our own table
    f" WHERE entity = ? AND mapping = ? AND {_IS_SAME}"
)
_LOG = lookup.insert_text(signals, signals.c.keys()[1:])
#: Stream, JSON text, ids of signal, account and contact, key values, digest of the
#: person's address, time.
LoggedSignal = tuple[
    int, bytes, Sequence[str | None], str | None, bytes | None, str | None
]


def write_outcomes(
    transaction: Transaction, versions: Collection[SettledVersion]
) -> None:
    """Write outcomes, and delete the claims and dead letters that end with them.

    Of two outcomes of one version, the later one counts.
    """
    _write_latest_after(transaction, versions)
    insert_settled(transaction, versions)
    accepted_now = [item for item in versions if item.outcome is Outcome.ACCEPTED]
    logged: list[LoggedSignal] = [
        (v.stream, i.request, i.ids, i.key_values, v.email, i.accepted_at)
        for i in accepted_now
        for v in (i.version,)
        if i.request
    ]
    log(transaction, logged)
    claimed = [(*i.version.key, transaction.run) for i in versions if i.is_claimed]
    transaction.execute(END_CLAIM, claimed)
    close_with_signals(transaction, accepted_now)


def log(transaction: Transaction, accepted: Collection[LoggedSignal]) -> None:
    """Add accepted signals to the sync log; without a time they are accepted now."""
    rows: list[Row] = []
    for stream, signal, ids, key_values, email, accepted_at in accepted:
        named, at = msgspec.json.decode(signal), accepted_at or timestamp()
        its = named["type"], named["source"], key_values, transaction.run, at, email
        rows.append((stream, *ids, *its))
    transaction.execute(_LOG, rows)


def _write_latest_after(
    transaction: Transaction, versions: Collection[SettledVersion]
) -> None:
    known, keys = lookup.resolved(
        transaction.connection, [item.version for item in versions]
    )
    rows: dict[Key, Row] = {}
    for item, key in zip(versions, keys, strict=True):
        before = known.get(key)
        version = replace(item.version, key=key)
        run = item.run or transaction.run
        after = latest_after(before, version, item.outcome, run)
        if after is not None and after != before:
            known[key] = after
            rows[key] = _latest_row(key, item.version.stream, after)
    transaction.execute(_SET_LATEST, list(rows.values()))


def write_latest(transaction: Transaction, rows: Iterable[LatestRow]) -> None:
    """Write last states, except over those that another run wrote in the meantime."""
    touched, others = list[Row](), list[Row]()
    for row in rows:
        before, after = row.before, row.latest
        its = (before.state_digest, before.bookmark_value) if before else (None, None)
        value, text = after.bookmark_value, after.text_digest
        if before and after == replace(before, bookmark_value=value, text_digest=text):
            touched.append((value, text, *row.key, *its))
        else:
            others.append((*_latest_row(row.key, row.stream, after), *its))
    transaction.execute(_TOUCH_LATEST, touched)
    transaction.execute(_REPLACE_LATEST, others)


def insert_settled(
    transaction: Transaction, versions: Collection[SettledVersion]
) -> None:
    """Write the rows of `settled`."""
    run = transaction.run
    rows = [
        (
            *item.version.record_key,
            item.version.state_digest,
            item.version.content_digest,
            item.version.stream,
            item.outcome.value,
            item.run or run,
            item.version.mapping_digest,
            item.ids[0],
        )
        for item in versions
    ]
    transaction.execute(_SETTLE, rows)


def _latest_row(key: Key, stream: int, latest: Latest) -> Row:
    return (*key, stream, *astuple(latest))
