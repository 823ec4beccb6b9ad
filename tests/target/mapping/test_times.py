"""Times as taps write them: read where their meaning is certain, else refused."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from target_stairoids.exceptions import InvalidSignalError
from target_stairoids.mapping.times import event_time_from, time_from
from tests.support.mapping_builders import TEXT, a_map, a_shape

READABLE: dict[str, list[object]] = {
    "2017-07-14T02:40:00Z": [
        *(1500000000, "1500000000", 1500000000000, "1500000000000", 1500000000.0),
        *(1500000000000000, "1500000000000000", 1500000000000000000),
        *("1500000000000000000", "1500000000.0", Decimal("1.5e9")),
        *("2017-07-14T02:40:00Z", "2017-07-14t02:40:00z", " 2017-07-14 02:40:00 "),
        *("2017-07-14T02:40", "20170714T024000Z", "20170714024000", 20170714024000),
        *("2017-07-14 04:40:00+02:00", "2017-07-14T04:40:00 +0200"),
        *("2017-07-14 04:40+02", "2017-07-14T04:40:00+02:00[Europe/Berlin]"),
        *("2017-07-14 02:40:00 UTC", "2017-07-14 02:40:00 GMT"),
        *("2017-07-14 04:40:00 CEST", "2017-07-13 22:40:00 EDT"),
        *("2017-07-13 19:40:00.000 PDT", "2017-07-14 02:40:00.000 +0000 UTC"),
        *("2017-07-14 02:40:00,000", "2017-07-14 2:40 AM", "2017/07/14 2:40"),
        *("2017/7/14 02:40:00", "14.7.2017 02:40", "14.07.2017, 02:40:00"),
        *("Fri, 14 Jul 2017 02:40:00 GMT", "Fri, 14 Jul 2017 04:40:00 +0200"),
        *("14 Jul 2017 02:40 UT", "Thu, 13 Jul 2017 22:40:00 EDT"),
        *("Fri Jul 14 02:40:00 2017", "Fri Jul 14 04:40:00 CEST 2017"),
        *("Fri Jul 14 02:40:00 +0000 2017", "Friday, July 14, 2017 2:40 a.m."),
        "Fri Jul 14 2017 04:40:00 GMT+0200 (Central European Summer Time)",
    ],
    "2025-11-05T00:00:00Z": [
        *("2025-11-05", "2025/11/05", "2025/11/5", "2025.11.05", "5.11.2025"),
        *("05.11.2025", "20251105", 20251105, "5 Nov 2025", "05-NOV-2025"),
        *("Nov 5, 2025", "November 5, 2025", "5 November 2025", "2025-11-05Z"),
        *("2025-11-05+00:00", "2025-W45-3", "5. November 2025", "5th Nov 2025"),
    ],
    "2025-11-04T22:00:00Z": ["2025-11-05+02:00", "2025-11-05T00:00+0200"],
    "2025-11-05T12:05:00Z": [
        "2025-11-05 12:05 PM",
        "Nov 5, 2025, 12:05 p.m.",
        "Nov 5, 2025 at 12:05 PM",
    ],
    "2017-07-14T02:40:00.123000Z": [
        *("1500000000.123", Decimal("1500000000.123"), 1500000000123),
        *("/Date(1500000000123)/", "/Date(1500000000123+0200)/"),
        *({"$date": 1500000000123}, {"$date": "2017-07-14T02:40:00.123Z"}),
        *(
            {"$date": {"$numberLong": "1500000000123"}},
            {"$numberLong": "1500000000123"},
        ),
        *({"seconds": "1500000000", "nanos": 123000000},),
        *({"_seconds": 1500000000, "_nanoseconds": 123000000},),
        *("1500000000123.0", 1500000000123000000, "2017-07-14 02:40:00.123 UTC"),
    ],
    # Each has a month, a day or an hour that a date cannot have.
    "2034-03-05T09:28:34Z": [2025163714, "2025163714"],
    "2034-03-05T01:08:34Z": [2025133714, "2025133714000"],
    "2017-07-14T02:40:00.123456Z": [
        *("2017-07-14T02:40:00.123456789Z", 1500000000123456789, 1500000000123456),
    ],
}


@pytest.mark.parametrize("time_in_utc", READABLE)
def test_time_is_utc_with_z(time_in_utc: str) -> None:
    values = READABLE[time_in_utc]

    found = [(value, event_time_from(value)) for value in values]

    assert found == [(value, time_in_utc) for value in values]


@pytest.mark.parametrize("value", [None, "", "   ", {"$date": None}])
def test_empty_time_is_none(value: object) -> None:
    assert event_time_from(value) is None


@pytest.mark.parametrize(
    "value",
    [
        *("yesterday", "now", "soon", "n/a", "-", "14:30", "2025", "2025-11"),
        *("2024-02-30", "31.11.2025", "0000-00-00 00:00:00", "2025/13/01"),
        *("12/11/25", "5.11.25", "5-Nov-25", "5/11/2025", "25/12/2025", "5-11-2025"),
        *("2024-06-15T25:00:00Z", "2025-11-05 13:30 PM", "2025-11-05 0:30 AM"),
        *("2025-11-05 14:30 CST", "2025-11-05 14:30 IST", "2025-11-05 14:30 BST"),
        *("Fri, 14 Jul 2017 02:40:00 XYZ", "2025-11-05 14:30[Europe/Berlin]"),
        *("2025-11-05 14.30", "2025-11-05T14:30.5Z", "20251105T1430.5"),
        *("2025-11-05-0001", "5.11.2025-0100", "2025/11/05-01", "2025-11-05 +0200"),
        *("Foo 5, 2025", "5 Mai 2025", "\uff12025-11-05", "2024-06-15\x00", "\ud83d"),
        *("0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00"),
        *(45292, "45292", 45292.5, "45292.75", 0, -1, 1, 86400, 999999999, 99999999999),
        *(2025110, 202511051430, "1.5e9", -1500000000, "-1500000000", 10**19, 10**999),
        *(True, float("nan"), float("inf"), Decimal("1e400"), Decimal("1e9999999")),
        *(Decimal("sNaN"), ["2024-06-15"], {}, {"$date": 1500000000}, "9" * 1_000_000),
        *(2025110514, "2025110514", 2025110514.0, "2025110514.0", 2033013123),
        *(2025110514300012, "2025110514300012345", "/Date(1500000000)/"),
        *("1500000000)/", "/Date(1500000000123", "/Date(1500000000123.5)/"),
        *({"seconds": "1e99999999"}, {"seconds": "1e9999999", "nanos": "1e9999999"}),
        *({"seconds": 20251105}, {"seconds": 1500000000, "x": 1}, {"seconds": None}),
        *(
            {"$date": {"$numberLong": "1500000000"}},
            {"seconds": "x" * 10},
            {"$date": {}},
        ),
        *("1." * 100_000, "a" * 1_000_000, " (" * 100_000, "2025-11-05 " * 10_000),
    ],
    ids=lambda value: f"{type(value).__name__} {str(value)[:30]!r}",
)
def test_value_that_is_no_certain_time_is_refused_and_not_repeated(
    value: object,
) -> None:
    with pytest.raises(InvalidSignalError) as refused:
        event_time_from(value)

    assert refused.value.reason == (
        "occurred_at: not a date and time that can be read, such as "
        "2026-01-31T12:00:00Z"
    )


@pytest.mark.parametrize(
    "value",
    [
        *("0001-01-01T00:00:00Z", "0001-01-01", "1601-01-01", "1753-01-01 00:00:00"),
        *("1899-12-30", "30.12.1899", "1900-01-01", "1970-01-01", "1970-01-01T01:00Z"),
        *("1969-12-31T18:00:00-06:00", "Thu, 01 Jan 1970 00:00:00 GMT", 19700101),
        *("2099-12-31", "2999-12-31", "9999-12-31T23:59:59Z", 4102444800, 9999999999),
    ],
)
def test_placeholder_is_a_time_but_not_of_an_event(value: object) -> None:
    assert time_from(value) is not None

    with pytest.raises(InvalidSignalError) as refused:
        event_time_from(value)

    assert refused.value.reason == (
        "occurred_at: not a time from 1971 to 2098, so it is a placeholder"
    )


EVENTS = a_shape(
    "events", {"email": TEXT, "event_time": TEXT, "occurred_at": TEXT}, key=()
)


@pytest.mark.parametrize(
    "template",
    [
        "{{ event_time }}",
        "{{ event_time | iso8601 }}",
        "{{ event_time | iso8601 or occurred_at | iso8601 }}",
        "{{ event_time | iso8601('%d/%m/%Y') }}",
        "{{ event_time | int }}",
        "{{ event_time if email else none }}",
        "{{ event_time }}T00:00",
    ],
)
@pytest.mark.parametrize("value", ["soon", "n/a", "45292", "1899-12-30", 0, [1], True])
def test_mapped_time_that_cannot_be_read_makes_the_record_invalid(
    template: str, value: object
) -> None:
    mapping = a_map(EVENTS, occurred_at=template)

    with pytest.raises(InvalidSignalError, match="occurred_at: "):
        mapping.signal_from({"email": "ada@acme.com", "event_time": value})


@pytest.mark.parametrize("value", [None, "", " "])
@pytest.mark.parametrize(
    "template",
    [
        "{{ event_time }}",
        "{{ event_time | iso8601 }}",
        "{{ event_time | iso8601(form='%d/%m/%Y') }}",
        None,
    ],
)
def test_empty_mapped_time_is_left_out(template: str | None, value: object) -> None:
    mapping = a_map(EVENTS, occurred_at=template)

    signal = mapping.signal_from({"email": "ada@acme.com", "event_time": value})

    assert signal.occurred_at is None


def test_mapped_time_falls_back_to_a_readable_one() -> None:
    mapping = a_map(
        EVENTS, occurred_at="{{ event_time | iso8601 or occurred_at | iso8601 }}"
    )

    signal = mapping.signal_from(
        {"email": "a@b.com", "event_time": "soon", "occurred_at": "5.11.2025"}
    )

    assert signal.occurred_at == "2025-11-05T00:00:00Z"


@pytest.mark.parametrize("value", ["soon", "45292", "1899-12-30", "12/11/25"])
@pytest.mark.parametrize(
    ("properties", "found"),
    [({}, True), ({"properties": "*"}, True), ({"properties": ["email"]}, False)],
)
def test_inferred_time_that_cannot_be_read_stays_a_property(
    value: object, properties: dict[str, Any], *, found: bool
) -> None:
    record = {"email": "ada@acme.com", "event_time": value, "occurred_at": None}
    mapping = a_map(EVENTS, **properties)

    signal = mapping.signal_from(record)

    assert signal.occurred_at is None
    assert mapping.has_unread_time is not None
    assert mapping.has_unread_time(record)
    assert (signal.properties.get("event_time") == value) is found
    assert "occurred_at" not in signal.properties


def test_inferred_time_that_is_read_is_no_property() -> None:
    record = {"email": "ada@acme.com", "event_time": "n/a", "occurred_at": 1500000000}

    signal = a_map(EVENTS).signal_from(record)

    assert signal.occurred_at == "2017-07-14T02:40:00Z"
    assert signal.properties == {}
