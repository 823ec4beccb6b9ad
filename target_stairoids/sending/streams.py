"""Streams of a run: their mappings, and what turns out to be odd about these."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from target_stairoids.dedup.record import RecordReader
from target_stairoids.exceptions import ConfigError
from target_stairoids.ledger import queries
from target_stairoids.mapping.config import (
    check_any_match,
    check_globs,
    check_spelling,
    mappings_for,
    unused_globs,
)
from target_stairoids.mapping.expressions.template import path_text
from target_stairoids.mapping.schema import SOURCE_FIELD

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from target_stairoids.dedup.record import Record
    from target_stairoids.ledger.ledger import Ledger
    from target_stairoids.mapping.compiled import CompiledMapping
    from target_stairoids.mapping.expressions.template import Path
    from target_stairoids.mapping.schema import StreamSchema
    from target_stairoids.settings import Settings

logger = logging.getLogger(__name__)

_SHOWN = 5  # fields in one warning


@dataclass(slots=True, kw_only=True)
class Stream:
    """One stream of this run.

    Attributes:
        number: The stream's number in the ledger.
        reader: Makes records of what its tap sends.
        is_baseline: Whether its records are remembered as seen and not sent.
        known_entities: How many entities the ledger knew when the first new state of
            one came; None before.
        unseen: What its mappings read and no record had so far.
        is_seen: Whether a mapping has looked at any record.
    """

    schema: StreamSchema
    maps: list[CompiledMapping]
    number: int
    is_baseline: bool
    reader: RecordReader
    known_entities: int | None = None
    unseen: set[Path] = field(default_factory=set)
    is_seen: bool = False

    def saw(self, record: Record) -> None:
        """Note what a record had."""
        self.is_seen = True
        if self.unseen:
            fields = record.fields
            self.unseen -= {path for path in self.unseen if _has(fields, path)}


def _has(record: Mapping[str, Any], path: Path) -> bool:
    value: Any = record
    for part in path:
        if isinstance(value, list):
            return True  # what lists hold differs from one to the next
        if not isinstance(value, dict) or part not in value:
            return False
        value = value[part]
    return True


class Streams:
    """The streams of a run.

    Raises:
        ConfigError: No stream can ever reach one of the mappings.
    """

    def __init__(self, settings: Settings, ledger: Ledger) -> None:
        check_globs(settings.signals)
        self._settings = settings
        self._ledger = ledger
        self._streams: dict[str, Stream] = {}

    def open(self, schema: StreamSchema, schema_message: Mapping[str, Any]) -> Stream:
        """Compile a stream's mappings and find its place in the ledger.

        Raises:
            ConfigError: A mapping is wrong.
        """
        settings = self._settings
        check_spelling(schema.name, settings.signals, self._streams)
        source = settings.default_source
        if schema.source is not None and settings.source is None:
            source = schema.source  # another one would make the same signal a new one
        maps = mappings_for(schema, settings.signals, source)
        if not all(compiled_mapping.is_left_out for compiled_mapping in maps):
            check_any_match(schema.name, settings.signals, self._streams)
        if settings.dry_run:
            number = self._ledger.find_stream(schema.name)
        else:
            number = self._ledger.stream_id(
                schema.name, {**schema_message, SOURCE_FIELD: source}
            )
        is_baseline = settings.remembers_all or (
            settings.first_run == "baseline" and self._ledger.is_first_run_of(number)
        )
        before = self._streams.get(schema.name)
        if before is None and not is_baseline and not settings.allow_surge:
            _check_names(self._ledger, number, schema.name, maps)
        read = {path for compiled_mapping in maps for path in compiled_mapping.paths}
        stream = Stream(
            schema=schema,
            maps=maps,
            number=number,
            is_baseline=is_baseline,
            reader=RecordReader(
                [compiled_mapping.key for compiled_mapping in maps],
                [*schema.key_properties, *filter(None, [schema.bookmark])],
            ),
            known_entities=None if before is None else before.known_entities,
            unseen=read if before is None else before.unseen & read,
            is_seen=before is not None and before.is_seen,
        )
        self._streams[schema.name] = stream
        return stream

    def warn(self) -> None:
        """Tell at the end of a run what its mappings named in vain."""
        if self._streams:
            for sentence in unused_globs(self._settings.signals, list(self._streams)):
                logger.warning("%s", sentence)
        for name, stream in self._streams.items():
            if stream.unseen and stream.is_seen:
                shown = sorted(path_text(p) for p in stream.unseen)
                more = (
                    "" if len(shown) <= _SHOWN else f" and {len(shown) - _SHOWN} more"
                )
                logger.warning(
                    "Stream `%s`: no record had %s%s, which its mapping reads.",
                    name,
                    ", ".join(f"`{field}`" for field in shown[:_SHOWN]),
                    more,
                )


def _check_names(
    ledger: Ledger, number: int, stream: str, maps: Sequence[CompiledMapping]
) -> None:
    """Refuse a mapping that takes the place of another and would send all it sent.

    Raises:
        ConfigError: It is new, and what the stream was sent by is in no mapping now.
    """
    names = [
        compiled_mapping.name
        for compiled_mapping in maps
        if not compiled_mapping.is_left_out
    ]
    new = [name for name in names if not queries.has_sent(ledger, number, name)]
    gone = queries.mappings_of(ledger, number) - set(names) if new else set()
    if gone:
        old = min(gone)
        msg = (
            f"Stream `{stream}` was sent as `{old}`, which is in no mapping now; "
            f"`{new[0]}` is new and would send its records again. If it is misspelt, "
            f"mend it. If it only has another `type` now, add `name: {old}` to the "
            "mapping. If all is to be sent again, set `allow_surge` for one run."
        )
        raise ConfigError(msg)


def warn_if_left_out(stream: Stream) -> None:
    """Tell that a stream has nobody a signal could be about."""
    if any(m.type is not None and m.is_left_out for m in stream.maps):
        logger.warning(
            "Stream `%s` is left out: neither an e-mail nor a domain can be "
            "found in its records. To send them, give it a mapping with "
            "`contact.email` or `account.domain` in the setting `signals`.",
            stream.schema.name,
        )
