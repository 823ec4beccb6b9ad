"""Records: one RECORD message's data, decoded only as far as needed, and its digests.

Most records of a repeated sync are known word for word. For these, the key and a digest
of the text are enough.

An entity digest names the subject of a signal, a state digest one state of the entity,
a content digest the signal's content. Digests hold no personal data. They compare
numbers and times by value: 1 and 1.0 are equal, and so are 12:00Z and 14:00+02:00.
"""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from decimal import Decimal
from functools import lru_cache
from hashlib import blake2b, sha256
from typing import TYPE_CHECKING, Any, TypedDict

import msgspec
import simplejson

from target_stairoids.dedup.order import utc
from target_stairoids.exceptions import MessageError
from target_stairoids.mapping.schema import ColumnSet, chosen

if TYPE_CHECKING:
    from target_stairoids.mapping.signal import Signal

#: Values that are nested deeper do not distinguish two records.
DEEPEST = 200

_sorted_encoder = msgspec.json.Encoder(decimal_format="number", order="sorted")
#: Equal values of these types are always written alike. A tuple is from `_number`.
_PLAIN = frozenset({int, bool, type(None), tuple})
#: Connectors write times in many ways. A time finer than microseconds stays a text.
_TIME = re.compile(
    r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d(?::\d\d(?:\.\d{1,6}0{0,3})?)?"
    r"(?:Z|[+-]\d\d(?::?\d\d)?)?",
    re.ASCII,
)
_LONGEST_WHOLE_NUMBER = 400  # digits; 1E+9999999 as an integer would fill the memory


def _canonical(value: object, depth: int = 0) -> object:
    """Return a value in which equal numbers and times have one spelling."""
    if type(value) in _PLAIN:
        return value
    if isinstance(value, str):
        return _time(value) if value[4:5] == "-" else value
    if isinstance(value, (Decimal, float)):
        return _number(value)
    if depth > DEEPEST:
        return "too deep"
    if isinstance(value, dict):
        return {n: _canonical(inner, depth + 1) for n, inner in value.items()}
    if isinstance(value, list):
        return [_canonical(inner, depth + 1) for inner in value]
    return value


@lru_cache(maxsize=4096)  # times of a sync repeat
def _time(text: str) -> str:
    return (utc(text) or text) if _TIME.fullmatch(text) else text


def _with_one_spelling(fields: dict[str, Any]) -> dict[str, Any]:
    """Give the values of a new object one spelling, and return it."""
    for name, value in fields.items():
        # Most values have one, and a call of a function for each would be slow.
        kind = type(value)
        if kind is str:
            if "-" in value and value[4:5] == "-":
                fields[name] = _time(value)
        elif kind not in _PLAIN:
            fields[name] = _canonical(value)
    return fields


# Cached, because prices and shares repeat. Typed, because Python counts 0.1 and the
# float nearest to it as equal.
@lru_cache(maxsize=4096, typed=True)
def _number(value: Decimal | float) -> object:
    number = Decimal(repr(value)) if isinstance(value, float) else value
    if not number.is_finite():
        return "number", str(number)
    is_whole = number == number.to_integral_value()
    if is_whole and number.adjusted() < _LONGEST_WHOLE_NUMBER:
        return int(number)
    sign, digits, exponent = number.as_tuple()
    text = "".join(map(str, digits)).rstrip("0")
    return "number", sign, text, int(exponent) + len(digits) - len(text)


@lru_cache(maxsize=4096)
def canonical_number(text: str) -> object:
    """Return the canonical number in a text; `ArithmeticError` out of bounds."""
    return _number(Decimal(text))


_NO_OBJECT = "A RECORD message lacks its record, or the record is no object."
_OUT_OF_BOUNDS = "A record is nested too deeply or holds a number out of bounds."
_decoder = msgspec.json.Decoder(dict[str, Any], float_hook=Decimal)
_canonical_decoder = msgspec.json.Decoder(dict[str, Any], float_hook=canonical_number)
_LONG = 4_000  # digits; Python refuses to read integers with a few more
_LONG_NUMBER = re.compile(rb"(?<!\d)\d{%d}" % _LONG)


def json_value(text: bytes | str) -> Any:  # noqa: ANN401 - any JSON
    """Return a JSON value as `json` reads it, with all digits of its numbers."""
    return json.loads(
        text,
        parse_float=Decimal,
        parse_int=lambda number: (
            int(number) if len(number) < _LONG else Decimal(number)
        ),
    )


