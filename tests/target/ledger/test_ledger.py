"""The ledger remembers: each signal is claimed by one run, and settled for good."""

from __future__ import annotations

import os
import signal
import sqlite3
import stat
import subprocess
import sys
from contextlib import closing
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from msgspec.structs import replace
from sqlalchemy import update

from stairoids_sandbox import Sandbox
from target_stairoids.dedup.rules import Latest, Outcome, Settled
from target_stairoids.exceptions import LedgerError
from target_stairoids.ledger.ledger import Ledger
from target_stairoids.ledger.queries import counts, dead_letters_of
from target_stairoids.ledger.schema import SCHEMA_VERSION, claims
from target_stairoids.ledger.structs import Claim, DeadLetter, Verdict
from tests.support.singer_io import TargetUnderTest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

API = "https://api.stairoids.com"
REHEARSAL = "http://127.0.0.1:8080"
MONDAY = "t2024-01-01T00:00:00.000000+00:00"
TUESDAY = "t2024-01-02T00:00:00.000000+00:00"


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/ledger.db"


@pytest.fixture
def opened(url: str) -> Iterator[Callable[..., Ledger]]:
    """Opens ledgers on one file, each as if by another process, with a run begun."""
    ledgers = []

    def open_one(scope: str = API) -> Ledger:
        ledger = Ledger(url, scope)
        ledger.begin_run()
        ledgers.append(ledger)
        return ledger

    yield open_one
    for ledger in ledgers:
        ledger.close()


@pytest.fixture
def ledger(opened: Callable[..., Ledger]) -> Ledger:
    return opened()


def digest(text: str) -> bytes:
    return text.encode().ljust(16, b".")


def a_claim(ledger: Ledger, entity: str = "e", version: str = "v1") -> Claim:
    return Claim(
        entity=digest(entity),
        version=digest(version),
        mapping="trial",
        stream=ledger.stream_number("trials", {"schema": {}}),
        stream_name="trials",
        content=digest("content"),
        position=None,
        fingerprint=digest("mapping"),
        signal=b'{"type":"trial"}',
        record=b'{"id":1}',
    )


def a_verdict(
    claim: Claim, outcome: Outcome = Outcome.ACCEPTED, **more: Any
) -> Verdict:
    shared = {
        name: getattr(claim, name)
        for name in (
            "entity", "version", "mapping", "stream", "fingerprint", "content",
            "position",
        )
    }  # fmt: skip
    return Verdict(outcome=outcome, **shared | more)


def a_letter(claim: Claim, **more: Any) -> DeadLetter:
    shared = {
        name: getattr(claim, name)
        for name in ("version", "mapping", "stream", "stream_name", "record", "signal")
    }
    fields = {"outcome": Outcome.REJECTED, "reason": "422 validation_error"}
    return DeadLetter(**fields | shared | more)


def claimed(ledger: Ledger, claim: Claim) -> int | None:
    with ledger.transaction() as transaction:
        return transaction.claim(claim).get((claim.entity, claim.mapping))


def settle(ledger: Ledger, *verdicts: Verdict) -> None:
    with ledger.transaction() as transaction:
        transaction.settle(*verdicts)


def end(ledger: Ledger, exit_code: int = 0) -> None:
    ledger.end_run(exit_code, {}, is_complete=exit_code == 0)


def _settle_and_fail(ledger: Ledger, verdict: Verdict) -> None:
    with ledger.transaction() as transaction:
        transaction.settle(verdict)
        raise KeyError


def settled_in(ledger: Ledger, version: str = "v1") -> Settled | None:
    known = ledger.look_up([digest(version)], [])
    return known.settled.get((digest(version), "trial"))


def latest_in(ledger: Ledger, entity: str = "e") -> Latest | None:
    return ledger.look_up([], [digest(entity)]).latest.get((digest(entity), "trial"))


# Claims


def test_claim_is_exclusive(opened: Callable[..., Ledger]) -> None:
    one, other = opened(), opened()
    claim = a_claim(one)

    assert claimed(one, claim) is None
    assert claimed(other, claim) == one.run
    assert claimed(one, claim) == one.run


def test_another_version_of_a_claimed_entity_has_to_wait(
    opened: Callable[..., Ledger],
) -> None:
    one, other = opened(), opened()

    assert claimed(one, a_claim(one, version="v1")) is None
    assert claimed(other, a_claim(other, version="v2")) == one.run


