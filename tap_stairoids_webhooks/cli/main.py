"""The command `stairoids-webhooks`.

Each subcommand imports the modules that it needs when it runs, so that `--help` is
quick.
"""

from __future__ import annotations

import click

from stairoids_common.cli import CONTEXT_SETTINGS, Program, version_option
from tap_stairoids_webhooks.cli import endpoints, store
from tap_stairoids_webhooks.cli.forward import forward
from tap_stairoids_webhooks.cli.serve import serve
from tap_stairoids_webhooks.exceptions import WebhooksError


class _Webhooks(Program):
    expected_errors = (WebhooksError,)


@click.group(cls=_Webhooks, context_settings=CONTEXT_SETTINGS)
@version_option
def main() -> None:
    """Receive the webhooks of Stairoids, and manage the received events.

    \b
    Examples:
      export STAIROIDS_WEBHOOK_SECRET=...
      stairoids-webhooks serve
      stairoids-webhooks send-test http://127.0.0.1:8880/webhooks/stairoids
      stairoids-webhooks stats
      stairoids-webhooks forward http://localhost:3000/webhook
      tap-stairoids-webhooks --config tap.json | target-jsonl

    \b
    Exit codes:
      0  done.
      1  not done, or only in part. A message explains it.
      2  the command line is wrong.
    """


for command in (serve, forward, *store.COMMANDS, *endpoints.COMMANDS):
    main.add_command(command)
