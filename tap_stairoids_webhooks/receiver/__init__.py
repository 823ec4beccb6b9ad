"""Receive webhooks: the server, and the application for other servers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tap_stairoids_webhooks.exceptions import ConfigError

if TYPE_CHECKING:
    from tap_stairoids_webhooks.receiver.asgi import EmbeddedReceiver


def create_app() -> EmbeddedReceiver:
    """Return the receiver as an ASGI application, configured by the environment."""
    from tap_stairoids_webhooks.environment import receiver_settings  # noqa: PLC0415 -- `--help` needs none of it
    from tap_stairoids_webhooks.receiver.asgi import EmbeddedReceiver  # noqa: PLC0415 -- as above

    settings = receiver_settings()
    if settings.forward is not None:
        raise ConfigError(
            "STAIROIDS_WEBHOOKS_FORWARD: run stairoids-webhooks forward beside this app"
        )
    return EmbeddedReceiver(settings)
