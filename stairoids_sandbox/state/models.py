"""What the sandbox remembers: signals, accounts, contacts and requests."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from datetime import datetime


@dataclass(slots=True, kw_only=True)
class Account:
    """A company; its score is the sum of its signals' scores.

    The name is the first one heard: it is only used when no account matches.
    """

    id: str
    domain: str
    name: str | None
    score: int = 0


@dataclass(slots=True, kw_only=True)
class Contact:
    """A person; the names are the first ones heard."""

    id: str
    email: str
    first_name: str | None
    last_name: str | None
    score: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Signal:
    """An accepted signal.

    Attributes:
        id: The ``sig_…`` id it was answered with.
        sequence: Its place in the order of acceptance, from 1.
        account: The account it was matched to: by ``account.domain``, else by the
            contact's e-mail domain.
        occurred_at: As sent, else the time of acceptance.
        created_at: When it was accepted.
        body: The JSON object as received.
        raw: The bytes as received.
        key_name: Name of the API key that sent it, never the key.
        key_scope: That key's scope.
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
    body: dict[str, Any]
    raw: bytes
    key_name: str
    key_scope: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestSeen:
    """One request under ``/v1``, without its key, headers or body.

    Attributes:
        status: What it was answered; None if a fault cut the answer off.
        arrived: ``time.monotonic()`` when its head had been read.
        answered: ``time.monotonic()`` when its answer began.
        key_name: Name of its API key; None if it had no valid one.
    """

    method: str
    path: str
    query: str
    status: int | None
    arrived: float
    answered: float
    key_name: str | None
