"""The streams of a run, with their mappings, and warnings about these."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

from stairoids_common.text import as_code, counted, shell_command
from target_stairoids.checks.stream_checks import (
    BULK_CHANGE,
    IDENTITY,
    SOURCE,
    StreamChecks,
    changed_columns,
    in_namespace,
)
from target_stairoids.dedup.duplicate_rules import Key, Version
from target_stairoids.dedup.record import Record, RecordReader
from target_stairoids.exceptions import ConfigError
from target_stairoids.ledger import queries
from target_stairoids.ledger.ledger import Ledger
from target_stairoids.ledger.structs import OTHER_BASELINE, UNFINISHED, KnownMapping
from target_stairoids.mapping import config
from target_stairoids.mapping.expressions.paths import Path, has_path
from target_stairoids.mapping.privacy import privacy_warning
from target_stairoids.mapping.schema import (
    DELETED_AT,
    INFERRED_FIELD,
    SOURCE_FIELD,
    StreamSchema,
)
from target_stairoids.mapping.signal import CompiledMapping
from target_stairoids.mapping.signals_setting import BY_HAND
from target_stairoids.settings import Settings

logger = logging.getLogger(__name__)


@dataclass(slots=True)
class StreamCounts:
    """Counts of the records that the run has read of one stream, over all its SCHEMAs.

    Attributes:
        is_mapped: Whether a mapping has looked at any record.
        seen: Fields that its mappings use and a record had.
        in_metric: How many of the taken records the metric of the SDK has.
        replayed: How many were dead letters that a person sends again.
        unread_times: How many signals lack a time that could not be read.
        null_columns: The columns of keys that were null or empty.
        sharing: How many records have a key that other rows of this input have.
        new: New records that were not compared with records of other keys so far.
        rekeyed: How many compared records are known under another key or namespace.
        namespaces: The other namespaces that know these records.
    """

    is_mapped: bool = False
    seen: set[Path] = field(default_factory=set)
    taken: int = 0
    in_metric: int = 0
    replayed: int = 0
    unread_times: int = 0
    null_keys: int = 0
    null_columns: set[str] = field(default_factory=set)
    sharing: int = 0
    new: list[Version] = field(default_factory=list)
    compared: int = 0
    rekeyed: int = 0
    namespaces: set[str] = field(default_factory=set)


@dataclass(slots=True, kw_only=True)
class Stream:
    """One stream of a run, as its newest SCHEMA describes it.

    Attributes:
        api_key: Digest of the API key.
        identity: The name that its records' keys are made with.
        baselines: Mappings whose records are remembered and not sent.
        known: Its mappings as earlier runs used them, by name.
        fired: The checks that set it aside, and whether a person allows it.
        made: Its mappings now.
        keys: Columns that each record must have.
        layouts: The key, and the columns, that its records may have had before.
    """

    schema: StreamSchema
    maps: list[CompiledMapping]
    number: int
    secret: bytes
    api_key: bytes
    identity: str
    baselines: frozenset[str]
    known: dict[str, KnownMapping]
    fired: dict[str, bool]
    made: dict[str, KnownMapping]
    reader: RecordReader
    keys: frozenset[str]
    used: set[Path]
    layouts: set[tuple[frozenset[str], frozenset[str]]]
    counts: StreamCounts

    def note_fields(self, record: Record) -> None:
        """Note which fields of its mappings a record has."""
        self.counts.is_mapped = True
        if unseen := self.used - self.counts.seen:
            self.counts.seen |= {p for p in unseen if has_path(record.fields, p)}

    @property
    def same_mappings(self) -> set[str]:
        """The mappings that are new, or identify records as before."""
        return {
            name
            for name, made in self.made.items()
            if name not in self.known or self.known[name].identity == made.identity
        }

    @property
    def new_mappings(self) -> dict[tuple[int, str], KnownMapping]:
        """The mappings that the ledger does not know, except those of a baseline."""
        new = self.made.keys() - self.known.keys() - self.baselines
        return {(self.number, name): self.made[name] for name in sorted(new)}

    @property
    def new_identity(self) -> str:
        """The new part of its records' identity, in words; "" without any."""
        if not (new := self.new_mappings):
            return ""
        is_new = f"its mapping {as_code(min(new)[1])} is new"
        return is_new if self.known else "the stream is new"

    def known_as(
        self, records: Iterable[tuple[Key, bytes, str, str | None]]
    ) -> tuple[set[bytes], str, str]:
        """Return the sources of records of another identity, its names, and advice."""
        name, same = self.schema.name, self.same_mappings
        known = [
            (source, stream, mapping)
            for (_, mapping), source, stream, _ in records
            if stream != name or mapping not in same
        ]
        others = sorted({(stream, mapping) for _, stream, mapping in known})
        names = " and ".join(f"{as_code(s)} ({_shown(m)})" for s, m in others)
        rename = self._rename_from(*others[0]) if others else ""
        return {source for source, _, _ in known}, f"as {names}", rename

    def _rename_from(self, stream: str, mapping: str) -> str:
        """Return the advice that makes another stream or mapping this one."""
        names, options = [stream], []
        if stream != self.schema.name:
            names += [self.schema.name]
        elif mapping not in self.made and (new := self.made.keys() - self.known.keys()):
            options = ["--mapping", mapping, min(new)]
        else:
            return ""
        return f"If it was renamed, run {_rename(*names, options=options)}. "

    @property
    def immediate_check(self) -> tuple[str, str] | None:
        """The check that fires at the first signal, and its reason."""
        for mapping in self.maps:
            made, known = self.made.get(mapping.name), self.known.get(mapping.name)
            if made is None or known is None or mapping.name in self.baselines:
                continue
            name = as_code(self.schema.name)
            allow = shell_command("stairoids-signals ledger allow", self.schema.name)
            if None not in (made.source, known.source) and made.source != known.source:
                sources = [known.source or "", made.source or ""]
                rename = _rename(self.schema.name, options=["--source", *sources])
                return SOURCE, (
                    f"Stream {name}: its signals had the source {as_code(sources[0])}, "
                    f"and have {as_code(sources[1])} now. If it is another database, "
                    f"set `namespace`. If only the name changed, run {rename}. If both "
                    f"share the ledger on purpose, run {allow}."
                )
            if made.identity != known.identity:
                columns = map(json.loads, (known.identity, made.identity))
                return IDENTITY, (
                    f"Stream {name}: the columns that identify its records have "
                    f"changed. {changed_columns(*columns)} So each record would count "
                    "as new. Set `key` in the mapping if the stream has none. To "
                    "remember the records and send none, pipe the tap into "
                    "`stairoids-signals ledger baseline`. If all must be sent again, "
                    f"run {allow}."
                )
        return None


