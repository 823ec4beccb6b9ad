"""`stairoids-signals ledger`: what was sent, counted, forgotten, copied."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import TYPE_CHECKING, TextIO

import click

from stairoids_common.text import counted
from target_stairoids.cli.age import age_option
from target_stairoids.cli.options import (
    config_option,
    log_the_run,
    one_sentence,
    print_table,
    style_option,
    with_ledger,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from target_stairoids.ledger.ledger import Ledger


@click.group()
def ledger() -> None:
    """See, clean up and move the ledger of what was sent."""


@ledger.command()
@style_option
@with_ledger
def stats(ledger: Ledger, style: str) -> None:
    """Count what is settled or a dead letter, by stream and outcome.

    What is `claimed` is under way, or was left by a killed run: the next one looks it
    up before it sends anything about the same.

    \b
    Example:
      stairoids-signals ledger stats --config config.json
    """  # noqa: D301 - \b is click's mark for text that is not re-wrapped
    from target_stairoids.ledger import queries

    counts = queries.counts(ledger)
    if style == "json":
        click.echo(json.dumps(counts))
        return
    rows = [
        (stream, outcome, f"{count:,}")
        for stream, outcomes in sorted(counts.items())
        for outcome, count in sorted(outcomes.items())
    ]
    print_table(("stream", "outcome", "signals"), rows)
    click.echo(f"\nLedger {ledger.name}")


@ledger.command()
@click.option("--stream", required=True, help="Name of the stream.")
@click.confirmation_option(prompt="All of the stream will be sent again. Go on?")
@with_ledger
def forget(ledger: Ledger, stream: str) -> None:
    """Forget what was sent of a stream, so that it is sent again.

    \b
    Example:
      stairoids-signals ledger forget --stream trials --config config.json
    """  # noqa: D301 - \b is click's mark for text that is not re-wrapped
    from target_stairoids.ledger import maintenance

    count = maintenance.forget(ledger, stream)
    click.echo(f"Forgot {counted(count, 'signal')} of `{stream}`.")


@ledger.command()
@age_option(
    about="Keep what younger runs settled:", least=timedelta(days=1), required=True
)
@with_ledger
def prune(ledger: Ledger, older_than: timedelta) -> None:
    """Remove old versions, but never the latest of an entity.

    \b
    Example:
      stairoids-signals ledger prune --older-than 400d --config config.json
    """  # noqa: D301 - \b is click's mark for text that is not re-wrapped
    from target_stairoids.ledger import maintenance

    count = maintenance.prune(ledger, older_than=older_than)
    click.echo(f"Removed {counted(count, 'old version')}.")


@ledger.command()
@click.option("--email", required=True, help="The person's address.")
@with_ledger
def erase(ledger: Ledger, email: str) -> None:
    """Erase what mentions a person's e-mail address.

    That is claims and dead letters; what is settled holds digests only.

    \b
    Example:
      stairoids-signals ledger erase --email ann@example.com --config config.json
    """  # noqa: D301 - \b is click's mark for text that is not re-wrapped
    from target_stairoids.exceptions import ConfigError
    from target_stairoids.ledger import maintenance
    from target_stairoids.mapping.values import likely_email_from

    if likely_email_from(email) is None:
        msg = "--email is not an e-mail address such as ann@example.com."
        raise ConfigError(msg)
    count = maintenance.erase(ledger, email)
    erased = counted(count, "claim or dead letter", "claims and dead letters")
    click.echo(f"Erased {erased}.")
    click.echo("What is settled holds digests, and no address.")


@ledger.command()
@click.option("--to", "url", required=True, help="URL of an empty ledger.")
@with_ledger
def copy(ledger: Ledger, url: str) -> None:
    """Copy the ledger, for example from SQLite to PostgreSQL.

    \b
    Example:
      stairoids-signals ledger copy --to postgresql://me@db/x --config config.json
    """  # noqa: D301 - \b is click's mark for text that is not re-wrapped
    from target_stairoids.ledger import maintenance
    from target_stairoids.ledger.ledger import Ledger

    with Ledger.create(url, ledger.scope) as other:
        for table, count in maintenance.copy(ledger, other).items():
            click.echo(f"{table.removeprefix('stairoids_')}: {count}")
        click.echo(f"Copied; now set `ledger_url` to {other.name}.")


@ledger.command()
@click.argument("messages", type=click.File("r"), default="-")
@config_option()
@one_sentence
def baseline(config_inputs: Sequence[str], messages: TextIO) -> None:
    """Remember records as seen, and send nothing.

    For streams that were sent by other means. Pipe the tap into this command; the sum
    is on stderr, STATE on stdout, as of any run.

    \b
    Example:
      tap-x --config tap.json | stairoids-signals ledger baseline --config config.json
    """  # noqa: D301 - \b is click's mark for text that is not re-wrapped
    from target_stairoids.dry_run.runner import remember

    log_the_run()
    remember(config_inputs, messages)
