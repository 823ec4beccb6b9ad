"""One run: every record gets its outcome, and each signal is sent once.

One thread decides. It asks the ledger, commits claims and outcomes, and emits STATE.
Worker threads only carry requests. No request starts before its claim is on disk. No
STATE is emitted before everything read ahead of it has an outcome.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection

from stairoids_common.text import as_code, counted
from target_stairoids.api.worker_pool import readable
from target_stairoids.checks.first_run import NOT_CHECKED, held_back_reason
from target_stairoids.checks.stop import GRACE_SECONDS, UNPROVED, Stop
from target_stairoids.checks.suppression import Suppression
from target_stairoids.dedup.outcome import EFFECTS, Outcome
from target_stairoids.exceptions import (
    ConfigError,
    IncompleteError,
    InterruptedRunError,
    LedgerError,
    MessageError,
    SetAsideError,
    StairoidsError,
)
from target_stairoids.ledger import queries
from target_stairoids.ledger.ledger import Ledger
from target_stairoids.mapping.signal import type_of
from target_stairoids.reporting.next_steps import (
    dead_letters_command,
    dead_letters_in,
    with_configs,
)
from target_stairoids.reporting.notifications import (
    Ending,
    Notifier,
    notify_without_ledger,
)
from target_stairoids.reporting.progress import (
    Progress,
    progress_for,
    status_line,
    warn_if_long,
)
from target_stairoids.reporting.report import Report, files_error, write_files
from target_stairoids.sending.checkpoint import Checkpoint, OpenRecords
from target_stairoids.sending.observer import Observer, SampleObserver
from target_stairoids.sending.queue import SendQueue
from target_stairoids.sending.record_outcomes import RecordOutcomes
from target_stairoids.sending.record_processor import RecordProcessor
from target_stairoids.sending.response_handler import Finished
from target_stairoids.sending.scheduler import Scheduler
from target_stairoids.sending.streams import Stream
from target_stairoids.settings import Settings

logger = logging.getLogger(__name__)


class Run:
    """One run on the ledger that its settings name.

    Args:
        write_state: Is called with each STATE to emit, as JSON text.
        emits_each_state: Whether each STATE is emitted, not only the newest one.
        observer: Sees every decision. A dry run without one prints samples.
        progress: By default, as stderr allows.

    Raises:
        StairoidsError: The ledger, or a setting, cannot be used.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        write_state: Callable[[str], None],
        emits_each_state: bool = False,
        observer: Observer | None = None,
        progress: Progress | None = None,
    ) -> None:
        self._settings = settings
        self._progress = progress or progress_for(is_observed=observer is not None)
        if observer is None and settings.dry_run:
            observer = SampleObserver()
        self._pipeline = "" if settings.is_partial else settings.default_source
        url, scope = settings.ledger_url, settings.scope
        notifies = bool(settings.notify and self._pipeline and not settings.dry_run)
        try:
            self._ledger = (
                Ledger.open_read_only(url, scope, missing_ok=True)
                if settings.dry_run
                else Ledger.create(url, scope)
            )
        except LedgerError:
            if notifies:
                notify_without_ledger(settings)
            raise
        self._queue = SendQueue()
        self._progress_at = time.monotonic()
        is_silent = settings.dry_run or settings.rebuilds
        emit, now = (lambda _: None) if is_silent else write_state, self._progress_at
        self._checkpoint = Checkpoint(emit, self._ledger.flush, now, emits_each_state)
        self._notifier = Notifier(settings, self._ledger) if notifies else None
        self._is_first = False
        self.report = Report()
        self.stop = Stop()
        try:
            suppression = Suppression(settings, self._ledger)
            records = OpenRecords(
                self._ledger,
                self.report,
                self._queue,
                self._checkpoint,
                observer,
                settings,
            )
            self._outcomes = RecordOutcomes(records)
            self.records = RecordProcessor(
                settings, self._ledger, self._checkpoint, self._outcomes, suppression
            )
            self._scheduler = Scheduler(
                settings, self._ledger, self._queue, self.stop, suppression
            )
        except StairoidsError:
            self._ledger.close()
            raise

    def open(self) -> None:
        """Begin the run and continue with the claims of dead runs."""
        if not self._settings.dry_run:
            self._is_first = self._ledger.is_new() and not self._settings.rebuilds
            self.report.run = self._ledger.begin_run(self._pipeline)
            logger.info("Run %d, ledger %s", self.report.run, self._ledger.name)
            if self._notifier:
                self._notifier.begin()
            if self._is_empty_baseline:
                self.records.await_stream()
            self._scheduler.check_key()
            if not self._settings.rebuilds:
                self._scheduler.recover()
        else:
            claims = self._ledger.left_over
            self._ledger.expect((-n, claim) for n, claim in enumerate(claims, start=1))

    def work(self, source: int | None = None) -> bool:
        """Work until `source`, a descriptor, has more to read; None if it always has.

        If it returns False, call `finish`.
        """
        self._decide()
        while True:
            self._send()
            if self.stop.reason is not None:
                return False
            has_room = self._queue.has_room
            if not has_room and self._is_stuck():
                self.stop.set(IncompleteError(UNPROVED))
                return False
            self._outcomes.let_go(time.monotonic(), is_full=not has_room)
            if has_room and source is None:
                return True
            if self._wait(source if has_room else None):
                return True

    def work_off(self, source: int) -> bool:
        """Wait for requests in flight until more input comes; False after SIGTERM."""
        while not self.stop.is_hard:
            self._send()
            if self._wait(source):
                return True
        return False

    def leave_rest(self) -> None:
        """Leave the records behind this place to the next run: no STATE passes it."""
        self._checkpoint.open()

    def interrupt(self, number: int) -> None:
        """Stop soon; safe in a handler of SIGTERM or SIGINT."""
        self.stop.interrupt(number)
        self._scheduler.pool.wake()

    def finish(
        self, error: BaseException | None = None, *, cut: Collection[str] = ()
    ) -> None:
        """End the run: settle everything that was read, then report.

        `error` is why reading ended early. It is not raised again. `cut` are streams
        that the source did not read to their end. Otherwise raises `StairoidsError` if
        something is left, with the `exit_code` of the program.
        """
        unforeseen: Exception | None = None
        self._outcomes.cut = frozenset(cut)
        try:
            if self._scheduler.is_intact and not isinstance(error, LedgerError):
                try:
                    self._decide()
                except MessageError as broken:
                    unforeseen = broken
                self._settle_all(is_whole=not (error or unforeseen))
        except Exception as raised:  # noqa: BLE001 - raised again below
            unforeseen = raised
        self._outcomes.give_up()  # first, as it takes their signals out of the queue
        outage = self._scheduler.responses.outage.reason
        self._count(self._queue.left(outage, self._scheduler.pool.in_flight))
        stop = self.stop.reason
        if isinstance(stop, IncompleteError) and self._set_aside():
            stop = None  # to run again would not be enough
        try:
            failure = error or unforeseen or stop or self._left_over()
        except LedgerError as lost:
            failure = unforeseen = lost
        failures = error, unforeseen
        is_ledger_usable = not any(isinstance(f, LedgerError) for f in failures)
        if isinstance(stop, InterruptedRunError) and not is_ledger_usable:
            logger.warning("%s", failure)
            failure = stop  # the next run continues, as after a kill
        failure = self._close(failure, is_ledger_usable=is_ledger_usable)
        if isinstance(failure, StairoidsError):  # stored without the path of a config
            failure.args = (with_configs(str(failure)),)
        if self.is_forgiven(failure):
            logger.warning("%s Exit code 0, as `on_incomplete` asks.", failure)
        elif failure is not None and failure is not error:
            raise failure

    @property
    def unexplained(self) -> int:
        """The number of Stairoids' signals that a rebuild found in no record."""
        return self._scheduler.check.signals.unexplained

    def _set_aside(self) -> list[str]:
        """Return the reasons why a person must decide on streams and sources."""
        texts = [*self._outcomes.gate.set_aside.values()]
        if held_back := self._scheduler.held_back:
            texts.append(held_back_reason({source for source, _ in held_back}))
        return texts

    def is_forgiven(self, failure: BaseException | None) -> bool:
        """Return whether a run that ends with this failure has exit code 0."""
        is_left = isinstance(failure, IncompleteError)
        may_be_left = self._settings.on_incomplete == "succeed"
        return is_left and may_be_left and not files_error(self._settings)

    # The loop

    def _decide(self) -> None:
        self.records.flush()
        if self._queue.unfinished and self._ledger.buffer.size:
            self._ledger.flush()  # the rules are applied again, to the database

    def _send(self) -> None:
        """Do everything that needs no waiting."""
        while (finished := self._scheduler.step()) is not None:
            self._count(finished)
            if not self._scheduler.pool.is_worth_a_commit:
                break  # a worker wakes this thread
        limiter, now = self._scheduler.limiter, time.monotonic()
        self._checkpoint.emit_states(now)
        queued = len(self._queue.unfinished) - self._queue.substitutes
        if self._is_first:
            signals = self.report.outcomes[Outcome.ACCEPTED] + queued
            self._is_first = not warn_if_long(signals, limiter.limit)
        if now - self._progress_at >= self._progress.every:
            self._progress_at = now
            self._progress.update(
                status_line(
                    self.report,
                    queued=queued,
                    used=limiter.used,
                    limit=limiter.limit,
                    pause=limiter.wait(now) or 0.0,
                    failure=self._scheduler.responses.outage.reason,
                )
            )

    def _is_stuck(self) -> bool:
        """Return whether all signals wait, even after those of other people pass."""
        if not self._scheduler.is_stuck:
            return False
        for signal in self._scheduler.responses.waiting.values():
            self._queue.let_pass(signal)
        return self._scheduler.is_stuck

    def _wait(self, source: int | None) -> bool:
        """Sleep until there is input or work; return whether the input has more."""
        now = time.monotonic()
        ends = [self._progress_at + self._progress.every - now]
        if (state_at := self._checkpoint.next_at) is not None:
            ends.append(state_at - now)
        if (seconds := self._scheduler.seconds_to_next_step(now)) is not None:
            ends.append(seconds)
        both = self._scheduler.pool.wake_descriptor, source
        descriptors = [descriptor for descriptor in both if descriptor is not None]
        return source in readable(descriptors, max(0.001, min(ends)))

    def _count(self, finished: Finished) -> None:
        """Count outcomes that are on disk, and let STATE pass them."""
        for signal, outcome, reason in finished:
            if outcome is Outcome.ACCEPTED:
                self.report.types[type_of(signal.claim.request)] += 1
            if signal.recovered:
                self._outcomes.recovered(signal.number, outcome)
                continue
            self.report.count(signal.claim.stream_name, outcome, reason)
            if EFFECTS[outcome].lets_state_pass:
                self._checkpoint.close(signal.number)

    # The end

    def _settle_all(self, *, is_whole: bool) -> None:
        """Finish everything that was read; after a stop, only requests in flight."""
        if self.stop.reason is None and is_whole:
            self._outcomes.end_of_input()
        else:
            self._outcomes.give_up()  # nothing else would end their wait
        if self._ledger.buffer.size:
            self._ledger.flush()
        self._send()
        while self.stop.reason is None and self._queue.unfinished:
            if self._is_stuck():
                break
            self._wait(None)
            self._send()
        self._await_responses()
        if not self._settings.dry_run:
            self._count(self._scheduler.release())
            if not self._settings.rebuilds:
                self._outcomes.records.closing.close()
            if not self._settings.rebuilds or (is_whole and self.stop.reason is None):
                self._scheduler.account_for(self.records.baselined)
            self._ledger.flush()  # also without a STATE to emit
        elif self.report.outcomes[Outcome.WOULD_SEND]:
            logger.info("First-run check: %s.", NOT_CHECKED.rpartition(". ")[0])
        self._checkpoint.emit_states(time.monotonic(), is_last=True)

    def _await_responses(self) -> None:
        """Wait for the requests in flight, but not for long."""
        if self.stop.is_hard:
            self._scheduler.recall()
        pool = self._scheduler.pool
        deadline = time.monotonic() + GRACE_SECONDS
        while pool.in_flight and time.monotonic() < deadline:
            readable([pool.wake_descriptor], 0.1)
            self._count(self._scheduler.step() or [])

    def _left_over(self) -> StairoidsError | None:
        """Return why a run that was not stopped is incomplete after all."""
        if set_aside := self._set_aside():
            if (observer := self._outcomes.records.observer) is None:
                return SetAsideError(" ".join(set_aside))
            for reason in set_aside:
                observer.would_stop(with_configs(reason))
        if cut := self._outcomes.cut_baselines:
            names = ", ".join(map(as_code, sorted(cut)))
            return MessageError(
                f"The source did not read {names} to the end, so the baseline did not "
                "end. Run the sync again with all records."
            )
        if self._is_empty_baseline:
            return MessageError(
                "The input has no SCHEMA message, so the baseline remembers no record, "
                "and the next run would send them all. Did the tap fail? Run it again "
                "first."
            )
        if not self.report.adds_up:
            return StairoidsError(
                "The sum of the outcomes does not add up. Please report this bug."
            )
        if self._scheduler.responses.waiting:
            return IncompleteError(UNPROVED)
        pending = self.report.outcomes[Outcome.PENDING]
        if pending and not self._settings.dry_run:
            signals = counted(pending, "signal is", "signals are")
            text = f"{signals} pending, because another run is sending the same ones."
            return IncompleteError(text)
        if self._settings.fail_on_dead_letters and (dead := self._dead_letters()):
            return StairoidsError(
                f"{counted(dead, 'dead letter')} in this run (`fail_on_dead_letters`). "
                f"Show them and their reasons: {dead_letters_command()}"
            )
        return files_error(self._settings)

    def _dead_letters(self) -> int:
        """Return how many of its dead letters are left. Later states closed others."""
        made, run = dead_letters_in(self.report.outcomes), self.report.run
        return min(made, queries.count_dead_letters(self._ledger, run)) if run else 0

    @property
    def _is_empty_baseline(self) -> bool:
        """Whether the input has no stream though its records were to be remembered."""
        settings = self._settings
        is_asked = settings.remembers_all or (
            settings.first_run == "baseline" and self._is_first
        )
        return is_asked and not (settings.is_partial or self._outcomes.baselined())

    def _may_remember(self, stream: Stream) -> bool:
        held_back = {name for _, name in self._scheduler.held_back}
        is_held_back = stream.schema.name in held_back
        return not is_held_back and self._outcomes.gate.may_remember(stream)

    def _close(
        self, failure: BaseException | None, *, is_ledger_usable: bool
    ) -> BaseException | None:
        """End the run in the ledger and show its report; return why it failed."""
        is_success = failure is None or self.is_forgiven(failure)
        exit_code = 0 if is_success else getattr(failure, "exit_code", 1)
        limiter, responses = self._scheduler.limiter, self._scheduler.responses
        self.report.unanswered = responses.unanswered
        if self.report.run:
            self.report.dead_letters = dead_letters_in(self.report.outcomes)
        report = self.report.as_dict(
            exit_code=exit_code, requests=limiter.requests, quota=limiter.known_limit
        )
        self.records.streams.warn()
        self._scheduler.close()
        facts = None
        if is_ledger_usable and not self._settings.dry_run:
            is_partial, streams = self._settings.is_partial, self.records.streams
            try:
                self.report.dead_letters = report["dead_letters"] = self._dead_letters()
                self._ledger.end_run(
                    exit_code,
                    report,
                    reason="" if failure is None else str(failure),
                    mappings={} if is_partial else streams.made(self._may_remember),
                    complete=self._outcomes.complete(),
                    baselined=self._outcomes.baselined(),
                )
                facts = queries.pipeline_facts(self._ledger, self._pipeline)
                if self._notifier:
                    ending = Ending(self.report.run, exit_code, failure is None, report)
                    self._notifier.end(ending)
            except LedgerError as error:
                if is_success:
                    failure, report["exit_code"] = error, error.exit_code
                else:
                    logger.warning("%s", error)
        self._ledger.close()
        self._progress.end(report, is_whole=failure is None)
        problem = write_files(report, facts, self._settings)
        if problem not in {"", str(failure)}:
            if report["exit_code"] == 0:
                raise ConfigError(problem)
            logger.warning("%s", problem)  # the failure of the run has the exit code
        return failure
