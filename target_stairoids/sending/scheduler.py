"""Scheduler: signals to the workers, their responses to the judge, step by step.

In one turn the responses that came are judged and what may go is claimed, in one
transaction; only when that is on disk do the claimed signals go to the senders.
"""

from __future__ import annotations

import functools
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import msgspec
from msgspec.structs import replace

from target_stairoids.api.client import Client
from target_stairoids.api.rate_limiter import RateLimiter
from target_stairoids.api.signal_lookup import query_for
from target_stairoids.api.worker_pool import WorkerPool
from target_stairoids.checks.first_run import Guard, Ruling
from target_stairoids.checks.limits import Limits
from target_stairoids.dedup.rules import Outcome, is_settled, without_news
from target_stairoids.exceptions import IncompleteError, StairoidsError
from target_stairoids.ledger.transaction import timestamp
from target_stairoids.sending.queue import Entry, Stage, lanes_of
from target_stairoids.sending.response_decision import Judge

if TYPE_CHECKING:
    from collections import Counter

    from target_stairoids.api.client import Response
    from target_stairoids.dedup.rules import Known
    from target_stairoids.ledger.entries import Claim
    from target_stairoids.ledger.ledger import Ledger
    from target_stairoids.ledger.transaction import Transaction
    from target_stairoids.sending.queue import SendQueue
    from target_stairoids.settings import Settings

Finished = list[tuple[Entry, Outcome, str]]

_MAX_YIELDS = 6  # to another run's claim: about six seconds in all
_YIELD_SECONDS = 0.05


