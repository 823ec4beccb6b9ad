"""`stairoids-signals dead-letters`: what was given up on, seen and settled."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import click

from stairoids_common.text import counted
from target_stairoids.cli.age import age_option
from target_stairoids.cli.options import (
    log_the_run,
    print_table,
    style_option,
    with_ledger,
)
from target_stairoids.dedup.rules import Outcome
from target_stairoids.exceptions import ConfigError
from target_stairoids.sending.record_decision import DEAD_LETTER_FIELD

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from sqlalchemy import Row

    from target_stairoids.ledger.ledger import Ledger
    from target_stairoids.settings import Settings

_SHOWN = ("id", "stream_name", "outcome", "reason", "attempts", "first_at", "last_at")
_MOST_SHOWN = 100
_UNABLE = "not there, or not chosen, or `unknown`, or without a record"


@click.group("dead-letters")
def dead_letters() -> None:
    """See and settle the records that were given up on."""


def _chosen(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the arguments and options that choose dead letters."""
    for option in (
        click.option("--stream", help="Only this stream's."),
        click.option("--reason", help="Only those whose reason holds this text."),
        age_option(about="Only those that have been there for so long:"),
        click.option(
            "--limit", type=click.IntRange(min=1), help="Only so many, the oldest."
        ),
        click.argument("ids", nargs=-1, type=int),
    ):
        command = option(command)
    return command


@dead_letters.command("list")
@_chosen
@click.option(
    "--with-key",
    is_flag=True,
    help="Show each record's key, such as trial_id=3; it may be personal.",
)
@style_option
@with_ledger
@click.pass_obj
def list_letters(
    settings: Settings,
    /,
    ledger: Ledger,
    *,
    style: str,
    with_key: bool,
    **chosen: Any,
) -> None:
    """List dead letters, the oldest first.

    All of them, or those with these IDS; a table ends after 100. Records are not shown:
    `export` has them.

    \b
    Examples:
      stairoids-signals dead-letters list --config config.json
      stairoids-signals dead-letters list --config config.json --reason domain
      stairoids-signals dead-letters list --config config.json --with-key 7 8
    """  # noqa: D301 - \b is click's mark for text that is not re-wrapped
    from target_stairoids.cli.dead_letter_key import key_of
    from target_stairoids.ledger import queries

    letters = queries.dead_letters_of(ledger, **chosen)
    keys = [key_of(letter, settings.signals) for letter in letters if with_key]
    if style == "json":
        for number, letter in enumerate(letters):
            row = {name: getattr(letter, name) for name in _SHOWN}
            click.echo(json.dumps(row | ({"key": keys[number]} if keys else {})))
        return
    most = chosen["limit"] or _MOST_SHOWN
    _show(letters[:most], keys[:most])
    if len(letters) > most:
        click.echo(f"{len(letters) - most} more: --limit {len(letters)} shows them.")
    click.echo(f"\nLedger {ledger.name}")


def _show(letters: Sequence[Row[Any]], keys: Sequence[dict[str, Any]]) -> None:
    """Print a table, the key beside the stream where it is wanted."""
    from target_stairoids.cli.dead_letter_key import key_text

    if not letters:
        click.echo("No dead letters.")
        return
    header = ["id", "stream", *_SHOWN[2:]]
    rows = [[getattr(letter, name) for name in _SHOWN] for letter in letters]
    for number, row in enumerate(rows):
        row[-2:] = map(_to_the_minute, row[-2:])
        if keys:
            row.insert(2, key_text(keys[number]))
    if keys:
        header.insert(2, "key")
    print_table(header, rows)


def _to_the_minute(moment: str) -> str:
    return moment[:16].replace("T", " ")


@dead_letters.command()
@_chosen
@with_ledger
def export(ledger: Ledger, ids: tuple[int, ...], **chosen: Any) -> None:
    """Print dead letters as Singer messages, to be sent again.

    Pipe them into target-stairoids: all of them, or those with these IDS. What
    Stairoids then accepts leaves the list by itself. Signals of which nobody knows
    whether they were accepted are left out until `resolve` settles them; so are
    letters without a record (`keep_records`).

    \b
    Examples:
      stairoids-signals dead-letters export --config config.json |
        target-stairoids --config config.json
      stairoids-signals dead-letters export 7 8 --config config.json > letters.jsonl
    """  # noqa: D301 - \b is click's mark for text that is not re-wrapped
    from target_stairoids.ledger import queries

    letters = queries.dead_letters_of(ledger, ids=ids, **chosen)
    able = _able(letters)
    for message in _messages_of(able):
        click.echo(message)
    if ids:
        _tell(len(able), len(set(ids)), "exported", otherwise=_UNABLE, aside=True)
    else:
        _tell_left_out(letters, able)


