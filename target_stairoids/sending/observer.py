"""Watchers: who is told what is decided on each record of a rehearsal."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import click

from target_stairoids.sending.streams import warn_if_left_out

if TYPE_CHECKING:
    from target_stairoids.dedup.rules import Outcome
    from target_stairoids.mapping.compiled import CompiledMapping
    from target_stairoids.sending.streams import Stream

_SAMPLES = 3


@dataclass(frozen=True, slots=True)
class Decision:
    """What was decided on a record.

    Attributes:
        compiled_mapping: The mapping that looked at it; None if none did.
        record: What it was; it may be personal data.
    """

    stream: Stream
    compiled_mapping: CompiledMapping | None
    record: dict[str, Any]
    outcome: Outcome
    reason: str


class Observer(Protocol):
    """Is told what becomes of records; what it is told may be personal data."""

    def opened(self, stream: Stream) -> None:
        """Note a stream, or its new SCHEMA."""

    def decided(self, decision: Decision) -> None:
        """Note what was decided on a record."""

    def would_send(self, stream: Stream, body: bytes) -> None:
        """Note the request that would be made, as JSON text."""


class Samples:
    """Shows the first requests of a dry run on stderr; that is what it is for."""

    def __init__(self) -> None:
        self._shown = 0

    def opened(self, stream: Stream) -> None:
        """Tell if a stream is left out, as a run that sends does."""
        warn_if_left_out(stream)

    def decided(self, decision: Decision) -> None:
        """Show nothing."""

    def would_send(self, _stream: Stream, body: bytes) -> None:
        """Show one of the first requests."""
        if self._shown < _SAMPLES:
            self._shown += 1
            click.echo(f"would send: {body.decode()}", err=True)
