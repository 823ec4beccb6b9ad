"""Signals, and the compiled mappings that make signals of records.

The rules are those of https://docs.stairoids.com/integrations/custom-api and
`/api-reference/signals/send-signal`; the stricter one where the two pages differ.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import msgspec

from target_stairoids.exceptions import InvalidSignalError
from target_stairoids.mapping.expressions.paths import Path
from target_stairoids.mapping.expressions.template import (
    Fields,
    Reader,
    Template,
    compile_template,
    constant,
)
from target_stairoids.mapping.people_and_companies import is_domain, is_email
from target_stairoids.mapping.privacy import (
    READERS,
    HiddenColumns,
    consent_filter,
    may_refuse,
)
from target_stairoids.mapping.schema import ColumnSet
from target_stairoids.mapping.values import is_filled, json_bytes

Scalar = str | bool | int | float | Decimal
Json = Any  # any JSON value; narrowed where it is read

BY_WHEN = "by `when`"  # why a record is filtered

_TIME = re.compile(r"^\d{4}-\d\d-\d\dT.*Z$")
_SCALARS: tuple[type, ...] = (str, int, float, Decimal)
_NESTED = frozenset({dict, list})
_NUMBERS = (int, float, Decimal)

Selection = Callable[[Fields], dict[str, Any]]


class Signal(msgspec.Struct, frozen=True, kw_only=True):
    """One signal, normalised.

    Attributes:
        account: `domain` and `name`, without those that are unknown.
        properties: Flat; strings, numbers and booleans only.
        occurred_at: RFC 3339 in UTC; with None, Stairoids takes the current time.
        is_by_name: Whether `account.name` is enough to name the company.
    """

    type: str
    source: str
    account: Mapping[str, str]
    contact: Mapping[str, str]
    properties: Mapping[str, Scalar]
    occurred_at: str | None = None
    is_by_name: bool = False

    def body(self) -> dict[str, Json]:
        """Return the JSON object of the request, without empty fields."""
        body: dict[str, Json] = {"type": self.type, "source": self.source}
        for name in ("account", "contact", "properties", "occurred_at"):
            value = getattr(self, name)
            if value:
                body[name] = dict(value) if isinstance(value, Mapping) else value
        return body

    def checked_text(self) -> bytes:
        """Return the request's JSON text; `InvalidSignalError` for a broken rule."""
        if rule := self._broken_rule():
            raise InvalidSignalError(rule)
        return json_bytes(self.body())

    def _broken_rule(self) -> str | None:
        account = {f"account.{name}": text for name, text in self.account.items()}
        contact = {f"contact.{name}": text for name, text in self.contact.items()}
        texts = {"type": self.type, "source": self.source, **account, **contact}
        for name, text in texts.items():
            if not text:
                return f"{name}: must not be empty"
            if "\0" in text:  # PostgreSQL takes no such text
                return f"{name}: has the character NUL"
        domain, email = self.account.get("domain"), self.contact.get("email")
        is_named = self.is_by_name and "name" in self.account
        if domain is None and email is None and not is_named:
            return "neither account.domain nor contact.email is known"
        if domain is not None and not is_domain(domain):
            return "account.domain: not a domain such as example.com"
        if email is not None and not is_email(email):
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


@dataclass(frozen=True, slots=True)
class Origin:
    """How a field is filled; `why` is `mapping`, or a reason of inference."""

    template: str
    why: str


