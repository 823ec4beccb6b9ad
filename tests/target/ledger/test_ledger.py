"""The ledger: outcomes, latest versions, runs, streams and scopes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from msgspec.structs import replace

from target_stairoids.dedup.duplicate_rules import (
    Latest,
    Settled,
    people_in,
    unchanged_after,
)
from target_stairoids.dedup.outcome import Outcome
from target_stairoids.exceptions import LedgerError
from target_stairoids.ledger.dead_letters import dead_letters_of
from target_stairoids.ledger.ledger import Ledger
from target_stairoids.ledger.maintenance import copy
from target_stairoids.ledger.outcomes import write_outcomes
from target_stairoids.ledger.queries import counts, entities_of
from target_stairoids.ledger.structs import SettledVersion
from tests.support.ledger_builders import (
    API,
    MONDAY,
    TUESDAY,
    WEDNESDAY,
    a_dead_letter,
    a_version,
    add_dead_letters,
    claim,
    digest,
    settle,
)

if TYPE_CHECKING:
    from pathlib import Path

    from target_stairoids.dedup.duplicate_rules import Version
    from tests.support.ledger_builders import Opened

SANDBOX = "http://127.0.0.1:8080"


def settled_in(ledger: Ledger, state: str = "v1") -> Settled | None:
    """Return the outcome of a state. States of any content have one."""
    version = a_version(state)
    states = [
        *ledger.states_of([version]).get(version.record_key, []),
        *ledger.buffer.states(version.record_key),
    ]
    found = [found for found in states if found.state_digest == version.state_digest]
    return found[-1] if found else None


def latest_in(ledger: Ledger, entity: str = "e") -> Latest | None:
    key = digest(entity), "trial"
    return ledger.buffer.unwritten(key) or ledger.latest_of([key]).get(key)


def latest_state(ledger: Ledger, entity: str = "e") -> bytes | None:
    latest = latest_in(ledger, entity)
    return None if latest is None else latest.state_digest


# Secret


def test_each_ledger_has_a_secret_of_its_own_that_copies_keep(tmp_path: Path) -> None:
    urls = [f"sqlite:///{tmp_path}/{name}.db" for name in ("one", "two", "copy")]
    one, two, target = (Ledger.create(url, API) for url in urls)
    with one, two, target:
        assert len(one.secret) == len(two.secret) == 32
        assert one.secret != two.secret
        copy(one, target)
    with Ledger.open(urls[2], API) as copied, Ledger.open(urls[0], SANDBOX) as again:
        assert copied.secret == again.secret == one.secret


# Outcomes


def test_outcome_is_visible_to_all_later_and_parallel_runs(opened: Opened) -> None:
    one, parallel = opened(), opened()

    settle(one, a_version())

    for ledger in (parallel, opened()):
        assert settled_in(ledger) == Settled(
            digest("v1"), digest("content"), "accepted", one.run, digest("mapping")
        )
        assert settled_in(ledger, "v2") is None
        assert latest_state(ledger) == digest("v1")


def settle_and_fail(ledger: Ledger, version: Version) -> None:
    with ledger.transaction() as transaction:
        accepted = SettledVersion(version=version, outcome=Outcome.ACCEPTED)
        write_outcomes(transaction, [accepted])
        raise KeyError


def test_transaction_that_fails_writes_nothing(ledger: Ledger) -> None:
    with pytest.raises(KeyError):
        settle_and_fail(ledger, a_version())

    assert settled_in(ledger) is None
    assert latest_in(ledger) is None


def test_later_outcome_of_a_version_counts(ledger: Ledger) -> None:
    settle(ledger, a_version(), outcome=Outcome.BASELINED)
    settle(ledger, a_version(), outcome=Outcome.UNCHANGED)

    found = settled_in(ledger)
    assert found is not None
    assert found.outcome == "unchanged"


def test_signal_ids_of_a_state_are_known_for_good(ledger: Ledger) -> None:
    for ids in [("sig_1", None, None), ("sig_2", None, None)]:
        settle(ledger, a_version(), ids=ids, request=b'{"type":"a","source":"b"}')
    settle(ledger, a_version())  # again, without an id

    with ledger.transaction() as transaction:
        known = transaction.accepted_among(["sig_1", "sig_2", "sig_3"])

    assert known == {"sig_1", "sig_2"}


# Latest versions


@pytest.mark.parametrize("together", [True, False])
@pytest.mark.parametrize(
    ("bookmark_values", "latest"),
    [
        ([None, None], "v1"),
        ([MONDAY, TUESDAY], "v1"),
        ([TUESDAY, MONDAY], "v0"),
        ([MONDAY, TUESDAY, MONDAY], "v1"),
        ([TUESDAY, TUESDAY], "v1"),
        ([TUESDAY, None], "v1"),
        (["n9", "n10"], "v1"),
        (["n10", "n9"], "v0"),
        (["n10", MONDAY], "v1"),
    ],
)
def test_latest_version_has_the_newest_bookmark_value_or_came_last(
    ledger: Ledger, bookmark_values: list[str | None], latest: str, *, together: bool
) -> None:
    versions = [
        a_version(f"v{number}", bookmark_value=value)
        for number, value in enumerate(bookmark_values)
    ]

    for block in [versions] if together else [[version] for version in versions]:
        settle(ledger, *block)

    assert latest_state(ledger) == digest(latest)
    assert all(settled_in(ledger, f"v{n}") for n in range(len(versions)))


@pytest.mark.parametrize(
    ("outcomes", "done"),
    [
        ([Outcome.ACCEPTED], True),
        ([Outcome.BASELINED], True),
        ([Outcome.TOO_OLD], True),
        ([Outcome.UNKNOWN], True),
        ([Outcome.UNCHANGED], False),
        ([Outcome.ACCEPTED, Outcome.REJECTED], True),
        ([Outcome.REJECTED, Outcome.ACCEPTED], True),
    ],
)
def test_entity_is_done_once_a_signal_was_sent_or_kept_back(
    ledger: Ledger, outcomes: list[Outcome], *, done: bool
) -> None:
    for number, outcome in enumerate(outcomes):
        settle(ledger, a_version(f"v{number}"), outcome=outcome)

    latest = latest_in(ledger)
    assert latest is not None
    assert bool(latest.done) is done  # SQLite returns numbers


def test_rejected_version_leaves_the_latest_as_it_is(ledger: Ledger) -> None:
    settle(ledger, a_version("v1"))
    settle(ledger, a_version("v2", content_digest=None), outcome=Outcome.REJECTED)

    assert latest_state(ledger) == digest("v1")
    assert settled_in(ledger, "v2") is not None


TOUCHED = a_version("v2", bookmark_value=TUESDAY, text_digest=digest("text"))


def put(ledger: Ledger, version: Version, before: Latest | None) -> None:
    """Note that a version has the content of the last state, which was read before."""
    assert before is not None
    after = unchanged_after(before, version)
    ledger.buffer.know({version.key: before})
    ledger.buffer.put(version.key, version.stream, after)


def test_unchanged_version_takes_the_place_of_the_latest_one(ledger: Ledger) -> None:
    settle(ledger, a_version(bookmark_value=MONDAY, source_digest=digest("source")))
    before = latest_in(ledger)

    put(ledger, TOUCHED, before)
    ledger.flush()

    assert before is not None
    assert latest_in(ledger) == replace(
        before,
        state_digest=digest("v2"),
        bookmark_value=TUESDAY,
        source_digest=None,
        text_digest=digest("text"),
    )
    assert settled_in(ledger, "v2") is None


def test_unchanged_version_does_not_replace_a_newer_one_of_another_run(
    opened: Opened,
) -> None:
    one, other = opened(), opened()
    settle(one, *(a_version(entity=name, bookmark_value=MONDAY) for name in "ef"))
    before = {name: latest_in(one, name) for name in "ef"}
    newer = a_version("v3", bookmark_value=TUESDAY, content_digest=digest("new"))
    settle(other, newer)

    put(one, TOUCHED, before["e"])
    put(one, replace(TOUCHED, key=(digest("f"), "trial")), before["f"])
    one.flush()

    latest = latest_in(one)
    assert latest is not None
    assert (latest.state_digest, latest.content_digest) == (
        digest("v3"),
        digest("new"),
    )
    assert latest_state(one, "f") == digest("v2")


def test_touched_version_does_not_replace_a_newer_one_of_another_run(
    opened: Opened,
) -> None:
    """Touched records keep the state digest of the last state."""
    one, other = opened(), opened()
    settle(one, a_version(bookmark_value=MONDAY))
    before = latest_in(one)

    for ledger, value in ((other, WEDNESDAY), (one, TUESDAY)):
        put(ledger, a_version(bookmark_value=value), before)
        ledger.flush()

    latest = latest_in(one)
    assert latest is not None
    assert latest.bookmark_value == WEDNESDAY


def a_person(state: str, email: str) -> Version:
    return a_version(state, content_digest=digest(state), email=digest(email))


def test_shared_key_hands_its_last_state_to_its_person(opened: Opened) -> None:
    one, other = opened(), opened()
    ann, bob = a_person("a", "ann"), a_person("b", "bob")
    settle(one, ann)
    stored = latest_in(one)
    (person,) = people_in(ann, ann.record_key)

    one.buffer.know({ann.key: stored})
    one.buffer.share(ann.key, person, 1)
    one.flush()
    settle(other, bob)  # decided on before the key was shared

    found = other.latest_of([ann.key, person, *people_in(bob, bob.key)])
    assert found.pop(ann.key) == Latest(is_shared=True, run=one.run)
    assert [latest.state_digest for latest in found.values()] == [
        digest("a"),
        digest("b"),
    ]
    assert stored is not None
    assert found[person] == replace(stored, record_entity=ann.key[0])


def test_expected_state_of_a_shared_key_moves_to_its_person(ledger: Ledger) -> None:
    ann = a_person("a", "ann")
    (person,) = people_in(ann, ann.record_key)
    ledger.buffer.expect(7, ann)

    ledger.buffer.share(ann.key, person, 1)

    moved, shared = ledger.buffer.latest(person), ledger.buffer.latest(ann.key)
    assert moved is not None
    assert moved.state_digest == digest("a")
    assert shared is not None
    assert shared.is_shared
    ledger.buffer.finish(7, Outcome.ACCEPTED)
    assert ledger.buffer.unwritten(person) is None


def test_change_of_an_expected_state_is_written_once_it_is_accepted(
    ledger: Ledger,
) -> None:
    ledger.buffer.expect(7, a_version())
    put(ledger, TOUCHED, ledger.buffer.latest(TOUCHED.key))
    assert ledger.buffer.size == 0

    settle(ledger, a_version())
    ledger.buffer.finish(7, Outcome.ACCEPTED)
    ledger.flush()

    assert ledger.latest_of([TOUCHED.key])[TOUCHED.key].state_digest == digest("v2")
    assert ledger.buffer.states(TOUCHED.key) == []


@pytest.mark.parametrize("by", ["state", "content"])
def test_state_that_is_seen_again_counts_for_the_later_run(
    opened: Opened, by: str
) -> None:
    one = opened()
    settle(one, a_version("v1", content_digest=digest("c1")))
    settle(one, a_version("v2", content_digest=digest("c2")))
    later = opened()

    state, content = (digest("v1"), None) if by == "state" else (None, digest("c1"))
    later.buffer.see_again(a_version().key, state, content)
    assert [again.run for again in later.buffer.states(a_version().key)] == [later.run]
    later.flush()

    runs = {
        state: found.run for state in ("v1", "v2") if (found := settled_in(one, state))
    }
    assert runs == {"v1": later.run, "v2": one.run}


# Lookups


def test_states_with_the_same_content_are_found_at_their_key_only(
    ledger: Ledger,
) -> None:
    settle(
        ledger,
        a_version("v1"),
        a_version("v2", content_digest=digest("another")),
        a_version("v1", entity="another"),
        a_version("v1", mapping="another"),
    )
    asked = a_version("v9")

    found = ledger.states_of([asked])

    assert found.keys() == {asked.record_key}
    assert [state.state_digest for state in found[asked.record_key]] == [digest("v1")]


def test_lookup_takes_more_keys_than_one_query(ledger: Ledger) -> None:
    versions = [a_version(f"v{n}", f"e{n}") for n in range(1100)]
    settle(ledger, *versions)
    entities = [version.key for version in versions]
    marks = [(version.key[0], version.state_digest) for version in versions]

    states = ledger.states_of(versions)

    assert {key: len(found) for key, found in states.items()} == dict.fromkeys(
        entities, 1
    )
    assert ledger.latest_of(entities).keys() == set(entities)
    assert ledger.changed_entities({"trial": marks}) == {}
    assert len(ledger.changed_entities({"trial": marks, "other": marks})) == 1100


def test_changed_entities_are_those_without_the_marked_text_or_state(
    ledger: Ledger,
) -> None:
    settle(
        ledger,
        a_version(entity="with text", text_digest=digest("text")),
        a_version(entity="without"),
    )
    rejected = a_version(entity="rejected", content_digest=None)
    settle(ledger, rejected, outcome=Outcome.REJECTED)

    def changed(entity: str, mark: str) -> bool:
        key = digest(entity), "trial"
        found = ledger.changed_entities({"trial": [(key[0], digest(mark))]})
        assert found in ({}, {key: latest_in(ledger, entity)})
        return key in found

    assert not changed("with text", "v1")
    assert not changed("with text", "text")
    assert not changed("without", "v1")
    assert changed("with text", "v2")
    assert changed("without", "text")
    assert changed("rejected", "v1")
    assert changed("new", "v1")


def buffered(
    ledger: Ledger, version: Version, outcome: Outcome = Outcome.ACCEPTED
) -> None:
    ledger.buffer.settle(version, outcome)


def test_lookups_include_outcomes_that_are_not_written_yet(ledger: Ledger) -> None:
    settle(ledger, a_version("v1"))

    buffered(ledger, a_version("v2"), Outcome.BASELINED)

    settled, key = settled_in(ledger, "v2"), (digest("e"), "trial")
    assert settled is not None
    assert settled.outcome == "baselined"
    assert latest_state(ledger) == digest("v2")
    mark = {"trial": [(digest("e"), digest("v2"))]}
    assert ledger.changed_entities(mark) == {}
    mark = {"trial": [(digest("e"), digest("v1"))]}
    assert ledger.changed_entities(mark).keys() == {key}


def test_flush_writes_everything_in_the_buffer(opened: Opened) -> None:
    one, other = opened(), opened()
    settle(one, a_version("v1", bookmark_value=MONDAY))
    before = latest_in(one)
    assert before is not None
    put(one, TOUCHED, before)
    buffered(one, a_version(entity="another"))
    one.buffer.add_dead_letter(a_dead_letter(a_version("v9")))
    assert latest_state(other) == digest("v1")
    assert one.buffer.size == 4  # rows of the database

    one.flush()

    assert latest_in(other) == latest_in(one)
    assert latest_state(other) == digest("v2")
    assert latest_state(other, "another") == digest("v1")
    assert [found.state_digest for found in dead_letters_of(other)] == [digest("v9")]
    assert one.buffer.size == 0


def test_read_only_ledger_keeps_outcomes_in_memory(ledger: Ledger, url: str) -> None:
    with Ledger.open_read_only(url, API, missing_ok=False) as reader:
        buffered(reader, a_version(), Outcome.WOULD_SEND)
        reader.flush()

        assert settled_in(reader) is not None
        assert latest_state(reader) == digest("v1")

    assert settled_in(ledger) is None


# Runs, streams and scopes


def run_to_end(url: str, exit_code: int = 0, stream: str | None = None) -> None:
    with Ledger.create(url, API) as ledger:
        ledger.begin_run()
        if stream is not None:
            number = ledger.open_stream(stream, {})[0]
            settle(ledger, a_version("v1", stream, stream=number))
        complete = {stream: True} if stream and exit_code == 0 else {}
        ledger.end_run(exit_code, {}, complete=complete)


def test_run_numbers_count_up(opened: Opened) -> None:
    runs = [opened().run for _ in range(3)]

    assert runs == sorted(set(runs))


def test_entities_of_an_incomplete_run_are_known(url: str) -> None:
    entities = []
    for exit_code, stream in [(0, "leads"), (75, "trials"), (0, "trials")]:
        run_to_end(url, exit_code, stream)
        with Ledger.create(url, API) as ledger:
            number = ledger.open_stream("trials", {})[0]
            known, _, is_first, _ = entities_of(ledger, number)
            entities.append((known, is_first))

    assert entities == [(0, True), (1, True), (1, False)]


def test_stream_keeps_its_number(opened: Opened) -> None:
    one, other = opened(), opened()

    assert one.open_stream("a", {"x": 1})[0] == other.open_stream("a", {"x": 2})[0]
    assert one.open_stream("a", {})[0] != one.open_stream("b", {})[0]


def test_scopes_are_separate(opened: Opened) -> None:
    sandbox = opened(SANDBOX)
    claim(sandbox, a_version())
    settle(sandbox, a_version("v2", "another"))
    add_dead_letters(sandbox, a_dead_letter(a_version()))
    sandbox.end_run(0, {})
    sandbox.close()

    real = opened(API)

    assert real.is_new()
    assert real.take_over_claims() == []
    assert dead_letters_of(real) == []
    assert counts(real) == {}
    assert entities_of(real, real.open_stream("trials", {})[0]) == (
        0,
        set(),
        True,
        True,
    )


def test_ledger_is_new_until_a_signal_is_claimed_or_settled(ledger: Ledger) -> None:
    assert ledger.is_new()

    claim(ledger, a_version())
    assert not ledger.is_new()

    settle(ledger, a_version())
    assert not ledger.is_new()


def test_changed_record_beside_its_unwritten_duplicate_is_changed(
    ledger: Ledger,
) -> None:
    """The order of the two marks does not matter."""
    version = a_version("v1")
    ledger.buffer.settle(version, Outcome.BASELINED)
    entity, mapping = version.key
    same, other = (entity, version.state_digest), (entity, digest("v2"))

    for marks in ([other, same], [same, other]):
        assert set(ledger.changed_entities({mapping: marks})) == {version.key}
    assert ledger.changed_entities({mapping: [same]}) == {}


def test_lease_that_cannot_be_read_is_an_error_with_the_setting(
    ledger: Ledger, tmp_path: Path
) -> None:
    (tmp_path / "ledger.db.run-77").mkdir()

    with pytest.raises(LedgerError, match=r"Is a directory\. See `ledger_url`"):
        ledger.lives(77)


def test_requests_that_are_taken_back_after_midnight_are_none_of_today(
    ledger: Ledger,
) -> None:
    with ledger.transaction() as transaction:
        counts_of_today = [
            transaction.count_requests(API, count) for count in (-5, 3, -1, -5, 1)
        ]

    assert counts_of_today == [0, 3, 2, 0, 1]
