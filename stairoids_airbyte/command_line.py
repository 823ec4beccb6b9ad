"""The command line: what the connectors' commands share."""

from __future__ import annotations

import functools
import logging
import sys
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from stairoids_airbyte.exceptions import ConnectorError
from stairoids_airbyte.output import log_as_messages, write
from stairoids_airbyte.protocol import ConnectionStatus, Failure, Message, failed

if TYPE_CHECKING:
    from collections.abc import Callable

logger = logging.getLogger(__name__)

CONTEXT = {"help_option_names": ["-h", "--help"]}


def _file_option(name: str, text: str, *, required: bool) -> Callable[..., Any]:
    return click.option(
        name,
        type=click.Path(path_type=Path),
        required=required,
        metavar="FILE",
        help=text,
    )


config_option = _file_option("--config", "The settings, as JSON.", required=True)
catalog_option = _file_option(
    "--catalog",
    "The configured catalog: which streams to sync, and how.",
    required=True,
)
state_option = _file_option(
    "--state", "The states of the last sync, as JSON.", required=False
)


def as_connector(command: Callable[..., None]) -> Callable[..., None]:
    """Let a command log, and fail, in messages."""

    @functools.wraps(command)
    def guarded(**options: Any) -> None:
        log_as_messages()
        try:
            command(**options)
        except ConnectorError as error:
            _fail(Failure(message=str(error), failure_type=error.failure_type))
            sys.exit(error.exit_code)
        except Exception as error:  # noqa: BLE001 - the platform must hear of it
            # Without the error's own text: it may hold what was being worked on.
            name = type(error).__name__
            _fail(
                Failure(
                    message=f"Something went wrong that should not ({name}); please "
                    "report this bug.",
                    failure_type="system_error",
                    internal_message=name,
                    stack_trace="".join(traceback.format_tb(error.__traceback__)),
                )
            )
            sys.exit(1)

    return guarded


def _fail(failure: Failure) -> None:
    logger.error("%s", failure.message)
    write(failed(failure))


def tell_check(check: Callable[[], str]) -> None:
    """Write how a check ends: that it fails is an response, and no failure."""
    try:
        status = ConnectionStatus(status="SUCCEEDED", message=check())
    except ConnectorError as error:
        status = ConnectionStatus(status="FAILED", message=str(error))
    write(Message(type="CONNECTION_STATUS", connection_status=status))
