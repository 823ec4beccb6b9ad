"""A session is opened by the token and ends when nobody uses it."""

from __future__ import annotations

import pytest

from tap_stairoids_webhooks.receiver.admin.sessions import IDLE_SECONDS, Sessions

TOKEN = "a-token-of-the-tests"  # noqa: S105 -- opens nothing else


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def opened(sessions: Sessions) -> str:
    session = sessions.open(TOKEN)
    assert session is not None
    return session


def test_token_opens_sessions_that_are_all_different() -> None:
    sessions = Sessions(TOKEN)

    one, two = opened(sessions), opened(sessions)

    assert one != two
    assert sessions.use(one)
    assert sessions.use(two)


@pytest.mark.parametrize("given", ["", "wrong", TOKEN[:-1], f"{TOKEN}x", "é", "\ud800"])
def test_anything_else_opens_none(given: str) -> None:
    sessions = Sessions(TOKEN)

    assert sessions.open(given) is None
    assert not sessions.use(given)


def test_used_session_stays_and_unused_one_ends() -> None:
    clock = Clock()
    sessions = Sessions(TOKEN, clock=clock)
    used, idle = opened(sessions), opened(sessions)
    clock.now = IDLE_SECONDS
    assert sessions.use(used)
    clock.now = IDLE_SECONDS + 1

    assert sessions.use(used)
    assert not sessions.use(idle)


def test_closed_session_has_ended() -> None:
    sessions = Sessions(TOKEN)
    session, other = opened(sessions), opened(sessions)
    sessions.close(session)
    sessions.close("unknown")

    assert not sessions.use(session)
    assert sessions.use(other)


def test_sessions_without_end_push_out_the_longest_unused() -> None:
    clock = Clock()
    sessions = Sessions(TOKEN, clock=clock)
    first = opened(sessions)
    for second in range(100):
        clock.now = second + 1
        last = opened(sessions)

    assert not sessions.use(first)
    assert sessions.use(last)
