"""Delivery: every record to its outcome, each signal once, none twice, none lost.

One thread decides: it asks the ledger, commits claims and outcomes, lets STATE pass.
The senders only carry requests. Nothing is posted before its claim is on disk, and no
STATE passes before everything read ahead of it is settled or a dead letter.
"""

from __future__ import annotations

import functools
import json
import logging
import select
import time
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import msgspec

from target_stairoids.client import Client
from target_stairoids.exceptions import (
    DeadLettersError,
    IncompleteError,
    InterruptedRunError,
    LedgerError,
    StairoidsError,
)
from target_stairoids.gate import Outcome, is_settled, without_news
from target_stairoids.guard import Guard, Ruling
from target_stairoids.intake import Intake, lanes_of, verdict_of
from target_stairoids.judge import Judge
from target_stairoids.ledger.turn import timestamp
from target_stairoids.limits import Limits
from target_stairoids.pace import Pace
from target_stairoids.report import Report, summary, write
from target_stairoids.senders import Senders
from target_stairoids.verification import query_for
from target_stairoids.window import Entry, Stage, Watermark, Window

if TYPE_CHECKING:
    from collections.abc import Callable

    from target_stairoids.client import Answer
    from target_stairoids.gate import Known
    from target_stairoids.ledger.ledger import Ledger
    from target_stairoids.ledger.turn import Claim, Turn
    from target_stairoids.settings import Settings

logger = logging.getLogger(__name__)

_WINDOW = 10_000
_MAX_ATTEMPTS = 8
_STATE_SECONDS = 1.0  # Meltano spends about 9 ms on each STATE
_PROGRESS_SECONDS = 30.0
_GRACE_SECONDS = 10.0
_DEAD = (Outcome.INVALID, Outcome.REJECTED, Outcome.UNKNOWN)
_MAX_YIELDS = 6  # to another run's claim: about six seconds in all
_YIELD_SECONDS = 0.05


