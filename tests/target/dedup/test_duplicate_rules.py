"""The rules: one row for each, which fails if the rule is removed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from msgspec.structs import replace

from target_stairoids.dedup.duplicate_rules import (
    SEND,
    Facts,
    Latest,
    Read,
    RecordAction,
    Settled,
    Step,
    decide,
    decide_again,
    last_sent,
    latest_after,
    people_in,
    unchanged_after,
)
from target_stairoids.dedup.outcome import DONE, Outcome
from tests.support.ledger_builders import (
    MONDAY,
    TUESDAY,
    WEDNESDAY,
    a_version,
    digest,
)

if TYPE_CHECKING:
    from target_stairoids.dedup.duplicate_rules import Version

LAST_RUN, RUN = 3, 5
LOG_1, LOG_2 = "l_sdc_lsn/1 00000000000000000001", "l_sdc_lsn/1 00000000000000000002"
NOT_YET, AS_LATEST, AS_OTHER, AS_BOTH = Read
ANN, BOB = digest("ann"), digest("bob")

DUPLICATE, UNCHANGED = Step(RecordAction.DUPLICATE), Step(RecordAction.UNCHANGED)
HOLD, SHARE = Step(RecordAction.HOLD), Step(RecordAction.SHARE)
WAS_REJECTED = Step(RecordAction.DUPLICATE, "was rejected before")
SEEN_AGAIN = Step(RecordAction.DUPLICATE, is_seen_again=True)
SEVERAL = Step(RecordAction.DUPLICATE, is_seen_again=True, is_several=True)
IF_REJECTED = Step(RecordAction.SEND, "its signal was rejected")
OLDER = Step(RecordAction.SUPERSEDED, "a newer state was sent")
NOT_ANOTHER = Step(
    RecordAction.SUPERSEDED, "this key was already sent for another person"
)
RETURNED = Step(
    RecordAction.SUPERSEDED,
    "this state was sent before in this run",
    is_seen_again=True,
)
LEAVES_BEHIND = Step(RecordAction.SEND, leaves_behind=True)


def last(state: str | None = "A", at: str | None = None, **more: Any) -> Latest:
    """Return the last state: A, sent in run 3, unless it is another one."""
    found = None if state is None else digest(state)
    fields = {"state_digest": found, "content_digest": found, "done": True}
    return Latest(bookmark_value=at, **fields | {"run": LAST_RUN} | more)


def sent(
    run: int, state: str = "B", outcome: str = "accepted", **more: Any
) -> list[Settled]:
    """Return the outcome of a state in a run."""
    fields = {"content_digest": digest(state), "mapping_digest": digest("mapping")}
    return [
        Settled(state_digest=digest(state), outcome=outcome, run=run, **fields | more)
    ]


#: The decision, the last state, and fields of the version and the facts.
Row = tuple[Step, Latest | None, dict[str, Any]]


def row(expected: Step, latest: Latest | None = None, **given: Any) -> Row:
    return expected, latest or last(), given


def without_latest(expected: Step, **given: Any) -> Row:
    return expected, None, given


def version_in(given: dict[str, Any]) -> Version:
    """Take the fields of a version out of a row: state B, unless it is another one."""
    state = given.pop("state", "B")
    content = given.pop("content", state)
    fields = {n: given.pop(n) for n in ("email", "domain") if n in given}
    return a_version(
        state,
        content_digest=digest(content),
        bookmark_value=given.pop("at", None),
        **fields,
    )


ROWS = {
    "new entity": without_latest(SEND),
    "new entity, its state was sent": without_latest(DUPLICATE, states=sent(1)),
    "new entity, a person sends its unknown state again": without_latest(
        SEND, states=sent(1, outcome="unknown"), is_replay=True
    ),
    "new person of a shared key": without_latest(SEND, is_person=True),
    "rejected by this mapping": row(WAS_REJECTED, states=sent(1, outcome="rejected")),
    "rejected by another mapping": row(
        SEND, states=sent(1, outcome="rejected", mapping_digest=digest("old"))
    ),
    "another state with the same content was rejected": row(
        SEND, states=sent(1, "C", outcome="rejected", content_digest=digest("B"))
    ),
    "rejected by this mapping, a person sends it again": row(
        SEND, states=sent(1, outcome="rejected"), is_replay=True
    ),
    "same state": row(DUPLICATE, state="A", content="another"),
    "same state, `always`": row(DUPLICATE, state="A", send="always"),
    "same state, a person sends it again": row(
        SEND, state="A", content="another", is_replay=True
    ),
    "same state, but it was rejected": row(
        SEND, last("A", content_digest=None), state="A"
    ),
    "same content": row(UNCHANGED, content="A"),
    "same content, about another person": row(
        UNCHANGED, last(email=ANN), content="A", email=BOB
    ),
    "same content, `always`": row(SEND, content="A", send="always"),
    "the last state was filtered, its content returns": row(
        HOLD, last(None), states=sent(1)
    ),
    # People
    "another email": row(SHARE, last(email=ANN), email=BOB),
    "another domain": row(SHARE, last(domain=ANN), domain=BOB),
    "another domain, same email": row(
        SHARE, last(email=ANN, domain=ANN), email=ANN, domain=BOB
    ),
    "an email that was unknown": row(SEND, last(domain=ANN), email=BOB, domain=ANN),
    "an email that is unknown now": row(SEND, last(email=ANN)),
    "another email of an entity that is a person": row(
        SEND, last(email=ANN), email=BOB, is_person=True
    ),
    "`once`, another email, no proof": row(
        HOLD, last(email=ANN), email=BOB, send="once"
    ),
    "`once`, another email, no proof, sent before": row(
        DUPLICATE, last(email=ANN), email=BOB, send="once", states=sent(1)
    ),
    "`once`, another email, the other one was read": row(
        SHARE, last(email=ANN), email=BOB, send="once", read=AS_LATEST
    ),
    "`once`, another email, the other one is sent now": row(
        SHARE, last(email=ANN, run=RUN), email=BOB, send="once"
    ),
    # Once
    "`once`, another state": row(DUPLICATE, send="once"),
    "`once`, another state, the first one may be rejected": row(
        IF_REJECTED, send="once", may_fail=True
    ),
    "`once`, nothing was sent yet": row(SEND, last(done=False), send="once"),
    "a person sends another state": row(SEND, is_replay=True, states=sent(1)),
    "`once`, a person sends another state": row(
        DUPLICATE, is_replay=True, send="once"
    ),
    # Older
    "older": row(OLDER, last(at=TUESDAY), at=MONDAY),
    "older, sent before": row(
        DUPLICATE, last(at=TUESDAY), at=MONDAY, states=sent(1)
    ),
    "older, after a newer one in this input": row(
        SEND, last(at=TUESDAY), at=MONDAY, read=AS_LATEST
    ),
    "older, after another older one": row(
        OLDER, last(at=TUESDAY), at=MONDAY, read=AS_OTHER
    ),
    "older, after a newer and another one": row(
        SEND, last(at=TUESDAY), at=MONDAY, read=AS_BOTH
    ),
    "older, after a newer one was sent now": row(
        SEND, last(at=TUESDAY, run=RUN), at=MONDAY, read=AS_OTHER
    ),
    "older position in the log": row(OLDER, last(at=LOG_2), at=LOG_1),
    "same bookmark value": row(SEND, last(at=MONDAY), at=MONDAY),
    "bookmark value of another kind": row(SEND, last(at="n5"), at=MONDAY),
    # Not sent before
    "another state": row(SEND),
    "another state, the last one was read in this input": row(
        LEAVES_BEHIND, read=AS_LATEST
    ),
    "another state, the last one was read, with order": row(
        SEND, last(at=MONDAY), at=TUESDAY, read=AS_LATEST
    ),
    "another state, its content was sent, `always`": row(
        SEND, send="always", states=sent(1, "C", content_digest=digest("B"))
    ),
    "another state, it was not sent": row(SEND, states=sent(1, outcome="unchanged")),
    # Sent before
    "sent before": row(HOLD, states=sent(1)),
    "its content was sent before": row(
        HOLD, states=sent(1, "C", content_digest=digest("B"))
    ),
    "sent before, newer position in the log": row(
        SEND, last(at=LOG_1), at=LOG_2, states=sent(1)
    ),
    "sent before, newer bookmark value": row(
        HOLD, last(at=MONDAY), at=TUESDAY, states=sent(1)
    ),
    "sent before, newer, the last one is sent now": row(
        SEND, last(at=MONDAY, run=RUN), at=TUESDAY, states=sent(1)
    ),
    "sent before, same bookmark value, the last one is sent now": row(
        HOLD, last(at=MONDAY, run=RUN), at=MONDAY, states=sent(1)
    ),
    "sent before in this run": row(RETURNED, last(run=RUN), states=sent(RUN)),
    "sent before in this run, with order": row(
        HOLD, last(at=MONDAY, run=RUN), at=MONDAY, states=sent(RUN)
    ),
    "seen again in this run": row(SEEN_AGAIN, states=sent(RUN)),
    "sent before in this run, of several rows": row(
        SEEN_AGAIN, last(run=RUN, is_several=True), states=sent(RUN)
    ),
    "sent before, of several rows": row(
        SEEN_AGAIN, last(is_several=True), states=sent(1)
    ),
    "sent in the run of the last one": row(SEEN_AGAIN, states=sent(LAST_RUN)),
    "sent in the run of the last one, with order": row(
        HOLD, last(at=MONDAY), at=TUESDAY, states=sent(LAST_RUN)
    ),
    "sent before, another state was read": row(
        SEVERAL, last(at=MONDAY), at=TUESDAY, states=sent(1), read=AS_OTHER
    ),
    "sent before, the last one was read": row(
        SEVERAL, states=sent(1), read=AS_LATEST
    ),
    "sent before, the last one was read, with order": row(
        HOLD, last(at=MONDAY), at=TUESDAY, states=sent(1), read=AS_LATEST
    ),
    "sent before at the time of the last one, which was read": row(
        SEVERAL, last(at=MONDAY), at=MONDAY, states=sent(1), read=AS_LATEST
    ),
    "sent before at the time of the last one": row(
        HOLD, last(at=MONDAY), at=MONDAY, states=sent(1)
    ),
    "its content was sent before at the time of the last one, which was read": row(
        HOLD,
        last(at=MONDAY),
        at=MONDAY,
        states=sent(1, "C", content_digest=digest("B")),
        read=AS_LATEST,
    ),
    "sent before, the last one is sent now": row(
        SEEN_AGAIN, last(run=RUN), states=sent(1)
    ),
    "its content was sent before as another state, the last one was read": row(
        SEVERAL, states=sent(1, "C", content_digest=digest("B")), read=AS_LATEST
    ),
    "sent before, another state was read, the last one is sent now": row(
        SEEN_AGAIN, last(run=RUN), states=sent(1), read=AS_OTHER
    ),
}  # fmt: skip


@pytest.mark.parametrize(("expected", "latest", "given"), ROWS.values(), ids=ROWS)
def test_decision(expected: Step, latest: Latest | None, given: dict[str, Any]) -> None:
    given = dict(given)
    version = version_in(given)
    facts: dict[str, Any] = {"states": (), "send": "on_change", "run": RUN}

    assert decide(version, Facts(latest=latest, **facts | given)) == expected


AGAIN = {
    "nothing changed": (SEND, last(), {}),
    "still no state": (SEND, None, {}),
    "rejected in the meantime": (
        WAS_REJECTED, last(), {"states": sent(4, outcome="rejected")}),
    "rejected, a person sends it again": (
        SEND, last(), {"states": sent(1, outcome="rejected"), "is_replay": True}),
    "sent in the meantime": (DUPLICATE, last("B"), {}),
    "sent in the meantime with other content": (
        DUPLICATE, last("B", content_digest=digest("C")), {}),
    "same state, a person sends it again": (
        SEND, last("B", content_digest=digest("C")), {"is_replay": True}),
    "same state, but it was rejected": (SEND, last("B", content_digest=None), {}),
    "its content was sent in the meantime": (
        UNCHANGED, last("C", content_digest=digest("B")), {}),
    "its content was sent in the meantime, `always`": (
        SEND, last("C", content_digest=digest("B")), {"send": "always"}),
    "`once`, sent in the meantime": (DUPLICATE, last("C"), {"send": "once"}),
    "`once`, sent for another person in the meantime": (
        NOT_ANOTHER, last("C", email=ANN), {"send": "once", "email": BOB}),
    "`once`, nothing was sent": (SEND, last(done=False), {"send": "once"}),
    "`once`, still no state": (SEND, None, {"send": "once"}),
    "another run sent it, then another state": (
        DUPLICATE, last("C", run=4), {"states": sent(4)}),
    "another run sent it, a person sends it again": (
        SEND, last("C", run=4), {"states": sent(4), "is_replay": True}),
    "this run sent it before": (SEND, last("C"), {"states": sent(RUN)}),
    "it was sent before the first decision": (SEND, last("C"), {"states": sent(1)}),
    "another run sent a newer state": (
        OLDER, last("C", TUESDAY, run=4), {"at": MONDAY}),
    "another run sent an older state": (
        SEND, last("C", MONDAY, run=4), {"at": TUESDAY}),
    "another run sent a state without order": (SEND, last("C", run=4), {}),
    "this run sent a newer state": (
        SEND, last("C", TUESDAY, run=RUN), {"at": MONDAY}),
    "a newer state was known at the first decision": (
        SEND, last("C", TUESDAY), {"at": MONDAY}),
}  # fmt: skip


@pytest.mark.parametrize(("expected", "latest", "given"), AGAIN.values(), ids=AGAIN)
def test_decision_right_before_a_signal_is_sent(
    expected: Step, latest: Latest | None, given: dict[str, Any]
) -> None:
    """The first decision knew the state's run 1, and the last state of run 3."""
    given = dict(given)
    version = version_in(given)
    facts: dict[str, Any] = {"states": (), "send": "on_change", "run": RUN}

    found = decide_again(version, Facts(latest=latest, **facts | given), (1, LAST_RUN))

    assert found == expected