def test_claims_of_other_entities_and_mappings_do_not_collide(ledger: Ledger) -> None:
    claim = a_claim(ledger)

    assert claimed(ledger, claim) is None
    assert claimed(ledger, a_claim(ledger, entity="f")) is None
    assert claimed(ledger, replace(claim, mapping="other")) is None


def test_claim_holds_what_a_crash_needs(opened: Callable[..., Ledger]) -> None:
    one, other = opened(), opened()
    claim = a_claim(one)
    with one.transaction() as transaction:
        transaction.claim(claim)
        transaction.claim_again(claim, attempts=2)

    with other.transaction() as transaction:
        found = transaction.claim_on(claim)

    assert found is not None
    assert found.run == one.run
    assert found.attempts == 2
    assert found.signal == b'{"type":"trial"}'
    assert found.record == b'{"id":1}'
    assert found.claimed_at.endswith("Z")
    assert found.claimed_at <= found.attempted_at


def test_live_runs_claims_are_left_alone(opened: Callable[..., Ledger]) -> None:
    one, other = opened(), opened()
    claimed(one, a_claim(one))

    assert other.lives(one.run)
    assert other.take_over_claims() == []
    assert claimed(other, a_claim(other)) == one.run


def test_dead_runs_claims_are_taken_over_once(opened: Callable[..., Ledger]) -> None:
    dead = opened()
    claim = a_claim(dead)
    claimed(dead, claim)
    dead.close()
    heir, late = opened(), opened()

    orphans = heir.take_over_claims()

    assert [orphan.version for orphan in orphans] == [claim.version]
    assert late.take_over_claims() == []
    assert heir.take_over_claims() == []
    with late.transaction() as transaction:
        assert not transaction.take_over(orphans[0])


def test_killed_process_is_dead_at_once_and_a_paused_one_lives(
    opened: Callable[..., Ledger], url: str
) -> None:
    code = (
        "import sys\n"
        "from target_stairoids.ledger.ledger import Ledger\n"
        f"ledger = Ledger({url!r}, {API!r})\n"
        "print(ledger.begin_run(), flush=True)\n"
        "sys.stdin.read()\n"
    )
    ledger = opened()
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        run = int(process.stdout.readline())

        process.send_signal(signal.SIGSTOP)
        lived = ledger.lives(run)
        process.kill()
        process.wait()

        assert lived
        assert not ledger.lives(run)


def test_withdrawn_claim_is_free_again(opened: Callable[..., Ledger]) -> None:
    one, other = opened(), opened()
    claim = a_claim(one)
    claimed(one, claim)

    with one.transaction() as transaction:
        transaction.withdraw(claim)

    assert claimed(other, claim) is None


def test_claim_of_another_run_cannot_be_withdrawn(
    opened: Callable[..., Ledger],
) -> None:
    one, other = opened(), opened()
    claim = a_claim(one)
    claimed(one, claim)

    with other.transaction() as transaction:
        transaction.withdraw(claim)

    assert claimed(other, claim) == one.run


@pytest.mark.parametrize(
    "outcome", [Outcome.ACCEPTED, Outcome.REJECTED, Outcome.UNKNOWN]
)
def test_settled_claim_is_gone_and_its_text_with_it(
    ledger: Ledger, url: str, outcome: Outcome
) -> None:
    claim = a_claim(ledger)
    claimed(ledger, claim)

    settle(ledger, a_verdict(claim, outcome))

    assert claimed(ledger, a_claim(ledger, version="v2")) is None
    with closing(sqlite3.connect(url.removeprefix("sqlite:///"))) as database:
        (count,) = database.execute(
            "SELECT count(*) FROM stairoids_claims WHERE version = ?", (claim.version,)
        ).fetchone()
    assert count == 0


# What is settled


def test_settled_version_is_remembered_by_every_later_run(
    opened: Callable[..., Ledger],
) -> None:
    one = opened()
    settle(one, a_verdict(a_claim(one), signal_id="sig_1"))
    other = opened()

    assert settled_in(other) == Settled("accepted", one.run, digest("mapping"))
    assert settled_in(other, "v2") is None
    another = a_claim(other, "another", "v9")
    with other.transaction() as transaction:
        assert transaction.owns_signal("sig_1", other_than=another)
        assert not transaction.owns_signal("sig_2", other_than=another)


