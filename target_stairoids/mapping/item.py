"""One item of the setting `signals`: how a stream's records become signals."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

Json = Any  # any JSON value; narrowed where it is read
#: A template. Null leaves the field out; without a template the field is inferred.
_Text = str | None | UnsetType
_Names = dict[str, Json]
_Name = Annotated[str, Meta(min_length=1)]


class _Part(
    msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True
):
    """A part of the setting `signals`, encoded without unset fields."""


class AccountTemplates(_Part, frozen=True):
    """How the account of a signal is filled."""

    domain: Annotated[_Text, Meta(description="The company's domain.")] = UNSET
    name: Annotated[_Text, Meta(description="The company's name.")] = UNSET


class ContactTemplates(_Part, frozen=True):
    """How the contact of a signal is filled."""

    email: Annotated[_Text, Meta(description="The person's email address.")] = UNSET
    first_name: Annotated[_Text, Meta(description="The person's first name.")] = UNSET
    last_name: Annotated[_Text, Meta(description="The person's last name.")] = UNSET


class MappingItem(_Part, frozen=True):
    """One item of the setting `signals`; unset fields are inferred."""

    stream: Annotated[
        _Name,
        Meta(description="The stream's name, or a pattern with `*` and `?`."),
    ]
    name: Annotated[
        _Name | None,
        Meta(
            description="The mapping's name in the ledger. Without it the `type`; "
            "needed if one stream has two mappings of the same type."
        ),
    ] = None
    type: Annotated[
        _Text,
        Meta(
            description="The signal's type, as text or template. Without it the "
            "stream's name; `null` sends nothing of the stream."
        ),
    ] = UNSET
    source: Annotated[
        _Name | None,
        Meta(description="The signal's source. Without it the setting `source`."),
    ] = None
    account: Annotated[
        AccountTemplates | UnsetType | None,
        Meta(description="The company; `null` sends none."),
    ] = UNSET
    contact: Annotated[
        ContactTemplates | UnsetType | None,
        Meta(description="The person; `null` sends none."),
    ] = UNSET
    occurred_at: Annotated[
        _Text, Meta(description="When the event happened; `null` sends no time.")
    ] = UNSET
    properties: Annotated[
        Literal["*"] | _Names | tuple[str | _Names, ...] | UnsetType | None,
        Meta(
            description="The signal's properties: `*` for all other columns, a list "
            "of columns, or an object of names and templates. A list may hold such "
            "objects too. With `null` none are sent."
        ),
    ] = UNSET
    skip: Annotated[
        tuple[str, ...], Meta(description="Columns that never become properties.")
    ] = ()
    when: Annotated[
        _Name | None,
        Meta(description="A condition; records that do not meet it are filtered."),
    ] = None
    key: Annotated[
        tuple[str, ...],
        Meta(
            min_length=1,
            description="The columns that identify the entity. Without it the "
            "stream's key properties.",
        ),
    ] = ()
    send: Annotated[
        Literal["once", "on_change", "always"],
        Meta(
            description="When an entity is sent again: never (`once`), when its "
            "content changes (`on_change`), or with every new record (`always`)."
        ),
    ] = "on_change"
    ignore_changes: Annotated[
        tuple[str, ...] | None,
        Meta(
            description="Properties whose change alone sends nothing. Without it the "
            "columns that are named like the time of a row's last update."
        ),
    ] = None
