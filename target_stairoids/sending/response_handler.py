"""Apply the responses of Stairoids to signals, and notice outages.

The outcome of a response is decided by `response_decision.decide`.
"""

from __future__ import annotations

import logging
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from target_stairoids.api.client import Response, ResponseKind
from target_stairoids.api.rate_limiter import RateLimiter
from target_stairoids.api.retry import OutageClock, day_is_spent, pause_before
from target_stairoids.api.signal_lookup import ids_of, listed
from target_stairoids.checks import first_run
from target_stairoids.checks.circuit_breaker import CircuitBreaker
from target_stairoids.checks.first_run import Finding
from target_stairoids.dedup.rules import Outcome
from target_stairoids.exceptions import (
    AccessRefusedError,
    ConfigError,
    IncompleteError,
)
from target_stairoids.ledger import dead_letters
from target_stairoids.ledger.structs import DeadLetter, SettledVersion
from target_stairoids.ledger.transaction import Transaction
from target_stairoids.sending import response_decision
from target_stairoids.sending.queue import QueuedSignal, SendQueue, Stage
from target_stairoids.sending.response_decision import Action, ResponseDecision
from target_stairoids.sending.stop import Stop
from target_stairoids.settings import Settings

logger = logging.getLogger(__name__)

Finished = list[tuple[QueuedSignal, Outcome, str]]

_GRACE_SECONDS = 10.0  # how long requests in flight may take to end


