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
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import msgspec

from target_stairoids.client import Client, Meaning
from target_stairoids.exceptions import (
    AccessRefusedError,
    ConfigError,
    IncompleteError,
    InterruptedRunError,
    LedgerError,
    StairoidsError,
)
from target_stairoids.gate import Outcome, is_settled, without_news
from target_stairoids.guard import Guard, Ruling
from target_stairoids.intake import Intake, lanes_of, verdict_of
from target_stairoids.ledger.turn import DeadLetter
from target_stairoids.pace import Pace
from target_stairoids.report import Report, summary, write
from target_stairoids.senders import Senders
from target_stairoids.trouble import Trouble, pause_before
from target_stairoids.verification import has_ids, id_of, listed, next_cursor, query_for
from target_stairoids.window import Entry, Stage, Watermark, Window

if TYPE_CHECKING:
    from collections.abc import Callable

    from target_stairoids.client import Answer
    from target_stairoids.ledger.ledger import Ledger
    from target_stairoids.ledger.turn import Claim, Turn
    from target_stairoids.settings import Settings

logger = logging.getLogger(__name__)

_WINDOW = 10_000
_MAX_ATTEMPTS = 8
_STATE_SECONDS = 1.0  # Meltano spends about 9 ms on each STATE
_PROGRESS_SECONDS = 30.0
_GRACE_SECONDS = 10.0


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
            self._client, settings.max_in_flight
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
        self._parked: list[Entry] = []  # until the guard has ruled
        self._stop: StairoidsError | None = None
        self._finished: list[tuple[Entry, Outcome, str]] = []
        self._accepted = 0
        self._begun = 0
        self._adopted = 0
        self._trouble = Trouble(
            settings.outage_seconds, tolerated=settings.max_in_flight
        )
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
        self.intake.flush()
        while True:
            self._work()
            if self._stop is not None:
                return False
            has_room = not self._window.is_full
            if has_room and source is None:
                return True
            if self._is_stuck():
                text = "No signal of a full window can be sent while another run lives."
                self._stop = IncompleteError(text)
                return False
            if self._wait(source if has_room else None):
                return True

    def interrupt(self, signal_number: int) -> None:
        """Stop soon; called in a signal handler, so it only takes note."""
        if self._stop is None:
            self._stop = InterruptedRunError(signal_number)
        self._senders.wake()

    @property
    def discards_input(self) -> bool:
        """Whether the rest of the input is to be read and left for the next run."""
        return (
            isinstance(self._stop, IncompleteError)
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
        except LedgerError as ledger_error:
            error = self._stop = ledger_error
        pending = [e for e in self._window.unfinished() if not e.recovered]
        for entry in pending:
            self.report.count(entry.claim.stream_name, Outcome.PENDING, "not reached")
        failure = error or self._stop or self._left_over()
        self._close(failure)
        if isinstance(failure, StairoidsError) and failure is not error:
            if self.discards_input:
                logger.warning("%s Exit code 0, as `on_incomplete` asks.", failure)
                return
            raise failure

    # The loop

    def _work(self) -> None:
        """Do all that can be done without waiting."""
        while self._turn():
            pass
        now = time.monotonic()
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
                    self._hear_guard(job, answer, now)
                else:
                    self._judge(turn, job, answer, now)
            go = self._prepare(turn, self._starters(now))
        finished, self._finished = self._finished, []
        for entry, outcome, reason in finished:
            self._finish_entry(entry, outcome, reason)
        for entry in go:
            self._dispatch(entry)
        return bool(answers or go or finished)

    def _may_start(self, now: float) -> bool:
        timer = self._window.next_timer
        is_due = self._window.has_ready or (timer is not None and timer <= now)
        return (
            is_due
            and self._stop is None
            and self._senders.free > 0
            and self._pace.room(now) > 0
        )

    def _starters(self, now: float) -> list[Entry]:
        """Return the signals that may go now, as many as there are slots."""
        starters: list[Entry] = []
        while self._stop is None:
            slots = min(self._senders.free, self._pace.room(now))
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
        most = self._settings.max_signals_per_run
        if most is not None and self._begun >= most:
            self._window.put_back(entry)
            text = f"`max_signals_per_run` ({most}) is reached; the rest is pending."
            self._stop = IncompleteError(text)
            return False
        source = msgspec.json.decode(entry.claim.signal)["source"]
        ruling = self._guard.ruling(source)
        if ruling in {Ruling.CLEAR, Ruling.CANNOT_TELL}:
            self._begun += 1
            return True
        self._parked.append(entry)
        if ruling is Ruling.UNASKED:
            query = self._guard.ask(source)
            self._pace.start()
            self._senders.hand_in(source, lambda client: client.list_signals(query))
        return False

    def _prepare(self, turn: Turn, starters: list[Entry]) -> list[Entry]:
        """Claim what starts; ask the gates again now that nobody else can."""
        go = []
        claimed = []
        for entry in starters:
            if entry.stage is Stage.LOOK:
                go.append(entry)
            elif entry.stage is Stage.SEND:
                turn.claim_again(entry.claim, entry.attempts + 1)
                go.append(entry)
            elif (holder := turn.claim(entry.claim)) is None:
                claimed.append(entry)
            else:
                self._yield_to(turn, entry, holder)
        if claimed:
            go.extend(entry for entry in claimed if self._is_news(turn, entry))
        return go

    def _is_news(self, turn: Turn, entry: Entry) -> bool:
        claim = entry.claim
        known = turn.look_up(
            [claim.version], [claim.entity], self._ledger.last_complete_run
        )
        latest = known.latest.get((claim.entity, claim.mapping))
        outcome: Outcome | None
        if is_settled(
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
        self._finished.append((entry, outcome, ""))
        return False

    def _yield_to(self, turn: Turn, entry: Entry, holder: int) -> None:
        """Leave an entity to the run that has claimed it, or take a dead one's over."""
        self._begun -= 1
        orphan = None if self._ledger.lives(holder) else turn.claim_on(entry.claim)
        if orphan is None or not turn.take_over(orphan):
            self._finished.append((entry, Outcome.PENDING, "another run is sending it"))
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
            entry.accepted_before = self._accepted
        entry.attempts += 1
        self._senders.hand_in(entry, functools.partial(_post, entry.claim.signal))

    # What an answer means

    def _judge(self, turn: Turn, entry: Entry, answer: Answer, now: float) -> None:
        if entry.stage is Stage.LOOK:
            self._judge_look(turn, entry, answer, now)
            return
        match answer.meaning:
            case Meaning.ACCEPTED:
                self._accept(turn, entry, answer.signal_id)
            case Meaning.REJECTED:
                self._trouble.is_over()
                self._give_up(turn, entry, Outcome.REJECTED, answer)
            case Meaning.REFUSED:
                entry.stage = Stage.SEND
                self._refuse(answer)
            case Meaning.THROTTLED:
                entry.stage = Stage.SEND
                self._throttle(entry, answer, now)
            case Meaning.NOT_SENT:
                entry.stage = Stage.SEND
                self._retry(turn, entry, answer, now)
            case Meaning.UNKNOWN:
                self._doubt(turn, entry, answer, now)

    def _doubt(self, turn: Turn, entry: Entry, answer: Answer, now: float) -> None:
        """Go on from a request that may or may not have been accepted."""
        if self._settings.on_unknown == "hold":
            self._give_up(turn, entry, Outcome.UNKNOWN, answer)
            return
        entry.stage = Stage.SEND
        delay = 0.0
        if self._settings.on_unknown == "verify":
            entry.stage = Stage.LOOK
            delay = float(self._settings.verify_delay_seconds)
        self._retry(turn, entry, answer, now, delay=delay)

    def _judge_look(self, turn: Turn, entry: Entry, answer: Answer, now: float) -> None:
        if answer.status == 401:
            self._refuse(answer)
        elif answer.meaning is Meaning.THROTTLED:
            self._throttle(entry, answer, now)
        elif answer.meaning in {Meaning.NOT_SENT, Meaning.UNKNOWN}:
            entry.looks += 1
            self._retry(turn, entry, answer, now)
        else:
            self._read_page(turn, entry, answer)

    def _read_page(self, turn: Turn, entry: Entry, answer: Answer) -> None:
        claim = entry.claim
        page = listed(answer) if answer.meaning is Meaning.ACCEPTED else None
        if page is None or not has_ids(page):
            self._give_up(turn, entry, Outcome.UNKNOWN, answer)
            return
        found = id_of(claim.signal, claim.claimed_at, page, turn.owns_signal)
        cursor = next_cursor(answer)
        if found is not None:
            self._accept(turn, entry, found)
        elif cursor is not None and cursor != entry.cursor:
            entry.cursor = cursor
            self._window.put_back(entry)
        else:
            entry.cursor = None
            entry.stage = Stage.SEND
            self._window.put_back(entry)

    def _accept(self, turn: Turn, entry: Entry, signal_id: str | None) -> None:
        self._accepted += 1
        self._trouble.is_over()
        verdict = verdict_of(entry.claim, Outcome.ACCEPTED, signal_id=signal_id)
        turn.settle(verdict)
        self._finished.append((entry, Outcome.ACCEPTED, ""))

    def _give_up(
        self, turn: Turn, entry: Entry, outcome: Outcome, answer: Answer
    ) -> None:
        claim = entry.claim
        turn.settle(verdict_of(claim, outcome))
        turn.bury(
            DeadLetter(
                version=claim.version,
                mapping=claim.mapping,
                stream=claim.stream,
                stream_name=claim.stream_name,
                outcome=outcome,
                reason=answer.reason,
                record=claim.record,
                signal=claim.signal,
                request_id=answer.request_id,
                attempts=max(1, entry.attempts),
            )
        )
        self._finished.append((entry, outcome, answer.reason))

    def _refuse(self, answer: Answer) -> None:
        id_text = f" (request_id {answer.request_id})" if answer.request_id else ""
        self._stop = self._stop or AccessRefusedError(
            f"Stairoids refuses us: {answer.reason}{id_text} at "
            f"{self._settings.api_url}. Check `api_key` (it needs the `read_write` "
            "scope) and `api_url`. Nothing is lost: run again when it is mended."
        )

    def _throttle(self, entry: Entry, answer: Answer, now: float) -> None:
        self._window.put_back(entry)
        pause = self._trouble.throttled(answer, now)
        if pause is None:
            text = "The quota of the day is spent; the rest is pending for another run."
            self._stop = self._stop or IncompleteError(text)
        else:
            self._pace.hold(pause, now)

    def _retry(
        self, turn: Turn, entry: Entry, answer: Answer, now: float, *, delay: float = 0
    ) -> None:
        """Let a signal go on later, unless it alone is in trouble or nothing works."""
        pause = self._trouble.failed(answer, now)
        self._pace.hold(pause, now)
        tries = max(entry.attempts, entry.looks)
        if tries >= _MAX_ATTEMPTS and self._accepted > entry.accepted_before:
            sure = entry.stage is Stage.SEND
            outcome = Outcome.REJECTED if sure else Outcome.UNKNOWN
            self._give_up(turn, entry, outcome, answer)
            return
        due = now + max(delay, pause, pause_before(tries + 1))
        self._window.wait_until(entry, due)
        self._stop_in_outage(answer, now)

    def _stop_in_outage(self, answer: Answer, now: float) -> None:
        if self._stop is None and self._trouble.is_outage(now):
            self._stop = IncompleteError(
                f"Nothing was accepted for {self._settings.outage_seconds} s "
                f"(`outage_seconds`). {self._settings.api_url}: {answer.reason}. "
                "Nothing is lost: run again."
            )

    def _hear_guard(self, source: str, answer: Answer, now: float) -> None:
        if answer.status == 401:
            self._refuse(answer)
            return
        try:
            ruling = self._guard.hear(source, answer)
        except ConfigError as error:
            self._stop = error
            return
        if ruling is Ruling.CANNOT_TELL:
            logger.warning(
                "The ledger is new and the API key may not read, so nobody can tell "
                "whether signals of source `%s` were sent before. Sending them.",
                source,
            )
        delay = 0.0
        if ruling is Ruling.UNASKED:
            delay = max(1.0, self._trouble.failed(answer, now))
            self._stop_in_outage(answer, now)
        for entry in self._parked:
            self._window.wait_until(entry, now + delay)
        self._parked.clear()

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
        age = datetime.now(UTC) - datetime.fromisoformat(claim.claimed_at)
        wait = self._settings.verify_delay_seconds - age.total_seconds()
        return time.monotonic() + max(0.0, wait)

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
        timer = self._window.next_timer
        if self._window.has_ready or timer is not None:
            start = 0.0 if self._window.has_ready else (timer or now) - now
            room_in = self._pace.wait(now) if self._senders.free else None
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
        self.intake.flush()
        self._work()
        while self._stop is None and len(self._window):
            self._wait(None)
            self._work()
        deadline = time.monotonic() + _GRACE_SECONDS
        while self._senders.in_flight and time.monotonic() < deadline:
            select.select([self._senders.wake_descriptor], [], [], 0.1)
            self._turn()
        self._pass_state(time.monotonic(), final=True)
        if self._settings.dry_run:
            return
        with self._ledger.turn() as turn:
            for entry in self._window.unfinished():
                # Certainly not accepted: the next run need not look for it.
                if entry.stage is Stage.SEND:
                    turn.withdraw(entry.claim)

    def _left_over(self) -> StairoidsError | None:
        pending = self.report.outcomes[Outcome.PENDING]
        if not pending:
            return None
        text = f"{pending} signals are pending: another run is sending about the same."
        return IncompleteError(text)

    def _close(self, failure: BaseException | None) -> None:
        settled = 0 if failure is None else getattr(failure, "exit_code", 1)
        if not self.report.adds_up:
            settled = settled or 1
        report = self.report.as_dict(
            exit_code=0 if self.discards_input else settled,
            requests=self._pace.requests,
            quota=self._pace.limit,
        )
        self._senders.close(patience=_GRACE_SECONDS)
        if not isinstance(failure, LedgerError) and not self._settings.dry_run:
            self._ledger.end_run(settled, report)
        self._ledger.close()
        logger.info("Run report: %s", json.dumps(report))
        logger.info("%s", summary(report))
        if self._settings.report_path is not None:
            write(report, self._settings.report_path)


def _post(signal: bytes, client: Client) -> Answer:
    return client.post_signal(signal)
