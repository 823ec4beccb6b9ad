"""The decision table: may this state of an entity go out, or is it settled?"""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from target_stairoids.dedup.rules import (
    Latest,
    Outcome,
    Settled,
    is_implied,
    is_left_behind,
    is_settled,
    latest_after,
    without_news,
)

A, B, C = b"version A", b"version B", b"version C"
NOW, BEFORE = b"the mapping as it is", b"the mapping as it was"
SAID, OTHER = b"what was said", b"something else"

MONDAY = "t2024-01-01T00:00:00.000000+00:00"
TUESDAY = "t2024-01-02T00:00:00.000000+00:00"
WEDNESDAY = "t2024-01-03T00:00:00.000000+00:00"


def settled(
    outcome: Outcome = Outcome.ACCEPTED, *, run: int = 1, fingerprint: bytes = NOW
) -> Settled:
    return Settled(str(outcome), run, fingerprint)


def latest(
    version: bytes = A,
    position: str | None = None,
    content: bytes | None = SAID,
    *,
    done: bool = True,
) -> Latest:
    return Latest(version, content, position, done)


def is_duplicate(
    known: Settled | None = None,
    newest: Latest | None = None,
    *,
    position: str | None = None,
    send: str = "on_change",
    last_complete_run: int = 1,
) -> bool:
    """Ask for version A."""
    return is_settled(
        known,
        newest,
        version=A,
        position=position,
        fingerprint=NOW,
        send=send,
        last_complete_run=last_complete_run,
    )


SEND = ["once", "on_change", "always"]
FINAL = [
    Outcome.ACCEPTED,
    Outcome.UNCHANGED,
    Outcome.BASELINED,
    Outcome.TOO_OLD,
    Outcome.UNKNOWN,
]


@pytest.mark.parametrize("send", SEND)
@pytest.mark.parametrize("position", [None, MONDAY])
def test_nothing_known_goes_on(position: str | None, send: str) -> None:
    assert not is_duplicate(None, None, position=position, send=send)


# Rule 1: the record has a position


@pytest.mark.parametrize("send", SEND)
@pytest.mark.parametrize("outcome", FINAL)
@pytest.mark.parametrize("newest", [latest(A, MONDAY), latest(B, TUESDAY), None])
def test_replayed_version_with_a_position_is_a_duplicate(
    newest: Latest | None, outcome: Outcome, send: str
) -> None:
    """However long ago it was settled: A, B, and both again send nothing."""
    known = settled(outcome, run=1)

    assert is_duplicate(known, newest, position=MONDAY, send=send, last_complete_run=99)


@pytest.mark.parametrize(
    ("position", "newest", "is_superseded"),
    [
        (MONDAY, latest(B, TUESDAY), True),
        (TUESDAY, latest(B, MONDAY), False),
        (TUESDAY, latest(B, TUESDAY), False),
        (MONDAY, latest(B, None), False),
        (MONDAY, latest(B, "n5"), False),
        ("n10", latest(B, "n9"), False),
        ("n9", latest(B, "n10"), True),
        ("n9", latest(B, "n9.5"), True),
    ],
)
def test_unseen_version_older_than_the_latest_is_superseded(
    position: str, newest: Latest, *, is_superseded: bool
) -> None:
    assert is_duplicate(None, newest, position=position) is is_superseded
    assert is_duplicate(None, newest, position=position, send="once") is is_superseded


def test_always_sends_superseded_versions_too() -> None:
    assert not is_duplicate(None, latest(B, TUESDAY), position=MONDAY, send="always")


def test_there_and_back_again_with_new_positions_is_three() -> None:
    """The position is part of the version: the second A is another version."""
    assert not is_duplicate(None, None, position=MONDAY)
    assert not is_duplicate(None, latest(B, MONDAY), position=TUESDAY)
    assert not is_duplicate(None, latest(C, TUESDAY), position=WEDNESDAY)


# Rule 2: it has none


@pytest.mark.parametrize("send", SEND)
@pytest.mark.parametrize("outcome", FINAL)
def test_replayed_version_that_is_the_latest_is_a_duplicate(
    outcome: Outcome, send: str
) -> None:
    assert is_duplicate(
        settled(outcome, run=1), latest(A), send=send, last_complete_run=99
    )


