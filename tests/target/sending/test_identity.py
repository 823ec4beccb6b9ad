"""Identity, from the tap's output to the signals: which record is which."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest

from stairoids_sandbox import Fault
from target_stairoids.ledger.ledger import Ledger
from target_stairoids.ledger.maintenance import prune
from target_stairoids.sending import record_processor
from target_stairoids.settings import Settings
from tests.support.commands import signals
from tests.support.connectors import on_both_connectors
from tests.support.ledger_builders import MONDAY, TUESDAY, WEDNESDAY
from tests.support.singer_io import text_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from stairoids_sandbox import Sandbox
    from tests.support.singer_io import Message, Run, TargetUnderTest

Fields = dict[str, Any]
Night = list[Fields]

LOADER = "_fivetran_synced"
ANOTHER_PERSON = "this key was already sent for another person"
SENT_IN_THIS_RUN = "this state was sent before in this run"
NEWER = "a newer state was sent"
KEYS = range(200)


def a_row(
    stage: object = "A", person: str = "ann", key: object = 1, **more: Any
) -> Fields:
    """Return a row of `deals`."""
    email = f"{person}@example.com"
    return {"key": key, "email": email, "stage": stage, **more}


def at(row: Fields, moment: str) -> Fields:
    return row | {"at": moment[1:]}


def log(number: int) -> Fields:
    return {"_sdc_lsn": number}


def messages(
    rows: Night, bookmark: str | None = None, key: str = "key"
) -> list[Message]:
    """Return a run's input: SCHEMA, records and STATE."""
    columns = {"key", "email", "stage", "domain", *(n for row in rows for n in row)}
    schema = {
        "type": "SCHEMA",
        "stream": "deals",
        "schema": {"properties": {name: {} for name in columns}},
        "key_properties": [key],
        "bookmark_properties": [bookmark] if bookmark else [],
    }
    records = [{"type": "RECORD", "stream": "deals", "record": row} for row in rows]
    return [schema, *records, {"type": "STATE", "value": {"at": 1}}]


def mapping(send: str = "on_change", **more: Any) -> Fields:
    return {
        "stream": "deals",
        "type": "deal",
        "contact": {"email": "{{ email }}"},
        "account": {"domain": "{{ domain }}"},
        "properties": ["stage"],
        "send": send,
        **more,
    }


class Nights:
    """Runs of the target on one ledger.

    Attributes:
        sent: How many signals each run sent.
    """

    def __init__(self, sandbox: Sandbox, target: TargetUnderTest) -> None:
        self._sandbox = sandbox
        self._target = target
        self.sent: list[int] = []

    def run(
        self,
        *rows: Fields,
        send: str = "on_change",
        bookmark: str | None = None,
        mapped: Fields | None = None,
    ) -> Run:
        """Run with rows as input."""
        before = len(self._sandbox.signals)
        run = self._target.run(
            *messages(list(rows), bookmark), signals=[mapped or mapping(send)]
        )
        assert (run.exit_code, run.error) == (0, "")
        assert run.report["adds_up"]
        assert len(run.states) == 1
        self.sent.append(len(self._sandbox.signals) - before)
        return run


@pytest.fixture
def nights(sandbox: Sandbox, target: TargetUnderTest) -> Nights:
    return Nights(sandbox, target)


def reasons(run: Run) -> dict[tuple[str, str], int]:
    """Return the outcomes of a run that have a reason, with their counts."""
    return {
        (found["outcome"], found["reason"]): found["count"]
        for found in run.report["reasons"]
    }


# Rows that share a key


def two_rows_per_key(**more: Any) -> Night:
    return [
        a_row(f"{person} {key}", f"{person}{key}", key, **more)
        for key in KEYS
        for person in ("ann", "bob")
    ]


def test_each_mapping_of_a_shared_key_sends_a_change_that_another_has_sent(
    target: TargetUnderTest, sandbox: Sandbox
) -> None:
    """The limit ends the second run between the two mappings."""
    mapped = [mapping(), mapping() | {"type": "other"}]
    ann, bob = a_row("A", "ann"), a_row("A", "bob")
    target.run(*messages([ann, bob]), signals=mapped[:1])

    second = target.run(*messages([ann, bob]), signals=mapped)
    changed = [ann | {"stage": "B"}, bob]
    target.run(*messages(changed), signals=mapped, max_signals_per_run=1)
    rest = target.run(*messages(changed), signals=mapped)

    assert second.outcomes == {"accepted": 2, "duplicate": 2}
    assert rest.outcomes == {"accepted": 1, "duplicate": 3}
    assert len(sandbox.signals) == 6


@pytest.mark.slow
@pytest.mark.parametrize("send", ["on_change", "once"])
@pytest.mark.parametrize(
    "change",
    [
        lambda rows, _night: rows,
        lambda rows, night: [row | {LOADER: night} for row in rows],
        lambda rows, night: rows[::-1] if night % 2 else rows,
    ],
    ids=["same each night", "a loader's column", "another order each night"],
)
def test_rows_that_share_a_key_are_each_sent_once(
    nights: Nights,
    caplog: pytest.LogCaptureFixture,
    change: Callable[[Night, int], Night],
    send: str,
) -> None:
    rows = two_rows_per_key()

    for night in range(4):
        caplog.clear()
        nights.run(*change(rows, night), send=send)
        (warning,) = [m for m in caplog.messages if "share a key" in m]
        assert warning.startswith("400 records of `deals` share a key (`key`).")

    assert nights.sent == [400, 0, 0, 0]


