"""Order the events of each account, and let other accounts pass.

A lane holds the events of one account. Only the first event of a lane is delivered at a
time, also while it waits for another request.
"""

from __future__ import annotations

import hashlib
from bisect import insort
from operator import attrgetter

import msgspec

from tap_stairoids_webhooks.store.forwards import Forward
from tap_stairoids_webhooks.store.schema import StoredEvent

#: Where a body names the account or else the person. The first that is there counts.
_OWNERS = (
    ("account", "id"),
    ("account_id", None),
    ("account", "domain"),
    ("contact", "id"),
    ("contact_id", None),
    ("contact", "email"),
)


def lane_of(event: StoredEvent) -> str:
    """Return the lane of an event; a digest, because it may be personal data."""
    try:
        payload = msgspec.json.decode(event.body)
    except (ValueError, RecursionError):
        payload = None
    data = payload.get("data") if isinstance(payload, dict) else None
    for about in (data, payload):
        if not isinstance(about, dict):
            continue
        for owner, field in _OWNERS:
            found = about.get(owner)
            if field is not None:
                found = found.get(field) if isinstance(found, dict) else None
            is_id = isinstance(found, (str, int)) and not isinstance(found, bool)
            if is_id and found != "":
                name = f"{owner.removesuffix('_id')} {field or 'id'} {found}"
                return hashlib.sha256(name.encode("utf-8", "replace")).hexdigest()[:16]
    return f"event {event.sequence}"


MOST_OF_LANE = 1_000  # events in memory


class Lanes:
    """Events that wait for a request, or are in flight.

    A lane has its first events here. The others wait in the store, so that the many
    events of one account take the place of no other.
    """

    def __init__(self) -> None:
        self._lanes: dict[str, list[Forward]] = {}
        self._in_flight: dict[str, Forward] = {}
        self._sequences: set[int] = set()
        self._cut: set[str] = set()  # lanes with more events in the store

    def __len__(self) -> int:
        """Return the number of events, and count one for those in the store."""
        return len(self._sequences) + len(self._cut)

    @property
    def in_flight(self) -> int:
        """The number of events in flight."""
        return len(self._in_flight)

    def add(self, forward: Forward) -> bool:
        """Add an event, unless it is there, or its lane has enough events.

        The first event of a lane may be due earlier than before. Return whether the
        event is new or due earlier.
        """
        if forward.sequence in self._sequences:
            head = self._lanes[forward.lane][0]
            if forward.lane in self._in_flight or head.sequence != forward.sequence:
                return False
            self._lanes[forward.lane][0] = forward
            return forward.due_at < head.due_at
        if len(self._lanes.get(forward.lane, ())) >= MOST_OF_LANE:
            self._cut.add(forward.lane)
        if forward.lane in self._cut:
            return False
        self._insert(forward)
        return True

    def begin_load(self, now: float) -> set[str]:
        """Expect the first events of the store; return the lanes that need none."""
        self._cut = {name for name in self._cut if not self._needs_events(name, now)}
        return self._cut.copy()

    def _needs_events(self, name: str, now: float) -> bool:
        lane = self._lanes.get(name)
        return not lane or (len(lane) <= MOST_OF_LANE // 2 and lane[0].due_at <= now)

    def keep_heads(self, now: float) -> None:
        """Leave only the first event of each lane that waits for a later attempt."""
        for name, lane in self._lanes.items():
            if len(lane) > 1 and lane[0].due_at > now:
                self._sequences -= {forward.sequence for forward in lane[1:]}
                del lane[1:]
                self._cut.add(name)

    def _insert(self, forward: Forward) -> None:
        self._sequences.add(forward.sequence)
        lane = self._lanes.setdefault(forward.lane, [])
        insort(lane, forward, key=attrgetter("sequence"))

    def next_due(self, number: int, now: float) -> list[Forward]:
        """Return the oldest due events, one of a lane; they are in flight now."""
        heads = (lane[0] for lane in self._lanes.values())
        due = [f for f in heads if f.due_at <= now and f.lane not in self._in_flight]
        due.sort(key=attrgetter("sequence"))
        for forward in due[:number]:
            self._in_flight[forward.lane] = forward
        return due[:number]

    def ready(self) -> int:
        """Return the number of events in lanes whose first event has not failed."""
        return sum(len(lane) for lane in self._lanes.values() if not lane[0].attempts)

    def release(self, forward: Forward) -> None:
        """Take an event back whose request has not begun."""
        del self._in_flight[forward.lane]

    def finish(self, forward: Forward) -> None:
        """Remove an event that was in flight."""
        del self._in_flight[forward.lane]
        self._sequences.discard(forward.sequence)
        lane = self._lanes[forward.lane]
        lane[:] = [other for other in lane if other.sequence != forward.sequence]
        if not lane:
            del self._lanes[forward.lane]

    def postpone(self, forward: Forward) -> None:
        """Replace an event that was in flight with its later request."""
        self.finish(forward)
        self._insert(forward)

    def next_event(self) -> Forward | None:
        """Return the event that is due next, of those not in flight; None for none."""
        waiting = (
            lane[0] for name, lane in self._lanes.items() if name not in self._in_flight
        )
        return min(waiting, key=attrgetter("due_at"), default=None)

    def seconds_until_due(self, now: float) -> float:
        """Return how long to wait for the next due event; infinity without one."""
        event = self.next_event()
        return float("inf") if event is None else max(0.0, event.due_at - now)