def test_failed_turn_writes_nothing(ledger: Ledger) -> None:
    claim = a_claim(ledger)

    with pytest.raises(KeyError):
        _settle_and_fail(ledger, a_verdict(claim))

    assert settled_in(ledger) is None
    assert claimed(ledger, claim) is None


def test_more_versions_than_one_query_takes_are_looked_up_at_once(
    ledger: Ledger,
) -> None:
    claim = a_claim(ledger)
    versions = [f"v{number}" for number in range(600)]
    settle(
        ledger,
        *(
            a_verdict(replace(claim, version=digest(v), entity=digest(v)))
            for v in versions
        ),
    )
    keys = [digest(version) for version in versions]

    known = ledger.look_up(keys, keys)

    assert len(known.settled) == 600
    assert len(known.latest) == 600


def test_only_what_was_said_otherwise_is_told(ledger: Ledger) -> None:
    spelt, plain, rejected = (a_claim(ledger, entity=name) for name in "spr")
    settle(
        ledger,
        a_verdict(spelt, spelling=digest("as it is")),
        a_verdict(plain),
        a_verdict(rejected, Outcome.REJECTED, content=None),
    )
    v1, v2 = digest("v1"), digest("v2")

    def told(entity: str, mark: bytes) -> Latest | bool | None:
        asked = {"trial": [(digest(entity), mark)]}
        return ledger.said_otherwise(asked).get((digest(entity), "trial"), False)

    assert told("s", v1) is told("s", digest("as it is")) is told("p", v1) is False
    assert told("s", v2) == told("s", digest("otherwise")) == latest_in(ledger, "s")
    assert told("p", digest("as it is")) == told("p", v2) == latest_in(ledger, "p")
    assert told("new", v1) is told("r", v1) is None
    assert ledger.said_otherwise({"other": [(digest("p"), v1)]}) == {
        (digest("p"), "other"): None
    }


def test_more_is_asked_at_once_than_one_query_takes(ledger: Ledger) -> None:
    pairs = [(digest(f"e{n}"), digest("v1")) for n in range(1200)]
    settle(
        ledger,
        *(a_verdict(replace(a_claim(ledger), entity=entity)) for entity, _ in pairs),
    )

    assert ledger.said_otherwise({"trial": pairs}) == {}
    assert len(ledger.said_otherwise({"trial": pairs, "other": pairs})) == 1200


def moved_on(claim: Claim) -> Verdict:
    return a_verdict(
        claim,
        Outcome.UNCHANGED,
        version=digest("v2"),
        position=TUESDAY,
        spelling=digest("spelt"),
        moves_on_from=digest("v1"),
        is_claimed=False,
    )


def test_version_takes_the_place_of_the_latest_one(ledger: Ledger) -> None:
    claim = replace(a_claim(ledger), position=MONDAY)
    settle(ledger, a_verdict(claim, basis=digest("made of")))
    before = latest_in(ledger)

    settle(ledger, moved_on(claim))

    assert before is not None
    assert latest_in(ledger) == replace(
        before, version=digest("v2"), position=TUESDAY, spelling=digest("spelt")
    )
    assert settled_in(ledger, "v2") is None


def test_version_takes_no_place_that_another_run_has_taken(
    opened: Callable[..., Ledger],
) -> None:
    """What another run has said meanwhile stands, and the version is settled."""
    one, other = opened(), opened()
    claim, free = (replace(a_claim(one, entity=name), position=MONDAY) for name in "ef")
    settle(one, a_verdict(claim), a_verdict(free))
    settle(
        other,
        a_verdict(
            claim, version=digest("v3"), content=digest("news"), position=TUESDAY
        ),
    )

    settle(one, moved_on(claim), moved_on(free))

    latest, of_free = latest_in(one), latest_in(one, "f")
    assert latest is not None
    assert of_free is not None
    assert (latest.version, latest.content) == (digest("v3"), digest("news"))
    assert of_free.version == digest("v2")
    settled = settled_in(one, "v2")
    assert settled is not None
    assert settled.outcome == Outcome.UNCHANGED


