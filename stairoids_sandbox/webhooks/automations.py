"""Keep automations, which call a URL for some signals.

Incoming automations are kept and do nothing. Outgoing ones compare fields of the signal
and call a webhook, because the documentation shows no more.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from stairoids_sandbox.ids import new_id
from stairoids_sandbox.state.keys import DEFAULT_WORKSPACE
from stairoids_sandbox.webhooks.delivery import Endpoint
from stairoids_sandbox.webhooks.subscriptions import checked_url

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from stairoids_sandbox.state.models import Signal

ANY_TYPE = "*"


@dataclass(frozen=True, slots=True, kw_only=True)
class Automation:
    """A rule that calls an endpoint.

    Attributes:
        kind: ``incoming`` or ``outgoing``; the API calls it ``type``.
        trigger: As given.
        conditions: Pairs of a signal's field and its value, which must all match.
        endpoint: The endpoint of an outgoing automation.
        workspace: The workspace that it belongs to.
    """

    id: str
    name: str
    kind: str
    enabled: bool
    trigger: Mapping[str, Any]
    conditions: tuple[tuple[str, str], ...] = ()
    endpoint: Endpoint | None = None
    workspace: str = DEFAULT_WORKSPACE

    def body(self) -> dict[str, Any]:
        """Return it as documented, without the secret."""
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
        """Return whether a signal triggers the automation."""
        if not self.enabled or self.endpoint is None:
            return False
        if signal.workspace != self.workspace:
            return False
        values = {"signal.type": signal.type, "signal.source": signal.source}
        return all(values[field] == value for field, value in self.conditions)


class Automations:
    """The automations of all workspaces. They can be added from any thread.

    Attributes:
        removed: The automation that was removed last, until it is restored.
    """

    def __init__(self) -> None:
        self._by_id: dict[str, Automation] = {}
        self.removed: Automation | None = None

    def add(
        self,
        *,
        type: str,  # noqa: A002 -- the signal's field is called type everywhere
        url: str,
        secret: str | None = None,
        name: str | None = None,
        workspace: str = DEFAULT_WORKSPACE,
    ) -> Automation:
        """Call ``url`` for each signal of a type, or for all signals with ``*``.

        Raises:
            ApiError: 400; the URL is neither https nor on this machine.
        """
        conditions = () if type == ANY_TYPE else (("signal.type", type),)
        automation = Automation(
            id=new_id("auto"),
            name=name or _name_for(type),
            kind="outgoing",
            enabled=True,
            trigger=_trigger_of(conditions),
            conditions=conditions,
            endpoint=Endpoint(url=checked_url(url), secret=secret),
            workspace=workspace,
        )
        self.put(automation)
        return automation

    def edit(
        self,
        automation: Automation,
        *,
        type: str,  # noqa: A002 -- same
        url: str,
        secret: str | None,
        name: str | None,
    ) -> None:
        """Change an outgoing automation. Its other conditions and headers stay.

        Raises:
            ApiError: 400; the URL is neither https nor on this machine.
        """
        others = [pair for pair in automation.conditions if pair[0] != "signal.type"]
        own = [] if type == ANY_TYPE else [("signal.type", type)]
        conditions = (*own, *others)
        headers = automation.endpoint.headers if automation.endpoint else {}
        self.put(
            dataclasses.replace(
                automation,
                name=name or _name_for(type),
                trigger=_trigger_of(conditions),
                conditions=conditions,
                endpoint=Endpoint(url=checked_url(url), secret=secret, headers=headers),
            )
        )

    def put(self, automation: Automation) -> None:
        """Add an automation, or replace the one with its id."""
        self._by_id[automation.id] = automation

    def switch(self, automation_id: str, *, enabled: bool) -> None:
        """Enable or disable an automation, if there is one with this id."""
        automation = self._by_id.get(automation_id)
        if automation is not None:
            self.put(dataclasses.replace(automation, enabled=enabled))

    def remove(self, automation_id: str) -> None:
        """Remove an automation, if there is one with this id."""
        self.removed = self._by_id.pop(automation_id, None)

    def restore(self) -> None:
        """Add the automation again that was removed last."""
        if self.removed is not None:
            self.put(self.removed)
            self.removed = None

    def get(self, automation_id: str) -> Automation | None:
        """Return the automation with an id."""
        return self._by_id.get(automation_id)

    def all(self) -> list[Automation]:
        """Return the automations in order of creation."""
        return list(self._by_id.values())


def _name_for(type_: str) -> str:
    return f"{type_} → webhook"


def _trigger_of(conditions: Iterable[tuple[str, str]]) -> dict[str, Any]:
    """Return the trigger for some conditions, as the API shows it."""
    shown = [
        {"field": field, "operator": "equals", "value": value}
        for field, value in conditions
    ]
    return {"event": "signal.created", "conditions": shown}
