"""An archive: deliveries that were logged elsewhere, one JSON object a line.

``{"body": ..., "signature": ..., "event"?: ..., "received_at"?: ...}``, with the
body as the text that was signed. Nothing is believed because it is in a file:
each line is verified like a delivery, and one the store knows stays as it is.
"""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tap_stairoids_webhooks.event import Delivery, event_from
from tap_stairoids_webhooks.timestamps import now, stamp_from

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from tap_stairoids_webhooks.signature import Verifier
    from tap_stairoids_webhooks.store.store import EventStore

_AT_ONCE = 500  # deliveries in one commit


class _Unusable(Exception):  # noqa: N818 -- a line's fate, not a fault of ours
    """Why a line is not taken."""


@dataclass(slots=True, kw_only=True)
class Import:
    """What became of an archive's lines.

    Attributes:
        outcomes: Of those taken, by what the store made of them.
        refused: Of the others, by reason.
        first_refused: The first line's number, by reason.
    """

    outcomes: Counter[str] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)
    first_refused: dict[str, int] = field(default_factory=dict)


def import_from(
    lines: Iterable[bytes], *, store: EventStore, verifier: Verifier
) -> Import:
    """Store what an archive holds and a secret proves.

    Raises:
        StoreUnavailableError: The store failed on the way; import it again.
    """
    result = Import()
    waiting: list[Delivery] = []
    for delivery in _deliveries_in(lines, verifier, result):
        waiting.append(delivery)
        if len(waiting) == _AT_ONCE:
            result.outcomes.update(store.append(waiting))
            waiting.clear()
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
        except _Unusable as reason:
            result.refused[str(reason)] += 1
            result.first_refused.setdefault(str(reason), number)


def _delivery_from(line: bytes, verifier: Verifier) -> Delivery:
    try:
        entry = json.loads(line)
    except (ValueError, RecursionError):
        raise _Unusable("not_json") from None  # noqa: EM101 -- a word for counts
    match entry:
        case {"body": str(text), "signature": str(signature)}:
            pass
        case _:
            raise _Unusable("no_body_or_signature")  # noqa: EM101 -- same
    body = text.encode("utf-8", "surrogatepass")
    key_id = verifier.key_id_for(body, signature.encode("ascii", "replace"))
    if key_id is None:
        raise _Unusable("signature_mismatch")  # noqa: EM101 -- same
    event = entry.get("event")
    return Delivery(
        body=body,
        signature=signature,
        key_id=key_id,
        received_at=_moment_in(entry),
        headers={"x-stairoids-event": event[:200]} if isinstance(event, str) else {},
        event=event_from(body),
    )


def _moment_in(entry: dict[str, object]) -> str:
    match entry.get("received_at"):
        case None:
            return now()
        case str(text):
            try:
                return stamp_from(text)
            except ValueError:
                pass
    raise _Unusable("received_at")  # noqa: EM101 -- same
