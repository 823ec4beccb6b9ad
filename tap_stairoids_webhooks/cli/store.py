"""Commands about the store: `stats`, `import`, `prune`, `erase` and `restored`."""

from __future__ import annotations

import json
import os
import re
import sys
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import IO, TYPE_CHECKING, Any

import click

from tap_stairoids_webhooks.cli.options import clear_errors, store_url_option
from tap_stairoids_webhooks.exceptions import ConfigError
from tap_stairoids_webhooks.settings import secrets_from
from tap_stairoids_webhooks.timestamps import stamp, stamp_from

if TYPE_CHECKING:
    from tap_stairoids_webhooks.store.statistics import Report

_AGE = re.compile(r"(\d{1,6})([dhm])")
_UNITS = {"d": "days", "h": "hours", "m": "minutes"}


@click.command()
@store_url_option
@click.option(
    "--format",
    "style",
    type=click.Choice(["table", "json"]),
    default="table",
    show_default=True,
    help="A table for people, or JSON.",
)
def stats(*, store_url: str, style: str) -> None:
    """Count what the store holds and what was refused.

    By event type, secret, day and reason; it also says how far each tap with the
    setting `consumer` is behind. No receiver need run.

    \b
    Examples:
      stairoids-webhooks stats
      stairoids-webhooks stats --format json --store-url sqlite:///.stairoids/webhooks.db
    """  # noqa: D301 -- \b is click's mark for text that is not re-wrapped
    with clear_errors():
        from tap_stairoids_webhooks.store.statistics import report_on  # noqa: PLC0415 -- slow to import
        from tap_stairoids_webhooks.store.store import EventStore  # noqa: PLC0415 -- same

        with EventStore.open_to_read(store_url) as store:
            found = report_on(store)
    click.echo(json.dumps(_as_json(found)) if style == "json" else _as_table(found))


def _as_json(report: Report) -> dict[str, Any]:
    found = report.stats
    return {
        "total": found.total,
        "events": _named(found.events),
        "days": {day: _named(events) for day, events in report.days.items()},
        "malformed": found.malformed,
        "conflicts": found.conflicts,
        "erased": report.erased,
        "keys": found.keys,
        "refused": {
            reason: {"number": refused.number, "last_at": refused.last_at}
            for reason, refused in report.refused.items()
        },
        "consumers": {
            name: {
                "acknowledged_at": lag.acknowledged_at,
                "behind": lag.events,
                "oldest_received_at": lag.oldest_received_at,
            }
            for name, lag in report.consumers.items()
        },
        "last_sequence": found.last_sequence,
        "last_received_at": found.last_received_at,
    }


def _named(events: dict[str | None, int]) -> dict[str, int]:
    return {name or "(none)": number for name, number in events.items()}


def _as_table(report: Report) -> str:
    found = report.stats
    rows = [
        (name or "(no type)", n) for name, n in sorted(found.events.items(), key=str)
    ]
    rows += [("total", found.total), ("malformed", found.malformed)]
    rows += [("conflicts", found.conflicts), ("erased", report.erased)]
    rows += [(f"signed with {key_id}", n) for key_id, n in found.keys.items()]
    rows += [(f"on {day}", sum(n.values())) for day, n in report.days.items()]
    lines = [f"{name:<32}{number:>10}" for name, number in rows]
    lines += [
        f"{f'refused: {reason}':<32}{refused.number:>10}  last {refused.last_at}"
        for reason, refused in sorted(report.refused.items())
    ]
    lines += [
        f"{f'behind: {name}':<32}{lag.events:>10}  acknowledged {lag.acknowledged_at}"
        for name, lag in sorted(report.consumers.items())
    ]
    return "\n".join([*lines, f"last delivery: {found.last_received_at or 'none yet'}"])


@click.command("import")
@click.argument("file", type=click.File("rb"))
@store_url_option
def import_file(*, file: IO[bytes], store_url: str) -> None:
    """Store deliveries that were logged elsewhere.

    FILE may be - for stdin.

    Each line is {"body": "...", "signature": "sha256=..."} and may have "event" and
    "received_at". What no secret signed is refused, what the store knows stays as
    it is; so the same file may be imported again. Exits 1 if a line was refused.
    The secrets are read from STAIROIDS_WEBHOOK_SECRETS (a JSON array) or, if that is
    not set, from STAIROIDS_WEBHOOK_SECRET.

    \b
    Example:
      STAIROIDS_WEBHOOK_SECRET=... stairoids-webhooks import deliveries.jsonl
    """  # noqa: D301 -- \b is click's mark for text that is not re-wrapped
    with clear_errors():
        from tap_stairoids_webhooks.signature import Verifier  # noqa: PLC0415 -- same
        from tap_stairoids_webhooks.store.archive import import_from  # noqa: PLC0415 -- slow to import
        from tap_stairoids_webhooks.store.store import EventStore  # noqa: PLC0415 -- same

        verifier = Verifier(secrets_from(os.environ))
        with EventStore.create(store_url) as store:
            done = import_from(file, store=store, verifier=verifier)
    outcomes = {str(outcome): number for outcome, number in done.outcomes.items()}
    click.echo(json.dumps({**outcomes, "refused": done.refused}))
    for reason, number in done.first_refused.items():
        click.echo(
            f"Error: refused lines: {done.refused[reason]} ({reason}), the first is"
            f" line {number}",
            err=True,
        )
    if done.refused:
        sys.exit(1)


