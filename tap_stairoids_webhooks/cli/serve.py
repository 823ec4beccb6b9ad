"""The command `stairoids-webhooks serve`."""

from __future__ import annotations

import json
import logging
import os
from contextlib import closing
from typing import TYPE_CHECKING, Any

import click

from stairoids_common.cli import discard_stdout
from tap_stairoids_webhooks import environment
from tap_stairoids_webhooks.cli.forward import forwarding
from tap_stairoids_webhooks.cli.options import receiver_options
from tap_stairoids_webhooks.environment import ReceiverSettings
from tap_stairoids_webhooks.log_lines import LogLine, log_to_stderr
from tap_stairoids_webhooks.posix_signals import handled_by

if TYPE_CHECKING:
    from tap_stairoids_webhooks.receiver.server import Receiver

logger = logging.getLogger(__name__)


@click.command()
@receiver_options()
def serve(**values: Any) -> None:
    """Receive deliveries: verify and store each one, then respond 200.

    The secret is read from STAIROIDS_WEBHOOK_SECRET or, during a rotation, from
    STAIROIDS_WEBHOOK_SECRETS (a JSON array). When the receiver listens, it prints one
    JSON line on stdout. SIGTERM finishes the requests that have begun and exits 0.

    --forward delivers the events to a URL as well, like `stairoids-webhooks forward`.
    Of several receivers with one store, one forwards.

    --admin-port needs a token in STAIROIDS_WEBHOOKS_ADMIN_TOKEN. Open that port in a
    browser, and enter the token as the password.

    \b
    Example:
      STAIROIDS_WEBHOOK_SECRETS='["new", "old"]' stairoids-webhooks serve --port 8880
    """
    # Before the receiver listens, and while forwarders end after it.
    with handled_by(lambda *_: os._exit(0)):
        _serve(ReceiverSettings(**values))


def _serve(settings: ReceiverSettings) -> None:
    log_to_stderr(level=settings.log_level, shape=settings.log_format)
    secrets = environment.secrets()
    from tap_stairoids_webhooks.receiver.server import Receiver

    receiver = Receiver(settings, secrets=secrets)
    with closing(receiver), forwarding(settings, lambda: receiver.is_stopping):
        receiver.run(on_ready=lambda: _print_ready(receiver))


def _print_ready(receiver: Receiver) -> None:
    logger.info(LogLine("listening", url=receiver.url, store=receiver.store.place))
    ready = {"event": "ready", "url": receiver.url}
    if receiver.admin_url is not None:
        ready["admin_url"] = receiver.admin_url
    try:
        click.echo(json.dumps(ready))
    except OSError as error:  # deliveries do not need it
        discard_stdout()
        line = "the ready line could not be written to stdout"
        logger.warning(LogLine(line, reason=error.strerror))
