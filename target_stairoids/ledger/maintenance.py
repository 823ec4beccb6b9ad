"""Maintenance of a ledger by a person: forget, rename, prune, erase, copy.

The functions raise `LedgerError` for a stream or mapping that the ledger does not know.
With `dry_run` they only count.
"""

from __future__ import annotations

import json
import os
import unicodedata
from collections.abc import Collection, Mapping
from contextlib import suppress
from datetime import datetime
from operator import eq

import sqlalchemy as sa

from stairoids_common.config_errors import suggestion
from stairoids_common.database import file_of
from stairoids_common.text import spellings_of
from stairoids_common.time import timestamp
from target_stairoids.dedup.outcome import Outcome
from target_stairoids.dedup.record import Record, entity_digest, json_value, values_at
from target_stairoids.exceptions import LedgerError
from target_stairoids.ledger.dead_letters import account_for
from target_stairoids.ledger.ledger import Ledger
from target_stairoids.ledger.outcomes import write_outcomes
from target_stairoids.ledger.queries import fired_checks, schema_of, unfinished_in
from target_stairoids.ledger.schema import (
    claims,
    dead_letters,
    latest,
    mappings,
    meta,
    metadata,
    replace_secret,
    runs,
    settled,
    signals,
    streams,
    suppressed,
)
from target_stairoids.ledger.structs import SettledVersion, claim_from
from target_stairoids.ledger.transaction import Transaction
from target_stairoids.mapping.schema import ColumnSet

_AT_ONCE = 10_000  # rows in memory
_SENT = latest, claims  # the tables with signals that were sent, or may have been
#: The tables with mappings, and their keys beside the mapping.
_OF_MAPPING: dict[sa.Table, tuple[str, ...]] = {
    latest: ("entity",),
    settled: ("entity", "state_digest"),
    claims: ("entity",),
    dead_letters: ("entity", "state_digest"),
    mappings: ("stream",),
    suppressed: ("entity", "digest"),
}


def writable_ledger(url: str, scope: str) -> str:
    """Return the name of a ledger; `LedgerError` if it cannot be written or created."""
    with Ledger.open_read_only(url, scope, missing_ok=True) as known:
        file, name = file_of(sa.make_url(known.name)), known.name
    if file is not None and not file.exists():
        folder = next(place for place in file.parents if place.exists())
        if not folder.is_dir() or not os.access(folder, os.W_OK | os.X_OK):
            raise LedgerError(
                f"The ledger {name} cannot be created, because {folder} is no folder "
                "that can be written. Change `ledger_url`."
            )
        return name
    with Ledger.create(url, scope) as ledger:
        with ledger.transaction() as transaction:
            for table in metadata.sorted_tables:  # without rows: the rights alone
                rows, same = sa.select(table).where(sa.false()), dict(table.c.items())
                transaction.write(sa.insert(table).from_select(list(same), rows))
                transaction.write(sa.update(table).where(sa.false()).values(same))
        return ledger.name


def forget(ledger: Ledger, stream: str, *, dry_run: bool = False) -> tuple[int, int]:
    """Forget all outcomes and entries of a stream; return how many of each it had."""
    with ledger.transaction() as transaction:
        number = _number_of(ledger, stream)
        if not dry_run:
            transaction.write(sa.delete(latest).where(latest.c.stream == number))
            transaction.allow(stream)
            transaction.checks_passed(stream)
        versions, entries = (
            _delete(transaction, table, table.c.stream == number, dry_run=dry_run)
            for table in (settled, suppressed)
        )
        return versions, entries


