"""`stairoids-signals preview` and `suggest`: a mapping, before anything is sent."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, TextIO

import click

from stairoids_common.text import counted
from target_stairoids.cli.options import (
    config_option,
    one_sentence,
    print_table,
    style_option,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from target_stairoids.dry_run.preview import Coverage, Preview
    from target_stairoids.mapping.compiled import CompiledMapping
    from target_stairoids.settings import Settings

_WIDEST = 60  # characters of a cell; `--format json` shows all
_messages = click.argument("messages", type=click.File("r"), default="-")


@click.command()
@_messages
@click.option(
    "--limit",
    type=click.IntRange(min=0),
    default=3,
    show_default=True,
    help="How many signals to show.",
)
@style_option
@config_option()
@one_sentence
def preview(
    config_inputs: Sequence[str], messages: TextIO, limit: int, style: str
) -> None:
    """Show what a run over Singer MESSAGES would send. Sends nothing.

    MESSAGES is a file with what a tap prints; without it, stdin. The ledger is asked,
    and not written.

    \b
    Examples:
      stairoids-signals preview messages.jsonl --config config.json
      tap-x --config tap.json | stairoids-signals preview --config config.json
    """  # noqa: D301 - \b is click's mark for text that is not re-wrapped
    from target_stairoids.dry_run.preview import Preview
    from target_stairoids.dry_run.runner import run_dry

    seen = Preview(samples=limit)
    settings = run_dry(config_inputs, messages, seen)
    if style == "json":
        click.echo(json.dumps(seen.as_dict(settings)))
        return
    for name, stream in seen.streams.items():
        for compiled_mapping in stream.maps:
            _show_map(name, compiled_mapping, _why_source(settings))
            _show_coverage(seen.coverage.get((name, compiled_mapping.name)))
    _show_outcomes(seen)
    _show_signals(seen)
    _show_time(seen.to_send, seen.minutes(settings))


@click.command()
@_messages
@click.option(
    "--format",
    "style",
    type=click.Choice(["yaml", "json"]),
    default="yaml",
    show_default=True,
    help="YAML with the reasons, or JSON for a config file.",
)
@config_option(required=False)
@one_sentence
def suggest(config_inputs: Sequence[str], messages: TextIO, style: str) -> None:
    """Print the mapping that is inferred, to be edited.

    MESSAGES is a file with what a tap prints; without it, stdin. A config is needed
    only for `stream_maps`; its `signals` are not looked at.

    \b
    Examples:
      stairoids-signals suggest messages.jsonl > signals.yml
      stairoids-signals suggest messages.jsonl --format json
    """  # noqa: D301 - \b is click's mark for text that is not re-wrapped
    import yaml

    from target_stairoids.dry_run import suggest as suggestion
    from target_stairoids.dry_run.preview import Preview
    from target_stairoids.dry_run.runner import run_dry

    seen = Preview(samples=0)
    run_dry(config_inputs, messages, seen, signals=(), ledger_url="sqlite://")
    text = suggestion.as_yaml(seen)
    if style == "json":
        text = json.dumps(yaml.safe_load(text), indent=2, ensure_ascii=False) + "\n"
    click.echo(text, nl=False)


def _why_source(settings: Settings) -> str:
    if settings.source is not None:
        return "the setting `source`"
    return "the extractor's name, else `singer`: `source` is not set"


def _show_map(stream: str, compiled_mapping: CompiledMapping, why_source: str) -> None:
    from target_stairoids.mapping.compiler import DEFAULT_SOURCE

    click.secho(f"Stream {stream}, mapping {compiled_mapping.name}", bold=True)
    if compiled_mapping.is_left_out:
        has_type = "type" in compiled_mapping.origins
        why = "nothing says whom its records are about"
        why = why if has_type else "its mapping has `type: null`"
        click.echo(f"  is left out: {why}.")
        return
    rows = [
        [
            f"  {field}",
            _short(_listed(origin.template)),
            why_source if origin.why == DEFAULT_SOURCE else origin.why,
        ]
        for field, origin in compiled_mapping.origins.items()
    ]
    key = ", ".join(compiled_mapping.key) or "the whole record"
    rows.append(["  key", key, f"sent {compiled_mapping.send}"])
    print_table(("  field", "is filled by", "because"), rows)


def _listed(template: str) -> str:
    """Return a list of names as a person writes it, and all else as it is."""
    try:
        names = json.loads(template)
    except ValueError:
        return template
    if isinstance(names, list) and all(isinstance(name, str) for name in names):
        return ", ".join(names) or "none"
    return template


def _show_coverage(coverage: Coverage | None) -> None:
    if coverage is not None:
        shares = (
            f"{coverage.share(name):.0%} have {name}"
            for name in ("account.domain", "contact.email", "occurred_at")
        )
        records = counted(coverage.records, "record")
        click.echo(f"  {records} not filtered: {', '.join(shares)}")
    click.echo()


def _show_outcomes(seen: Preview) -> None:
    rows = [
        (stream, outcome, count, reason)
        for (stream, outcome, reason), count in seen.outcomes.most_common()
    ]
    if rows:
        print_table(("stream", "outcome", "signals", "reason"), rows)
        click.echo()


def _show_signals(seen: Preview) -> None:
    rows = [
        (
            signal["stream"],
            signal["type"],
            signal.get("account", {}).get("domain", ""),
            signal.get("contact", {}).get("email", ""),
            signal.get("occurred_at", ""),
            _short(json.dumps(signal.get("properties", {}), ensure_ascii=False)),
        )
        for signal in seen.signals
    ]
    if rows:
        header = ("stream", "type", "domain", "e-mail", "occurred_at", "properties")
        print_table(header, rows)
        click.echo()


def _short(text: str) -> str:
    return text if len(text) <= _WIDEST else f"{text[: _WIDEST - 1]}…"


def _show_time(count: int, minutes: Mapping[str, float]) -> None:
    click.echo(f"{counted(count, 'signal')} would be sent.")
    if count:
        times = ", ".join(f"{_duration(m)} ({name})" for name, m in minutes.items())
        click.echo(f"At the quota's pace that takes about {times}.")
    click.echo("Nothing was sent and nothing was written.")


def _duration(minutes: float) -> str:
    if minutes < 1:
        return f"{max(1.0, minutes * 60):.0f} s"
    if minutes < 120:
        return f"{minutes:.0f} min"
    if minutes < 2880:
        return f"{minutes / 60:.1f} h"
    return f"{minutes / 1440:.1f} days"
