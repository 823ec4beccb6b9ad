"""Receive webhooks: the server, and the application for other servers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from tap_stairoids_webhooks.exceptions import WebhooksError

if TYPE_CHECKING:
    from tap_stairoids_webhooks.receiver.asgi import EmbeddedReceiver

_CANNOT_START = 3


def create_app() -> EmbeddedReceiver:
    """Return the receiver as an ASGI application, configured by the environment.

    A wrong variable, or a store that cannot be opened, ends the server with one
    sentence on stderr, and exit code 3. For uvicorn and gunicorn this code means that
    an application cannot start.
    """
    from stairoids_common.error_ids import with_id  # noqa: PLC0415 -- `--help` needs none of it
    from tap_stairoids_webhooks.environment import receiver_settings  # noqa: PLC0415 -- as above
    from tap_stairoids_webhooks.receiver.asgi import EmbeddedReceiver  # noqa: PLC0415 -- as above

    try:
        return EmbeddedReceiver(receiver_settings())
    except WebhooksError as error:
        click.echo(f"Error: {with_id(str(error))}", err=True)
        raise SystemExit(_CANNOT_START) from None  # a server would log a traceback