@pytest.mark.parametrize("outcome", sorted(DONE))
def test_state_counts_as_sent_by_its_outcome(outcome: Outcome) -> None:
    states = [*sent(2, outcome=outcome), *sent(1, outcome=outcome)]

    assert last_sent(a_version("B"), states, "on_change") == 2
    assert last_sent(a_version("C"), states, "on_change") == 0


A_PERSON: dict[str, Any] = {"email": ANN, "domain": digest("acme.com")}
VERSION = a_version(
    "B",
    content_digest=digest("B"),
    bookmark_value=TUESDAY,
    source_digest=digest("source"),
    text_digest=digest("text"),
    **A_PERSON,
)
AFTER = Latest(
    state_digest=digest("B"),
    content_digest=digest("B"),
    bookmark_value=TUESDAY,
    done=True,
    source_digest=digest("source"),
    text_digest=digest("text"),
    run=RUN,
    **A_PERSON,
)


@pytest.mark.parametrize(
    ("before", "outcome", "after"),
    [
        (None, Outcome.ACCEPTED, AFTER),
        (None, Outcome.BASELINED, AFTER),
        (None, Outcome.UNCHANGED, replace(AFTER, done=False)),
        (None, Outcome.REJECTED, Latest(state_digest=digest("B"), run=RUN)),
        (last(), Outcome.ACCEPTED, AFTER),
        (last(), Outcome.UNCHANGED, AFTER),
        (last(done=False), Outcome.UNCHANGED, replace(AFTER, done=False)),
        (last(), Outcome.REJECTED, last()),
        (last("B"), Outcome.REJECTED, last("B", content_digest=None)),
        (last(at=MONDAY), Outcome.ACCEPTED, AFTER),
        (last(at=WEDNESDAY), Outcome.ACCEPTED, last(at=WEDNESDAY)),
        (
            last(at=WEDNESDAY, done=False),
            Outcome.ACCEPTED,
            last(at=WEDNESDAY, done=True),
        ),
        (last(is_several=True), Outcome.ACCEPTED, replace(AFTER, is_several=True)),
    ],
)
def test_last_state_after_an_outcome(
    before: Latest | None, outcome: Outcome, after: Latest
) -> None:
    assert latest_after(before, VERSION, outcome, RUN) == after


