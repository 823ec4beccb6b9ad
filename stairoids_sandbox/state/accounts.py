"""Match signals to accounts by domain, and to contacts by email address."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stairoids_sandbox.ids import id_for
from stairoids_sandbox.state.models import Account, Contact

if TYPE_CHECKING:
    from stairoids_sandbox.state.signal_request import SignalRequest

# Mail providers, whose domain does not identify the company of a person.
_FREE_MAIL = frozenset(
    {"gmail.com", "googlemail.com", "outlook.com", "hotmail.com", "yahoo.com"}
    | {"icloud.com", "live.com", "proton.me", "protonmail.com", "gmx.de"}
)


def domain_of(request: SignalRequest) -> str:
    """Return the domain of the signal's account, or an empty string.

    It is ``account.domain``, else the domain of the email.
    """
    if request.account.domain:
        return request.account.domain
    _, _, domain = request.contact.email.rpartition("@")
    return "" if domain in _FREE_MAIL else domain


class Accounts:
    """The accounts and contacts. The first signal that names one adds it."""

    def __init__(self) -> None:
        self._accounts: dict[str, Account] = {}
        self._contacts: dict[str, Contact] = {}

    def account_for(self, request: SignalRequest) -> Account | None:
        """Return the account; None if the signal names no company."""
        domain = domain_of(request)
        known_by = domain or ("" if request.contact.email else request.account.name)
        if known_by and known_by not in self._accounts:
            self._accounts[known_by] = Account(
                id=id_for("acc", known_by),
                domain=domain or None,
                name=request.account.name or None,
            )
        return self._accounts.get(known_by)

    def contact_for(self, request: SignalRequest) -> Contact | None:
        """Return the contact; None if the signal names no person."""
        fields = request.contact
        if fields.email and fields.email not in self._contacts:
            self._contacts[fields.email] = Contact(
                id=id_for("con", fields.email),
                email=fields.email,
                first_name=fields.first_name or None,
                last_name=fields.last_name or None,
            )
        return self._contacts.get(fields.email)
