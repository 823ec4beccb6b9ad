"""Times are read and written as RFC 3339 in UTC."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest

from stairoids_common.time import (
    current_second,
    parse_time,
    rfc3339,
    timestamp,
)


def test_time_is_written_in_utc_with_z() -> None:
    moment = datetime(2026, 1, 31, 14, 0, tzinfo=timezone(timedelta(hours=2)))

    assert rfc3339(moment) == "2026-01-31T12:00:00Z"
    assert rfc3339(moment, "milliseconds") == "2026-01-31T12:00:00.000Z"


def test_timestamps_have_a_fixed_length_and_sort_by_time() -> None:
    stamps = [timestamp() for _ in range(100)]

    assert {len(stamp) for stamp in stamps} == {27}
    assert stamps == sorted(stamps)


def test_current_second_has_no_fraction() -> None:
    assert len(rfc3339(current_second())) == len("2026-01-31T12:00:00Z")


@pytest.mark.parametrize(
    ("text", "hour"),
    [
        ("2026-01-31", 0),
        ("2026-01-31T12:00:00", 12),
        ("2026-01-31T12:00:00+02:00", 10),
    ],
)
def test_time_without_a_zone_is_utc(text: str, hour: int) -> None:
    assert parse_time(text) == datetime(2026, 1, 31, hour, tzinfo=UTC)


@pytest.mark.parametrize(
    "text", ["", "soon", "2026-13-31", "0001-01-01T00:00:00+14:00"]
)
def test_text_that_is_no_time_is_refused_without_repeating_it(text: str) -> None:
    with pytest.raises(ValueError, match=r"^not a time such as 2026-01-31 or"):
        parse_time(text)
