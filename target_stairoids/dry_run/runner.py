"""Run the target inside a command: dry runs, baselines and replays.

Each function raises `StairoidsError` if the run fails, unless it returns the error.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from io import StringIO
from tempfile import TemporaryDirectory
from typing import IO, Any

from typing_extensions import override

from target_stairoids.exceptions import MessageError, StairoidsError
from target_stairoids.ledger import maintenance, queries
from target_stairoids.ledger.ledger import Ledger
from target_stairoids.reporting.report import Report
from target_stairoids.sending.observer import Observation, Observer
from target_stairoids.sending.streams import Stream
from target_stairoids.target import INPUT_ERRORS, TargetStairoids, target_from

#: No ledger can be there, and a dry run takes a missing one for an empty one.
NO_LEDGER = f"sqlite:///{os.devnull}/none"


def run(
    config_inputs: Sequence[str], messages: IO[str] | list[str], **overrides: object
) -> None:
    """Run the target over Singer messages; `overrides` replace settings."""
    _listen(target_from(config_inputs, overrides=overrides), messages)


def rebuild(
    config_inputs: Sequence[str], messages: IO[str], *, dry_run: bool
) -> tuple[Report, int]:
    """Settle the signals of Singer messages that Stairoids has, and send nothing.

    A dry run does so in a copy of the ledger. Return the report, and the number of
    signals there that no message explains.
    """
    limits = "requests_per_day", "max_signals_per_run", "max_run_minutes"
    overrides: dict[str, Any] = {
        **dict.fromkeys(limits),
        "first_run": "guard",
        "dry_run": False,
        "fail_on_dead_letters": False,
        "on_incomplete": "fail",
        "report_path": None,
        "metrics_path": None,
        "notify": (),
        "rebuilds": True,
    }
    target = target_from(config_inputs, may_send=False, overrides=overrides)
    with TemporaryDirectory() as folder:
        if dry_run:
            url, scope = f"sqlite:///{folder}/ledger.db", target.settings().scope
            known = target.settings().ledger_url
            with (
                Ledger.open_read_only(known, scope, missing_ok=True) as ledger,
                Ledger.create(url, scope) as copy,
            ):
                maintenance.copy(ledger, copy, with_claims=True)
            overrides["ledger_url"] = url  # the run is not made yet
        _listen(target, messages)
    return target.run.report, target.run.unexplained


def send(
    config_inputs: Sequence[str], messages: list[str], overrides: Mapping[str, Any]
) -> tuple[Report, list[Any], StairoidsError | None]:
    """Send some records of a tap's output, which say nothing about the others.

    Return the report, the accepted signals of the run, and why it failed.
    """
    overrides, error = {**overrides, "is_partial": True}, None
    target = target_from(config_inputs, overrides=overrides)
    run, settings = target.run, target.settings()
    try:
        _listen(target, messages)
    except StairoidsError as failure:
        error = failure
    with Ledger.open_read_only(
        settings.ledger_url, settings.scope, missing_ok=True
    ) as ledger:
        return run.report, queries.accepted_in(ledger, run.report.run), error


def _listen(target: TargetStairoids, messages: IO[str] | list[str]) -> None:
    if isinstance(messages, list):  # the lines of a file, or texts without line ends
        ended = (line.removesuffix("\n") for line in messages)
        messages = StringIO("\n".join(ended))
    try:
        target.listen(messages)
    except INPUT_ERRORS as error:
        raise MessageError(str(error)) from error


class _EachRecord(Observer):
    def __init__(self, note: Callable[[Observation], object]) -> None:
        self._note = note

    @override
    def opened(self, stream: Stream) -> None:
        pass

    @override
    def decided(self, observation: Observation) -> None:
        self._note(observation)


def run_dry(
    config_inputs: Sequence[str] | Mapping[str, Any],
    messages: IO[str] | list[str],
    observer: Observer | Callable[[Observation], object],
    **overrides: object,
) -> TargetStairoids:
    """Run a target without an API key, which sends and writes nothing, and return it.

    The observer sees the run, or is called with the decision on each record.
    """
    target = target_from(
        config_inputs,
        may_send=False,
        observer=observer if isinstance(observer, Observer) else _EachRecord(observer),
        overrides={**overrides, "dry_run": True, "report_path": None},
        api_key="not used",
    )
    _listen(target, messages)
    return target
