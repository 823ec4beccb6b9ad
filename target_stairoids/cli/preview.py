"""`stairoids-signals preview` and `explain`: show the result of a run before it."""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from functools import partial
from typing import TYPE_CHECKING, TextIO

import click

from stairoids_common.cli import echo_json, format_option, print_table
from stairoids_common.error_ids import WrongUsageError, with_id
from stairoids_common.text import counted, duration, one_line
from target_stairoids.cli import options
from target_stairoids.dedup.outcome import Outcome
from target_stairoids.dedup.record import value_at
from target_stairoids.mapping.signal import BY_WHEN, CompiledMapping
from target_stairoids.reporting.next_steps import with_configs

if TYPE_CHECKING:
    from target_stairoids.dry_run.preview import Coverage, Preview
    from target_stairoids.sending.observer import Observation
    from target_stairoids.settings import Settings

_MAX_WIDTH = 60  # characters of a template or of properties, except in JSON
_MAX_NAMES = 12  # fields or columns in one line
_ANY_CASE = "Upper case counts. For any case, write `(column | lower) == 'yes'`."
#: Outcome -> explanation, for outcomes without a reason of their own.
_EXPLANATIONS = {
    Outcome.WOULD_SEND: "new",
    Outcome.DUPLICATE: "nothing to do: this state was sent or remembered before",
    Outcome.SUPERSEDED: "a newer state was sent",
    Outcome.UNCHANGED: "the signal is the same as the last one",
    Outcome.TOO_OLD: "older than `max_event_age_days`",
    Outcome.BASELINED: "remembered as seen",
}
_DUPLICATE_ONCE = (
    "nothing to do: a state of this record was sent or remembered before (`send: once`)"
)


@click.command()
@options.messages_argument
@click.option(
    "--limit",
    type=click.IntRange(min=0),
    default=3,
    show_default=True,
    help="How many signals to show.",
)
@click.option(
    "--against",
    metavar="FILE",
    help="Compare with the signals of another config, such as the present one.",
)
@options.online_option
@format_option(
    "table", "json", "markdown", help="A table, JSON, or Markdown for --against."
)
@options.config_option()
def preview(
    config_inputs: Sequence[str],
    messages: TextIO,
    limit: int,
    against: str | None,
    output_format: str,
    *,
    online: bool,
) -> None:
    """Show the signals that a run over MESSAGES would send.

    MESSAGES is a file with the output of a tap. The default is stdin. The command
    sends nothing. It reads the ledger and does not change it. With --online it also
    reads signals of Stairoids and says whether a run would hold signals back. The exit
    code is 1 if a check would set a stream aside or hold signals back.

    With --against it lists the signals that are new, gone or changed between two
    configs, by stream and field. The comparison needs no ledger. Markdown has counts
    and no values, so that it can be a comment on a pull request.

    \b
    Examples:
      stairoids-signals preview messages.jsonl --config config.json
      tap-x --config tap.json | stairoids-signals preview --config config.json
      stairoids-signals preview messages.jsonl --config new.json --against config.json
    """
    if against is not None:
        if online:
            raise WrongUsageError("--online is of no use with --against. Leave it out.")
        _compare(against, config_inputs, messages, limit, output_format)
        return
    if output_format == "markdown":
        raise WrongUsageError("Markdown is for --against only.")
    from target_stairoids.checks.first_run import NOT_CHECKED
    from target_stairoids.dry_run.preview import NO_STREAM, Preview
    from target_stairoids.dry_run.reconcile import comparison
    from target_stairoids.dry_run.runner import run_dry
    from target_stairoids.target import settings_from

    found = Preview(samples=limit)
    settings = run_dry(config_inputs, messages, found).settings()
    if not found.streams:
        click.echo(NO_STREAM, err=True)
    first_run, exit_code = NOT_CHECKED, 0
    if online:
        error = comparison(settings_from(config_inputs), found.pairs)
        first_run = with_configs(str(error or ""))
        exit_code = getattr(error, "exit_code", 0)
    if output_format == "json":
        click.echo(json.dumps(found.as_dict(settings, first_run)))
    else:
        _show(found, settings, first_run)
    raise click.exceptions.Exit(1 if found.stops else exit_code)


