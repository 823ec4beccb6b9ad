"""destination-stairoids: an Airbyte destination that sends records as signals."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from stairoids_airbyte.command_line import (
    CONTEXT,
    as_connector,
    catalog_option,
    config_option,
    tell_check,
)

_EXAMPLES = """\b
Examples:
  destination-stairoids spec
  destination-stairoids check --config config.json
  source-x read --config source.json --catalog catalog.json |
    destination-stairoids write --config config.json --catalog catalog.json

\b
Exit codes: 0 all settled; 1 config, key, input or ledger at fault; 75 something is
left and the next sync resumes it; 128 + n stopped by signal n.
See what became of records with `stairoids-signals`.
"""


@click.group(epilog=_EXAMPLES, context_settings=CONTEXT)
@click.version_option(package_name="singer-stairoids")
def main() -> None:
    """Send an Airbyte source's records to Stairoids, each once."""


@main.command()
@as_connector
def spec() -> None:
    """Print the settings.

    \b
    Example:
      destination-stairoids spec
    """  # noqa: D301 - \b is click's mark for text that is not re-wrapped
    from stairoids_airbyte.destination_settings import spec as told
    from stairoids_airbyte.output import write as write_message

    write_message(told())


@main.command()
@config_option
@as_connector
def check(config: Path) -> None:
    """See whether config, ledger and key are right; sends nothing.

    \b
    Example:
      destination-stairoids check --config config.json
    """  # noqa: D301 - \b is click's mark for text that is not re-wrapped
    from stairoids_airbyte import destination
    from stairoids_airbyte.documents import read_config

    tell_check(lambda: destination.check(read_config(config)))


@main.command()
@config_option
@catalog_option
@as_connector
def write(config: Path, catalog: Path) -> None:
    """Send the records of the messages on stdin, each once.

    \b
    Example:
      source-x read --config source.json --catalog catalog.json |
        destination-stairoids write --config config.json --catalog catalog.json
    """  # noqa: D301 - \b is click's mark for text that is not re-wrapped
    from stairoids_airbyte.destination import write_records
    from stairoids_airbyte.documents import read_catalog, read_config

    write_records(read_config(config), read_catalog(catalog), sys.stdin)
