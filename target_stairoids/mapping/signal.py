"""A signal: what Stairoids takes, normalised and checked before it may go out.

The contract is that of https://docs.stairoids.com/integrations/custom-api and
`/api-reference/signals/send-signal`, read the strict way where the two differ.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from decimal import Decimal
from functools import cache

import msgspec
from jsonschema import Draft202012Validator

from target_stairoids.exceptions import InvalidSignalError
from target_stairoids.mapping.values import DOMAIN, EMAIL, Json, Scalar, json_bytes

SIGNAL_SCHEMA: dict[str, Json] = {
    "type": "object",
    "required": ["type", "source"],
    "additionalProperties": False,
    "anyOf": [
        {"required": ["account"], "properties": {"account": {"required": ["domain"]}}},
        {"required": ["contact"], "properties": {"contact": {"required": ["email"]}}},
    ],
    "properties": {
        "type": {"type": "string", "minLength": 1},
        "source": {"type": "string", "minLength": 1},
        "account": {
            "type": "object",
            "minProperties": 1,
            "additionalProperties": False,
            "properties": {
                "domain": {"type": "string", "pattern": DOMAIN.pattern},
                "name": {"type": "string", "minLength": 1},
            },
        },
        "contact": {
            "type": "object",
            "minProperties": 1,
            "additionalProperties": False,
            "properties": {
                "email": {"type": "string", "pattern": EMAIL.pattern},
                "first_name": {"type": "string", "minLength": 1},
                "last_name": {"type": "string", "minLength": 1},
            },
        },
        "properties": {
            "type": "object",
            "minProperties": 1,
            "additionalProperties": {"type": ["string", "number", "boolean"]},
        },
        "occurred_at": {"type": "string", "pattern": r"^\d{4}-\d\d-\d\dT.*Z$"},
    },
}


_ACCOUNT = SIGNAL_SCHEMA["properties"]["account"]["properties"].keys()
_CONTACT = SIGNAL_SCHEMA["properties"]["contact"]["properties"].keys()
_SCALARS = {str, int, float, bool, Decimal}
_TIME = re.compile(SIGNAL_SCHEMA["properties"]["occurred_at"]["pattern"])


class Signal(msgspec.Struct, frozen=True, kw_only=True):
    """One signal, normalised.

    Attributes:
        account: `domain` and `name`, those that are known.
        contact: `email`, `first_name` and `last_name`, those that are known.
        properties: Flat; strings, numbers and booleans only.
        occurred_at: RFC 3339 in UTC, or None to let Stairoids take its own clock.
    """

    type: str
    source: str
    account: Mapping[str, str]
    contact: Mapping[str, str]
    properties: Mapping[str, Scalar]
    occurred_at: str | None = None

    def body(self) -> dict[str, Json]:
        """Return the request's JSON object; what is empty is left out."""
        body: dict[str, Json] = {"type": self.type, "source": self.source}
        for name in ("account", "contact", "properties", "occurred_at"):
            value = getattr(self, name)
            if value:
                body[name] = dict(value) if isinstance(value, Mapping) else value
        return body

    def checked_text(self) -> bytes:
        """Return the request's JSON text of a signal that keeps the contract.

        Raises:
            InvalidSignalError: It breaks the contract; the reason names field and rule.
        """
        body = self.body()
        if not self._is_plainly_right():
            for error in _contract().iter_errors(body):
                field = ".".join(str(part) for part in error.absolute_path)
                raise InvalidSignalError(_reason(field, str(error.validator)))
        return json_bytes(body)

    def _is_plainly_right(self) -> bool:
        """Say whether it certainly keeps the contract; if not, the schema decides.

        Nearly all do, and to walk through the schema costs a sixth of sending a signal.
        """
        domain, email = self.account.get("domain"), self.contact.get("email")
        texts = self.type, self.source, *self.account.values(), *self.contact.values()
        return (
            all(type(text) is str and text for text in texts)
            and self.account.keys() <= _ACCOUNT
            and self.contact.keys() <= _CONTACT
            and (domain is not None or email is not None)
            and (domain is None or DOMAIN.search(domain) is not None)
            and (email is None or EMAIL.search(email) is not None)
            and (self.occurred_at is None or _TIME.search(self.occurred_at) is not None)
            and _SCALARS.issuperset(map(type, self.properties.values()))
        )


class _Typed(msgspec.Struct):
    type: str


_typed = msgspec.json.Decoder(_Typed)


def type_of(text: bytes) -> str:
    """Return the type of a signal of which there is the request's JSON text."""
    return _typed.decode(text).type


@cache
def _contract() -> Draft202012Validator:
    return Draft202012Validator(SIGNAL_SCHEMA)


def _reason(field: str, rule: str) -> str:
    match field, rule:
        case "", "anyOf":
            return "neither account.domain nor contact.email is known"
        case "account.domain", "pattern":
            return f"{field}: not a domain such as example.com"
        case "contact.email", "pattern":
            return f"{field}: not an e-mail address such as ann@example.com"
        case _, "minLength" | "minProperties" | "required":
            return f"{field or 'the signal'}: must not be empty"
        case _:
            return f"{field or 'the signal'}: breaks the rule `{rule}`"
