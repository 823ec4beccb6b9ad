"""Inference: which of a stream's fields fill a signal when no mapping says so.

Names are compared in lower case without `_`, `-` and spaces, the most specific first.
A field of a company never becomes a person, and an `updated_at` never becomes
`occurred_at`: it says when the row was touched, not when the thing happened.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

Path = tuple[str, ...]

_NAMES: dict[str, tuple[str, ...]] = {
    "contact.email": (
        "contactemail",
        "useremail",
        "customeremail",
        "workemail",
        "businessemail",
        "emailaddress",
        "primaryemail",
        "email",
    ),
    "contact.first_name": ("contactfirstname", "firstname", "givenname"),
    "contact.last_name": ("contactlastname", "lastname", "surname", "familyname"),
    "account.domain": (
        "accountdomain",
        "companydomain",
        "organizationdomain",
        "organisationdomain",
        "domain",
        "companywebsite",
        "companyurl",
        "website",
        "websiteurl",
        "homepage",
    ),
    "account.name": (
        "accountname",
        "companyname",
        "organizationname",
        "organisationname",
        "company",
        "organization",
        "organisation",
    ),
    "occurred_at": (
        "occurredat",
        "happenedat",
        "eventtime",
        "eventtimestamp",
        "eventat",
    ),
}

#: Objects in which taps nest a person or a company, and which fields they may fill.
_OBJECTS: dict[str, tuple[str, ...]] = {
    "properties": tuple(_NAMES),
    "contact": ("contact.email", "contact.first_name", "contact.last_name"),
    "user": ("contact.email", "contact.first_name", "contact.last_name"),
    "customer": ("contact.email", "contact.first_name", "contact.last_name"),
    "person": ("contact.email", "contact.first_name", "contact.last_name"),
    "lead": ("contact.email", "contact.first_name", "contact.last_name"),
    "account": ("account.domain",),
    "company": ("account.domain",),
    "organization": ("account.domain",),
}

#: What an object may be asked for when its schema does not list its fields.
_USUAL = {
    "contact.email": "email",
    "contact.first_name": "first_name",
    "contact.last_name": "last_name",
    "account.domain": "domain",
}


def paths_for(field: str, properties: Mapping[str, Any]) -> list[Path]:
    """Return where a signal's field may be read, the best place first.

    Args:
        field: For example `contact.email`.
        properties: The SCHEMA's `properties`; if empty, the schema is open and the
            usual names are tried.

    Returns:
        Paths to try in turn; empty if the stream offers nothing for the field.
    """
    if not properties:
        usual = _USUAL.get(field)
        return [(usual,)] if usual else []
    found: list[Path] = [(name,) for name in _matching(field, properties)]
    by_simple_name = {_simple(name): name for name in properties}
    for object_name, fields in _OBJECTS.items():
        name = by_simple_name.get(object_name)
        if name is None or field not in fields:
            continue
        found.extend(_nested(field, name, properties[name]))
    return found


def _matching(field: str, properties: Mapping[str, Any]) -> list[str]:
    """Return the text fields whose names fit, the most specific first."""
    by_simple_name = {
        _simple(name): name for name, schema in properties.items() if _is_scalar(schema)
    }
    return [by_simple_name[n] for n in _NAMES[field] if n in by_simple_name]


def _nested(field: str, name: str, schema: object) -> list[Path]:
    if not isinstance(schema, dict) or not _may_be_object(schema):
        return []
    inner = schema.get("properties")
    if not inner:
        usual = _USUAL.get(field)
        return [(name, usual)] if usual else []
    paths: list[Path] = [(name, found) for found in _matching(field, inner)]
    # HubSpot wraps each value: {"email": {"value": "..."}}
    for candidate, value in inner.items():
        is_wrapped = isinstance(value, dict) and "value" in value.get("properties", ())
        if is_wrapped and _simple(candidate) in _NAMES[field]:
            paths.append((name, candidate, "value"))
    return paths


def _simple(name: str) -> str:
    return re.sub(r"[\W_]", "", name).lower()


def _types(schema: object) -> set[str]:
    given = schema.get("type", ()) if isinstance(schema, dict) else ()
    return {given} if isinstance(given, str) else set(given)


def _is_scalar(schema: object) -> bool:
    return not {"object", "array"} & _types(schema) or "string" in _types(schema)


def _may_be_object(schema: object) -> bool:
    types = _types(schema)
    return not types or "object" in types
