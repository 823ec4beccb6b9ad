"""Commands about webhook endpoints: `register`, `list`, `delete` and `send-test`."""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import click

from stairoids_common.cli import EnvironmentOption, confirmed_removal
from stairoids_common.error_ids import WrongUsageError, with_id
from tap_stairoids_webhooks import environment
from tap_stairoids_webhooks.environment import (
    API_URL_VARIABLE,
    DEFAULT_API_URL,
    DEFAULT_PATH,
    SECRET_VARIABLE,
    SECRETS_VARIABLE,
)
from tap_stairoids_webhooks.event import EVENT_TYPES

if TYPE_CHECKING:
    from tap_stairoids_webhooks.endpoints import Endpoints

#: Advice for the status of a receiver's response.
_HINTS = {
    401: (
        "the receiver has another secret, or a proxy changes the body; compare"
        f" {SECRET_VARIABLE} and {SECRETS_VARIABLE} here and there"
    ),
    404: (
        f"the receiver has another path; its default is {DEFAULT_PATH}, and its option"
        " --path changes it"
    ),
    **dict.fromkeys(
        (301, 302, 303, 307, 308),
        "a redirect, which is not followed; use the URL it leads to",
    ),
}

api_url_option = click.option(
    "--api-url",
    default=DEFAULT_API_URL,
    show_default=True,
    cls=EnvironmentOption,
    envvar=API_URL_VARIABLE,
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
    help="Event type. Repeat it for more. Default: all.",
)
@api_url_option
def register(*, url: str, events: tuple[str, ...], api_url: str) -> None:
    """Register URL at Stairoids, which then sends its events to URL.

    Stairoids signs the events with the first secret of STAIROIDS_WEBHOOK_SECRETS (a
    JSON array) or, if that is not set, with STAIROIDS_WEBHOOK_SECRET. Start the
    receiver with the same secret. The API key is read from STAIROIDS_API_KEY. It needs
    the scope read_write.

    \b
    Example:
      STAIROIDS_API_KEY=... STAIROIDS_WEBHOOK_SECRET=... \\
        stairoids-webhooks register https://hooks.example.com/webhooks/stairoids
    """
    secret, endpoints = environment.secrets()[0], _endpoints(api_url)
    endpoint = endpoints.register(url, events=events or EVENT_TYPES, secret=secret)
    endpoint.pop("secret", None)
    click.echo(json.dumps(endpoint))
    for other in endpoints.others_of(url, endpoint["id"]):
        text = (
            f"the endpoint {other} has this URL too, and Stairoids sends the events of"
            " both twice. When nothing uses its secret any more, run"
            f" stairoids-webhooks delete {other}"
        )
        click.echo(f"Warning: {with_id(text)}", err=True)


@click.command("list")
@api_url_option
def list_endpoints(*, api_url: str) -> None:
    """List the endpoints of Stairoids, one JSON object per line.

    The API key is read from STAIROIDS_API_KEY. Secrets are not shown.

    \b
    Example:
      STAIROIDS_API_KEY=... stairoids-webhooks list
    """
    for endpoint in _endpoints(api_url).list():
        endpoint.pop("secret", None)
        click.echo(json.dumps(endpoint))


@click.command()
@click.argument("endpoint_id")
@api_url_option
@confirmed_removal
def delete(
    *, endpoint_id: str, api_url: str, is_confirmed: Callable[[str], bool]
) -> None:
    """Delete an endpoint, so that Stairoids sends nothing more to it.

    `list` shows the ids. The API key is read from STAIROIDS_API_KEY. It needs the
    scope read_write.

    \b
    Example:
      STAIROIDS_API_KEY=... stairoids-webhooks delete wh_7f3 --yes
    """
    if not endpoint_id.strip(". "):  # the URL would be that of all endpoints
        raise WrongUsageError("ENDPOINT_ID is not an id, such as those of `list`.")
    endpoints = _endpoints(api_url)
    if is_confirmed(f"Stairoids sends nothing more to the endpoint {endpoint_id!r}."):
        endpoints.delete(endpoint_id)
        click.echo(json.dumps({"deleted": endpoint_id}))


@click.command("send-test")
@click.argument("url")
def send_test(*, url: str) -> None:
    """Sign a sample of each event and send it to a receiver.

    The receiver stores the samples like other events. Their ids contain "test". They
    are signed with the first secret of STAIROIDS_WEBHOOK_SECRETS or, if that is not
    set, with STAIROIDS_WEBHOOK_SECRET. Use the secret of the receiver. The exit code is
    1 if a response is not 2xx.

    \b
    Example:
      STAIROIDS_WEBHOOK_SECRET=... \\
        stairoids-webhooks send-test http://127.0.0.1:8880/webhooks/stairoids
    """
    from tap_stairoids_webhooks.endpoints import send_samples

    secret = environment.secrets()[0]
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    statuses = []
    for event, status in send_samples(url, secret=secret, now=now):
        statuses.append(status)
        click.echo(json.dumps({"event": event, "status": status}))
    refused = Counter(s for s in statuses if not 200 <= s < 300)
    for status, number in refused.items():
        hint = _HINTS.get(status, "see the receiver's log")
        text = f"{status} for {number} of {len(statuses)} samples: {hint}"
        click.echo(f"Error: {with_id(text)}", err=True)
    if refused:
        sys.exit(1)


def _endpoints(api_url: str) -> Endpoints:
    from tap_stairoids_webhooks.endpoints import Endpoints

    return Endpoints(api_url=api_url, api_key=environment.api_key())


COMMANDS = (register, list_endpoints, delete, send_test)
