"""A signal, and the rules of the Stairoids API that it must keep.

The rules are those of https://docs.stairoids.com/integrations/custom-api and
`/api-reference/signals/send-signal`; the stricter one where the two pages differ.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from decimal import Decimal

import msgspec

from target_stairoids.exceptions import InvalidSignalError
from target_stairoids.mapping.values import DOMAIN, EMAIL, Json, Scalar, json_bytes

_TIME = re.compile(r"^\d{4}-\d\d-\d\dT.*Z$")
_SCALARS: tuple[type, ...] = (str, int, float, Decimal)


class Signal(msgspec.Struct, frozen=True, kw_only=True):
    """One signal, normalised.

    Attributes:
        account: `domain` and `name`, without those that are unknown.
        contact: `email`, `first_name` and `last_name`, without those that are unknown.
        properties: Flat; strings, numbers and booleans only.
        occurred_at: RFC 3339 in UTC; with None, Stairoids takes the current time.
    """

    type: str
    source: str
    account: Mapping[str, str]
    contact: Mapping[str, str]
    properties: Mapping[str, Scalar]
    occurred_at: str | None = None

    def body(self) -> dict[str, Json]:
        """Return the JSON object of the request, without empty fields."""
        body: dict[str, Json] = {"type": self.type, "source": self.source}
        for name in ("account", "contact", "properties", "occurred_at"):
            value = getattr(self, name)
            if value:
                body[name] = dict(value) if isinstance(value, Mapping) else value
        return body

    def checked_text(self) -> bytes:
        """Return the JSON text of the request.

        Raises:
            InvalidSignalError: The signal breaks a rule of the API.
        """
        if rule := self._broken_rule():
            raise InvalidSignalError(rule)
        return json_bytes(self.body())

    def _broken_rule(self) -> str | None:
        texts = {"type": self.type, "source": self.source}
        texts |= {f"account.{name}": text for name, text in self.account.items()}
        texts |= {f"contact.{name}": text for name, text in self.contact.items()}
        for field, text in texts.items():
            if not text:
                return f"{field}: must not be empty"
        domain, email = self.account.get("domain"), self.contact.get("email")
        if domain is None and email is None:
            return "neither account.domain nor contact.email is known"
        if domain is not None and not DOMAIN.search(domain):
            return "account.domain: not a domain such as example.com"
        if email is not None and not EMAIL.search(email):
            return "contact.email: not an email address such as ann@example.com"
        if self.occurred_at and not _TIME.search(self.occurred_at):
            return "occurred_at: not a date and time in ISO 8601"
        for name, value in self.properties.items():
            if not isinstance(value, _SCALARS):
                return f"properties.{name}: neither text, number nor boolean"
        return None


def type_of(text: bytes) -> str:
    """Return the type of a signal, given the JSON text of its request."""
    return str(msgspec.json.decode(text)["type"])
