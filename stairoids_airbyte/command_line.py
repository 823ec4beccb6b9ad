"""Options, input files and errors of the connectors' commands."""

from __future__ import annotations

import functools
import logging
import signal
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import msgspec

from stairoids_airbyte.exceptions import ConnectorError, WrongConfigError
from stairoids_airbyte.output import log_as_messages, write
from stairoids_airbyte.protocol import ConfiguredCatalog, Json, trace_message
from stairoids_common.config_errors import json_of, json_problem
from stairoids_common.error_ids import WrongUsageError, with_id

logger = logging.getLogger(__name__)

_TYPES = {"config": dict[str, Any], "catalog": ConfiguredCatalog}


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


def needs_input(command: Callable[..., None]) -> Callable[..., None]:
    """Refuse to wait for messages on a terminal."""

    @functools.wraps(command)
    def asking(**options: object) -> None:
        if sys.stdin.isatty():
            raise WrongUsageError(
                "There are no messages. Pipe the output of a source into this command."
            )
        command(**options)

    return asking


def as_connector(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the contents of its files, and log in messages."""

    @functools.wraps(command)
    def guarded(**paths: Path | None) -> None:
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # click would exit 1, not 130
        log_as_messages()
        try:
            command(**{name: _read(name, path) for name, path in paths.items()})
        except ConnectorError as error:
            _fail(str(error), error.failure_type)
            sys.exit(error.exit_code)
        except Exception as error:  # noqa: BLE001 - the platform must get a message
            # The error's own text may hold values of a record.
            name = type(error).__name__
            _fail(
                f"This is a bug ({name}). Please report it.",
                "system_error",
                internal_message=name,
                stack_trace="".join(traceback.format_tb(error.__traceback__)),
            )
            sys.exit(1)

    return guarded


def _fail(message: str, failure_type: str, **details: str) -> None:
    logger.error("%s", message)
    failure = {"message": with_id(message), "failure_type": failure_type, **details}
    write(trace_message("ERROR", error=failure))


def write_check(check: Callable[[], str]) -> None:
    """Write the result of a check. A failed check is a result and no error."""
    try:
        status = {"status": "SUCCEEDED", "message": check()}
    except ConnectorError as error:
        status = {"status": "FAILED", "message": with_id(str(error))}
    write({"type": "CONNECTION_STATUS", "connectionStatus": status})


def _read(name: str, path: Path | None) -> Json:
    """Return the JSON in the file of an option; None if it was not given."""
    if path is None:
        return None
    try:
        # PyAirbyte writes `global_` twice into a state.
        found = json_of(path.read_bytes(), is_by_hand=name == "config")
        return msgspec.convert(found, _TYPES.get(name, object))
    except OSError as error:
        msg = f"The {name} cannot be read: {error.strerror}."
        raise WrongConfigError(msg) from error
    except msgspec.ValidationError as error:  # names a place and types, no values
        msg = f"The {name} has another form than Airbyte writes: {error}."
        raise WrongConfigError(msg) from None
    except ValueError as error:
        raise WrongConfigError(f"The {name}{json_problem(error)}.") from None
