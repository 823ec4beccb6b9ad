"""The rules: is a version of an entity sent, or is it a duplicate or unchanged?"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

import pytest
from msgspec.structs import replace

from target_stairoids.dedup.rules import (
    Latest,
    Outcome,
    Policy,
    Settled,
    decide,
    has_same_source,
    is_implied,
    is_left_behind,
    latest_after,
)
from tests.support.ledger_builders import (
    MONDAY,
    TUESDAY,
    WEDNESDAY,
    a_version,
    digest,
)

ACCEPTED, REJECTED = Outcome.ACCEPTED, Outcome.REJECTED
BASELINED, UNKNOWN = Outcome.BASELINED, Outcome.UNKNOWN
DUPLICATE, UNCHANGED, PENDING = Outcome.DUPLICATE, Outcome.UNCHANGED, Outcome.PENDING
SAME, OTHER = digest("content"), digest("other content")
NO_CONTENT: bytes | None = None

SEND = pytest.mark.parametrize("send", ["once", "on_change", "always"])


def settled(
    outcome: Outcome = ACCEPTED, *, run: int = 1, mapping: str = "mapping"
) -> Settled:
    return Settled(str(outcome), run, digest(mapping))


def latest(
    state: str = "A",
    bookmark_value: str | None = None,
    content: bytes | None = SAME,
    *,
    done: bool = True,
) -> Latest:
    return Latest(digest(state), content, bookmark_value, done)


class Case(NamedTuple):
    """Version A, and the facts that the ledger knows.

    Attributes:
        at: Its bookmark value.
        settled: Its outcome.
        latest: The latest version of its entity.
        complete: The last complete run.
        content: Its content.
    """

    at: str | None = None
    settled: Settled | None = None
    latest: Latest | None = None
    complete: int = 1
    content: bytes | None = NO_CONTENT


def decided(case: Case, send: str, *, is_replay: bool = False) -> Outcome:
    version = a_version("A", bookmark_value=case.at, content_digest=case.content)
    policy = Policy(send, case.complete)
    return decide(version, case.settled, case.latest, policy, is_replay=is_replay)


OLD_RUN = 99  # the last complete run came long after run 1

SAME_FOR_EACH_SEND = {
    "new entity": (Case(), PENDING),
    "new entity with a bookmark": (Case(MONDAY), PENDING),
    "replay of the latest, with a bookmark": (
        Case(MONDAY, settled(), latest("A", MONDAY), OLD_RUN), DUPLICATE),
    "replay of an older version, with a bookmark": (
        Case(MONDAY, settled(), latest("B", TUESDAY), OLD_RUN), DUPLICATE),
    "replay, and the latest is not known": (
        Case(MONDAY, settled(), None, OLD_RUN), DUPLICATE),
    "replay of a version that was not sent on purpose": (
        Case(MONDAY, settled(BASELINED), latest("B", TUESDAY), OLD_RUN), DUPLICATE),
    "replay of a version with an unknown outcome": (
        Case(MONDAY, settled(UNKNOWN), latest("B", TUESDAY), OLD_RUN), DUPLICATE),
    "the latest version, without an outcome of its own": (
        Case(MONDAY, None, latest("A", MONDAY)), DUPLICATE),
    "newer version": (Case(TUESDAY, None, latest("B", MONDAY)), PENDING),
    "new version with the same bookmark value": (
        Case(TUESDAY, None, latest("B", TUESDAY)), PENDING),
    "new version, and the latest has no bookmark": (
        Case(MONDAY, None, latest("B")), PENDING),
    "new version, and the latest has another kind of bookmark": (
        Case(MONDAY, None, latest("B", "n5")), PENDING),
    "no bookmark: replay of the latest": (
        Case(None, settled(), latest("A"), OLD_RUN), DUPLICATE),
    "no bookmark: older version, no run is complete": (
        Case(None, settled(run=1), latest("B"), 0), DUPLICATE),
    "no bookmark: older version, settled after the last complete run": (
        Case(None, settled(run=5), latest("B"), 4), DUPLICATE),
    "no bookmark: older version, settled in the last complete run": (
        Case(None, settled(run=5), latest("B"), 5), PENDING),
    "no bookmark: older version, settled before the last complete run": (
        Case(None, settled(run=4), latest("B"), 5), PENDING),
    "no bookmark: new version": (Case(None, None, latest("B")), PENDING),
    "rejected by this mapping": (
        Case(None, settled(REJECTED), latest("B"), OLD_RUN), DUPLICATE),
    "rejected by this mapping, with a bookmark": (
        Case(MONDAY, settled(REJECTED), latest("A", MONDAY, None)), DUPLICATE),
    "rejected by an earlier mapping": (
        Case(None, settled(REJECTED, mapping="old"), latest("B"), OLD_RUN), PENDING),
    "rejected by an earlier mapping, with a bookmark": (
        Case(MONDAY, settled(REJECTED, mapping="old"), latest("B", TUESDAY)), PENDING),
    "accepted under an earlier mapping": (
        Case(None, settled(mapping="old"), latest("A")), DUPLICATE),
    "accepted under an earlier mapping, with a bookmark": (
        Case(MONDAY, settled(mapping="old"), latest("A", MONDAY)), DUPLICATE),
}  # fmt: skip


@SEND
@pytest.mark.parametrize(
    ("case", "outcome"), SAME_FOR_EACH_SEND.values(), ids=SAME_FOR_EACH_SEND
)
def test_decision_by_version(case: Case, outcome: Outcome, send: str) -> None:
    assert decided(case, send) is outcome


@pytest.mark.parametrize(
    ("send", "at", "newest", "outcome"),
    [
        ("on_change", MONDAY, TUESDAY, DUPLICATE),
        ("once", MONDAY, TUESDAY, DUPLICATE),
        ("always", MONDAY, TUESDAY, PENDING),
        ("on_change", "n9", "n10", DUPLICATE),
        ("on_change", "n9", "n9.5", DUPLICATE),
        ("on_change", "n10", "n9", PENDING),
    ],
)
def test_new_version_with_an_older_bookmark_value_is_a_duplicate(
    send: str, at: str, newest: str, outcome: Outcome
) -> None:
    assert decided(Case(at, None, latest("B", newest)), send) is outcome


@pytest.mark.parametrize(
    ("send", "newest", "content", "outcome"),
    [
        ("once", None, SAME, PENDING),
        ("once", latest("B"), SAME, DUPLICATE),
        ("once", latest("B"), OTHER, DUPLICATE),
        ("once", latest("B", done=False), SAME, PENDING),
        ("once", latest("B", content=None, done=False), OTHER, PENDING),
        ("on_change", None, SAME, PENDING),
        ("on_change", latest("B"), SAME, UNCHANGED),
        ("on_change", latest("B", done=False), SAME, UNCHANGED),
        ("on_change", latest("B"), OTHER, PENDING),
        ("on_change", latest("B", content=None), SAME, PENDING),
        ("always", None, SAME, PENDING),
        ("always", latest("B"), SAME, PENDING),
        ("always", latest("B"), OTHER, PENDING),
    ],
)
def test_decision_by_content(
    send: str, newest: Latest | None, content: bytes, outcome: Outcome
) -> None:
    assert decided(Case(latest=newest, content=content), send) is outcome


@pytest.mark.parametrize(("content", "outcome"), [(SAME, UNCHANGED), (OTHER, PENDING)])
def test_replay_of_a_dead_letter_looks_at_its_content_only(
    content: bytes, outcome: Outcome
) -> None:
    case = Case(MONDAY, settled(REJECTED), latest("B", TUESDAY), content=content)

    assert decided(case, "on_change", is_replay=True) is outcome


@pytest.mark.parametrize(
    ("newest", "source", "expected"),
    [
        (latest(), "source", True),
        (latest(), "another", False),
        (latest(), None, False),
        (latest(content=None), "source", False),
        (None, "source", False),
    ],
)
def test_content_is_certainly_the_same_if_its_source_is(
    newest: Latest | None, source: str | None, *, expected: bool
) -> None:
    if newest is not None:
        newest = replace(newest, source_digest=digest("source"))

    found = has_same_source(newest, None if source is None else digest(source))

    assert found is expected


# The latest version


@pytest.mark.parametrize(
    ("before", "at", "outcome", "after"),
    [
        (None, None, ACCEPTED, latest("A")),
        (latest("B"), None, ACCEPTED, latest("A")),
        (latest("B", MONDAY), TUESDAY, ACCEPTED, latest("A", TUESDAY)),
        (latest("B", TUESDAY), MONDAY, ACCEPTED, latest("B", TUESDAY)),
        (latest("B", TUESDAY, done=False), MONDAY, ACCEPTED, latest("B", TUESDAY)),
        (latest("B", done=False), None, UNCHANGED, latest("A", done=False)),
        (latest("B"), MONDAY, UNCHANGED, latest("A", MONDAY)),
        (latest("B", content=OTHER), MONDAY, UNCHANGED, latest("B", content=OTHER)),
        (None, None, REJECTED, None),
        (latest("B"), None, REJECTED, latest("B")),
        (latest("A"), None, REJECTED, latest("A", content=None)),
    ],
)
def test_latest_version_after_an_outcome(
    before: Latest | None, at: str | None, outcome: Outcome, after: Latest | None
) -> None:
    version = a_version("A", bookmark_value=at)

    assert latest_after(before, version, outcome) == after


@pytest.mark.parametrize(
    ("outcome", "before", "expected"),
    [
        (UNCHANGED, latest("B", MONDAY), True),
        (UNCHANGED, latest("B", TUESDAY), False),
        (UNCHANGED, latest("B", None), False),
        (UNCHANGED, None, False),
        (ACCEPTED, latest("B", MONDAY), False),
    ],
)
def test_unchanged_and_newer_version_is_implied_by_the_latest(
    outcome: Outcome, before: Latest | None, *, expected: bool
) -> None:
    after, version = latest("A", TUESDAY), a_version("A", bookmark_value=TUESDAY)

    assert is_implied(before, after, version, outcome) is expected
    assert not is_implied(before, before, version, outcome)


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        (latest("A", MONDAY), latest("B", TUESDAY), False),  # superseded
        (latest("A", MONDAY), latest("B", MONDAY), True),
        (latest("A", MONDAY), latest("B", None), True),
        (latest("A", MONDAY), latest("A", MONDAY, None), False),  # the same version
        (latest("A", MONDAY, None), latest("B", MONDAY), False),  # was not sent
        (latest("A", None), latest("B", MONDAY), False),  # has a row of its own
        (None, latest("B", MONDAY), False),
    ],
)
def test_former_latest_version_is_left_behind_unless_superseded(
    before: Latest | None, after: Latest, *, expected: bool
) -> None:
    assert is_left_behind(before, after) is expected


# The rules together, over whole runs


@dataclass
class History:
    """A ledger of one entity. The state of a version is its content."""

    send: str = "on_change"
    sent: list[str] = field(default_factory=list)
    run: int = 0
    complete: int = 0
    outcomes: dict[bytes, Settled] = field(default_factory=dict)
    newest: Latest | None = None

    def sync(self, *rows: tuple[str, str | None], completes: bool = True) -> None:
        """Run over rows of (content, bookmark value)."""
        self.run += 1
        for content, at in rows:
            self._read(content, at)
        if completes:
            self.complete = self.run

    def _read(self, content: str, at: str | None) -> None:
        version = a_version(
            content + (at or "")[8:11],
            bookmark_value=at,
            content_digest=digest(content),
        )
        known = self.outcomes.get(version.state_digest)
        policy = Policy(self.send, self.complete)
        outcome = decide(version, known, self.newest, policy)
        if outcome is DUPLICATE:
            return
        if outcome is PENDING:
            self.sent.append(content)
            outcome = ACCEPTED
        self.outcomes[version.state_digest] = settled(outcome, run=self.run)
        self.newest = latest_after(self.newest, version, outcome)


THURSDAY = "t2024-01-04T00:00:00.000000+00:00"


@pytest.mark.parametrize(
    ("syncs", "sent"),
    [
        ([[("A", None)], [("B", None)], [("A", None)], [("A", None)]], "ABA"),
        ([[("A", MONDAY), ("B", TUESDAY)]] * 3, "AB"),
        (
            [
                [("A", MONDAY)],
                [("A", MONDAY), ("B", TUESDAY)],
                [("B", TUESDAY), ("A", WEDNESDAY)],
                [("A", WEDNESDAY)],
            ],
            "ABA",
        ),
    ],
    ids=["full table", "replay with a bookmark", "incremental"],
)
def test_entity_that_changes_back_is_sent_again(
    syncs: list[list[tuple[str, str | None]]], sent: str
) -> None:
    history = History()

    for rows in syncs:
        history.sync(*rows)

    assert "".join(history.sent) == sent


def test_replay_after_a_crash_sends_nothing_again() -> None:
    history = History()

    history.sync(("A", None), ("B", None), completes=False)
    history.sync(("A", None), ("B", None), completes=False)
    history.sync(("A", None), ("B", None))
    history.sync(("B", None))

    assert history.sent == ["A", "B"]


@pytest.mark.parametrize(
    ("send", "sent"), [("once", "A"), ("on_change", "AB"), ("always", "AABB")]
)
def test_touched_row_is_sent_again_only_with_send_always(send: str, sent: str) -> None:
    history = History(send=send)

    history.sync(("A", MONDAY), ("A", TUESDAY), ("B", WEDNESDAY))
    history.sync(("B", THURSDAY))

    assert "".join(history.sent) == sent
