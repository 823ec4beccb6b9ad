"""Identity: what makes two signals the same, as digests.

`entity` is what a signal is about, `version` one state of it, `content` what would be
said and `position` where the state stands in time. Digests hold no personal data and
compare numbers by value: 1 and 1.0 are one key, "1" is another.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from decimal import Decimal
from functools import lru_cache
from hashlib import blake2b
from typing import TYPE_CHECKING, Any

import msgspec

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from target_stairoids.mapping.signal import Signal

#: How many objects and lists a value may lie in and still tell two records apart.
DEEPEST = 200

_encoder = msgspec.json.Encoder(decimal_format="number", order="sorted")
_PLAIN = frozenset({str, int, bool, type(None)})  # spelt alike wherever they are equal
_LONGEST_WHOLE_NUMBER = 400  # digits; beyond it 1E+9999999 would fill the memory


def _canonical(value: object, depth: int = 0) -> object:
    """Return a value in which equal numbers are spelt alike.

    What lies deeper than anybody nests on purpose does not tell two states apart.
    """
    if isinstance(value, (Decimal, float)):
        return _number(value)
    if type(value) in _PLAIN:
        return value
    if depth > DEEPEST:
        return "too deep"
    if isinstance(value, dict):
        return {n: _canonical(inner, depth + 1) for n, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_canonical(inner, depth + 1) for inner in value]
    return value


# Prices and shares repeat. By type, because 0.1 and the float nearest to it are equal
# only to the machine.
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
def canonical_number(spelt: str) -> object:
    """Return a number with a point or an exponent as `canonical_fields` has it.

    Raises:
        ArithmeticError: It is out of bounds.
    """
    return _number(Decimal(spelt))


def _digest(value: object) -> bytes:
    return blake2b(_text(value), digest_size=16).digest()


def _text(value: object) -> bytes:
    try:
        return _encoder.encode(value)
    except UnicodeEncodeError:  # half a surrogate pair, which JSON can spell
        return json.dumps(value, sort_keys=True).encode()


def entity_of(
    scope: str, stream: str, record: dict[str, Any], key: Sequence[str]
) -> bytes:
    """Return the digest of what a record is about: its key, or all of it without one.

    Args:
        scope: Where it is settled: the origin of `api_url`.
        key: Fields of the record, or paths into its objects as `user.email`; a
            missing one counts as null.
    """
    if not key:
        return version_of(_digest([scope, stream]), record)
    return _digest([scope, stream, [_key_value(record, name) for name in key]])


def _key_value(record: dict[str, Any], name: str) -> object:
    value = value_at(record, name)
    return value if type(value) in _PLAIN else _canonical(value)


def value_at(record: Mapping[str, Any], name: str) -> object:
    """Return a field, or what a path as `user.email` leads to; None for nothing."""
    value = record.get(name)
    if value is not None or name in record:
        return value
    value = record
    for part in name.split("."):
        value = value.get(part) if isinstance(value, dict) else None
    return value


def version_of(entity: bytes, record: dict[str, Any]) -> bytes:
    """Return the digest of one state of an entity; `_sdc_*` fields do not count."""
    return keyed_digest(entity, canonical_fields(record))


def canonical_fields(record: dict[str, Any]) -> dict[str, Any]:
    """Return a record's fields as they count: equal ones spelt alike, no `_sdc_*`."""
    if "_sdc_" in "\n".join(record):  # one search costs less than one for each field
        record = {n: value for n, value in record.items() if n[:5] != "_sdc_"}
    odd = {
        name: _canonical(value)
        for name, value in record.items()
        if type(value) not in _PLAIN
    }
    return record | odd if odd else record


def keyed_digest(key: bytes, fields: dict[str, Any]) -> bytes:
    """Return the digest of canonical fields, which tells another one for each key."""
    return blake2b(_text(fields), digest_size=16, key=key).digest()


def spelling_of(text: bytes) -> bytes:
    """Return the digest of a record's text, as its tap spelt it."""
    return blake2b(text, digest_size=16).digest()


def content_of(signal: Signal, silent: Collection[str | None]) -> bytes:
    """Return the digest of what a signal says.

    Args:
        silent: Properties whose change alone is no news: the bookmark column and the
            mapping's `ignore_changes`; an object's name stands for all it was
            flattened to. The time it occurred is never news.
    """
    properties = {
        name: value if type(value) in _PLAIN else _canonical(value)
        for name, value in signal.properties.items()
        if name not in silent
        and ("." not in name or name.partition(".")[0] not in silent)
    }
    said = [signal.type, signal.source, signal.account, signal.contact, properties]
    return _digest(said)


def position_of(value: object) -> str | None:
    """Return a bookmark's value as text that `is_before` can compare.

    Numbers are numbers, also those that a tap prints as text: "9" is before "10".
    """
    match value:
        case None | bool() | dict() | list():
            return None
        case int() | Decimal() | float():
            return f"n{value}" if Decimal(value).is_finite() else None
        case str():
            if value.isascii() and value.isdecimal():
                return f"n{value}"
            moment = _utc(value)
            return f"t{moment}" if moment else f"s{value}"
        case _:
            return f"s{value}"


@lru_cache(maxsize=4096)  # a state's position is asked for more than once
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


def is_before(one: str, other: str) -> bool:
    """Say whether a position is older than another.

    Kinds that differ never are, nor are texts that are neither numbers nor times: who
    knows how "v10" and "v9" are ordered would lose a state if he were wrong.
    """
    if one[0] != other[0]:
        return False
    if one[0] == "n":
        return Decimal(one[1:]) < Decimal(other[1:])
    return one[0] == "t" and one < other


def same_value(one: object, other: object) -> bool:
    """Say whether two JSON values are equal, numbers compared by value."""
    return _text(_canonical(one)) == _text(_canonical(other))
