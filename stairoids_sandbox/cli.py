"""The command ``stairoids-sandbox``."""

from __future__ import annotations

import json
import logging
import signal
import threading
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from stairoids_common.cli import (
    CONTEXT_SETTINGS,
    EnvironmentOption,
    Program,
    version_option,
)
from stairoids_common.error_ids import WrongUsageError
from stairoids_sandbox.exceptions import ApiError, SandboxError, UsageError
from stairoids_sandbox.faults.faults import KINDS, fault_from
from stairoids_sandbox.state.keys import DEFAULT_KEY, SCOPES
from stairoids_sandbox.state.quota import PLANS

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from stairoids_sandbox import Sandbox

logger = logging.getLogger(__name__)

_FAULT_HELP = f"""A fault: KIND[,OPTION=VALUE]... KIND is one of {", ".join(KINDS)}.
OPTION is probability, count, on (send, read, all), status, retry_after, delay_ms,
containing (a text of the body) or seed. Repeatable."""


class _SandboxProgram(Program):
    expected_errors = (SandboxError,)


@click.group(cls=_SandboxProgram, context_settings=CONTEXT_SETTINGS)
@version_option
def main() -> None:
    """Run a local Stairoids: the documented API and its webhooks.

    \b
    Start it, send a signal and list the accepted signals:
      stairoids-sandbox serve --port 8900 --plan starter --key sk_demo:read_write
      curl -H 'Authorization: Bearer sk_demo' -H 'Content-Type: application/json' \\
        -d '{"type":"demo_requested","source":"web","account":{"domain":"acme.com"}}' \\
        http://127.0.0.1:8900/v1/signals
      curl http://127.0.0.1:8900/_sandbox/signals
    """  # noqa: D301 -- \b keeps the line breaks for click


@contextmanager
def _usage_errors() -> Iterator[None]:
    """End with exit code 2 after an argument that does not fit."""
    try:
        yield
    except (UsageError, ApiError) as error:
        raise WrongUsageError(str(error)) from error


@main.command()
@click.option(
    "--host", default="127.0.0.1", show_default=True, help="The address to listen on."
)
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=8900,
    show_default=True,
    help="The port to listen on. 0 picks a free one.",
)
@click.option(
    "--plan",
    type=click.Choice(list(PLANS)),
    default="unlimited",
    show_default=True,
    help="The plan whose quota applies to each key.",
)
@click.option(
    "--key",
    "keys",
    multiple=True,
    metavar="KEY:SCOPE",
    help=f"An API key and its scope ({', '.join(SCOPES)}). Repeatable."
    f" Default: {DEFAULT_KEY}:read_write.",
)
@click.option(
    "--workspace",
    "workspaces",
    multiple=True,
    metavar="KEY=WORKSPACE",
    help="The workspace of an API key. Repeatable. Default: one for all keys.",
)
@click.option(
    "--automation",
    "automations",
    multiple=True,
    metavar="TYPE=URL",
    help="Call URL for each signal of TYPE, or * for all. Repeatable.",
)
@click.option(
    "--webhook",
    "webhooks",
    multiple=True,
    metavar="EVENT=URL",
    help="Subscribe URL to an event such as signal.created. Repeatable.",
)
@click.option(
    "--webhook-secret",
    cls=EnvironmentOption,
    envvar="STAIROIDS_WEBHOOK_SECRET",
    show_envvar=True,
    help="Signs the webhooks of --automation and --webhook. Default: unsigned.",
)
@click.option(
    "--db",
    type=click.Path(dir_okay=False, path_type=Path),
    help="SQLite file in which signals survive a restart. Default: memory.",
)
@click.option("--fault", "faults", multiple=True, metavar="FAULT", help=_FAULT_HELP)
@click.option(
    "--success-shape",
    type=click.Choice(["flat", "nested", "enveloped"]),
    default="flat",
    show_default=True,
    help="The documented 201 body to respond with.",
)
@click.option(
    "--excluded-domain",
    "excluded_domains",
    multiple=True,
    metavar="DOMAIN",
    help="Refuse signals of this domain with 422 domain_excluded. Repeatable.",
)
@click.option(
    "--clock-offset-seconds",
    type=float,
    default=0.0,
    help="How far the clock of Stairoids is ahead. Negative if it is behind.",
)
@click.option(
    "--list-lag-seconds",
    type=click.FloatRange(0),
    default=0.0,
    help="Lists of signals leave out signals that are younger.",
)
@click.option(
    "--filters-exactly",
    is_flag=True,
    help="Filters of a list keep upper case. Signals are stored in lower case.",
)
@click.option(
    "--accepts-names",
    is_flag=True,
    help="Accept signals with an account.name and neither a domain nor an email.",
)
@_usage_errors()
def serve(
    *,
    keys: tuple[str, ...],
    workspaces: tuple[str, ...],
    automations: tuple[str, ...],
    webhooks: tuple[str, ...],
    webhook_secret: str | None,
    faults: tuple[str, ...],
    **options: Any,
) -> None:
    """Serve until SIGINT or SIGTERM.

    When it is ready, it prints one line of JSON with its URL, so that a script
    can wait for it. Logs go to stderr.

    \b
    Call a local receiver for every signal, and lose a tenth of the responses:
      STAIROIDS_WEBHOOK_SECRET=whsec_demo stairoids-sandbox serve --port 8900 \\
        --automation '*=http://127.0.0.1:8880/webhooks/stairoids' \\
        --fault drop_after_accept,probability=0.1,seed=7
    """  # noqa: D301 -- \b keeps the line breaks for click
    from stairoids_sandbox import Sandbox  # noqa: PLC0415 -- slow to import

    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s")
    for library in ("httpx", "uvicorn"):  # they repeat our lines, or log each delivery
        logging.getLogger(library).setLevel(logging.WARNING)
    sandbox = Sandbox(
        keys=dict(_pairs(keys, ":", "--key", "KEY:SCOPE")),
        workspaces=dict(_pairs(workspaces, "=", "--workspace", "KEY=WORKSPACE")),
        faults=map(fault_from, faults),
        **options,
    )
    for type_, url in _pairs(automations, "=", "--automation", "TYPE=URL"):
        sandbox.automations.add(type=type_, url=url, secret=webhook_secret)
    for event, url in _pairs(webhooks, "=", "--webhook", "EVENT=URL"):
        sandbox.webhooks.add(url=url, events=(event,), secret=webhook_secret)
    _run(sandbox)


def _run(sandbox: Sandbox) -> None:
    stopped = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stopped.set())
    with sandbox:
        click.echo(json.dumps({"event": "ready", "url": sandbox.url}))
        logger.info("sandbox listens on %s", sandbox.origin)
        stopped.wait()
    logger.info(
        "sandbox ended: requests=%d signals=%d deliveries=%d",
        len(sandbox.requests),
        len(sandbox.signals),
        len(sandbox.deliveries),
    )


def _pairs(
    texts: Iterable[str], separator: str, option: str, shape: str
) -> list[tuple[str, str]]:
    """Split each text at its first separator, such as ``KEY:SCOPE``."""
    pairs = []
    for text in texts:
        left, found, right = text.partition(separator)
        if not (left and found and right):
            raise UsageError(f"{option} must look like {shape}")
        pairs.append((left, right))
    return pairs
