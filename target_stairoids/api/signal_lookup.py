"""Look up whether a signal was accepted although no response came.

Stairoids has no idempotency key, so its signals have to be read. Source:
https://docs.stairoids.com/api-reference/signals/list-signals. All documented shapes of
responses are read.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from stairoids_common.time import parse_time
from target_stairoids.api.client import Response, is_id
from target_stairoids.dedup.record import same_value
from target_stairoids.exceptions import IncompleteError
from target_stairoids.mapping.people_and_companies import clean_email, domain_from

PAGE = 200  # the documented maximum
_MOST_EMPTY_PAGES = 100  # filters of Stairoids may leave some pages empty
_TOLERANCE = timedelta(seconds=2)  # between `Date` and `created_at`, in whole seconds
FINEST_TIME = timedelta(seconds=1)  # the documented times have no fraction
_EXACT = 2**53  # a double holds every whole number up to here
_LARGEST = 10**308
Json = Any  # as Stairoids wrote it
Subject = tuple[str, str, str]


class ServerClock:
    """The clock of Stairoids, learnt from the header `Date`; ours may be wrong.

    Its times are rather too early than too late. All arguments are monotonic seconds.
    """

    def __init__(self) -> None:
        self._ahead: float | None = None  # Unix time less monotonic time

    def note(self, response: Response, now: float) -> None:
        """Learn from a response."""
        if (date := response.server_time) is not None:
            ahead = date.timestamp() - now
            self._ahead = ahead if self._ahead is None else min(self._ahead, ahead)

    def at(self, moment: float) -> datetime | None:
        """Return the server's time at a moment; None if it is not known."""
        if self._ahead is None:
            return None
        return datetime.fromtimestamp(self._ahead + moment, UTC)


def query_for(source: str, cursor: str | None) -> dict[str, str | int]:
    """Return the query for the newest signals of a source.

    Type and person are compared here, because the API may store them in another case.
    """
    query: dict[str, str | int] = {"source": source, "limit": PAGE}
    if cursor is not None:
        query["cursor"] = cursor
    return query


def listed(response: Response) -> list[Json] | None:
    """Return the signals of a page; None if the response is no page of signals."""
    match response.body:
        case {"data": list() as signals} | {"signals": list() as signals}:
            return signals if all(isinstance(one, dict) for one in signals) else None
    return None


def next_cursor(response: Response) -> str | None:
    """Return where the next page starts; None at the last one."""
    match response.body:
        case {"meta": {"next_cursor": str() | int() as cursor}} | {
            "next_cursor": str() | int() as cursor
        }:
            return str(cursor) or None
    return None


def end_of(page: list[Json]) -> str:
    """Return the id of a page's last signal; empty without one."""
    return str(page[-1].get("id", "")) if page else ""


@dataclass(slots=True)
class Pages:
    """The pages of a list that were read: the next cursors, and the last signals."""

    cursors: list[str] = field(default_factory=list)
    ends: Counter[str] = field(default_factory=Counter)

    def follow(self, response: Response) -> str | None:
        """Note a page; return where the next one starts. None at the last one.

        `IncompleteError` if the pages repeat.
        """
        cursor, end = next_cursor(response), end_of(listed(response) or [])
        if cursor and self.repeat(cursor, end):
            raise IncompleteError(
                "The signals of Stairoids cannot be read: its pages repeat. Run again."
            )
        self.add(cursor or "", end)
        return cursor

    def add(self, cursor: str, end: str) -> None:
        """Note a page."""
        self.cursors.append(cursor)
        self.ends[end] += 1

    def repeat(self, cursor: str, end: str) -> bool:
        """Return whether a page is one of these, although its cursor may differ.

        So it is if both end with the same signal, or if very many pages are empty.
        """
        most = 1 if end else _MOST_EMPTY_PAGES
        return cursor in self.cursors or self.ends[end] >= most


def alike(sent: bytes, since: datetime | None, page: list[Json]) -> dict[str, bool]:
    """Return the ids of the signals on a page that may be a sent one.

    The value is whether a signal equals the sent one. `sent` is the request's JSON
    text. A signal from before `since`, on the server's clock, is not the sent one.
    """
    body = msgspec.json.decode(sent)
    return {
        signal["id"]: _is_equal(body, signal)
        for signal in page
        if isinstance(signal, dict)
        and is_id(signal.get("id"))
        and _is_similar(body, signal)
        and not _is_before(signal, since)
    }


