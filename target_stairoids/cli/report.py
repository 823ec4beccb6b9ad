"""`stairoids-signals report`: show the runs of the last weeks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from stairoids_common.cli import echo_json, format_option, print_table
from stairoids_common.text import counted, one_line
from target_stairoids.cli.options import with_ledger
from target_stairoids.reporting.next_steps import dead_letters_command, with_configs
from target_stairoids.reporting.progress import unanswered_in
from target_stairoids.reporting.run_status import ending_of, quota_in_words, words_of

if TYPE_CHECKING:
    from target_stairoids.ledger.ledger import Ledger
    from target_stairoids.reporting.runs import PastRun, RunHistory

_MAX_RUNS = 20  # rows of the table, but not of JSON and HTML
_MAX_REASONS = 5
_COLOURS = {"ok": "green", "attention": "yellow", "failed": "red"}


@click.command()
@click.option(
    "--days",
    type=click.IntRange(min=1, max=3660),
    default=28,
    show_default=True,
    help="How many days to look back, in UTC.",
)
@format_option(
    "table",
    "json",
    "html",
    help="A table for people, JSON, or an HTML page with plots.",
)
@with_ledger
def report(ledger: Ledger, days: int, output_format: str) -> None:
    """Show the runs and outcomes of the last weeks.

    The report has the exit code of each run, outcomes with their reasons and dead
    letters. It compares the time of each run with the time at the rate limit.

    \b
    Examples:
      stairoids-signals report --config config.json
      stairoids-signals report --config config.json --days 7 --format json
      stairoids-signals report --config config.json --format html > report.html
    """
    from target_stairoids.reporting.html import as_html
    from target_stairoids.reporting.runs import run_history

    history = run_history(ledger, days=days)
    if output_format == "json":
        echo_json(history)
    elif output_format == "html":
        click.echo(as_html(history))
    else:
        _show(history)
        click.echo(f"\nLedger {ledger.name}")


def _show(history: RunHistory) -> None:
    from target_stairoids.reporting.runs import COUNTED_BY_RUN

    for status in history.status:
        source = one_line(status.source) or "runs of send"
        name = f"{source}: " if len(history.status) > 1 else ""
        click.secho(f"{name}{status.text}", fg=_COLOURS.get(status.state), bold=True)
        for step in status.next:
            click.echo(f"  {step.text}")
            if step.command and step.command not in step.text:
                click.echo(f"    {step.command}")
    click.echo(quota_in_words(history.quota))
    click.echo()
    click.secho(f"Runs from {history.since} to {history.until}", bold=True)
    _show_runs(history.runs, " ".join(status.text for status in history.status))
    click.echo()
    _show_outcomes(history)
    if history.reasons:
        click.echo()
        header = ("stream", "outcome", "count", "reason")
        rows = [[entry[name] for name in header] for entry in history.reasons]
        print_table(("stream", "outcome", "signals", "reason"), rows)
    if len(history.runs) > 1:
        click.echo(f"\n{COUNTED_BY_RUN}")
    click.echo()
    if history.oldest_dead_letter is None:
        click.echo("No dead letters.")
    else:
        click.echo(
            f"Dead letters now: {history.dead_letters:,}, the oldest since "
            f"{history.oldest_dead_letter[:10]}. List them: {dead_letters_command()}"
        )


def _show_runs(runs: Sequence[PastRun], shown: str) -> None:
    """Show a table of the runs, and their reasons that are not shown yet."""
    rows = [
        (
            str(run.run),
            run.started_at[:16].replace("T", " "),
            ending_of(run),
            run.read,
            run.accepted,
            run.requests,
            run.seconds and run.seconds / 60,
            run.quota_seconds and run.quota_seconds / 60,
        )
        for run in runs[-_MAX_RUNS:]
    ]
    header = ("run", "began (UTC)", "ended", "records", "accepted", "requests")
    print_table((*header, "minutes", "at rate limit"), rows)
    if len(runs) > _MAX_RUNS:
        earlier = counted(len(runs) - _MAX_RUNS, "earlier run")
        click.echo(f"{earlier}: see `--format json`.")
    for run in [run for run in runs[-_MAX_RUNS:] if run.reason][-_MAX_REASONS:]:
        if words_of(run) not in shown:
            click.echo(f"Run {run.run}: {with_configs(run.reason)}")
    if any(run.read is None for run in runs):
        click.echo("?  a run that has not ended wrote no report. Its outcomes")
        click.echo("   are counted from the ledger.")


def _show_outcomes(history: RunHistory) -> None:
    if history.types:
        print_table(("accepted by type", "signals"), list(history.types.items()))
        click.echo()
    recovered = [
        (f"of which recovered, {name}", n) for name, n in history.recovered.items()
    ]
    print_table(("outcome", "signals"), [*history.outcomes.items(), *recovered])
    for sentence in unanswered_in(history.unanswered):
        click.echo(f"\n{sentence}")