@pytest.mark.parametrize("send", SEND)
@pytest.mark.parametrize(
    ("settled_in", "last_complete_run", "duplicate"),
    [
        (1, 0, True),
        (5, 4, True),
        (5, 3, True),
        (5, 5, False),
        (4, 5, False),
    ],
)
def test_older_version_is_a_duplicate_until_a_run_is_complete(
    settled_in: int, last_complete_run: int, send: str, *, duplicate: bool
) -> None:
    """A -> B -> A over three complete syncs is three, a replay after a crash none."""
    known = settled(run=settled_in)

    found = is_duplicate(
        known, latest(B), send=send, last_complete_run=last_complete_run
    )

    assert found is duplicate


def test_unseen_version_without_position_goes_on() -> None:
    assert not is_duplicate(None, latest(B))
    assert not is_duplicate(None, latest(B, TUESDAY))


# Rule 3: it was rejected


@pytest.mark.parametrize("send", SEND)
@pytest.mark.parametrize("position", [None, MONDAY])
@pytest.mark.parametrize(
    "newest", [latest(A, MONDAY, None, done=False), latest(B, TUESDAY), latest(B)]
)
@pytest.mark.parametrize("last_complete_run", [0, 99])
def test_rejected_version_waits_for_a_changed_mapping(
    last_complete_run: int, newest: Latest, position: str | None, send: str
) -> None:
    def asked(fingerprint: bytes) -> bool:
        return is_duplicate(
            settled(Outcome.REJECTED, fingerprint=fingerprint),
            newest,
            position=position,
            send=send,
            last_complete_run=last_complete_run,
        )

    assert asked(NOW)
    assert not asked(BEFORE)


@pytest.mark.parametrize("outcome", FINAL)
@pytest.mark.parametrize("position", [None, MONDAY])
def test_changed_mapping_never_resends_what_was_settled(
    position: str | None, outcome: Outcome
) -> None:
    known = settled(outcome, fingerprint=BEFORE)

    assert is_duplicate(known, latest(A, position), position=position)


# Rule 4: a new version


@pytest.mark.parametrize(
    ("send", "newest", "content", "outcome"),
    [
        ("once", None, SAID, None),
        ("once", latest(done=True), SAID, Outcome.DUPLICATE),
        ("once", latest(done=True), OTHER, Outcome.DUPLICATE),
        ("once", latest(done=False), SAID, None),
        ("once", latest(content=None, done=False), OTHER, None),
        ("on_change", None, SAID, None),
        ("on_change", latest(), SAID, Outcome.UNCHANGED),
        ("on_change", latest(done=False), SAID, Outcome.UNCHANGED),
        ("on_change", latest(), OTHER, None),
        ("on_change", latest(content=None), SAID, None),
        ("always", None, SAID, None),
        ("always", latest(), SAID, None),
        ("always", latest(), OTHER, None),
    ],
)
def test_new_version_is_sent_if_it_says_something_new(
    send: str, newest: Latest | None, content: bytes, outcome: Outcome | None
) -> None:
    assert without_news(newest, send=send, content=content) is outcome


# The rules together, over whole runs


@dataclass
class Story:
    """A ledger of one entity, and what went out; versions carry their content."""

    send: str = "on_change"
    sent: list[str] = field(default_factory=list)
    run: int = 0
    complete: int = 0
    known: dict[bytes, Settled] = field(default_factory=dict)
    newest: Latest | None = None

    def sync(self, *rows: tuple[str, str | None], completes: bool = True) -> None:
        """Run over rows of (content, position)."""
        self.run += 1
        for content, position in rows:
            self._take(content.encode(), position)
        if completes:
            self.complete = self.run

    def _take(self, content: bytes, position: str | None) -> None:
        version = content + (position or "").encode()
        if is_settled(
            self.known.get(version),
            self.newest,
            version=version,
            position=position,
            fingerprint=NOW,
            send=self.send,
            last_complete_run=self.complete,
        ):
            return
        outcome = without_news(self.newest, send=self.send, content=content)
        if outcome is Outcome.DUPLICATE:
            return
        if outcome is None:
            self.sent.append(content.decode())
        self.known[version] = settled(outcome or Outcome.ACCEPTED, run=self.run)
        self.newest = Latest(version, content, position, done=True)


def test_full_table_syncs_there_and_back_again_are_three() -> None:
    story = Story()

    for content in ["A", "B", "A", "A", "A"]:
        story.sync((content, None))

    assert story.sent == ["A", "B", "A"]


