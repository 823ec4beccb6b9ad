"""Records: one RECORD message's data, decoded only as far as needed.

Most records of a repeated sync are known word for word. For these, the key and a digest
of the text are enough.
"""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Callable, Collection
from decimal import Decimal
from hashlib import blake2b
from typing import Any, TypedDict

import msgspec

from target_stairoids.dedup.digests import (
    DEEPEST,
    canonical_fields,
    canonical_number,
    keyed_digest,
)
from target_stairoids.exceptions import MessageError
from target_stairoids.mapping.schema import ColumnSet, chosen

_OUT_OF_BOUNDS = "A record is nested too deeply or holds a number out of bounds."
_encoder = msgspec.json.Encoder(decimal_format="number", enc_hook=str)
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
    _columns: tuple[str, ...] | None = None
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
    def columns(self) -> tuple[str, ...]:
        """The names of the columns of `canonical`."""
        if self._columns is None:
            self._columns = tuple(self.canonical)
        return self._columns

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
        """Return the digest of this state of an entity, without some columns."""
        if self._state is None or self._state[:2] != (entity, ignored):
            digest = keyed_digest(entity, self.without(ignored))
            self._state = entity, ignored, digest
        return self._state[2]

    def source_digest(self, ignored: ColumnSet) -> bytes:
        """Return the digest of the columns that may be part of a signal's content."""
        if self._source is None or self._source[0] is not ignored:
            self._source = ignored, keyed_digest(b"", self.without(ignored))
        return self._source[1]

    def text_but(self, column: str) -> bytes:
        """Return the record as JSON text, without a column that a text never has."""
        if self.text is not None:
            return self.text
        fields = {n: value for n, value in self.key.items() if n != column}
        try:
            return _encoder.encode(fields)
        except UnicodeEncodeError:  # half of a surrogate pair, which JSON can spell
            return json.dumps(fields, default=str).encode()

    def without(self, columns: ColumnSet) -> dict[str, Any]:
        """Return the canonical fields without some columns."""
        gone, fields = chosen(columns, self.columns), self.canonical
        if gone:
            fields = fields.copy()  # faster than a comprehension, as few are gone
            for name in gone:
                del fields[name]
        return fields


def _canonical_from(text: bytes) -> dict[str, Any]:
    """Return canonical fields in half the time that `canonical_fields` needs."""
    is_long = len(text) > 2 * DEEPEST  # with the brackets that close
    if is_long and text.count(b"{") + text.count(b"[") > DEEPEST:
        return canonical_fields(_decoder.decode(text))
    return _canonical_decoder.decode(text)


def _decoded(decode: Callable[[bytes], dict[str, Any]], text: bytes) -> dict[str, Any]:
    try:
        return decode(text)
    except (ArithmeticError, RecursionError, msgspec.ValidationError) as error:
        raise MessageError(_OUT_OF_BOUNDS) from error


def _salt(conditions: Collection[str]) -> bytes:
    if not any(conditions):
        return b""
    return blake2b(msgspec.json.encode(conditions), digest_size=16).digest()


class RecordReader:
    """Makes records of one stream.

    Args:
        keys: The columns, or paths into objects, of the key of each mapping. An empty
            key stands for all columns.
        more: Other columns to decode at once.
        conditions: The conditions `when` and the list of suppressed people. A change
            lets each record be decided again, also one that is known word for word.
    """

    def __init__(
        self,
        keys: Collection[Collection[str]],
        more: Collection[str] = (),
        conditions: Collection[str] = (),
    ) -> None:
        self._salt = _salt(conditions)
        self._keeps_text = all(keys)
        self._decoder: msgspec.json.Decoder[Any] = _decoder
        if self._keeps_text:
            paths = {*more, *(path for key in keys for path in key)}
            roots = {root for path in paths for root in (path, path.partition(".")[0])}
            columns = TypedDict("columns", dict.fromkeys(roots, Any), total=False)  # type: ignore[misc]  # only a SCHEMA knows the names
            self._decoder = msgspec.json.Decoder(columns, float_hook=Decimal)

    def read(self, sent: dict[str, Any] | msgspec.Raw) -> Record:
        """Return a record from its fields or its JSON text in UTF-8.

        Raises:
            MessageError: It is no JSON object, or its key cannot be decoded.
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
        except msgspec.DecodeError as error:
            if "out of range" in str(error):
                raise MessageError(_OUT_OF_BOUNDS) from error
            msg = "A RECORD message lacks its record, or the record is no object."
            raise MessageError(msg) from error
        except (ArithmeticError, RecursionError) as error:
            raise MessageError(_OUT_OF_BOUNDS) from error
        if not self._keeps_text:
            return Record(None, key)
        digest = blake2b(text, digest_size=16, key=self._salt).digest()
        return Record(text, key, digest)