def rename(
    ledger: Ledger,
    stream: str,
    new: str | None,
    *,
    names: Collection[str] = (),
    source: tuple[str, str] | None = None,
    mapping: tuple[str, str] | None = None,
) -> None:
    """Rename a stream, a source of its signals, or a mapping: all of them or none.

    `source` and `mapping` are the old and the new name. `new` is that of the stream,
    under which its records stay the same. `names` are its mappings in the config.
    `LedgerError` if a name is wrong, or if a run is at work with the old name.
    """
    with ledger.transaction() as transaction:
        its = sa.select(runs.c.run).filter_by(scope=ledger.scope, ended_at=None)
        for run in transaction.connection.scalars(its).all():
            if ledger.lives(run):
                raise LedgerError(
                    f"Run {run} of this ledger is at work. Rename when it has ended."
                )
        number = _number_of(ledger, stream)
        if source is not None:
            before, after = source
            named = sa.update(mappings).filter_by(stream=number, source=before)
            if not transaction.write(named.values(source=after)):
                raise LedgerError(f"Stream `{stream}` has no source `{before}`.")
        if mapping is not None:
            if not _rename_mapping(transaction, number, *mapping):
                raise LedgerError(f"Stream `{stream}` has no mapping `{mapping[0]}`.")
            _move_baselines(ledger, transaction, stream, stream, dict([mapping]))
        if new is not None:
            _rename_stream(ledger, transaction, stream, new, names)
        transaction.checks_passed(stream, new or stream)


def _rename_stream(
    ledger: Ledger,
    transaction: Transaction,
    old: str,
    new: str,
    names: Collection[str],
) -> None:
    """Give a stream another name.

    A mapping that was named after the stream is renamed as well, unless a mapping of
    the new stream has that name: `names`. `LedgerError` if a stream of the new name has
    signals, or if such a mapping has. Dead letters and suppressed people of that stream
    move to the renamed one.
    """
    write, number = transaction.write, _number_of(ledger, old)
    other = ledger.value(_stream_named(ledger, new))
    if other is not None:
        if any(_has_rows(transaction, table, stream=other) for table in _SENT):
            raise LedgerError(f"Stream `{new}` has signals of its own.")
        _rekey(transaction, other, number)
        write(sa.delete(suppressed).where(_is_again(number, other, (old, new))))
        for table in (signals, settled, dead_letters, suppressed):
            write(sa.update(table).filter_by(stream=other).values(stream=number))
        for table in (mappings, streams):
            write(sa.delete(table).filter_by(stream=other))
    alias = sa.func.coalesce(streams.c.alias, streams.c.name)
    is_it = streams.c.stream == number
    schema = json.dumps({**schema_of(ledger, number), "stream": new})
    write(sa.update(streams).where(is_it).values(name=new, alias=alias, schema=schema))
    renamed = {} if old in names else {old: new}
    if renamed:
        _rename_mapping(transaction, number, old, new)
    _move_baselines(ledger, transaction, old, new, renamed)
    for table in (claims, dead_letters):
        write(sa.update(table).filter_by(stream=number).values(stream_name=new))


def _rekey(transaction: Transaction, before: int, after: int) -> None:
    """Give dead letters the keys that their records have in another stream.

    Otherwise the next run would add a second one. Where its record or the key's columns
    are not known, a dead letter keeps its key.
    """
    read = transaction.connection.execute
    identity = sa.func.coalesce(streams.c.alias, streams.c.name)
    query = sa.select(streams.c.scope, identity, streams.c.schema)
    scope, old, text = read(query.filter_by(stream=before)).one()
    _, new, _ = read(query.filter_by(stream=after)).one()
    columns = sorted(json.loads(text or "{}").get("key_properties") or ())

    def version(stream: str, record: Record) -> tuple[bytes, bytes]:
        entity = entity_digest(scope, stream, values_at(record.key, columns))
        ignored = ColumnSet(frozenset(columns), frozenset())
        return entity, record.state_digest(entity, ignored)

    its = sa.select(dead_letters).filter_by(stream=before)
    for row in read(its.where(dead_letters.c.record != b"")).all():
        record = Record(None, json_value(row.record))
        if version(old, record) == (row.entity, row.state_digest):
            entity, state = version(new, record)
            rekeyed = {"entity": entity, "state_digest": state}
            same = sa.select(dead_letters.c.id).filter_by(
                **rekeyed, mapping=row.mapping
            )
            is_it = dead_letters.c.id == row.id
            if read(same).first():
                transaction.write(sa.delete(dead_letters).where(is_it))
            else:
                transaction.write(sa.update(dead_letters).where(is_it).values(rekeyed))