def _shown(mapping: str) -> str:
    """Return the name of a mapping, which must not begin or end any code."""
    return as_code(mapping) if "`" in mapping else mapping


def _rename(*names: str, options: Sequence[str]) -> str:
    return shell_command("stairoids-signals ledger rename", *names, options=options)


class Streams:
    """The streams of a run; `ConfigError` if no stream can ever match a mapping.

    `suppressed` is the digest of the suppression list in the settings.
    """

    def __init__(self, settings: Settings, ledger: Ledger, suppressed: str) -> None:
        config.check_globs(settings.signals)
        self._settings = settings
        self._ledger = ledger
        self._suppressed = suppressed
        self._streams: dict[str, Stream] = {}
        self._warned: set[str] = set()
        self._layouts = queries.layouts_of(ledger)
        self._earlier = {stream for stream, _, _ in self._layouts}

    def opened(self, name: str) -> Stream | None:
        """Return a stream as its last SCHEMA message describes it; None before any."""
        return self._streams.get(name)

    def open(self, schema: StreamSchema, message: Mapping[str, Any]) -> Stream:
        """Compile the mappings of a SCHEMA message, and keep it in the ledger.

        Before that, `ConfigError` if a mapping is wrong, and `MessageError` if its key
        was another one before in this input.
        """
        settings, ledger, name = self._settings, self._ledger, schema.name
        # Dead letters keep the source they were made with.
        source = settings.source or schema.source or settings.default_source
        maps = self._checked_maps(schema, source)
        kept = {**message, SOURCE_FIELD: source}
        if config.glob_of(name, settings.signals) is None:
            kept[INFERRED_FIELD] = True
        number, identity = ledger.open_stream(name, kept)
        known = queries.mappings_of(ledger, number)
        fired = queries.fired_checks(ledger, name)
        senders = [mapping for mapping in maps if mapping.makes_signals]
        made = {m.name: _known_mapping(m, schema) for m in senders}
        baselines = frozenset[str]()
        if settings.remembers_all:
            baselines = frozenset(made)
        elif settings.first_run == "baseline":
            ended = known.keys() - queries.unfinished_in(fired)
            baselines = frozenset(made.keys() - ended)
        before = self._streams.get(name)
        stream = self._streams[name] = Stream(
            schema=schema,
            maps=maps,
            number=number,
            secret=ledger.secret,
            api_key=ledger.key_digest(settings.api_key),
            identity=identity,
            baselines=baselines,
            known=known,
            fired=fired,
            made=made,
            reader=RecordReader(
                [mapping.key for mapping in maps],
                [*schema.key_properties, *schema.order_columns, *DELETED_AT],
                [*(str(m.origins.get("when", "")) for m in maps), self._suppressed],
            ),
            keys=frozenset(schema.key_properties),
            used={path for mapping in maps for path in mapping.paths},
            layouts=self._layouts_for(schema),
            counts=StreamCounts() if before is None else before.counts,
        )
        self._warn_once(w for mapping in maps for w in mapping.warnings)
        if settings.max_event_age_days is not None:
            self._warn_once(
                f"Stream `{name}`: `max_event_age_days` has no effect, because no "
                "column fills `occurred_at`. Map it, such as with `created_at`."
                for mapping in senders
                if "occurred_at" not in mapping.origins
            )
        return stream

    def _checked_maps(self, schema: StreamSchema, source: str) -> list[CompiledMapping]:
        """Return the mappings of a SCHEMA that nothing refuses."""
        name, items = schema.name, self._settings.signals
        config.check_brackets(name, items)
        if name not in self._earlier:
            config.check_spelling(name, items, self._streams)
        maps = config.mappings_for(schema, items, source)
        if not all(mapping.is_left_out for mapping in maps):
            config.check_any_match(name, items, {*self._streams, *self._earlier})
        if any(m.makes_signals and m.send == "once" and not m.key for m in maps):
            raise ConfigError(
                f"Stream `{name}`: `send: once` needs a key, and the stream has none. "
                "Name the columns that identify a record in `key` of its mapping."
            )
        before = self._streams.get(name)
        if before is not None and before.counts.taken and schema.source is None:
            config.check_keys(name, before.maps, maps)
        return maps

    def _layouts_for(
        self, schema: StreamSchema
    ) -> set[tuple[frozenset[str], frozenset[str]]]:
        """Return the layouts of a stream, and of others whose columns it has too."""
        columns = frozenset(schema.properties)
        return {
            (key, columns if stream == schema.name else known)
            for stream, key, known in self._layouts
            if stream == schema.name or known <= columns
        }

    def _warn_once(self, warnings: Iterable[str]) -> None:
        for warning in warnings:
            if warning not in self._warned:
                self._warned.add(warning)
                logger.warning("%s", warning)

    def made(
        self, may_remember: Callable[[Stream], bool]
    ) -> dict[tuple[int, str], KnownMapping]:
        """Return the mappings to remember, by the stream's number and their name."""
        return {
            (stream.number, name): made
            for stream in self._streams.values()
            if stream.counts.taken
            for name, made in stream.made.items()
            if name in stream.baselines or may_remember(stream)
        }

    def warn(self) -> None:
        """Warn at the end of a run about streams and fields that never came."""
        is_whole = not self._settings.is_partial
        if is_whole and self._streams:
            names = [*self._streams, *self._earlier]
            self._warn_once(config.unused_globs(self._settings.signals, names))
        for name, stream in self._streams.items():
            for mapping in stream.maps:
                self._warn_once(privacy_warning(name, mapping.hidden))
            if stream.counts.unread_times:
                logger.warning(
                    "Stream `%s`: %s without `occurred_at`, because %s holds no time "
                    "that can be read. Stairoids uses its own time for them. To read "
                    "it, map `occurred_at`, such as with the filter `iso8601`.",
                    name,
                    counted(stream.counts.unread_times, "signal is", "signals are"),
                    _columns({c for m in stream.maps for c in m.time_columns}),
                )
            _warn_of_keys(stream)
            if is_whole and stream.counts.is_mapped:
                unseen = stream.used - stream.counts.seen
                self._warn_once(config.unused_fields(name, unseen))