def _show(found: Preview, settings: Settings, first_run: str) -> None:
    for stream, mapping, coverage in found.mappings():
        _show_mapping(stream, mapping)
        _show_coverage(mapping, coverage)
    outcomes = found.outcomes.most_common()
    _show_table(
        ("stream", "outcome", "signals", "reason"),
        [(stream, outcome, n, reason) for (stream, outcome, reason), n in outcomes],
    )
    _show_signals(found)
    for reason in found.stops:
        text = with_id(f"A run would stop here. {reason}")
        click.secho(f"{text}\n", bold=True)
    click.echo(f"{counted(found.to_send, 'signal')} would be sent.")
    if (most := settings.max_signals_per_run or found.to_send) < found.to_send:
        click.echo(f"Each run sends at most {most:,} (`max_signals_per_run`).")
    if found.to_send:
        minutes = found.minutes(settings)
        times = (f"{duration(max(1, m * 60))} ({n})" for n, m in minutes.items())
        click.echo(f"At the rate limit that takes about {', '.join(times)}.")
    click.echo("Nothing was sent and nothing was written.")
    if first_run:
        click.echo(with_id(f"First-run check: {first_run}"))


def _compare(
    against: str,
    config_inputs: Sequence[str],
    messages: TextIO,
    limit: int,
    output_format: str,
) -> None:
    from target_stairoids.dry_run.comparison import compare

    found = compare([against], config_inputs, list(messages), examples=limit)
    if output_format == "json":
        echo_json(found)
        return
    if output_format == "markdown":
        click.echo(found.as_markdown(), nl=False)
        return
    header = ("stream", "new", "gone", "changed", "same")
    rows = [
        (name, s.new, s.gone, s.changed, s.same)
        for name, s in sorted(found.streams.items())
    ]
    _show_table(header, rows)
    for title, counts in (("changed field", "fields"), ("gone because", "reasons")):
        listed = [
            (name, what, count)
            for name, changes in sorted(found.streams.items())
            for what, count in getattr(changes, counts).most_common()
        ]
        _show_table(("stream", title, "signals"), listed)
    examples = [
        (e["stream"], e["change"], field, *(_short(json.dumps(v)) for v in values))
        for e in found.examples
        for field, values in e["fields"].items()
    ]
    _show_table(("stream", "change", "field", "before", "after"), examples)
    click.echo("Nothing was sent and nothing was written.")


def _show_mapping(stream: str, mapping: CompiledMapping) -> None:
    title = one_line(f"Stream {stream}, mapping {mapping.name}")
    click.secho(title, bold=True)
    if mapping.is_left_out:
        why = "no field names a person or company"
        if mapping.not_inferred:
            why = f"it {mapping.not_inferred}"
        elif "type" not in mapping.origins:
            why = "its mapping has `type: null`"
        click.echo(f"  is left out: {why}.")
        return
    rows = [
        (f"  {field}", _short(_listed(origin.template)), origin.why)
        for field, origin in mapping.origins.items()
    ]
    key = ", ".join(mapping.key) or "the whole record"
    effect = "nothing is sent" if mapping.suppress else f"sent {mapping.send}"
    rows.append(("  key", key, effect))
    print_table(("  field", "is filled by", "because"), rows)


def _listed(template: str) -> str:
    """Return a list of names as `a, b`, and any other template unchanged."""
    try:
        names = json.loads(template)
    except ValueError:
        return template
    if isinstance(names, list) and all(isinstance(name, str) for name in names):
        return ", ".join(names) or "none"
    return template