@pytest.mark.parametrize(
    ("positions", "latest_version"),
    [
        ([None, None], "v1"),
        ([MONDAY, TUESDAY], "v1"),
        ([TUESDAY, MONDAY], "v0"),
        ([TUESDAY, TUESDAY], "v1"),
        ([TUESDAY, None], "v1"),
        ([None, MONDAY], "v1"),
        (["n9", "n10"], "v1"),
        (["n10", "n9"], "v0"),
        (["n10", MONDAY], "v1"),
        ([MONDAY, "n1", "n0"], "v1"),
    ],
)
def test_latest_is_the_greatest_position_else_the_last_settled(
    ledger: Ledger, positions: list[str | None], latest_version: str
) -> None:
    claim = a_claim(ledger)

    for number, position in enumerate(positions):
        version = digest(f"v{number}")
        settle(ledger, a_verdict(replace(claim, version=version, position=position)))

    newest = latest_in(ledger)
    assert newest is not None
    assert newest.version == digest(latest_version)


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
def test_entity_is_done_once_it_was_said_or_kept_back(
    ledger: Ledger, outcomes: list[Outcome], *, done: bool
) -> None:
    claim = a_claim(ledger)

    for number, outcome in enumerate(outcomes):
        settle(
            ledger,
            a_verdict(replace(claim, version=digest(f"v{number}")), outcome),
        )

    newest = latest_in(ledger)
    assert newest is not None
    assert newest.done is done


def test_superseded_version_counts_for_once_and_is_not_the_latest(
    ledger: Ledger,
) -> None:
    claim = a_claim(ledger)
    newer = replace(claim, version=digest("v2"), position=TUESDAY)
    older = replace(claim, version=digest("v1"), position=MONDAY)

    settle(ledger, a_verdict(newer, Outcome.UNCHANGED))
    settle(ledger, a_verdict(older))

    assert latest_in(ledger) == Latest(
        digest("v2"), digest("content"), TUESDAY, done=True
    )


def test_rejected_version_leaves_the_latest_as_it_is(ledger: Ledger) -> None:
    """It has said nothing, so what was said before still stands."""
    said = a_claim(ledger, version="v1")
    rejected = a_claim(ledger, version="v2")

    settle(ledger, a_verdict(said))
    settle(ledger, a_verdict(rejected, Outcome.REJECTED, content=None))

    newest = latest_in(ledger)
    assert newest is not None
    assert newest.version == digest("v1")
    assert settled_in(ledger, "v2") is not None


def test_of_two_verdicts_on_one_version_the_later_one_counts(ledger: Ledger) -> None:
    claim = a_claim(ledger)

    settle(
        ledger, a_verdict(claim, Outcome.BASELINED), a_verdict(claim, Outcome.UNCHANGED)
    )

    found = settled_in(ledger)
    assert found is not None
    assert found.outcome == "unchanged"


@pytest.mark.parametrize("together", [True, False])
def test_verdicts_settled_together_or_one_by_one_are_the_same(
    ledger: Ledger, *, together: bool
) -> None:
    claim = a_claim(ledger)
    verdicts = [
        a_verdict(replace(claim, version=digest(f"v{number}"), position=position))
        for number, position in enumerate([MONDAY, TUESDAY, MONDAY])
    ]

    if together:
        settle(ledger, *verdicts)
    else:
        for verdict in verdicts:
            settle(ledger, verdict)

    newest = latest_in(ledger)
    assert newest is not None
    assert newest.version == digest("v1")
    assert settled_in(ledger, "v2") is not None


# Dead letters


def test_dead_letter_counts_up_and_keeps_its_first_time(ledger: Ledger) -> None:
    claim = a_claim(ledger)
    with ledger.transaction() as transaction:
        transaction.add_dead_letter(a_letter(claim, attempts=8, request_id="req_1"))
    (first,) = dead_letters_of(ledger)

    with ledger.transaction() as transaction:
        transaction.add_dead_letter(
            a_letter(
                claim,
                outcome=Outcome.UNKNOWN,
                reason="no response in time",
                attempts=2,
                record=b'{"id":2}',
            )
        )

    (letter,) = dead_letters_of(ledger)
    assert letter.id == first.id
    assert letter.attempts == 10
    assert letter.first_at == first.first_at
    assert letter.last_at >= first.last_at
    assert letter.outcome == "unknown"
    assert letter.reason == "no response in time"
    assert letter.request_id is None
    assert letter.record == b'{"id":2}'


