"""`source-stairoids-webhooks`, an Airbyte source of the webhooks that came in."""

from __future__ import annotations

from typing import Any

import click

from stairoids_airbyte.command_line import (
    as_connector,
    catalog_option,
    config_option,
    state_option,
    write_check,
)
from stairoids_airbyte.protocol import ConfiguredCatalog, Json
from stairoids_common.cli import CONTEXT_SETTINGS, Program, version_option

_EXAMPLES = """\b
Examples:
  source-stairoids-webhooks spec
  source-stairoids-webhooks check --config config.json
  source-stairoids-webhooks discover --config config.json
  source-stairoids-webhooks read --config config.json --catalog catalog.json

\b
Exit codes:
  0    all events are written.
  1    the config, the state or the store is wrong.
  75   the connection to the ledger broke off. Run again.
  130  stopped by SIGINT.
  143  stopped by SIGTERM.

`stairoids-webhooks serve` fills the store.
"""


@click.group(cls=Program, epilog=_EXAMPLES, context_settings=CONTEXT_SETTINGS)
@version_option
def main() -> None:
    """Read the webhooks that Stairoids sent from the receiver's store."""


@main.command()
@as_connector
def spec() -> None:
    """Print the settings.

    \b
    Example:
      source-stairoids-webhooks spec
    """
    from stairoids_airbyte import source_settings
    from stairoids_airbyte.output import write

    write(source_settings.spec())


@main.command()
@config_option
@as_connector
def check(config: dict[str, Any]) -> None:
    """Check that the config is right, and that a sync can use the store.

    \b
    Example:
      source-stairoids-webhooks check --config config.json
    """
    from stairoids_airbyte import source

    write_check(lambda: source.check(config))


@main.command()
@config_option
@as_connector
def discover(config: dict[str, Any]) -> None:
    """Print the streams.

    \b
    Example:
      source-stairoids-webhooks discover --config config.json
    """
    from stairoids_airbyte import source
    from stairoids_airbyte.output import write

    write(source.discover(config))


@main.command()
@config_option
@catalog_option
@state_option
@as_connector
def read(config: dict[str, Any], catalog: ConfiguredCatalog, state: Json) -> None:
    """Print the events after the given states, up to now, with new states.

    \b
    Examples:
      source-stairoids-webhooks read --config config.json --catalog catalog.json
      source-stairoids-webhooks read --config config.json --catalog catalog.json \\
        --state state.json
    """
    from stairoids_airbyte import source

    source.read(config, catalog, state)