@dead_letters.command()
@_chosen
@with_ledger
def replay(ledger: Ledger, ids: tuple[int, ...], **chosen: Any) -> None:
    """Send dead letters again, when the mapping was mended.

    All of them, or those with these IDS: what `export` prints, sent with this config.
    What Stairoids accepts leaves the list. It is a run as any other, with its sum on
    stderr and the target's exit codes.

    \b
    Examples:
      stairoids-signals dead-letters replay --config config.json
      stairoids-signals dead-letters replay --config config.json --reason domain
      stairoids-signals dead-letters replay --config config.json 7 8
    """  # noqa: D301 - \b is click's mark for text that is not re-wrapped
    from target_stairoids.dry_run.runner import resend
    from target_stairoids.ledger import queries

    letters = queries.dead_letters_of(ledger, ids=ids, **chosen)
    able = _able(letters)
    if ids and len(able) < len(set(ids)):
        _tell(len(able), len(set(ids)), "can be sent", otherwise=_UNABLE, aside=True)
    _tell_left_out(letters, able)
    if not able:
        click.echo("No dead letters to send.", err=True)
        return
    log_the_run()
    config_inputs: Sequence[str] = click.get_current_context().params["config_inputs"]
    resend(config_inputs, list(_messages_of(able)))


def _able(letters: Sequence[Row[Any]]) -> list[Row[Any]]:
    """Return the letters that can be sent again."""
    return [lt for lt in letters if lt.outcome != Outcome.UNKNOWN and lt.record]


def _tell_left_out(letters: Sequence[Row[Any]], able: Sequence[Row[Any]]) -> None:
    if left := len(letters) - len(able):
        text = f"{left} left out: `unknown` (see `resolve`), or without a record."
        click.echo(text, err=True)


def _messages_of(letters: Sequence[Row[Any]]) -> Iterator[str]:
    """Yield the RECORD messages of letters, each stream's behind its SCHEMA."""
    schema = None
    for letter in letters:
        if letter.schema != schema:
            schema = letter.schema
            yield schema
        yield _record_message(letter)


def _record_message(letter: Row[Any]) -> str:
    # Spliced as text: decoding and encoding again would cost decimals their digits.
    marker = json.dumps(f"{letter.id} {letter.mapping}")
    record = letter.record.decode().rstrip()
    separator = "" if record == "{}" else ","
    stream = json.dumps(letter.stream_name)
    return (
        f'{{"type":"RECORD","stream":{stream},"record":'
        f'{record[:-1]}{separator}"{DEAD_LETTER_FIELD}":{marker}}}}}'
    )


def _tell(
    count: int, total: int, done: str, *, otherwise: str, aside: bool = False
) -> None:
    """Say how many were dealt with; fail if that is not all of them.

    Args:
        aside: Say it on stderr, because stdout has something else.
    """
    click.echo(f"{count} of {counted(total, 'dead letter')} {done}.", err=aside)
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
    with ledger.transaction() as turn:
        count = turn.discard(ids)
    _tell(count, len(set(ids)), "discarded", otherwise="not there")


@dead_letters.command()
@click.argument("ids", nargs=-1, type=int, required=True)
@click.option("--delivered", is_flag=True, help="They are at Stairoids: settle them.")
@click.option("--resend", is_flag=True, help="They are not: let `export` have them.")
@with_ledger
def resolve(
    ledger: Ledger, ids: tuple[int, ...], *, delivered: bool, resend: bool
) -> None:
    """Say what became of unknown signals.

    With --delivered they are settled; with --resend the next `export` has them.

    \b
    Example:
      stairoids-signals dead-letters resolve 7 --delivered --config config.json
    """  # noqa: D301 - \b is click's mark for text that is not re-wrapped
    if delivered == resend:
        msg = "Say either --delivered or --resend."
        raise ConfigError(msg)
    outcome = Outcome.ACCEPTED if delivered else Outcome.REJECTED
    with ledger.transaction() as turn:
        count = turn.resolve(ids, outcome)
    _tell(count, len(set(ids)), "resolved", otherwise="not there, or not `unknown`")
