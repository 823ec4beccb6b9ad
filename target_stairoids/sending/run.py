"""Delivery: every record to its outcome, each signal once, none twice, none lost.

One thread decides: it asks the ledger, commits claims and outcomes, lets STATE pass.
The senders only carry requests. Nothing is posted before its claim is on disk, and no
STATE passes before everything read ahead of it is settled or a dead letter.
"""

from __future__ import annotations

import logging
import select
import time
from typing import TYPE_CHECKING, Any, Self

from stairoids_common.text import counted
from target_stairoids.dedup.rules import Outcome
from target_stairoids.exceptions import (
    DeadLettersError,
    IncompleteError,
    InterruptedRunError,
    LedgerError,
    StairoidsError,
)
from target_stairoids.ledger.ledger import Ledger
from target_stairoids.mapping.signal import type_of
from target_stairoids.reporting.next_steps import dead_letters_command, dead_letters_in
from target_stairoids.reporting.progress import Status, progress_for
from target_stairoids.reporting.report import Report, write
from target_stairoids.sending.observer import Samples
from target_stairoids.sending.queue import Checkpoint, SendQueue
from target_stairoids.sending.record_decision import Intake
from target_stairoids.sending.scheduler import Dispatch, Finished

if TYPE_CHECKING:
    from collections.abc import Callable

    from target_stairoids.reporting.progress import Progress
    from target_stairoids.sending.observer import Observer
    from target_stairoids.settings import Settings

logger = logging.getLogger(__name__)

_WINDOW = 10_000
_STATE_SECONDS = 1.0  # Meltano spends about 9 ms on each STATE
_GRACE_SECONDS = 10.0