@pytest.mark.slow
@pytest.mark.parametrize("number", [0, 399], ids=["first row", "second row"])
def test_one_of_the_rows_that_share_a_key_changes(nights: Nights, number: int) -> None:
    rows = two_rows_per_key()
    changed = [dict(row) for row in rows]
    changed[number]["stage"] = "changed"

    for night in (rows, rows, changed, changed):
        nights.run(*night)

    assert nights.sent == [400, 0, 1, 0]


ANN, BOB, CID = a_row(), a_row("B", "bob"), a_row("C", "cid")


@on_both_connectors
@pytest.mark.parametrize("send", ["on_change", "once", "always"])
@pytest.mark.parametrize("later", [[ANN, BOB], [BOB, ANN]], ids=["after", "before"])
def test_second_row_of_a_known_key_appears_later(
    nights: Nights, later: Night, send: str
) -> None:
    for night in ([ANN], later, later, [ANN], [BOB]):
        nights.run(*night, send=send)

    assert nights.sent == [1, 1, 0, 0, 0]


@pytest.mark.parametrize("later", [[0, 1], [1, 0]], ids=["after", "before"])
def test_older_second_row_of_another_person_is_sent(
    nights: Nights, later: list[int]
) -> None:
    rows = [ANN | {"at": TUESDAY[1:]}, BOB | {"at": MONDAY[1:]}]
    night = [rows[number] for number in later]

    for rows_of_night in (rows[:1], night, night):
        nights.run(*rows_of_night, bookmark="at")

    assert nights.sent == [1, 1, 0]


@on_both_connectors
@pytest.mark.parametrize("send", ["on_change", "once", "always"])
@pytest.mark.parametrize("number", range(3))
def test_one_of_three_people_who_share_a_key_is_deleted(
    nights: Nights, number: int, send: str
) -> None:
    rows = [ANN, BOB, CID]
    left = rows[:number] + rows[number + 1 :]

    for night in (rows, left, left, rows):
        nights.run(*night, send=send)

    assert nights.sent == [3, 0, 0, 0]


def test_two_states_of_a_unique_key_are_no_reason_to_warn(
    nights: Nights, caplog: pytest.LogCaptureFixture
) -> None:
    nights.run(ANN)
    nights.run(BOB)

    assert nights.sent == [1, 1]
    assert not [m for m in caplog.messages if "share a key" in m]


# Null keys


@on_both_connectors
@pytest.mark.parametrize("send", ["on_change", "once", "always"])
@pytest.mark.parametrize("key", [None, "", " "])
@pytest.mark.parametrize("bookmark", [None, "at"])
def test_null_or_empty_key_identifies_nothing(
    nights: Nights, key: str | None, bookmark: str | None, send: str
) -> None:
    rows = [
        a_row("A", "ann", key, at=TUESDAY[1:]),
        a_row("A", "bob", key, at=MONDAY[1:]),
        a_row("A", "cid", key, at=TUESDAY[1:]),
    ]

    for night in (rows, rows[::-1], rows[1:]):
        nights.run(*night, send=send, bookmark=bookmark)

    assert nights.sent == [3, 0, 0]


@pytest.mark.slow
def test_null_keys_are_counted_in_one_warning(
    nights: Nights, caplog: pytest.LogCaptureFixture
) -> None:
    nights.run(*(a_row("A", f"u{n}", None) for n in KEYS), ANN)

    (warning,) = [m for m in caplog.messages if "null or empty key" in m]
    assert "200 records have a null or empty key (`key`)" in warning


def test_null_key_of_a_mapping_is_invalid(nights: Nights) -> None:
    run = nights.run(
        a_row("A", "ann", team=None, id=None),
        a_row("B", "bob", team="x", id=None),
        mapped=mapping(key=["team", "id"]),
    )

    assert run.outcomes == {"accepted": 1, "invalid": 1}


# People who change


@on_both_connectors
@pytest.mark.parametrize(("send", "sent"), [("on_change", 1), ("once", 0)])
def test_email_of_a_unique_key_changes(nights: Nights, send: str, sent: int) -> None:
    nights.run(ANN, send=send)
    run = nights.run(a_row("A", "anne"), send=send)
    nights.run(a_row("A", "anne"), send=send)

    assert nights.sent == [1, sent, 0]
    if send == "once":
        assert run.outcomes == {"superseded": 1}
        assert reasons(run) == {("superseded", ANOTHER_PERSON): 1}


@pytest.mark.parametrize("send", ["once", "on_change"])
def test_domain_is_filled_in_later(nights: Nights, send: str) -> None:
    with_domain = ANN | {"domain": "acme.com"}

    for night in ([ANN], [with_domain], [ANN], [with_domain]):
        nights.run(*night, send=send)

    assert nights.sent[0] == 1
    assert nights.sent[1:] == ([0, 0, 0] if send == "once" else [1, 1, 1])


