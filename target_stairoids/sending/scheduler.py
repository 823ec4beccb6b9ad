"""The scheduler: claims signals and hands them to the workers.

One step writes the outcomes of the responses that came and the claims of the next
signals, in one transaction. Claimed signals go to the workers only after the commit.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from dataclasses import dataclass
from functools import partial

from msgspec.structs import replace

from stairoids_common.time import timestamp
from target_stairoids.api.client import Client, Response, ResponseKind
from target_stairoids.api.rate_limiter import RateLimiter
from target_stairoids.api.signal_lookup import ServerClock, query_for
from target_stairoids.api.worker_pool import WorkerPool
from target_stairoids.checks.first_run import (
    HELD_BACK,
    MAX_SOURCES,
    NO_REQUEST,
    FirstRunCheck,
    LedgerRebuild,
    Pair,
    key_error,
    newest_of,
)
from target_stairoids.checks.stop import Stop, limit_reached
from target_stairoids.checks.suppression import Suppression
from target_stairoids.dedup.duplicate_rules import (
    SEND,
    Facts,
    Latest,
    Settled,
    decide_again,
)
from target_stairoids.dedup.outcome import Outcome
from target_stairoids.ledger import dead_letters, queries
from target_stairoids.ledger.ledger import Ledger
from target_stairoids.ledger.structs import OWN_CLOCK
from target_stairoids.ledger.transaction import Transaction
from target_stairoids.mapping.signal import names_in
from target_stairoids.sending.queue import QueuedSignal, SendQueue, Stage, pair_of
from target_stairoids.sending.record_decision import SUPPRESSED
from target_stairoids.sending.recovery import Recovery
from target_stairoids.sending.response_handler import Finished, ResponseHandler
from target_stairoids.settings import Settings

_MAX_YIELDS = 6  # to another run's claim: about six seconds in all
_YIELD_SECONDS = 0.05


@dataclass(eq=False)
class Scheduler:
    """Everything between the send queue and Stairoids.

    Attributes:
        held_back: Source and stream of signals that a person must decide on.
        is_intact: Whether each step came to its end. If not, end the run as if killed.
    """

    settings: Settings
    ledger: Ledger
    queue: SendQueue
    stop: Stop
    suppression: Suppression

    def __post_init__(self) -> None:
        settings, ledger, stop = self.settings, self.ledger, self.stop
        timeout = settings.request_timeout_seconds
        self._client = Client.of(settings, is_over=lambda: stop.is_hard)
        self.pool: WorkerPool[QueuedSignal] = WorkerPool(
            Client.of(settings), settings.max_in_flight, patience=2 * timeout
        )
        self.limiter = RateLimiter(settings.requests_per_minute)
        self.check = (LedgerRebuild if settings.rebuilds else FirstRunCheck)(
            settings.first_run != "send", queries.sources_of_others(ledger)
        )
        self._api_key = key = ledger.key_digest(settings.api_key)
        new_key = None if queries.knows_key(ledger, key) else key
        self._clock = ServerClock()
        self.responses = ResponseHandler(
            settings, self.queue, self.limiter, stop, self.check, self._clock, new_key
        )
        self.held_back: set[tuple[str, str]] = set()
        self._baselined: set[Pair] = set()
        self.is_intact, self._began, self._new_signals = True, time.monotonic(), 0
        unclear, wait = self.responses.unclear, self.pool.longest_wait
        self._recovery = Recovery(
            settings, ledger, self._clock, wait, unclear, self.suppression
        )

    def check_key(self) -> None:
        """Stop if the API key is new and not of the workspace of the ledger."""
        key = self.responses.new_key
        ids = queries.newest_signals(self.ledger) if key else []
        asked = (self._ask(partial(Client.read_signal, signal_id=i)) for i in ids)
        must_read, url = self.settings.first_run == "guard", self.settings.api_url
        error = key_error(asked, url, must_read=must_read)
        self.stop.set(error)
        if key and ids and error is None:
            with self.ledger.transaction() as transaction:
                transaction.note_key(key)
            self.responses.new_key = None

    def account_for(self, pairs: Collection[Pair]) -> None:
        """Note that a person answered for the signals of remembered records."""
        pairs = self._baselined.union(pairs)
        now = newest_of(Response(kind=ResponseKind.NOT_SENT))
        ends = dict.fromkeys(sorted({source for source, _ in pairs}), now)
        for source in list(ends)[:MAX_SOURCES]:
            query: dict[str, str | int] = {"source": source, "limit": 1}
            response = self._ask(partial(Client.list_signals, query=query))
            if response.kind is not ResponseKind.ACCEPTED:
                break
            ends[source] = newest_of(response)
        if pairs:
            with self.ledger.transaction() as transaction:
                for pair in pairs:
                    transaction.note_known(self.ledger.scope, *pair, ends[pair[0]])

    def _ask(self, request: Callable[[Client], Response]) -> Response:
        """Make a request while nothing else is in flight, within the day's limit."""
        if self.stop.is_hard:
            return NO_REQUEST
        with self.ledger.transaction() as transaction:
            if limit_reached(self.settings, requests_per_day=self._count(transaction)):
                return NO_REQUEST
            self._note_requests(transaction, 1)
        self.limiter.start()
        response = request(self._client)
        self.limiter.responded(response, time.monotonic())
        self._clock.note(response, time.monotonic())
        return response

    def _check_ends(self, transaction: Transaction, signal: QueuedSignal) -> bool:
        """Return whether the first-run check ends a signal, or ask its source first."""
        if self.check.question(pair_of(signal)) is not None:
            signal.stage = Stage.ASK
        elif isinstance(self.check, LedgerRebuild):
            self._recovery.adopt(transaction, signal.claim.version, any_state=False)
            self.responses.restore(transaction, signal, self.check.signals)
            self._baselined.add(pair_of(signal))
            return True
        if signal.source not in self.check.refused:
            return False
        if self.settings.first_run == "baseline":
            self.responses.settle(signal, Outcome.BASELINED)
            self._baselined.add(pair_of(signal))
        else:
            self.responses.finished.append((signal, Outcome.PENDING, HELD_BACK))
            self.held_back.add((signal.source, signal.claim.stream_name))
        return True

    def recover(self) -> None:
        """Continue with the claims of dead runs."""
        if (claims := self.ledger.take_over_claims()) and not self._clock.at(0.0):
            self._ask(Client.reach)  # without the key
        taken = [self._recovery.signal_of(claim) for claim in claims]
        for signal in taken:
            self.queue.add(signal)
        self.ledger.expect((signal.number, signal.claim) for signal in taken)

    @property
    def is_stuck(self) -> bool:
        """Whether all signals wait for a later one to be accepted."""
        is_idle = not self.pool.in_flight and self.queue.next_at(0.0) is None
        return is_idle and bool(self.responses.waiting)

    def seconds_to_next_step(self, now: float) -> float | None:
        """Return the seconds to the next work; None if only a response brings some."""
        overdue = self.pool.next_overdue
        ends = [] if overdue is None else [overdue - now]
        start = self.queue.next_at(now)
        if start is not None and self.stop.reason is None and self._room > 0:
            room_in = self.limiter.wait(now)
            if room_in is not None:
                ends.append(max(start - now, room_in))
        return min(ends, default=None)

    def step(self) -> Finished | None:
        """Write the responses that came, and start the signals that may start.

        Returns the outcomes that are on disk now; None if there was nothing to do.
        """
        now = time.monotonic()
        if reached := limit_reached(
            self.settings, max_run_minutes=(now - self._began) / 60
        ):
            self.stop.set(reached)
        responses, due = self.pool.responses(), self.queue.next_at(now)
        if not responses and (due is None or due > now or not self._slots(now)):
            return None
        self.is_intact = False
        starting = self._write(responses, now)
        finished = self._finish_all()
        for signal in starting:
            self._hand_in(signal)
        if responses and (self.stop.is_hard or self.limiter.is_held(now)):
            self.recall()
        self.is_intact = True
        return finished if responses or starting or finished else None

    def _write(
        self, responses: list[tuple[QueuedSignal, Response]], now: float
    ) -> list[QueuedSignal]:
        """Write responses and claims in one transaction; return the next requests."""
        self.ledger.check_lease()
        with self.ledger.transaction() as transaction:
            if self.limiter.shares:
                others = transaction.requests_of_others(self._api_key)
                self.limiter.note_others(others, now)
            for _, response in responses:
                self.limiter.responded(response, now)
            for signal, response in responses:
                self.responses.apply(transaction, signal, response, now)
            if responses:
                self.responses.write_settled(transaction)
            starting = self._starting(transaction, self._slots(now), now)
            if self.responses.finished:
                self.responses.write_settled(transaction)
        if starting and self.ledger.may_lose_its_lease:
            self.ledger.check_lease()
        return starting

    def _finish_all(self) -> Finished:
        """Remove the signals whose outcomes are on disk now from the queue."""
        finished, self.responses.finished = self.responses.finished, []
        for signal, outcome, _ in finished:
            self.queue.finish(signal)
            self.ledger.buffer.finish(signal.number, outcome)
        return finished

    # Starting

    @property
    def _room(self) -> int:
        """How many requests the workers can take; none beside the first-run check.

        After the first accepted signal, some more may wait for a worker. Before it, a
        mistake in the config must cost few requests. None may wait if the lease can be
        lost, or if other runs share the quota.
        """
        if self.check.is_on and any(
            signal.stage is Stage.ASK for signal in self.pool.in_flight
        ):
            return 0
        shares = self.ledger.may_lose_its_lease or self.limiter.has_company
        return self.pool.room(ahead=self.responses.accepted > 0 and not shares)

    def _slots(self, now: float) -> int:
        if self.stop.reason is not None:
            return 0
        return min(self._room, self.limiter.room(now))

    def _starting(
        self, transaction: Transaction, slots: int, now: float
    ) -> list[QueuedSignal]:
        """Return the signals to send or to ask about now, claimed if they are sent."""
        today = self._count(transaction)
        taken: list[QueuedSignal] = []
        while len(taken) < slots and self.stop.reason is None:
            if (signal := self.queue.take(now)) is None:
                break
            if not signal.lookup.is_possible:
                self.responses.leave_to_person(transaction, signal)
                continue
            is_new = signal.stage is Stage.CLAIM
            if reached := limit_reached(
                self.settings,
                max_signals_per_run=self._new_signals if signal.is_counted else 0,
                requests_per_day=today + len(taken),
            ):
                self.queue.put_back(signal)
                self.stop.set(reached)
                break
            if is_new and self.check.is_on and self._check_ends(transaction, signal):
                continue
            self._new_signals += signal.is_counted
            taken.append(signal)
            if signal.stage is Stage.LOOK_UP:
                self.queue.gather(signal, now)
            if signal.stage is Stage.ASK:
                break
        starting = self._claimed(transaction, taken) if taken else []
        if starting:
            self._note_requests(transaction, len(starting))
        return starting

    def _count(self, transaction: Transaction, count: int = 0) -> int:
        """Count requests, if their number is limited; return how many today has."""
        is_limited, origin = self.settings.requests_per_day, self.settings.origin
        return transaction.count_requests(origin, count) if is_limited else 0

    def _note_requests(self, transaction: Transaction, count: int) -> None:
        self._count(transaction, count)
        if self.limiter.shares:
            transaction.note_requests(self._api_key, count, self.limiter.known_limit)

    def _claimed(
        self, transaction: Transaction, taken: list[QueuedSignal]
    ) -> list[QueuedSignal]:
        """Claim signals; return those to send after the rules are applied once more."""
        starting, new = list[QueuedSignal](), list[QueuedSignal]()
        now = time.monotonic()
        moment = self._clock.at(now)
        at = f"{OWN_CLOCK}{timestamp()}" if moment is None else timestamp(moment)
        for signal in self._not_filtered(transaction, taken):
            if signal.stage is Stage.SEND:
                signal.before, number = signal.claim, signal.attempts + 1
                signal.claim = replace(signal.claim, attempts=number, attempted_at=at)
                if not transaction.claim_again(signal.claim):
                    signal.stage = Stage.CLAIM  # a person erased the claim
            (new if signal.stage is Stage.CLAIM else starting).append(signal)
        streams = {signal.number: signal.claim.version.stream for signal in new}
        self.ledger.buffer.write_before(transaction, streams)
        ours = transaction.claim([s.claim for s in new], self._api_key, at)
        for signal in new:
            if (known := ours.get(signal.claim.version.key)) is None:
                self._yield_to(transaction, signal)
            elif self._is_due(transaction, signal, *known):
                signal.claim = replace(signal.claim, claimed_at=at, attempted_at=at)
                signal.claimed = now
                starting.append(signal)
        return starting

    def _not_filtered(
        self, transaction: Transaction, taken: list[QueuedSignal]
    ) -> list[QueuedSignal]:
        """Settle the signals that are filtered since; return the others."""
        lists = self.suppression
        hidden = {s: "" for s in taken if s.is_outdated and s.stage is Stage.SEND}
        if lists.by_settings.digest or not lists.by_data.is_empty():
            to_send = [s for s in taken if s.stage in {Stage.CLAIM, Stage.SEND}]
            people = lists.hidden({s: names_in(s.claim.request) for s in to_send})
            hidden |= dict.fromkeys(people, SUPPRESSED)
        for signal, reason in hidden.items():
            self._new_signals -= signal.is_counted
            transaction.withdraw(signal.claim.version)
            self.responses.finished.append((signal, Outcome.FILTERED, reason))
        return [signal for signal in taken if signal not in hidden]

    def _is_due(
        self,
        transaction: Transaction,
        signal: QueuedSignal,
        latest: Latest | None,
        states: list[Settled],
    ) -> bool:
        """Apply the rules to a claimed signal; withdraw it if it is not to be sent."""
        version, number = signal.claim.version, signal.claim.dead_letter
        # A dead letter that is gone was sent by another replay.
        is_replay = number is not None and dead_letters.exists(transaction, number)
        run, send = self.ledger.run, signal.send
        facts = Facts(
            latest=latest, states=states, run=run, send=send, is_replay=is_replay
        )
        step = decide_again(version, facts, signal.decided_on)
        if step is SEND:
            return not signal.is_substitute or self._may_follow(transaction, signal)
        self._new_signals -= signal.is_counted
        transaction.withdraw(version)
        dead_letters.discard(transaction, [] if number is None else [number])
        ended = signal, Outcome[step.action.name], step.reason
        self.responses.finished.append(ended)
        return False

    def _may_follow(self, transaction: Transaction, signal: QueuedSignal) -> bool:
        """Count a claimed signal behind a rejected one, or put it back at the limit."""
        if reached := limit_reached(
            self.settings, max_signals_per_run=self._new_signals
        ):
            transaction.withdraw(signal.claim.version)
            self.queue.put_back(signal)
            self.stop.set(reached)
        else:
            self._new_signals += 1
        return reached is None

    def _yield_to(self, transaction: Transaction, signal: QueuedSignal) -> None:
        """Leave an entity to a living run, or take over the claim of a dead one."""
        self._new_signals -= signal.is_counted
        left = self._recovery.adopt(transaction, signal.claim.version, any_state=True)
        if left is not None:
            self.queue.add_before(self._recovery.signal_of(left), signal)
        elif signal.yields < _MAX_YIELDS:
            signal.yields += 1
            due = time.monotonic() + _YIELD_SECONDS * 2**signal.yields
            self.queue.wait_until(signal, due)
        else:
            reason = "another run is sending it"
            self.responses.finished.append((signal, Outcome.PENDING, reason))

    def _hand_in(self, signal: QueuedSignal) -> None:
        self.limiter.start()
        if signal.stage is Stage.ASK:
            query = self.check.question(pair_of(signal)) or {}
            request = partial(Client.list_signals, query=query)
        elif signal.stage is Stage.LOOK_UP:
            request = partial(Client.list_signals, query=query_for(*signal.page))
        else:
            if not signal.attempts:
                signal.accepted_before = self.responses.accepted
            signal.attempts += 1
            request = partial(Client.post_signal, request=signal.claim.request)
        self.pool.hand_in(signal, request)

    def recall(self) -> None:
        """Take back the requests that no worker has begun."""
        if recalled := self.pool.recall():
            with self.ledger.transaction() as transaction:
                self._note_requests(transaction, -len(recalled))
                for signal in recalled:
                    signal.take_back()
                    if signal.stage is Stage.SEND:
                        transaction.claim_again(signal.claim)
        for signal in reversed(recalled):
            self.limiter.not_started()
            for one in reversed(signal.take_together()):
                self.queue.put_back(one)

    def release(self) -> Finished:
        """Settle held rejections, and drop the claims that the next run need not check.

        Returns the outcomes that are on disk now.
        """
        if not self.is_intact:
            return []
        self.recall()
        in_flight = self.pool.in_flight
        with self.ledger.transaction() as transaction:
            self.responses.release_rejected(transaction)
            self.responses.write_settled(transaction)
            for signal in self.queue.unfinished.values():
                # Certainly not accepted, unless its response is still to come. A claim
                # after an unclear request stays, because its attempts count.
                is_sure = signal.stage is Stage.SEND and signal not in in_flight
                if is_sure and not signal.is_unclear:
                    transaction.withdraw(signal.claim.version)
        return self._finish_all()

    def close(self) -> None:
        """Stop the workers, and send nothing more."""
        self.pool.recall()
        self.pool.close()
