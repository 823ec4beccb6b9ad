"""Summaries of the newest events, and refusals by day."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import pytest

from tap_stairoids_webhooks.store.event_summary import (
    event_with_sequence,
    latest,
    subject_of,
)
from tap_stairoids_webhooks.store.schema import RefusalCount
from tap_stairoids_webhooks.store.statistics import refusals_by_day, statistics_of
from tests.support.webhook_builders import a_body, a_delivery, deliveries

if TYPE_CHECKING:
    from tap_stairoids_webhooks.store.store import EventStore


def test_events_are_paged_newest_first(home: EventStore) -> None:
    home.append(deliveries(5))

    first = latest(home, number=2)
    then = latest(home, number=9, before=first[-1].sequence)

    assert [event.sequence for event in (*first, *then)] == [5, 4, 3, 2, 1]


def test_events_are_filtered_by_type(home: EventStore) -> None:
    home.append([*deliveries(2), a_delivery(a_body("evt_9", "signal.scored"))])

    assert [e.event_id for e in latest(home, number=9, kind="signal.scored")] == [
        "evt_9"
    ]
    assert latest(home, number=9, kind="other") == []


def test_events_are_filtered_by_missing_type(home: EventStore) -> None:
    home.append([*deliveries(2), a_delivery(b"[1]"), a_delivery(a_body("evt_9", None))])

    assert [e.sequence for e in latest(home, number=9, kind=None)] == [4, 3]


def test_summary_has_the_size_of_the_body(home: EventStore) -> None:
    bodies = [a_body(), b"[1]", "ü".encode() * 70_000, b"\x00\xff"]
    home.append([a_delivery(body) for body in bodies])

    summaries = latest(home, number=9)[::-1]

    assert [event.size for event in summaries] == [len(body) for body in bodies]
    assert "body" not in {field.name for field in dataclasses.fields(summaries[0])}


def test_subject_is_not_read_from_a_large_body() -> None:
    """Its parsing would delay the webhooks that arrive meanwhile."""
    large = b'{"automation_name":"a","rows":[' + b"{}," * 30_000 + b"{}]}"

    assert subject_of(b'{"automation_name":"a"}') == "a"
    assert subject_of(large) == ""


@pytest.mark.parametrize(
    "body", [None, b"", b"[1]", b'{"id":"\xe9"}', b"\xff", b'["\\ud800"]', b"[" * 9_999]
)
def test_body_that_does_not_parse_has_no_subject(body: bytes | None) -> None:
    assert subject_of(body) == ""


def test_one_event_is_found_with_its_body(home: EventStore) -> None:
    home.append(deliveries(3))

    event = event_with_sequence(home, 2)

    assert event is not None
    assert event.event_id == "evt_2"
    assert event_with_sequence(home, 4) is None
    assert event_with_sequence(home, 0) is None


def test_refusals_are_counted_by_reason_and_day(home: EventStore) -> None:
    for day, reasons in (
        ("2026-01-01", {"not_found": 9}),
        ("2026-01-02", {"not_found": 2, "too_large": 1}),
        ("2026-01-03", {"not_found": 3}),
    ):
        for hour in (12, 10):
            at = f"{day}T{hour}:00:00.000000Z"
            home.add_refusals(
                {
                    reason: RefusalCount(number=number, last_at=at)
                    for reason, number in reasons.items()
                }
            )

    assert refusals_by_day(home, since="2026-01-02") == {
        "not_found": {"2026-01-02": 4, "2026-01-03": 6},
        "too_large": {"2026-01-02": 2},
    }
    # Counts of another receiver may arrive late, with an earlier time.
    assert (
        statistics_of(home).refused["not_found"].last_at
        == "2026-01-03T12:00:00.000000Z"
    )