# States that return

A, B, C = (a_row(stage) for stage in "ABC")
NOTE_1, NOTE_2, NOTE_3 = ({"note": number} for number in (1, 2, 3))


@on_both_connectors
@pytest.mark.parametrize(
    ("history", "sent"),
    [
        ([[A], [B], [A]], [1, 1, 1]),
        ([[A], [B], [A], [A]], [1, 1, 1, 0]),
        ([[A, B], [A, B, C], [A, B, C]], [2, 1, 0]),
        ([[A], [B], [A, B]], [1, 1, 0]),
        (
            [[A | log(1), B | log(2), A | log(3)]] * 2,
            [3, 0],
        ),
        ([[A, B, A], [A]], [2, 0]),
        ([[A | NOTE_1, B], [A | NOTE_2, C], [A | NOTE_3]], [2, 1, 0]),
        ([[a_row("A", key=1)], [a_row("A", key="1")], [a_row("A", key=1)]], [1, 0, 0]),
    ],
    ids=[
        "a state returns",
        "a state returns and stays",
        "the tap repeats its input",
        "the whole history is read again",
        "a state returns in one run, with positions in the log",
        "a state returns in one run, without order",
        "two rows, and a column that the mapping does not use changes",
        "the type of the key changes",
    ],
)
def test_states_of_one_person(
    nights: Nights, history: list[Night], sent: list[int]
) -> None:
    for night in history:
        nights.run(*night)

    assert nights.sent == sent


def test_state_that_returns_in_one_run_without_order_is_superseded(
    nights: Nights,
) -> None:
    run = nights.run(A, B, A)

    assert run.outcomes == {"accepted": 2, "superseded": 1}
    assert reasons(run) == {("superseded", SENT_IN_THIS_RUN): 1}


def test_two_rows_of_one_person_are_both_touched(nights: Nights) -> None:
    def rows(at: str) -> Night:
        return [A | {"at": at[1:]}, B | {"at": at[1:]}]

    for at in (MONDAY, TUESDAY, WEDNESDAY):
        nights.run(*rows(at), bookmark="at")

    assert nights.sent == [2, 0, 0]


@pytest.mark.parametrize(
    "history",
    [
        [[at(B, TUESDAY)], [at(B, TUESDAY), at(A, MONDAY), at(C, WEDNESDAY)]],
        [[at(B, TUESDAY), at(C, TUESDAY), at(A, MONDAY)]],
    ],
    ids=["older row before", "older row after"],
)
def test_filtered_state_clears_the_last_one_beside_an_older_row(
    nights: Nights, history: list[Night]
) -> None:
    without_c = mapping(when="{{ stage != 'C' }}")
    for night in (*history, [B | {"at": "2026-06-30T00:00:00Z"}]):
        nights.run(*night, bookmark="at", mapped=without_c)

    assert sum(nights.sent) == 3


@on_both_connectors
@pytest.mark.parametrize("send", ["on_change", "always"])
@pytest.mark.parametrize("bookmark", ["at", None])
def test_older_states_are_superseded_however_many_come_before_the_newer_one(
    nights: Nights, bookmark: str | None, send: str
) -> None:
    rows = [a_row(stage) | log(number) for number, stage in enumerate("XAB")]
    if bookmark:
        days = (MONDAY, TUESDAY, WEDNESDAY)
        rows = [at(a_row(stage), day) for stage, day in zip("XAB", days, strict=True)]

    for night in (rows[2:], rows, rows, rows[:2]):
        run = nights.run(*night, bookmark=bookmark, send=send)

    assert nights.sent == [1, 0, 0, 0]
    assert run.outcomes == {"superseded": 2}


def test_late_row_with_a_new_key_and_an_older_bookmark_value_is_sent(
    nights: Nights,
) -> None:
    nights.run(A | {"at": TUESDAY[1:]}, bookmark="at")
    nights.run(a_row("A", key=2, at=MONDAY[1:]), bookmark="at")

    assert nights.sent == [1, 1]


def test_null_counts_as_missing(nights: Nights) -> None:
    for row in (A, A | {"note": None}, A, A | {"note": 1}, A | {"note": None}):
        nights.run(row, send="always")

    assert nights.sent == [1, 0, 0, 1, 1]


@pytest.mark.parametrize("send", ["on_change", "always"])
@pytest.mark.parametrize(
    "row",
    [
        a_row,
        lambda time: a_row("A", key=time),
        lambda time: a_row([{"since": time}]),
    ],
    ids=["property", "key", "list"],
)
@on_both_connectors
def test_another_spelling_of_a_time_is_no_change(
    nights: Nights, send: str, row: Callable[[str], Fields]
) -> None:
    """Another version of a connector, or a cache, writes times in another way."""
    times = ["10Z", "10.000Z", "10+00:00", "10", "10.000001Z"]
    for time in times:
        nights.run(row(f"2026-02-03T11:53:{time}"), send=send)
    nights.run(row("2026-02-03 13:53:10.000001+02"), send=send)

    assert nights.sent == [1, 0, 0, 0, 1, 0]


