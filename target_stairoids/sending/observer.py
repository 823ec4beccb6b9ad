"""Observers: see the decision on each record of a dry run."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any

import click
from typing_extensions import override

from stairoids_common.text import visible
from target_stairoids.dedup.outcome import Outcome
from target_stairoids.mapping.signal import CompiledMapping
from target_stairoids.sending.streams import Stream

logger = logging.getLogger(__name__)

_SAMPLES = 3


@dataclass(frozen=True, slots=True)
class Observation:
    """The decision on one record under one mapping.

    Attributes:
        compiled_mapping: The mapping; None if no mapping saw the record.
        record: May hold personal data.
        request: The request that a run would send, as JSON text; else empty.
    """

    stream: Stream
    compiled_mapping: CompiledMapping | None
    record: dict[str, Any]
    outcome: Outcome
    reason: str
    request: bytes = b""


class Observer:
    """Is called for each record of a run. The arguments may hold personal data."""

    def opened(self, stream: Stream) -> None:
        """Note a stream, or its new SCHEMA. Warn if it lacks a person and a company."""
        if any(
            m.is_left_out and "type" in m.origins and not m.not_inferred
            for m in stream.maps
        ):
            logger.warning(
                "Stream `%s` is left out, because its records have neither an email "
                "nor a domain. To send them, give the stream a mapping with "
                "`contact.email` or `account.domain` in the setting `signals`.",
                stream.schema.name,
            )

    def decided(self, observation: Observation) -> None:
        """Note the decision on a record."""

    def would_stop(self, reason: str) -> None:
        """Note that a check would set a stream aside."""
        logger.warning("A run would stop here. %s", reason)


class SampleObserver(Observer):
    """Prints the first requests of a dry run to stderr."""

    def __init__(self) -> None:
        self._shown = 0

    @override
    def decided(self, observation: Observation) -> None:
        if observation.request and self._shown < _SAMPLES:
            self._shown += 1
            request = visible(observation.request.decode())
            click.echo(f"would send: {request}", err=True)
