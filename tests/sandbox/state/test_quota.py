"""Quotas are exact sliding windows per key, and the headers show them."""

from __future__ import annotations

import time
from email.utils import parsedate_to_datetime
from itertools import pairwise

import pytest

from stairoids_sandbox import Sandbox
from stairoids_sandbox.exceptions import UsageError
from stairoids_sandbox.state.quota import PLANS, Plan, Quota
from tests.support.sandbox_client import Client, wait_until


def test_plans_are_the_documented_ones() -> None:
    documented = {
        name: (plan.requests_per_minute, plan.requests_per_day)
        for name, plan in PLANS.items()
    }

    assert documented == {
        "starter": (60, 10_000),
        "growth": (300, 100_000),
        "agency": (1_000, None),
        "unlimited": (None, None),
    }


def test_slot_is_free_one_window_after_it_was_taken() -> None:
    quota = Quota(Plan(requests_per_minute=2))

    assert quota.take(100.0).retry_after is None
    assert quota.take(130.0).retry_after is None
    assert quota.take(130.5).retry_after == 30
    assert quota.take(159.9).retry_after == 1
    assert quota.take(160.0).retry_after is None
    assert quota.take(160.0).retry_after == 30


def test_throttled_request_takes_no_slot() -> None:
    quota = Quota(Plan(requests_per_minute=1))
    quota.take(0.0)

    for second in range(1, 60):
        assert quota.take(float(second)).retry_after == 60 - second

    assert quota.take(60.0).retry_after is None


def test_used_up_day_needs_a_long_wait() -> None:
    quota = Quota(Plan(requests_per_minute=60, requests_per_day=2))
    quota.take(0.0)
    quota.take(0.0)

    assert quota.take(3_600.0).retry_after == 82_800
    assert quota.take(86_400.0).retry_after is None


def test_headers_count_down_and_429_has_retry_after() -> None:
    with (
        Sandbox(plan="starter", requests_per_minute=2) as sandbox,
        Client(sandbox) as client,
    ):
        responses = [client.send(), client.get("/unknown"), client.send()]

    assert [a.status_code for a in responses] == [201, 404, 429]
    assert [a.headers["X-RateLimit-Limit"] for a in responses] == ["2"] * 3
    assert [a.headers["X-RateLimit-Remaining"] for a in responses] == ["1", "0", "0"]
    assert 30 <= int(responses[2].headers["Retry-After"]) <= 60
    assert 30 <= int(responses[2].headers["X-RateLimit-Reset"]) - time.time() <= 61
    assert responses[2].json()["error"]["code"] == "rate_limit_exceeded"
    assert len(sandbox.signals) == 1


def test_reset_is_a_time_of_the_clock_of_the_other_headers() -> None:
    with (
        Sandbox(plan="starter", clock_offset_seconds=-7200) as sandbox,
        Client(sandbox) as client,
    ):
        headers = client.send().headers

    date = parsedate_to_datetime(headers["Date"]).timestamp()
    assert 30 <= int(headers["X-RateLimit-Reset"]) - date <= 62


def test_short_window_frees_its_slot() -> None:
    with (
        Sandbox(requests_per_minute=1, window_seconds=0.2) as sandbox,
        Client(sandbox) as client,
    ):
        assert client.send().status_code == 201
        wait_until(lambda: client.send().status_code == 429)
        wait_until(lambda: client.send().status_code == 201)

    accepted = [r.arrived for r in sandbox.requests if r.status == 201]
    assert all(later - earlier >= 0.2 for earlier, later in pairwise(accepted))


def test_each_key_has_its_own_quota() -> None:
    keys = {"sk_1": "read_write", "sk_2": "read_write"}
    with (
        Sandbox(keys=keys, requests_per_minute=1) as sandbox,
        Client(sandbox, "sk_1") as one,
        Client(sandbox, "sk_2") as two,
    ):
        statuses = [c.send().status_code for c in (one, two, one, two)]

    assert statuses == [201, 201, 429, 429]


def test_requests_per_day_can_be_set() -> None:
    with Sandbox(requests_per_day=1) as sandbox, Client(sandbox) as client:
        client.send()
        response = client.send()

    assert response.status_code == 429
    assert int(response.headers["Retry-After"]) > 86_000


def test_unlimited_plan_has_no_quota_headers(client: Client) -> None:
    assert not [h for h in client.send().headers if h.lower().startswith("x-rate")]


def test_unknown_plan_is_named() -> None:
    with pytest.raises(UsageError, match="enterprise"):
        Sandbox(plan="enterprise")
