"""Digests: short fingerprints that tell entities, states and contents apart.

An entity digest names the subject of a signal, a state digest one state of the entity,
a content digest the signal's content. Digests hold no personal data. They compare
numbers by value: 1 and 1.0 are equal.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from functools import lru_cache
from hashlib import blake2b, sha256
from typing import TYPE_CHECKING, Any

import msgspec

from target_stairoids.mapping.schema import LOG_POSITIONS

if TYPE_CHECKING:
    from target_stairoids.mapping.signal import Signal

#: Values nested deeper than this do not tell two records apart.
DEEPEST = 200

_encoder = msgspec.json.Encoder(decimal_format="number", order="sorted")
_PLAIN = frozenset({str, int, bool, type(None)})  # equal values have one spelling
_LONGEST_WHOLE_NUMBER = 400  # digits; 1E+9999999 as an integer would fill the memory


def _canonical(value: object, depth: int = 0) -> object:
    """Return a value in which equal numbers have one spelling."""
    if type(value) in _PLAIN:
        return value
    if isinstance(value, (Decimal, float)):
        return _number(value)
    if depth > DEEPEST:
        return "too deep"
    if isinstance(value, dict):
        return {n: _canonical(inner, depth + 1) for n, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_canonical(inner, depth + 1) for inner in value]
    return value


# Cached, because prices and shares repeat. Typed, because Python counts 0.1 and the
# float nearest to it as equal.
@lru_cache(maxsize=4096, typed=True)
def _number(value: Decimal | float) -> object:
    number = Decimal(repr(value)) if isinstance(value, float) else value
    if not number.is_finite():
        return ["number", str(number)]
    is_whole = number == number.to_integral_value()
    if is_whole and number.adjusted() < _LONGEST_WHOLE_NUMBER:
        return int(number)
    sign, digits, exponent = number.as_tuple()
    text = "".join(map(str, digits)).rstrip("0")
    return ["number", sign, text, int(exponent) + len(digits) - len(text)]


@lru_cache(maxsize=4096)
def canonical_number(text: str) -> object:
    """Return a number with a point or an exponent as `canonical_fields` returns it.

    Raises:
        ArithmeticError: The number is out of bounds.
    """
    return _number(Decimal(text))


def _digest(value: object) -> bytes:
    return blake2b(_text(value), digest_size=16).digest()


def _text(value: object) -> bytes:
    try:
        return _encoder.encode(value)
    except UnicodeEncodeError:  # half of a surrogate pair, which JSON can spell
        return json.dumps(value, sort_keys=True).encode()


def entity_digest(scope: str, stream: str, key: Sequence[object]) -> bytes:
    """Return the digest of a record's key, given its values.

    A whole number and its JSON text are the same key: 1, 1.0 and "1", but not "01".
    """
    digest = _of_stream(scope, stream).copy()
    digest.update(_text([v if type(v) is str else _key_part(v) for v in key]))
    return digest.digest()


@lru_cache(maxsize=1024)
def _of_stream(scope: str, stream: str) -> blake2b:
    return blake2b(_text([scope, stream]), digest_size=16)


def _key_part(value: object) -> object:
    same = value if type(value) in _PLAIN else _canonical(value)
    return str(same) if type(same) is int else same


def keyless_digest(scope: str, stream: str, identity: object) -> bytes:
    """Return the digest of a record without a usable key, given its identity."""
    return _digest([scope, stream, {"keyless": _canonical(identity)}])


def is_null_key(key: Sequence[object]) -> bool:
    """Return whether a key identifies nothing, because a part is null or empty."""
    for value in key:
        if type(value) is str:
            if not value or value.isspace():
                return True
        elif value is None or value in ([], {}):
            return True
    return False


@lru_cache(maxsize=4096)  # many people are of one company
def person_digest(secret: bytes, name: str | None) -> bytes | None:
    """Return the digest of an address or domain, keyed with the ledger's secret."""
    if not name:
        return None
    return blake2b(name.lower().encode(), digest_size=16, key=secret).digest()


def json_array(values: Sequence[object]) -> str:
    """Return a record's key as JSON, as databases write it: `[42]` or `["a",1]`."""
    text = json.dumps(values, ensure_ascii=False, separators=(",", ":"), default=str)
    return text.encode(errors="replace").decode()  # no half of a surrogate pair


def key_digest(array: str) -> str:
    """Return the SHA-256 of a key's JSON array, in hexadecimal digits."""
    return sha256(array.encode()).hexdigest()