def without_rivals(
    sent: bytes, found: Mapping[str, bool], page: list[Json], rivals: Iterable[bytes]
) -> dict[str, bool]:
    """Leave out the signals that are certainly those of other requests.

    A signal that equals a rival belongs to the rival. If it equals the sent one as
    well, it belongs to the one that names a domain.
    """
    body = msgspec.json.decode(sent)
    others = [msgspec.json.decode(rival) for rival in rivals]
    by_id = {signal["id"]: signal for signal in page if signal["id"] in found}
    return {
        signal_id: is_equal
        for signal_id, is_equal in found.items()
        if not any(
            _is_equal(other, by_id[signal_id])
            and not (is_equal and _domain_of(other) in {None, _domain_of(body)})
            for other in others
        )
    }


class ListedSignals:
    """Signals of Stairoids, to find those that were sent. Each is found once."""

    def __init__(self) -> None:
        self._texts: defaultdict[Subject, dict[str, bytes]] = defaultdict(dict)
        self._of_name: defaultdict[Subject, set[Subject]] = defaultdict(set)
        self._places: dict[str, int] = {}  # id -> place in the list, the newest first
        #: Subject of a sent signal -> place of the newest one found; -1 without one.
        self._found: dict[Subject, int] = {}

    def add(self, page: list[Json], own: Collection[str]) -> None:
        """Add the signals of a page whose ids are not `own`."""
        for signal in page:
            if is_id(signal.get("id")) and signal["id"] not in own:
                subject = _subject_of(signal)
                self._texts[subject][signal["id"]] = msgspec.json.encode(signal)
                self._places.setdefault(signal["id"], len(self._places))
                named = *subject[:2], _name_of(signal) or ""
                self._of_name[named].add(subject)

    def take(self, sent: bytes, ignored: Collection[str | None] = ()) -> Json | None:
        """Return a signal that equals a sent one, given its JSON text; else None.

        The second choice is one in which only ignored properties and `occurred_at`
        differ.
        """
        body = msgspec.json.decode(sent)
        for names in ((), ignored) if ignored else ((),):
            wanted = _without(body, names)
            for signal in self._beside(body):
                if _is_equal(wanted, _without(signal, names)):
                    subject, place = _subject_of(signal), self._places[signal["id"]]
                    before = self._found.get(subject, -1)
                    self._found[subject] = place if before < 0 else min(place, before)
                    del self._texts[subject][signal["id"]]
                    return signal
        return None

    @property
    def unexplained(self) -> int:
        """The number of signals that none of the sent ones explains.

        Their person got none of the sent ones, or they are newer than the one found.
        Only signals with the type and source of a sent one count.
        """
        kinds = {subject[:2] for subject in self._found}
        return sum(
            self._places[signal_id] < self._found.get(subject, len(self._places))
            for subject, texts in self._texts.items()
            if subject[:2] in kinds
            for signal_id in texts
        )

    def has_similar(self, sent: bytes, ignored: Collection[str | None] | None) -> bool:
        """Return whether a signal may be a sent one without being equal.

        `ignored` are properties that may have other values; None for all.
        """
        body = msgspec.json.decode(sent)
        return any(
            ignored is None or _may_be(_without(body, ignored), signal)
            for signal in self._beside(body)
        )

    def _beside(self, body: Json) -> Iterator[Json]:
        """Yield the signals about a sent one's person or company, the oldest first."""
        subject = _subject_of(body)
        self._found.setdefault(subject, -1)
        is_known = _domain_of(body) or "email" in body.get("contact", {})
        named = set() if is_known else self._of_name.get(subject, set())
        subjects = {subject, (*subject[:2], "")} | named
        texts: dict[str, bytes] = {}
        for one in subjects:
            texts |= self._texts.get(one, {})
        for found in sorted(texts, key=self._places.__getitem__, reverse=True):
            yield msgspec.json.decode(texts[found])


def _without(signal: Json, names: Collection[str | None]) -> Json:
    """Return a signal without some properties, and with these without its time."""
    properties = signal.get("properties")
    if not names or not isinstance(properties, dict):
        return signal
    kept = {
        name: value
        for name, value in properties.items()
        if name not in names and name.partition(".")[0] not in names
    }
    return {**signal, "properties": kept, "occurred_at": None}