class ColumnRoles(msgspec.Struct, frozen=True, kw_only=True):
    """The columns of a stream by their part in the digests of its records.

    Attributes:
        takes_all: Whether its properties select all other columns.
        reads_record: Whether a template reads the whole record.
        loaders: Columns that loaders write at every sync and the mapping does not use.
        stateless: These and the key's columns. They are no part of a record's state.
        unsent: Columns that have no part in a signal's content.
        ignored: These and the columns of the key.
        knows_content: Whether `unsent` has all such columns.
        has_bookmark: Whether a bookmark column is part of a record's state.
        touched: Columns that change while a record without a key stays the same one.
    """

    read: frozenset[str]
    named: frozenset[str]
    takes_all: bool
    reads_record: bool
    hidden: HiddenColumns
    loaders: ColumnSet
    stateless: ColumnSet
    content: frozenset[str]
    unsent: frozenset[str]
    ignored: ColumnSet
    knows_content: bool
    has_bookmark: bool
    touched: ColumnSet

    def ignored_with(self, key: Iterable[str]) -> ColumnSet:
        """Return the columns whose change alone does not change a signal's content.

        The columns of a key are among them, unless a template reads them. A column of
        the key that is sent as it is may change its type, or be null.
        """
        unread = set() if self.reads_record else set(key) - self.content
        return ColumnSet(self.unsent | unread, self.loaders.used)

    def identifies(self, name: str) -> bool:
        """Return whether a column is part of a record's identity without a key."""
        if name in self.touched:
            return False
        is_used = self.reads_record or name in self.read or name in self.named
        return is_used or (self.takes_all and not self.hidden[name])

    def identity_of(self, record: Fields) -> dict[str, Any]:
        """Return the used part of a record, which is its identity without a key.

        Null and blank values are no part of it, and addresses are in lower case.
        """
        return {
            name: value.lower() if isinstance(value, str) and "@" in value else value
            for name, value in record.items()
            if value not in (None, "")
            and self.identifies(name)
            and (type(value) not in _NESTED or name in self.read)
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class CompiledMapping:
    """One mapping of one stream, compiled.

    Attributes:
        key: Its columns; empty if the whole record identifies the entity.
        when: Reads whether a record becomes a signal; None for every record.
        excludes: Expression -> the reader of whether it excludes a record.
        listed: The columns of the SCHEMA. Others may exclude a record; with None, none.
        paths: Those of the mapping's own templates, for warnings about missing columns.
        is_by_name: Whether `account.name` is enough to name a company.
        is_left_out: Whether no record of the stream can become a signal.
        not_inferred: Why the stream needs a mapping of its own; "" if it does not.
        suppress: Reads the address or domain that a record puts on the suppression
            list; None if the mapping makes signals.
        has_unread_time: Whether a record has a time that cannot be read; None for no.
        time_columns: Columns of `occurred_at` that are properties if they are no times.
    """

    name: str
    mapping_digest: bytes
    key: tuple[str, ...]
    send: str
    bulk_changes: str
    ignore_changes: frozenset[str]
    type: Reader
    source: Reader
    account: Mapping[str, Reader]
    contact: Mapping[str, Reader]
    occurred_at: Reader
    properties: Callable[[Fields], dict[str, Any]]
    when: Reader | None
    excludes: Mapping[str, Reader]
    listed: frozenset[str] | None
    hidden: HiddenColumns
    paths: frozenset[Path]
    origins: Mapping[str, Origin]
    has_own_key: bool
    columns: ColumnRoles
    is_by_name: bool
    is_left_out: bool
    has_unread_time: Callable[[Fields], bool] | None
    time_columns: frozenset[str]
    warnings: tuple[str, ...]
    not_inferred: str = ""
    suppress: Reader | None = None
    deleted_columns: tuple[str, ...] = ()

    @property
    def makes_signals(self) -> bool:
        """Whether records of the stream can become signals."""
        return not self.is_left_out and self.suppress is None

    @property
    def constant_source(self) -> str | None:
        """The source of all its signals; None if records decide on it."""
        template = compile_template(self.origins["source"].template, "source")
        if template.paths or template.reads_record:
            return None
        try:
            source = self.source({})
        except InvalidSignalError:  # so each record is invalid
            return None
        return str(source) if source else None

    def names(self, record: Fields) -> list[str]:
        """Return each entry of a suppression list that would hide a record's signal."""
        account, contact = self.account, self.contact
        return names_of(_present(account, record), _present(contact, record))

    def person_in(self, record: Fields) -> tuple[str | None, str | None]:
        """Return the address and the domain of a record, where they can be read."""
        email = _present(self.contact, record).get("email", "")
        domain = _present(self.account, record).get("domain", "")
        return email if is_email(email) else None, domain if is_domain(domain) else None

    def may_filter(self, columns: tuple[str, ...]) -> bool:
        """Return whether a record with these columns may become no signal."""
        if self.when is not None or self.excludes:
            return True
        is_listed = self.listed is None or self.listed.issuperset(columns)
        return not is_listed and may_refuse(columns)

    def why_filtered(self, record: Fields) -> str:
        """Return why a record becomes no signal; "" if it becomes one."""
        if self.when is not None and not self.when(record):
            return BY_WHEN
        for expression, read in self.excludes.items():
            if read(record):
                return f"by `{expression}`"
        if self.listed is not None:
            for name, value in record.items():
                kind = None if name in self.listed else consent_filter(name)
                if kind and READERS[kind](value):
                    return f"by `{name} | {kind}`"
        return ""

    def signal_from(self, record: Fields) -> Signal:
        """Return an unchecked signal; `InvalidSignalError` for a wrong value."""
        try:
            properties = self.properties(record)
        except RecursionError as error:
            raise InvalidSignalError("properties: nested too deeply") from error
        contact = _present(self.contact, record)
        occurred_at = self.occurred_at(record)
        if occurred_at is None and self.time_columns:
            found = {name: record.get(name) for name in self.time_columns}
            properties |= {n: value for n, value in found.items() if is_filled(value)}
        return Signal(
            type=self.type(record) or "",
            source=self.source(record) or "",
            account=_present(self.account, record),
            contact=contact if "email" in contact else {},
            properties=flat_properties(properties),
            occurred_at=occurred_at,
            is_by_name=self.is_by_name,
        )


def names_of(account: Mapping[str, str], contact: Mapping[str, str]) -> list[str]:
    """Return each entry that would suppress a signal, given clean values.

    These are the address, and the domains of address and company with their parents.
    """
    address = (contact.get("email") or "").lower()
    hosts = [address.rpartition("@")[2], (account.get("domain") or "").lower()]
    names = [address] if address else []
    for host in dict.fromkeys(filter(None, hosts)):
        labels = host.split(".")
        names += [".".join(labels[start:]) for start in range(max(1, len(labels) - 1))]
    return names


def names_in(signal: bytes) -> list[str]:
    """Return `names_of` a signal, given its JSON text."""
    body = msgspec.json.decode(signal)
    return names_of(body.get("account", {}), body.get("contact", {}))


def _present(readers: Mapping[str, Reader], record: Fields) -> dict[str, str]:
    found = {}
    for name, read in readers.items():  # a comprehension would take twice as long
        value = read(record)
        if value is not None:
            found[name] = value
    return found


def normalised(read: Reader, normalise: Callable[[Any], Any]) -> Reader:
    """Return a reader that normalises the values of another one."""
    return lambda record: normalise(read(record))


def reader_of(
    value: object,
    name: str,
    compile_text: Callable[[str, str], Template],
    hidden: HiddenColumns,
) -> Reader:
    """Return a reader of a property, whose texts are templates, also inside objects."""
    if isinstance(value, str):
        read = compile_text(f"properties.{name}", value).read
        return lambda record: hidden.public(name, read(record))
    if isinstance(value, dict):
        fields = {
            inner: reader_of(given, f"{name}.{inner}", compile_text, hidden)
            for inner, given in value.items()
        }
        return lambda record: {inner: read(record) for inner, read in fields.items()}
    if isinstance(value, list):
        items = [reader_of(given, name, compile_text, hidden) for given in value]
        return lambda record: [read(record) for read in items]
    return constant(value)


def selection(
    hidden: HiddenColumns,
    columns: list[str],
    computed: Mapping[str, Reader],
    *,
    takes_all: bool,
) -> Selection:
    """Return a function that selects a record's properties, without private fields."""

    def selected(record: Fields) -> dict[str, Any]:
        found: Fields = {}
        if takes_all:
            found = {
                name: value
                for name, value in record.items()
                if type(value) not in _NESTED and not hidden[name]
            }
        for name in columns:
            value = record.get(name)
            is_nested = type(value) in _NESTED
            found[name] = hidden.public(name, value) if is_nested else value
        for name, read in computed.items():
            found[name] = read(record)
        return found

    return selected


def flat_properties(properties: Mapping[str, Json]) -> dict[str, Scalar]:
    """Return flat properties, without null and blank text.

    Objects become `name.field`, and lists JSON text.
    """
    flat: dict[str, Scalar] = {}
    try:
        _flatten(properties, "", flat)
    except RecursionError as error:
        raise InvalidSignalError("properties: nested too deeply") from error
    return flat


def _flatten(values: Mapping[str, Json], prefix: str, flat: dict[str, Scalar]) -> None:
    for name, value in values.items():
        key = f"{prefix}{name}" if prefix else name
        if value is None or (type(value) is str and (not value or value.isspace())):
            continue
        is_scalar = isinstance(value, _SCALARS)
        if not is_scalar and isinstance(value, Mapping):
            _flatten(value, f"{key}.", flat)
            continue
        if type(value) is not str and not _is_finite(value):
            raise InvalidSignalError(
                f"properties.{key}: not a number that a double holds"
            )
        scalar = value if is_scalar else json_bytes(value).decode()
        if flat.setdefault(key, scalar) != scalar:
            raise InvalidSignalError(f"properties.{key}: two values have this name")


def _is_finite(value: Json) -> bool:
    """Return whether a double holds all numbers of a value, as readers of JSON need."""
    if isinstance(value, _NUMBERS):
        try:
            return math.isfinite(value)
        except (OverflowError, ValueError):  # a large int, a signalling NaN
            return False
    if isinstance(value, dict):
        return all(map(_is_finite, value.values()))
    if isinstance(value, list | tuple):
        return all(map(_is_finite, value))
    return True
