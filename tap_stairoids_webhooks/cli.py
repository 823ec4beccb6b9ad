"""The operator's hand on the webhooks: `stairoids-webhooks`.

Each command imports what it needs when it runs, so that `--help` is quick.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import time
import uuid
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click

from tap_stairoids_webhooks.exceptions import ConfigError, WebhooksError
from tap_stairoids_webhooks.settings import (
    DEFAULT_API_URL,
    DEFAULT_MAX_BODY_BYTES,
    DEFAULT_PATH,
    DEFAULT_STORE_URL,
    EVENT_TYPES,
    SECRET_VARIABLE,
    secrets_from,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tap_stairoids_webhooks.endpoints import Endpoints
    from tap_stairoids_webhooks.rows import Stats

_API_KEY_VARIABLE = "STAIROIDS_API_KEY"

store_url_option = click.option(
    "--store-url",
    default=DEFAULT_STORE_URL,
    show_default=True,
    envvar="STAIROIDS_WEBHOOKS_STORE_URL",
    show_envvar=True,
    help="Where events are stored.",
)
api_url_option = click.option(
    "--api-url",
    default=DEFAULT_API_URL,
    show_default=True,
    envvar="STAIROIDS_API_URL",
    show_envvar=True,
    help="Base URL of the Stairoids API.",
)


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
@store_url_option
def serve(*, host: str, port: int, path: str, max_body: int, store_url: str) -> None:
    """Receive deliveries: verify, store, and only then answer 200.

    The secret is read from STAIROIDS_WEBHOOK_SECRET or, while it is being
    rotated, from STAIROIDS_WEBHOOK_SECRETS (a JSON array). Once it listens, one
    JSON line on stdout says so; SIGTERM finishes what was begun and exits 0.

    \b
    Example:
      STAIROIDS_WEBHOOK_SECRETS='["new", "old"]' stairoids-webhooks serve --port 8880
    """  # noqa: D301 -- \b is click's mark for text that is not re-wrapped
    with _clear_errors():
        secrets = secrets_from(os.environ)
        from tap_stairoids_webhooks.serve import Receiver  # noqa: PLC0415 -- slow to import

        _log_to_stderr()
        receiver = Receiver(
            store_url=store_url,
            secrets=secrets,
            host=host,
            port=port,
            path=path,
            max_body_bytes=max_body,
        )
        receiver.run(on_ready=lambda: _say_ready(receiver.url, receiver.store.place))


def _say_ready(url: str, place: str) -> None:
    logging.getLogger(__name__).info("listening: url=%s store=%s", url, place)
    click.echo(json.dumps({"event": "ready", "url": url}))
    sys.stdout.flush()


@main.command()
@store_url_option
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def stats(*, store_url: str, as_json: bool) -> None:
    """Count what the store holds, by event type."""
    with _clear_errors():
        from tap_stairoids_webhooks.store import EventStore  # noqa: PLC0415 -- slow to import

        with EventStore.open_to_read(store_url) as store:
            found = store.stats()
    click.echo(json.dumps(_as_json(found)) if as_json else _as_table(found))


def _as_json(found: Stats) -> dict[str, Any]:
    return {
        "total": found.total,
        "events": {name or "(none)": number for name, number in found.events.items()},
        "malformed": found.malformed,
        "conflicts": found.conflicts,
        "keys": found.keys,
        "last_sequence": found.last_sequence,
        "last_received_at": found.last_received_at,
    }


def _as_table(found: Stats) -> str:
    rows = [
        (name or "(no type)", n) for name, n in sorted(found.events.items(), key=str)
    ]
    rows += [("total", found.total), ("malformed", found.malformed)]
    rows += [("conflicts", found.conflicts)]
    rows += [(f"signed with {key_id}", n) for key_id, n in found.keys.items()]
    lines = [f"{name:<32}{number:>10}" for name, number in rows]
    return "\n".join([*lines, f"last delivery: {found.last_received_at or 'none yet'}"])


@main.command()
@click.argument("url")
@click.option(
    "--event",
    "events",
    multiple=True,
    type=click.Choice(EVENT_TYPES),
    help="Event type; again for more. Default: all.",
)
@api_url_option
def register(*, url: str, events: tuple[str, ...], api_url: str) -> None:
    """Have Stairoids send its events to URL, signed with the first secret.

    \b
    Example:
      STAIROIDS_API_KEY=... STAIROIDS_WEBHOOK_SECRET=... \\
        stairoids-webhooks register https://hooks.example.com/webhooks/stairoids
    """  # noqa: D301 -- \b is click's mark for text that is not re-wrapped
    with _clear_errors():
        secret = secrets_from(os.environ)[0]
        made = _endpoints(api_url).register(
            url, events=events or EVENT_TYPES, secret=secret
        )
    made.pop("secret", None)
    click.echo(json.dumps(made))


@main.command("list")
@api_url_option
def list_endpoints(*, api_url: str) -> None:
    """List the endpoints Stairoids sends to, one JSON object a line."""
    with _clear_errors():
        for endpoint in _endpoints(api_url).list():
            endpoint.pop("secret", None)
            click.echo(json.dumps(endpoint))


@main.command()
@click.argument("endpoint_id")
@api_url_option
def delete(*, endpoint_id: str, api_url: str) -> None:
    """Have Stairoids send no more to the endpoint with this id."""
    with _clear_errors():
        _endpoints(api_url).delete(endpoint_id)
    click.echo(json.dumps({"deleted": endpoint_id}))


@main.command("send-test")
@click.argument("url")
def send_test(*, url: str) -> None:
    """Sign a sample of each event and post it to a receiver.

    The receiver stores them like any other event; their ids hold the word test.
    Exits 1 if one of them is not answered with 2xx.

    \b
    Example:
      stairoids-webhooks send-test http://127.0.0.1:8880/webhooks/stairoids
    """  # noqa: D301 -- \b is click's mark for text that is not re-wrapped
    with _clear_errors():
        from tap_stairoids_webhooks.endpoints import checked_url, post_signed  # noqa: PLC0415 -- slow to import
        from tap_stairoids_webhooks.samples import sample_bodies  # noqa: PLC0415 -- same
        from tap_stairoids_webhooks.signature import sign  # noqa: PLC0415 -- same

        secret = secrets_from(os.environ)[0]
        checked_url(url, name="URL")
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        refused = 0
        for event, body in sample_bodies(now=now).items():
            headers = {
                "Content-Type": "application/json",
                "X-Stairoids-Event": event,
                "X-Stairoids-Delivery": str(uuid.uuid4()),
                "X-Stairoids-Signature": sign(body, secret).decode(),
            }
            status = post_signed(url, body, headers)
            refused += not 200 <= status < 300
            click.echo(json.dumps({"event": event, "status": status}))
    if refused:
        hint = f": check {SECRET_VARIABLE}" if status == 401 else ""
        click.echo(f"Error: {refused} of the samples were refused{hint}", err=True)
        sys.exit(1)


def _endpoints(api_url: str) -> Endpoints:
    from tap_stairoids_webhooks.endpoints import Endpoints  # noqa: PLC0415 -- slow to import

    api_key = os.environ.get(_API_KEY_VARIABLE)
    if not api_key:
        msg = f"no API key: set {_API_KEY_VARIABLE}"
        raise ConfigError(msg)
    return Endpoints(api_url=api_url, api_key=api_key)


@contextmanager
def _clear_errors() -> Iterator[None]:
    """Turn our own errors into one line and exit code 1."""
    try:
        yield
    except WebhooksError as error:
        raise click.ClickException(str(error)) from None


def _log_to_stderr() -> None:
    handler = logging.StreamHandler(sys.stderr)
    formatter = logging.Formatter(
        "%(asctime)s.%(msecs)03dZ %(levelname)s %(message)s", "%Y-%m-%dT%H:%M:%S"
    )
    formatter.converter = time.gmtime
    handler.setFormatter(formatter)
    logging.basicConfig(level=logging.INFO, handlers=[handler])
    # A line for each port scanner is not a fact worth having; they are counted.
    logging.getLogger("uvicorn.error").setLevel(logging.ERROR)
