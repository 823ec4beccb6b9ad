"""`stairoids-signals find` and `reconcile`: signals in the ledger and at Stairoids."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

import click
from msgspec.structs import astuple

from stairoids_common.cli import echo_json, format_option, print_table
from stairoids_common.error_ids import WrongUsageError
from stairoids_common.text import as_code, one_line
from target_stairoids.cli.options import address_in, with_ledger
from target_stairoids.dedup.record import json_array, key_digest
from target_stairoids.reporting.next_steps import explain_command

if TYPE_CHECKING:
    from target_stairoids.ledger.ledger import Ledger
    from target_stairoids.ledger.queries import FoundSignal
    from target_stairoids.settings import Settings

_SHOWN = 10  # ids
_FORMS = " Write a key as `42`, `trial_id=42`, or a JSON array of its columns."


@click.command()
@click.option(
    "--days",
    type=click.IntRange(min=1, max=3660),
    default=7,
    show_default=True,
    help="How many days to look back.",
)
@format_option()
@with_ledger
def reconcile(ledger: Ledger, days: int, output_format: str) -> None:
    """Compare the signals of the ledger with those of Stairoids.

    The command reads all signals of the ledger's sources in the last days, 200 with
    each request. The last minute is left out. The exit code is 1 if a signal of the
    ledger is missing at Stairoids, or if the ledger does not know a signal there.

    \b
    Example:
      stairoids-signals reconcile --days 7 --config config.json
    """
    from target_stairoids.dry_run.reconcile import reconcile as compared

    found = compared(click.get_current_context().obj, ledger, days=days)
    if output_format == "json":
        echo_json(found)
    else:
        click.echo(f"since {found.since}")
        click.echo(f"until {found.until} (the last minute is left out)")
        click.echo(f"in the ledger: {found.in_ledger:,}")
        click.echo(f"at Stairoids: {found.there:,}")
        _show("missing there", found.missing)
        _show("unknown here", found.unknown)
        for source in found.not_compared:
            name = as_code(one_line(source))
            click.echo(f"not compared: {name} (`ledger allow --source`)")
    if found.missing or found.unknown:
        raise click.exceptions.Exit(1)


def _show(name: str, ids: list[str]) -> None:
    click.echo(f"{name}: {len(ids):,}")
    for signal_id in ids[:_SHOWN]:
        click.echo(f"  {one_line(signal_id)}")
    if len(ids) > _SHOWN:
        click.echo(f"  and {len(ids) - _SHOWN:,} more: see `--format json`")


@click.command()
@click.option("--email", help="The person's email address.")
@click.option(
    "--key", help="The record's key: 42, trial_id=42, or a JSON array of its columns."
)
@format_option()
@with_ledger
def find(
    ledger: Ledger, email: str | None, key: str | None, output_format: str
) -> None:
    """Find the signals about a person or a record in the ledger.

    The table has the stream and the key of the record, and the run that sent it. A
    `claimed` signal is in flight. `rejected`, `unknown` and `invalid` are dead letters.

    \b
    Examples:
      stairoids-signals find --email ann@example.com --config config.json
      stairoids-signals find --key 42 --config config.json
    """
    if not (email or key):
        raise WrongUsageError("Give --email or --key.")
    address = address_in(email) if email else None
    found = _found(ledger, click.get_current_context().obj, address, key)
    if output_format == "json":
        echo_json(found)
        return
    header = ("when (UTC)", "stream", "key", "type", "outcome", "run", "signal id")
    if found:
        rows = [(signal.at[:19], *astuple(signal)[1:]) for signal in found]
        print_table(header, [[str(cell or "-") for cell in row] for row in rows])
    else:
        click.echo(
            f"The ledger has no such signal.{_FORMS if key else ''} "
            f"To see why a record is not sent, run `{explain_command()}`."
        )


def _found(
    ledger: Ledger, settings: Settings, address: str | None, key: str | None
) -> list[FoundSignal]:
    """Return the signals about a person or a record."""
    from target_stairoids.ledger import queries
    from target_stairoids.mapping.config import items_of

    if not key:
        return queries.find(ledger, address, ())
    values = _read(key)
    parts = [str(v) for v in values] if isinstance(values, list) else [key]
    found = queries.find(ledger, address, [key, *_forms_of(parts)])
    first, *named = re.split(r"(?:^|, )([^=]+)=", key)  # `region=eu, id=42`
    if named and not first:
        columns = frozenset(named[::2])
        for signal in queries.find(ledger, address, _forms_of(named[1::2])):
            items = items_of(signal.stream, settings.signals)
            keys = queries.keys_of(ledger, signal.stream)
            if columns in keys | {frozenset(item.key) for item in items}:
                found.append(signal)
    return found


def _forms_of(parts: Sequence[str]) -> list[str]:
    """Return the forms that a key may have in the ledger: JSON arrays and digests.

    In an array, a part may be a text or a number.
    """
    forms = [[p, n] if isinstance(n := _read(p), (int, float)) else [p] for p in parts]
    arrays = [*map(json_array, itertools.product(*forms))]
    return [*arrays, *map(key_digest, arrays)]


def _read(text: str) -> object:
    try:
        return json.loads(text)
    except ValueError:
        return text