@click.command()
@click.option(
    "--older-than",
    required=True,
    metavar="AGE|TIME",
    help="90d, 12h or 30m, or a time such as 2026-01-31.",
)
@click.option(
    "--force", is_flag=True, help="Also remove what a consumer has not acknowledged."
)
@click.option(
    "--forget-consumer",
    "forgotten",
    multiple=True,
    metavar="NAME",
    help="Wait no longer for this consumer; again for more.",
)
@click.option(
    "--compact", is_flag=True, help="Then give the room back to the file system."
)
@store_url_option
def prune(
    *,
    older_than: str,
    force: bool,
    forgotten: tuple[str, ...],
    compact: bool,
    store_url: str,
) -> None:
    """Remove old events that every consumer has.

    A consumer is a run of the tap with the setting `consumer`; its incoming state
    proves what has arrived. A redelivery of a removed event is stored as a new one:
    keep events for longer than Stairoids may send them again. It prints how many
    were removed, how many stay, and which consumers have not read those.

    New events use the room of removed ones. --compact gives it back, and prints how
    many bytes the store had before and has now; meanwhile nothing can be stored, and
    deliveries are answered 503 if that takes seconds.

    \b
    Examples:
      stairoids-webhooks prune --older-than 90d
      stairoids-webhooks prune --older-than 90d --compact
    """  # noqa: D301 -- \b is click's mark for text that is not re-wrapped
    with clear_errors():
        before = _moment(older_than)
        from tap_stairoids_webhooks.store.consumers import forget  # noqa: PLC0415 -- slow to import
        from tap_stairoids_webhooks.store.retention import compact as compact_store  # noqa: PLC0415 -- same
        from tap_stairoids_webhooks.store.retention import prune as prune_store  # noqa: PLC0415 -- same
        from tap_stairoids_webhooks.store.store import EventStore  # noqa: PLC0415 -- same

        with EventStore.open_to_change(store_url) as store:
            bytes_before = store.total_bytes() if compact else None
            for consumer in forgotten:
                if not forget(store, consumer):
                    msg = f"--forget-consumer: there is no consumer {consumer!r}"
                    raise ConfigError(msg)
        done = asdict(prune_store(store_url, before=before, force=force))
        try:
            if compact:
                bytes_after = compact_store(store_url)
                done |= {"bytes_before": bytes_before, "bytes_after": bytes_after}
        finally:  # what was removed is told in any case
            click.echo(json.dumps(done))


def _moment(text: str) -> str:
    """Read an age or a time.

    Raises:
        ConfigError: It is neither.
    """
    try:
        if match := _AGE.fullmatch(text):
            age = timedelta(**{_UNITS[match[2]]: int(match[1])})
            return stamp(datetime.now(UTC) - age)
        return stamp_from(text)
    except (ValueError, OverflowError):
        msg = "--older-than takes an age (90d, 12h, 30m) or a time (2026-01-31)"
        raise ConfigError(msg) from None


@click.command()
@click.option("--email", help="Of the person; found anywhere in a body.")
@click.option("--contact-id", help="Stairoids' id of the person.")
@store_url_option
def erase(*, email: str | None, contact_id: str | None, store_url: str) -> None:
    """Empty every event that names a person.

    That is what a data subject may ask for.

    Body, signature and headers go, also from SQLite's write-ahead log. What stays
    is the sequence, the event type, the times and the digests by which a redelivery
    is recognised. Copies elsewhere (back-ups, the target) are not reached.

    \b
    Example:
      stairoids-webhooks erase --email ada@example.com --contact-id con_1
    """  # noqa: D301 -- \b is click's mark for text that is not re-wrapped
    with clear_errors():
        if not (email and email.strip()) and not contact_id:
            msg = "name the person with --email, --contact-id or both"
            raise ConfigError(msg)
        from tap_stairoids_webhooks.store.erasure import Person  # noqa: PLC0415 -- same as above
        from tap_stairoids_webhooks.store.retention import erase as erase_from  # noqa: PLC0415 -- same

        person = Person(email=email, contact_id=contact_id or None)
        number = erase_from(store_url, is_about=person.is_in)
    click.echo(json.dumps({"erased": number}))


@click.command()
@store_url_option
def restored(*, store_url: str) -> None:
    """Say that the store was put back from a back-up.

    Its sequences then return under other events. The tap refuses bookmarks from
    before, instead of skipping what came in since; its setting `on_store_reset` says
    how to go on. Run this once, before the tap runs again.

    \b
    Example:
      stairoids-webhooks restored
    """  # noqa: D301 -- \b is click's mark for text that is not re-wrapped
    with clear_errors():
        from tap_stairoids_webhooks.store.history import begin_generation  # noqa: PLC0415 -- slow to import

        click.echo(json.dumps({"generation": begin_generation(store_url)}))


COMMANDS = (stats, import_file, prune, erase, restored)