class Dispatch:
    """Everything between the window and Stairoids.

    Args:
        window: The signals that are under way.

    Attributes:
        is_whole: Whether every turn came to its end. If one did not, what is known here
            is not what is on disk: end the run as if it had been killed.
    """

    def __init__(self, settings: Settings, ledger: Ledger, window: SendQueue) -> None:
        self._settings = settings
        self._ledger = ledger
        self._window = window
        client = Client(
            settings.api_url,
            settings.api_key,
            timeout=settings.request_timeout_seconds,
        )
        self._senders: WorkerPool[Entry | str] = WorkerPool(
            client,
            settings.max_in_flight,
            patience=2 * settings.request_timeout_seconds,
        )
        self.pace = RateLimiter(settings.requests_per_minute)
        is_guarded = settings.first_run == "guard" and ledger.is_new()
        self._guard = Guard(is_on=is_guarded)
        self._judge = Judge(settings, window, self.pace, self._guard)
        self._limits = Limits(settings, time.monotonic())
        self._questions: dict[str, dict[str, str | int]] = {}  # of the guard, by source
        self._begun = 0
        self._adopted = 0
        self.is_whole = True

    @property
    def stop(self) -> StairoidsError | None:
        """Why nothing more must be started, once there is a reason."""
        return self._judge.stop

    @property
    def trouble(self) -> str:
        """What went wrong since Stairoids last decided on a signal; "" for nothing."""
        return self._judge.trouble

    @property
    def unanswered(self) -> Counter[str]:
        """How many requests got no clear response, and what became of them."""
        return self._judge.unanswered

    def stop_for(self, reason: StairoidsError | None) -> None:
        """Start nothing more, if there is a reason; the first one counts."""
        self._judge.stop = self._judge.stop or reason

    @property
    def wake_descriptor(self) -> int:
        """Readable when an response has come, or `wake` was called."""
        return self._senders.wake_descriptor

    def wake(self) -> None:
        """Wake whoever waits; safe in a signal handler."""
        self._senders.wake()

    @property
    def in_flight(self) -> int:
        """How many requests wait for their response."""
        return self._senders.in_flight

    @property
    def is_stuck(self) -> bool:
        """Whether nothing under way can go on before another process does."""
        return (
            not self._senders.in_flight
            and not self._window.has_ready
            and self._window.next_timer is None
        )

    def step(self) -> Finished | None:
        """Commit the responses that came and the claims that may go.

        Returns:
            The outcomes that are on disk now; None if there was nothing to do.
        """
        self.stop_for(self._limits.minutes_reached(time.monotonic()))
        responses = self._senders.responses()
        now = time.monotonic()
        for _, response in responses:
            self.pace.answered(response, now)
        if not responses and not self._may_start(now):
            return None
        self.is_whole = False
        self._ledger.hold()
        with self._ledger.transaction() as turn:
            for job, response in responses:
                if isinstance(job, str):
                    self._judge.hear_guard(job, response, now)
                else:
                    self._judge.hear(turn, job, response, now)
            most = self._limits.left_today(turn)
            go = self._prepare(turn, self._starters(now, most))
            self._limits.spend(turn, len(go) + len(self._questions))
        if go:
            self._ledger.hold()
        finished = self._judge.finished()
        for entry, _, _ in finished:
            self._window.finish(entry)
        is_asking = bool(self._questions)
        self._ask()
        for entry in go:
            self._dispatch(entry)
        if self.pace.is_held(now) or self._is_refused():
            self.recall()
        self.is_whole = True
        return finished if responses or go or finished or is_asking else None

    def _is_refused(self) -> bool:
        """Say whether what was handed in and not yet begun must not be sent."""
        stop = self._judge.stop
        return stop is not None and not isinstance(stop, IncompleteError)

    def recall(self) -> None:
        """Take back what waits for a sender: nothing may be sent now."""
        for job in reversed(self._senders.recall()):
            self.pace.not_started()
            if isinstance(job, str):
                self._guard.forget(job)
                self._judge.release_parked(0.0)
                continue
            if job.stage is not Stage.LOOK:
                job.stage = Stage.SEND  # claimed, and certainly not sent
                job.attempts -= 1
            self._window.put_back(job)

    def _may_start(self, now: float) -> bool:
        timer = self._window.next_timer
        is_due = self._window.has_ready or (timer is not None and timer <= now)
        return is_due and self._judge.stop is None and self._slots(now) > 0

    def _slots(self, now: float) -> int:
        """Return how many requests may be handed in now."""
        return min(self._senders.room(ahead=self._looks_ahead), self.pace.room(now))

    @property
    def _looks_ahead(self) -> bool:
        """Whether requests may be handed in that no sender can begin yet.

        Before anything was accepted a mistake must not cost more than it has to; and a
        lease that can be lost is asked for right before each request.
        """
        return self._judge.accepted > 0 and not self._ledger.may_lose_its_lease

    def _starters(self, now: float, most: int) -> list[Entry]:
        """Return the signals that may go now, as many as there are slots."""
        timer = self._window.next_timer
        is_due = self._window.has_ready or (timer is not None and timer <= now)
        if not most and is_due:
            self.stop_for(self._limits.day_reached)
        starters: list[Entry] = []
        while self._judge.stop is None:
            slots = min(self._slots(now), most)
            if len(starters) + len(self._questions) >= slots:
                break
            entry = self._window.take(now)
            if entry is None:
                break
            if entry.stage is Stage.CLAIM and not self._is_allowed(entry):
                continue
            if entry.stage is Stage.LOOK and now < entry.not_before:
                self._window.wait_until(entry, entry.not_before)
                continue
            starters.append(entry)
        return starters

    def _is_allowed(self, entry: Entry) -> bool:
        """Ask the guards of the run; an entry they hold is parked or put back."""
        reached = self._limits.signals_reached(self._begun)
        if reached is not None:
            self._window.put_back(entry)
            self._judge.stop = reached
            return False
        source = msgspec.json.decode(entry.claim.signal)["source"]
        ruling = self._guard.ruling(source)
        if ruling in {Ruling.CLEAR, Ruling.CANNOT_TELL}:
            self._begun += 1
            return True
        self._judge.park(entry)
        if ruling is Ruling.UNASKED:
            self._questions[source] = self._guard.ask(source)
        return False

    def _prepare(self, turn: Transaction, starters: list[Entry]) -> list[Entry]:
        """Claim what starts; ask the gates again now that nobody else can."""
        for entry in starters:
            is_again = entry.stage is Stage.SEND
            if is_again and not turn.claim_again(entry.claim, entry.attempts + 1):
                entry.stage = Stage.CLAIM  # the claim is gone: somebody erased it
        new = [entry for entry in starters if entry.stage is Stage.CLAIM]
        go = [entry for entry in starters if entry.stage is not Stage.CLAIM]
        holders = turn.claim(*(entry.claim for entry in new))
        claimed = []
        for entry in new:
            holder = holders.get((entry.claim.entity, entry.claim.mapping))
            if holder is None:
                entry.claim = replace(entry.claim, claimed_at=timestamp())
                claimed.append(entry)
            else:
                self._yield_to(turn, entry, holder)
        known = turn.look_up(
            [entry.claim.version for entry in claimed],
            [entry.claim.entity for entry in claimed],
        )
        return go + [entry for entry in claimed if self._is_news(turn, entry, known)]

    def _is_news(self, turn: Transaction, entry: Entry, known: Known) -> bool:
        claim = entry.claim
        latest = known.latest.get((claim.entity, claim.mapping))
        outcome: Outcome | None
        # A dead letter that is gone was sent by another replay.
        is_replay = entry.letter is not None and turn.is_buried(entry.letter)
        if not is_replay and is_settled(
            known.settled.get((claim.version, claim.mapping)),
            latest,
            version=claim.version,
            position=claim.position,
            fingerprint=claim.fingerprint,
            send=entry.send,
            last_complete_run=self._ledger.complete_run_of(claim.stream),
        ):
            outcome = Outcome.DUPLICATE
        else:
            outcome = without_news(latest, send=entry.send, content=claim.content)
        if outcome is None:
            return True
        turn.withdraw(claim)
        self._begun -= 1
        if outcome is Outcome.UNCHANGED:
            turn.settle(claim.verdict(outcome, is_claimed=False))
        self._judge.finish(entry, outcome)
        return False

    def _yield_to(self, turn: Transaction, entry: Entry, holder: int) -> None:
        """Leave an entity to the run that has claimed it, or take a dead one's over."""
        self._begun -= 1
        orphan = None if self._ledger.lives(holder) else turn.claim_on(entry.claim)
        if orphan is None or not turn.take_over(orphan):
            if entry.yields < _MAX_YIELDS:
                entry.yields += 1
                due = time.monotonic() + _YIELD_SECONDS * 2**entry.yields
                self._window.wait_until(entry, due)
                return
            self._judge.finish(entry, Outcome.PENDING, "another run is sending it")
            return
        self._window.let_pass(self._adopted_entry(orphan), entry)

    def _ask(self) -> None:
        """Hand in what the guard wants to know."""
        for source, query in self._questions.items():
            self.pace.start()
            self._senders.hand_in(source, functools.partial(_list, query))
        self._questions.clear()

    def _dispatch(self, entry: Entry) -> None:
        self.pace.start()
        if entry.stage is Stage.LOOK:
            query = query_for(
                msgspec.json.decode(entry.claim.signal),
                entry.cursors[-1] if entry.cursors else None,
            )
            self._senders.hand_in(entry, functools.partial(_list, query))
            return
        if not entry.attempts:
            entry.accepted_before = self._judge.accepted
        entry.attempts += 1
        self._senders.hand_in(entry, functools.partial(_post, entry.claim.signal))

    def adopt(self, claim: Claim) -> None:
        """Go on from what a dead run left: it may or may not have been accepted."""
        self._window.add(self._adopted_entry(claim))

    def _adopted_entry(self, claim: Claim) -> Entry:
        self._adopted += 1
        signal = msgspec.json.decode(claim.signal)
        return Entry(
            number=-self._adopted,
            claim=claim,
            send="always",
            lanes=lanes_of(
                claim.entity, signal.get("account", {}), signal.get("contact", {})
            ),
            stage=Stage.LOOK,
            not_before=self._look_at(claim),
            recovered=True,
            attempts=claim.attempts,
        )

    def _look_at(self, claim: Claim) -> float:
        """Return when enough time has passed since a dead run may have sent a signal.

        It may have waited for a sender long after it was claimed.
        """
        age = datetime.now(UTC) - datetime.fromisoformat(claim.attempted_at)
        delay = self._settings.verify_delay_seconds
        since_sent = age.total_seconds() - self._senders.longest_wait
        # A clock that was set back must not make it wait for ever.
        wait = min(delay, max(0.0, delay - since_sent))
        return time.monotonic() + wait

    def patience(self, now: float) -> float | None:
        """Return the seconds until a turn may have something to do, responses aside."""
        ends = []
        overdue = self._senders.next_overdue
        if overdue is not None:
            ends.append(overdue - now)
        timer = self._window.next_timer
        if self._window.has_ready or timer is not None:
            start = 0.0 if self._window.has_ready else (timer or now) - now
            has_slot = self._senders.room(ahead=self._looks_ahead) > 0
            room_in = self.pace.wait(now) if has_slot else None
            if room_in is not None:
                ends.append(max(start, room_in))
        return min(ends, default=None)

    def let_go(self) -> Finished:
        """Settle what is held back, and drop the claims the next run need not check.

        Returns:
            The outcomes that are on disk now.
        """
        if not self.is_whole:
            return []
        self.recall()
        in_flight = self._senders.jobs()
        with self._ledger.transaction() as turn:
            self._judge.release_rejected(turn)
            for entry in self._window.unfinished():
                # Certainly not accepted, unless its response is still to come. What a
                # dead run left stays: its row may never be read again.
                is_sure = entry.stage is Stage.SEND and entry not in in_flight
                if is_sure and not entry.recovered:
                    turn.withdraw(entry.claim)
        finished = self._judge.finished()
        for entry, _, _ in finished:
            self._window.finish(entry)
        return finished

    def drop_rest(self) -> None:
        """Recall what a stop forbids to send; the rest of what is in flight may end."""
        if self._is_refused():
            self.recall()

    def close(self) -> None:
        """Stop the senders; what none of them has begun is not sent."""
        self.recall()
        self._senders.close()


def _post(signal: bytes, client: Client) -> Response:
    return client.post_signal(signal)


def _list(query: dict[str, str | int], client: Client) -> Response:
    return client.list_signals(query)
