"""One item of the setting `signals`: how a stream's records become signals."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

#: The stream of the signals of `send --json`. A person sends each, so no check applies.
BY_HAND = "stairoids-signals-send"
#: A template. Null leaves the field out; without a template the field is inferred.
_Text = str | None | UnsetType
Name = Annotated[str, Meta(pattern=r"\S")]
_Computed = dict[str, Any]
_Properties = Literal["*"] | _Computed | tuple[str | _Computed, ...] | UnsetType | None


class _Part(
    msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True
):
    """A part of the setting `signals`, encoded without unset fields."""


class AccountTemplates(_Part, frozen=True):
    """The templates of a signal's account.

    Attributes:
        domain: The company's domain.
        name: The company's name. If a mapping names neither the domain nor the
            person's address, a record that has neither is sent with the name alone.
    """

    domain: _Text = UNSET
    name: _Text = UNSET


class ContactTemplates(_Part, frozen=True):
    """The templates of a signal's contact.

    Attributes:
        email: The person's email address.
        first_name: The person's first name.
        last_name: The person's last name.
    """

    email: _Text = UNSET
    first_name: _Text = UNSET
    last_name: _Text = UNSET


class MappingItem(_Part, frozen=True):
    """One item of the setting `signals`; unset fields are inferred.

    Attributes:
        stream: The stream's name, or a pattern with `*` and `?`.
        name: The mapping's name in the ledger. Without it the `type`; needed if one
            stream has two mappings of the same type.
        type: The signal's type, as text or template. Without it the stream's name;
            `null` sends nothing of the stream.
        source: The signal's source. Without it the setting `source`.
        account: The company; `null` sends none.
        contact: The person; `null` sends none.
        occurred_at: When the event happened; `null` sends no time.
        properties: The signal's properties: `*` for all other columns, a list of
            columns, or an object of names and templates. A list may hold such objects
            too. With `null` none are sent.
        skip: Columns that never become properties.
        when: A condition; records that do not meet it are filtered. Without it,
            records that are deleted, opted out or without consent; `null` filters none.
        key: The columns that identify the entity. Without it the stream's key
            properties.
        send: When an entity is sent again: never (`once`), when its content changes
            (`on_change`), or with every new record (`always`).
        ignore_changes: Properties whose change alone sends nothing. Without it the
            columns that are named like the time of a row's last update.
        bulk_changes: `expected` if many records of the stream may change at once.
        suppress: A template for an email address or a domain that gets no signal from
            now on. The stream itself sends nothing. A deleted record, or one that
            `when` excludes, takes its entry off the list again.
    """

    stream: Name
    name: Name | None = None
    type: _Text = UNSET
    source: Name | None = None
    account: AccountTemplates | UnsetType | None = UNSET
    contact: ContactTemplates | UnsetType | None = UNSET
    occurred_at: _Text = UNSET
    properties: _Properties = UNSET
    skip: tuple[str, ...] = ()
    when: Name | UnsetType | None = UNSET
    key: Annotated[tuple[str, ...], Meta(min_length=1)] = ()
    send: Literal["once", "on_change", "always"] = "on_change"
    ignore_changes: tuple[str, ...] | None = None
    bulk_changes: Literal["check", "expected"] = "check"
    suppress: Name | UnsetType = UNSET

    @property
    def email(self) -> str | UnsetType | None:
        """The template of the person's address; unset if it is inferred."""
        contact = self.contact
        return contact.email if isinstance(contact, ContactTemplates) else contact

    @property
    def is_by_name(self) -> bool:
        """Whether the item names the company's name, and no domain and no address."""
        account = self.account
        return (
            isinstance(account, AccountTemplates)
            and isinstance(account.name, str)
            and not isinstance(account.domain, str)
            and not isinstance(self.email, str)
        )

    def mapping_name(self, stream: str) -> str:
        """Return the name of the item's mapping for a stream."""
        if self.suppress:
            return self.name or "suppress"
        return self.name or (isinstance(self.type, str) and self.type) or stream

    def without_use(self) -> list[str]:
        """Return the given fields that have no use beside `suppress`."""
        plain = MappingItem(stream=self.stream)
        return [
            name
            for name in self.__struct_fields__
            if name not in {"name", "when", "key", "suppress"}
            and getattr(self, name) != getattr(plain, name)
        ]
