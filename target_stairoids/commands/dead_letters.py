"""`stairoids-signals dead-letters`: what was given up on, seen and settled."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import click

from target_stairoids.candidate import LETTER_FIELD
from target_stairoids.commands.options import print_table, style_option, with_ledger
from target_stairoids.exceptions import ConfigError
from target_stairoids.gate import Outcome

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy import Row

    from target_stairoids.ledger.ledger import Ledger

_SHOWN = ("id", "stream_name", "outcome", "reason", "attempts", "first_at", "last_at")
_HEADER = ("id", "stream", *_SHOWN[2:])


@click.group("dead-letters")
def dead_letters() -> None:
    """List, export and settle the records that were given up on."""


def _filters(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options that choose dead letters."""
    for option in (
        click.option("--stream", help="Only this stream's."),
        click.option("--reason", help="Only those whose reason holds this text."),
        click.option(
            "--older-than",
            "days",
            type=click.IntRange(min=0),
            metavar="DAYS",
            help="Only those that have been there for so long.",
        ),
    ):
        command = option(command)
    return command


def _chosen(
    ledger: Ledger,
    stream: str | None,
    reason: str | None,
    days: int | None,
    limit: int | None = None,
) -> list[Row[Any]]:
    older_than = None if days is None else timedelta(days=days)
    return ledger.letters(
        stream=stream, reason=reason, older_than=older_than, limit=limit
    )


@dead_letters.command("list")
@_filters
@click.option("--limit", type=click.IntRange(min=1), default=100, show_default=True)
@style_option
@with_ledger
def list_letters(ledger: Ledger, *, style: str, **chosen: Any) -> None:
    """List dead letters, the oldest first; records are not shown, `export` has them.

    \b
    Examples:
      stairoids-signals dead-letters list --config config.json
      stairoids-signals dead-letters list --config config.json --reason domain
    """  # noqa: D301 - \b is click's mark for text that is not re-wrapped
    letters = _chosen(ledger, **chosen)
    found = [[getattr(letter, name) for name in _SHOWN] for letter in letters]
    if style == "json":
        for row in found:
            click.echo(json.dumps(dict(zip(_SHOWN, row, strict=True))))
        return
    rows = [[*row[:-2], *map(_to_the_minute, row[-2:])] for row in found]
    if rows:
        print_table(_HEADER, rows)
    else:
        click.echo("No dead letters.")
    click.echo(f"\nLedger {ledger.name}")


def _to_the_minute(moment: str) -> str:
    return moment[:16].replace("T", " ")


@dead_letters.command()
@_filters
@with_ledger
def export(ledger: Ledger, **chosen: Any) -> None:
    """Print dead letters as Singer messages, to be piped into target-stairoids.

    What Stairoids then accepts leaves the list by itself. Signals of which nobody
    knows whether they were accepted are left out until `resolve` settles them; so are
    letters without a record (`keep_records`).

    \b
    Example:
      stairoids-signals dead-letters export --config config.json |
        target-stairoids --config config.json
    """  # noqa: D301 - \b is click's mark for text that is not re-wrapped
    schema = None
    for letter in _chosen(ledger, **chosen):
        if letter.outcome == Outcome.UNKNOWN or not letter.record:
            continue
        if letter.schema != schema:
            schema = letter.schema
            click.echo(schema)
        click.echo(_record_message(letter))


def _record_message(letter: Row[Any]) -> str:
    # Spliced as text: decoding and encoding again would cost decimals their digits.
    marker = json.dumps(f"{letter.id} {letter.mapping}")
    record = letter.record.decode().rstrip()
    separator = "" if record == "{}" else ","
    stream = json.dumps(letter.stream_name)
    return (
        f'{{"type":"RECORD","stream":{stream},"record":'
        f'{record[:-1]}{separator}"{LETTER_FIELD}":{marker}}}}}'
    )


def _tell(count: int, total: int, done: str, *, otherwise: str) -> None:
    """Say how many were dealt with; fail if that is not all of them."""
    click.echo(f"{count} of {total} dead letters {done}.")
    if count < total:
        click.echo(f"The others are {otherwise}.", err=True)
        raise click.exceptions.Exit(1)


@dead_letters.command()
@click.argument("ids", nargs=-1, type=int, required=True)
@with_ledger
def discard(ledger: Ledger, ids: tuple[int, ...]) -> None:
    """Forget dead letters by their ids, records included.

    \b
    Example:
      stairoids-signals dead-letters discard 7 8 --config config.json
    """  # noqa: D301 - \b is click's mark for text that is not re-wrapped
    with ledger.turn() as turn:
        count = turn.discard(ids)
    _tell(count, len(ids), "discarded", otherwise="not there")


@dead_letters.command()
@click.argument("ids", nargs=-1, type=int, required=True)
@click.option("--delivered", is_flag=True, help="They are at Stairoids: settle them.")
@click.option("--resend", is_flag=True, help="They are not: let `export` have them.")
@with_ledger
def resolve(
    ledger: Ledger, ids: tuple[int, ...], *, delivered: bool, resend: bool
) -> None:
    """Say what became of unknown signals: --delivered, or --resend with `export`.

    \b
    Example:
      stairoids-signals dead-letters resolve 7 --delivered --config config.json
    """  # noqa: D301 - \b is click's mark for text that is not re-wrapped
    if delivered == resend:
        msg = "Say either --delivered or --resend."
        raise ConfigError(msg)
    outcome = Outcome.ACCEPTED if delivered else Outcome.REJECTED
    with ledger.turn() as turn:
        count = turn.resolve(ids, outcome)
    _tell(count, len(ids), "resolved", otherwise="not there, or not `unknown`")
