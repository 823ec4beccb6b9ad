"""One entry of the suppression list: the address of a person, or a domain."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from target_stairoids.exceptions import InvalidSignalError
from target_stairoids.mapping.people_and_companies import (
    clean_domain,
    clean_email,
    registrable_domain,
    stands_for_nothing,
)

#: Columns of loaders and of applications that mark a row as deleted.
DELETED_COLUMNS = (
    "_sdc_deleted_at",
    "_ab_cdc_deleted_at",
    "_fivetran_deleted",
    "__deleted",
    "deleted_at",
    "is_deleted",
    "deleted",
)
#: Values that mark nothing, also MySQL's time `0000-00-00 00:00:00`.
_FALSE = re.compile(r"(?:false|f|no|n|none|null|0[0.:t -]*z?)?")


def entry_of(text: str) -> str | None:
    """Return an email address or a domain, in lower case; None if the text is neither.

    `mail.acme.com` stands for the company's whole domain `acme.com`, as in accounts.
    """
    if email := clean_email(text):
        return email.lower()
    if "@" in text.strip("@<>\"' "):
        return None  # no address, and not only the domain behind an `@`
    domain = clean_domain(text)
    return domain and (registrable_domain(domain) or domain)


def entry_from(value: object) -> str | None:
    """Return the entry in a value of a record; None for a value without text.

    Raises:
        InvalidSignalError: The value is neither an email address nor a domain.
    """
    if value is None or (isinstance(value, str) and stands_for_nothing(value)):
        return None
    # A `*` is refused, because digests match no pattern.
    if isinstance(value, str) and "*" not in value and (entry := entry_of(value)):
        return entry
    raise InvalidSignalError("suppress: neither an email address nor a domain")


def names_of(account: Mapping[str, str], contact: Mapping[str, str]) -> list[str]:
    """Return each entry that would suppress a signal.

    These are the address, and the domains of address and company with their parents.
    The values are those of a signal, so they are clean.
    """
    address = (contact.get("email") or "").lower()
    hosts = [address.rpartition("@")[2], (account.get("domain") or "").lower()]
    names = [address] if address else []
    for host in dict.fromkeys(filter(None, hosts)):
        labels = host.split(".")
        names += [".".join(labels[start:]) for start in range(max(1, len(labels) - 1))]
    return names


def is_deleted(record: Mapping[str, Any], columns: tuple[str, ...]) -> bool:
    """Return whether one of the columns marks a record as deleted."""
    return any(
        not _FALSE.fullmatch(str(record[name]).strip().lower())
        for name in columns
        if record.get(name) is not None
    )
