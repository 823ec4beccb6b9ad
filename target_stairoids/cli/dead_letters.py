"""`stairoids-signals dead-letters`: list, send again and close failed records."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from operator import attrgetter
from typing import TYPE_CHECKING, Any

import click
import simplejson

from stairoids_common import cli
from stairoids_common.error_ids import WrongUsageError, fail, with_id
from stairoids_common.text import as_code, counted, shell_command
from target_stairoids.cli import options
from target_stairoids.dedup.outcome import Outcome
from target_stairoids.dedup.record import json_value, value_at
from target_stairoids.mapping.schema import INFERRED_FIELD
from target_stairoids.reporting.next_steps import with_configs

if TYPE_CHECKING:
    from sqlalchemy import Row

    from target_stairoids.ledger.ledger import Ledger
    from target_stairoids.mapping.signals_setting import MappingItem
    from target_stairoids.settings import Settings

_FIELDS = ("id", "stream_name", "outcome", "reason", "attempts", "first_at", "last_at")
_MAX_ROWS = 100
_ID = click.IntRange(1, 2**63 - 1)  # the numbers of a database
_NOT_SENDABLE = "`unknown`, or without a record"


@click.group("dead-letters")
@options.config_option(is_of_group=True)
def dead_letters() -> None:
    """List, send again and close the records that failed."""


def _chosen(command: Callable[..., None]) -> Callable[..., None]:
    """Add the arguments and options that choose dead letters to a command."""
    for option in (
        click.option("--stream", help="Only dead letters of this stream."),
        click.option("--reason", help="Only dead letters whose reason has this text."),
        cli.older_than_option(help="Only dead letters that are at least this old:"),
        click.option(
            "--limit", type=click.IntRange(min=1), help="Only the oldest, so many."
        ),
        click.argument("ids", nargs=-1, type=_ID),
    ):
        command = option(command)
    return command


def _find(ledger: Ledger, *, ids: Collection[int], **chosen: Any) -> list[Row[Any]]:
    """Return the chosen dead letters; end with 1 if one of `ids` is not among them."""
    from target_stairoids.ledger.dead_letters import dead_letters_of
    from target_stairoids.ledger.maintenance import unknown_stream

    found, stream = dead_letters_of(ledger, ids=ids, **chosen), chosen.get("stream")
    if stream and not found and (hint := unknown_stream(ledger, stream)):
        click.echo(with_id(hint), err=True)
    others = "not there, or not chosen" if any(chosen.values()) else "not there"
    _refuse_others(ids, [dead.id for dead in found], others)
    return found


def _refuse_others(ids: Collection[int], found: Collection[int], others: str) -> None:
    """End with 1 and name those of `ids` that were not found, if there are any."""
    if left := sorted({*ids} - {*found}):
        sentence = "Dead letter {} is" if len(left) == 1 else "Dead letters {} are"
        fail(
            f"{sentence.format(', '.join(map(str, left)))} {others}. Compare the ids "
            "with `stairoids-signals dead-letters list`."
        )


@dead_letters.command("list")
@_chosen
@click.option(
    "--with-key",
    is_flag=True,
    help="Show each record's key, such as trial_id=3. It may be personal data.",
)
@cli.format_option()
@options.with_ledger
@click.pass_obj
def list_dead_letters(
    settings: Settings,
    /,
    ledger: Ledger,
    *,
    output_format: str,
    with_key: bool,
    **chosen: Any,
) -> None:
    """List dead letters, the oldest first.

    Lists all dead letters, or those with these IDS. A table has at most 100 rows.
    `export` shows the records.

    \b
    Examples:
      stairoids-signals dead-letters list --config config.json
      stairoids-signals dead-letters list --config config.json --reason domain
      stairoids-signals dead-letters list --config config.json --with-key 7 8
    """
    found = _find(ledger, **chosen)
    rows = [{name: getattr(dead, name) for name in _FIELDS} for dead in found]
    if with_key:
        for row, dead in zip(rows, found, strict=True):
            row["key"] = _key_of(dead, settings.signals)
    if output_format == "json":
        for row in rows:
            click.echo(simplejson.dumps(row))  # a key may have many digits
    else:
        limit = chosen["limit"] or _MAX_ROWS
        _show(rows[:limit], with_key=with_key)
        if len(rows) > limit:
            click.echo(f"{len(rows) - limit} more: --limit {len(rows)} shows them.")
        click.echo(f"\nLedger {ledger.name}")


def _show(rows: Sequence[dict[str, Any]], *, with_key: bool) -> None:
    if not rows:
        click.echo("No dead letters.")
        return
    header = ["id", "stream", *(["key"] if with_key else []), *_FIELDS[2:]]
    for row in rows:
        row["id"], row["stream"] = str(row["id"]), row["stream_name"]
        row["key"] = options.key_text(row.get("key", {}))
        for name in ("first_at", "last_at"):
            row[name] = row[name][:16].replace("T", " ")
    cli.print_table(header, [[row[name] for name in header] for row in rows])


def _key_of(dead: Row[Any], items: Sequence[MappingItem]) -> dict[str, Any]:
    """Return the key of a dead letter's record; empty if there is no key or record."""
    from target_stairoids.mapping.config import items_of

    if not dead.record:
        return {}
    stream = dead.stream_name
    of_mapping = (
        item.key
        for item in items_of(stream, items)
        if item.key and item.mapping_name(stream) == dead.mapping
    )
    of_stream = json.loads(dead.schema or "{}").get("key_properties") or []
    record = json_value(dead.record)
    return {name: value_at(record, name) for name in next(of_mapping, of_stream)}


