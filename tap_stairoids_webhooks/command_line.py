"""The command line: what the commands of `stairoids-webhooks` share."""

from __future__ import annotations

import logging
import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click

from tap_stairoids_webhooks.exceptions import WebhooksError
from tap_stairoids_webhooks.settings import DEFAULT_STORE_URL

if TYPE_CHECKING:
    from collections.abc import Iterator

store_url_option = click.option(
    "--store-url",
    default=DEFAULT_STORE_URL,
    show_default=True,
    envvar="STAIROIDS_WEBHOOKS_STORE_URL",
    show_envvar=True,
    help="Where events are stored.",
)


@contextmanager
def clear_errors() -> Iterator[None]:
    """Turn our own errors into one line and exit code 1."""
    try:
        yield
    except WebhooksError as error:
        raise click.ClickException(str(error)) from None


def log_to_stderr() -> None:
    """Log as a service does: one line a fact, in UTC."""
    handler = logging.StreamHandler(sys.stderr)
    formatter = logging.Formatter(
        "%(asctime)s.%(msecs)03dZ %(levelname)s %(message)s", "%Y-%m-%dT%H:%M:%S"
    )
    formatter.converter = time.gmtime
    handler.setFormatter(formatter)
    logging.basicConfig(level=logging.INFO, handlers=[handler])
    # A line for each port scanner is not a fact worth having; they are counted.
    logging.getLogger("uvicorn.error").setLevel(logging.ERROR)