def test_dead_letters_are_one_for_each_version_and_mapping(ledger: Ledger) -> None:
    claim = a_claim(ledger)

    with ledger.transaction() as transaction:
        transaction.add_dead_letter(a_letter(claim))
        transaction.add_dead_letter(a_letter(claim, mapping="other"))
        transaction.add_dead_letter(a_letter(claim, version=digest("v2")))

    assert len(dead_letters_of(ledger)) == 3
    assert len(dead_letters_of(ledger, limit=2)) == 2
    assert len(dead_letters_of(ledger, stream="trials")) == 3
    assert dead_letters_of(ledger, stream="other") == []


def test_accepted_signal_has_no_dead_letter_any_more(ledger: Ledger) -> None:
    claim = a_claim(ledger)
    with ledger.transaction() as transaction:
        transaction.add_dead_letter(a_letter(claim))
        transaction.add_dead_letter(a_letter(claim, version=digest("v2")))

    settle(ledger, a_verdict(claim))

    assert [letter.version for letter in dead_letters_of(ledger)] == [digest("v2")]


def test_rejected_signal_keeps_its_dead_letter(ledger: Ledger) -> None:
    claim = a_claim(ledger)
    with ledger.transaction() as transaction:
        transaction.add_dead_letter(a_letter(claim))

    settle(ledger, a_verdict(claim, Outcome.REJECTED))

    assert len(dead_letters_of(ledger)) == 1


# Runs, streams and scopes


def test_runs_count_up(opened: Callable[..., Ledger]) -> None:
    runs = [opened().run for _ in range(3)]

    assert runs == sorted(set(runs))


@pytest.mark.parametrize(
    ("exit_codes", "complete"),
    [([], 0), ([0], 1), ([75], 0), ([1], 0), ([0, 75], 1), ([0, 75, 0, 143], 3)],
)
def test_last_complete_run_is_the_newest_that_settled_all_it_read(
    url: str, exit_codes: list[int], complete: int
) -> None:
    for exit_code in exit_codes:
        with Ledger(url, API) as ledger:
            ledger.begin_run()
            end(ledger, exit_code)

    with Ledger(url, API) as ledger:
        assert ledger.last_complete_run == complete


def test_run_that_did_not_end_is_not_complete(opened: Callable[..., Ledger]) -> None:
    opened().close()

    assert opened().last_complete_run == 0


def test_stream_is_known_once_a_run_that_saw_it_is_complete(url: str) -> None:
    first_runs = []
    for exit_code in (75, 0, 0):
        with Ledger(url, API) as ledger:
            ledger.begin_run()
            stream = ledger.stream_number("trials", {})
            first_runs.append(ledger.is_first_run_of(stream))
            end(ledger, exit_code)

    assert first_runs == [True, True, False]


def test_stream_that_a_complete_run_did_not_see_is_still_new(url: str) -> None:
    with Ledger(url, API) as ledger:
        ledger.begin_run()
        end(ledger)

    with Ledger(url, API) as ledger:
        assert ledger.is_first_run_of(ledger.stream_number("trials", {}))


def test_stream_keeps_its_number(opened: Callable[..., Ledger]) -> None:
    one, other = opened(), opened()

    assert one.stream_number("a", {"x": 1}) == other.stream_number("a", {"x": 2})
    assert one.stream_number("a", {}) != one.stream_number("b", {})


def test_scopes_see_nothing_of_one_another(
    opened: Callable[..., Ledger],
) -> None:
    rehearsal = opened(REHEARSAL)
    claim = a_claim(rehearsal)
    claimed(rehearsal, claim)
    settle(rehearsal, a_verdict(a_claim(rehearsal, entity="f", version="v2")))
    with rehearsal.transaction() as transaction:
        transaction.add_dead_letter(a_letter(claim))
    end(rehearsal)
    rehearsal.close()

    real = opened(API)

    assert real.is_new()
    assert real.take_over_claims() == []
    assert dead_letters_of(real) == []
    assert counts(real) == {}
    assert real.last_complete_run == 0
    assert real.is_first_run_of(real.stream_number("trials", {}))