@dead_letters.command()
@_chosen
@options.with_ledger
def export(ledger: Ledger, ids: tuple[int, ...], **chosen: Any) -> None:
    """Print dead letters as Singer messages, to be sent again.

    Pipe all dead letters, or those with these IDS, into target-stairoids. A dead
    letter leaves the list when Stairoids accepts its signal. `unknown` signals are
    left out until you `resolve` them. Dead letters without a record (see
    `keep_records`) are left out too.

    \b
    Examples:
      stairoids-signals dead-letters export --config config.json |
        target-stairoids --config config.json
      stairoids-signals dead-letters export 7 8 --config config.json > dead.jsonl
    """
    found = _find(ledger, ids=ids, **chosen)
    sendable = _sendable(found)
    _refuse_others(ids, [dead.id for dead in sendable], _NOT_SENDABLE)
    for message in _messages_of(ledger, sendable):
        click.echo(message)
    _show_left_out(found, sendable)


@dead_letters.command()
@_chosen
@options.with_ledger
@click.pass_obj
def replay(
    settings: Settings, /, ledger: Ledger, *, ids: tuple[int, ...], **chosen: Any
) -> None:
    """Send dead letters again, after you fixed the mapping.

    Sends the dead letters of the mappings in the config, or those with these IDS, as
    `export` prints them. A dead letter leaves the list when Stairoids accepts its
    signal, or when the config filters its record now. This is a run like any other,
    with a summary on stderr and the exit codes of the target. The exit code is also 1
    if any of these dead letters stays, or if all belong to mappings that the config
    lacks.

    \b
    Examples:
      stairoids-signals dead-letters replay --config config.json
      stairoids-signals dead-letters replay --config config.json --reason domain
      stairoids-signals dead-letters replay --config config.json 7 8
    """
    from target_stairoids.dry_run.runner import run
    from target_stairoids.ledger.dead_letters import dead_letters_of

    listed = _find(ledger, ids=ids, **chosen)
    found, foreign = list[Any](), list[Any]()
    for dead in listed:
        (found if _is_own(dead, settings) else foreign).append(dead)
    _show_foreign(foreign)
    sendable = _sendable(found)
    others = f"{_NOT_SENDABLE}, or of another mapping"
    _refuse_others(ids, [dead.id for dead in sendable], others)
    _show_left_out(found, sendable)
    if not sendable:
        click.echo("No dead letters to send.", err=True)
    else:
        options.log_the_run()
        config_inputs = click.get_current_context().params["config_inputs"]
        run(config_inputs, list(_messages_of(ledger, sendable)))
    if listed and not found:
        raise click.exceptions.Exit(1)
    numbers = [dead.id for dead in found]
    if numbers and (left := len(dead_letters_of(ledger, ids=numbers))):
        total = counted(len(found), "dead letter")
        verb = "stays" if left == 1 else "stay"
        click.echo(f"{left} of {total} {verb}.", err=True)
        raise click.exceptions.Exit(1)


