"""The streams of a run, with their mappings, and warnings about these."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from stairoids_common.text import counted
from target_stairoids.dedup.record import RecordReader
from target_stairoids.exceptions import ConfigError
from target_stairoids.ledger import queries
from target_stairoids.ledger.ledger import Ledger
from target_stairoids.mapping.config import (
    check_any_match,
    check_brackets,
    check_globs,
    check_spelling,
    mappings_for,
    unused_globs,
)
from target_stairoids.mapping.expressions.template import Path, path_text
from target_stairoids.mapping.privacy import privacy_warning
from target_stairoids.mapping.schema import SOURCE_FIELD, StreamSchema
from target_stairoids.mapping.signal import CompiledMapping
from target_stairoids.settings import Settings

logger = logging.getLogger(__name__)

_SHOWN = 5  # fields in one warning


@dataclass(slots=True, kw_only=True)
class Stream:
    """One stream of a run.

    Attributes:
        number: Its number in the ledger.
        is_baseline: Whether its records are remembered and not sent.
        known_entities: How many entities the ledger knew before the first new one;
            None until then.
        unseen: Fields that its mappings use and no record had so far.
        is_seen: Whether a mapping has looked at any record.
        taken: How many records were read.
        unread_times: How many signals lack a time that could not be read.
        keys: Columns that each record must have.
        complete_run: The newest run before this one that settled all its input.
    """

    schema: StreamSchema
    maps: list[CompiledMapping]
    number: int
    is_baseline: bool
    reader: RecordReader
    keys: frozenset[str]
    complete_run: int
    known_entities: int | None = None
    unseen: set[Path] = field(default_factory=set)
    is_seen: bool = False
    taken: int = 0
    unread_times: int = 0


class Streams:
    """The streams of a run; `ConfigError` if no stream can ever match a mapping.

    Args:
        suppressed: Digest of the suppression list in the settings.
    """

    def __init__(self, settings: Settings, ledger: Ledger, suppressed: str) -> None:
        check_globs(settings.signals)
        self._settings = settings
        self._ledger = ledger
        self._suppressed = suppressed
        self._streams: dict[str, Stream] = {}
        self._warned: set[str] = set()

    def open(self, schema: StreamSchema, message: Mapping[str, Any]) -> Stream:
        """Compile the mappings of a SCHEMA message, and find the stream's number.

        Raises:
            ConfigError: A mapping is wrong.
        """
        settings, name = self._settings, schema.name
        check_brackets(name, settings.signals)
        check_spelling(name, settings.signals, self._streams)
        source = settings.default_source
        if schema.source is not None and settings.source is None:
            source = schema.source  # dead letters keep the source they were made with
        maps = mappings_for(schema, settings.signals, source)
        if not all(mapping.is_left_out for mapping in maps):
            check_any_match(name, settings.signals, self._streams)
        number = self._ledger.stream_number(name, {**message, SOURCE_FIELD: source})
        is_baseline = settings.remembers_all or (
            settings.first_run == "baseline" and self._ledger.is_first_run_of(number)
        )
        before = self._streams.get(name)
        if before is None and not is_baseline and not settings.allow_surge:
            _check_names(self._ledger, number, name, maps)
        used = {path for mapping in maps for path in mapping.paths}
        stream = Stream(
            schema=schema,
            maps=maps,
            number=number,
            is_baseline=is_baseline,
            reader=RecordReader(
                [mapping.key for mapping in maps],
                [*schema.key_properties, *filter(None, [schema.bookmark])],
                [
                    *(str(m.origins.get("when", "")) for m in maps),
                    self._suppressed,
                ],
            ),
            keys=frozenset(schema.key_properties),
            complete_run=self._ledger.complete_run_of(number),
            known_entities=None if before is None else before.known_entities,
            unseen=used if before is None else before.unseen & used,
            is_seen=before is not None and before.is_seen,
            unread_times=0 if before is None else before.unread_times,
        )
        self._streams[name] = stream
        self._warn_once(w for mapping in maps for w in mapping.warnings)
        return stream

    def _warn_once(self, warnings: Iterable[str]) -> None:
        for warning in warnings:
            if warning not in self._warned:
                self._warned.add(warning)
                logger.warning("%s", warning)

    def warn(self) -> None:
        """Warn at the end of a run about streams and fields that never came."""
        if self._streams:
            for sentence in unused_globs(self._settings.signals, list(self._streams)):
                logger.warning("%s", sentence)
        for name, stream in self._streams.items():
            for mapping in stream.maps:
                self._warn_once(privacy_warning(name, mapping.hidden))
            if stream.unread_times:
                columns = sorted({c for m in stream.maps for c in m.time_columns})
                logger.warning(
                    "Stream `%s`: %s without `occurred_at`, because %s holds no time "
                    "that can be read. Stairoids uses its own time for them. To read "
                    "it, map `occurred_at`, such as with the filter `iso8601`.",
                    name,
                    counted(stream.unread_times, "signal is", "signals are"),
                    " and ".join(f"`{column}`" for column in columns) or "its column",
                )
            if stream.unseen and stream.is_seen:
                fields = sorted(path_text(path) for path in stream.unseen)
                more = len(fields) - _SHOWN
                logger.warning(
                    "Stream `%s`: no record had %s%s, which its mapping uses.",
                    name,
                    ", ".join(f"`{field}`" for field in fields[:_SHOWN]),
                    f" and {more} more" if more > 0 else "",
                )


def _check_names(
    ledger: Ledger, number: int, stream: str, maps: Sequence[CompiledMapping]
) -> None:
    """Refuse a new mapping in place of the one that sent a known stream before."""
    senders = (m for m in maps if not m.is_left_out and m.suppress is None)
    names = [mapping.name for mapping in senders]
    new = [name for name in names if not queries.has_sent(ledger, number, name)]
    gone = queries.mappings_of(ledger, number) - set(names) if new else set()
    if gone:
        old = min(gone)
        raise ConfigError(
            f"Stream `{stream}` was sent as `{old}`, which is in no mapping now. "
            f"`{new[0]}` is new and would send its records again. If it is a typo, fix "
            f"it. If only the `type` has changed, add `name: {old}` to the mapping. If "
            "all records must be sent again, set `allow_surge` for one run."
        )


def warn_if_left_out(stream: Stream) -> None:
    """Warn that a stream has no person and no company for a signal."""
    if any(
        m.is_left_out and "type" in m.origins and not m.not_inferred
        for m in stream.maps
    ):
        logger.warning(
            "Stream `%s` is left out, because its records have neither an email nor a "
            "domain. To send them, give the stream a mapping with `contact.email` or "
            "`account.domain` in the setting `signals`.",
            stream.schema.name,
        )