def test_replay_after_a_crash_sends_nothing() -> None:
    story = Story()

    story.sync(("A", None), ("B", None), completes=False)
    story.sync(("A", None), ("B", None), completes=False)
    story.sync(("A", None), ("B", None))
    story.sync(("B", None))

    assert story.sent == ["A", "B"]


def test_replay_of_an_incremental_tap_sends_nothing() -> None:
    story = Story()

    for _ in range(3):
        story.sync(("A", MONDAY), ("B", TUESDAY))

    assert story.sent == ["A", "B"]


def test_incremental_there_and_back_again_is_three() -> None:
    story = Story()

    story.sync(("A", MONDAY))
    story.sync(("A", MONDAY), ("B", TUESDAY))
    story.sync(("B", TUESDAY), ("A", WEDNESDAY))
    story.sync(("A", WEDNESDAY))

    assert story.sent == ["A", "B", "A"]


@pytest.mark.parametrize(
    ("send", "sent"),
    [
        ("once", ["A"]),
        ("on_change", ["A", "B"]),
        ("always", ["A", "A", "B", "B"]),
    ],
)
def test_touched_row_is_news_only_if_it_is_always_to_be_sent(
    send: str, sent: list[str]
) -> None:
    story = Story(send=send)

    story.sync(("A", MONDAY), ("A", TUESDAY), ("B", WEDNESDAY))
    story.sync(("B", "t2024-01-04T00:00:00.000000+00:00"))

    assert story.sent == sent


@pytest.mark.parametrize(
    ("before", "content"),
    [(latest(A), None), (latest(B), SAID), (None, "nothing")],
)
def test_rejected_version_says_nothing_and_takes_back_only_itself(
    before: Latest | None, content: object
) -> None:
    """Sent again by a person and rejected then, it is not what was said last."""
    now = latest_after(before, Outcome.REJECTED, version=A, content=None, position=None)

    assert (now.content if now else "nothing") == content


def test_unchanged_version_does_not_hide_what_another_run_has_said_since() -> None:
    before = latest(B, content=b"news of another run")

    now = latest_after(
        before, Outcome.UNCHANGED, version=A, content=SAID, position=None
    )

    assert now == before


def test_unchanged_version_is_the_latest_of_what_was_said() -> None:
    now = latest_after(
        latest(B), Outcome.UNCHANGED, version=A, content=SAID, position=MONDAY
    )

    assert now == latest(A, MONDAY)


@pytest.mark.parametrize(
    ("outcome", "before", "expected"),
    [
        (Outcome.UNCHANGED, latest(B, MONDAY), True),
        (Outcome.UNCHANGED, latest(B, TUESDAY), False),  # not superseded by it
        (Outcome.UNCHANGED, latest(B, None), False),
        (Outcome.UNCHANGED, None, False),
        (Outcome.ACCEPTED, latest(B, MONDAY), False),
    ],
)
def test_only_an_unchanged_and_newer_version_is_implied_by_the_latest(
    outcome: Outcome, before: Latest | None, *, expected: bool
) -> None:
    after = latest(A, TUESDAY)

    assert is_implied(before, after, outcome, A) is expected


def test_version_that_did_not_become_the_latest_is_not_implied() -> None:
    assert not is_implied(latest(B, MONDAY), latest(B, MONDAY), Outcome.UNCHANGED, A)


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        (latest(A, MONDAY), latest(B, TUESDAY), False),  # superseded: that is enough
        (latest(A, MONDAY), latest(B, MONDAY), True),
        (latest(A, MONDAY), latest(B, None), True),
        (latest(A, MONDAY), latest(A, MONDAY, None), False),  # the same version
        (latest(A, MONDAY, None), latest(B, MONDAY), False),  # it has said nothing
        (latest(A, None), latest(B, MONDAY), False),  # it has a row of its own
        (None, latest(B, MONDAY), False),
    ],
)
def test_latest_version_that_goes_without_being_superseded_is_left_behind(
    before: Latest | None, after: Latest, *, expected: bool
) -> None:
    assert is_left_behind(before, after) is expected


def test_version_that_is_the_latest_is_settled_without_a_row_of_its_own() -> None:
    assert is_duplicate(None, latest(A, MONDAY), position=MONDAY)
    assert not is_duplicate(None, latest(A, MONDAY, None), position=MONDAY)
