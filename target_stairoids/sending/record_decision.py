"""The intake: records as they were read, until they have an outcome or must go out.

The ledger is asked for a block of records at a time. A block look-up may response
"settled", never "new": what might be new enters the window, where the gates are asked
again when its turn comes. STATE messages keep their place among the records.
"""

from __future__ import annotations

import json
from collections import Counter
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec.structs import replace

from target_stairoids.checks.bulk_change import Restraint
from target_stairoids.dedup.digests import content_of
from target_stairoids.dedup.rules import Outcome, is_newer, is_settled, without_news
from target_stairoids.exceptions import (
    InvalidSignalError,
    MessageError,
    StairoidsError,
)
from target_stairoids.sending.lookup import Inquiry
from target_stairoids.sending.mapped_record import (
    DEAD_LETTER_FIELD,
    Candidate,
    candidates_of,
)
from target_stairoids.sending.observer import Decision
from target_stairoids.sending.queue import Checkpoint, Entry, SendQueue, lanes_of
from target_stairoids.sending.streams import Streams, warn_if_left_out
from target_stairoids.sending.write_buffer import WriteBuffer

if TYPE_CHECKING:
    from collections.abc import Mapping

    from target_stairoids.dedup.record import Record
    from target_stairoids.dedup.rules import Known
    from target_stairoids.ledger.entries import Claim
    from target_stairoids.ledger.ledger import Ledger
    from target_stairoids.mapping.schema import StreamSchema
    from target_stairoids.mapping.signal import Signal
    from target_stairoids.reporting.report import Report
    from target_stairoids.sending.lookup import Answers, News
    from target_stairoids.sending.observer import Observer
    from target_stairoids.sending.streams import Stream
    from target_stairoids.settings import Settings

_BLOCK = 998  # two questions to an SQLite that is still in use
_encoder = msgspec.json.Encoder(decimal_format="number", enc_hook=str)