def test_last_state_of_a_person_names_the_shared_key() -> None:
    person = replace(VERSION, key=(digest("person"), VERSION.mapping))
    after = latest_after(None, person, Outcome.ACCEPTED, RUN)

    assert after == replace(AFTER, record_entity=VERSION.key[0])
    assert latest_after(after, VERSION, Outcome.ACCEPTED, RUN) == after


@pytest.mark.parametrize("outcome", [Outcome.ACCEPTED, Outcome.REJECTED])
def test_last_state_notes_that_the_key_is_null(outcome: Outcome) -> None:
    null_key = replace(VERSION, has_null_key=True)
    after = latest_after(None, null_key, outcome, RUN)

    assert after is not None
    assert after.has_null_key


MOVED: dict[str, Any] = {
    "state_digest": digest("B"),
    "source_digest": digest("source"),
    "text_digest": digest("text"),
}


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (last(), last(at=TUESDAY, **MOVED, **A_PERSON, content_digest=digest("A"))),
        (
            last(at=MONDAY, email=BOB, domain=BOB),
            last(
                at=TUESDAY,
                content_digest=digest("A"),
                **MOVED,
                email=BOB,
                domain=BOB,
            ),
        ),
        (last(at=WEDNESDAY), last(at=WEDNESDAY, **A_PERSON)),
        (
            last(at=WEDNESDAY, domain=BOB),
            last(at=WEDNESDAY, **A_PERSON | {"domain": BOB}),
        ),
        (
            last(at=WEDNESDAY, email=BOB),
            last(at=WEDNESDAY, **A_PERSON | {"email": BOB}),
        ),
    ],
    ids=["no bookmark", "newer", "older", "another domain", "another email"],
)
def test_last_state_after_the_same_content(before: Latest, after: Latest) -> None:
    assert unchanged_after(before, VERSION) == after


def test_bookmark_value_stays_if_the_same_content_has_none() -> None:
    version = replace(VERSION, bookmark_value=None)

    assert unchanged_after(last(at=MONDAY), version).bookmark_value == MONDAY


def test_person_goes_by_email_and_then_by_domain() -> None:
    key = VERSION.record_key
    email, domain = people_in(VERSION, key)

    assert people_in(AFTER, key) == [email, domain]
    assert people_in(replace(VERSION, email=None), key) == [domain]
    assert people_in(replace(VERSION, domain=None), key) == [email]
    assert people_in(last(), key) == []
    same = replace(VERSION, email=digest("x"), domain=digest("x"))
    other_key = digest("other key"), key[1]
    people = {*people_in(same, key), *people_in(same, other_key), email, domain}
    assert len(people) == 6
    assert people.isdisjoint({key, other_key})
    assert {len(entity) for entity, _ in people} == {16}
    assert {mapping for _, mapping in people} == {key[1]}
