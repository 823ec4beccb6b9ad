"""The parts of a sandbox that its routes work on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from stairoids_sandbox.faults.faults import Faults
    from stairoids_sandbox.state.keys import KeyRing
    from stairoids_sandbox.state.quota import Quota
    from stairoids_sandbox.state.request_log import RequestLog
    from stairoids_sandbox.state.workspace import Workspace
    from stairoids_sandbox.webhooks.automations import Automations
    from stairoids_sandbox.webhooks.event_dispatcher import EventDispatcher
    from stairoids_sandbox.webhooks.subscriptions import Subscriptions
    from stairoids_sandbox.webhooks.webhook_sender import WebhookSender


@dataclass(frozen=True, slots=True, kw_only=True)
class Components:
    """The parts of one sandbox.

    Attributes:
        quotas: Quota by the name of the key.
    """

    keys: KeyRing
    quotas: Mapping[str, Quota]
    faults: Faults
    requests: RequestLog
    workspace: Workspace
    automations: Automations
    webhooks: Subscriptions
    dispatcher: EventDispatcher
    sender: WebhookSender
