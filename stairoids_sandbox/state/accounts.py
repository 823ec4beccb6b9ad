"""The directory: accounts by domain, contacts by e-mail address.

A record is made by the first signal that names it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from stairoids_sandbox.ids import id_for
from stairoids_sandbox.state.models import Account, Contact

if TYPE_CHECKING:
    from stairoids_sandbox.state.signal_request import Draft

# Mail providers whose domain says nothing of the person's company.
_FREE_MAIL = frozenset(
    {"gmail.com", "googlemail.com", "outlook.com", "hotmail.com", "yahoo.com"}
    | {"icloud.com", "live.com", "proton.me", "protonmail.com", "gmx.de"}
)


def domain_of(draft: Draft) -> str | None:
    """Say which domain a signal is matched by: its own, else its e-mail's."""
    if draft.domain is not None or draft.email is None:
        return draft.domain
    _, _, domain = draft.email.rpartition("@")
    return domain if domain and domain not in _FREE_MAIL else None


class Directory:
    """Find or make the account and the contact a signal is about."""

    def __init__(self) -> None:
        self._accounts: dict[str, Account] = {}
        self._contacts: dict[str, Contact] = {}

    def __len__(self) -> int:
        return len(self._accounts) + len(self._contacts)

    def account_for(self, draft: Draft) -> Account | None:
        """Find or make the account; None if the signal names no company."""
        domain = domain_of(draft)
        if domain is None:
            return None
        account = self._accounts.get(domain)
        if account is None:
            account = Account(
                id=id_for("acc", domain), domain=domain, name=draft.account_name
            )
            self._accounts[domain] = account
        return account

    def contact_for(self, draft: Draft) -> Contact | None:
        """Find or make the contact; None if the signal names no person."""
        email = draft.email
        if email is None:
            return None
        contact = self._contacts.get(email)
        if contact is None:
            contact = Contact(
                id=id_for("con", email),
                email=email,
                first_name=draft.first_name,
                last_name=draft.last_name,
            )
            self._contacts[email] = contact
        return contact