@pytest.mark.slow
def test_mapping_gains_a_property(nights: Nights) -> None:
    nights.run(*(a_row("A", f"u{key}", key, plan=None) for key in KEYS))
    rows = [a_row("A", f"u{key}", key, plan="pro") for key in KEYS]
    nights.run(*rows)

    nights.run(*rows, mapped=mapping(properties=["stage", "plan"]))

    assert nights.sent == [200, 0, 0]


# Cases that the input cannot distinguish


def superseded(reason: str) -> tuple[str, str]:
    return "superseded", reason


ANN_OF_A = ANN | {"domain": "a.com"}
UNKNOWABLE: dict[str, tuple[str, list[Night], tuple[str, str] | None]] = {
    "A, B, A in one run": ("on_change", [[A, B, A]], superseded(SENT_IN_THIS_RUN)),
    "A, B in one run, A alone later": (
        "on_change", [[A, B], [A]], ("duplicate", "")),
    "an older row before the newer one": (
        "on_change",
        [[at(A, TUESDAY)], [at(B, MONDAY), at(A, TUESDAY)]],
        superseded(NEWER)),
    "another person with `once`, alone": (
        "once", [[ANN], [BOB]], superseded(ANOTHER_PERSON)),
    "a history that is read again with one more state": (
        "on_change",
        [[at(A, MONDAY), at(B, TUESDAY)],
         [at(A, MONDAY), at(B, TUESDAY), at(A, WEDNESDAY)]],
        ("duplicate", "")),
    "two rows of one person, one touched": (
        "on_change", [[at(A, MONDAY), at(B, TUESDAY)], [at(A, WEDNESDAY)]], None),
    "another email on a shared key, with `once`": (
        "once", [[ANN, BOB], [a_row("A", "anne"), BOB]], None),
    "no email any more on a shared key, with `once`": (
        "once", [[ANN_OF_A, BOB], [ANN_OF_A | {"email": None}, BOB]], None),
    "an email that changes and changes back": (
        "on_change", [[ANN], [a_row("A", "anne")], [ANN]], ("duplicate", "")),
    "a record without a key returns": (
        "on_change",
        [[a_row("A", key=None)], [a_row("B", key=None)], [a_row("A", key=None)]],
        ("duplicate", "")),
    "a state returns after its key had several rows": (
        "on_change", [[A], [B], [B, A], [C], [A]], ("duplicate", "")),
    "a bookmark value that moves back": (
        "on_change", [[at(A, TUESDAY)], [at(B, MONDAY)]], superseded(NEWER)),
}  # fmt: skip


@pytest.mark.parametrize(
    ("send", "history", "outcome"), UNKNOWABLE.values(), ids=UNKNOWABLE
)
def test_default_where_the_input_cannot_tell(
    nights: Nights, send: str, history: list[Night], outcome: tuple[str, str] | None
) -> None:
    """The last record is sent, or has the outcome and reason."""
    for night in history:
        has_bookmark = any("at" in row for row in night)
        run = nights.run(*night, send=send, bookmark="at" if has_bookmark else None)

    if outcome is None:
        assert nights.sent[-1] == 1
        return
    name, reason = outcome
    assert name in run.outcomes
    if reason:
        assert reasons(run) == {outcome: 1}
    if len(history) > 1:
        assert nights.sent[-1] == 0


def test_forgotten_stream_forgets_that_a_key_has_several_rows(
    nights: Nights, target: TargetUnderTest
) -> None:
    for night in ([A], [B], [B, A], [C], [A]):
        nights.run(*night)
    signals(target, "ledger", "forget", "--stream", "deals", "--yes")

    for night in ([A], [B], [A]):
        nights.run(*night)

    assert nights.sent == [1, 1, 0, 1, 0, 1, 1, 1]


@pytest.mark.parametrize(
    ("send", "history", "count"),
    [
        ("on_change", [[ANN], [ANN, BOB]], 2),
        ("on_change", [[ANN], [BOB, ANN]], 2),
        ("once", [[ANN], [ANN, BOB]], 2),
        ("once", [[ANN], [BOB, ANN]], 2),
        ("on_change", [[A], [B], [A, C]], 2),
        ("on_change", [[A, B]], 2),
        ("on_change", [[A, B, A]], 3),
        ("on_change", [[ANN, BOB, CID]], 3),
        ("on_change", [[A, B], [A, B]], 2),
        ("on_change", [[A, B], [B, A]], 2),
        ("on_change", [[A, B, C], [A, B, C]], 3),
        ("on_change", [[A, B, C], [A, C, B]], 3),
        ("on_change", [[A, B, C], [C, A, B]], 3),
        ("on_change", [[A, B], [A | NOTE_1, B | NOTE_1]], 2),
        ("on_change", [[A], [B], [A, B], [A, B]], 2),
        ("on_change", [[A, B], [A, B, B]], 2),
        ("on_change", [[A], [B], [A, B], [A, C]], 2),
        ("on_change", [[ANN, BOB], [C, BOB], [ANN, BOB, C]], 3),
        ("always", [[A, B], [A, B]], 2),
    ],
)
@pytest.mark.parametrize("block", [1, 998])
def test_each_record_that_shares_a_key_is_counted_once(
    nights: Nights,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    send: str,
    history: list[Night],
    count: int,
    block: int,
) -> None:
    monkeypatch.setattr(record_processor, "_BLOCK", block)
    for night in history:
        caplog.clear()
        nights.run(*night, send=send)

    (warning,) = [m for m in caplog.messages if "share a key" in m]
    assert warning.startswith(f"{count} records of `deals` ")