class Intake:
    """Records in; outcomes and window entries out.

    Args:
        window: Takes what must go out.
        checkpoint: Takes STATE messages, in their place.
        observer: Is told what is decided; a rehearsal has one.
    """

    def __init__(
        self,
        settings: Settings,
        ledger: Ledger,
        report: Report,
        window: SendQueue,
        checkpoint: Checkpoint,
        observer: Observer | None = None,
    ) -> None:
        self._settings = settings
        self._ledger = ledger
        self._report = report
        self._window = window
        self._watermark = checkpoint
        self._block: list[tuple[Stream, Record] | str] = []
        self._backlog = WriteBuffer(ledger, is_dry_run=settings.dry_run)
        self._inquiry = Inquiry(
            ledger,
            self._backlog,
            window,
            judges_age=settings.max_event_age_days is not None,
        )
        self._restraint = Restraint(settings)
        self._streams = Streams(settings, ledger)
        self._observer = observer

    def stream(self, schema: StreamSchema, schema_message: Mapping[str, Any]) -> Stream:
        """Compile a stream's mappings and find its place in the ledger.

        Raises:
            ConfigError: A mapping is wrong.
        """
        stream = self._streams.open(schema, schema_message)
        if self._observer is None:
            warn_if_left_out(stream)
        else:
            self._observer.opened(stream)
        return stream

    @property
    def stop(self) -> StairoidsError | None:
        """Why nothing more must be sent, if what was taken in gives a reason."""
        return self._restraint.stop

    def take(self, stream: Stream, record: Record) -> None:
        """Take in a record that has its key.

        Raises:
            MessageError: One that was taken in cannot be decoded; all before it are
                decided on.
        """
        self._block.append((stream, record))
        if len(self._block) >= _BLOCK:
            self.flush()

    def filtered(self, stream: Stream, record: dict[str, Any], reason: str) -> None:
        """Count a record that becomes no signal before any mapping sees it."""
        self._report.read += 1
        self._report.signals += 1
        self._report.count(stream.schema.name, Outcome.FILTERED, reason)
        if self._observer is not None:
            decision = Decision(stream, None, record, Outcome.FILTERED, reason)
            self._observer.decided(decision)

    def state(self, text: str) -> None:
        """Take in a STATE message, in its place behind all records so far."""
        self._block.append(text)

    def flush(self) -> None:
        """Decide on all that was taken in.

        Raises:
            MessageError: A record cannot be decoded; all before it are decided on.
        """
        block, self._block = self._block, []
        items: list[Candidate | str] = []
        for taken in block:
            if isinstance(taken, str):
                items.append(taken)
            else:
                found = candidates_of(*taken, scope=self._settings.scope)
                if found or DEAD_LETTER_FIELD not in taken[1].key:
                    items += found
                    self._report.read += 1
                else:
                    stream, record = taken
                    self.filtered(stream, record.fields, "its mapping is gone")
        news = self._inquiry.news_of(_candidates_in(items))
        items, broken = _readable(items, news) if news else (items, None)
        self._settle(items, news)
        if self._backlog.is_full:
            self.write()
        if broken is not None:
            raise broken

    def _settle(self, items: list[Candidate | str], news: News) -> None:
        """Decide on candidates, and take note of STATE messages between them."""
        candidates = _candidates_in(items)
        self._report.signals += len(candidates)
        settled = [c for c in candidates if c.key not in news] if news else candidates
        for name, times in Counter(c.stream.schema.name for c in settled).items():
            self._report.count(name, Outcome.DUPLICATE, times=times)
        responses = self._inquiry.responses(candidates, news)
        for item in items:
            if isinstance(item, str):
                self._watermark.state(item)
            elif item.key in news:
                self._decide(item, responses)
            elif self._observer is not None:
                self._watch(item, Outcome.DUPLICATE, "")

    def _decide(self, candidate: Candidate, responses: Answers) -> None:
        outcome, reason = self._outcome(candidate, responses)
        if outcome is not None:
            self._report.count(candidate.stream.schema.name, outcome, reason)
            self._watch(candidate, outcome, reason)

    def _watch(self, candidate: Candidate, outcome: Outcome, reason: str) -> None:
        if self._observer is not None:
            stream, compiled_mapping = candidate.stream, candidate.compiled_mapping
            record = candidate.record.fields
            decision = Decision(stream, compiled_mapping, record, outcome, reason)
            self._observer.decided(decision)

    def _outcome(
        self, candidate: Candidate, responses: Answers
    ) -> tuple[Outcome | None, str]:
        """Return the outcome, or None for a signal that entered the window."""
        if candidate.says_nothing:
            return Outcome.FILTERED, "its stream is left out"
        if (
            candidate.record.is_deleted
            and not candidate.compiled_mapping.asks_for_deleted
        ):
            return Outcome.FILTERED, "deleted at its source"
        known = responses.known
        if self._is_superseded(candidate, known):
            return Outcome.DUPLICATE, "something newer was said since"
        if (verdict := responses.moving.get(candidate.key)) is not None:
            candidate.stream.saw(candidate.record)
            return self._backlog.move_on(verdict, known.latest[candidate.key]), ""
        if self._is_done(candidate, known):
            became = known.settled.get((candidate.version, candidate.key[1]))
            is_refused = became is not None and became.outcome == Outcome.REJECTED
            return Outcome.DUPLICATE, "was rejected before" if is_refused else ""
        candidate.stream.saw(candidate.record)
        latest = known.latest.get(candidate.key)
        if self._inquiry.says_the_same(candidate, latest):
            assert latest is not None  # noqa: S101 - or nothing would be the same
            assert latest.content is not None  # noqa: S101 - same
            claim = candidate.claim(latest.content)
            self._backlog.settle(claim, Outcome.UNCHANGED, known)
            return Outcome.UNCHANGED, ""
        return self._outcome_of_signal(candidate, known)

    def _is_superseded(self, candidate: Candidate, known: Known) -> bool:
        """Say whether a dead letter is of a state that others have come after.

        Then it is no dead letter any more: to send it would take back what was said.
        """
        latest = known.latest.get(candidate.key)
        if candidate.letter is None or latest is None or latest.content is None:
            return False
        if (
            candidate.compiled_mapping.send == "always"
            or latest.version == candidate.version
        ):
            return False
        if candidate.position is None or latest.position is None:
            is_superseded = self._ledger.was_said_since(candidate.letter, candidate.key)
        else:
            is_superseded = is_newer(latest.position, candidate.position)
        if is_superseded:
            self._backlog.discard(candidate.letter)
        return is_superseded

    def _outcome_of_signal(
        self, candidate: Candidate, known: Known
    ) -> tuple[Outcome | None, str]:
        """Make a candidate's signal, and return what becomes of it as `_outcome`."""
        compiled_mapping, record = candidate.compiled_mapping, candidate.record.fields
        try:
            if not compiled_mapping.wants(record):
                return Outcome.FILTERED, "by `when`"
            signal = compiled_mapping.signal_from(record)
            if self._restraint.hides(signal):
                return Outcome.FILTERED, "suppressed"
            outcome = self._news(candidate, signal, known)
        except InvalidSignalError as error:
            kept = self._kept(candidate.record)
            self._backlog.bury(candidate.dead_letter(error.reason, kept))
            return Outcome.INVALID, error.reason
        if outcome is not Outcome.WOULD_SEND or candidate.key not in known.latest:
            return outcome, ""
        was_said = known.latest[candidate.key].content is not None
        return outcome, (
            "says something else than before" if was_said else "was rejected before"
        )

    def _is_done(self, candidate: Candidate, known: Known) -> bool:
        """Say whether a version is settled; while an earlier one is under way, no."""
        if candidate.letter is not None or self._window.is_busy(candidate.entity):
            return False
        compiled_mapping = candidate.compiled_mapping
        return is_settled(
            known.settled.get((candidate.version, compiled_mapping.name)),
            known.latest.get(candidate.key),
            version=candidate.version,
            position=candidate.position,
            fingerprint=compiled_mapping.fingerprint,
            send=compiled_mapping.send,
            last_complete_run=self._ledger.complete_run_of(candidate.stream.number),
        )

    def _news(
        self,
        candidate: Candidate,
        signal: Signal,
        known: Known,
    ) -> Outcome | None:
        """Settle a signal that need not or must not be sent, and let others go on.

        Raises:
            InvalidSignalError: It is to go out and breaks Stairoids' contract.
        """
        stream = candidate.stream
        if stream.known_entities is None:  # as long as this run has added none
            stream.known_entities = self._ledger.entities_of(stream.number)
        silent = {*candidate.compiled_mapping.ignore_changes, stream.schema.bookmark}
        claim = candidate.claim(content_of(signal, silent))
        if stream.is_baseline:
            self._backlog.settle(claim, Outcome.BASELINED, known)
            return Outcome.BASELINED
        if self._restraint.is_too_old(signal):
            self._backlog.settle(claim, Outcome.TOO_OLD, known)
            return Outcome.TOO_OLD
        send = candidate.compiled_mapping.send
        if not self._window.is_busy(candidate.entity):
            latest = known.latest.get((candidate.entity, claim.mapping))
            no_news = without_news(latest, send=send, content=claim.content)
            if no_news is Outcome.UNCHANGED:
                self._backlog.settle(claim, no_news, known)
            if no_news is not None and candidate.letter is not None:
                self._backlog.discard(candidate.letter)
            if no_news is not None:
                return no_news
        return self._let_in(candidate, claim, signal, known)

    def _let_in(
        self, candidate: Candidate, claim: Claim, signal: Signal, known: Known
    ) -> Outcome | None:
        """Let a signal that is news into the window.

        Raises:
            InvalidSignalError: It breaks Stairoids' contract.
        """
        text = signal.checked_text()
        if self._settings.dry_run:
            if self._observer is not None:
                self._observer.would_send(candidate.stream, text)
            self._backlog.settle(claim, Outcome.WOULD_SEND, known)
            return Outcome.WOULD_SEND
        if (candidate.entity, claim.mapping) in known.latest:
            stream = candidate.stream
            self._restraint.changed(
                stream.schema.name, known=stream.known_entities or 0
            )
        self._window.add(
            Entry(
                number=self._watermark.open(),
                claim=replace(claim, signal=text, record=self._kept(candidate.record)),
                send=candidate.compiled_mapping.send,
                lanes=lanes_of(claim.entity, signal.account, signal.contact),
                letter=candidate.letter,
            )
        )
        return None

    def _kept(self, record: Record) -> bytes:
        """Return a record's text, or none where records are not to be kept."""
        if not self._settings.keep_records:
            return b""
        if record.text is not None:
            return record.text
        return _text_of({n: v for n, v in record.key.items() if n != DEAD_LETTER_FIELD})

    def write(self) -> None:
        """See to it that all that was decided without a request is on disk."""
        self._backlog.write()

    def warn(self) -> None:
        """Tell at the end of a run what its mappings named in vain."""
        self._streams.warn()


def _candidates_in(items: list[Candidate | str]) -> list[Candidate]:
    return [item for item in items if isinstance(item, Candidate)]


def _readable(
    items: list[Candidate | str], news: News
) -> tuple[list[Candidate | str], MessageError | None]:
    """Return the items before the first one that is news and cannot be decoded."""
    for n, item in enumerate(items):
        if isinstance(item, Candidate) and item.key in news and not item.says_nothing:
            try:
                _ = item.record.canonical
            except MessageError as error:
                msg = f"Stream `{item.stream.schema.name}`: {error}"
                return items[:n], MessageError(msg)
    return items, None


def _text_of(record: dict[str, Any]) -> bytes:
    try:
        return _encoder.encode(record)
    except UnicodeEncodeError:  # half a surrogate pair, which only `\\uXXXX` can spell
        return json.dumps(record, default=str).encode()
