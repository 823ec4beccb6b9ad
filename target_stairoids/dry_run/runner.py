"""Rehearsals, baselines, replays: the target as the operator's commands run it."""

from __future__ import annotations

from io import StringIO
from typing import IO, TYPE_CHECKING, Any

from msgspec.structs import replace
from typing_extensions import override

from target_stairoids.exceptions import MessageError
from target_stairoids.target import INPUT_ERRORS, TargetStairoids, target_from

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from target_stairoids.sending.observer import Observer
    from target_stairoids.settings import Settings


class BaselineTarget(TargetStairoids):
    """Remembers what it reads and sends nothing."""

    @override
    def settings(self) -> Settings:
        return replace(super().settings(), first_run="baseline", remembers_all=True)


def remember(config_inputs: Sequence[str], messages: IO[str]) -> None:
    """Settle the records of Singer messages as seen, whatever the ledger knows.

    Raises:
        StairoidsError: As of any run of the target.
    """
    target_from(config_inputs, BaselineTarget).listen(messages)


def resend(config_inputs: Sequence[str], messages: list[str]) -> None:
    """Send what dead letters hold, as Singer messages.

    Raises:
        StairoidsError: As of any run of the target.
    """
    target_from(config_inputs, TargetStairoids).listen(StringIO("\n".join(messages)))


class DryRunTarget(TargetStairoids):
    """Lets a observer see what a run would do; sends nothing and writes nothing.

    Attributes:
        instead: Settings in place of those of the config.
    """

    instead: Mapping[str, Any]

    @override
    def settings(self) -> Settings:
        # Not by the config: environment variables come before what it says.
        instead = {**self.instead, "dry_run": True, "report_path": None}
        return replace(super().settings(), **instead)


def run_dry(
    config_inputs: Sequence[str],
    messages: IO[str] | list[str],
    observer: Observer,
    **instead: object,
) -> Settings:
    """Let a observer see what a run over Singer messages would do. Nothing is sent.

    Args:
        config_inputs: As of the target; an API key is not needed.
        messages: An open file, or lines.
        instead: Settings in place of those of the config.

    Returns:
        The settings by which it was rehearsed.

    Raises:
        StairoidsError: As of any run of the target.
    """
    target = target_from(config_inputs, DryRunTarget, api_key="not used")
    target.observer, target.instead = observer, instead
    lines = StringIO("\n".join(messages)) if isinstance(messages, list) else messages
    try:
        target.listen(lines)
    except INPUT_ERRORS as error:
        raise MessageError(str(error)) from error
    return target.settings()