def _show_coverage(mapping: CompiledMapping, coverage: Coverage) -> None:
    if coverage.records:
        shares = (
            f"{coverage.share(name):.0%} have {name}"
            for name in ("account.domain", "contact.email", "occurred_at")
        )
        records = counted(coverage.records, "record")
        click.echo(f"  {records} not filtered: {', '.join(shares)}")
    if coverage.reasons.keys() == {BY_WHEN}:
        filtered = counted(coverage.reasons[BY_WHEN], "record")
        click.echo(f"  `when` filters all {filtered}. {_ANY_CASE}")
    for title, counts in (("Left empty", "empty"), ("Cannot be read", "unreadable")):
        if found := coverage.as_dict()[counts]:
            parts = [f"{name} ({count:,})" for name, count in found.items()]
            more = len(parts) - _MAX_NAMES
            end = f" and {more} more" if more > 0 else ""
            click.echo(one_line(f"  {title}: {', '.join(parts[:_MAX_NAMES])}{end}"))
    if mapping.hidden.private:
        private = ", ".join(sorted(mapping.hidden.private))
        click.echo(one_line(f"  Left out for privacy: {private}"))
    click.echo()


def _show_signals(found: Preview) -> None:
    header = ("stream", "type", "domain", "email", "occurred_at", "properties")
    rows = [
        (
            signal["stream"],
            signal["type"],
            signal.get("account", {}).get("domain", ""),
            signal.get("contact", {}).get("email", ""),
            signal.get("occurred_at", ""),
            _short(json.dumps(signal.get("properties", {}), ensure_ascii=False)),
        )
        for signal in found.signals
    ]
    _show_table(header, rows)


def _show_table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    if rows:
        print_table(header, rows)
        click.echo()


def _short(text: str) -> str:
    return text if len(text) <= _MAX_WIDTH else f"{text[: _MAX_WIDTH - 1]}…"


def _explain(
    output_format: str, only: Collection[str], observation: Observation
) -> None:
    """Print the outcome of a record, unless only others are asked for."""
    if only and observation.outcome not in only:
        return
    schema, mapping = observation.stream.schema, observation.compiled_mapping
    names = mapping.key if mapping else schema.key_properties
    key = {name: value_at(observation.record, name) for name in names}
    outcome = str(observation.outcome)
    explanation = _EXPLANATIONS.get(observation.outcome, "")
    if observation.outcome is Outcome.DUPLICATE and mapping and mapping.send == "once":
        explanation = _DUPLICATE_ONCE
    reason = observation.reason or explanation
    if output_format == "json":
        row = {
            "outcome": outcome,
            "stream": schema.name,
            "mapping": mapping.name if mapping else None,
            "key": key,
            "reason": reason,
        }
        click.echo(json.dumps(row, default=str))
    else:
        shown_key = options.key_text(key) or "(no key)"
        click.echo(one_line(f"{outcome:10}  {schema.name}  {shown_key}  {reason}"))


@click.command()
@options.messages_argument
@click.option(
    "--only",
    type=click.Choice([*map(str, _EXPLANATIONS), "filtered", "invalid", "pending"]),
    multiple=True,
    help="Only records with this outcome. Repeatable.",
)
@format_option()
@options.config_option()
def explain(
    config_inputs: Sequence[str],
    messages: TextIO,
    only: tuple[str, ...],
    output_format: str,
) -> None:
    """Show the outcome of each record of MESSAGES.

    Each line has the outcome, the stream, the key of the record and the reason.

    MESSAGES is a file with the output of a tap. The default is stdin. The command
    sends nothing. It reads the ledger and does not change it. Run it after a run:
    records that were sent are now `duplicate`, and each other record has a reason.

    \b
    Examples:
      stairoids-signals explain messages.jsonl --config config.json
      stairoids-signals explain messages.jsonl --only invalid --only filtered --config config.json
    """  # noqa: E501 - an example is one line, ready to be copied
    from target_stairoids.dry_run.runner import run_dry

    explain_one = partial(_explain, output_format, only)
    target = run_dry(config_inputs, messages, explain_one)
    if not target.run.report.read:
        click.echo("The messages have no records, so there are no outcomes.", err=True)