def test_ledger_is_new_until_something_is_claimed_or_settled(ledger: Ledger) -> None:
    claim = a_claim(ledger)
    assert ledger.is_new()

    claimed(ledger, claim)
    assert not ledger.is_new()

    settle(ledger, a_verdict(claim))
    assert not ledger.is_new()


def test_counts_are_by_stream_and_outcome(ledger: Ledger) -> None:
    claim = a_claim(ledger)

    settle(
        ledger,
        a_verdict(claim),
        a_verdict(replace(claim, version=digest("v2")), Outcome.REJECTED),
        a_verdict(replace(claim, version=digest("v3")), Outcome.REJECTED),
    )

    assert counts(ledger) == {"trials": {"accepted": 1, "rejected": 2}}


# The database


def test_settled_part_holds_no_text_of_signal_or_record(
    ledger: Ledger, url: str
) -> None:
    claim = replace(a_claim(ledger), signal=b"CANARY", record=b"CANARY")
    claimed(ledger, claim)
    settle(ledger, a_verdict(claim))

    with closing(sqlite3.connect(url.removeprefix("sqlite:///"))) as database:
        dump = "\n".join(database.iterdump())

    assert "CANARY" not in dump
    assert b"CANARY".hex().upper() not in dump


def test_ledger_is_for_its_owner_only(tmp_path: Path) -> None:
    path = tmp_path / "new" / "folder" / "ledger.db"

    with Ledger(f"sqlite:///{path}", API) as ledger:
        ledger.begin_run()

        modes = {file.name: file.stat().st_mode for file in path.parent.iterdir()}

    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert {stat.S_IMODE(mode) for mode in modes.values()} == {0o600}


def test_closed_ledger_leaves_no_lease_behind(url: str, tmp_path: Path) -> None:
    with Ledger(url, API) as ledger:
        ledger.begin_run()
        end(ledger)

    assert [path.name for path in tmp_path.iterdir()] == ["ledger.db"]


@pytest.mark.parametrize("read_only", [False, True])
def test_newer_ledger_is_refused_and_left_as_it_is(
    url: str, *, read_only: bool
) -> None:
    Ledger(url, API).close()
    path = url.removeprefix("sqlite:///")
    with closing(sqlite3.connect(path)) as database, database:
        database.execute("UPDATE stairoids_meta SET value = '99'")
        database.execute("DROP TABLE stairoids_claims")

    with pytest.raises(LedgerError, match=r"schema version 99.*upgrade.*`ledger_url`"):
        Ledger(url, API, read_only=read_only)

    with closing(sqlite3.connect(path)) as database:
        tables = database.execute("SELECT name FROM sqlite_schema").fetchall()
    assert ("stairoids_claims",) not in tables


@pytest.mark.parametrize(
    ("name", "read_only"),
    [
        ("a_file/ledger.db", False),
        ("a_folder", False),
        ("a_folder", True),
        ("a_file", False),
        ("a_file", True),
    ],
)
def test_ledger_that_cannot_be_opened_is_one_error_naming_the_setting(
    tmp_path: Path, name: str, *, read_only: bool
) -> None:
    (tmp_path / "a_file").write_text("no database, but long enough to be one" * 100)
    (tmp_path / "a_folder").mkdir()

    with pytest.raises(LedgerError, match="`ledger_url`"):
        Ledger(f"sqlite:///{tmp_path}/{name}", API, read_only=read_only)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_unwritable_folder_is_one_error_naming_the_setting(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)

    with pytest.raises(LedgerError, match=r"Permission denied.*`ledger_url`"):
        Ledger(f"sqlite:///{tmp_path}/x/ledger.db", API)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "ledger.db",
        "CANARY",
        "mysql://u:CANARY@host/db",
        "postgresql://u:CANARY@host:port/db",
        "postgresql://u:CANARY@host:99:99/db",
        "redis://:CANARY@host",
    ],
)
def test_url_of_no_ledger_is_refused_without_its_password(url: str) -> None:
    with pytest.raises(LedgerError, match="`ledger_url`") as refused:
        Ledger(url, API)

    assert "CANARY" not in str(refused.value)


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://u:CANARY@127.0.0.1:1/db",
        "postgresql+psycopg://u:CANARY@127.0.0.1:1/db?connect_timeout=1",
        "postgresql://u@127.0.0.1:1/db?password=CANARY",
    ],
)
def test_password_is_masked_when_the_server_cannot_be_reached(url: str) -> None:
    pytest.importorskip("psycopg")

    with pytest.raises(
        LedgerError, match=r"127\.0\.0\.1:1/db .*`ledger_url`"
    ) as failed:
        Ledger(url, API)

    assert "CANARY" not in str(failed.value)
    assert "\n" not in str(failed.value)


