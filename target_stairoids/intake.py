"""The intake: records as they were read, until they have an outcome or must go out.

The ledger is asked for a block of records at a time. A block look-up may answer
"settled", never "new": what might be new enters the window, where the gates are asked
again when its turn comes. STATE messages keep their place among the records.
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import msgspec

from target_stairoids.exceptions import InvalidSignalError, StairoidsError
from target_stairoids.gate import (
    Known,
    Outcome,
    Settled,
    is_settled,
    latest_after,
    without_news,
)
from target_stairoids.identity import content_of, entity_of, position_of, version_of
from target_stairoids.ledger.turn import Claim, DeadLetter, Verdict
from target_stairoids.restraint import Restraint
from target_stairoids.signal_map import DELETED_AT
from target_stairoids.streams import Streams, warn_if_left_out
from target_stairoids.window import Entry, Watermark, Window

if TYPE_CHECKING:
    from collections.abc import Mapping

    from target_stairoids.ledger.ledger import Ledger
    from target_stairoids.report import Report
    from target_stairoids.settings import Settings
    from target_stairoids.shape import StreamShape
    from target_stairoids.signal import Signal
    from target_stairoids.signal_map import SignalMap
    from target_stairoids.streams import Stream
    from target_stairoids.watcher import Watcher

#: Marks a record of `dead-letters export`: "<id> <mapping>".
LETTER_FIELD = "_sdc_stairoids_dead_letter"

_BLOCK = 500
_encoder = msgspec.json.Encoder(decimal_format="number", enc_hook=str)


@dataclass(frozen=True, slots=True)
class _Candidate:
    """A signal a record may become."""

    stream: Stream
    signal_map: SignalMap
    record: dict[str, Any]
    entity: bytes
    version: bytes
    position: str | None
    letter: int | None  # the dead letter that a person sends again


class Intake:
    """Records in; outcomes and window entries out.

    Args:
        window: Takes what must go out.
        watermark: Takes STATE messages, in their place.
        watcher: Is told what is decided; a rehearsal has one.
    """

    def __init__(
        self,
        settings: Settings,
        ledger: Ledger,
        report: Report,
        window: Window,
        watermark: Watermark,
        watcher: Watcher | None = None,
    ) -> None:
        self._settings = settings
        self._ledger = ledger
        self._report = report
        self._window = window
        self._watermark = watermark
        self._block: list[tuple[Stream, dict[str, Any]] | str] = []
        self._verdicts: list[Verdict] = []
        self._letters: list[DeadLetter] = []
        self._moot: list[int] = []  # dead letters that a newer version has said
        self._restraint = Restraint(settings)
        self.streams = Streams(settings, ledger)
        self._watcher = watcher
        self._mapped: Counter[str] = Counter()
        # A dry run writes nothing to the ledger, so it remembers by itself.
        self._rehearsed = Known({}, {}, 0) if settings.dry_run else None

    def stream(self, shape: StreamShape, schema_message: Mapping[str, Any]) -> Stream:
        """Compile a stream's mappings and find its place in the ledger.

        Raises:
            ConfigError: A mapping is wrong.
        """
        stream = self.streams.open(shape, schema_message)
        if self._watcher is None:
            warn_if_left_out(stream)
        else:
            self._watcher.opened(stream)
        return stream

    @property
    def stop(self) -> StairoidsError | None:
        """Why nothing more must be sent, if what was taken in gives a reason."""
        return self._restraint.stop

    def take(self, stream: Stream, record: dict[str, Any]) -> None:
        """Take in a record."""
        self._block.append((stream, record))
        if len(self._block) >= _BLOCK:
            self.flush()

    def filtered(self, stream: Stream, record: dict[str, Any], reason: str) -> None:
        """Count a record that becomes no signal before any mapping sees it."""
        self._report.read += 1
        self._report.candidates += 1
        self._tell(stream, None, record, Outcome.FILTERED, reason)

    def state(self, text: str) -> None:
        """Take in a STATE message, in its place behind all records so far."""
        self._block.append(text)

    def flush(self) -> None:
        """Decide on all that was taken in; what is settled here is on disk after."""
        block, self._block = self._block, []
        candidates = [
            item if isinstance(item, str) else self._candidates(*item) for item in block
        ]
        known = self._known(candidates)
        for item in candidates:
            if isinstance(item, str):
                self._watermark.state(item)
                continue
            self._report.read += 1
            for candidate in item:
                self._report.candidates += 1
                self._decide(candidate, known)
        self._write()

    def _candidates(self, stream: Stream, record: dict[str, Any]) -> list[_Candidate]:
        shape = stream.shape
        position = position_of(record.get(shape.bookmark)) if shape.bookmark else None
        letter, mapping = _letter_of(record)
        found = []
        key: tuple[str, ...] | None = None
        entity = version = b""
        for signal_map in stream.maps:
            if letter is not None and signal_map.name != mapping:
                continue
            if signal_map.key != key:
                key = signal_map.key
                entity = entity_of(self._settings.scope, shape.name, record, key)
                version = version_of(entity, record)
            found.append(
                _Candidate(
                    stream, signal_map, record, entity, version, position, letter
                )
            )
        return found

    def _known(self, candidates: list[str | list[_Candidate]]) -> Known:
        asked = [c for item in candidates if isinstance(item, list) for c in item]
        if not asked:
            return Known({}, {}, 0)
        known = self._ledger.look_up(
            {c.version for c in asked}, {c.entity for c in asked}
        )
        if self._rehearsed is not None:
            known.settled.update(self._rehearsed.settled)
            known.latest.update(self._rehearsed.latest)
        return known

    def _decide(self, candidate: _Candidate, known: Known) -> None:
        outcome, reason = self._outcome(candidate, known)
        if outcome is not None:
            stream, signal_map = candidate.stream, candidate.signal_map
            self._tell(stream, signal_map, candidate.record, outcome, reason)

    def _tell(
        self,
        stream: Stream,
        signal_map: SignalMap | None,
        record: dict[str, Any],
        outcome: Outcome,
        reason: str,
    ) -> None:
        self._report.count(stream.shape.name, outcome, reason)
        if self._watcher is not None:
            self._watcher.decided(stream, signal_map, record, outcome, reason)

    def _outcome(
        self, candidate: _Candidate, known: Known
    ) -> tuple[Outcome | None, str]:
        """Return the outcome, or None for a signal that entered the window."""
        signal_map, record = candidate.signal_map, candidate.record
        if signal_map.says_nothing:
            return Outcome.FILTERED, "its stream is left out"
        if record.get(DELETED_AT) is not None and not signal_map.asks_for_deleted:
            return Outcome.FILTERED, "deleted at its source"
        if self._is_done(candidate, known):
            return Outcome.DUPLICATE, ""
        candidate.stream.saw(record)
        self._mapped[candidate.stream.shape.name] += 1
        try:
            if not signal_map.wants(record):
                return Outcome.FILTERED, "by `when`"
            signal = signal_map.signal_from(record)
            if self._restraint.hides(signal):
                return Outcome.FILTERED, "suppressed"
            return self._news(candidate, signal, known), ""
        except InvalidSignalError as error:
            self._bury(candidate, error.reason)
            return Outcome.INVALID, error.reason

    def _is_done(self, candidate: _Candidate, known: Known) -> bool:
        """Say whether a version is settled; while an earlier one is under way, no."""
        if candidate.letter is not None or self._window.is_busy(candidate.entity):
            return False
        signal_map = candidate.signal_map
        return is_settled(
            known.settled.get((candidate.version, signal_map.name)),
            known.latest.get((candidate.entity, signal_map.name)),
            version=candidate.version,
            position=candidate.position,
            fingerprint=signal_map.fingerprint,
            send=signal_map.send,
            last_complete_run=self._ledger.complete_run_of(candidate.stream.number),
        )

    def _news(
        self, candidate: _Candidate, signal: Signal, known: Known
    ) -> Outcome | None:
        """Let a signal into the window, unless it need not or must not be sent.

        Raises:
            InvalidSignalError: It is to go out and breaks Stairoids' contract.
        """
        bookmark = candidate.stream.shape.bookmark
        silent = {*candidate.signal_map.ignore_changes, bookmark}
        claim = _claim(candidate, content_of(signal, silent))
        if candidate.stream.is_baseline:
            self._settle(claim, Outcome.BASELINED, known)
            return Outcome.BASELINED
        if self._restraint.is_too_old(signal):
            self._settle(claim, Outcome.TOO_OLD, known)
            return Outcome.TOO_OLD
        send = candidate.signal_map.send
        if not self._window.is_busy(candidate.entity):
            latest = known.latest.get((candidate.entity, claim.mapping))
            no_news = without_news(latest, send=send, content=claim.content)
            if no_news is Outcome.UNCHANGED:
                self._settle(claim, no_news, known)
            if no_news is not None:
                self._moot.extend([candidate.letter] if candidate.letter else [])
                return no_news
        text = signal.checked_text()
        if self._settings.dry_run:
            if self._watcher is not None:
                self._watcher.would_send(candidate.stream, text)
            self._settle(claim, Outcome.WOULD_SEND, known)
            return Outcome.WOULD_SEND
        if (candidate.entity, claim.mapping) in known.latest:
            stream = candidate.stream
            self._restraint.changed(stream.shape.name, known=stream.known_entities)
        self._window.add(
            Entry(
                number=self._watermark.open(),
                claim=replace(claim, signal=text, record=self._kept(candidate.record)),
                send=send,
                lanes=lanes_of(claim.entity, signal.account, signal.contact),
                is_replay=candidate.letter is not None,
            )
        )
        return None

    def _settle(self, claim: Claim, outcome: Outcome, known: Known) -> None:
        """Settle a version here and now, and for the rest of the block."""
        self._verdicts.append(verdict_of(claim, outcome, is_claimed=False))
        # A rehearsal has no run of its own; what it settles is newer than any.
        run = self._ledger.run or sys.maxsize
        settled = Settled(outcome, run, claim.fingerprint)
        key = claim.entity, claim.mapping
        now = latest_after(
            known.latest.get(key),
            outcome,
            version=claim.version,
            content=claim.content,
            position=claim.position,
        )
        for memory in (known, self._rehearsed):
            if memory is not None:
                memory.settled[claim.version, claim.mapping] = settled
                if now is not None:
                    memory.latest[key] = now

    def _bury(self, candidate: _Candidate, reason: str) -> None:
        self._letters.append(
            DeadLetter(
                version=candidate.version,
                mapping=candidate.signal_map.name,
                stream=candidate.stream.number,
                stream_name=candidate.stream.shape.name,
                outcome=Outcome.INVALID,
                reason=reason,
                record=self._kept(candidate.record),
            )
        )

    def _kept(self, record: dict[str, Any]) -> bytes:
        """Return a record's text, or none where records are not to be kept."""
        return _text_of(record) if self._settings.keep_records else b""

    def _write(self) -> None:
        to_write = self._verdicts or self._letters or self._moot
        if to_write and not self._settings.dry_run:
            with self._ledger.turn() as turn:
                turn.settle(*self._verdicts)
                for letter in self._letters:
                    turn.bury(letter)
                turn.discard(self._moot)
        self._verdicts.clear()
        self._letters.clear()
        self._moot.clear()

    def warn(self) -> None:
        """Tell at the end of a run what its mappings named in vain."""
        self.streams.warn(self._mapped)


