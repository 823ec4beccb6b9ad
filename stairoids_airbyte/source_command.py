"""source-stairoids-webhooks: an Airbyte source of the webhooks Stairoids sent."""

from __future__ import annotations

from pathlib import Path

import click

from stairoids_airbyte.command_line import (
    CONTEXT,
    as_connector,
    catalog_option,
    config_option,
    state_option,
    tell_check,
)

_EXAMPLES = """\b
Examples:
  source-stairoids-webhooks spec
  source-stairoids-webhooks check --config config.json
  source-stairoids-webhooks discover --config config.json
  source-stairoids-webhooks read --config config.json --catalog catalog.json

\b
Exit codes: 0 all written; 1 config, state or store at fault; 128 + n stopped by
signal n. The store is filled by `stairoids-webhooks serve`.
"""


@click.group(epilog=_EXAMPLES, context_settings=CONTEXT)
@click.version_option(package_name="singer-stairoids")
def main() -> None:
    """Read the webhooks that Stairoids sent from the receiver's store."""


@main.command()
@as_connector
def spec() -> None:
    """Print the settings.

    \b
    Example:
      source-stairoids-webhooks spec
    """  # noqa: D301 - \b is click's mark for text that is not re-wrapped
    from stairoids_airbyte.output import write
    from stairoids_airbyte.source_settings import spec as told

    write(told())


@main.command()
@config_option
@as_connector
def check(config: Path) -> None:
    """See whether the config is right and the store can be read.

    \b
    Example:
      source-stairoids-webhooks check --config config.json
    """  # noqa: D301 - \b is click's mark for text that is not re-wrapped
    from stairoids_airbyte import source
    from stairoids_airbyte.documents import read_config

    tell_check(lambda: source.check(read_config(config)))


@main.command()
@config_option
@as_connector
def discover(config: Path) -> None:
    """Print the streams.

    \b
    Example:
      source-stairoids-webhooks discover --config config.json
    """  # noqa: D301 - \b is click's mark for text that is not re-wrapped
    from stairoids_airbyte import source
    from stairoids_airbyte.documents import read_config
    from stairoids_airbyte.output import write

    write(source.discover(read_config(config)))


@main.command()
@config_option
@catalog_option
@state_option
@as_connector
def read(config: Path, catalog: Path, state: Path | None) -> None:
    """Print the events that came after the states, up to now, with new states.

    \b
    Examples:
      source-stairoids-webhooks read --config config.json --catalog catalog.json
      source-stairoids-webhooks read --config config.json --catalog catalog.json \\
        --state state.json
    """  # noqa: D301 - \b is click's mark for text that is not re-wrapped
    from stairoids_airbyte import source
    from stairoids_airbyte.documents import read_catalog, read_config, read_state

    source.read(read_config(config), read_catalog(catalog), read_state(state))
