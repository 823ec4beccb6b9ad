"""Additions to the command line that the Singer SDK gives a plugin."""

from __future__ import annotations

import logging
import os
from traceback import extract_tb

from typing_extensions import override

from stairoids_common.environment import variable, warn_of_shared_variables
from stairoids_common.error_ids import fail, with_id
from stairoids_common.text import as_message, write_utf8


def check_log_level(name: str) -> None:
    """End the program if a variable names no log level; the SDK would not say which."""
    for variable_name in (f"{name.upper().replace('-', '_')}_LOGLEVEL", "LOGLEVEL"):
        level = (variable(variable_name) or "").upper()
        if level and level not in logging.getLevelNamesMapping():
            fail(f"`{variable_name}` must be DEBUG, INFO, WARNING or ERROR.")
        if level:
            os.environ[variable_name] = level
        else:
            os.environ.pop(variable_name, None)


def misfit(stream: str, error: BaseException) -> str:
    """Return the sentence about a record that cannot be flattened; empty if it can."""
    steps = {step.name for step in extract_tb(error.__traceback__)}
    if "flatten_record" not in steps:
        return ""
    return (
        f"A record of stream `{stream}` does not fit the flattening of its SCHEMA "
        f"({type(error).__name__})."
    )


def failed_expression(stream: str, error: BaseException) -> str:
    """Return the sentence about a stream map that fails, without values."""
    cause = error.__cause__ or error
    expression = getattr(cause, "expression", "")
    where = f" in `{expression}`" if expression else ""
    return (
        f"Stream `{stream}`: an expression of its `stream_maps` fails "
        f"for a record ({type(cause).__name__}{where}). Guard it, as in "
        "`email.lower() if email else None`. A name must be a column."
    )


class _Record(logging.LogRecord):
    @override
    def getMessage(self) -> str:
        text = super().getMessage()
        is_minor = self.levelno < logging.WARNING
        return as_message(text) if is_minor else with_id(text)


def log_safely() -> None:
    """Let no name of a tap look like a log line, and end each warning with its id."""
    logging.setLogRecordFactory(_Record)


def begin(name: str) -> None:
    """Write UTF-8, warn of misspelt variables, and log the SDK only at DEBUG."""
    write_utf8()
    log_safely()
    warn_of_shared_variables()
    root = logging.getLogger()
    if root.isEnabledFor(logging.DEBUG):
        return

    def is_ours(record: logging.LogRecord) -> bool:
        if str(record.msg).startswith("An unhandled error occurred while syncing"):
            return False
        is_of_sdk = record.name.startswith(("singer_sdk", name))
        return record.levelno >= logging.WARNING or not is_of_sdk

    for handler in root.handlers:
        handler.addFilter(is_ours)