def _is_again(
    stream: int, other: int, names: tuple[str, str]
) -> sa.ColumnElement[bool]:
    """Return the condition of entries of another stream that a stream has as well.

    Their entities are of the other name, so no row of the stream would remove them.
    """
    entry, (old, new) = suppressed.alias(), names
    is_renamed = (entry.c.mapping == old) & (suppressed.c.mapping == new)
    has_it = (
        sa.select(entry.c.digest)
        .where(
            entry.c.digest == suppressed.c.digest,
            entry.c.stream == stream,
            (entry.c.mapping == suppressed.c.mapping) | is_renamed,
        )
        .exists()
    )
    return (suppressed.c.stream == other) & has_it


def reset_order(ledger: Ledger, stream: str) -> int:
    """Forget the order of a stream's states; return how many entities it has."""
    with ledger.transaction() as transaction:
        number = _number_of(ledger, stream)
        transaction.allow(stream)
        reset = sa.update(latest).filter_by(stream=number).values(bookmark_value=None)
        return transaction.write(reset)


def _rename_mapping(transaction: Transaction, stream: int, old: str, new: str) -> int:
    """Rename a mapping; return how many rows it has.

    They replace the same rows under the new name, such as dead letters of a run whose
    stream was set aside because of that name. `LedgerError` if signals have that name.
    """
    its = {"stream": stream, "mapping": new}
    if any(_has_rows(transaction, table, **its) for table in _SENT):
        raise LedgerError(f"Mapping `{new}` has signals of its own.")
    changed = 0
    for table, key in _OF_MAPPING.items():
        other = table.alias()
        has_other = (
            sa.select(other.c.mapping)
            .where(other.c.mapping == old, *(other.c[n] == table.c[n] for n in key))
            .exists()
        )
        is_new = (table.c.stream == stream) & (table.c.mapping == new)
        transaction.write(sa.delete(table).where(is_new, has_other))
        named = sa.update(table).filter_by(stream=stream, mapping=old)
        changed += transaction.write(named.values(mapping=new))
    return changed


def _has_rows(transaction: Transaction, table: sa.Table, **values: object) -> bool:
    query = sa.select(table.c.stream).filter_by(**values).limit(1)
    return transaction.connection.scalar(query) is not None


def _move_baselines(
    ledger: Ledger,
    transaction: Transaction,
    old: str,
    new: str,
    renamed: Mapping[str, str],
) -> None:
    """Give the unfinished baselines of a stream its new name, and those of mappings."""
    unfinished = unfinished_in(fired_checks(ledger, old))
    transaction.baseline_ended(old, unfinished)
    named = [renamed.get(name, name) for name in unfinished]
    transaction.baselines_began(new, named)


def _number_of(ledger: Ledger, stream: str) -> int:
    number: int | None = ledger.value(_stream_named(ledger, stream))
    if number is None:
        raise LedgerError(unknown_stream(ledger, stream))
    return number


def unknown_stream(ledger: Ledger, name: str) -> str:
    """Return that a ledger knows no stream of a name; "" if it knows one."""
    every = ledger.rows(sa.select(streams.c.name).filter_by(scope=ledger.scope))
    names = [row.name for row in every]
    if name in names:
        return ""
    hint = suggestion(name, names) or "."
    return f"The ledger {ledger.name} knows no stream `{name}`{hint}"


def _stream_named(ledger: Ledger, name: str) -> sa.Select[int]:
    return sa.select(streams.c.stream).filter_by(scope=ledger.scope, name=name)


def prune(ledger: Ledger, *, older_than: datetime, dry_run: bool = False) -> int:
    """Delete the versions of older runs that a later one of their entity replaced.

    Return how many. Versions of a key that has several rows stay, because each of them
    is the latest one of its row. A deleted version that a tap emits again beside a
    later one counts as new. The sync log forgets the signals of these runs.
    """
    old_runs = sa.select(runs.c.run).where(
        runs.c.scope == ledger.scope, runs.c.started_at < timestamp(older_than)
    )
    is_replaced = (latest.c.run > settled.c.run) & ~latest.c.is_several
    is_kept = [
        sa.select(latest.c.entity)
        .where(
            entity == settled.c.entity,
            latest.c.mapping == settled.c.mapping,
            ~latest.c.is_shared,
            (latest.c.state_digest == settled.c.state_digest)
            | (latest.c.content_digest == settled.c.content_digest)
            | ~is_replaced,
        )
        .exists()
        for entity in (latest.c.entity, latest.c.record_entity)
    ]
    with ledger.transaction() as transaction:
        is_old = settled.c.run.in_(old_runs) & ~sa.or_(*is_kept)
        if not dry_run:
            transaction.write(sa.delete(signals).where(signals.c.run.in_(old_runs)))
        return _delete(transaction, settled, is_old, dry_run=dry_run)


