"""A draft: the body of ``POST /v1/signals``, once it fits the contract.

Stricter than the documentation demands, so that a client's mistake shows here
and not in production: a field that no page documents is refused.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from stairoids_sandbox.exceptions import invalid
from stairoids_sandbox.timestamps import moment_from

if TYPE_CHECKING:
    from datetime import datetime

_FIELDS = frozenset(
    {"type", "source", "account", "contact", "properties", "occurred_at"}
)
_ACCOUNT_FIELDS = frozenset({"domain", "name"})
_CONTACT_FIELDS = frozenset({"email", "first_name", "last_name"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """A signal that may be accepted; domain and e-mail are in lower case."""

    type: str
    source: str | None
    domain: str | None
    account_name: str | None
    email: str | None
    first_name: str | None
    last_name: str | None
    properties: dict[str, Any]
    occurred_at: datetime | None


def draft_from(body: object) -> Draft:
    """Read the body of a request to send a signal.

    Raises:
        ApiError: 400; the message names the field to change.
    """
    if not isinstance(body, dict):
        msg = "The request body must be a JSON object."
        raise invalid(msg)
    _refuse_unknown(body, _FIELDS, prefix="")
    account = _object(body, "account", _ACCOUNT_FIELDS)
    contact = _object(body, "contact", _CONTACT_FIELDS)
    draft = Draft(
        type=_required_text(body, "type"),
        source=_text(body, "source"),
        domain=_lower(_text(account, "domain", prefix="account.")),
        account_name=_text(account, "name", prefix="account."),
        email=_lower(_text(contact, "email", prefix="contact.")),
        first_name=_text(contact, "first_name", prefix="contact."),
        last_name=_text(contact, "last_name", prefix="contact."),
        properties=_properties(body),
        occurred_at=moment_from(body["occurred_at"], param="occurred_at")
        if "occurred_at" in body
        else None,
    )
    if draft.domain is None and draft.email is None:
        msg = "At least one of account.domain or contact.email is required."
        raise invalid(msg)
    return draft


def _refuse_unknown(
    fields: dict[str, Any], known: frozenset[str], *, prefix: str
) -> None:
    if fields.keys() <= known:
        return
    name = min(fields.keys() - known)
    if name == "account_id" and not prefix:
        msg = "account_id is not accepted; name the account by account.domain."
    else:
        msg = f"Unknown field {prefix}{name[:100]}."
    raise invalid(msg, param=f"{prefix}{name[:100]}")


def _object(body: dict[str, Any], name: str, known: frozenset[str]) -> dict[str, Any]:
    value = body[name] if name in body else {}  # noqa: SIM401 -- null must be refused like any other non-object, and reads alike in _text
    if not isinstance(value, dict):
        msg = f"{name} must be an object."
        raise invalid(msg, param=name)
    _refuse_unknown(value, known, prefix=f"{name}.")
    return value


def _required_text(body: dict[str, Any], name: str) -> str:
    text = _text(body, name)
    if text is None:
        msg = f"{name} is required."
        raise invalid(msg, param=name)
    return text


def _text(fields: dict[str, Any], name: str, *, prefix: str = "") -> str | None:
    if name not in fields:
        return None
    value = fields[name]
    if isinstance(value, str) and value.strip():
        return value
    msg = f"{prefix}{name} must be a non-empty string."
    raise invalid(msg, param=f"{prefix}{name}")


def _lower(text: str | None) -> str | None:
    return None if text is None else text.strip().lower()


def _properties(body: dict[str, Any]) -> dict[str, Any]:
    properties = _object_of_anything(body)
    for name, value in properties.items():
        if not isinstance(value, str | int | float):  # a bool is an int
            msg = f"properties.{name[:100]} must be a string, number or boolean."
            raise invalid(msg, param=f"properties.{name[:100]}")
    return properties


def _object_of_anything(body: dict[str, Any]) -> dict[str, Any]:
    if "properties" not in body:
        return {}
    properties = body["properties"]
    if isinstance(properties, dict):
        return properties
    msg = "properties must be an object."
    raise invalid(msg, param="properties")