@pytest.mark.parametrize("days", [(MONDAY, MONDAY), (TUESDAY, MONDAY)])
def test_rows_with_equal_or_earlier_bookmark_values_share_a_key(
    nights: Nights, caplog: pytest.LogCaptureFixture, days: tuple[str, str]
) -> None:
    nights.run(at(A, days[0]), at(B, days[1]), bookmark="at")

    assert "2 records of `deals` share a key (`key`)." in caplog.text


@pytest.mark.parametrize(
    ("rows", "bookmark"),
    [([at(A, MONDAY), at(B, TUESDAY)], "at"), ([A | log(1), B | log(2)], None)],
)
def test_versions_of_one_row_do_not_share_a_key(
    nights: Nights, caplog: pytest.LogCaptureFixture, rows: Night, bookmark: str | None
) -> None:
    for _ in range(3):
        nights.run(*rows, bookmark=bookmark)

    assert nights.sent == [2, 0, 0]
    assert "share a key" not in caplog.text


@pytest.mark.slow
def test_rows_far_apart_share_a_key_each_night(
    nights: Nights, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(record_processor, "_BLOCK", 98)
    rows = [a_row(stage, f"u{key}", key) for stage in "AB" for key in range(100)]

    for _ in range(2):
        caplog.clear()
        nights.run(*rows)
        assert "200 records of `deals` share a key (`key`)." in caplog.text


def test_state_that_returned_is_the_last_one_also_if_it_is_too_old_to_send(
    target: TargetUnderTest, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It waits for the end of the input, and other records come before that."""
    monkeypatch.setattr(record_processor, "_BLOCK", 1)
    old = {"time": "2020-01-01T00:00:00Z"}
    mapped = [mapping(occurred_at="{{ time }}")]
    a, b = a_row("A", **old), a_row("B", **old)
    for row in (a, b):
        target.run(*messages([row]), signals=mapped)
    rows = [a, a_row("A", key=2, **old)]
    run = target.run(*messages(rows), signals=mapped, max_event_age_days=9)
    assert run.report["outcomes"]["too_old"] == 2

    target.run(*messages([b]), signals=mapped)

    assert len(sandbox.signals) == 3


def test_pruning_keeps_the_states_of_rows_that_are_still_read(
    nights: Nights, target: TargetUnderTest
) -> None:
    for night in ([A], [B], [B, A]):
        nights.run(*night)
    before = datetime.now(UTC)
    nights.run(B, A)

    settings = Settings.from_config(target.config)
    with Ledger.open(settings.ledger_url, settings.scope) as ledger:
        prune(ledger, older_than=before)
    nights.run(B, A)

    assert nights.sent == [1, 1, 0, 0, 0]


def test_rows_of_one_key_are_counted_with_the_columns_of_a_loader(
    nights: Nights, caplog: pytest.LogCaptureFixture
) -> None:
    for night in ([A], [B], [C], [C, B, A]):
        nights.run(*night)

    caplog.clear()
    nights.run(*(row | {LOADER: 1} for row in (A, B, C)))
    assert "3 records of `deals` share a key (`key`)." in caplog.text

    caplog.clear()
    nights.run(C | {LOADER: 2}, C | {LOADER: 3})
    assert "share a key" not in caplog.text
    assert nights.sent == [1, 1, 1, 0, 0, 0]


def test_company_of_one_person_on_a_shared_key_changes_and_changes_back(
    nights: Nights,
) -> None:
    for domain in ("ann.com", "acme.com", "ann.com"):
        nights.run(ANN | {"domain": domain}, BOB)

    assert nights.sent == [2, 1, 1]


def test_another_person_of_a_key_fills_in_no_domain(nights: Nights) -> None:
    nights.run(ANN, send="once")
    nights.run(BOB | {"domain": "bob.com"}, send="once")
    run = nights.run(ANN | {"domain": "ann.com"}, send="once")

    assert run.outcomes == {"duplicate": 1}


def test_person_before_a_remembered_one_fills_in_no_domain(
    nights: Nights, target: TargetUnderTest
) -> None:
    bob = BOB | {"domain": "bob.com"}
    nights.run(bob, send="once")
    once, text = [mapping("once")], text_of(messages([ANN]))
    remembered = signals(target, "ledger", "baseline", text=text, signals=once)
    nights.run(bob, send="once")
    run = nights.run(ANN | {"domain": "ann.com"}, send="once")

    assert "1 baselined" in remembered.stderr
    assert run.outcomes == {"duplicate": 1}


def test_older_state_that_is_read_again_fills_in_no_domain(nights: Nights) -> None:
    domains = ["ann.com", None, "ann.com", "acme.com"]
    numbers = [1, 2, 1, 3]
    for domain, number in zip(domains, numbers, strict=True):
        nights.run(ANN | {"domain": domain} | log(number))
    nights.run(ANN | {"email": None, "domain": "acme.com"} | log(4))
    nights.run(ANN | {"domain": "acme.com"} | log(5))

    assert nights.sent == [1, 1, 0, 1, 1, 1]


@pytest.mark.parametrize("email", ["bob@example.com", None])
def test_rejected_state_fills_in_no_domain(
    nights: Nights, sandbox: Sandbox, target: TargetUnderTest, email: str | None
) -> None:
    once = [mapping("once")]
    wrong = messages([BOB | {"email": email, "domain": "wrong.com"}])
    sandbox.faults.set([Fault(kind="status", status=422, containing="wrong.com")])
    rejected = target.run(*wrong, signals=once)
    nights.run(ANN, send="once")
    again = target.run(*wrong, signals=once)
    run = nights.run(ANN | {"domain": "ann.com"}, send="once")

    assert (rejected.outcomes, again.outcomes) == ({"rejected": 1}, {"duplicate": 1})
    assert run.outcomes == {"duplicate": 1}


def test_later_state_is_sent_with_once_if_stairoids_rejects_the_first_one(
    nights: Nights, sandbox: Sandbox, caplog: pytest.LogCaptureFixture
) -> None:
    sandbox.faults.set([Fault(kind="status", status=422, containing='"stage":"A"')])
    rows = [a_row(stage) for stage in ("A", "B", "C")]

    first = nights.run(*rows, send="once")
    again = nights.run(*rows, send="once")
    accepted = nights.run(*[a_row(stage, key=2) for stage in "BC"], send="once")

    assert first.outcomes == {"rejected": 1, "accepted": 1, "duplicate": 1}
    assert again.outcomes == {"duplicate": 3}
    assert accepted.outcomes == {"accepted": 1, "duplicate": 1}
    assert nights.sent == [1, 0, 1]
    assert "share a key" not in caplog.text


@pytest.mark.parametrize("accepted", ["C", "D", ""])
def test_first_state_that_stairoids_accepts_is_sent_with_once(
    nights: Nights, sandbox: Sandbox, accepted: str
) -> None:
    wrong = [stage for stage in "ABCD" if stage != accepted]
    sandbox.faults.set(
        [Fault(kind="status", status=422, containing=f'"stage":"{s}"') for s in wrong]
    )
    rows = [a_row(stage) for stage in "AABABCD"]

    first = nights.run(*rows, send="once")
    again = nights.run(*rows, send="once")

    assert first.outcomes["rejected"] == "ABCD".index(accepted) if accepted else 4
    assert first.outcomes.get("accepted", 0) == len(accepted)
    assert again.outcomes == {"duplicate": 7}
    assert nights.sent == [len(accepted), 0]


@pytest.mark.parametrize("send", ["on_change", "once", "always"])
@pytest.mark.parametrize(
    "other", [[], [a_row("A", "bob")]], ids=["one person", "shared key"]
)
def test_older_state_is_sent_after_a_rejected_one_that_was_read_again(
    nights: Nights, sandbox: Sandbox, send: str, other: Night
) -> None:
    wrong = Fault(kind="status", status=422, containing='"stage":"A"')
    sandbox.faults.set([wrong])
    newer = [at(row, WEDNESDAY) for row in [ANN, *other]]
    nights.run(*newer, send=send, bookmark="at")
    nights.run(*newer, send=send, bookmark="at")
    nights.run(at(ANN | {"stage": "B"}, MONDAY), send=send, bookmark="at")

    assert nights.sent == [0, 0, 1]


@pytest.mark.parametrize(
    ("wrong", "first", "second"),
    [
        (
            "none",
            {"accepted": 1, "duplicate": 2, "pending": 1},
            {"accepted": 1, "duplicate": 3},
        ),
        ("A", {"rejected": 1, "pending": 3}, {"accepted": 2, "duplicate": 2}),
    ],
)
def test_states_behind_a_signal_with_once_count_towards_the_limit_if_they_are_sent(
    sandbox: Sandbox,
    target: TargetUnderTest,
    wrong: str,
    first: dict[str, int],
    second: dict[str, int],
) -> None:
    fault = Fault(kind="status", status=422, containing=f'"stage":"{wrong}"')
    sandbox.faults.set([fault])
    rows = messages([A, B, C, a_row("B", key=2)])

    run = target.run(*rows, signals=[mapping("once")], max_signals_per_run=1)
    rest = target.run(*rows, signals=[mapping("once")])

    assert (run.outcomes, run.exit_code) == (first, 75)
    assert rest.outcomes == second


@pytest.mark.parametrize("between", [{"email": None}, {"email": None, "domain": None}])
def test_other_person_behind_a_state_without_an_address_is_sent_with_once(
    nights: Nights, sandbox: Sandbox, between: Fields
) -> None:
    """Stairoids answers the first signal after all three rows are read."""
    sandbox.faults.set([Fault(kind="slow", delay_ms=300, count=1)])
    ann, bob = ANN | {"domain": "corp.com"}, BOB | {"domain": "corp.com"}
    rows = [ann, ann | {"stage": "B"} | between, bob]

    nights.run(*rows, send="once")

    assert nights.sent == [2]


def test_rows_of_one_person_without_a_key_share_none(
    nights: Nights, caplog: pytest.LogCaptureFixture
) -> None:
    nights.run(a_row("A", key=None), a_row("B", key=None), send="once")

    assert nights.sent == [1]
    assert "2 records have a null or empty key" in caplog.text
    assert "share a key" not in caplog.text


@pytest.fixture
def rejected(sandbox: Sandbox, target: TargetUnderTest) -> None:
    """A run whose only signal was rejected."""
    sandbox.faults.set([Fault(kind="status", status=422)])
    run = target.run(*messages([ANN]), signals=[mapping()])
    assert run.outcomes == {"rejected": 1}
    sandbox.faults.set([])


@pytest.mark.usefixtures("rejected")
def test_rejected_state_that_waits_under_a_new_mapping_is_not_lost(
    sandbox: Sandbox, target: TargetUnderTest
) -> None:
    changed, rows = [mapping(properties=["stage", "key"])], [a_row(key=2), ANN]

    waits = target.run(*messages(rows), signals=changed, max_signals_per_run=1)
    sent = target.run(*messages(rows), signals=changed)

    assert waits.outcomes == {"accepted": 1, "pending": 1}
    assert sent.outcomes == {"duplicate": 1, "accepted": 1}
    assert len(sandbox.signals) == 2


@pytest.mark.usefixtures("rejected")
def test_another_person_follows_a_rejected_one_that_waits(
    target: TargetUnderTest,
) -> None:
    once = [mapping("once", properties=["stage", "key"])]

    target.run(*messages([a_row(key=2), ANN]), signals=once, max_signals_per_run=1)
    run = target.run(*messages([BOB]), signals=once)

    assert run.outcomes == {"accepted": 1}


@pytest.mark.usefixtures("rejected")
def test_rejected_state_is_sent_again_by_a_person_only(
    sandbox: Sandbox, target: TargetUnderTest
) -> None:
    again = target.run(*messages([ANN]), signals=[mapping()])
    target.config["signals"] = [mapping()]
    replayed = signals(target, "dead-letters", "replay")

    assert again.outcomes == {"duplicate": 1}
    assert replayed.returncode == 0
    assert len(sandbox.signals) == 1


@pytest.mark.parametrize("send", ["on_change", "once", "always"])
def test_mapping_that_names_no_person_any_more_sends_nothing_again(
    nights: Nights, send: str
) -> None:
    by_name = mapping(send, contact=None, account={"name": "{{ stage }}"})
    nights.run(ANN, send=send)
    nights.run(ANN, BOB, send=send)

    nights.run(ANN, mapped=by_name)
    nights.run(ANN | {LOADER: 1}, mapped=by_name)

    assert nights.sent == [1, 1, 0, 0]


def test_dry_run_says_why_a_signal_is_new(
    nights: Nights, sandbox: Sandbox, target: TargetUnderTest
) -> None:
    sandbox.faults.set([Fault(kind="status", status=422, containing="eve@")])
    nights.run(ANN, a_row("A", "eve", key=4))
    later = [a_row("C"), BOB, a_row("C", "dan", key=3), a_row("D", "eve", key=4)]
    run = target.run(*messages(later), signals=[mapping()], dry_run=True)

    assert {reason for _, reason in reasons(run)} == {
        "its content changed",
        "another person has its key",
        "new",
        "was rejected before",
    }


def test_excluded_row_of_another_person_does_not_clear_the_last_state(
    nights: Nights,
) -> None:
    only_wins = mapping(when="{{ stage != 'B' }}")

    for night in ([ANN], [BOB], [ANN]):
        nights.run(*night, mapped=only_wins)

    assert nights.sent == [1, 0, 0]


LOST = a_row("lost")


@pytest.mark.parametrize("block", [1, 998])
@pytest.mark.parametrize(
    ("history", "sent"),
    [
        ([[at(A, MONDAY)], [at(B, TUESDAY)], [at(LOST, MONDAY), at(A, WEDNESDAY)]],
         [1, 1, 0]),
        ([[at(A, TUESDAY)], [at(LOST, MONDAY)], [at(A, WEDNESDAY)]], [1, 0, 0]),
        ([[at(A, MONDAY)], [at(LOST, WEDNESDAY)], [at(B, TUESDAY)]], [1, 0, 0]),
        ([[at(A, TUESDAY)], [LOST], [at(B, MONDAY)]], [1, 0, 0]),
        ([[A], [A, LOST], [A]], [1, 0, 0]),
        ([[A], [LOST], [A]], [1, 0, 1]),
        ([[at(A, MONDAY)], [at(A, WEDNESDAY)], [at(B, TUESDAY)]], [1, 0, 0]),
        ([[at(A, MONDAY)], [at(A, WEDNESDAY)] * 2, [at(B, TUESDAY)]], [1, 0, 0]),
        ([[B | log(1), B | log(4), A | log(3)]] * 2, [2, 0]),
        ([[ANN], [ANN, BOB, C], [ANN, BOB]], [1, 2, 0]),
        ([[ANN, BOB], [ANN, BOB, C], [ANN, BOB]], [2, 1, 0]),
    ],
)  # fmt: skip
def test_states_beside_excluded_and_touched_ones(
    nights: Nights,
    monkeypatch: pytest.MonkeyPatch,
    history: list[Night],
    sent: list[int],
    block: int,
) -> None:
    monkeypatch.setattr(record_processor, "_BLOCK", block)
    has_bookmark = any("at" in row for night in history for row in night)
    for night in history:
        nights.run(
            *night,
            bookmark="at" if has_bookmark else None,
            mapped=mapping(when="{{ stage != 'lost' }}"),
        )

    assert nights.sent == sent


def test_row_of_a_key_with_several_rows_returns_after_its_deletion_in_the_log(
    nights: Nights,
) -> None:
    deleted = B | log(4) | {"_sdc_deleted_at": "2026-01-01"}
    for night in ([A], [B], [A, B], [deleted], [B | log(5)]):
        nights.run(*night, mapped={"stream": "deals", "type": "deal"})

    assert nights.sent == [1, 1, 0, 0, 1]


def test_deleted_rows_that_return_with_other_keys_are_sent(nights: Nights) -> None:
    for first, mark in ((0, None), (0, "2026-01-01"), (10, None)):
        rows = [a_row("A", f"u{n}", first + n, deleted_at=mark) for n in range(6)]
        nights.run(*rows, mapped={"stream": "deals", "type": "deal"})

    assert nights.sent == [6, 0, 6]


def test_domain_that_is_filled_in_later_identifies_the_person(nights: Nights) -> None:
    other = a_row("B") | {"email": None, "domain": "birch.com"}
    for row in (ANN, ANN | {"domain": "acme.com"}, other):
        run = nights.run(row, send="once")

    assert reasons(run) == {("superseded", ANOTHER_PERSON): 1}


@pytest.mark.parametrize("send", ["on_change", "once", "always"])
@pytest.mark.parametrize("nights_before", [0, 1])
def test_excluded_row_of_another_person_in_the_first_night_clears_nothing(
    nights: Nights, send: str, nights_before: int
) -> None:
    only_wins = mapping(send, when="{{ stage != 'B' }}")
    for _ in range(nights_before):
        nights.run(at(BOB, MONDAY), bookmark="at", mapped=only_wins)
    nights.run(at(ANN, MONDAY), at(BOB, MONDAY), bookmark="at", mapped=only_wins)

    nights.run(at(ANN, TUESDAY), bookmark="at", mapped=only_wins)

    assert nights.sent[nights_before:] == [1, send == "always"]


# Marks of deletion


@pytest.mark.parametrize(
    ("column", "mark"),
    [
        ("is_deleted", True),
        ("_fivetran_deleted", True),
        ("deleted_at", "2026-01-01"),
        ("_sdc_deleted_at", "2026-01-01"),
        ("_ab_cdc_deleted_at", "2026-01-01"),
    ],
)
def test_row_that_is_deleted_and_returns_is_sent_again_by_any_mark(
    nights: Nights, column: str, *, mark: str | bool
) -> None:
    inferred = {"stream": "deals", "type": "deal"}
    for value in (None, mark, None, None, mark, mark):
        nights.run({**a_row(), column: value}, mapped=inferred)

    assert nights.sent == [1, 0, 1, 0, 0, 0]


@pytest.mark.parametrize("column", ["is_deleted", "_sdc_deleted_at"])
def test_many_rows_that_were_deleted_and_return_are_a_bulk_change(
    target: TargetUnderTest, column: str
) -> None:
    def run(mark: str | None) -> Run:
        rows = [a_row("A", f"u{n}", n, **{column: mark}) for n in range(60)]
        return target.run(*messages(rows), signals=[{"stream": "deals"}])

    assert [run(mark).exit_code for mark in (None, "2026-01-01", None)] == [0, 0, 1]


def test_warning_of_null_keys_names_the_null_columns(
    target: TargetUnderTest, caplog: pytest.LogCaptureFixture
) -> None:
    schema, row, state = messages([a_row(key=None, org="acme")])
    target.run(schema | {"key_properties": ["key", "org"]}, row, state)

    assert "1 record has a null or empty key (`key`)." in caplog.text


def test_filtered_state_clears_the_one_before_in_an_input_without_state(
    sandbox: Sandbox, target: TargetUnderTest
) -> None:
    won = mapping(when="stage == 'won'")
    night = [at(a_row("won"), MONDAY), at(a_row("lost"), TUESDAY)]

    for rows in (night, [at(a_row("won"), WEDNESDAY)]):
        target.run(*messages(rows, "at")[:-1], signals=[won])

    assert len(sandbox.signals) == 2


@pytest.mark.parametrize("email", ["ann@exa..mple.com", "ann at example.com"])
def test_filtered_state_with_an_unreadable_address_is_not_about_another_person(
    nights: Nights, email: str
) -> None:
    won = mapping(when="stage == 'won'")
    for row in (a_row("won"), a_row("lost") | {"email": email}, a_row("won")):
        nights.run(row, mapped=won)

    assert nights.sent == [1, 0, 1]