@dataclass(eq=False)
class ResponseHandler:
    """Applies responses within the transaction of a step.

    Attributes:
        accepted: How many signals this run saw accepted.
        unanswered: `requests` without a usable response, and their outcomes; those of
            dead runs are not counted.
        outage: Since when nothing was accepted or rejected.
        settled: Outcomes that `write_settled` writes.
        finished: Outcomes that hold once the step is on disk.
        clear_sources: Sources whose signals may be claimed; None for all.
        asked_source: The source that the first-run check asks about at the moment.
    """

    settings: Settings
    queue: SendQueue
    limiter: RateLimiter
    stop: Stop
    clear_sources: set[str] | None
    asked_source: str | None = None
    accepted: int = 0
    unanswered: Counter[str] = field(default_factory=Counter)
    settled: list[SettledVersion] = field(default_factory=list)
    finished: Finished = field(default_factory=list)

    def __post_init__(self) -> None:
        """Start without an outage and without held rejections."""
        tolerated = self.settings.max_in_flight
        self.outage = OutageClock(self.settings.outage_seconds, tolerated=tolerated)
        self._breaker: CircuitBreaker[tuple[QueuedSignal, Response]] = CircuitBreaker()
        self._returns_ids = True  # until an accepted signal comes without an id

    def apply(
        self,
        transaction: Transaction,
        job: QueuedSignal | str,
        response: Response,
        now: float,
    ) -> None:
        """Apply the response to a signal, or to the first-run check of a source."""
        if isinstance(job, str):
            self._apply_first_run(job, response, now)
        else:
            self._apply_to_signal(transaction, job, response, now)

    def _apply_to_signal(  # noqa: C901 - one case per action
        self,
        transaction: Transaction,
        signal: QueuedSignal,
        response: Response,
        now: float,
    ) -> None:
        policy = response_decision.Policy(
            looks_up=self.settings.on_unknown == "verify" and self._returns_ids,
            lookup_delay=float(self.settings.verify_delay_seconds),
            accepted=self.accepted,
            found_id=self._found_id(transaction, signal, response),
        )
        decision = response_decision.decide(signal, response, policy)
        was_lookup = signal.stage is Stage.LOOK_UP
        signal.stage = decision.stage
        if decision.is_unclear:
            self._note(signal, "requests")
        pause = 0.0
        if decision.is_failure:
            signal.lookups += was_lookup
            pause = self.outage.failed(response, now)
            self.limiter.hold(pause, now)
        match decision.action:
            case Action.ACCEPT:
                if was_lookup:
                    self._note(signal, "found")
                else:
                    self._returns_ids &= decision.signal_id is not None
                self._accept(transaction, signal, decision.signal_id)
            case Action.REJECT:
                self._end_outage()
                self._reject(transaction, signal, response, decision)
            case Action.GIVE_UP:
                self._give_up(transaction, signal, decision.outcome, response)
            case Action.RETRY:
                tries = max(signal.attempts, signal.lookups)
                wait = max(decision.delay, pause, pause_before(tries + 1))
                self.queue.wait_until(signal, now + wait)
                self._stop_in_outage(response, now)
            case Action.SLOW_DOWN:
                self.queue.put_back(signal)
                self._slow_down(response, now)
            case Action.SEND_AGAIN:
                self._note(signal, "sent_again")
                signal.cursors.clear()
                self.queue.put_back(signal)
            case Action.READ_ON:
                signal.cursors.append(decision.cursor)
                self.queue.put_back(signal)
            case Action.STOP:
                self._refuse(response)

    def _found_id(
        self, transaction: Transaction, signal: QueuedSignal, response: Response
    ) -> str | None:
        """Return the id of the listed signal that is this one, if one is."""
        kind, claim = response.kind, signal.claim
        if signal.stage is not Stage.LOOK_UP or kind is not ResponseKind.ACCEPTED:
            return None
        self.write_settled(transaction)  # ids of this step count as well
        for found in ids_of(claim.signal, claim.claimed_at, listed(response) or []):
            if not transaction.owns_signal(found, other_than=claim.version):
                return found
        return None

    def _note(self, signal: QueuedSignal, counter: str) -> None:
        if not signal.recovered:
            self.unanswered[counter] += 1

    def _accept(
        self, transaction: Transaction, signal: QueuedSignal, signal_id: str | None
    ) -> None:
        self.accepted += 1
        self._end_outage()
        claim, outcome = signal.claim, Outcome.ACCEPTED
        for held, response in self._breaker.accepted(claim.stream_name):
            self._give_up(transaction, held, Outcome.REJECTED, response)
        self.settled.append(
            SettledVersion(version=claim.version, outcome=outcome, signal_id=signal_id)
        )
        if signal.dead_letter is not None:  # also if a person edited the record
            dead_letters.discard(transaction, [signal.dead_letter])
        self.finished.append((signal, outcome, ""))

    def _reject(
        self,
        transaction: Transaction,
        signal: QueuedSignal,
        response: Response,
        decision: ResponseDecision,
    ) -> None:
        """Hold a rejection until it is clear that not the mapping is wrong."""
        if decision.is_final:
            self._give_up(transaction, signal, Outcome.REJECTED, response)
            return
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
        claim = signal.claim
        is_claimed = signal.number in self.queue.unfinished  # not if it was held
        if outcome is Outcome.UNKNOWN:
            self._note(signal, "held")
        self.settled.append(
            SettledVersion(
                version=claim.version, outcome=outcome, is_claimed=is_claimed
            )
        )
        dead_letters.add(
            transaction,
            DeadLetter(
                version=claim.version,
                stream_name=claim.stream_name,
                outcome=outcome,
                reason=response.reason,
                record=claim.record,
                signal=claim.signal,
                request_id=response.request_id,
                attempts=max(1, signal.attempts),
            ),
        )
        self.finished.append((signal, outcome, response.reason))

    def write_settled(self, transaction: Transaction) -> None:
        """Write the outcomes so far."""
        transaction.settle(self.settled)
        self.settled.clear()

    def release_rejected(self, transaction: Transaction) -> None:
        """End held rejections: dead letters, or pending if the mapping is wrong."""
        for signal, response in self._breaker.release():
            if isinstance(self.stop.reason, ConfigError):
                reason = "rejected with nearly all others"
                self.finished.append((signal, Outcome.PENDING, reason))
            else:
                self._give_up(transaction, signal, Outcome.REJECTED, response)

    # The first-run check

    def _apply_first_run(self, source: str, response: Response, now: float) -> None:
        self.asked_source = None
        is_refused = response.kind is ResponseKind.REFUSED
        if is_refused and response.status not in first_run.CANNOT_READ:
            self._refuse(response)
            return
        try:
            finding = first_run.finding_of(source, response)
        except ConfigError as error:
            self.stop.set(error)
            return
        if finding is Finding.ASK_AGAIN:
            if response.kind is ResponseKind.THROTTLED:
                self._slow_down(response, now)
            else:
                pause = max(1.0, self.outage.failed(response, now))
                self.limiter.hold(pause, now)
                self._stop_in_outage(response, now)
            return
        if self.clear_sources is not None:
            self.clear_sources.add(source)
        if finding is Finding.UNREADABLE:
            logger.warning(
                "The ledger is new and the API key may not read. So the target cannot "
                "check whether signals of source `%s` were sent before. Sending them.",
                source,
            )

    # Outages

    def _refuse(self, response: Response) -> None:
        request = f" (request_id {response.request_id})" if response.request_id else ""
        text = (
            f"Stairoids refuses the request: {response.reason}{request} at "
            f"{self.settings.api_url}. Check `api_key` (it needs the `read_write` "
            "scope) and `api_url`. No signals were lost. Fix it and run again."
        )
        self.stop.set(AccessRefusedError(text))

    def _slow_down(self, response: Response, now: float) -> None:
        """Pause for as long as a 429 asks, or stop if the day's quota is spent."""
        pause = self.outage.throttled(response, now)
        if pause is None:
            text = day_is_spent(response.retry_after, datetime.now(UTC))
            self.stop.set(IncompleteError(text))
            pause = _GRACE_SECONDS
        self.limiter.hold(pause, now)

    def _stop_in_outage(self, response: Response, now: float) -> None:
        if self.stop.reason is None and self.outage.is_outage(now):
            text = (
                f"Nothing was accepted for {self.settings.outage_seconds} s "
                f"(`outage_seconds`). {self.settings.api_url}: {response.reason}. "
                "No signals were lost. Run again."
            )
            self.stop.set(IncompleteError(text))
        if self.stop.reason is None and self.outage.is_new(now):
            self._log_outage(response, now)

    def _log_outage(self, response: Response, now: float) -> None:
        url = self.settings.api_url
        words = response.reason.removeprefix("no connection")
        text = f"{url}: {words}"
        if words != response.reason:
            text = f"No connection to {url}{words}"
            if url.startswith("http://"):  # a loopback address: others must be https
                text += "; is the sandbox running? (`stairoids-sandbox serve`)"
        until = datetime.now(UTC) + timedelta(seconds=self.outage.seconds_left(now))
        logger.warning(
            "%s. Trying again until %s UTC (outage_seconds %d).",
            text,
            f"{until:%H:%M}",
            self.settings.outage_seconds,
        )

    def _end_outage(self) -> None:
        """Note that Stairoids accepted or rejected a signal."""
        if self.outage.is_told:
            logger.info("Stairoids responds again (before: %s).", self.outage.reason)
        self.outage.is_over()
