"""Check the body of ``POST /v1/signals``.

The checks are stricter than the documentation, so that a client's mistake shows here
and not in production. A field that no page documents is refused.
"""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime
from typing import Annotated, Any

import msgspec

from stairoids_sandbox.exceptions import invalid

Text = Annotated[str, msgspec.Meta(pattern=r"\S")]


class AccountFields(msgspec.Struct, forbid_unknown_fields=True):
    """The account of a signal. An empty string stands for a field that is not sent."""

    domain: Text = ""
    name: Text = ""

    def __post_init__(self) -> None:
        self.domain = self.domain.strip().lower()


class ContactFields(msgspec.Struct, forbid_unknown_fields=True):
    """The contact of a signal. An empty string stands for a field that is not sent."""

    email: Text = ""
    first_name: Text = ""
    last_name: Text = ""

    def __post_init__(self) -> None:
        self.email = self.email.strip().lower()


class SignalRequest(msgspec.Struct, forbid_unknown_fields=True):
    """A signal that may be accepted."""

    type: Text
    source: Text = ""
    account: AccountFields = msgspec.field(default_factory=AccountFields)
    contact: ContactFields = msgspec.field(default_factory=ContactFields)
    properties: dict[str, Any] = msgspec.field(default_factory=dict)
    occurred_at: Text = ""

    def __post_init__(self) -> None:
        for name, value in self.properties.items():
            if not isinstance(value, str | int | float):  # a bool is an int
                msg = f"properties.{name[:100]} must be a string, number or boolean."
                raise invalid(msg, param=f"properties.{name[:100]}")
        self.time()

    def time(self) -> datetime | None:
        """Return the time in ``occurred_at``."""
        if not self.occurred_at:
            return None
        return time_from(self.occurred_at, param="occurred_at")


def time_from(text: str, *, param: str) -> datetime:
    """Read a date and time with a zone from a field of a request.

    Raises:
        ApiError: 400; the text is not such a time.
    """
    with suppress(ValueError, OverflowError):
        moment = datetime.fromisoformat(text)
        if moment.tzinfo is not None and "T" in text:
            return moment.astimezone(UTC)
    msg = f"{param} must be an ISO 8601 date and time with a zone."
    raise invalid(msg, param=param)
