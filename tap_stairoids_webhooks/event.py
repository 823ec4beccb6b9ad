"""Read type, id and dedupe key of an event from its signed body.

Headers are not signed: a sender who has one valid body and signature can send them
again with any headers. So the type, the id and the key that recognises a redelivery
come from the body only. A signed body that does not parse is an event without type
and id.
"""

from __future__ import annotations

import hashlib
import json
from decimal import Decimal
from typing import Any

import msgspec

from stairoids_common.config_errors import DEEPEST, is_too_deep
from tap_stairoids_webhooks.exceptions import MalformedBodyError

#: The event types that an endpoint can subscribe to.
EVENT_TYPES = (
    "signal.created",
    "signal.scored",
    "account.score_changed",
    "contact.score_changed",
    "automation.triggered",
)
#: Redeliveries may differ in the order of keys and in white space.
_CANONICAL = msgspec.json.Encoder(order="deterministic", decimal_format="number")
_ENCODER = msgspec.json.Encoder(decimal_format="number")
_QUICK_DECODER = msgspec.json.Decoder(float_hook=Decimal)
_AUTOMATION_RAN = ("automation.action_triggered", "automation.triggered")
_MAX_TEXT = 255  # characters of an id or type that a store can index


class Event(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The identity of a signed body.

    Attributes:
        event: The event type; None if there is none that a store can index.
        event_id: The `evt_…` id of Stairoids, which every redelivery repeats.
        malformed: Why the body is not one JSON object; None if it is.
        dedupe_key: Equal for every delivery of the same event.
        variant: Digest of the body as canonical JSON. The same event with another
            body is stored as well.
    """

    event: str | None
    event_id: str | None
    malformed: str | None
    dedupe_key: str
    variant: str
    body_sha256: str


class Delivery(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One verified webhook request; `headers` are unsigned, by lower-case name."""

    body: bytes
    signature: str
    key_id: str
    received_at: str
    headers: dict[str, str]
    event: Event

    def __repr__(self) -> str:
        """Show the digest only, because the body may be personal data."""
        return f"<Delivery {self.event.body_sha256}>"


def event_from(body: bytes) -> Event:
    """Return the identity of any signed body."""
    digest = hashlib.sha256(body).hexdigest()
    try:
        payload = payload_from(body)
    except MalformedBodyError as error:
        return Event(
            event=None,
            event_id=None,
            malformed=str(error),
            dedupe_key=f"body:{digest}",
            variant=digest,
            body_sha256=digest,
        )
    variant = hashlib.sha256(_CANONICAL.encode(payload)).hexdigest()
    return Event(
        event=_plain(_type_of(payload)),
        event_id=_plain(payload.get("id")),
        malformed=None,
        dedupe_key=_identity_of(payload) or f"body:{variant}",
        variant=variant,
        body_sha256=digest,
    )


def payload_from(body: bytes) -> dict[str, Any]:
    """Parse a body strictly, and refuse JSON that parsers read differently.

    Numbers with a fraction stay exact (`Decimal`).
    """
    payload = _plain_json(body)
    if payload is None:
        payload = _strict_json(body)
    if not isinstance(payload, dict):
        raise MalformedBodyError("not a JSON object")
    brackets = body.count(b"{") + body.count(b"[")
    if brackets > DEEPEST and is_too_deep(payload):
        raise MalformedBodyError("nested too deeply")
    return payload


def _plain_json(body: bytes) -> object:
    """Return the value of usual JSON; None if only the strict parser can tell.

    JSON that is the same after reading and writing has no key twice.
    """
    try:
        value = _QUICK_DECODER.decode(body)
        is_same = _ENCODER.encode(value) == msgspec.json.format(body, indent=-1)
    except (ValueError, RecursionError, ArithmeticError):
        return None
    return value if is_same else None


def _strict_json(body: bytes) -> object:
    """Parse JSON with the slow parser of Python, which reports each key."""
    try:
        value = _DECODER.decode(body.decode())
        if b"\\u" in body:
            json.dumps(value, ensure_ascii=False, default=str).encode()
    except UnicodeDecodeError as error:
        raise MalformedBodyError("not UTF-8") from error
    except json.JSONDecodeError as error:
        raise MalformedBodyError(f"not JSON (byte {error.pos})") from error
    except UnicodeEncodeError as error:
        raise MalformedBodyError("half of a surrogate pair") from error
    except RecursionError as error:
        raise MalformedBodyError("nested too deeply") from error
    # An integer with thousands of digits, or an exponent with eighteen.
    except (ValueError, ArithmeticError) as error:
        raise MalformedBodyError("a number that is too long") from error
    return value


def _object_without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        raise MalformedBodyError("a key that occurs twice")
    return result


def _refuse_constant(name: str) -> None:
    raise MalformedBodyError(f"not JSON ({name})")


_DECODER = json.JSONDecoder(
    object_pairs_hook=_object_without_duplicates,
    parse_float=Decimal,
    parse_constant=_refuse_constant,
)


def _type_of(payload: dict[str, Any]) -> object:
    """Return the event type.

    Stairoids documents two types for an automation that ran, each with its own shape
    of body. For these two types the shape decides.
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


def _identity_of(payload: dict[str, Any]) -> str | None:
    """Return the dedupe key of a payload; None if only its body identifies it."""
    match payload:
        case {"id": str(event_id)} if event_id:
            return f"id:{_plain(event_id) or _digest_of([event_id])}"
        case {
            "event": str(event),
            "automation_id": str(automation_id),
            "signal": {"id": str(signal_id)},
            "triggered_at": str(triggered_at),
        } if event and automation_id and signal_id and triggered_at:
            run = [event, automation_id, signal_id, triggered_at]
            return f"run:{_digest_of(run)}"
        case _:
            return None


def _digest_of(texts: list[str]) -> str:
    """Return a digest that differs for different lists of texts."""
    return hashlib.sha256(json.dumps(texts).encode()).hexdigest()


def _plain(text: object) -> str | None:
    """Return a text that every store can index; None for anything else."""
    if isinstance(text, str) and 0 < len(text) <= _MAX_TEXT and text.isprintable():
        return text
    return None
