"""A signal map: one mapping of one stream, compiled; a record costs a few look-ups."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from target_stairoids.mapping.schema import DELETED_AT
from target_stairoids.mapping.signal import Signal
from target_stairoids.mapping.values import flat_properties

if TYPE_CHECKING:
    from target_stairoids.mapping.expressions.template import Path

Fields = dict[str, Any]
Reader = Callable[[Fields], Any]


@dataclass(frozen=True, slots=True)
class Origin:
    """How one field of a signal is filled.

    Attributes:
        template: The text a mapping has for it, or would have.
        why: `mapping`, or in words why it was inferred.
    """

    template: str
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CompiledMapping:
    """One mapping of one stream, compiled.

    Attributes:
        name: Names the mapping in the ledger.
        mapping_digest: Changes whenever the mapping does.
        key: The fields that say what a signal is about; empty for the whole record.
        send: `once`, `on_change` or `always`.
        ignore_changes: Properties whose change alone is no news.
        type: Reads the signal's type; None if the stream is mapped to nothing.
        when: Says whether a record becomes a signal at all; None for always.
        paths: What the mapping itself reads of a record, apart from properties taken as
            they are and from what was inferred.
        origins: Signal field -> how it is filled, for the operator.
        compiled_digest: Changes whenever what is made of a record does, and so with the SCHEMA.
        ignored_columns: Columns whose change alone makes no other content; None if that cannot
            be told.
        is_left_out: Whether no record of the stream can become a signal.
    """

    name: str
    mapping_digest: bytes
    key: tuple[str, ...]
    send: str
    ignore_changes: frozenset[str]
    type: Reader | None
    source: Reader
    account: Mapping[str, Reader]
    contact: Mapping[str, Reader]
    occurred_at: Reader | None
    properties: Callable[[Fields], dict[str, Any]]
    when: Reader | None
    paths: frozenset[Path]
    origins: Mapping[str, Origin]
    compiled_digest: bytes
    ignored_columns: frozenset[str] | None
    is_left_out: bool = field(init=False)

    def __post_init__(self) -> None:
        is_about_nobody = "domain" not in self.account and "email" not in self.contact
        is_left_out = self.type is None or is_about_nobody
        object.__setattr__(self, "is_left_out", is_left_out)  # the rest is frozen

    @property
    def wants_deleted(self) -> bool:
        """Whether the mapping looks at rows that were deleted at their source."""
        return (DELETED_AT,) in self.paths

    def wants(self, record: Fields) -> bool:
        """Say whether a record is to become a signal, as `when` has it.

        Raises:
            InvalidSignalError: `when` cannot be evaluated for it.
        """
        return self.when is None or bool(self.when(record))

    def signal_from(self, record: Fields) -> Signal:
        """Return the record's signal, normalised but not yet held to the contract.

        Raises:
            InvalidSignalError: A value cannot be sent; the reason names the field.
        """
        return Signal(
            type=(self.type(record) if self.type else None) or "",
            source=self.source(record) or "",
            account=_present(self.account, record),
            contact=_present(self.contact, record),
            properties=flat_properties(self.properties(record)),
            occurred_at=self.occurred_at(record) if self.occurred_at else None,
        )


def _present(readers: Mapping[str, Reader], record: Fields) -> dict[str, str]:
    return {
        name: value
        for name, read in readers.items()
        if (value := read(record)) is not None
    }