def lanes_of(
    entity: bytes, account: Mapping[str, str], contact: Mapping[str, str]
) -> tuple[object, ...]:
    """Return what a signal is about and must not overtake an earlier one about."""
    lanes: list[object] = [entity]
    if domain := account.get("domain"):
        lanes.append(("domain", domain))
    if email := contact.get("email"):
        lanes.append(("email", email.lower()))
    return tuple(lanes)


def _letter_of(record: Mapping[str, Any]) -> tuple[int | None, str]:
    """Return id and mapping of the dead letter that an exported record is."""
    marker = record.get(LETTER_FIELD)
    if not isinstance(marker, str):
        return None, ""
    number, _, mapping = marker.partition(" ")
    return (int(number), mapping) if number.isdecimal() else (None, "")


def verdict_of(
    claim: Claim,
    outcome: Outcome,
    *,
    is_claimed: bool,
    signal_id: str | None = None,
) -> Verdict:
    """Return how a claim is settled; a rejected signal has said nothing."""
    return Verdict(
        entity=claim.entity,
        version=claim.version,
        mapping=claim.mapping,
        stream=claim.stream,
        outcome=outcome,
        fingerprint=claim.fingerprint,
        content=None if outcome is Outcome.REJECTED else claim.content,
        position=claim.position,
        signal_id=signal_id,
        is_claimed=is_claimed,
    )


def _claim(candidate: _Candidate, content: bytes) -> Claim:
    """Return a claim without texts, which only a signal that goes out needs."""
    return Claim(
        entity=candidate.entity,
        version=candidate.version,
        mapping=candidate.signal_map.name,
        stream=candidate.stream.number,
        stream_name=candidate.stream.shape.name,
        content=content,
        position=candidate.position,
        fingerprint=candidate.signal_map.fingerprint,
        signal=b"",
        record=b"",
    )


def _text_of(record: dict[str, Any]) -> bytes:
    try:
        return _encoder.encode(record)
    except UnicodeEncodeError:  # half a surrogate pair, which only `\\uXXXX` can spell
        return json.dumps(record, default=str).encode()
