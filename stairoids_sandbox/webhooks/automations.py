"""Automations: signals of a kind call a URL.

Only what the documentation shows of them: incoming ones are kept and do nothing;
outgoing ones compare fields of the signal and call a webhook.
"""

from __future__ import annotations

import dataclasses
import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from stairoids_sandbox.exceptions import invalid
from stairoids_sandbox.ids import new_id
from stairoids_sandbox.webhooks.delivery import Endpoint
from stairoids_sandbox.webhooks.subscriptions import checked_url

if TYPE_CHECKING:
    from collections.abc import Mapping

    from stairoids_sandbox.state.models import Signal

ANY_TYPE = "*"


@dataclass(frozen=True, slots=True, kw_only=True)
class Automation:
    """A rule.

    Attributes:
        kind: ``incoming`` or ``outgoing``; the API calls it ``type``.
        trigger: As given.
        conditions: Field and value pairs that must all be equal.
        endpoint: Whom an outgoing one calls.
    """

    id: str
    name: str
    kind: str
    enabled: bool
    trigger: Mapping[str, Any]
    conditions: tuple[tuple[str, str], ...] = ()
    endpoint: Endpoint | None = None

    def body(self) -> dict[str, Any]:
        """Show it as documented; the secret is shown by its creation only."""
        shown: dict[str, Any] = {
            "id": self.id,
            "name": self.name,
            "type": self.kind,
            "enabled": self.enabled,
            "trigger": dict(self.trigger),
        }
        if self.endpoint is not None:
            config = {"url": self.endpoint.url, "headers": dict(self.endpoint.headers)}
            shown["action"] = {"type": "webhook", "config": config}
        return shown

    def matches(self, signal: Signal) -> bool:
        """Say whether a signal sets it off."""
        if not self.enabled or self.endpoint is None:
            return False
        values = {"signal.type": signal.type, "signal.source": signal.source}
        return all(values[field] == value for field, value in self.conditions)


class Automations:
    """The workspace's automations. Add to them from any thread."""

    def __init__(self) -> None:
        self._by_id: dict[str, Automation] = {}

    def add(
        self,
        *,
        type: str,  # noqa: A002 -- the signal's field is called type everywhere
        url: str,
        secret: str | None = None,
        name: str | None = None,
    ) -> Automation:
        """Call ``url`` for each signal of this type, or of any if it is ``*``.

        Raises:
            ApiError: 400; the URL is neither https nor on this machine.
        """
        conditions = () if type == ANY_TYPE else (("signal.type", type),)
        return self._keep(
            Automation(
                id=new_id("auto"),
                name=name or f"{type} → webhook",
                kind="outgoing",
                enabled=True,
                trigger=_trigger_of(conditions),
                conditions=conditions,
                endpoint=Endpoint(url=checked_url(url), secret=secret),
            )
        )

    def add_from(self, body: object) -> Automation:
        """Add what the body of ``POST /v1/automations`` describes.

        Raises:
            ApiError: 400; the message names the field.
        """
        return self._keep(_automation_from(body))

    def switch(self, automation_id: str, *, enabled: bool) -> bool:
        """Let an automation act or rest; False if there is none of this id."""
        automation = self._by_id.get(automation_id)
        if automation is None:
            return False
        self._by_id[automation_id] = dataclasses.replace(automation, enabled=enabled)
        return True

    def remove(self, automation_id: str) -> bool:
        """End an automation; False if there is none of this id."""
        return self._by_id.pop(automation_id, None) is not None

    def all(self) -> list[Automation]:
        """List the automations, in the order they were made."""
        return list(self._by_id.values())

    def _keep(self, automation: Automation) -> Automation:
        self._by_id[automation.id] = automation
        return automation


def _trigger_of(conditions: tuple[tuple[str, str], ...]) -> dict[str, Any]:
    return {
        "event": "signal.created",
        "conditions": [
            {"field": field, "operator": "equals", "value": value}
            for field, value in conditions
        ],
    }


def _automation_from(body: object) -> Automation:
    match body:
        case {
            "name": str(name),
            "type": ("incoming" | "outgoing") as kind,
            "trigger": dict(trigger),
            **rest,
        } if name:
            enabled = rest.pop("enabled", False)
            action = rest.pop("action", None)
        case _:
            msg = "An automation needs a name, a type (incoming, outgoing), a trigger."
            raise invalid(msg)
    if rest or not isinstance(enabled, bool):
        msg = "An automation has name, type, enabled (boolean), trigger and action."
        raise invalid(msg)
    if (action is None) == (kind == "outgoing"):
        msg = "An outgoing automation needs an action, an incoming one has none."
        raise invalid(msg, param="action")
    outgoing = kind == "outgoing"
    return Automation(
        id=new_id("auto"),
        name=name,
        kind=kind,
        enabled=enabled,
        trigger=trigger,
        conditions=_conditions_from(trigger) if outgoing else (),
        endpoint=_endpoint_from(action) if outgoing else None,
    )


def _conditions_from(trigger: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    match trigger:
        case {"event": "signal.created", **rest}:
            conditions = rest.pop("conditions", [])
        case _:
            msg = "trigger.event must be signal.created."
            raise invalid(msg, param="trigger")
    if rest or not isinstance(conditions, list):
        msg = "trigger has event and conditions, a list."
        raise invalid(msg, param="trigger")
    return tuple(map(_condition_from, conditions))


def _condition_from(condition: object) -> tuple[str, str]:
    match condition:
        case {
            "field": ("signal.type" | "signal.source") as field,
            "operator": "equals",
            "value": str(value),
        }:
            return field, value
        case _:
            msg = "A condition says that signal.type or signal.source equals a text."
            raise invalid(msg, param="trigger.conditions")


def _endpoint_from(action: object) -> Endpoint:
    match action:
        case {"type": "webhook", "config": {"url": str(url), **rest}}:
            headers = rest.pop("headers", {})
            secret = rest.pop("secret", None) or secrets.token_hex(24)
        case _:
            msg = 'action must be {"type": "webhook", "config": {"url": ...}}.'
            raise invalid(msg, param="action")
    if rest or not isinstance(headers, dict) or not isinstance(secret, str):
        msg = "action.config has url, headers (an object) and secret."
        raise invalid(msg, param="action.config")
    for name, value in headers.items():
        if not (isinstance(value, str) and (name + value).isprintable()):
            msg = "action.config.headers must hold one line of text each."
            raise invalid(msg, param="action.config.headers")
    return Endpoint(url=checked_url(url), secret=secret, headers=headers)
