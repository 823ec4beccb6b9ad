"""Records: what taps say of rows, decoded only as far as somebody asks.

Most rows of a repeated sync are known word for word. For these a record's key and a
digest of its text are enough.
"""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any, TypedDict

import msgspec

from target_stairoids.dedup.digests import (
    DEEPEST,
    canonical_fields,
    canonical_number,
    keyed_digest,
    spelling_of,
)
from target_stairoids.exceptions import MessageError
from target_stairoids.mapping.schema import DELETED_AT

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

_decoder = msgspec.json.Decoder(dict[str, Any], float_hook=Decimal)
_canonical_decoder = msgspec.json.Decoder(dict[str, Any], float_hook=canonical_number)


class Record(msgspec.Struct, gc=False, eq=False):
    """A record, as fields or as text.

    Attributes:
        text: Its JSON text as the tap wrote it; None if there is none, or if it has
            Singer's own columns.
        key: The columns its key is made of, and the bookmark; all there are if it did
            not come as text.
    """

    text: bytes | None
    key: dict[str, Any]
    _fields: dict[str, Any] | None = None
    _canonical: dict[str, Any] | None = None
    _spelling: bytes | None = None
    _version: tuple[bytes, bytes] | None = None
    _basis: tuple[bytes, bytes] | None = None

    @property
    def fields(self) -> dict[str, Any]:
        """All columns.

        Raises:
            MessageError: They cannot be decoded, though they are JSON.
        """
        if self.text is None:
            return self.key
        if self._fields is None:
            self._fields = _decoded(_decoder.decode, self.text)
        return self._fields

    @property
    def canonical(self) -> dict[str, Any]:
        """All columns but Singer's own, in which equal values are spelt alike.

        Raises:
            MessageError: They cannot be decoded, though they are JSON.
        """
        if self._canonical is None:
            if self.text is None:
                self._canonical = canonical_fields(self.key)
            else:
                self._canonical = _decoded(_canonical_from, self.text)
        return self._canonical

    @property
    def is_deleted(self) -> bool:
        """Whether its row was deleted at its source."""
        return self.text is None and self.key.get(DELETED_AT) is not None

    @property
    def spelling(self) -> bytes | None:
        """The digest of its text: where it is the same, so is the record."""
        if self._spelling is None and self.text is not None:
            self._spelling = spelling_of(self.text)
        return self._spelling

    def version_of(self, entity: bytes) -> bytes:
        """Return the digest of the state of an entity that it is, however spelt."""
        if self._version is None or self._version[0] != entity:
            self._version = entity, keyed_digest(entity, self.canonical)
        return self._version[1]

    def basis(self, maker: bytes, silent: Collection[str]) -> bytes:
        """Return the digest of what is made of it, as far as it is made of columns.

        Args:
            maker: What makes it; for each, the same columns are silent.
            silent: Columns that count for nothing.
        """
        if self._basis is None or self._basis[0] != maker:
            said = dict(self.canonical)
            for name in silent:
                said.pop(name, None)
            self._basis = maker, keyed_digest(maker, said)
        return self._basis[1]


def _canonical_from(text: bytes) -> dict[str, Any]:
    """Return canonical fields, which takes half as long as to make them of fields."""
    if text.count(b"{") + text.count(b"[") > DEEPEST:
        return canonical_fields(_decoder.decode(text))
    return _canonical_decoder.decode(text)


def _decoded(decode: Callable[[bytes], dict[str, Any]], text: bytes) -> dict[str, Any]:
    try:
        return decode(text)
    except (ArithmeticError, RecursionError) as error:
        msg = "A record is nested too deeply or holds a number out of bounds."
        raise MessageError(msg) from error


class RecordReader:
    """Makes records of what is sent of one stream.

    Args:
        keys: The columns, or paths into objects, of the key of each mapping; an empty
            one is made of all columns.
        more: Others that a record is asked for before it is known to be news.
    """

    def __init__(
        self, keys: Collection[Collection[str]], more: Collection[str] = ()
    ) -> None:
        self._decoder: msgspec.json.Decoder[Any] | None = None
        if all(keys):
            paths = {*more, *(path for key in keys for path in key)}
            roots = {root for path in paths for root in _roots(path)}
            columns = TypedDict("columns", dict.fromkeys(roots, Any), total=False)  # type: ignore[misc]  # of names that only a SCHEMA knows
            self._decoder = msgspec.json.Decoder(columns, float_hook=Decimal)

    def read(self, sent: dict[str, Any] | msgspec.Raw) -> Record:
        """Return the record that was sent, as fields or as JSON text in UTF-8.

        Raises:
            MessageError: It is no object, or its key cannot be decoded.
        """
        if isinstance(sent, dict):
            return Record(None, sent)
        text = bytes(sent)
        try:
            if self._decoder is not None:
                return Record(text, _decoded(self._decoder.decode, text))
            return Record(None, _decoded(_decoder.decode, text))
        except msgspec.DecodeError as error:
            msg = "A RECORD message lacks its record, or it is no object."
            raise MessageError(msg) from error


def _roots(path: str) -> tuple[str, str]:
    """Return the columns in which a part of a key may be."""
    return path, path.partition(".")[0]
