"""Apply the responses of Stairoids to signals, and notice outages.

The outcome of a response is decided by `response_decision.decide`.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cache

from stairoids_common.retry import pause_before
from stairoids_common.time import timestamp
from target_stairoids.api.client import (
    NO_IDS,
    Response,
    ResponseKind,
    SignalIds,
    refusal,
)
from target_stairoids.api.rate_limiter import RateLimiter
from target_stairoids.api.retry import OutageClock, day_is_spent, failure_text
from target_stairoids.api.signal_lookup import (
    ListedSignals,
    ServerClock,
    alike,
    end_of,
    ends_before,
    is_readable,
    listed,
    without_rivals,
)
from target_stairoids.checks import first_run
from target_stairoids.checks.circuit_breaker import CircuitBreaker
from target_stairoids.checks.first_run import NOT_THERE, SIMILAR
from target_stairoids.checks.stop import GRACE_SECONDS, Stop
from target_stairoids.dedup.outcome import Outcome
from target_stairoids.exceptions import ConfigError, IncompleteError
from target_stairoids.ledger import dead_letters, lookup
from target_stairoids.ledger.outcomes import write_outcomes
from target_stairoids.ledger.structs import DeadLetter, Known, SettledVersion
from target_stairoids.ledger.transaction import Transaction
from target_stairoids.sending.queue import QueuedSignal, SendQueue, Stage, pair_of
from target_stairoids.sending.recovery import attempted_since
from target_stairoids.sending.response_decision import (
    Page,
    Policy,
    ResponseAction,
    ResponseDecision,
    decide,
)
from target_stairoids.settings import Settings

logger = logging.getLogger(__name__)

Finished = list[tuple[QueuedSignal, Outcome, str]]
_UNPROVED = "no response, and the list of signals does not show whether it was accepted"


@dataclass(eq=False)
class ResponseHandler:
    """Applies responses within the transaction of a step.

    Attributes:
        new_key: Digest of the API key, if the ledger does not know the key yet.
        accepted: How many signals this run saw accepted.
        unanswered: `requests` of this run without a usable response, and their ends.
        finished: Outcomes that hold once the step is on disk.
        unclear: Number -> signal that is looked up.
        waiting: Those of them that wait for a later signal to be accepted.
    """

    settings: Settings
    queue: SendQueue
    limiter: RateLimiter
    stop: Stop
    check: first_run.FirstRunCheck
    clock: ServerClock
    new_key: bytes | None
    accepted: int = 0
    unanswered: Counter[str] = field(default_factory=Counter)
    finished: Finished = field(default_factory=list)
    unclear: dict[int, QueuedSignal] = field(default_factory=dict)
    waiting: dict[int, QueuedSignal] = field(default_factory=dict)

    def __post_init__(self) -> None:
        tolerated = self.settings.max_in_flight
        self.outage = OutageClock(self.settings.outage_seconds, tolerated=tolerated)
        self._breaker: CircuitBreaker[tuple[QueuedSignal, Response]] = CircuitBreaker()
        self._returns_ids = True  # until an accepted signal comes without an id
        self._settled: list[SettledVersion] = []
        self._known: dict[first_run.Pair, Known] = {}

    def apply(
        self,
        transaction: Transaction,
        signal: QueuedSignal,
        response: Response,
        now: float,
    ) -> None:
        """Apply a response to a signal, or to all lookups that share its page."""
        self.clock.note(response, now)
        pause_of = cache(pause_before)  # so that lookups stay together
        decisions = [
            self._apply(transaction, one, response, now, pause_of)
            for one in reversed(signal.take_together())  # so put back in order
        ]
        if decisions[0].is_failure:
            self.limiter.hold(self.outage.failed(response, now), now)
            self._stop_in_outage(response, now)

    def _apply(
        self,
        transaction: Transaction,
        signal: QueuedSignal,
        response: Response,
        now: float,
        pause_of: Callable[[int], float],
    ) -> ResponseDecision:
        """Apply a response to one signal; return the decision."""
        decision = self._decide(transaction, signal, response)
        match decision.action:
            case ResponseAction.ACCEPT:
                # First, because some lookups wait for the first accepted signal.
                self._resume(signal, decision.ids.signal, now)
                self._accept(transaction, signal, response, decision.ids)
            case ResponseAction.REJECT:
                self._end_outage()
                self._give_up(transaction, signal, Outcome.REJECTED, response)
            case ResponseAction.HOLD_REJECTION:
                self._hold_rejection(transaction, signal, response)
            case ResponseAction.GIVE_UP:
                self._give_up(transaction, signal, decision.outcome, response)
            case ResponseAction.RETRY:
                tries = max(signal.attempts, signal.lookup.failures)
                wait = max(decision.delay, pause_of(tries + 1))
                self.queue.wait_until(signal, now + wait)
                if signal.stage is Stage.CLAIM:  # its source was not checked
                    self.limiter.hold(wait, now)
            case ResponseAction.SLOW_DOWN:
                self.queue.put_back(signal)
                self._slow_down(response, now)
            case ResponseAction.CHECK_SOURCE:
                self._compare(transaction, pair_of(signal), response)
                self.queue.put_back(signal)
            case ResponseAction.STOP:
                self.stop.set(refusal(response, self.settings.api_url))
            case _:
                pause = decision.delay + pause_of(signal.lookup.failures + 2)
                self._go_on(signal, decision, now + pause)
        return decision

    def _decide(
        self, transaction: Transaction, signal: QueuedSignal, response: Response
    ) -> ResponseDecision:
        """Decide on a response, and note in its signal the facts for the next one."""
        page = self._page(transaction, signal, response)
        policy = Policy(
            looks_up=self.settings.on_unknown == "verify" and self._returns_ids,
            lookup_delay=float(self.settings.verify_delay_seconds),
            accepted=self.accepted,
            page=page,
        )
        decision = decide(signal, response, policy)
        if page is not None:
            signal.lookup.is_doubtful |= page.is_doubtful
            signal.lookup.shows_control |= page.shows_control
        if decision.is_unclear:  # so it was no lookup
            self._note(signal, "requests")
            signal.is_unclear = True
            signal.lookup.control, signal.lookup.failures = None, 0
            self.unclear[signal.number] = signal
        elif decision.is_failure and signal.stage is Stage.LOOK_UP:
            signal.lookup.failures += 1
        signal.stage = decision.stage
        return decision

    def _compare(
        self, transaction: Transaction, pair: first_run.Pair, response: Response
    ) -> None:
        """Compare a list of Stairoids' signals with the ledger."""
        query, scope = self.check.question(pair), self.settings.scope
        is_trusted = self.new_key is None or self.settings.first_run != "guard"
        is_trusted &= not self.settings.rebuilds
        url = self.settings.api_url
        self.stop.set(first_run.list_error(response, url, is_trusted=is_trusted))
        if self.settings.rebuilds:  # it sends nothing that could end an outage
            self._end_outage()
        if response.kind is not ResponseKind.ACCEPTED:
            self.check.is_on = False
        elif query is not None and self.stop.reason is None:
            self.write_settled(transaction)  # ids of this step count as well
            ids = first_run.ids_in(response)
            facts = lookup.facts(transaction.connection, scope, ids)
            waiting = {pair_of(s) for s in self.queue.unfinished.values()}
            known = first_run.newest_of(response)
            for cleared in self.check.learn(query, response, facts, waiting):
                transaction.note_known(scope, *cleared, known)
            self.stop.set(self.check.failure)

    def _page(
        self, transaction: Transaction, signal: QueuedSignal, response: Response
    ) -> Page | None:
        """Return the facts on the page of a lookup; None if it cannot be read."""
        claim, signals = signal.claim, listed(response)
        if (
            signal.stage is not Stage.LOOK_UP
            or response.kind is not ResponseKind.ACCEPTED
            or signals is None
            or not is_readable(claim.request, signals)
        ):
            return None
        self.write_settled(transaction)  # ids of this step count as well
        since = (
            attempted_since(claim, response.server_time)
            if signal.recovered
            else self.clock.at(signal.claimed)
        )
        found = alike(claim.request, since, signals)
        for known in transaction.accepted_among(found):
            del found[known]
        if found:
            rivals = self.queue.requests_beside(signal)
            found = without_rivals(claim.request, found, signals, rivals)
        equal = [signal_id for signal_id, is_equal in found.items() if is_equal]
        # Some may be the equal signals of other runs, which are in flight as well.
        others = transaction.count_equal_claims(claim) if equal else 0
        # A later signal that seems older than the request shows that times are wrong.
        later = {s["id"] for s in signals if not ends_before([s], since)}
        return Page(
            found_id=equal[others] if others < len(equal) else None,
            is_doubtful=bool(found),
            shows_control=signal.lookup.has_control(later),
            is_last=ends_before(signals, since),
            end=end_of(signals),
        )

    def _go_on(
        self, signal: QueuedSignal, decision: ResponseDecision, due: float
    ) -> None:
        """Take the next step of a lookup, which is over unless it has more pages."""
        if decision.action is ResponseAction.READ_ON:
            signal.lookup.pages.add(decision.cursor, decision.end)
            self.queue.put_back(signal)
            return
        signal.lookup.begin()
        if decision.action is ResponseAction.WAIT:
            self.waiting[signal.number] = signal
        elif decision.action is ResponseAction.LOOK_AGAIN:
            self.queue.wait_until(signal, signal.lookup.again_at(due))
        else:
            self._note(signal, "sent_again")
            self.unclear.pop(signal.number, None)
            self.queue.put_back(signal)

    def _resume(self, accepted: QueuedSignal, control: str | None, now: float) -> None:
        """Let lookups go on that wait for a later signal to be accepted.

        Those that wait for the first accepted signal also go on after a found one.
        """
        is_new = accepted.stage is not Stage.LOOK_UP
        for signal in list(self.unclear.values()):
            waits = signal.number in self.waiting
            is_first = signal.lookup.control is None or waits
            is_control = is_new and is_first and signal.source == accepted.source
            if is_control:
                signal.lookup.control, signal.lookup.control_at = control, now
            if waits and (is_control or not self.accepted):
                del self.waiting[signal.number]
                signal.lookup.failures = 0
                self.queue.wait_until(signal, now + self.settings.verify_delay_seconds)

    def _note(self, signal: QueuedSignal, counter: str) -> None:
        if not signal.recovered:
            self.unanswered[counter] += 1

    def _accept(
        self,
        transaction: Transaction,
        signal: QueuedSignal,
        response: Response,
        ids: SignalIds,
    ) -> None:
        """Settle a signal that Stairoids accepted, as a response or a lookup shows."""
        if signal.stage is Stage.LOOK_UP:
            self._note(signal, "found")
        else:
            known = Known(timestamp(response.moment), response.signal_id)
            self._known[pair_of(signal)] = known
            self._returns_ids &= response.signal_id is not None
        self.accepted += 1
        self._end_outage()
        for held, rejection in self._breaker.accepted(signal.claim.stream_name):
            self._give_up(transaction, held, Outcome.REJECTED, rejection)
        if (number := signal.claim.dead_letter) is not None:  # also of edited records
            dead_letters.discard(transaction, [number])
        self.settle(signal, Outcome.ACCEPTED, ids=ids)

    def _hold_rejection(
        self, transaction: Transaction, signal: QueuedSignal, response: Response
    ) -> None:
        """Hold a rejection until it is clear that not the mapping is wrong."""
        self._end_outage()
        # Certainly not accepted: it needs no claim, and no other signal waits for it.
        transaction.withdraw(signal.claim.version)
        self.queue.finish(signal)
        stream = signal.claim.stream_name
        if self._breaker.rejected(stream, (signal, response)):
            text = (
                f"Stairoids rejects nearly everything of stream `{stream}` "
                f"({response.reason}): its mapping must be wrong. These signals are "
                "pending. Fix the mapping in `signals` and run again."
            )
            self.stop.set(ConfigError(text))

    def _give_up(
        self,
        transaction: Transaction,
        signal: QueuedSignal,
        outcome: Outcome,
        response: Response,
    ) -> None:
        claim, is_read = signal.claim, response.kind is ResponseKind.ACCEPTED
        reason = signal.why_not_again or (_UNPROVED if is_read else response.reason)
        if outcome is Outcome.UNKNOWN:
            self._note(signal, "held")
        dead_letters.add(
            transaction,
            DeadLetter(
                version=claim.version,
                stream_name=claim.stream_name,
                outcome=outcome,
                reason=reason,
                record=claim.record,
                request=claim.request,
                key_values=claim.key_values,
                request_id=response.request_id,
                attempts=max(1, signal.attempts),
            ),
        )
        self.settle(signal, outcome, reason)

    def leave_to_person(self, transaction: Transaction, signal: QueuedSignal) -> None:
        """Make a dead letter `unknown` of a signal, without a lookup."""
        nothing = Response(kind=ResponseKind.UNKNOWN)
        self._give_up(transaction, signal, Outcome.UNKNOWN, nothing)

    def restore(
        self, transaction: Transaction, signal: QueuedSignal, there: ListedSignals
    ) -> None:
        """Settle a signal that Stairoids has; the next run sends any other."""
        text = signal.claim.request
        ignored = signal.ignored if signal.names_row else ()
        if (found := there.take(text, ignored)) is not None:
            was = Response(kind=ResponseKind.ACCEPTED, body=found)
            self.settle(signal, Outcome.ACCEPTED, "", was.ids, timestamp(was.moment))
        elif there.has_similar(text, None if signal.send == "once" else signal.ignored):
            signal.why_not_again = SIMILAR
            self.leave_to_person(transaction, signal)
        else:
            self.finished.append((signal, Outcome.WOULD_SEND, NOT_THERE))

    def settle(
        self,
        signal: QueuedSignal,
        outcome: Outcome,
        reason: str = "",
        ids: SignalIds = NO_IDS,
        accepted_at: str | None = None,
    ) -> None:
        """Give a signal its outcome, which `write_settled` writes."""
        self.unclear.pop(signal.number, None)
        self._settled.append(
            SettledVersion(
                version=signal.claim.version,
                outcome=outcome,
                run=signal.claim.version.read_in if outcome is Outcome.ACCEPTED else 0,
                ids=ids,
                accepted_at=accepted_at,
                request=signal.claim.request,
                key_values=signal.claim.key_values,
                is_once=signal.send == "once",
                # A held rejection has left the queue and has no claim.
                is_claimed=signal.number in self.queue.unfinished,
            )
        )
        self.finished.append((signal, outcome, reason))

    def write_settled(self, transaction: Transaction) -> None:
        """Write the outcomes so far."""
        write_outcomes(transaction, self._settled)
        self._settled.clear()
        scope = self.settings.scope
        for pair, known in self._known.items():
            transaction.note_known(scope, *pair, known)
        if self._known and self.new_key is not None:
            transaction.note_key(self.new_key)
            self.new_key = None
        self._known.clear()

    def release_rejected(self, transaction: Transaction) -> None:
        """End held rejections: dead letters, or pending if the mapping is wrong."""
        for signal, response in self._breaker.release():
            if self._breaker.has_tripped:
                reason = "rejected with nearly all others"
                self.finished.append((signal, Outcome.PENDING, reason))
            else:
                self._give_up(transaction, signal, Outcome.REJECTED, response)

    def _slow_down(self, response: Response, now: float) -> None:
        """Pause for as long as a 429 asks, or stop if the day's quota is spent."""
        pause = self.outage.throttled(response, now)
        if pause is None:
            text = day_is_spent(response.retry_after, datetime.now(UTC))
            self.stop.set(IncompleteError(text))
            pause = GRACE_SECONDS
        self.limiter.hold(pause, now)

    def _stop_in_outage(self, response: Response, now: float) -> None:
        """Stop if nothing was accepted for too long; until then, log it."""
        url, seconds = self.settings.api_url, self.settings.outage_seconds
        if now >= self.outage.begins_at:
            text = (
                f"Nothing was accepted for {seconds} s (`outage_seconds`). {url}: "
                f"{response.reason}. No signals were lost. Run again."
            )
            self.stop.set(IncompleteError(text))
        if self.stop.reason is not None or not self.outage.is_new(now):
            return
        until = datetime.now(UTC) + timedelta(seconds=self.outage.begins_at - now)
        logger.warning(
            "%s. Trying again until %s UTC (outage_seconds %d).",
            failure_text(url, response.reason),
            f"{until:%H:%M}",
            seconds,
        )

    def _end_outage(self) -> None:
        if self.outage.is_told:
            logger.info("Stairoids responds again (before: %s).", self.outage.reason)
        self.outage.end()
