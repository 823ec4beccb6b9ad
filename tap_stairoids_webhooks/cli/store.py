"""Commands about the store, such as `stats`, `import`, `prune` and `erase`."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import IO, TYPE_CHECKING, Any

import click

from stairoids_common.cli import (
    confirmed_removal,
    format_option,
    older_than_option,
    print_table,
)
from stairoids_common.error_ids import with_id
from stairoids_common.text import counted
from stairoids_common.time import timestamp
from tap_stairoids_webhooks import environment
from tap_stairoids_webhooks.cli.options import receiver_options
from tap_stairoids_webhooks.exceptions import ConfigError

if TYPE_CHECKING:
    from tap_stairoids_webhooks.store.statistics import Statistics

store_url_option = receiver_options("store_url")


@click.command()
@store_url_option
@format_option()
def stats(*, store_url: str, output_format: str) -> None:
    """Count the events of the store, and the deliveries that were refused.

    The counts are by event type, secret, day and reason. For each consumer (a
    forwarder, or a tap with the setting `consumer`) they show how many events it is
    behind. The receiver need not run.

    \b
    Examples:
      stairoids-webhooks stats
      stairoids-webhooks stats --format json --store-url sqlite:///.stairoids/webhooks.db
    """
    from tap_stairoids_webhooks.store.statistics import statistics_of
    from tap_stairoids_webhooks.store.store import EventStore

    with EventStore.open_read_only(store_url) as store:
        found = statistics_of(store)
    if output_format == "json":
        click.echo(json.dumps(_as_json(found)))
        return
    print_table((), _rows(found))
    none = "its event was pruned" if found.last_sequence else "none yet"
    click.echo(f"last delivery: {found.last_received_at or none}")


def _as_json(found: Statistics) -> dict[str, Any]:
    consumers = {
        name: {
            "acknowledged_at": lag.acknowledged_at,
            "behind": lag.events,
            "oldest_received_at": lag.oldest_received_at,
            "failures": lag.failures,
        }
        for name, lag in found.consumers.items()
    }
    days = {day: _named(events) for day, events in found.days.items()}
    named = {"events": _named(found.events), "days": days, "consumers": consumers}
    return asdict(found) | named


def _named(events: dict[str | None, int]) -> dict[str, int]:
    return {name or "(none)": number for name, number in events.items()}


def _rows(found: Statistics) -> list[tuple[str, int, str]]:
    counts = [
        *(
            (name or "(no type)", n)
            for name, n in sorted(found.events.items(), key=str)
        ),
        ("total", found.total),
        ("malformed", found.malformed),
        ("conflicts", found.conflicts),
        ("erased", found.erased),
        *((f"signed with {key_id}", n) for key_id, n in found.keys.items()),
        *((f"on {day}", sum(n.values())) for day, n in found.days.items()),
    ]
    return [
        *((name, number, "") for name, number in counts),
        *(
            (f"refused: {reason}", count.number, f"last {count.last_at}")
            for reason, count in sorted(found.refused.items())
        ),
        *(
            (f"behind: {name}", lag.events, f"acknowledged {lag.acknowledged_at}")
            for name, lag in sorted(found.consumers.items())
        ),
        *(
            (f"failed: {name}", lag.failures, "see stairoids-webhooks forward failures")
            for name, lag in sorted(found.consumers.items())
            if lag.failures
        ),
    ]


@click.command("import")
@click.argument("file", type=click.File("rb"))
@store_url_option
def import_file(*, file: IO[bytes], store_url: str) -> None:
    """Store deliveries that were logged elsewhere.

    FILE may be - for stdin.

    Each line is {"body": "...", "signature": "sha256=..."} and may have "event" and
    "received_at". A line that no secret signed is refused. An event that is in the
    store stays as it is, so the same file can be imported again. The exit code is 1 if
    a line was refused. The secrets are read from STAIROIDS_WEBHOOK_SECRETS (a JSON
    array) or, if that is not set, from STAIROIDS_WEBHOOK_SECRET.

    \b
    Example:
      STAIROIDS_WEBHOOK_SECRET=... stairoids-webhooks import deliveries.jsonl
    """
    from tap_stairoids_webhooks.signature import Verifier
    from tap_stairoids_webhooks.store.archive import import_from
    from tap_stairoids_webhooks.store.store import EventStore

    verifier = Verifier(environment.secrets())
    with EventStore.create(store_url) as store:
        done = import_from(file, store=store, verifier=verifier)
    outcomes = {str(outcome): number for outcome, number in done.outcomes.items()}
    click.echo(json.dumps({**outcomes, "refused": done.refused}))
    for reason, number in done.first_refused.items():
        refused = f"{done.refused[reason]} ({reason})"
        text = f"refused lines: {refused}, the first is line {number}"
        click.echo(f"Error: {with_id(text)}", err=True)
    if done.refused:
        sys.exit(1)


@click.command()
@older_than_option(help="Remove events older than this:", required=True)
@click.option(
    "--force", is_flag=True, help="Also remove events that a consumer has not read."
)
@click.option(
    "--forget-consumer",
    "forgotten",
    multiple=True,
    metavar="NAME",
    help="Forget this consumer first. Repeat it for more.",
)
@click.option(
    "--keep-digests",
    type=click.IntRange(0, 36_500),
    default=400,
    show_default=True,
    metavar="DAYS",
    help="Recognise redeliveries of removed events for this long.",
)
@click.option(
    "--compact", is_flag=True, help="Then return the space to the file system."
)
@store_url_option
@confirmed_removal
def prune(
    *,
    older_than: datetime,
    force: bool,
    forgotten: tuple[str, ...],
    keep_digests: int,
    compact: bool,
    store_url: str,
    is_confirmed: Callable[[str], bool],
) -> None:
    """Remove old events that every consumer has read.

    A consumer is a forwarder, or a tap with the setting `consumer`. Its incoming state
    proves which events have arrived. The digests of removed events are kept for
    --keep-digests days, so that a redelivery is still a duplicate. The command prints
    how many events were removed, how many stay, and which consumers have not read
    those.

    New events use the space of removed events. --compact returns the space to the file
    system. It prints the size of the store before and after. Nothing can be stored
    meanwhile. If it takes seconds, deliveries get 503.

    \b
    Examples:
      stairoids-webhooks prune --older-than 90d
      stairoids-webhooks prune --older-than 90d --compact
    """
    from tap_stairoids_webhooks.store import retention
    from tap_stairoids_webhooks.store.consumers import check_forgettable
    from tap_stairoids_webhooks.store.store import EventStore

    before = timestamp(older_than)
    with EventStore.open(store_url) as store:
        check_forgettable(store, forgotten)
        bytes_before = store.database.total_bytes() if compact else None
    count = retention.prunable(
        store_url, before=before, force=force, forgotten=forgotten
    )
    if not is_confirmed(f"{counted(count, 'event')} can be removed."):
        return
    _forget(store_url, forgotten)
    done = asdict(retention.prune(store_url, before=before, force=force))
    oldest = datetime.now(UTC) - timedelta(days=keep_digests)
    retention.forget_digests(store_url, before=timestamp(oldest))
    try:
        if compact:
            bytes_after = retention.compact(store_url)
            done |= {"bytes_before": bytes_before, "bytes_after": bytes_after}
    finally:  # also if `compact` fails
        click.echo(json.dumps(done))


def _forget(store_url: str, names: Sequence[str]) -> None:
    from tap_stairoids_webhooks.store import consumers
    from tap_stairoids_webhooks.store.store import EventStore

    with EventStore.open(store_url) as store:
        for name in names:
            consumers.forget(store, name)


@click.command()
@click.argument("consumer")
@store_url_option
@confirmed_removal
def forget(
    *, consumer: str, store_url: str, is_confirmed: Callable[[str], bool]
) -> None:
    """Forget a consumer that is gone, so that `prune` no longer waits for it.

    `stats` lists the consumers. A tap with this name becomes a consumer again when it
    runs.

    \b
    Example:
      stairoids-webhooks forget warehouse
    """
    from tap_stairoids_webhooks.store.consumers import check_forgettable
    from tap_stairoids_webhooks.store.store import EventStore

    with EventStore.open(store_url) as store:
        check_forgettable(store, [consumer])
    if is_confirmed(f"The store forgets the consumer {consumer!r}."):
        _forget(store_url, [consumer])
        click.echo(json.dumps({"forgotten": consumer}))


@click.command()
@click.option("--email", help="Email address of the person, anywhere in a body.")
@click.option("--contact-id", help="Id of the person at Stairoids.")
@store_url_option
@confirmed_removal
def erase(
    *,
    email: str | None,
    contact_id: str | None,
    store_url: str,
    is_confirmed: Callable[[str], bool],
) -> None:
    """Erase every event that names a person, as a data subject may request.

    Body, signature and headers are erased, also from the files of the database. The
    sequence, the event type, the times and the digests stay, so that a redelivery is
    recognised. Copies elsewhere (backups, the target) are not erased.

    \b
    Example:
      stairoids-webhooks erase --email ada@example.com --contact-id con_1
    """
    if not (email and email.strip()) and not contact_id:
        raise ConfigError("name the person with --email, --contact-id or both")
    from tap_stairoids_webhooks.store import erasure

    person = erasure.Person(email=email, contact_id=contact_id or None)
    count = erasure.erase(store_url, person, dry_run=True)
    if is_confirmed(f"The store has {counted(count, 'event')} about this person."):
        click.echo(json.dumps({"erased": erasure.erase(store_url, person)}))


@click.command()
@store_url_option
def restored(*, store_url: str) -> None:
    """Declare that the store was restored from a backup.

    A restored store uses its sequences again for other events. The tap then refuses
    earlier bookmarks, instead of skipping the events since. Its setting
    `on_store_reset` decides how to go on. Run this once, before the tap runs again.

    \b
    Example:
      stairoids-webhooks restored
    """
    from tap_stairoids_webhooks.store.store import EventStore

    with EventStore.open(store_url) as store:
        click.echo(json.dumps({"generation": store.begin_generation()}))


COMMANDS = (stats, import_file, prune, erase, forget, restored)
