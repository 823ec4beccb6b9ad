"""Mappings: how a stream's records become signals.

A `Mapping` is compiled once per SCHEMA from one item of the setting `signals`, with
what the item leaves out filled by `inference`; afterwards a record costs a few
dictionary look-ups. Mistakes are found here, before the first record.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from hashlib import blake2b
from typing import TYPE_CHECKING, Any

from target_stairoids import inference
from target_stairoids.exceptions import ConfigError, InvalidSignalError
from target_stairoids.mistakes import suggestion
from target_stairoids.signal import (
    Scalar,
    Signal,
    domain_from,
    email_from,
    flat_properties,
    likely_domain_from,
    likely_email_from,
    text_from,
    time_from,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

Record = dict[str, Any]
Reader = Callable[[Record], Any]

_LENIENT = {"account.domain": likely_domain_from, "contact.email": likely_email_from}
_BRACES = re.compile(r"\{\{(.*?)\}\}", re.DOTALL)
_MARKS = re.compile(r"\{[{%#]|[}%#]\}")
_PATH = re.compile(r"\s*[^\W\d]\w*(\s*\.\s*[^\W\d]\w*)*\s*")


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamShape:
    """What a SCHEMA message says about a stream.

    Attributes:
        properties: The schema's `properties`; empty for an open schema.
        bookmark: The one bookmark column, if there is exactly one.
        allows_more: Whether the schema says `additionalProperties`.
    """

    name: str
    properties: Mapping[str, Any]
    key_properties: tuple[str, ...]
    bookmark: str | None = None
    allows_more: bool = False

    @property
    def is_open(self) -> bool:
        """Whether records may hold fields the schema does not name."""
        return self.allows_more or not self.properties


@dataclass(frozen=True, slots=True, kw_only=True)
class SignalMap:
    """One mapping of one stream, compiled.

    Attributes:
        name: Names the mapping in the ledger.
        fingerprint: Changes whenever the mapping does.
        key: The fields that say what a signal is about; empty for the whole record.
        send: `once`, `on_change` or `always`.
        ignore_changes: Properties whose change alone is no news.
        reasons: Signal field -> how it is filled, in words, for the operator.
    """

    name: str
    fingerprint: bytes
    key: tuple[str, ...]
    send: str
    ignore_changes: frozenset[str]
    type: str | None
    source: str
    account: Mapping[str, Reader]
    contact: Mapping[str, Reader]
    occurred_at: Reader | None
    properties: Callable[[Record], dict[str, Any]]
    reasons: Mapping[str, str]

    @property
    def says_nothing(self) -> bool:
        """Whether no record of the stream can become a signal."""
        return self.type is None or (
            "domain" not in self.account and "email" not in self.contact
        )

    def signal_from(self, record: Record) -> Signal:
        """Return the record's signal, normalised but not yet held to the contract.

        Raises:
            InvalidSignalError: A value cannot be sent; the reason names the field.
        """
        occurred_at = self.occurred_at(record) if self.occurred_at else None
        return Signal(
            type=self.type or "",
            source=self.source,
            account=_present(self.account, record),
            contact=_present(self.contact, record),
            properties=flat_properties(self.properties(record)),
            occurred_at=occurred_at,
        )


def _present(readers: Mapping[str, Reader], record: Record) -> dict[str, str]:
    values = ((name, read(record)) for name, read in readers.items())
    return {name: value for name, value in values if value is not None}


def maps_for(
    shape: StreamShape, items: Sequence[Mapping[str, Any]], default_source: str
) -> list[SignalMap]:
    """Compile the mappings of one stream.

    The first item whose glob matches decides the glob, and all items with that same
    text apply; a stream that no item matches is inferred whole.

    Raises:
        ConfigError: A mapping is wrong; the message names stream, key and remedy.
    """
    matching = next(
        (i["stream"] for i in items if fnmatchcase(shape.name, i["stream"])), None
    )
    chosen = [item for item in items if item["stream"] == matching] or [{}]
    maps = [_Compiler(shape, item, default_source).compile() for item in chosen]
    names = [signal_map.name for signal_map in maps]
    for name in names:
        if names.count(name) > 1:
            msg = (
                f"Stream `{shape.name}`: two mappings are named `{name}`; give each "
                "its own `name`, because the ledger tells them apart by it."
            )
            raise ConfigError(msg)
    return maps


class _Compiler:
    """Compile one item of `signals` for one stream."""

    def __init__(
        self, shape: StreamShape, item: Mapping[str, Any], default_source: str
    ) -> None:
        self._shape = shape
        self._item = item
        self._default_source = default_source
        self._reasons: dict[str, str] = {}
        self._used: set[str] = set()
        self._computed_names: set[str] = set()

    def compile(self) -> SignalMap:
        """Return the compiled mapping."""
        item, shape = self._item, self._shape
        signal_type = item.get("type", shape.name)
        for field, text in (("type", signal_type), ("source", item.get("source"))):
            if text is not None and _MARKS.search(text):
                msg = f"{self._where(field)} is a text; templates are for values."
                raise ConfigError(msg)
        self._reasons["type"] = "mapping" if "type" in item else "the stream's name"
        key = tuple(item.get("key") or shape.key_properties)
        for name in key:
            self._check_field(name, "key")
        account = self._group("account", {"domain": domain_from, "name": text_from})
        contact = self._group(
            "contact",
            {"email": email_from, "first_name": text_from, "last_name": text_from},
        )
        occurred_at = self._occurred_at()
        properties = self._properties()
        for name in item.get("ignore_changes", ()):
            if name not in self._computed_names:
                self._check_field(name, "ignore_changes")
        canonical = json.dumps([item, self._default_source], sort_keys=True)
        return SignalMap(
            name=item.get("name") or signal_type or shape.name,
            fingerprint=blake2b(canonical.encode(), digest_size=16).digest(),
            key=key,
            send=item.get("send", "on_change"),
            ignore_changes=frozenset(item.get("ignore_changes", ())),
            type=signal_type,
            source=item.get("source") or self._default_source,
            account=account,
            contact=contact,
            occurred_at=occurred_at,
            properties=properties,
            reasons=self._reasons,
        )

    def _group(
        self, group: str, fields: Mapping[str, Callable[[object], str | None]]
    ) -> dict[str, Reader]:
        """Compile `account` or `contact`."""
        given = self._item.get(group, {})
        if given is None:
            return {}
        readers = {}
        for name, normalise in fields.items():
            field = f"{group}.{name}"
            if name not in given:
                # A wrong guess costs the field, not the record.
                read = self._inferred(field, _LENIENT.get(field, normalise))
                if read is not None:
                    readers[name] = read
            elif given[name] is not None:
                readers[name] = _through(normalise, self._template(given[name], field))
        return readers

    def _occurred_at(self) -> Reader | None:
        if "occurred_at" in self._item:
            template = self._item["occurred_at"]
            if template is None:
                return None
            read = self._template(template, "occurred_at")
            return _through(time_from, read)
        return self._inferred("occurred_at", _time_or_none)

    def _inferred(
        self, field: str, normalise: Callable[[object], str | None]
    ) -> Reader | None:
        paths = inference.paths_for(field, self._shape.properties)
        if not paths:
            return None
        self._reasons[field] = "inferred from " + ", ".join(map(".".join, paths))
        self._used.update(path[0] for path in paths if len(path) == 1)
        readers = [_through(normalise, _path_reader(path)) for path in paths]
        return readers[0] if len(readers) == 1 else _first_of(readers)

    def _template(self, text: str, field: str) -> Reader:
        """Compile a text that may hold `{{ path }}`; one whole path keeps its type."""
        self._reasons[field] = "mapping"
        pieces = _BRACES.split(text)
        if any(_MARKS.search(piece) for piece in pieces[0::2]):
            msg = (
                f"{self._where(field)} holds a template that is not understood; write "
                "`{{ email }}`, with two braces on either side."
            )
            raise ConfigError(msg)
        for expression in pieces[1::2]:
            if not _PATH.fullmatch(expression):
                msg = (
                    f"{self._where(field)} holds the expression "
                    f"`{expression.strip()}`; only a path such as "
                    "`{{ email }}` or `{{ user.email }}` is understood."
                )
                raise ConfigError(msg)
        paths = [
            tuple(part.strip() for part in expression.split("."))
            for expression in pieces[1::2]
        ]
        for path in paths:
            self._check_field(path[0], field)
            self._used.add(path[0])
        if not paths:
            return _constant(text)
        if len(paths) == 1 and not pieces[0].strip() and not pieces[2].strip():
            return _path_reader(paths[0])
        return _text_of(pieces[0::2], [_path_reader(path) for path in paths])

    def _properties(self) -> Callable[[Record], dict[str, Any]]:
        """Compile `properties`: `"*"`, a list, a mapping or nothing."""
        given = self._item.get("properties", "*")
        if given is None:
            return lambda _record: {}
        entries = [given] if isinstance(given, str | dict) else given
        readers: dict[str, Reader] = {}
        for entry in entries:
            if isinstance(entry, dict):
                readers |= self._computed(entry)
            elif entry != "*":
                self._check_field(entry, "properties")
                readers[entry] = _field_reader(entry)
        skip = self._item.get("skip", ())
        for name in skip:
            self._check_field(name, "skip")
        if "*" not in entries:
            return lambda record: {name: read(record) for name, read in readers.items()}
        hidden = frozenset(self._used | set(skip))
        if not readers:
            return lambda record: _scalars(record, hidden)
        return lambda record: (
            _scalars(record, hidden)
            | {name: read(record) for name, read in readers.items()}
        )

    def _computed(self, entry: Mapping[str, Any]) -> dict[str, Reader]:
        readers: dict[str, Reader] = {}
        self._computed_names.update(entry)
        for name, value in entry.items():
            if isinstance(value, str):
                readers[name] = self._template(value, f"properties.{name}")
            else:
                readers[name] = _constant(value)
        return readers

    def _check_field(self, name: str, field: str) -> None:
        known = self._shape.properties
        if self._shape.is_open or name in known:
            return
        msg = (
            f"{self._where(field)}: `{name}` is not a property of "
            f"`{self._shape.name}`{suggestion(name, known)}"
        )
        raise ConfigError(msg)

    def _where(self, field: str) -> str:
        return f"Stream `{self._shape.name}`: `{field}` of its mapping"


def _constant(value: object) -> Reader:
    return lambda _record: value


def _field_reader(name: str) -> Reader:
    return lambda record: record.get(name)


def _path_reader(path: tuple[str, ...]) -> Reader:
    if len(path) == 1:
        return _field_reader(path[0])

    def read(record: Record) -> object:
        value: Any = record
        for name in path:
            if not isinstance(value, dict):
                return None
            value = value.get(name)
        return value

    return read


def _first_of(readers: Sequence[Reader]) -> Reader:
    def read(record: Record) -> object:
        values = (read_one(record) for read_one in readers)
        return next((value for value in values if value is not None), None)

    return read


def _text_of(texts: Sequence[str], readers: Sequence[Reader]) -> Reader:
    def read(record: Record) -> str:
        values = (text_from(read_one(record)) or "" for read_one in readers)
        between = zip(values, texts[1:], strict=True)
        return texts[0] + "".join(value + text for value, text in between)

    return read


def _through(normalise: Callable[[object], str | None], read: Reader) -> Reader:
    return lambda record: normalise(read(record))


def _time_or_none(value: object) -> str | None:
    """Return the time of an inferred field; what is no time was a wrong guess."""
    try:
        return time_from(value)
    except InvalidSignalError:
        return None


def _scalars(record: Record, hidden: frozenset[str]) -> dict[str, Scalar]:
    return {
        name: value
        for name, value in record.items()
        if not isinstance(value, dict | list)
        and name not in hidden
        and not name.startswith("_sdc_")
    }
