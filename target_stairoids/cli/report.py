"""`stairoids-signals report`: what the runs of the last weeks did."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from stairoids_common.text import counted
from target_stairoids.cli.options import print_table, with_ledger
from target_stairoids.reporting.next_steps import dead_letters_command

if TYPE_CHECKING:
    from collections.abc import Sequence

    from target_stairoids.ledger.ledger import Ledger
    from target_stairoids.reporting.runs import History, PastRun

_UNTOLD = "?"
_RUNS = 20  # of a table; JSON and HTML have all


@click.command()
@click.option(
    "--days",
    type=click.IntRange(min=1, max=3660),
    default=28,
    show_default=True,
    help="How far to look back; days are those of UTC.",
)
@click.option(
    "--format",
    "style",
    type=click.Choice(["table", "json", "html"]),
    default="table",
    show_default=True,
    help="A table for people, JSON, or one HTML page with plots.",
)
@with_ledger
def report(ledger: Ledger, days: int, style: str) -> None:
    """Tell what the runs of the last weeks did.

    That is: how each run ended, outcomes and their reasons, the pace, dead letters.

    \b
    Examples:
      stairoids-signals report --config config.json
      stairoids-signals report --config config.json --days 7 --format json
      stairoids-signals report --config config.json --format html > report.html
    """  # noqa: D301 - \b is click's mark for text that is not re-wrapped
    import msgspec

    from target_stairoids.reporting.html import as_html
    from target_stairoids.reporting.runs import past_runs

    history = past_runs(ledger, days=days)
    if style == "json":
        click.echo(msgspec.json.encode(history))
    elif style == "html":
        click.echo(as_html(history))
    else:
        _show(history)
        click.echo(f"\nLedger {ledger.name}")


def _number(count: int | None) -> str:
    return _UNTOLD if count is None else f"{count:,}"


def _minutes(seconds: float | None) -> str:
    return _UNTOLD if seconds is None else f"{seconds / 60:.1f}"


def _show(history: History) -> None:
    from target_stairoids.reporting.runs import COUNTED_BY_RUN

    click.secho(f"Runs from {history.since} to {history.until}", bold=True)
    _show_runs(history.runs)
    click.echo()
    _show_outcomes(history)
    if history.reasons:
        click.echo()
        print_table(
            ("stream", "outcome", "signals", "reason"),
            [
                (
                    said["stream"],
                    said["outcome"],
                    f"{said['count']:,}",
                    said["reason"],
                )
                for said in history.reasons
            ],
        )
    if len(history.runs) > 1:
        click.echo(f"\n{COUNTED_BY_RUN}")
    click.echo()
    if history.oldest_dead_letter is None:
        click.echo("No dead letters.")
    else:
        click.echo(
            f"Dead letters now: {history.dead_letters:,}, the oldest since "
            f"{history.oldest_dead_letter[:10]}. See them: {dead_letters_command()}"
        )


def _show_runs(runs: Sequence[PastRun]) -> None:
    rows = [
        (
            run.run,
            run.started_at[:16].replace("T", " "),
            run.ending,
            _number(run.read),
            _number(run.outcomes.get("accepted", 0)),
            _number(run.requests),
            _minutes(run.seconds),
            _minutes(run.quota_seconds),
        )
        for run in runs[-_RUNS:]
    ]
    header = ("run", "began (UTC)", "ended", "records", "accepted", "requests")
    print_table((*header, "minutes", "by quota"), rows)
    if len(runs) > _RUNS:
        earlier = counted(len(runs) - _RUNS, "earlier run")
        click.echo(f"{earlier}: see `--format json`.")
    if any(run.read is None for run in runs):
        click.echo(f"{_UNTOLD}  a run that has not ended did not tell; what it settled")
        click.echo("   is counted from the ledger.")


def _show_outcomes(history: History) -> None:
    from target_stairoids.reporting.progress import unanswered_in

    if types := history.types:
        print_table(
            ("accepted by type", "signals"),
            [(type_, f"{count:,}") for type_, count in types.items()],
        )
        click.echo()
    counts = dict(history.outcomes)
    counts |= {f"recovered, {name}": n for name, n in history.recovered.items()}
    print_table(
        ("outcome", "signals"),
        [(outcome, f"{count:,}") for outcome, count in counts.items()],
    )
    if history.unanswered.get("requests"):
        click.echo()
        for sentence in unanswered_in({"unanswered": history.unanswered}):
            click.echo(sentence)