def checks_for(
    stream: Stream, ledger: Ledger, settings: Settings, valid_before: int
) -> StreamChecks[Any]:
    """Return the checks of a stream, given how many of its records were valid."""
    name, fired, immediate = stream.schema.name, stream.fired, stream.immediate_check
    ours = {UNFINISHED + mapping for mapping in stream.baselines}
    answers = {fired[check] for check in fired.keys() - ours}
    is_allowed = settings.rebuilds or name == BY_HAND or answers == {True}
    senders = stream.made.keys() - stream.baselines
    is_new = senders and not stream.known
    check = ""
    if unfinished := queries.unfinished_in(fired) & senders:
        check = UNFINISHED + min(unfinished)
    elif is_new and (OTHER_BASELINE in fired or queries.has_unfinished(ledger)):
        check = OTHER_BASELINE
    if check:
        whose = "an earlier" if check == OTHER_BASELINE else "its"
        reason = (
            f"Stream {as_code(name)}: {whose} baseline did not end, so the records "
            "that it has not read would be sent. To remember them, pipe the whole "
            "output of the tap into `stairoids-signals ledger baseline`. To send "
            f"them, run {shell_command('stairoids-signals ledger allow', name)}."
        )
        immediate = check, reason
    known = queries.entities_of(ledger, stream.number)
    if immediate is not None and immediate[0] == IDENTITY and not known[0]:
        immediate = None  # nothing can be sent again
    checks: StreamChecks[Any] = StreamChecks(
        name,
        *known[:3],
        is_allowed=is_allowed,
        fired_before=BULK_CHANGE in fired,
        new_identity="" if known[3] else stream.new_identity,
        immediate_check=immediate,
    )
    checks.valid(valid_before)
    if settings.is_partial and fired and not is_allowed:
        checks.fire(
            "",  # the ledger keeps it already
            f"Stream {as_code(name)}: a check has set it aside. Run the whole output "
            "of the tap, which names the check and the command that decides.",
        )
    return checks


