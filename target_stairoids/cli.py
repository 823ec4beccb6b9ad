"""stairoids-signals: the operator's hand on the target."""

from __future__ import annotations

import functools
import json
import logging
import sys
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TextIO

import click

from target_stairoids.exceptions import ConfigError, StairoidsError
from target_stairoids.gate import Outcome
from target_stairoids.intake import LETTER_FIELD
from target_stairoids.ledger import upkeep
from target_stairoids.ledger.ledger import Ledger
from target_stairoids.target import remember, settings_from

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from sqlalchemy import Row

_SHOWN = ("id", "stream_name", "outcome", "reason", "attempts", "first_at", "last_at")


_config_option = click.option(
    "--config",
    "config_inputs",
    multiple=True,
    required=True,
    metavar="FILE|ENV",
    help="The target's config: a JSON file, or ENV for environment variables.",
)


def _with_ledger(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the ledger that `--config` names; errors are one sentence."""

    @_config_option
    @functools.wraps(command)
    def with_ledger(config_inputs: Sequence[str], **options: Any) -> None:
        logging.getLogger("target-stairoids").setLevel(logging.WARNING)
        try:
            settings = settings_from(config_inputs)
            with Ledger(settings.ledger_url, settings.scope) as ledger:
                command(ledger, **options)
        except StairoidsError as error:
            click.echo(f"Error: {error}", err=True)
            sys.exit(error.exit_code)

    return with_ledger


_EXAMPLES = """\b
Examples, each with the target's own config:
  stairoids-signals check --config config.json
  stairoids-signals dead-letters list --config config.json
  stairoids-signals dead-letters export --config config.json |
    target-stairoids --config config.json
"""


@click.group(epilog=_EXAMPLES, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="singer-stairoids")
def main() -> None:
    """See and settle what became of the signals that target-stairoids was to send."""


_style_option = click.option(
    "--format",
    "style",
    type=click.Choice(["table", "json"]),
    default="table",
    show_default=True,
    help="A table for people or one JSON object a line.",
)


@main.command()
@_with_ledger
def check(ledger: Ledger) -> None:
    """Check that the config is right and the ledger can be written. Sends nothing."""
    with ledger.turn():
        pass
    click.echo(f"The config is right; the ledger {ledger.name} can be written.")


@main.group()
def ledger() -> None:
    """Look into the ledger of what was sent."""


@ledger.command()
@click.option(
    "--format", "style", type=click.Choice(["table", "json"]), default="table"
)
@_with_ledger
def stats(ledger: Ledger, style: str) -> None:
    """Count what is settled, by stream and outcome."""
    counts = ledger.counts()
    if style == "json":
        click.echo(json.dumps(counts))
        return
    rows = [
        (stream, outcome, str(count))
        for stream, outcomes in sorted(counts.items())
        for outcome, count in sorted(outcomes.items())
    ]
    _print_table(("stream", "outcome", "signals"), rows)


@ledger.command()
@click.option("--stream", required=True, help="Name of the stream.")
@click.confirmation_option(prompt="All of the stream will be sent again. Go on?")
@_with_ledger
def forget(ledger: Ledger, stream: str) -> None:
    """Forget what was sent of a stream, so that it is sent again."""
    click.echo(f"{upkeep.forget(ledger, stream)} signals of `{stream}` are forgotten.")


@ledger.command()
@click.option(
    "--older-than",
    "days",
    type=click.IntRange(min=1),
    required=True,
    metavar="DAYS",
    help="Keep what younger runs settled.",
)
@_with_ledger
def prune(ledger: Ledger, days: int) -> None:
    """Remove what was settled long ago, but never an entity's latest version."""
    count = upkeep.prune(ledger, older_than=timedelta(days=days))
    click.echo(f"{count} old versions are removed.")


@ledger.command()
@click.option("--email", required=True, help="The person's address.")
@_with_ledger
def erase(ledger: Ledger, email: str) -> None:
    """Erase claims and dead letters that mention a person's e-mail address."""
    click.echo(f"{upkeep.erase(ledger, email)} claims and dead letters are erased.")


@ledger.command()
@click.option("--to", "url", required=True, help="URL of an empty ledger.")
@_with_ledger
def copy(ledger: Ledger, url: str) -> None:
    """Copy the ledger, for example from SQLite to PostgreSQL."""
    with Ledger(url, ledger.scope) as other:
        for table, count in upkeep.copy(ledger, other).items():
            click.echo(f"{table.removeprefix('stairoids_')}: {count}")
        click.echo(f"Copied; now set `ledger_url` to {other.name}.")


@ledger.command()
@click.argument("messages", type=click.File("r"), default="-")
@_config_option
def baseline(config_inputs: Sequence[str], messages: TextIO) -> None:
    """Remember the records of Singer messages as seen, and send nothing.

    For streams that were sent by other means. Pipe the tap into this command.
    """
    try:
        remember(config_inputs, messages)
    except StairoidsError as error:
        click.echo(f"Error: {error}", err=True)
        sys.exit(error.exit_code)


@main.group("dead-letters")
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
@_style_option
@_with_ledger
def list_letters(ledger: Ledger, *, style: str, **chosen: Any) -> None:
    """List dead letters, the oldest first; records are not shown, `export` has them."""
    letters = _chosen(ledger, **chosen)
    rows = [[getattr(letter, name) for name in _SHOWN] for letter in letters]
    if style == "json":
        for row in rows:
            click.echo(json.dumps(dict(zip(_SHOWN, row, strict=True))))
        return
    _print_table(_SHOWN, rows)


@dead_letters.command()
@_filters
@_with_ledger
def export(ledger: Ledger, **chosen: Any) -> None:
    """Print dead letters as Singer messages, to be piped into target-stairoids.

    What Stairoids then accepts leaves the list by itself. Signals of which nobody
    knows whether they were accepted are left out until `resolve` settles them; so are
    letters without a record (`keep_records`).
    """
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


@dead_letters.command()
@click.argument("ids", nargs=-1, type=int, required=True)
@_with_ledger
def discard(ledger: Ledger, ids: tuple[int, ...]) -> None:
    """Forget dead letters by their ids, records included."""
    with ledger.turn() as turn:
        count = turn.discard(ids)
    click.echo(f"{count} of {len(ids)} dead letters discarded.")


@dead_letters.command()
@click.argument("ids", nargs=-1, type=int, required=True)
@click.option("--delivered", "outcome", flag_value=Outcome.ACCEPTED.value)
@click.option("--resend", "outcome", flag_value=Outcome.REJECTED.value)
@_with_ledger
def resolve(ledger: Ledger, ids: tuple[int, ...], outcome: str | None) -> None:
    """Say what became of unknown signals: --delivered, or --resend with `export`."""
    if outcome is None:
        msg = "Say --delivered or --resend."
        raise ConfigError(msg)
    with ledger.turn() as turn:
        count = turn.resolve(ids, Outcome(outcome))
    click.echo(f"{count} of {len(ids)} dead letters resolved.")


def _print_table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    cells = [[str(cell) for cell in row] for row in (header, *rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    for row in cells:
        padded = (cell.ljust(w) for cell, w in zip(row, widths, strict=True))
        click.echo("  ".join(padded).rstrip())
