"""`destination-stairoids`, an Airbyte destination that sends records as signals."""

from __future__ import annotations

import sys
from typing import Any

import click

from stairoids_airbyte.command_line import (
    as_connector,
    catalog_option,
    config_option,
    needs_input,
    write_check,
)
from stairoids_airbyte.protocol import ConfiguredCatalog
from stairoids_common.cli import CONTEXT_SETTINGS, Program, version_option

_EXAMPLES = """\b
Examples:
  destination-stairoids spec
  destination-stairoids check --config config.json
  source-x read --config source.json --catalog catalog.json |
    destination-stairoids write --config config.json --catalog catalog.json

\b
Exit codes:
  0    all records have an outcome.
  1    the config, the key, the input or the ledger is wrong.
  75   signals are pending. The next sync resumes them.
  130  stopped by SIGINT.
  143  stopped by SIGTERM.

`stairoids-signals` lists the outcome of records.
"""


@click.group(cls=Program, epilog=_EXAMPLES, context_settings=CONTEXT_SETTINGS)
@version_option
def main() -> None:
    """Send an Airbyte source's records to Stairoids, each once."""


@main.command()
@as_connector
def spec() -> None:
    """Print the settings.

    \b
    Example:
      destination-stairoids spec
    """
    from stairoids_airbyte import destination_settings, output

    output.write(destination_settings.spec())


@main.command()
@config_option
@as_connector
def check(config: dict[str, Any]) -> None:
    """Check config, ledger and key. No signal is sent.

    \b
    Example:
      destination-stairoids check --config config.json
    """
    from stairoids_airbyte import destination

    write_check(lambda: destination.check(config))


@main.command()
@config_option
@catalog_option
@needs_input
@as_connector
def write(config: dict[str, Any], catalog: ConfiguredCatalog) -> None:
    """Send the records of the messages on stdin, each once.

    \b
    Example:
      source-x read --config source.json --catalog catalog.json |
        destination-stairoids write --config config.json --catalog catalog.json
    """
    from stairoids_airbyte.destination import write_records

    write_records(config, catalog, sys.stdin)
