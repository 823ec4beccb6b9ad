"""`stairoids-signals check` and `schema`: test a config, and print its schema."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, TextIO

import click

from stairoids_common.cli import TEXT_FILE
from stairoids_common.error_ids import with_id
from stairoids_common.text import counted, one_line
from target_stairoids.cli.options import config_option, online_option
from target_stairoids.dedup.record import json_value
from target_stairoids.exceptions import ConfigError
from target_stairoids.reporting.next_steps import with_configs


@click.command()
@click.option(
    "--catalog",
    type=TEXT_FILE,
    metavar="FILE",
    help="Also check the mapping against a tap's catalog or its SCHEMA messages.",
)
@online_option
@config_option()
def check(
    config_inputs: Sequence[str], catalog: TextIO | None, *, online: bool
) -> None:
    """Check config, mapping, ledger, API and key.

    The command sends no signal. It reads one, which shows that `api_url` responds and
    that Stairoids knows the key. Only the first signal that you send shows whether the
    key may send. With --online it also compares the ledger with Stairoids' signals of
    the sources and types in `signals`. The exit code is 1 if a check would set a stream
    aside or hold signals back.

    \b
    Examples:
      stairoids-signals check --config config.json
      stairoids-signals check --config config.json --catalog catalog.json
    """
    from target_stairoids.api.access_check import check_key
    from target_stairoids.checks.first_run import NOT_CHECKED
    from target_stairoids.checks.suppression import SuppressionList
    from target_stairoids.dry_run.reconcile import comparison, literal_pairs
    from target_stairoids.ledger.maintenance import writable_ledger
    from target_stairoids.mapping.config import check_items
    from target_stairoids.target import target_from

    target = target_from(config_inputs, may_send=False)
    settings = target.settings()
    check_items(settings.signals)
    target.check_stream_maps()
    click.echo("config   is valid")
    if settings.suppress or settings.suppress_path:
        click.echo(f"suppress {SuppressionList.of(settings)}")
    would_stop = catalog is not None and _would_stop(config_inputs, catalog)
    ledger = writable_ledger(settings.ledger_url, settings.scope)
    click.echo(f"ledger   {ledger} can be written")
    key = check_key(settings)
    click.echo(f"api      {settings.api_url} responds")
    click.echo(f"key      {key}")
    if online:
        pairs = literal_pairs(settings)
        error = comparison(settings, pairs)
        known = "that Stairoids has are known to the ledger"
        if settings.first_run != "guard":
            known = f"are sent or remembered, as `first_run` is `{settings.first_run}`"
        if not pairs:
            known = (
                "are not compared, as `signals` names no stream. Use `preview --online`"
            )
        click.echo(f"signals  {with_id(with_configs(str(error or known)))}")
        if error is not None:
            raise click.exceptions.Exit(error.exit_code)
    else:
        click.echo(f"First-run check: {NOT_CHECKED}", err=True)
    raise click.exceptions.Exit(would_stop)


def _would_stop(config_inputs: Sequence[str], catalog: TextIO) -> bool:
    """Print the mapping of each stream. Return whether a check would fire."""
    from target_stairoids.dry_run.preview import Preview
    from target_stairoids.dry_run.runner import run_dry

    messages = _schema_messages(catalog.read())
    if not messages:
        raise ConfigError("The catalog or messages of --catalog have no stream.")
    preview = Preview(samples=0)
    run_dry(config_inputs, [json.dumps(m, default=str) for m in messages], preview)
    click.echo(f"mapping  fits {counted(len(preview.streams), 'stream')}")
    for stream, mapping, _ in preview.mappings():
        known = (
            "account.domain",
            "contact.email",
            *["account.name"] * mapping.is_by_name,
        )
        fields = [field for field in known if field in mapping.origins]
        found = "left out" if mapping.is_left_out else f"by {', '.join(fields)}"
        if mapping.suppress is not None:
            found = "puts people on the suppression list"
        click.echo(one_line(f"         {stream} -> {mapping.name}: {found}"))
    checks = [stream.immediate_check for stream in preview.streams.values()]
    fired = [check for check in checks if check is not None]
    for _, reason in fired:
        text = f"A run would stop here. {with_configs(reason)}"
        click.echo(f"         {with_id(text)}")
    return bool(fired)


def _schema_messages(text: str) -> list[dict[str, Any]]:
    """Return the SCHEMA messages of a catalog, or of the messages of a tap."""
    whole = None
    with suppress(ValueError):
        whole = json_value(text)
    with suppress(ValueError, TypeError, AttributeError, KeyError):
        if isinstance(whole, dict) and "streams" in whole:
            return [*filter(None, map(_schema_message, whole["streams"]))]
        messages = [json_value(line) for line in text.split("\n") if line.strip()]
        if messages:
            return [m for m in messages if m.get("type") == "SCHEMA"]
    raise ConfigError(
        "The file of --catalog is neither a catalog (`tap-x --discover`) nor messages "
        "of a tap (`tap-x --config ...`)."
    )


def _schema_message(stream: dict[str, Any]) -> dict[str, Any] | None:
    """Return the SCHEMA message of a stream in a catalog; None if it is deselected."""
    metadata: dict[str, Any] = {"selected": stream.get("selected")}
    for entry in stream.get("metadata") or ():
        if not entry.get("breadcrumb"):  # of the stream, not of a column
            metadata.update(entry.get("metadata") or {})
    if metadata["selected"] is False:
        return None
    key = stream.get("key_properties") or metadata.get("table-key-properties") or []
    bookmark = stream.get("replication_key") or metadata.get("replication-key")
    return {
        "type": "SCHEMA",
        "stream": stream.get("stream") or stream["tap_stream_id"],
        "schema": stream["schema"],
        "key_properties": key,
        **({"bookmark_properties": [bookmark]} if bookmark else {}),
    }


@click.command()
def schema() -> None:
    """Print the JSON Schema of the target's config, for editors.

    An editor that knows the schema completes the names of settings, shows their
    descriptions and marks mistakes. Name the file as `$schema` in the config.

    \b
    Example:
      stairoids-signals schema > target-stairoids.schema.json
    """
    click.echo(json.dumps(editor_schema(), indent=2))


def editor_schema() -> dict[str, Any]:
    """Return the JSON Schema of a config file.

    No setting is required, because the environment may set the key. Null means not set.
    """
    from target_stairoids.target import TargetStairoids

    of_target = TargetStairoids.full_schema()
    settings = {n: _or_null(s) for n, s in of_target["properties"].items()}
    place = {"type": "string", "description": "The place of this schema, for editors."}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Config of target-stairoids",
        "description": "Made by `stairoids-signals schema`.",
        "type": "object",
        "additionalProperties": False,
        "properties": {"$schema": place, **settings},
    }


def _or_null(spec: dict[str, Any]) -> dict[str, Any]:
    types = [spec["type"]] if isinstance(spec["type"], str) else spec["type"]
    found = {name: value for name, value in spec.items() if name != "secret"}
    if "enum" in found:
        found["enum"] = [*found["enum"], None]
    return {**found, "type": list(dict.fromkeys([*types, "null"]))}
