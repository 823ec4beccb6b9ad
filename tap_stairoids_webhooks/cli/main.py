"""The operator's hand on the webhooks: `stairoids-webhooks`.

Each command imports what it needs when it runs, so that `--help` is quick.
"""

from __future__ import annotations

import json
import logging
import os
import sys
from typing import TYPE_CHECKING

import click

from tap_stairoids_webhooks.cli import endpoints as endpoint_commands
from tap_stairoids_webhooks.cli import store as store_commands
from tap_stairoids_webhooks.cli.options import clear_errors, store_url_option
from tap_stairoids_webhooks.receiver.log_lines import (
    FORMATS,
    LEVELS,
    Fact,
    log_to_stderr,
)
from tap_stairoids_webhooks.settings import (
    DEFAULT_MAX_BODY_BYTES,
    DEFAULT_MIN_FREE_BYTES,
    DEFAULT_PATH,
    admin_token_from,
    secrets_from,
)

if TYPE_CHECKING:
    from tap_stairoids_webhooks.receiver.server import Receiver

logger = logging.getLogger(__name__)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="singer-stairoids", prog_name="stairoids-webhooks")
def main() -> None:
    """Receive the webhooks of Stairoids, and look after what was received.

    \b
    Examples:
      export STAIROIDS_WEBHOOK_SECRET=...
      stairoids-webhooks serve
      stairoids-webhooks send-test http://127.0.0.1:8880/webhooks/stairoids
      stairoids-webhooks stats
      tap-stairoids-webhooks --config tap.json | target-jsonl

    \b
    Exit codes: 0 done; 1 it cannot be done, or not for all, and a sentence says why;
    2 the command line is wrong.
    """  # noqa: D301 -- \b is click's mark for text that is not re-wrapped


@main.command()
@click.option(
    "--host",
    default="127.0.0.1",
    show_default=True,
    envvar="STAIROIDS_WEBHOOKS_HOST",
    show_envvar=True,
    help="Address to listen on.",
)
@click.option(
    "--port",
    default=8880,
    show_default=True,
    type=click.IntRange(0, 65535),
    envvar="STAIROIDS_WEBHOOKS_PORT",
    show_envvar=True,
    help="Port to listen on; 0 takes a free one.",
)
@click.option(
    "--path",
    default=DEFAULT_PATH,
    show_default=True,
    envvar="STAIROIDS_WEBHOOKS_PATH",
    show_envvar=True,
    help="Path of the webhook; /webhook/stairoids is always one too.",
)
@click.option(
    "--max-body",
    default=DEFAULT_MAX_BODY_BYTES,
    show_default=True,
    type=click.IntRange(1),
    envvar="STAIROIDS_WEBHOOKS_MAX_BODY",
    show_envvar=True,
    help="Largest body taken, in bytes.",
)
@click.option(
    "--min-free",
    default=DEFAULT_MIN_FREE_BYTES,
    show_default=True,
    type=click.IntRange(0),
    envvar="STAIROIDS_WEBHOOKS_MIN_FREE",
    show_envvar=True,
    help="With fewer bytes free on the disk of the store, answer 503.",
)
@click.option(
    "--admin-port",
    type=click.IntRange(0, 65535),
    envvar="STAIROIDS_WEBHOOKS_ADMIN_PORT",
    show_envvar=True,
    help="Port on 127.0.0.1 of a page, /readyz and /metrics.  [default: none]",
)
@click.option(
    "--log-level",
    default="info",
    show_default=True,
    type=click.Choice(LEVELS, case_sensitive=False),
    envvar="STAIROIDS_WEBHOOKS_LOG_LEVEL",
    show_envvar=True,
    help="Leave out what is less than this on stderr.",
)
@click.option(
    "--log-format",
    default="text",
    show_default=True,
    type=click.Choice(FORMATS, case_sensitive=False),
    envvar="STAIROIDS_WEBHOOKS_LOG_FORMAT",
    show_envvar=True,
    help="Lines for people, or one JSON object each.",
)
@store_url_option
def serve(  # noqa: PLR0913 -- click hands over one argument per option
    *,
    host: str,
    port: int,
    path: str,
    max_body: int,
    min_free: int,
    admin_port: int | None,
    log_level: str,
    log_format: str,
    store_url: str,
) -> None:
    """Receive deliveries: verify, store, and only then answer 200.

    The secret is read from STAIROIDS_WEBHOOK_SECRET or, while it is being
    rotated, from STAIROIDS_WEBHOOK_SECRETS (a JSON array). Once it listens, one
    JSON line on stdout says so; SIGTERM finishes what was begun and exits 0.
    --admin-port wants the token STAIROIDS_WEBHOOKS_ADMIN_TOKEN, and callers with it;
    open that port in a browser to see what comes in.

    \b
    Example:
      STAIROIDS_WEBHOOK_SECRETS='["new", "old"]' stairoids-webhooks serve --port 8880
    """  # noqa: D301 -- \b is click's mark for text that is not re-wrapped
    with clear_errors():
        log_to_stderr(level=log_level, shape=log_format)
        secrets = secrets_from(os.environ)
        from tap_stairoids_webhooks.receiver.server import Admin, Receiver  # noqa: PLC0415 -- slow to import

        token = None if admin_port is None else admin_token_from(os.environ)
        receiver = Receiver(
            store_url=store_url,
            secrets=secrets,
            host=host,
            port=port,
            path=path,
            max_body_bytes=max_body,
            min_free_bytes=min_free,
            admin=None if token is None else Admin(port=admin_port or 0, token=token),
        )
        receiver.run(on_ready=lambda: _say_ready(receiver))


def _say_ready(receiver: Receiver) -> None:
    logger.info(Fact("listening", url=receiver.url, store=receiver.store.place))
    ready = {"event": "ready", "url": receiver.url}
    if receiver.admin_url is not None:
        ready["admin_url"] = receiver.admin_url
    click.echo(json.dumps(ready))
    sys.stdout.flush()


for command in (*store_commands.COMMANDS, *endpoint_commands.COMMANDS):
    main.add_command(command)