@pytest.mark.parametrize("scheme", ["sqlite", "sqlite+pysqlite", "sqlite+aiosqlite"])
def test_sqlite_is_opened_with_pythons_own_driver(tmp_path: Path, scheme: str) -> None:
    with Ledger(f"{scheme}:///{tmp_path}/ledger.db", API) as ledger:
        assert ledger.name == f"sqlite:///{tmp_path}/ledger.db"


def test_tilde_is_the_home_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))

    Ledger("sqlite:///~/ledger.db", API).close()

    assert (tmp_path / "ledger.db").stat().st_size > 0


def test_relative_ledger_lies_under_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)

    with Ledger("sqlite:///.stairoids/ledger.db", API) as ledger:
        assert ledger.name == f"sqlite:///{tmp_path}/.stairoids/ledger.db"

    assert (tmp_path / ".stairoids/ledger.db").exists()


def test_missing_ledger_that_is_only_read_counts_as_empty(
    url: str, tmp_path: Path
) -> None:
    with Ledger(url, API, read_only=True) as ledger:
        assert ledger.is_new()
        assert dead_letters_of(ledger) == []
        assert ledger.last_complete_run == 0

    assert list(tmp_path.iterdir()) == []


def test_ledger_that_is_only_read_can_be_read_and_not_written(
    url: str, ledger: Ledger
) -> None:
    settle(ledger, a_verdict(a_claim(ledger)))

    with Ledger(url, API, read_only=True) as reader:
        assert settled_in(reader) is not None
        with pytest.raises(LedgerError, match="read only"):
            reader.begin_run()
        with (
            pytest.raises(LedgerError, match="read only"),
            reader.transaction() as turn,
        ):
            transaction.settle(a_verdict(a_claim(ledger, version="v2")))

    assert settled_in(ledger, "v2") is None


def test_ledger_can_be_opened_twice(opened: Callable[..., Ledger]) -> None:
    """What one has committed, the other sees at once."""
    one, other = opened(), opened()

    settle(one, a_verdict(a_claim(one)))

    assert settled_in(other) is not None


def _make_latest_as_it_was(database: sqlite3.Connection, version: str) -> None:
    columns = "entity, mapping, stream, version, content, position, done, run" + (
        ", basis" if version == "4" else ""
    )
    database.execute("ALTER TABLE stairoids_latest RENAME TO newer")
    database.execute(
        f"CREATE TABLE stairoids_latest ({columns}, PRIMARY KEY (entity, mapping))"
        " WITHOUT ROWID"
    )
    database.execute(
        f"INSERT INTO stairoids_latest ({columns}) SELECT {columns} FROM newer"  # noqa: S608 - nobody's input
    )
    database.execute("DROP TABLE newer")


@pytest.mark.parametrize("version", ["1", "2", "3", "4"])
def test_older_ledger_is_upgraded_and_forgets_nothing(url: str, version: str) -> None:
    with Ledger(url, API) as ledger:
        ledger.begin_run()
        claim = a_claim(ledger)
        settle(ledger, a_verdict(claim, Outcome.ACCEPTED))
    path = url.removeprefix("sqlite:///")
    with closing(sqlite3.connect(path)) as database, database:
        _make_latest_as_it_was(database, version)
        if version < "3":
            database.execute("DROP INDEX stairoids_settled_signal")
            for column in ("run", "signal_id"):  # as version 2 was
                database.execute(
                    f"CREATE INDEX stairoids_settled_{column}"
                    f" ON stairoids_settled ({column})"
                )
        database.execute("UPDATE stairoids_meta SET value = ?", (version,))

    with Ledger(url, API) as upgraded:
        known = upgraded.look_up([claim.version], [claim.entity])

    with closing(sqlite3.connect(path)) as database:
        indices = database.execute("SELECT name FROM sqlite_schema").fetchall()
        versions = database.execute("SELECT value FROM stairoids_meta").fetchall()
    assert (claim.version, claim.mapping) in known.settled
    assert known.latest[claim.entity, claim.mapping].version == claim.version
    assert ("stairoids_settled_signal",) in indices
    assert ("stairoids_settled_run",) not in indices
    assert versions == [(str(SCHEMA_VERSION),)]