class Delivery:
    """One run.

    Args:
        write_state: Called with each STATE that may pass, as JSON text.
    """

    def __init__(
        self,
        settings: Settings,
        ledger: Ledger,
        *,
        write_state: Callable[[str], None],
    ) -> None:
        self._settings = settings
        self._ledger = ledger
        self._write_state = write_state
        self._client = Client(
            settings.api_url,
            settings.api_key,
            timeout=settings.request_timeout_seconds,
        )
        self._senders: Senders[Entry | str] = Senders(
            self._client,
            settings.max_in_flight,
            patience=2 * settings.request_timeout_seconds,
        )
        self._pace = Pace(settings.requests_per_minute)
        self._window = Window(_WINDOW)
        self._watermark = Watermark()
        self.report = Report()
        self.intake = Intake(
            settings, ledger, self.report, self._window, self._watermark
        )
        guards = settings.first_run == "guard" and ledger.is_new()
        self._guard = Guard(is_on=guards)
        self._judge = Judge(settings, self._window, self._pace, self._guard)
        self._limits = Limits(settings, time.monotonic())
        self._begun = 0
        self._adopted = 0
        self._state: str | None = None
        self._state_at = self._progress_at = time.monotonic()

    # What the reader calls

    def open(self) -> None:
        """Begin the run and take over what dead runs left unfinished."""
        if self._settings.dry_run:
            return
        self.report.run = self._ledger.begin_run()
        logger.info("Run %d, ledger %s", self.report.run, self._ledger.name)
        for claim in self._ledger.orphans():
            self._adopt(claim)

    def attend(self, source: int | None = None) -> bool:
        """Work until there is more to read.

        Args:
            source: File descriptor of the input; None if it is always readable.

        Returns:
            False if nothing more must be read: call `finish`.
        """
        self._take_in()
        while True:
            self._work()
            if self._judge.stop is not None:
                return False
            has_room = not self._window.is_full
            if has_room and source is None:
                return True
            if self._is_stuck():
                text = "No signal of a full window can be sent while another run lives."
                self._judge.stop = IncompleteError(text)
                return False
            if self._wait(source if has_room else None):
                return True

    def interrupt(self, signal_number: int) -> None:
        """Stop soon; called in a signal handler, so it only takes note."""
        if self._judge.stop is None:
            self._judge.stop = InterruptedRunError(signal_number)
        self._senders.wake()

    @property
    def discards_input(self) -> bool:
        """Whether the rest of the input is to be read and left for the next run."""
        return (
            isinstance(self._judge.stop, IncompleteError)
            and self._settings.on_incomplete == "succeed"
        )

    def finish(self, error: BaseException | None = None) -> None:
        """End the run: settle what was read, then report.

        Args:
            error: Why reading ended early, if it did; everything read before is
                settled first, unless the error is that this is impossible.

        Raises:
            StairoidsError: Something is left; `exit_code` says how the program ends.
        """
        try:
            if not isinstance(error, LedgerError):
                self._settle_all()
        except LedgerError as broken:
            self._judge.stop = broken
        for entry in self._window.unfinished():
            self._finish_entry(entry, Outcome.PENDING, "not reached")
        failure = error or self._judge.stop or self._left_over()
        self._close(failure)
        if isinstance(failure, StairoidsError) and failure is not error:
            if self.discards_input:
                logger.warning("%s Exit code 0, as `on_incomplete` asks.", failure)
                return
            raise failure

    # The loop

    def _take_in(self) -> None:
        """Decide on what was read."""
        self.intake.flush()
        self._judge.stop = self._judge.stop or self.intake.stop

    def _work(self) -> None:
        """Do all that can be done without waiting."""
        while self._turn():
            pass
        now = time.monotonic()
        self._judge.stop = self._judge.stop or self._limits.minutes_reached(now)
        self._pass_state(now)
        if now - self._progress_at >= _PROGRESS_SECONDS:
            self._progress_at = now
            self._tell_progress(now)

    def _turn(self) -> bool:
        """Commit the answers that came and the claims that may go; False if none."""
        answers = self._senders.answers()
        now = time.monotonic()
        for _, answer in answers:
            self._pace.answered(answer, now)
        if not answers and not self._may_start(now):
            return False
        with self._ledger.turn() as turn:
            for job, answer in answers:
                if isinstance(job, str):
                    self._judge.hear_guard(job, answer, now)
                else:
                    self._judge.hear(turn, job, answer, now)
            most = self._limits.left_today(turn)
            go = self._prepare(turn, self._starters(now, most))
            self._limits.spend(turn, len(go))
        if go:
            self._ledger.hold()
        finished = self._judge.finished()
        for entry, outcome, reason in finished:
            self._finish_entry(entry, outcome, reason)
        for entry in go:
            self._dispatch(entry)
        if self._pace.is_held(now) or self._is_refused():
            self._recall()
        return bool(answers or go or finished)

    def _is_refused(self) -> bool:
        """Say whether what was handed in and not yet begun must not be sent."""
        stop = self._judge.stop
        return stop is not None and not isinstance(stop, IncompleteError)

    def _recall(self) -> None:
        """Take back what waits for a sender: nothing may be sent now."""
        for job, request in reversed(self._senders.recall()):
            if isinstance(job, str):
                self._senders.hand_in(job, request)
                continue
            self._pace.not_started()
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
        # Before anything was accepted a mistake must not cost more than it has to.
        room = self._senders.room(ahead=self._judge.accepted > 0)
        return min(room, self._pace.room(now))

    def _starters(self, now: float, most: int) -> list[Entry]:
        """Return the signals that may go now, as many as there are slots."""
        if not most and self._window.has_ready:
            self._judge.stop = self._judge.stop or self._limits.day_reached
        starters: list[Entry] = []
        while self._judge.stop is None:
            slots = min(self._slots(now), most)
            if len(starters) >= slots:
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
            query = self._guard.ask(source)
            self._pace.start()
            self._senders.hand_in(source, lambda client: client.list_signals(query))
        return False

    def _prepare(self, turn: Turn, starters: list[Entry]) -> list[Entry]:
        """Claim what starts; ask the gates again now that nobody else can."""
        new = [entry for entry in starters if entry.stage is Stage.CLAIM]
        go = [entry for entry in starters if entry.stage is not Stage.CLAIM]
        for entry in go:
            if entry.stage is Stage.SEND:
                turn.claim_again(entry.claim, entry.attempts + 1)
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
            self._ledger.last_complete_run,
        )
        return go + [entry for entry in claimed if self._is_news(turn, entry, known)]

    def _is_news(self, turn: Turn, entry: Entry, known: Known) -> bool:
        claim = entry.claim
        latest = known.latest.get((claim.entity, claim.mapping))
        outcome: Outcome | None
        if not entry.is_replay and is_settled(
            known.settled.get((claim.version, claim.mapping)),
            latest,
            version=claim.version,
            position=claim.position,
            fingerprint=claim.fingerprint,
            send=entry.send,
            last_complete_run=known.last_complete_run,
        ):
            outcome = Outcome.DUPLICATE
        else:
            outcome = without_news(latest, send=entry.send, content=claim.content)
        if outcome is None:
            return True
        turn.withdraw(claim)
        self._begun -= 1
        if outcome is Outcome.UNCHANGED:
            turn.settle(verdict_of(claim, outcome))
        self._judge.finish(entry, outcome)
        return False

    def _yield_to(self, turn: Turn, entry: Entry, holder: int) -> None:
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
        self._window.finish(entry)
        self._adopt(orphan)
        self._window.add(entry)

    def _dispatch(self, entry: Entry) -> None:
        self._pace.start()
        if entry.stage is Stage.LOOK:
            query = query_for(msgspec.json.decode(entry.claim.signal), entry.cursor)
            self._senders.hand_in(entry, lambda client: client.list_signals(query))
            return
        if not entry.attempts:
            entry.accepted_before = self._judge.accepted
        entry.attempts += 1
        self._senders.hand_in(entry, functools.partial(_post, entry.claim.signal))

    # Entries

    def _adopt(self, claim: Claim) -> None:
        """Go on from what a dead run left: it may or may not have been accepted."""
        self._adopted += 1
        signal = msgspec.json.decode(claim.signal)
        stage = Stage.SEND if self._settings.on_unknown == "resend" else Stage.LOOK
        entry = Entry(
            number=-self._adopted,
            claim=claim,
            send="always",
            lanes=lanes_of(
                claim.entity, signal.get("account", {}), signal.get("contact", {})
            ),
            stage=stage,
            not_before=self._look_at(claim),
            recovered=True,
            attempts=claim.attempts,
        )
        self._window.add(entry)

    def _look_at(self, claim: Claim) -> float:
        """Return when enough time has passed since a dead run claimed a signal."""
        age = datetime.now(UTC) - datetime.fromisoformat(claim.attempted_at)
        delay = self._settings.verify_delay_seconds
        # A clock that was set back must not make it wait for ever.
        wait = min(delay, max(0.0, delay - age.total_seconds()))
        return time.monotonic() + wait

    def _finish_entry(self, entry: Entry, outcome: Outcome, reason: str) -> None:
        self._window.finish(entry)
        if entry.recovered:
            self.report.recovered[outcome] += 1
            return
        self.report.count(entry.claim.stream_name, outcome, reason)
        if outcome is not Outcome.PENDING:
            self._watermark.close(entry.number)

    # Waiting, telling, ending

    def _is_stuck(self) -> bool:
        return (
            self._window.is_full
            and not self._senders.in_flight
            and not self._window.has_ready
            and self._window.next_timer is None
        )

    def _wait(self, source: int | None) -> bool:
        """Sleep until something can be done; True if the input has more."""
        descriptors = [self._senders.wake_descriptor]
        if source is not None:
            descriptors.append(source)
        readable, _, _ = select.select(descriptors, [], [], self._patience())
        return source is not None and source in readable

    def _patience(self) -> float:
        now = time.monotonic()
        ends = [self._progress_at + _PROGRESS_SECONDS - now]
        if self._state is not None:
            ends.append(self._state_at + _STATE_SECONDS - now)
        overdue = self._senders.next_overdue
        if overdue is not None:
            ends.append(overdue - now)
        timer = self._window.next_timer
        if self._window.has_ready or timer is not None:
            start = 0.0 if self._window.has_ready else (timer or now) - now
            has_slot = self._senders.room(ahead=self._judge.accepted > 0) > 0
            room_in = self._pace.wait(now) if has_slot else None
            if room_in is not None:
                ends.append(max(start, room_in))
        return max(0.001, min(ends))

    def _pass_state(self, now: float, *, final: bool = False) -> None:
        self._state = self._watermark.passed() or self._state
        if self._state is None or self._settings.dry_run:
            return
        if final or now - self._state_at >= _STATE_SECONDS:
            self._write_state(self._state)
            self._state, self._state_at = None, now

    def _tell_progress(self, now: float) -> None:
        waiting = len(self._window)
        outcomes = self.report.outcomes
        text = ", ".join(f"{n} {o}" for o, n in outcomes.items() if n) or "nothing yet"
        room_in = self._pace.wait(now) or 0.0
        pause = f"; waiting {room_in:.0f} s for the quota" if room_in >= 1 else ""
        logger.info(
            "%d records read: %s; %d under way%s",
            self.report.read,
            text,
            waiting,
            pause,
        )

    def _settle_all(self) -> None:
        """Finish what was read; after a stop only what is in flight."""
        self._take_in()
        self._work()
        while self._judge.stop is None and len(self._window):
            self._wait(None)
            self._work()
        if self._is_refused():
            self._recall()
        deadline = time.monotonic() + _GRACE_SECONDS
        while self._senders.in_flight and time.monotonic() < deadline:
            select.select([self._senders.wake_descriptor], [], [], 0.1)
            self._turn()
        if not self._settings.dry_run:
            self._let_go()
        self._pass_state(time.monotonic(), final=True)

    def _let_go(self) -> None:
        """Settle what is held back, and drop the claims the next run need not check."""
        with self._ledger.turn() as turn:
            self._judge.release_rejected(turn)
            for entry in self._window.unfinished():
                if entry.stage is Stage.SEND:  # certainly not accepted
                    turn.withdraw(entry.claim)
        for entry, outcome, reason in self._judge.finished():
            self._finish_entry(entry, outcome, reason)

    def _left_over(self) -> StairoidsError | None:
        """Return why a run that was not stopped is no success after all."""
        outcomes = self.report.outcomes
        if not self.report.adds_up:
            text = "The sum of the outcomes does not add up; please report this bug."
            return StairoidsError(text)
        if pending := outcomes[Outcome.PENDING]:
            return IncompleteError(
                f"{pending} signals are pending: another run is sending about the same."
            )
        dead = sum(outcomes[outcome] for outcome in _DEAD)
        if dead and self._settings.fail_on_dead_letters:
            return DeadLettersError(
                f"{dead} records became dead letters (`fail_on_dead_letters`); see "
                "`stairoids-signals dead-letters list`."
            )
        return None

    def _close(self, failure: BaseException | None) -> None:
        exit_code = 0
        if failure is not None and not self.discards_input:
            exit_code = getattr(failure, "exit_code", 1)
        report = self.report.as_dict(
            exit_code=exit_code, requests=self._pace.requests, quota=self._pace.limit
        )
        self._senders.close()
        if not isinstance(failure, LedgerError) and not self._settings.dry_run:
            is_complete = failure is None or isinstance(failure, DeadLettersError)
            self._ledger.end_run(exit_code, report, is_complete=is_complete)
        self._ledger.close()
        logger.info("Run report: %s", json.dumps(report))
        logger.info("%s", summary(report))
        if self._settings.report_path is not None:
            write(report, self._settings.report_path)


def _post(signal: bytes, client: Client) -> Answer:
    return client.post_signal(signal)