def json_text(value: object) -> bytes:
    """Return JSON text with all digits, `NaN` and half surrogate pairs, as taps do."""
    text: str = simplejson.dumps(
        value, default=str, ensure_ascii=False, allow_nan=True, separators=(",", ":")
    )
    return text.encode(errors="backslashreplace")  # half a pair, as JSON spells it


class Record(msgspec.Struct, gc=False, eq=False):
    """A record, as fields or as JSON text.

    Attributes:
        text: The JSON text from the tap. None if the record came as fields, or has
            `_sdc_*` columns.
        key: The columns of its keys and the bookmark. All columns if `text` is None.
        text_digest: Digest of text and conditions; None without a text.
    """

    text: bytes | None
    key: dict[str, Any]
    text_digest: bytes | None = None
    _fields: dict[str, Any] | None = None
    _canonical: dict[str, Any] | None = None
    _state: tuple[bytes, ColumnSet, bytes] | None = None
    _source: tuple[ColumnSet, bytes] | None = None

    @property
    def fields(self) -> dict[str, Any]:
        """All columns; `MessageError` if the text is JSON, but cannot be decoded."""
        if self.text is None:
            return self.key
        if self._fields is None:
            self._fields = _decoded(_decoder.decode, self.text)
        return self._fields

    @property
    def canonical(self) -> dict[str, Any]:
        """`fields` without `_sdc_*`, with one spelling for equal values."""
        if self._canonical is None:
            if self.text is None:
                self._canonical = canonical_fields(self.key)
            else:
                self._canonical = _decoded(_canonical_from, self.text)
        return self._canonical

    def state_digest(self, entity: bytes, ignored: ColumnSet) -> bytes:
        """Return the digest of this state of an entity, without some columns.

        A column that is null counts as missing, so a new empty column changes no state.
        """
        if self._state is None or self._state[:2] != (entity, ignored):
            fields = self.without(ignored)
            if None in fields.values():
                fields = {n: value for n, value in fields.items() if value is not None}
            digest = keyed_digest(entity, fields)
            self._state = entity, ignored, digest
        return self._state[2]

    def mark(self, entity: bytes, ignored: ColumnSet) -> bytes:
        """Return the digest by which an unchanged record is recognised."""
        return self.text_digest or self.state_digest(entity, ignored)

    def source_digest(self, ignored: ColumnSet) -> bytes:
        """Return the digest of the columns that may be part of a signal's content."""
        if self._source is None or self._source[0] is not ignored:
            self._source = ignored, keyed_digest(b"", self.without(ignored))
        return self._source[1]

    def text_but(self, column: str) -> bytes:
        """Return the record as JSON text without a column. `text` never has it."""
        if self.text is not None:
            return self.text
        return json_text({n: v for n, v in self.key.items() if n != column})

    def without(self, columns: ColumnSet) -> dict[str, Any]:
        """Return the canonical fields without some columns."""
        fields = self.canonical
        if gone := chosen(columns, tuple(fields)):
            fields = fields.copy()  # faster than a comprehension, as few are gone
            for name in gone:
                del fields[name]
        return fields


def _canonical_from(text: bytes) -> dict[str, Any]:
    """Return canonical fields in half the time that `canonical_fields` needs."""
    is_long = len(text) > 2 * DEEPEST  # with the brackets that close
    if is_long and text.count(b"{") + text.count(b"[") > DEEPEST:
        return canonical_fields(_decoder.decode(text))
    return _with_one_spelling(_canonical_decoder.decode(text))


def _decoded(decode: Callable[[bytes], dict[str, Any]], text: bytes) -> dict[str, Any]:
    try:
        return decode(text)
    except (ArithmeticError, RecursionError, msgspec.ValidationError) as error:
        raise MessageError(_OUT_OF_BOUNDS) from error


