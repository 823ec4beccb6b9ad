"""The judge: what an response means for its signal, and for the run.

Certainly not accepted is sent again. An response that leaves it open is looked into, by
reading Stairoids' signals, before anything is sent again. A refusal of the key stops
the run, because the config is at fault and not the data.
"""

from __future__ import annotations

import logging
from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from target_stairoids.api.client import ResponseKind
from target_stairoids.api.retry import OutageClock, day_is_spent, pause_before
from target_stairoids.api.signal_lookup import id_of, is_readable, listed, next_cursor
from target_stairoids.checks.circuit_breaker import CircuitBreaker
from target_stairoids.checks.first_run import Guard, Ruling
from target_stairoids.dedup.rules import Outcome
from target_stairoids.exceptions import (
    AccessRefusedError,
    ConfigError,
    IncompleteError,
    StairoidsError,
)
from target_stairoids.ledger.entries import DeadLetter
from target_stairoids.sending.queue import Entry, Stage

if TYPE_CHECKING:
    from target_stairoids.api.client import Response
    from target_stairoids.api.rate_limiter import RateLimiter
    from target_stairoids.ledger.transaction import Transaction
    from target_stairoids.sending.queue import SendQueue
    from target_stairoids.settings import Settings

logger = logging.getLogger(__name__)

_MAX_ATTEMPTS = 8
_GRACE_SECONDS = 10.0