def _subject_of(signal: Json) -> Subject:
    """Return type, source, and the person, else the company; "" if not known."""
    name = _found_email(signal) or _found_domain(signal) or _name_of(signal) or ""
    kind = str(signal.get("type")).lower(), str(signal.get("source")).lower()
    return *kind, name.lower()


def _may_be(sent: Mapping[str, Json], found: Mapping[str, Json]) -> bool:
    """Return whether a similar signal differs from a sent one only in its form."""
    mine, theirs = sent.get("properties", {}), found.get("properties") or {}
    return isinstance(theirs, dict) and all(
        same_value(mine[name], theirs[name])
        or str(mine[name]).strip().lower() == str(theirs[name]).strip().lower()
        for name in mine.keys() & theirs.keys()
    )


def _domain_of(sent: Mapping[str, Json]) -> str | None:
    domain: str | None = sent.get("account", {}).get("domain")
    return domain


def _name_of(signal: Mapping[str, Json]) -> str | None:
    """Return the name of a signal's company, in lower case."""
    name = _inner(signal.get("account"), "name")
    return name.strip().lower() if isinstance(name, str) else None


def ends_before(page: list[Json], since: datetime | None) -> bool:
    """Return whether a page, the newest first, ends before a time."""
    return bool(page) and _is_before(page[-1], since)


def _is_before(signal: Json, since: datetime | None) -> bool:
    created_at = moment_of(signal.get("created_at"))
    if since is None or created_at is None:
        return False
    return created_at < since - _TOLERANCE


def _is_similar(sent: Mapping[str, Json], found: Mapping[str, Json]) -> bool:
    """Return whether a signal has the type, source and person of a sent one."""
    if any(str(found.get(n)).lower() != sent[n].lower() for n in ("type", "source")):
        return False
    if email := sent.get("contact", {}).get("email"):
        return _found_email(found) in {None, email.lower()}
    if domain := _domain_of(sent):
        return _found_domain(found) in {None, domain}
    is_person = _found_email(found) is not None
    return not is_person and _name_of(found) in {None, _name_of(sent)}


def is_readable(sent: bytes, page: list[Json]) -> bool:
    """Return whether each signal of a page has the fields that the lookup compares."""
    body = msgspec.json.decode(sent)
    asked_for = "contact" if "email" in body.get("contact", {}) else "account"
    return all(
        isinstance(signal, dict)
        and is_id(signal.get("id"))
        and all(isinstance(signal.get(name), str) for name in ("type", "source"))
        and {"created_at", asked_for} <= signal.keys()
        for signal in page
    )


def _is_equal(sent: Mapping[str, Json], found: Mapping[str, Json]) -> bool:
    if sent["type"] != found.get("type") or sent["source"] != found.get("source"):
        return False
    domain = _domain_of(sent)
    if domain and _found_domain(found) != domain:
        return False
    # Stairoids may name the company of an address, but no address of a company.
    email = sent.get("contact", {}).get("email") or ""
    if not (domain or email) and _name_of(found) != _name_of(sent):
        return False
    if (_found_email(found) or "") != email.lower():
        return False
    properties = _as_doubles(found.get("properties") or {})
    if not same_value(_as_doubles(sent.get("properties", {})), properties):
        return False
    occurred_at = moment_of(sent.get("occurred_at"))
    found_at = moment_of(found.get("occurred_at"))
    if occurred_at is None or found_at is None:
        return True
    return abs(occurred_at - found_at) < FINEST_TIME


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


def _found_email(signal: Mapping[str, Json]) -> str | None:
    """Return the address of a listed signal, in lower case."""
    email = _inner(signal.get("contact"), "email")
    found = clean_email(email) if isinstance(email, str) else None
    return found and found.lower()


def _found_domain(signal: Mapping[str, Json]) -> str | None:
    return domain_from(_inner(signal.get("account"), "domain"))


def _inner(value: Json, name: str) -> Json:
    """Return a field of an account or contact. Some pages show these as a string."""
    return value.get(name) if isinstance(value, dict) else value


def moment_of(value: Json) -> datetime | None:
    """Return the time in a field of a signal; None if it has none."""
    try:
        return parse_time(value)
    except (TypeError, ValueError):
        return None
