"""`stairoids-signals ledger`: count, delete, copy and rebuild the sent signals."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime, timedelta
from io import StringIO
from typing import TYPE_CHECKING, TextIO

import click

from stairoids_common import cli
from stairoids_common.error_ids import WrongUsageError
from stairoids_common.text import as_code, as_message, counted, one_line
from target_stairoids.cli import options
from target_stairoids.dedup.outcome import Outcome
from target_stairoids.exceptions import (
    ConfigError,
    InterruptedRunError,
    LedgerError,
    StairoidsError,
)
from target_stairoids.mapping.signals_setting import MappingItem
from target_stairoids.reporting.next_steps import dead_letters_command, with_configs

if TYPE_CHECKING:
    from target_stairoids.ledger.ledger import Ledger
    from target_stairoids.settings import Settings


def _named(name: str) -> str:
    """Return a name as code, without characters that a terminal would obey."""
    return as_code(one_line(name))


@click.group()
@options.config_option(is_of_group=True)
def ledger() -> None:
    """Inspect, clean up and move the database of sent signals."""


@ledger.command()
@cli.format_option()
@options.with_ledger
def stats(ledger: Ledger, output_format: str) -> None:
    """Count the signals of the ledger by stream and outcome.

    `claimed` signals are in flight, or a killed run left them. The next run looks
    them up at Stairoids before it sends anything about the same record.

    \b
    Example:
      stairoids-signals ledger stats --config config.json
    """
    from target_stairoids.ledger import queries

    counts = queries.counts(ledger)
    if output_format == "json":
        click.echo(json.dumps(counts))
        return
    rows = [
        (stream, outcome, count)
        for stream, outcomes in sorted(counts.items())
        for outcome, count in sorted(outcomes.items())
    ]
    cli.print_table(("stream", "outcome", "signals"), rows)
    click.echo(f"\nLedger {ledger.name}")


@ledger.command()
@click.option("--stream", required=True, help="Name of the stream.")
@cli.confirmed_removal
@options.with_ledger
def forget(ledger: Ledger, stream: str, is_confirmed: Callable[[str], bool]) -> None:
    """Forget a stream, so that its signals are sent again.

    \b
    Example:
      stairoids-signals ledger forget --stream trials --config config.json
    """
    from target_stairoids.ledger import maintenance

    count, entries = maintenance.forget(ledger, stream, dry_run=True)
    forgotten = f"{counted(count, 'signal')} of {_named(stream)}"
    effect = "They will be sent again."
    if entries:
        listed = counted(entries, "entry", "entries")
        forgotten += f" and {listed} of the suppression list"
        effect = "These people may get signals until the stream is read again."
    if is_confirmed(f"The ledger forgets {forgotten}. {effect}"):
        maintenance.forget(ledger, stream)
        click.echo(f"Forgot {forgotten}.")


@ledger.command()
@cli.older_than_option(
    help="Keep the versions that younger runs sent:",
    min_age=timedelta(days=1),
    required=True,
)
@cli.confirmed_removal
@options.with_ledger
def prune(
    ledger: Ledger, older_than: datetime, is_confirmed: Callable[[str], bool]
) -> None:
    """Delete old versions of records that a later version replaced.

    \b
    Example:
      stairoids-signals ledger prune --older-than 400d --config config.json
    """
    from target_stairoids.ledger import maintenance

    count = maintenance.prune(ledger, older_than=older_than, dry_run=True)
    if is_confirmed(f"The ledger has {counted(count, 'old version')} to remove."):
        count = maintenance.prune(ledger, older_than=older_than)
        click.echo(f"Removed {counted(count, 'old version')}.")


@ledger.command()
@click.option("--email", required=True, help="The person's email address.")
@cli.confirmed_removal
@options.with_ledger
def erase(ledger: Ledger, email: str, is_confirmed: Callable[[str], bool]) -> None:
    """Erase the email address of a person.

    The command deletes the claims and dead letters that have the address, and removes
    it from the keys of sent records. The rest of the ledger has digests only.

    \b
    Example:
      stairoids-signals ledger erase --email ann@example.com --config config.json
    """
    from target_stairoids.ledger import maintenance

    address = options.address_in(email)
    count = maintenance.erase(ledger, address, dry_run=True)
    many = "claims, dead letters and keys"
    found = counted(count, "claim, dead letter or key", many)
    if is_confirmed(f"The ledger has {found} with this address."):
        maintenance.erase(ledger, address)
        click.echo(f"Erased {found}.")
        click.echo("The rest of the ledger has digests, and no address.")
    if ledger.suppressed.listed([address]):
        click.echo(
            "The person stays on the suppression list: the ledger keeps the digest."
        )


@ledger.command()
@click.argument("stream", required=False)
@click.option("--source", help="Other producers send signals of this source as well.")
@click.option("--key", is_flag=True, help="The API key belongs to this ledger.")
@click.option("--all", "all_checks", is_flag=True, help="Let several checks pass.")
@options.with_ledger
def allow(
    ledger: Ledger,
    stream: str | None,
    source: str | None,
    *,
    key: bool,
    all_checks: bool,
) -> None:
    """Let a stream, a source or an API key pass a check.

    With --source, later runs send signals of a source although Stairoids has some that
    the ledger does not know. With --key, they use a new API key without a look at its
    workspace.

    \b
    Examples:
      stairoids-signals ledger allow trials --config config.json
      stairoids-signals ledger allow --source website --config config.json
      stairoids-signals ledger allow --key --config config.json
    """
    from target_stairoids.checks.stream_checks import SOURCE

    if not (stream or source or key):
        raise WrongUsageError("Name a stream, or give --source or --key.")
    with ledger.transaction() as transaction:
        fired = transaction.allow(stream) if stream else {}
        if SOURCE in fired and len(fired) > 1 and not all_checks:
            for reason in fired.values():
                click.echo(f"Fired: {as_message(with_configs(reason))}", err=True)
            raise ConfigError(
                f"Several checks hold stream `{stream}` back, and one run passes them "
                "all. If they are those of two databases, give one of these its own "
                "`namespace`. To let them pass, add --all."
            )
        if source:
            transaction.note_others(source)
            named = _named(source)
            click.echo(f"Runs no longer compare source {named} with the ledger.")
        if key:
            api_key = click.get_current_context().obj.api_key
            transaction.note_key(ledger.key_digest(api_key))
            click.echo("The API key may be used with this ledger.")
    if stream and not fired:
        raise ConfigError(
            f"No check holds stream `{stream}` back. Compare the name with the error "
            "of the last run."
        )
    for reason in map(with_configs, fired.values()):
        click.echo(f"Allowed for the next complete run: {as_message(reason)}")


@ledger.command()
@click.argument("old")
@click.argument("new", required=False)
@click.option("--source", nargs=2, help="The old and the new name of a source.")
@click.option("--mapping", nargs=2, help="The old and the new name of a mapping.")
@options.with_ledger
def rename(
    ledger: Ledger,
    old: str,
    new: str | None,
    source: tuple[str, str] | None,
    mapping: tuple[str, str] | None,
) -> None:
    """Keep the signals of a stream under its new name.

    With --source or --mapping, the stream keeps its name, and another part of it has
    a new one.

    \b
    Examples:
      stairoids-signals ledger rename public-trials public.trials
      stairoids-signals ledger rename trials --source singer crm
      stairoids-signals ledger rename trials --mapping trial trial_started
    """
    from target_stairoids.ledger import maintenance
    from target_stairoids.mapping.config import names_for

    if not (new or source or mapping):
        raise WrongUsageError("Give the new name, --source or --mapping.")
    for before, after in ((old, new), source or ("", None), mapping or ("", None)):
        if before == after:
            raise WrongUsageError("The old and the new name are the same.")
    settings = click.get_current_context().obj
    names = names_for(new or old, settings.signals)
    maintenance.rename(ledger, old, new, names=names, source=source, mapping=mapping)
    click.echo(f"Renamed. The signals of {_named(old)} are not sent again.")
    new_names = source and source[1], mapping and mapping[1]
    if lacking := list(_lacking(settings, old, new, *new_names)):
        click.echo(
            f"The config does not have the new name yet. Set {' and '.join(lacking)} "
            "for this stream before the next run."
        )


def _lacking(
    settings: Settings, old: str, new: str | None, source: str | None, name: str | None
) -> Iterator[str]:
    """Yield each new name that the config lacks, with its field in `signals`."""
    from target_stairoids.mapping.config import items_of

    stream, items = new or old, items_of(new or old, settings.signals)
    if not items and (items := items_of(old, settings.signals)):
        yield _named(f"stream: {stream}")
    items = items or [MappingItem(stream="*")]
    if source and source not in {i.source or settings.default_source for i in items}:
        yield _named(f"source: {source}")
    if name and name not in {item.mapping_name(stream) for item in items}:
        yield _named(f"name: {name}")


@ledger.command("reset-order")
@click.argument("stream")
@options.with_ledger
def reset_order(ledger: Ledger, stream: str) -> None:
    """Accept an order that starts again at the source.

    \b
    Example:
      stairoids-signals ledger reset-order trials --config config.json
    """
    from target_stairoids.ledger import maintenance

    count = maintenance.reset_order(ledger, stream)
    click.echo(f"The next run decides the order of {counted(count, 'record')} again.")


@ledger.command()
@click.option("--to", "url", required=True, help="URL of an empty ledger.")
@options.with_ledger
def copy(ledger: Ledger, url: str) -> None:
    """Copy the ledger, for example from SQLite to PostgreSQL.

    \b
    Example:
      stairoids-signals ledger copy --to postgresql://me@db/x --config config.json
    """
    from target_stairoids.ledger import maintenance
    from target_stairoids.ledger.ledger import Ledger

    try:
        with Ledger.open_read_only(url, "", missing_ok=True) as other:
            is_same = other.name == ledger.name
    except LedgerError as error:
        raise ConfigError(f"--to: {error}") from None
    if is_same:
        raise ConfigError("--to is the URL of this ledger. Name an empty one.")
    with Ledger.create(url, ledger.scope) as other:
        for table, count in maintenance.copy(ledger, other).items():
            click.echo(f"{table.removeprefix('stairoids_')}: {count}")
        click.echo(f"Copied. Now set `ledger_url` to {other.name}.")


@ledger.command()
@options.messages_argument
@options.config_option()
def baseline(config_inputs: Sequence[str], messages: TextIO) -> None:
    """Remember records as sent, and send nothing.

    Use it for streams that were sent by other means. Pipe the tap into this command.
    The summary is on stderr and STATE is on stdout, as in any run.

    \b
    Example:
      tap-x --config tap.json | stairoids-signals ledger baseline --config config.json
    """
    from target_stairoids.dry_run.runner import run
    from target_stairoids.target import settings_from

    if settings_from(config_inputs).dry_run:
        raise ConfigError(
            "`dry_run` is set, so the baseline would remember no record, and the next "
            "run would send them all. Remove `dry_run`."
        )
    options.log_the_run()
    try:
        run(config_inputs, messages, first_run="baseline", remembers_all=True)
    except InterruptedRunError as stopped:
        raise InterruptedRunError(
            stopped.exit_code - 128,
            "Repeat the baseline with the whole output of the tap before any run.",
        ) from None


@ledger.command()
@options.messages_argument
@options.config_option()
@click.option("--dry-run", is_flag=True, help="Only compare and count. Write nothing.")
@click.option("--incomplete", is_flag=True, help="Write though records are missing.")
def rebuild(
    config_inputs: Sequence[str], messages: TextIO, *, dry_run: bool, incomplete: bool
) -> None:
    """Fill a lost or old ledger with the signals that Stairoids has.

    The messages are a captured output of the tap. The command makes their signals
    with the present mapping, and compares each with those of Stairoids. It sends
    nothing. The next run sends only the signals that Stairoids does not have.

    If Stairoids has signals that the messages do not explain, records are missing or
    old. Nothing is written then, unless you add --incomplete.

    \b
    Examples:
      stairoids-signals ledger rebuild messages.jsonl --dry-run --config config.json
      stairoids-signals ledger rebuild messages.jsonl --config config.json
    """
    from target_stairoids.dry_run import runner

    if not messages.seekable():
        messages = StringIO(messages.read())
    report, unexplained = runner.rebuild(config_inputs, messages, dry_run=True)
    is_refused = unexplained > 0 and not incomplete
    if not dry_run and not is_refused:
        messages.seek(0)
        report, _ = runner.rebuild(config_inputs, messages, dry_run=False)
    outcomes = report.outcomes
    compared = Outcome.ACCEPTED, Outcome.WOULD_SEND, Outcome.UNKNOWN
    found, missing, unclear = (outcomes.pop(outcome, 0) for outcome in compared)
    click.echo(f"found there: {found:,}")
    click.echo(f"not there: {missing:,} (the next run sends them)")
    click.echo(f"ambiguous: {unclear:,} (similar to a signal there, never sent)")
    click.echo(f"unexplained: {unexplained:,} (there, and in no message)")
    for outcome, count in sorted(outcomes.items()):
        click.echo(f"{outcome}: {count:,}")
    if not (found or missing or unclear):
        click.echo(
            "No record of MESSAGES makes a new signal, so no signals were compared. "
            "If a run is held back, use an output of the tap that has later records."
        )
    if is_refused:
        raise StairoidsError(
            "Nothing was written. Stairoids has signals that MESSAGES does not "
            "explain. Rebuild with an output of the tap that has all records. If these "
            "records no longer exist, add --incomplete. A later run sends them again "
            "if the tap prints them."
        )
    if dry_run:
        click.echo("Nothing was written (--dry-run).")
    elif unclear:
        click.echo(f"Decide on the ambiguous ones: {dead_letters_command()}")
