"""Receive the webhooks of Stairoids, store them, and read them as Singer streams.

The public names are `Receiver` (a receiver for tests and programs of your own),
`ReceiverSettings`, `EventStore`, `Verifier` and `sign`. Others may change at any time.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tap_stairoids_webhooks.environment import ReceiverSettings
    from tap_stairoids_webhooks.receiver.server import Receiver
    from tap_stairoids_webhooks.signature import Verifier, sign
    from tap_stairoids_webhooks.store.store import EventStore

__all__ = ["EventStore", "Receiver", "ReceiverSettings", "Verifier", "sign"]

_MODULES = {
    "EventStore": "store.store",
    "Receiver": "receiver.server",
    "ReceiverSettings": "environment",
    "Verifier": "signature",
    "sign": "signature",
}


def __getattr__(name: str) -> object:
    """Import a public name when it is first used, because some are slow to import."""
    if name not in _MODULES:
        raise AttributeError(name)
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