def compare_identity(checks: StreamChecks[Any], stream: Stream, ledger: Ledger) -> None:
    """Look up the first records of a new identity in the ledger."""
    sample = {*chain(*checks.sample)}
    if checks.is_by_content:
        known = queries.known_contents(ledger, stream.number, sample)
        checks.compared(known, "under other keys")
    else:
        name = stream.schema.name
        known, names, advice = stream.known_as(
            queries.records_like(ledger, sample, name)
        )
        if not (known or stream.known) and (
            others := queries.namespaces_with(
                ledger, name, sample, mappings=stream.made, api_key=stream.api_key
            )
        ):
            known, (names, advice) = {*others}, in_namespace(min(others.values()))
        checks.compared(known, names, advice)


def _warn_of_keys(stream: Stream) -> None:
    name = stream.schema.name
    if stream.counts.null_keys:
        logger.warning(
            "Stream `%s`: %s a null or empty key (%s). The columns that the mapping "
            "uses identify them. Set `key` in the mapping to change that.",
            name,
            counted(stream.counts.null_keys, "record has", "records have"),
            _columns(stream.counts.null_columns),
        )
    if stream.counts.sharing:
        logger.warning(
            "%s of `%s` share a key (%s). If they are different rows, set `key` in the "
            "mapping.",
            counted(stream.counts.sharing, "record", "records"),
            name,
            _columns({key for mapping in stream.maps for key in mapping.key}),
        )


def _columns(names: Iterable[str]) -> str:
    return " and ".join(f"`{name}`" for name in sorted(names)) or "its column"


def _known_mapping(mapping: CompiledMapping, schema: StreamSchema) -> KnownMapping:
    columns = sorted(mapping.key)
    if not columns:
        names = filter(mapping.columns.identifies, schema.properties)
        columns = ["*", *sorted(names)]
    return KnownMapping(mapping.constant_source, json.dumps(columns))
