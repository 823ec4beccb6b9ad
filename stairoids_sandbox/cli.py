"""The command ``stairoids-sandbox``."""

from __future__ import annotations

import json
import logging
import signal
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import click

from stairoids_sandbox.api.quota import PLANS
from stairoids_sandbox.exceptions import ApiError, SandboxError, UsageError
from stairoids_sandbox.faults.fault_option import fault_from
from stairoids_sandbox.state.keys import DEFAULT_KEY, SCOPES

if TYPE_CHECKING:
    from collections.abc import Iterable

    from stairoids_sandbox.server import Sandbox

logger = logging.getLogger(__name__)

_FAULT_HELP = """A fault: KIND[,OPTION=VALUE]... with KIND drop_after_accept,
truncate_after_accept, status_after_accept, status, reset or slow, and OPTION
probability, count, on (send, read, all), status, retry_after, delay_ms, seed.
Repeatable."""


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="singer-stairoids")
def main() -> None:
    """Run a local Stairoids: the documented API and its webhooks.

    \b
    Start one, send it a signal, see what it took:
      stairoids-sandbox serve --port 8900 --plan starter --key sk_demo:read_write
      curl -H 'Authorization: Bearer sk_demo' -H 'Content-Type: application/json' \\
        -d '{"type":"demo_requested","source":"web","account":{"domain":"acme.com"}}' \\
        http://127.0.0.1:8900/v1/signals
      curl http://127.0.0.1:8900/_sandbox/signals
    """  # noqa: D301 -- \b is click's mark for "keep these lines as they are"


@main.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="Listen here.")
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=8900,
    show_default=True,
    help="Listen here; 0 picks a free port.",
)
@click.option(
    "--plan",
    type=click.Choice(list(PLANS)),
    default="unlimited",
    show_default=True,
    help="Whose quota applies, to each key on its own.",
)
@click.option(
    "--key",
    "keys",
    multiple=True,
    metavar="KEY:SCOPE",
    help=f"An API key and its scope ({', '.join(SCOPES)}). Repeatable."
    f" Without any: {DEFAULT_KEY}:read_write.",
)
@click.option(
    "--automation",
    "automations",
    multiple=True,
    metavar="TYPE=URL",
    help="Call URL for each signal of TYPE, * for any. Repeatable.",
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
    envvar="STAIROIDS_WEBHOOK_SECRET",
    show_envvar=True,
    help="Signs what --automation and --webhook send; unsigned without it.",
)
@click.option(
    "--db",
    type=click.Path(dir_okay=False, path_type=Path),
    help="SQLite file: signals survive a restart and kill -9. Default: memory.",
)
@click.option("--fault", "faults", multiple=True, metavar="FAULT", help=_FAULT_HELP)
@click.option(
    "--success-shape",
    type=click.Choice(["flat", "nested", "enveloped"]),
    default="flat",
    show_default=True,
    help="Which of the three documented 201 bodies to answer.",
)
@click.option(
    "--excluded-domain",
    "excluded_domains",
    multiple=True,
    metavar="DOMAIN",
    help="Refuse signals of this domain with 422 domain_excluded. Repeatable.",
)
def serve(  # noqa: PLR0913 -- click hands over one argument per option
    *,
    host: str,
    port: int,
    plan: str,
    keys: tuple[str, ...],
    automations: tuple[str, ...],
    webhooks: tuple[str, ...],
    webhook_secret: str | None,
    db: Path | None,
    faults: tuple[str, ...],
    success_shape: str,
    excluded_domains: tuple[str, ...],
) -> None:
    """Serve until SIGINT or SIGTERM.

    Once it answers, it prints one line of JSON with its URL, so that a script
    can wait for it. Logs go to stderr.

    \b
    Every signal calls a local receiver, and a tenth of the answers get lost:
      STAIROIDS_WEBHOOK_SECRET=whsec_demo stairoids-sandbox serve --port 8900 \\
        --automation '*=http://127.0.0.1:8880/webhooks/stairoids' \\
        --fault drop_after_accept,probability=0.1,seed=7
    """  # noqa: D301 -- \b is click's mark for "keep these lines as they are"
    from stairoids_sandbox.server import Sandbox  # noqa: PLC0415 -- slow to import

    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s")
    for library in ("httpx", "uvicorn"):  # a line per delivery, and start and end again
        logging.getLogger(library).setLevel(logging.WARNING)
    try:
        sandbox = Sandbox(
            host=host,
            port=port,
            plan=plan,
            keys=dict(_pairs(keys, ":", "--key", "KEY:SCOPE")),
            db=db,
            faults=[fault_from(text) for text in faults],
            success_shape=success_shape,
            excluded_domains=excluded_domains,
        )
        for type_, url in _pairs(automations, "=", "--automation", "TYPE=URL"):
            sandbox.automations.add(type=type_, url=url, secret=webhook_secret)
        for event, url in _pairs(webhooks, "=", "--webhook", "EVENT=URL"):
            sandbox.webhooks.add(url=url, events=(event,), secret=webhook_secret)
        _run(sandbox)
    except (UsageError, ApiError) as error:
        raise click.UsageError(str(error)) from error
    except SandboxError as error:
        raise click.ClickException(str(error)) from error


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
    """Split ``KEY:SCOPE`` at the first separator; a scope may hold a colon."""
    pairs = []
    for text in texts:
        left, found, right = text.partition(separator)
        if not (left and found and right):
            msg = f"{option} must look like {shape}"
            raise UsageError(msg)
        pairs.append((left, right))
    return pairs
