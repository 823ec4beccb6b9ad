"""What the commands share: options, errors as one sentence, tables."""

from __future__ import annotations

import functools
import logging
import sys
from typing import TYPE_CHECKING, Any

import click

from target_stairoids.exceptions import StairoidsError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

CONFIG_HELP = "The target's config: a JSON file, or ENV for environment variables."


def config_option(*, required: bool = True) -> Callable[..., Any]:
    """Return the option `--config`, as the target itself has it."""
    return click.option(
        "--config",
        "config_inputs",
        multiple=True,
        required=required,
        metavar="FILE|ENV",
        help=CONFIG_HELP,
    )


style_option = click.option(
    "--format",
    "style",
    type=click.Choice(["table", "json"]),
    default="table",
    show_default=True,
    help="A table for people, or JSON.",
)


def one_sentence(command: Callable[..., None]) -> Callable[..., None]:
    """Let a foreseen error end a command with one sentence and its exit code."""

    @functools.wraps(command)
    def guarded(*args: Any, **options: Any) -> None:
        # What the target logs of its runs is no news to who asks for something else.
        for name in ("target-stairoids", "target_stairoids"):
            logging.getLogger(name).setLevel(logging.WARNING)
        try:
            command(*args, **options)
        except StairoidsError as error:
            click.echo(f"Error: {error}", err=True)
            sys.exit(error.exit_code)

    return guarded


def log_the_run() -> None:
    """Let a command that is a run say, as any other, what became of the records."""
    handler = logging.StreamHandler()
    handler.addFilter(lambda record: record.name != "singer_sdk.metrics")
    logging.basicConfig(format="%(message)s", handlers=[handler])
    logging.getLogger("target_stairoids").setLevel(logging.INFO)


def with_ledger(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the ledger that `--config` names, if there is one.

    The settings are click's object, for whoever wants them too.
    """

    @config_option()
    @functools.wraps(command)
    @one_sentence
    def opened(config_inputs: Sequence[str], **options: Any) -> None:
        from target_stairoids.ledger.ledger import Ledger
        from target_stairoids.target import settings_from

        settings = settings_from(config_inputs)
        click.get_current_context().obj = settings
        with Ledger.open(settings.ledger_url, settings.scope) as ledger:
            command(ledger, **options)

    return opened  # type: ignore[no-any-return]  # click's own types are loose


def print_table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Print rows in columns as wide as they need to be."""
    cells = [[str(cell) for cell in row] for row in (header, *rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    for row in cells:
        padded = (cell.ljust(w) for cell, w in zip(row, widths, strict=True))
        click.echo("  ".join(padded).rstrip())
