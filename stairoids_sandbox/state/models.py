"""Signals, and the accounts and contacts they are matched to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec

from stairoids_sandbox.state.keys import DEFAULT_WORKSPACE

if TYPE_CHECKING:
    from datetime import datetime


@dataclass(slots=True, kw_only=True)
class Account:
    """A company.

    Attributes:
        name: From the first signal of the account.
        score: The sum of the scores of its signals.
    """

    id: str
    domain: str | None
    name: str | None
    score: int = 0


@dataclass(slots=True, kw_only=True)
class Contact:
    """A person. The names are from the first signal of the contact."""

    id: str
    email: str
    first_name: str | None
    last_name: str | None
    score: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Signal:
    """An accepted signal.

    Attributes:
        id: The ``sig_…`` id in the response.
        sequence: Its place in the order of acceptance, from 1.
        account: Matched by ``account.domain``, else by the domain of the email.
        occurred_at: As sent, else the time of acceptance.
        created_at: The time of acceptance.
        raw: The body as received.
        key_name: Name of the API key that sent it, never the key.
        key_scope: That key's scope.
        workspace: That key's workspace.
    """

    id: str
    sequence: int
    type: str
    source: str | None
    account: Account | None
    contact: Contact | None
    properties: dict[str, Any]
    score: int
    occurred_at: datetime
    created_at: datetime
    raw: bytes
    key_name: str
    key_scope: str
    workspace: str = DEFAULT_WORKSPACE

    @property
    def body(self) -> dict[str, Any]:
        """The JSON object as received."""
        return msgspec.json.decode(self.raw, type=dict[str, Any])

    @property
    def searched(self) -> str:
        """The text that a search looks into, in lower case."""
        account, contact = self.account, self.contact
        parts = [self.id, self.type, self.source, *self.properties.values()]
        if account is not None:
            parts += [account.name, account.domain]
        if contact is not None:
            parts += [contact.email, contact.first_name, contact.last_name]
        return " ".join(map(str, filter(None, parts))).casefold()