class Judge:
    """Rules on responses; writes what must be on disk into the turn it is given.

    Attributes:
        stop: Why nothing more must be started, once there is a reason.
        accepted: How many signals this run saw accepted.
        unanswered: `requests` that got no clear response, and their outcomes; those of
            killed runs aside.
    """

    def __init__(
        self, settings: Settings, window: SendQueue, pace: RateLimiter, guard: Guard
    ) -> None:
        self._settings = settings
        self._window = window
        self._pace = pace
        self._guard = guard
        self._trouble = OutageClock(
            settings.outage_seconds, tolerated=settings.max_in_flight
        )
        self._parked: list[Entry] = []  # until the guard has ruled
        self._breaker: CircuitBreaker[tuple[Entry, Response]] = CircuitBreaker()
        self._finished: list[tuple[Entry, Outcome, str]] = []
        self._tells_ids = True  # until an acceptance came without one
        self.stop: StairoidsError | None = None
        self.accepted = 0
        self.unanswered: Counter[str] = Counter()

    def finish(self, entry: Entry, outcome: Outcome, reason: str = "") -> None:
        """Note an outcome that holds as soon as the turn is on disk."""
        self._finished.append((entry, outcome, reason))

    def finished(self) -> list[tuple[Entry, Outcome, str]]:
        """Return the outcomes of the turn that is on disk now, once."""
        finished, self._finished = self._finished, []
        return finished

    def park(self, entry: Entry) -> None:
        """Keep a signal back until the guard has ruled on its source."""
        self._parked.append(entry)

    def release_parked(self, due: float) -> None:
        """Let go on at a time, and ask the guard again, what was kept back for it."""
        for entry in self._parked:
            self._window.wait_until(entry, due)
        self._parked.clear()

    def hear(
        self, turn: Transaction, entry: Entry, response: Response, now: float
    ) -> None:
        """Rule on the response to a signal, or to the look for one."""
        if entry.stage is Stage.LOOK:
            self._judge_look(turn, entry, response, now)
            return
        match response.kind:
            case ResponseKind.ACCEPTED:
                self._tells_ids &= response.signal_id is not None
                self._accept(turn, entry, response.signal_id)
            case ResponseKind.REJECTED:
                self._end_trouble()
                self._reject(turn, entry, response)
            case ResponseKind.REFUSED:
                entry.stage = Stage.SEND
                self._refuse(response)
            case ResponseKind.THROTTLED:
                entry.stage = Stage.SEND
                self._throttle(entry, response, now)
            case ResponseKind.NOT_SENT:
                entry.stage = Stage.SEND
                self._retry(turn, entry, response, now)
            case ResponseKind.UNKNOWN:
                self._note_unanswered(entry, "requests")
                self._doubt(turn, entry, response, now)

    def _note_unanswered(self, entry: Entry, what: str) -> None:
        if not entry.recovered:
            self.unanswered[what] += 1

    def _reject(self, turn: Transaction, entry: Entry, response: Response) -> None:
        """Give a signal up, once it is clear that it and not the mapping is wrong."""
        if response.code == "domain_excluded":
            self._give_up(turn, entry, Outcome.REJECTED, response)
            return
        # Certainly not accepted, so it needs no claim and nobody need wait for it.
        turn.withdraw(entry.claim)
        self._window.finish(entry)
        stream = entry.claim.stream_name
        if self._breaker.rejected(stream, (entry, response)) and self.stop is None:
            self.stop = ConfigError(
                f"Stairoids rejects nearly everything of stream `{stream}` "
                f"({response.reason}): its mapping must be wrong. These signals are "
                "pending; mend the mapping in `signals` and run again."
            )

    def release_rejected(self, turn: Transaction) -> None:
        """End what is held back: given up, or pending where the mapping is wrong."""
        for entry, response in self._breaker.release():
            if not isinstance(self.stop, ConfigError):
                self._give_up(turn, entry, Outcome.REJECTED, response, is_claimed=False)
            else:
                self.finish(entry, Outcome.PENDING, "rejected with nearly all others")

    def _doubt(
        self, turn: Transaction, entry: Entry, response: Response, now: float
    ) -> None:
        """Go on from a request that may or may not have been accepted."""
        # What is found by content alone may be an earlier signal that says the same.
        if self._settings.on_unknown == "hold" or not self._tells_ids:
            self._give_up(turn, entry, Outcome.UNKNOWN, response)
            return
        entry.stage = Stage.LOOK
        delay = float(self._settings.verify_delay_seconds)
        self._retry(turn, entry, response, now, delay=delay)

    def _judge_look(
        self, turn: Transaction, entry: Entry, response: Response, now: float
    ) -> None:
        if response.kind is ResponseKind.REFUSED and response.status not in {403, 405}:
            self._refuse(response)
        elif response.kind is ResponseKind.THROTTLED:
            self._throttle(entry, response, now)
        elif response.kind in {ResponseKind.NOT_SENT, ResponseKind.UNKNOWN}:
            entry.looks += 1
            self._retry(turn, entry, response, now)
        else:
            self._read_page(turn, entry, response)

    def _read_page(self, turn: Transaction, entry: Entry, response: Response) -> None:
        claim = entry.claim
        page = listed(response) if response.kind is ResponseKind.ACCEPTED else None
        if page is None or not is_readable(claim.signal, page):
            self._give_up(turn, entry, Outcome.UNKNOWN, response)
            return
        found = id_of(
            claim.signal,
            claim.claimed_at,
            page,
            lambda signal_id: turn.owns_signal(signal_id, other_than=claim),
        )
        cursor = next_cursor(response)
        if found is not None:
            self._note_unanswered(entry, "found")
            self._accept(turn, entry, found)
        elif cursor is not None and cursor in entry.cursors:
            # The pages go round in a circle, so they prove nothing.
            self._give_up(turn, entry, Outcome.UNKNOWN, response)
        elif cursor is not None:
            entry.cursors.append(cursor)
            self._window.put_back(entry)
        else:
            self._note_unanswered(entry, "sent_again")
            entry.cursors.clear()
            entry.stage = Stage.SEND
            self._window.put_back(entry)

    def _accept(self, turn: Transaction, entry: Entry, signal_id: str | None) -> None:
        self.accepted += 1
        self._end_trouble()
        for held, why in self._breaker.accepted(entry.claim.stream_name):
            self._give_up(turn, held, Outcome.REJECTED, why, is_claimed=False)
        turn.settle(
            entry.claim.verdict(Outcome.ACCEPTED, is_claimed=True, signal_id=signal_id)
        )
        if entry.letter is not None:  # also where a person has mended the record
            turn.discard([entry.letter])
        self.finish(entry, Outcome.ACCEPTED)

    def _give_up(
        self,
        turn: Transaction,
        entry: Entry,
        outcome: Outcome,
        response: Response,
        *,
        is_claimed: bool = True,
    ) -> None:
        claim = entry.claim
        if outcome is Outcome.UNKNOWN:
            self._note_unanswered(entry, "held")
        turn.settle(claim.verdict(outcome, is_claimed=is_claimed))
        turn.bury(
            DeadLetter(
                version=claim.version,
                mapping=claim.mapping,
                stream=claim.stream,
                stream_name=claim.stream_name,
                outcome=outcome,
                reason=response.reason,
                record=claim.record,
                signal=claim.signal,
                request_id=response.request_id,
                attempts=max(1, entry.attempts),
            )
        )
        self.finish(entry, outcome, response.reason)

    def _refuse(self, response: Response) -> None:
        id_text = f" (request_id {response.request_id})" if response.request_id else ""
        self.stop = self.stop or AccessRefusedError(
            f"Stairoids refuses us: {response.reason}{id_text} at "
            f"{self._settings.api_url}. Check `api_key` (it needs the `read_write` "
            "scope) and `api_url`. Nothing is lost: run again when it is mended."
        )

    def _throttle(self, entry: Entry, response: Response, now: float) -> None:
        self._window.put_back(entry)
        self._slow_down(response, now)

    def _slow_down(self, response: Response, now: float) -> None:
        """Let nothing start for as long as a 429 asks; or is the day spent?"""
        pause = self._trouble.throttled(response, now)
        if pause is None:
            text = day_is_spent(response.retry_after, datetime.now(UTC))
            self.stop = self.stop or IncompleteError(text)
            pause = _GRACE_SECONDS  # as long as what is in flight may take to end
        self._pace.hold(pause, now)

    def _retry(
        self,
        turn: Transaction,
        entry: Entry,
        response: Response,
        now: float,
        *,
        delay: float = 0,
    ) -> None:
        """Let a signal go on later, unless it alone is in trouble or nothing works."""
        pause = self._trouble.failed(response, now)
        self._pace.hold(pause, now)
        tries = max(entry.attempts, entry.looks)
        if tries >= _MAX_ATTEMPTS and self.accepted > entry.accepted_before:
            sure = entry.stage is Stage.SEND
            outcome = Outcome.REJECTED if sure else Outcome.UNKNOWN
            self._give_up(turn, entry, outcome, response)
            return
        due = now + max(delay, pause, pause_before(tries + 1))
        self._window.wait_until(entry, due)
        self._stop_in_outage(response, now)

    def _stop_in_outage(self, response: Response, now: float) -> None:
        if self.stop is None and self._trouble.is_outage(now):
            self.stop = IncompleteError(
                f"Nothing was accepted for {self._settings.outage_seconds} s "
                f"(`outage_seconds`). {self._settings.api_url}: {response.reason}. "
                "Nothing is lost: run again."
            )
        if self.stop is None and self._trouble.is_news(now):
            self._tell_trouble(response, now)

    def _tell_trouble(self, response: Response, now: float) -> None:
        url = self._settings.api_url
        words = response.reason.removeprefix("no connection")
        text = f"{url}: {words}"
        if words != response.reason:
            text = f"No connection to {url}{words}"
            if url.startswith("http://"):  # a loopback address: others must be https
                text += "; is the sandbox running? (`stairoids-sandbox serve`)"
        until = datetime.now(UTC) + timedelta(seconds=self._trouble.seconds_left(now))
        logger.warning(
            "%s. Trying again until %s UTC (outage_seconds %d).",
            text,
            f"{until:%H:%M}",
            self._settings.outage_seconds,
        )

    def _end_trouble(self) -> None:
        """Note that Stairoids decided on a signal."""
        if self._trouble.is_told:
            logger.info("Stairoids responds again (before: %s).", self._trouble.reason)
        self._trouble.is_over()

    @property
    def trouble(self) -> str:
        """What went wrong since Stairoids last decided on a signal; "" for nothing."""
        return self._trouble.reason

    def hear_guard(self, source: str, response: Response, now: float) -> None:
        """Rule on the guard's question, and let go of what waited for it."""
        is_refused = response.kind is ResponseKind.REFUSED
        if is_refused and response.status not in {403, 404, 405}:
            self._refuse(response)
            return
        try:
            ruling = self._guard.hear(source, response)
        except ConfigError as error:
            self.stop = error
            return
        if ruling is Ruling.CANNOT_TELL:
            logger.warning(
                "The ledger is new and the API key may not read, so nobody can tell "
                "whether signals of source `%s` were sent before. Sending them.",
                source,
            )
        delay = 0.0
        if ruling is Ruling.UNASKED:
            delay = 1.0
            if response.kind is ResponseKind.THROTTLED:
                self._slow_down(response, now)
            else:
                delay = max(delay, self._trouble.failed(response, now))
                self._stop_in_outage(response, now)
        self.release_parked(now + delay)
