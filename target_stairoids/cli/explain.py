"""`stairoids-signals explain`: what became, or would become, of each record."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, TextIO

import click

from target_stairoids.cli.dead_letter_key import key_text
from target_stairoids.cli.options import (
    config_option,
    one_sentence,
    style_option,
)
from target_stairoids.dedup.digests import value_at
from target_stairoids.dedup.rules import Outcome

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from target_stairoids.sending.observer import Observation
    from target_stairoids.sending.streams import Stream

#: Why, where an outcome has no reason of its own.
_MEANS = {
    Outcome.WOULD_SEND: "is new",
    Outcome.DUPLICATE: "nothing to do: it, or a newer state, was settled before",
    Outcome.UNCHANGED: "says what was said before",
    Outcome.TOO_OLD: "older than `max_event_age_days`",
    Outcome.BASELINED: "remembered as seen",
}


class _Rows:
    """Prints a line for each record that a rehearsal decides on."""

    def __init__(self, style: str, only: Collection[str]) -> None:
        self._style = style
        self._only = only

    def opened(self, stream: Stream) -> None:
        """Say nothing: a mapping is not asked about."""

    def decided(self, seen: Observation) -> None:
        """Print what was decided on a record."""
        if self._only and seen.outcome not in self._only:
            return
        shape, compiled_mapping = seen.stream.schema, seen.compiled_mapping
        names = compiled_mapping.key if compiled_mapping else shape.key_properties
        key = {name: value_at(seen.record, name) for name in names}
        row = {
            "outcome": str(seen.outcome),
            "stream": shape.name,
            "mapping": compiled_mapping.name if compiled_mapping else None,
            "key": key,
            "reason": seen.reason or _MEANS.get(seen.outcome, ""),
        }
        if self._style == "json":
            click.echo(json.dumps(row, default=str))
            return
        who = key_text(key) or "(no key)"
        click.echo(f"{row['outcome']:10}  {shape.name}  {who}  {row['reason']}")

    def would_send(self, stream: Stream, body: bytes) -> None:
        """Say nothing: `preview` shows signals."""


@click.command()
@click.argument("messages", type=click.File("r"), default="-")
@click.option(
    "--only",
    type=click.Choice([*map(str, _MEANS), "filtered", "invalid"]),
    multiple=True,
    help="Only records with this outcome; may be given more than once.",
)
@style_option
@config_option()
@one_sentence
def explain(
    config_inputs: Sequence[str], messages: TextIO, only: tuple[str, ...], style: str
) -> None:
    """Tell what becomes of each record of MESSAGES.

    Each by its key, with the reason.

    MESSAGES is a file with what a tap prints; without it, stdin. The ledger is asked
    and not written, and nothing is sent: after a run its records are duplicates, and
    what is not tells why.

    \b
    Examples:
      stairoids-signals explain messages.jsonl --config config.json
      stairoids-signals explain messages.jsonl --only invalid --only filtered --config config.json
    """  # noqa: D301, E501 - \b is click's mark for text that is not re-wrapped
    from target_stairoids.dry_run.runner import run_dry

    run_dry(config_inputs, messages, _Rows(style, only))
