"""The programs of the project as click commands, and a parser for command lines."""

from __future__ import annotations

import click

from stairoids_airbyte.destination_command import main as destination_command
from stairoids_airbyte.source_command import main as source_command
from stairoids_sandbox.cli import main as sandbox_command
from tap_stairoids_webhooks.cli.main import main as webhooks_command
from tap_stairoids_webhooks.tap import TapStairoidsWebhooks
from target_stairoids.cli.main import main as signals_command
from target_stairoids.sync_log.tap import TapStairoidsSignals
from target_stairoids.target import TargetStairoids

COMMANDS: dict[str, click.Command] = {
    "target-stairoids": TargetStairoids.get_singer_command(),
    "tap-stairoids-webhooks": TapStairoidsWebhooks.get_singer_command(),
    "tap-stairoids-signals": TapStairoidsSignals.get_singer_command(),
    "stairoids-signals": signals_command,
    "stairoids-webhooks": webhooks_command,
    "stairoids-sandbox": sandbox_command,
    "destination-stairoids": destination_command,
    "source-stairoids-webhooks": source_command,
}


def error_in(words: list[str]) -> str | None:
    """Return the error in a command line, which is parsed and not run."""
    name, *arguments = words
    command = COMMANDS.get(name)
    if command is None:
        return f"there is no command {name}"
    context = command.make_context(name, [], resilient_parsing=True)
    while isinstance(command, click.Group) and arguments:
        subcommand = command.get_command(context, arguments[0])
        if subcommand is None:
            return f"there is no command {name} {arguments[0]}"
        command, arguments = subcommand, arguments[1:]
    try:
        _, left, _ = command.make_parser(context).parse_args(list(arguments))
    except click.UsageError as error:
        return error.format_message()
    takes = any(isinstance(parameter, click.Argument) for parameter in command.params)
    return f"unexpected: {left}" if left and not takes else None