class Delivery:
    """One run.

    Args:
        write_state: Called with each STATE that may pass, as JSON text.
        passes_each_state: Whether no STATE may be left out for a later one.
        observer: Is told what is decided on each record; a dry run has one anyway.
        progress: Is told how the run goes; by default what suits stderr is.
    """

    def __init__(
        self,
        settings: Settings,
        ledger: Ledger,
        *,
        write_state: Callable[[str], None],
        passes_each_state: bool = False,
        observer: Observer | None = None,
        progress: Progress | None = None,
    ) -> None:
        self._settings = settings
        self._ledger = ledger
        self._write_state = write_state
        self._window = SendQueue(_WINDOW)
        self._watermark = Checkpoint(keeps_each=passes_each_state)
        self.report = Report()
        self._progress = progress or progress_for(is_observed=observer is not None)
        if observer is None and settings.dry_run:
            observer = Samples()
        self.intake = Intake(
            settings, ledger, self.report, self._window, self._watermark, observer
        )
        self._dispatch = Dispatch(settings, ledger, self._window)
        self._passes_each_state = passes_each_state
        self._states: list[str] = []
        self._state_at = self._progress_at = time.monotonic()

    @classmethod
    def with_ledger(cls, settings: Settings, **more: Any) -> Self:
        """Return a run on the ledger that the settings name.

        Raises:
            StairoidsError: The ledger, or a setting, cannot be used.
        """
        ledger = Ledger(settings.ledger_url, settings.scope, read_only=settings.dry_run)
        try:
            return cls(settings, ledger, **more)
        except StairoidsError:
            ledger.close()
            raise

    # What the reader calls

    def open(self) -> None:
        """Begin the run and take over what dead runs left unfinished."""
        if self._settings.dry_run:
            return
        self.report.run = self._ledger.begin_run()
        logger.info("Run %d, ledger %s", self.report.run, self._ledger.name)
        for claim in self._ledger.orphans():
            self._dispatch.adopt(claim)

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
            if self._dispatch.stop is not None:
                return False
            has_room = not self._window.is_full
            if has_room and source is None:
                return True
            if not has_room and self._dispatch.is_stuck:
                text = "No signal of a full window can be sent while another run lives."
                self._dispatch.stop_for(IncompleteError(text))
                return False
            if self._wait(source if has_room else None):
                return True

    def interrupt(self, signal_number: int) -> None:
        """Stop soon; called in a signal handler, so it only takes note."""
        self._dispatch.stop_for(InterruptedRunError(signal_number))
        self._dispatch.wake()

    @property
    def stop(self) -> StairoidsError | None:
        """Why the run is to end before its input does, if it is."""
        return self._dispatch.stop

    @property
    def discards_input(self) -> bool:
        """Whether the rest of the input is to be read and left for the next run."""
        return self._is_forgiven(self._dispatch.stop)

    def finish(self, error: BaseException | None = None) -> None:
        """End the run: settle what was read, then report.

        Args:
            error: Why reading ended early, if it did; everything read before is
                settled first, unless the error is that this is impossible.

        Raises:
            StairoidsError: Something is left; `exit_code` says how the program ends.
        """
        broken: Exception | None = None
        try:
            if self._dispatch.is_whole and not isinstance(error, LedgerError):
                self._settle_all()
        except Exception as unforeseen:  # noqa: BLE001 - raised again below
            broken = unforeseen
        pending = self._window.unfinished()
        trouble = self._dispatch.trouble
        why = f"not reached: {trouble}" if trouble else "not reached"
        self._count([(entry, Outcome.PENDING, why) for entry in pending])
        failure = error or broken or self._dispatch.stop or self._left_over()
        self._close(failure, is_ledger_usable=not isinstance(broken, LedgerError))
        if failure is None or failure is error:
            return
        if self._is_forgiven(failure):
            logger.warning("%s Exit code 0, as `on_incomplete` asks.", failure)
            return
        raise failure

    def _is_forgiven(self, failure: BaseException | None) -> bool:
        """Say whether a run that ends so is to end with exit code 0."""
        may_be_left = self._settings.on_incomplete == "succeed"
        return may_be_left and isinstance(failure, IncompleteError)

    # The loop

    def _take_in(self) -> None:
        """Decide on what was read."""
        self.intake.flush()
        if len(self._window):  # the gates will be asked again, of the ledger
            self.intake.write()
        self._dispatch.stop_for(self.intake.stop)

    def _work(self) -> None:
        """Do all that can be done without waiting."""
        while (finished := self._dispatch.step()) is not None:
            self._count(finished)
        now = time.monotonic()
        self._pass_state(now)
        if now - self._progress_at >= self._progress.every:
            self._progress_at = now
            self._progress.update(self._status(now))

    def _count(self, finished: Finished) -> None:
        """Count outcomes that are on disk, and let the checkpoint pass them."""
        for entry, outcome, reason in finished:
            if outcome is Outcome.ACCEPTED:
                self.report.types[type_of(entry.claim.signal)] += 1
            if entry.recovered:
                self.report.recovered[outcome] += 1
                continue
            self.report.count(entry.claim.stream_name, outcome, reason)
            if outcome is not Outcome.PENDING:
                self._watermark.close(entry.number)

    # Waiting, telling, ending

    def _wait(self, source: int | None) -> bool:
        """Sleep until something can be done; True if the input has more."""
        now = time.monotonic()
        ends = [self._progress_at + self._progress.every - now]
        if self._states:
            ends.append(self._state_at + _STATE_SECONDS - now)
        if (patience := self._dispatch.patience(now)) is not None:
            ends.append(patience)
        descriptors = [self._dispatch.wake_descriptor]
        if source is not None:
            descriptors.append(source)
        readable, _, _ = select.select(descriptors, [], [], max(0.001, min(ends)))
        return source is not None and source in readable

    def _pass_state(self, now: float, *, final: bool = False) -> None:
        passed = self._watermark.passed()
        if passed and not self._passes_each_state:
            self._states.clear()
        self._states += passed
        if not self._states or self._settings.dry_run:
            return
        if final or now - self._state_at >= _STATE_SECONDS:
            self.intake.write()
            for state in self._states:
                self._write_state(state)
            self._states.clear()
            self._state_at = now

    def _status(self, now: float) -> Status:
        pace = self._dispatch.pace
        return Status(
            read=self.report.read,
            outcomes={str(o): n for o, n in self.report.outcomes.items() if n},
            queued=len(self._window),
            used=pace.used,
            limit=pace.limit,
            pause=pace.wait(now) or 0.0,
            trouble=self._dispatch.trouble,
        )

    def _settle_all(self) -> None:
        """Finish what was read; after a stop only what is in flight."""
        self._take_in()
        self.intake.write()
        self._work()
        while self._dispatch.stop is None and len(self._window):
            if self._dispatch.is_stuck:
                break  # what is left waits for nothing that can come
            self._wait(None)
            self._work()
        self._dispatch.drop_rest()
        deadline = time.monotonic() + _GRACE_SECONDS
        while self._dispatch.in_flight and time.monotonic() < deadline:
            select.select([self._dispatch.wake_descriptor], [], [], 0.1)
            self._count(self._dispatch.step() or [])
        if not self._settings.dry_run:
            self._count(self._dispatch.let_go())
        self._pass_state(time.monotonic(), final=True)

    def _left_over(self) -> StairoidsError | None:
        """Return why a run that was not stopped is no success after all."""
        outcomes = self.report.outcomes
        if not self.report.adds_up:
            text = "The sum of the outcomes does not add up; please report this bug."
            return StairoidsError(text)
        if pending := outcomes[Outcome.PENDING]:
            who = counted(pending, "signal is", "signals are")
            return IncompleteError(
                f"{who} pending: another run is sending about the same."
            )
        dead = dead_letters_in(outcomes)
        if dead and self._settings.fail_on_dead_letters:
            return DeadLettersError(
                f"{counted(dead, 'dead letter')} in this run (`fail_on_dead_letters`)."
                f" See which, and why: {dead_letters_command()}"
            )
        return None

    def _close(self, failure: BaseException | None, *, is_ledger_usable: bool) -> None:
        is_ledger_usable &= not isinstance(failure, LedgerError)
        exit_code = 0
        if failure is not None and not self._is_forgiven(failure):
            exit_code = getattr(failure, "exit_code", 1)
        self.report.unanswered = self._dispatch.unanswered
        report = self.report.as_dict(
            exit_code=exit_code,
            requests=self._dispatch.pace.requests,
            quota=self._dispatch.pace.limit,
        )
        self.intake.warn()
        self._dispatch.close()
        if is_ledger_usable and not self._settings.dry_run:
            is_complete = failure is None or isinstance(failure, DeadLettersError)
            self._ledger.end_run(exit_code, report, is_complete=is_complete)
        self._ledger.close()
        self._progress.end(report)
        if self._settings.report_path is not None:
            write(report, self._settings.report_path)
