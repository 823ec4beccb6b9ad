"""Look up whether a signal was accepted although no response came.

Stairoids has no idempotency key, so its signals have to be read. Source:
https://docs.stairoids.com/api-reference/signals/list-signals. All documented shapes of
responses are read.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from typing import Any

import msgspec

from stairoids_common.time import parse_time
from target_stairoids.api.client import Response
from target_stairoids.dedup.digests import same_value
from target_stairoids.mapping.people_and_companies import domain_from, email_from

PAGE = 200  # the documented maximum
_CLOCK_SKEW = timedelta(minutes=5)
_FINEST_TIME = timedelta(seconds=1)  # the documented times have no fraction
_EXACT = 2**53  # a double holds every whole number up to here
_LARGEST = 10**308
Json = Any  # as Stairoids wrote it


def query_for(sent: Mapping[str, Json], cursor: str | None) -> dict[str, str | int]:
    """Return the query for signals with the type, source and person of a sent one."""
    query: dict[str, str | int] = {
        "type": sent["type"],
        "source": sent["source"],
        "limit": PAGE,
    }
    if email := sent.get("contact", {}).get("email"):
        query["contact_email"] = email
    else:
        query["account_domain"] = sent["account"]["domain"]
    if cursor is not None:
        query["cursor"] = cursor
    return query


def listed(response: Response) -> list[Json] | None:
    """Return the signals of a page; None if the response is no page of signals."""
    match response.body:
        case {"data": list() as signals} | {"signals": list() as signals}:
            return signals
    return None


def next_cursor(response: Response) -> str | None:
    """Return where the next page starts; None at the last one."""
    match response.body:
        case {"meta": {"next_cursor": str() | int() as cursor}} | {
            "next_cursor": str() | int() as cursor
        }:
            return str(cursor) or None
    return None


def ids_of(sent: bytes, claimed_at: str, page: list[Json]) -> Iterator[str]:
    """Yield the ids of the signals on a page that equal a sent one.

    `sent` is the request's JSON text. A signal from before the claim is not equal.
    """
    body = msgspec.json.decode(sent)
    earliest = datetime.fromisoformat(claimed_at) - _CLOCK_SKEW
    for signal in page:
        if (
            isinstance(signal, dict)
            and isinstance(signal.get("id"), str)
            and _is_equal(body, signal)
            and (moment_of(signal.get("created_at")) or earliest) >= earliest
        ):
            yield signal["id"]


def is_readable(sent: bytes, page: list[Json]) -> bool:
    """Return whether each signal of a page has the fields that the lookup compares."""
    body = msgspec.json.decode(sent)
    asked_for = "contact" if "email" in body.get("contact", {}) else "account"
    return all(
        isinstance(signal, dict)
        and isinstance(signal.get("id"), str)
        and {"type", "source", "created_at", asked_for} <= signal.keys()
        for signal in page
    )


def _is_equal(sent: Mapping[str, Json], found: Mapping[str, Json]) -> bool:
    if sent["type"] != found.get("type") or sent["source"] != found.get("source"):
        return False
    domain = sent.get("account", {}).get("domain")
    if domain and domain_from(_inner(found.get("account"), "domain")) != domain:
        return False
    email = sent.get("contact", {}).get("email")
    found_email = email_from(_inner(found.get("contact"), "email"))
    if email and (found_email or "").lower() != email.lower():
        return False
    properties = _as_doubles(found.get("properties") or {})
    if not same_value(_as_doubles(sent.get("properties", {})), properties):
        return False
    occurred_at = moment_of(sent.get("occurred_at"))
    found_at = moment_of(found.get("occurred_at"))
    if occurred_at is None or found_at is None:
        return True
    return abs(occurred_at - found_at) < _FINEST_TIME


def _as_doubles(properties: Json) -> Json:
    """Return properties as a server has them that keeps numbers as doubles."""
    if not isinstance(properties, dict):
        return properties
    return {
        name: float(value)
        if type(value) is int and _EXACT < abs(value) < _LARGEST
        else value
        for name, value in properties.items()
    }


def _inner(value: Json, name: str) -> Json:
    """Return a field of an account or contact. Some pages show these as a string."""
    return value.get(name) if isinstance(value, dict) else value


def moment_of(value: Json) -> datetime | None:
    """Return the time in a field of a signal; None if it has none."""
    try:
        return parse_time(value)
    except (TypeError, ValueError):
        return None