class RecordReader:
    """Makes records of one stream.

    Args:
        keys: The columns, or paths into objects, of the key of each mapping. An empty
            key stands for all columns.
        more: Other columns to decode at once.
        conditions: The conditions `when`, and the list of suppressed people. After a
            change each record is decided again, also if it is known word for word.
    """

    def __init__(
        self,
        keys: Collection[Collection[str]],
        more: Collection[str] = (),
        conditions: Collection[str] = (),
    ) -> None:
        self._salt = keyed_digest(b"", [*conditions]) if any(conditions) else b""
        self._keeps_text = all(keys)
        self._decoder: msgspec.json.Decoder[Any] = _decoder
        paths = {*more, *(path for key in keys for path in key)}
        roots = {root for path in paths for root in (path, path.partition(".")[0])}
        # The fields of a TypedDict with other characters are never found.
        if self._keeps_text and all(map(str.isascii, roots)):
            columns = TypedDict("columns", dict.fromkeys(roots, Any), total=False)  # type: ignore[misc]  # only a SCHEMA knows the names
            self._decoder = msgspec.json.Decoder(columns, float_hook=Decimal)

    def read(self, sent: dict[str, Any] | msgspec.Raw) -> Record:
        """Return a record from its fields or its JSON text in UTF-8.

        `MessageError` if it is no JSON object, or if its key cannot be decoded.
        """
        if isinstance(sent, dict):
            return Record(None, sent)
        text = bytes(sent)
        if len(text) > _LONG and _LONG_NUMBER.search(text):
            with contextlib.suppress(ValueError, ArithmeticError, RecursionError):
                if isinstance(fields := json_value(text), dict):
                    return Record(None, fields)
        try:
            key = self._decoder.decode(text)
        except (msgspec.DecodeError, ArithmeticError, RecursionError) as error:
            is_other = isinstance(error, msgspec.DecodeError)
            is_other &= "out of range" not in str(error)
            raise MessageError(_NO_OBJECT if is_other else _OUT_OF_BOUNDS) from error
        if not self._keeps_text:
            return Record(None, key)
        digest = blake2b(text, digest_size=16, key=self._salt).digest()
        return Record(text, key, digest)


# Digests


def _text(value: object) -> bytes:
    try:
        return _sorted_encoder.encode(value)
    except UnicodeEncodeError:  # half of a surrogate pair, which JSON can spell
        return json.dumps(value, sort_keys=True).encode()


def entity_digest(scope: str, stream: str, key: Sequence[object]) -> bytes:
    """Return the digest of a record's key, given its values.

    A whole number and its JSON text are the same key: 1, 1.0 and "1", but not "01".
    """
    digest = _of_stream(scope, stream).copy()
    parts = [str(part) if type(part) is int else _key_part(part) for part in key]
    digest.update(_text(parts))
    return digest.digest()


@lru_cache(maxsize=1024)
def _of_stream(scope: str, stream: str) -> blake2b:
    return blake2b(_text([scope, stream]), digest_size=16)


def _key_part(value: object) -> object:
    same = _canonical(value)
    return str(same) if type(same) is int else same


def keyless_digest(scope: str, stream: str, identity: object) -> bytes:
    """Return the digest of a record without a usable key, given its identity."""
    return keyed_digest(b"", [scope, stream, {"keyless": _canonical(identity)}])


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
    text = name.lower().encode("utf-8", "surrogatepass")
    return blake2b(text, digest_size=16, key=secret).digest()


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


def values_at(record: Mapping[str, Any], names: Sequence[str]) -> list[object]:
    """Return the fields, or the values at paths, with some names."""
    return [record[n] if n in record else value_at(record, n) for n in names]


def canonical_fields(record: dict[str, Any]) -> dict[str, Any]:
    """Return a record's fields without `_sdc_*`, with one spelling for equal values."""
    fields = record.copy()
    if "_sdc_" in "\n".join(record):  # one search costs less than one per field
        fields = {n: value for n, value in record.items() if n[:5] != "_sdc_"}
    return _with_one_spelling(fields)


def keyed_digest(key: bytes, value: object) -> bytes:
    """Return the digest of a canonical value under a key of at most 64 bytes."""
    return blake2b(_text(value), digest_size=16, key=key).digest()


def content_digest(signal: Signal, ignored: Collection[str | None]) -> bytes:
    """Return the digest of a signal's content. `occurred_at` is not part of it.

    Nor are the `ignored` properties: the bookmark column and `ignore_changes`. The name
    of an object stands for all properties it was flattened to.
    """
    properties = {
        name: value
        for name, value in signal.properties.items()
        if name not in ignored
        and ("." not in name or name.partition(".")[0] not in ignored)
    }
    contact = {**signal.contact}
    if "email" in contact:
        contact["email"] = contact["email"].lower()
    same = _with_one_spelling(properties)
    content = [signal.type, signal.source, signal.account, contact, same]
    return keyed_digest(b"", content)


def same_value(one: object, other: object) -> bool:
    """Return whether two JSON values are equal, numbers compared by value."""
    return _text(_canonical(one)) == _text(_canonical(other))