def value_at(record: Mapping[str, Any], name: str) -> object:
    """Return a field, or the value at a path such as `user.email`; None if missing."""
    value = record.get(name)
    if value is not None or name in record:
        return value
    value = record
    for part in name.split("."):
        value = value.get(part) if isinstance(value, dict) else None
    return value


def canonical_fields(record: dict[str, Any]) -> dict[str, Any]:
    """Return a record's fields without `_sdc_*`, with one spelling for equal values."""
    if "_sdc_" in "\n".join(record):  # one search costs less than one per field
        record = {n: value for n, value in record.items() if n[:5] != "_sdc_"}
    odd = {
        name: _canonical(value)
        for name, value in record.items()
        if type(value) not in _PLAIN
    }
    return record | odd if odd else record


def keyed_digest(key: bytes, fields: dict[str, Any]) -> bytes:
    """Return the digest of canonical fields under a key of at most 64 bytes."""
    return blake2b(_text(fields), digest_size=16, key=key).digest()


def content_digest(signal: Signal, ignored: Collection[str | None]) -> bytes:
    """Return the digest of a signal's content. `occurred_at` is not part of it.

    Args:
        ignored: Properties that are not part of it: the bookmark column and the
            mapping's `ignore_changes`. The name of an object stands for all properties
            it was flattened to.
    """
    properties = {
        name: value if type(value) in _PLAIN else _canonical(value)
        for name, value in signal.properties.items()
        if name not in ignored
        and ("." not in name or name.partition(".")[0] not in ignored)
    }
    contact = {
        name: value.lower() if name == "email" else value
        for name, value in signal.contact.items()
    }
    return _digest([signal.type, signal.source, signal.account, contact, properties])


def bookmark_value(value: object) -> str | None:
    """Return a bookmark's value as a text that `is_before` compares.

    Numbers are compared as numbers, also those that a tap prints as text: "9" is before
    "10".
    """
    match value:
        case str():
            if value.isascii() and value.isdecimal():
                return f"n{value}"
            moment = _utc(value)
            return f"t{moment}" if moment else f"s{value}"
        case None | bool() | dict() | list():
            return None
        case int() | Decimal() | float():
            return f"n{value}" if Decimal(value).is_finite() else None
        case _:
            return f"s{value}"


@lru_cache(maxsize=4096)  # the value of one record is needed more than once
def _utc(text: str) -> str | None:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    try:
        return moment.astimezone(UTC).isoformat(timespec="microseconds")
    except OverflowError:
        return None


def log_position(record: Mapping[str, Any]) -> str | None:
    """Return a record's position in a log as `is_before` compares it; None if none."""
    for column, file_column in LOG_POSITIONS.items():
        parts = _log_parts(record.get(column))
        if parts is not None and file_column is not None:
            number = re.search(r"\d+$", str(record.get(file_column) or ""))
            parts = [int(number[0]), *parts] if number else None
        if parts is not None:
            place = ".".join(f"{part:020d}" for part in parts)
            return f"l{column}/{len(parts)} {place}"
    return None


def _log_parts(value: object) -> list[int] | None:
    """Return the numbers of a position: 42, "42", "16/B374D848" or "2A:1A8:2"."""
    if isinstance(value, (int, float, Decimal)) and not isinstance(value, bool):
        return [int(value)] if Decimal(value).is_finite() and value >= 0 else None
    if not isinstance(value, str):
        return None
    if value.isascii() and value.isdecimal():
        return [int(value)]
    parts = re.split(r"[/:]", value.removeprefix("0x"))
    if not all(re.fullmatch(r"[0-9A-Fa-f]{1,16}", part) for part in parts):
        return None
    return [int(part, 16) for part in parts]


def is_log_position(value: str | None) -> bool:
    """Return whether a bookmark value is a position in a log."""
    return value is not None and value[0] == "l"


def are_ordered(one: str | None, other: str | None) -> bool:
    """Return whether two bookmark values have a known order.

    Values of different kinds have none. Nor have texts that are neither numbers nor
    times: "v10" may come before or after "v9".
    """
    if one is None or other is None or one[0] != other[0]:
        return False
    if one[0] == "l":
        return one.partition(" ")[0] == other.partition(" ")[0]
    return one[0] != "s"


def is_before(one: str | None, other: str | None) -> bool:
    """Return whether a bookmark value is certainly older than another."""
    if one is None or other is None or not are_ordered(one, other):
        return False
    if one[0] == "n":
        return Decimal(one[1:]) < Decimal(other[1:])
    return one < other


def same_value(one: object, other: object) -> bool:
    """Return whether two JSON values are equal, numbers compared by value."""
    return _text(_canonical(one)) == _text(_canonical(other))
