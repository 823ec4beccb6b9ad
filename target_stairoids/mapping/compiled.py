"""A compiled mapping: one mapping of one stream, ready to read records."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from target_stairoids.mapping.signal import Signal
from target_stairoids.mapping.values import flat_properties

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from target_stairoids.mapping.expressions.template import Fields, Path, Reader


@dataclass(frozen=True, slots=True)
class Origin:
    """How one field of a signal is filled.

    Attributes:
        why: `mapping`, or the reason why the template was inferred.
    """

    template: str
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CompiledMapping:
    """One mapping of one stream, compiled.

    Attributes:
        name: The mapping's name in the ledger.
        mapping_digest: Digest of the mapping and the default source.
        compiled_digest: Digest of these and of the templates inferred from the SCHEMA.
        key: The columns that identify the entity; empty for the whole record.
        send: `once`, `on_change` or `always`.
        ignore_changes: Properties whose change alone sends nothing.
        when: Reads whether a record becomes a signal; None for every record.
        paths: The paths that the mapping's own templates read, for warnings about
            columns that no record had.
        origins: Signal field -> how it is filled, for the operator.
        ignored_columns: Columns whose change alone does not change the content; None
            if they are unknown.
        is_left_out: Whether no record of the stream can become a signal.
        wants_deleted: Whether the mapping reads the column `_sdc_deleted_at`.
    """

    name: str
    mapping_digest: bytes
    compiled_digest: bytes
    key: tuple[str, ...]
    send: str
    ignore_changes: frozenset[str]
    type: Reader
    source: Reader
    account: Mapping[str, Reader]
    contact: Mapping[str, Reader]
    occurred_at: Reader
    properties: Callable[[Fields], dict[str, Any]]
    when: Reader | None
    paths: frozenset[Path]
    origins: Mapping[str, Origin]
    ignored_columns: frozenset[str] | None
    is_left_out: bool
    wants_deleted: bool

    def wants(self, record: Fields) -> bool:
        """Return whether the condition `when` lets a record become a signal."""
        return self.when is None or bool(self.when(record))

    def signal_from(self, record: Fields) -> Signal:
        """Return the record's signal, normalised but not checked.

        Raises:
            InvalidSignalError: A value cannot be sent; the reason names the field.
        """
        return Signal(
            type=self.type(record) or "",
            source=self.source(record) or "",
            account=_present(self.account, record),
            contact=_present(self.contact, record),
            properties=flat_properties(self.properties(record)),
            occurred_at=self.occurred_at(record),
        )


def _present(readers: Mapping[str, Reader], record: Fields) -> dict[str, str]:
    return {
        name: value
        for name, read in readers.items()
        if (value := read(record)) is not None
    }
