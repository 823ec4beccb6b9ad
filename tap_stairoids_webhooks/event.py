"""An event, read from the body Stairoids signed and from nothing else.

Headers are not signed: whoever holds one valid pair of body and signature may
send it again under any header. So type, id and the key by which a redelivery is
recognised all come from the body. A body that does not parse was signed all the
same; it is an event without type or id, and is kept.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from tap_stairoids_webhooks.exceptions import MalformedBodyError

_MAX_DEPTH = 100  # the readers of a record walk it by recursion
_AUTOMATION_RAN = ("automation.action_triggered", "automation.triggered")
_MAX_TEXT = 255  # of an id or a type that is looked up by its text


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """What a signed body says it is.

    Attributes:
        event: The event type, for example ``signal.created``; None if it has none
            that a store can look up.
        event_id: Stairoids' ``evt_…`` id, which every redelivery repeats.
        malformed: Why the body is not one JSON object; None if it is.
        dedupe_key: Equal for the same event, whatever delivery brought it.
        variant: Told apart under one dedupe key: the body's digest where Stairoids
            gave an id, so that another body under the same id is kept too.
        body_sha256: Digest of the body, in hexadecimal.
    """

    event: str | None
    event_id: str | None
    malformed: str | None
    dedupe_key: str
    variant: str
    body_sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """One request of Stairoids, verified.

    Attributes:
        body: The bytes Stairoids signed, never re-serialised.
        signature: The header that proves it.
        key_id: Which of the secrets it was signed with.
        received_at: When it was verified, RFC 3339 in UTC.
        headers: The unsigned headers worth keeping, by lower-case name.
        event: What the body says it is.
    """

    body: bytes = field(repr=False)
    signature: str = field(repr=False)
    key_id: str
    received_at: str
    headers: dict[str, str]
    event: Event


def event_from(body: bytes) -> Event:
    """Recognise a signed body, whatever it holds."""
    digest = hashlib.sha256(body).hexdigest()
    try:
        payload = payload_from(body)
    except MalformedBodyError as error:
        return Event(
            event=None,
            event_id=None,
            malformed=str(error),
            dedupe_key=f"body:{digest}",
            variant="",
            body_sha256=digest,
        )
    dedupe_key, variant = _identity_of(payload, digest)
    return Event(
        event=_plain(_type_of(payload)),
        event_id=_plain(payload.get("id")),
        malformed=None,
        dedupe_key=dedupe_key,
        variant=variant,
        body_sha256=digest,
    )


def payload_from(body: bytes) -> dict[str, Any]:
    """Read a body strictly: what two parsers could read differently is refused.

    Numbers with a fraction stay exact (`Decimal`).

    Raises:
        MalformedBodyError: The body is not one JSON object; keep its bytes.
    """
    try:
        payload = _DECODER.decode(body.decode())
    except UnicodeDecodeError as error:
        msg = "not UTF-8"
        raise MalformedBodyError(msg) from error
    except json.JSONDecodeError as error:
        msg = f"not JSON (byte {error.pos})"
        raise MalformedBodyError(msg) from error
    except RecursionError as error:
        msg = "nested too deeply"
        raise MalformedBodyError(msg) from error
    # An integer of thousands of digits; an exponent of eighteen.
    except (ValueError, ArithmeticError) as error:
        msg = "a number that is too long"
        raise MalformedBodyError(msg) from error
    if not isinstance(payload, dict):
        msg = "not a JSON object"
        raise MalformedBodyError(msg)
    _check_readable(payload, body)
    return payload


def _check_readable(payload: dict[str, Any], body: bytes) -> None:
    """Refuse what no writer of records can pass on."""
    if b"\\u" in body:
        try:
            json.dumps(payload, ensure_ascii=False, default=str).encode()
        except UnicodeEncodeError as error:
            msg = "half of a surrogate pair"
            raise MalformedBodyError(msg) from error
        except RecursionError as error:
            msg = "nested too deeply"
            raise MalformedBodyError(msg) from error
    if body.count(b"{") + body.count(b"[") > _MAX_DEPTH:
        level: list[Any] = [payload]
        for _ in range(_MAX_DEPTH):
            level = [child for value in level for child in _children(value)]
            if not level:
                return
        msg = "nested too deeply"
        raise MalformedBodyError(msg)


def _children(value: object) -> list[Any]:
    match value:
        case dict():
            return [v for v in value.values() if isinstance(v, (dict, list))]
        case list():
            return [v for v in value if isinstance(v, (dict, list))]
        case _:
            return []


def _object_without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        msg = "a key that occurs twice"
        raise MalformedBodyError(msg)
    return result


def _refuse_constant(name: str) -> None:
    msg = f"not JSON ({name})"
    raise MalformedBodyError(msg)


_DECODER = json.JSONDecoder(
    object_pairs_hook=_object_without_duplicates,
    parse_float=Decimal,
    parse_constant=_refuse_constant,
)


def _type_of(payload: dict[str, Any]) -> object:
    """Return the event type.

    Stairoids documents two names for an automation that ran, and a body of its
    own for each: between these two the shape decides.
    """
    event = payload.get("event")
    if event is not None and event not in _AUTOMATION_RAN:
        return event
    match payload:
        case {"data": _}:
            return event and "automation.triggered"
        case {"automation_id": _}:
            return "automation.action_triggered"
        case _:
            return event


def _identity_of(payload: dict[str, Any], digest: str) -> tuple[str, str]:
    """Return the dedupe key and the variant of a payload."""
    match payload:
        case {"id": str(event_id)} if event_id:
            return f"id:{_plain(event_id) or _digest_of([event_id])}", digest
        case {
            "event": str(event),
            "automation_id": str(automation_id),
            "signal": {"id": str(signal_id)},
            "triggered_at": str(triggered_at),
        } if event and automation_id and signal_id and triggered_at:
            run = [event, automation_id, signal_id, triggered_at]
            return f"run:{_digest_of(run)}", ""
        case _:
            return f"body:{digest}", ""


def _digest_of(texts: list[str]) -> str:
    """Digest a list so that no two lists of texts can run into each other."""
    return hashlib.sha256(json.dumps(texts).encode()).hexdigest()


def _plain(text: object) -> str | None:
    """Pass a text that every store can hold and index; else None."""
    if isinstance(text, str) and 0 < len(text) <= _MAX_TEXT and text.isprintable():
        return text
    return None