def erase(ledger: Ledger, email: str, *, dry_run: bool = False) -> int:
    """Delete claims, dead letters and keys of the sync log that contain an address.

    Return how many. Settled versions stay, so that the person gets no signal twice.
    They hold digests only. So do entries of the suppression list, which stay too. The
    signal of a claim may have arrived, so it becomes a settled version.
    """
    wanted = spellings_of(email)
    gone = 0
    with ledger.transaction() as transaction:
        for table in (claims, dead_letters, signals):
            key = list(table.primary_key)
            texts = [table.c[n] for n in ("signal", "record") if n in table.c]
            query = sa.select(*key, table.c.key_values, *texts)
            # SQLite compares only ASCII.
            if table is signals and len(wanted) == 1 and wanted[0].isascii():
                key_values = signals.c.key_values
                query = query.where(key_values.icontains(wanted[0], autoescape=True))
            for row in transaction.connection.execute(query).all():
                if any(_mentions(text, wanted) for text in row[len(key) :]):
                    gone += 1
                    if not dry_run:
                        _erase_row(transaction, table, sa.and_(*map(eq, key, row)))
    if not dry_run:
        ledger.scrub()
    return gone


def _erase_row(
    transaction: Transaction, table: sa.Table, is_it: sa.ColumnElement[bool]
) -> None:
    if table is signals:
        transaction.write(sa.update(signals).where(is_it).values(key_values=None))
        return
    account_for(transaction, table, is_it)
    if table is claims:
        row = transaction.connection.execute(sa.select(claims).where(is_it)).one()
        its, unknown = claim_from(row), Outcome.UNKNOWN
        write_outcomes(
            transaction,
            [SettledVersion(version=its.version, outcome=unknown, run=its.run)],
        )
    transaction.write(sa.delete(table).where(is_it))


def copy(
    source: Ledger, target: Ledger, *, with_claims: bool = False
) -> dict[str, int]:
    """Copy a ledger into an empty one, with all scopes; return the rows per table."""
    copied = {}
    begun = source.reading() if with_claims else source.transaction()
    with begun, source.reading() as reading, target.transaction() as writing:
        if writing.connection.scalar(sa.select(sa.func.count()).select_from(runs)):
            raise LedgerError(
                f"The ledger {target.name} is not empty; copy into a new one."
            )
        open_claims = reading.scalar(sa.select(sa.func.count()).select_from(claims))
        if open_claims and not with_claims:
            raise LedgerError(
                f"The ledger {source.name} holds claims: let its runs end. Run the "
                "target once more to settle the claims of a killed run."
            )
        for table in metadata.sorted_tables:
            if table is meta:
                continue
            copied[table.name] = 0
            query = sa.select(table).execution_options(yield_per=_AT_ONCE)
            for rows in reading.execute(query).mappings().partitions():
                values = [dict(row) for row in rows]
                writing.connection.execute(sa.insert(table), values)
                copied[table.name] += len(rows)
        replace_secret(writing.connection, source.secret)
        writing.advance_counters()
    return copied


def _delete(
    transaction: Transaction,
    table: sa.Table,
    rows: sa.ColumnElement[bool],
    *,
    dry_run: bool,
) -> int:
    if dry_run:
        query = sa.select(sa.func.count()).select_from(table).where(rows)
        return transaction.connection.scalar(query) or 0
    return transaction.write(sa.delete(table).where(rows))


def _usual(text: str) -> str:
    """Return a text in lower case, in which each accent has its usual spelling."""
    return unicodedata.normalize("NFKC", text).lower()


def _mentions(json_text: bytes | str | None, wanted: Collection[str]) -> bool:
    """Return whether a JSON text contains an address, also with escapes."""
    text = json_text.decode() if isinstance(json_text, bytes) else json_text or ""
    plain = ""
    with suppress(ValueError, ArithmeticError, RecursionError):
        plain = json.dumps(json_value(text), ensure_ascii=False, default=str)
    texts = _usual(text), _usual(plain)
    return any(one in found for found in texts for one in wanted)
