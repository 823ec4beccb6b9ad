"""Import deliveries that were logged elsewhere, one JSON object per line.

``{"body": ..., "signature": ..., "event"?: ..., "received_at"?: ...}``, with the body
as the text that was signed. Each line is verified and deduplicated like a delivery.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from stairoids_common.time import parse_time, timestamp
from tap_stairoids_webhooks.event import Delivery, event_from
from tap_stairoids_webhooks.exceptions import RefusedLineError
from tap_stairoids_webhooks.signature import Verifier
from tap_stairoids_webhooks.store.store import EventStore

_BATCH_ROWS = 500  # deliveries in one commit
_BATCH_BYTES = 8 * 1024 * 1024
_EARLIEST = datetime(2000, 1, 1, tzinfo=UTC)


@dataclass(slots=True, kw_only=True)
class Import:
    """Counts of the lines: stored by outcome, refused by reason, and where."""

    outcomes: Counter[str] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)
    first_refused: dict[str, int] = field(default_factory=dict)


def import_from(
    lines: Iterable[bytes], *, store: EventStore, verifier: Verifier
) -> Import:
    """Store the deliveries that a secret proves. Call it again after an error."""
    result = Import()
    waiting: list[Delivery] = []
    size = 0
    for delivery in _deliveries_in(lines, verifier, result):
        waiting.append(delivery)
        size += len(delivery.body)
        if len(waiting) == _BATCH_ROWS or size >= _BATCH_BYTES:
            result.outcomes.update(store.append(waiting))
            waiting.clear()
            size = 0
    if waiting:
        result.outcomes.update(store.append(waiting))
    return result


def _deliveries_in(
    lines: Iterable[bytes], verifier: Verifier, result: Import
) -> Iterator[Delivery]:
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            yield _delivery_from(line, verifier)
        except RefusedLineError as refused:
            result.refused[refused.reason] += 1
            result.first_refused.setdefault(refused.reason, number)


def _delivery_from(line: bytes, verifier: Verifier) -> Delivery:
    try:
        entry = json.loads(line)
    except (ValueError, RecursionError):
        raise RefusedLineError(reason="not_json") from None
    match entry:
        case {"body": str(text), "signature": str(signature)}:
            body = text.encode("utf-8", "surrogatepass")
        case _:
            raise RefusedLineError(reason="no_body_or_signature")
    key_id = verifier.key_id_for(body, signature.encode("ascii", "replace"))
    if key_id is None:
        raise RefusedLineError(reason="signature_mismatch")
    event = entry.get("event")
    is_plain = isinstance(event, str) and event.isprintable()
    return Delivery(
        body=body,
        signature=signature,
        key_id=key_id,
        received_at=_received_at(entry.get("received_at")),
        headers={"x-stairoids-event": event[:200]} if is_plain else {},
        event=event_from(body),
    )


def _received_at(value: object) -> str:
    if value is None:
        return timestamp()
    if isinstance(value, str):
        with suppress(ValueError):
            received_at = parse_time(value)
            if _EARLIEST <= received_at <= datetime.now(UTC) + timedelta(days=1):
                return timestamp(received_at)
    raise RefusedLineError(reason="received_at")
