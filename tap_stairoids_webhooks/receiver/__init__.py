"""Receive webhooks: the server, and the application for other servers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tap_stairoids_webhooks.exceptions import ConfigError

if TYPE_CHECKING:
    from tap_stairoids_webhooks.receiver.asgi import EmbeddedReceiver


def create_app() -> EmbeddedReceiver:
    """Return the receiver as an ASGI application, configured by the environment."""
    from stairoids_common.error_ids import with_id  # noqa: PLC0415 -- `--help` needs none of it
    from tap_stairoids_webhooks.environment import receiver_settings  # noqa: PLC0415 -- as above
    from tap_stairoids_webhooks.receiver.asgi import EmbeddedReceiver  # noqa: PLC0415 -- as above

    try:
        return EmbeddedReceiver(receiver_settings())
    except ConfigError as error:
        raise ConfigError(with_id(str(error))) from None