def _show_foreign(found: Sequence[Row[Any]]) -> None:
    """Say which dead letters belong to mappings that the config lacks."""
    mappings = Counter((dead.stream_name, dead.mapping) for dead in found)
    for (stream, mapping), count in sorted(mappings.items()):
        rename = "stairoids-signals ledger rename"
        options = ["--mapping", mapping, "NEW"]
        text = (
            f"{counted(count, 'dead letter belongs', 'dead letters belong')} to the "
            f"mapping {as_code(mapping)} of stream {as_code(stream)}, which the config "
            f"lacks. After a rename, run {shell_command(rename, stream, 'NEW')}, or "
            f"for the mapping {shell_command(rename, stream, options=options)}."
        )
        click.echo(with_configs(text), err=True)


def _is_own(dead: Row[Any], settings: Settings) -> bool:
    from target_stairoids.mapping.config import names_for

    if names := names_for(dead.stream_name, settings.signals):
        return dead.mapping in names
    is_inferred = INFERRED_FIELD in json.loads(dead.schema or "{}")
    return is_inferred or not settings.signals


def _sendable(found: Sequence[Row[Any]]) -> list[Row[Any]]:
    return [d for d in found if d.outcome != Outcome.UNKNOWN and d.record]


def _show_left_out(found: Sequence[Row[Any]], sendable: Sequence[Row[Any]]) -> None:
    if left := len(found) - len(sendable):
        text = f"{left} left out: `unknown` (see `resolve`), or without a record."
        click.echo(text, err=True)


def _messages_of(ledger: Ledger, found: Sequence[Row[Any]]) -> Iterator[str]:
    """Yield a RECORD message for each dead letter, after the SCHEMA of its stream.

    They come in the order in which their records were read.
    """
    from target_stairoids.ledger.dead_letters import mark_of
    from target_stairoids.sending.record_decision import DEAD_LETTER_FIELD

    schema = None
    for dead in sorted(found, key=attrgetter("read_order")):
        if dead.schema != schema:
            schema = dead.schema
            yield schema
        # Spliced as text, because decoding the record would round its decimals.
        mark = mark_of(ledger, dead.id, dead.read_order)
        marker = json.dumps(f"{mark} {dead.mapping}")
        record = dead.record.decode().rstrip()
        separator = "" if record == "{}" else ","
        yield (
            f'{{"type":"RECORD","stream":{json.dumps(dead.stream_name)},"record":'
            f'{record[:-1]}{separator}"{DEAD_LETTER_FIELD}":{marker}}}}}'
        )


@dead_letters.command()
@click.argument("ids", nargs=-1, type=_ID, required=True)
@cli.confirmed_removal
@options.with_ledger
def discard(
    ledger: Ledger, ids: tuple[int, ...], is_confirmed: Callable[[str], bool]
) -> None:
    """Delete dead letters by their ids, with their records.

    \b
    Example:
      stairoids-signals dead-letters discard 7 8 --config config.json
    """
    from target_stairoids.ledger import dead_letters as stored

    found = [dead.id for dead in _find(ledger, ids=ids)]
    many = "dead letters with these ids are there."
    if is_confirmed(counted(len(found), "dead letter with these ids is there.", many)):
        with ledger.transaction() as transaction:
            stored.discard(transaction, found)
        click.echo(f"{counted(len(found), 'dead letter')} discarded.")


@dead_letters.command()
@click.argument("ids", nargs=-1, type=_ID, required=True)
@click.option("--delivered", is_flag=True, help="Stairoids has them: close them.")
@click.option("--resend", is_flag=True, help="Stairoids lacks them: export them again.")
@options.with_ledger
def resolve(
    ledger: Ledger, ids: tuple[int, ...], *, delivered: bool, resend: bool
) -> None:
    """Record whether `unknown` signals arrived at Stairoids.

    --delivered closes the dead letters. --resend makes them ready for `export` and
    `replay`.

    \b
    Example:
      stairoids-signals dead-letters resolve 7 --delivered --config config.json
    """
    from target_stairoids.ledger import dead_letters as stored

    if delivered == resend:
        raise WrongUsageError(
            "Use --delivered if Stairoids has the signal, else --resend."
        )
    outcome = Outcome.ACCEPTED if delivered else Outcome.REJECTED
    _find(ledger, ids=ids)
    with ledger.transaction() as transaction:
        found = stored.resolve(transaction, ids, outcome)
        _refuse_others(ids, found, "not `unknown`")
    click.echo(f"{counted(len(found), 'dead letter')} resolved.")
