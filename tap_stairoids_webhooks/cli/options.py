"""The command line: what the commands of `stairoids-webhooks` share."""

from __future__ import annotations

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
    help="Where events are stored: sqlite:///PATH or postgresql://HOST/DATABASE.",
)


@contextmanager
def clear_errors() -> Iterator[None]:
    """Turn our own errors into one line and exit code 1."""
    try:
        yield
    except WebhooksError as error:
        raise click.ClickException(str(error)) from None
