"""Commands about endpoints: `register`, `list`, `delete` and `send-test`."""

from __future__ import annotations

import json
import os
import sys
import uuid
from collections import Counter
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import click

from tap_stairoids_webhooks.cli.options import clear_errors
from tap_stairoids_webhooks.exceptions import ConfigError
from tap_stairoids_webhooks.settings import (
    DEFAULT_API_URL,
    DEFAULT_PATH,
    EVENT_TYPES,
    SECRET_VARIABLE,
    SECRETS_VARIABLE,
    secrets_from,
)

if TYPE_CHECKING:
    from tap_stairoids_webhooks.endpoints import Endpoints

_API_KEY_VARIABLE = "STAIROIDS_API_KEY"

#: What to do about an answer of a receiver.
_HINTS = {
    401: (
        "the receiver has another secret, or a proxy changes the body; compare"
        f" {SECRET_VARIABLE} and {SECRETS_VARIABLE} here and there"
    ),
    404: (
        f"nothing is received at this path; the receiver's is {DEFAULT_PATH}, unless"
        " its --path says otherwise"
    ),
    **dict.fromkeys(
        (301, 302, 303, 307, 308),
        "a redirect, which is not followed; give the URL it leads to",
    ),
    **dict.fromkeys((502, 504), "a proxy found no receiver behind it"),
}

api_url_option = click.option(
    "--api-url",
    default=DEFAULT_API_URL,
    show_default=True,
    envvar="STAIROIDS_API_URL",
    show_envvar=True,
    help="Base URL of the Stairoids API.",
)


@click.command()
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
    """Have Stairoids send its events to URL.

    They are signed with the first secret of STAIROIDS_WEBHOOK_SECRETS (a JSON array)
    or, if that is not set, with STAIROIDS_WEBHOOK_SECRET: give the receiver the same.
    The API key is read from STAIROIDS_API_KEY; it needs the scope read_write.

    \b
    Example:
      STAIROIDS_API_KEY=... STAIROIDS_WEBHOOK_SECRET=... \\
        stairoids-webhooks register https://hooks.example.com/webhooks/stairoids
    """  # noqa: D301 -- \b is click's mark for text that is not re-wrapped
    with clear_errors():
        secret = secrets_from(os.environ)[0]
        made = _endpoints(api_url).register(
            url, events=events or EVENT_TYPES, secret=secret
        )
    made.pop("secret", None)
    click.echo(json.dumps(made))


@click.command("list")
@api_url_option
def list_endpoints(*, api_url: str) -> None:
    """List the endpoints Stairoids sends to, one JSON object a line.

    The API key is read from STAIROIDS_API_KEY; secrets are not shown.

    \b
    Example:
      STAIROIDS_API_KEY=... stairoids-webhooks list
    """  # noqa: D301 -- \b is click's mark for text that is not re-wrapped
    with clear_errors():
        for endpoint in _endpoints(api_url).list():
            endpoint.pop("secret", None)
            click.echo(json.dumps(endpoint))


@click.command()
@click.argument("endpoint_id")
@api_url_option
def delete(*, endpoint_id: str, api_url: str) -> None:
    """Have Stairoids send no more to the endpoint with this id.

    `list` shows the ids. The API key is read from STAIROIDS_API_KEY; it needs the
    scope read_write.

    \b
    Example:
      STAIROIDS_API_KEY=... stairoids-webhooks delete wh_7f3
    """  # noqa: D301 -- \b is click's mark for text that is not re-wrapped
    with clear_errors():
        _endpoints(api_url).delete(endpoint_id)
    click.echo(json.dumps({"deleted": endpoint_id}))


@click.command("send-test")
@click.argument("url")
def send_test(*, url: str) -> None:
    """Sign a sample of each event and post it to a receiver.

    The receiver stores them like any other event; their ids hold the word test.
    They are signed with the first secret of STAIROIDS_WEBHOOK_SECRETS or, if that is
    not set, with STAIROIDS_WEBHOOK_SECRET: the same as the receiver's. Exits 1 if one
    of them is not answered with 2xx.

    \b
    Example:
      STAIROIDS_WEBHOOK_SECRET=... \\
        stairoids-webhooks send-test http://127.0.0.1:8880/webhooks/stairoids
    """  # noqa: D301 -- \b is click's mark for text that is not re-wrapped
    with clear_errors():
        from tap_stairoids_webhooks.endpoints import checked_url, post_signed  # noqa: PLC0415 -- slow to import
        from tap_stairoids_webhooks.samples import sample_bodies  # noqa: PLC0415 -- same
        from tap_stairoids_webhooks.signature import sign  # noqa: PLC0415 -- same

        secret = secrets_from(os.environ)[0]
        checked_url(url, name="URL")
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        refused: list[int] = []
        samples = sample_bodies(now=now)
        for event, body in samples.items():
            headers = {
                "Content-Type": "application/json",
                "X-Stairoids-Event": event,
                "X-Stairoids-Delivery": str(uuid.uuid4()),
                "X-Stairoids-Signature": sign(body, secret).decode(),
            }
            status = post_signed(url, body, headers)
            if not 200 <= status < 300:
                refused.append(status)
            click.echo(json.dumps({"event": event, "status": status}))
    for status, number in Counter(refused).items():
        hint = _HINTS.get(status, "see the receiver's log")
        text = f"Error: {status} for {number} of {len(samples)} samples: {hint}"
        click.echo(text, err=True)
    if refused:
        sys.exit(1)


def _endpoints(api_url: str) -> Endpoints:
    from tap_stairoids_webhooks.endpoints import Endpoints  # noqa: PLC0415 -- slow to import

    api_key = os.environ.get(_API_KEY_VARIABLE)
    if not api_key:
        msg = f"no API key: set {_API_KEY_VARIABLE}"
        raise ConfigError(msg)
    if not (api_key.isascii() and api_key.isprintable()):
        msg = (
            f"{_API_KEY_VARIABLE} holds characters no HTTP header can carry: copy the"
            " key again"
        )
        raise ConfigError(msg)
    return Endpoints(api_url=api_url, api_key=api_key)


COMMANDS = (register, list_endpoints, delete, send_test)