def test_clock_that_was_set_back_delays_no_recovery(url: str, tmp_path: Path) -> None:
    """A claim "of tomorrow" waits for the verify delay, not for tomorrow."""
    with Sandbox() as sandbox:
        scope = sandbox.url.removesuffix("/v1")
        with Ledger(url, scope) as crashed:
            crashed.begin_run()
            signal_text = b'{"type":"t","source":"s","contact":{"email":"a@b.example"}}'
            left = replace(a_claim(crashed), signal=signal_text, record=b"{}")
            with crashed.transaction() as transaction:
                transaction.claim(left)
                transaction.write(
                    update(claims).values(attempted_at="2999-01-01T00:00:00Z")
                )
        target = TargetUnderTest(tmp_path, sandbox.url, ledger_url=url)

        run = target.run(verify_delay_seconds=1)

    assert run.report["recovered"] == {"accepted": 1}
    assert len(sandbox.signals) == 1


def test_claim_of_a_run_that_died_just_now_is_not_looked_into_too_early(
    url: str, tmp_path: Path
) -> None:
    """It may have waited for a sender and have left right before the end."""
    with Sandbox() as sandbox:
        with Ledger(url, sandbox.url.removesuffix("/v1")) as crashed:
            crashed.begin_run()
            signal_text = b'{"type":"t","source":"s","contact":{"email":"a@b.example"}}'
            left = replace(a_claim(crashed), signal=signal_text, record=b"{}")
            a_while_ago = datetime.now(UTC) - timedelta(seconds=30)
            with crashed.transaction() as transaction:
                transaction.claim(left)
                transaction.write(
                    update(claims).values(attempted_at=a_while_ago.isoformat())
                )

        run = TargetUnderTest(tmp_path, sandbox.url).run(verify_delay_seconds=2)

    assert run.report["recovered"] == {"accepted": 1}
    assert run.report["seconds"] >= 2


def test_signal_id_belongs_to_the_version_it_was_told_for(ledger: Ledger) -> None:
    one, other = a_claim(ledger, "e1", "v1"), a_claim(ledger, "e2", "v2")
    settle(ledger, a_verdict(one, signal_id="sig_1"))

    with ledger.transaction() as transaction:
        assert transaction.owns_signal("sig_1", other_than=other)
        assert not transaction.owns_signal("sig_1", other_than=one)
        assert not transaction.owns_signal("sig_2", other_than=other)


def test_signal_id_stays_when_its_version_is_settled_again_without_one(
    ledger: Ledger,
) -> None:
    one, other = a_claim(ledger, "e1", "v1"), a_claim(ledger, "e2", "v2")
    settle(ledger, a_verdict(one, signal_id="sig_1"))
    settle(ledger, a_verdict(one))

    with ledger.transaction() as transaction:
        assert transaction.owns_signal("sig_1", other_than=other)


def test_claim_of_another_run_is_neither_dropped_nor_counted_up(
    opened: Callable[..., Ledger],
) -> None:
    one, two = opened(), opened()
    claim = a_claim(one)
    assert claimed(one, claim) is None

    with two.transaction() as transaction:
        transaction.settle(a_verdict(claim, Outcome.UNCHANGED))
        assert not transaction.claim_again(claim, 2)

    assert claimed(two, claim) == one.run


def test_ledger_is_one_whatever_path_leads_to_it(tmp_path: Path) -> None:
    """Leases lie beside the file, so a link to it must lead to the same ones."""
    (tmp_path / "link.db").symlink_to(tmp_path / "ledger.db")
    with (
        Ledger(f"sqlite:///{tmp_path}/ledger.db", API) as one,
        Ledger(f"sqlite:///{tmp_path}/link.db", API) as two,
    ):
        living = one.begin_run()

        assert two.lives(living)
