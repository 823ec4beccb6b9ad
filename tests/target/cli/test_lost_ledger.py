"""A lost ledger: `ledger rebuild`, `reconcile` and `find`."""

from __future__ import annotations

import json
import re
import shutil
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from stairoids_sandbox import Fault, Sandbox
from target_stairoids.checks import first_run
from target_stairoids.dry_run import reconcile
from tests.support.commands import signals as command
from tests.support.raw_server import ListServer, running
from tests.support.sandbox_client import Client
from tests.support.singer_io import (
    Message,
    TargetUnderTest,
    a_record,
    a_schema,
    a_state,
    text_of,
)

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

pytestmark = pytest.mark.slow

A_SCHEMA = a_schema(plan="string", score="number")


@pytest.fixture(autouse=True)
def guarded(target: TargetUnderTest) -> None:
    target.config["first_run"] = "guard"


def lose_ledger(target: TargetUnderTest) -> None:
    for path in target.folder.glob("ledger.db*"):
        path.unlink()


def rebuild(
    target: TargetUnderTest,
    *messages: Message,
    words: Iterable[str] = (),
    **config: Any,
) -> tuple[int, int, int]:
    """Rebuild the ledger; return how many were found, not there, and ambiguous."""
    text = text_of(messages)
    done = command(target, "ledger", "rebuild", *words, text=text, **config)
    assert done.returncode == 0, done.stderr
    found = dict(line.split(":", 1) for line in done.stdout.splitlines()[:4])
    counts = [int(text.split()[0].replace(",", "")) for text in found.values()]
    assert list(found) == ["found there", "not there", "ambiguous", "unexplained"]
    return counts[0], counts[1], counts[2]


def trials(*numbers: int, **fields: Any) -> list[Message]:
    """Return records of companies with a name of their own."""
    return [a_record(n, email=f"u@firm{n}.com", plan="a", **fields) for n in numbers]


def test_run_after_a_rebuild_sends_the_missing_signals_only(
    sandbox: Sandbox, target: TargetUnderTest
) -> None:
    target.run(A_SCHEMA, *trials(*range(205)))
    lose_ledger(target)
    messages = [A_SCHEMA, *trials(*range(208)), a_state()]

    lost = target.run(*messages)
    counts = rebuild(target, *messages)
    run = target.run(*messages)
    again = target.run(*messages)

    assert (lost.exit_code, lost.outcomes) == (1, {"pending": 208})
    assert (
        "`stairoids-signals ledger rebuild MESSAGES --config config.json`" in lost.error
    )
    assert counts == (205, 3, 0)
    assert (run.exit_code, run.outcomes) == (0, {"duplicate": 205, "accepted": 3})
    assert (again.exit_code, again.outcomes) == (0, {"duplicate": 208})
    assert len(sandbox.signals) == 208


def test_rebuild_sends_nothing_and_emits_no_state(
    sandbox: Sandbox, target: TargetUnderTest
) -> None:
    messages = [A_SCHEMA, *trials(1, 2), a_state()]

    done = command(target, "ledger", "rebuild", text=text_of(messages))

    assert done.returncode == 0
    assert done.stdout.splitlines() == [
        "found there: 0",
        "not there: 2 (the next run sends them)",
        "ambiguous: 0 (similar to a signal there, never sent)",
        "unexplained: 0 (there, and in no message)",
    ]
    assert len(sandbox.signals) == 0
    assert target.run(*messages).outcomes == {"accepted": 2}


def test_dry_run_of_a_rebuild_writes_nothing(
    sandbox: Sandbox, target: TargetUnderTest
) -> None:
    messages = [A_SCHEMA, *trials(1, 2)]
    target.run(*messages)
    lose_ledger(target)

    counts = rebuild(target, *messages, words=["--dry-run"])

    assert counts == (2, 0, 0)
    assert not (target.folder / "ledger.db").exists()
    assert target.run(*messages).outcomes == {"pending": 2}
    assert rebuild(target, *messages, words=["--dry-run"]) == (2, 0, 0)
    assert rebuild(target, *messages) == (2, 0, 0)
    assert target.run(*messages).outcomes == {"duplicate": 2}
    assert len(sandbox.signals) == 2


@pytest.mark.parametrize(
    ("before", "unexplained"),
    [(trials(*range(50)), 50), (trials(*range(100)), 20)],
    ids=["half of the records", "the records of an earlier run"],
)
def test_rebuild_from_too_few_or_older_records_writes_nothing(
    sandbox: Sandbox,
    target: TargetUnderTest,
    before: list[Message],
    unexplained: int,
) -> None:
    all_of_them = trials(*range(100))
    target.run(A_SCHEMA, *all_of_them)
    if unexplained == 20:
        all_of_them = [*trials(*range(10), score=2), *trials(*range(10, 110))]
        target.run(A_SCHEMA, *all_of_them)
    sent = len(sandbox.signals)
    lose_ledger(target)

    done = command(target, "ledger", "rebuild", text=text_of([A_SCHEMA, *before]))
    run = target.run(A_SCHEMA, *all_of_them)

    assert done.returncode == 1
    assert f"unexplained: {unexplained} " in done.stdout
    assert "Nothing was written. Stairoids has signals that MESSAGES" in done.stderr
    assert run.exit_code == 1
    assert len(sandbox.signals) == sent
    words = ["ledger", "rebuild", "--incomplete"]
    done = command(target, *words, text=text_of([A_SCHEMA, *before]))
    assert done.returncode == 0


def test_old_copy_gets_the_signals_that_it_lacks(
    sandbox: Sandbox, target: TargetUnderTest
) -> None:
    ledger, copy = target.folder / "ledger.db", target.folder / "copy.db"
    target.run(A_SCHEMA, *trials(*range(100)))
    shutil.copy(ledger, copy)
    changed = trials(*range(100), score=2)
    target.run(
        A_SCHEMA,
        *changed,
        *trials(100),
        signals=[{"stream": "trials", "bulk_changes": "expected"}],
    )
    lose_ledger(target)
    shutil.copy(copy, ledger)

    counts = rebuild(target, A_SCHEMA, *changed, *trials(100, 101))
    run = target.run(A_SCHEMA, *changed, *trials(100, 101))

    assert counts == (101, 1, 0)
    assert run.outcomes == {"duplicate": 101, "accepted": 1}
    assert len(sandbox.signals) == 202


def test_rebuild_from_known_records_says_that_it_compared_nothing(
    target: TargetUnderTest,
) -> None:
    """The old copy lacks the signal of 2, and the run stays held back."""
    target.run(A_SCHEMA, *trials(1))
    shutil.copy(target.folder / "ledger.db", target.folder / "copy.db")
    target.run(A_SCHEMA, *trials(2))
    lose_ledger(target)
    (target.folder / "copy.db").rename(target.folder / "ledger.db")
    messages = [A_SCHEMA, *trials(1)]

    done = command(target, "ledger", "rebuild", text=text_of(messages))

    assert done.returncode == 0
    assert "no signals were compared" in done.stdout.splitlines()[-1]
    assert rebuild(target, *messages, *trials(2)) == (1, 0, 0)


def test_changed_record_is_not_there_and_is_sent(
    sandbox: Sandbox, target: TargetUnderTest
) -> None:
    target.run(A_SCHEMA, *trials(1, 2))
    lose_ledger(target)
    changed = [A_SCHEMA, *trials(1), a_record(2, email="u@firm2.com", plan="b")]

    assert rebuild(target, *changed) == (1, 1, 0)
    assert target.run(*changed).outcomes == {"duplicate": 1, "accepted": 1}
    assert sandbox.signals[-1].body["properties"]["plan"] == "b"


@pytest.mark.parametrize(
    "mapping",
    [
        {"send": "once"},  # any earlier state of the person's signal
        {"properties": ["plan", "id", "score"]},  # the mapping has one more property
    ],
    ids=["once", "more properties"],
)
def test_similar_signal_is_a_dead_letter_and_is_not_sent(
    sandbox: Sandbox, target: TargetUnderTest, mapping: dict[str, Any]
) -> None:
    before = {"stream": "trials", "properties": ["plan"]}
    target.run(A_SCHEMA, *trials(1), signals=[before])
    lose_ledger(target)
    target.config["signals"] = [{**before, **mapping}]
    plan = "b" if "send" in mapping else "a"
    messages = [A_SCHEMA, a_record(1, email="u@firm1.com", plan=plan, score=3)]

    counts = rebuild(target, *messages)
    run = target.run(*messages)
    listed = command(target, "dead-letters", "list")

    assert counts == (0, 0, 1)
    assert (run.exit_code, run.outcomes) == (0, {"duplicate": 1})
    assert "Stairoids has a similar signal, which may be this one" in listed.stdout
    assert len(sandbox.signals) == 1


@pytest.mark.parametrize(
    ("properties", "counts"),
    [("*", (1, 0, 0)), (["plan", "seen"], (0, 0, 1))],
    ids=["with its key", "without its key"],
)
def test_touched_record_is_found_by_its_key_only(
    sandbox: Sandbox,
    target: TargetUnderTest,
    properties: object,
    counts: tuple[int, ...],
) -> None:
    """Its content is the one that was sent, although its bookmark has moved."""
    target.config["signals"] = [{"stream": "trials", "properties": properties}]
    schema = a_schema(
        plan="string", seen="string", updated_at="string", bookmark="seen"
    )
    fields = {"email": "a@firm.com", "plan": "a", "seen": "2026-01-01"}
    target.run(schema, a_record(1, **fields, updated_at="2026-01-01"))
    lose_ledger(target)
    touched = a_record(1, **{**fields, "seen": "2026-01-02"}, updated_at="2026-01-02")

    found = rebuild(target, schema, touched)
    run = target.run(schema, touched)

    assert (found, run.outcomes) == (counts, {"duplicate": 1})
    assert len(sandbox.signals) == 1


def test_signal_that_is_not_there_is_sent_though_its_record_was_touched(
    target: TargetUnderTest,
) -> None:
    target.config["signals"] = [{"stream": "trials", "ignore_changes": ["score"]}]
    messages = [A_SCHEMA, *trials(1, score=1), *trials(1, score=2)]

    counts = rebuild(target, *messages)
    run = target.run(*messages)

    assert counts == (0, 1, 0)
    assert run.outcomes == {"accepted": 1, "unchanged": 1}


def test_each_signal_there_is_found_once(
    sandbox: Sandbox, target: TargetUnderTest
) -> None:
    visits = {"stream": "visits", "properties": ["plan"]}
    schema = a_schema("visits", plan="string")
    same = [a_record(n, "visits", email="a@firm.com", plan="p") for n in range(5)]
    target.run(schema, *same[:3], signals=[visits])
    lose_ledger(target)

    target.config["signals"] = [visits]
    assert len(sandbox.signals) == 3
    assert rebuild(target, schema, *same) == (3, 2, 0)
    assert target.run(schema, *same).outcomes == {"duplicate": 3, "accepted": 2}


def test_claim_of_a_killed_run_stays_for_the_next_run(
    sandbox: Sandbox, target: TargetUnderTest
) -> None:
    sandbox.faults.add(Fault(kind="drop_after_accept", count=1))
    killed = target.run(A_SCHEMA, *trials(1), outage_seconds=0)

    counts = rebuild(target, A_SCHEMA, *trials(1, 2))
    run = target.run(A_SCHEMA, *trials(1, 2))

    assert (killed.exit_code, killed.outcomes) == (75, {"pending": 1})
    assert counts == (1, 1, 0)
    assert (run.exit_code, run.outcomes) == (0, {"duplicate": 1, "accepted": 1})
    assert len(sandbox.signals) == 2


def test_rebuild_leaves_the_claim_of_another_state(
    sandbox: Sandbox, target: TargetUnderTest
) -> None:
    before, after = (a_record(1, plan=plan) for plan in ("a", "b"))
    target.config |= {"first_run": "send", "request_timeout_seconds": 1}
    target.run(A_SCHEMA, before)
    lose_ledger(target)
    sandbox.faults.add(Fault(kind="drop_after_accept", count=1))
    killed = target.run(A_SCHEMA, after, outage_seconds=0)

    counts = rebuild(target, A_SCHEMA, before, words=["--incomplete"])
    run = target.run(A_SCHEMA, after, *trials(2))

    assert (killed.exit_code, killed.outcomes) == (75, {"pending": 1})
    assert counts[0] == 1
    assert (run.exit_code, run.outcomes) == (0, {"duplicate": 1, "accepted": 1})
    assert len(sandbox.signals) == 3


@pytest.mark.parametrize("status", [403, 404])
def test_rebuild_stops_if_the_key_may_not_read(
    sandbox: Sandbox, target: TargetUnderTest, status: int
) -> None:
    messages = [A_SCHEMA, *trials(1)]
    target.run(*messages)
    sandbox.faults.add(Fault(kind="status", status=status, on="read"))

    done = command(target, "ledger", "rebuild", text=text_of([*messages, *trials(2)]))

    assert done.returncode == 1
    assert "The API key may not read" in done.stderr
    assert len(sandbox.signals) == 1


def test_rebuild_stops_at_html_and_survives_failed_pages(
    sandbox: Sandbox, target: TargetUnderTest
) -> None:
    messages = [A_SCHEMA, *trials(1)]
    target.run(*messages)
    lose_ledger(target)

    sandbox.faults.add(Fault(kind="html", on="read", count=1))
    refused = command(target, "ledger", "rebuild", text=text_of(messages))
    sandbox.faults.add(Fault(kind="status", status=500, on="read", count=1))
    counts = rebuild(target, *messages)

    assert refused.returncode == 1
    assert "does not look like the Stairoids API" in refused.stderr
    assert counts == (1, 0, 0)


def test_pages_that_repeat_under_new_cursors_are_no_list(tmp_path: Path) -> None:
    messages = [A_SCHEMA, *trials(1, 2)]
    server = ListServer(is_endless=True)
    with running(server):
        target = TargetUnderTest(tmp_path, server.url)
        target.run(*messages)
        compared = command(target, "reconcile", "--days", "7")
        lose_ledger(target)
        rebuilt = command(target, "ledger", "rebuild", text=text_of(messages))

    for done in compared, rebuilt:
        assert done.returncode == 75
        assert "its pages repeat" in done.stderr


def test_rebuild_reads_on_behind_empty_pages(tmp_path: Path) -> None:
    messages = [A_SCHEMA, *trials(1, 2, 3, 4)]
    server = ListServer(gaps=2)
    with running(server):
        target = TargetUnderTest(tmp_path, server.url)
        target.run(*messages)
        compared = command(target, "reconcile", "--days", "7")
        lose_ledger(target)
        counts = rebuild(target, *messages)
        target.run(*messages, first_run="guard")

    assert compared.returncode == 0, compared.stderr
    assert counts == (4, 0, 0)
    assert len(server.signals) == 4


# reconcile


@pytest.fixture
def without_margin(monkeypatch: pytest.MonkeyPatch) -> None:
    """Compare the signals of the last minute as well."""
    monkeypatch.setattr(reconcile, "_YOUNG", timedelta(minutes=-1))


def reconciled(target: TargetUnderTest) -> tuple[int, dict[str, Any]]:
    done = command(target, "reconcile", "--days", "7", "--format", "json")
    return done.returncode, json.loads(done.stdout)


def test_reconcile_leaves_the_last_minute_out_and_says_so(
    target: TargetUnderTest,
) -> None:
    target.run(A_SCHEMA, *trials(1))

    done = command(target, "reconcile", "--days", "1")

    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[1].startswith("until 2")
    assert done.stdout.splitlines()[1].endswith("(the last minute is left out)")
    assert done.stdout.splitlines()[2] == "in the ledger: 0"


@pytest.mark.parametrize(
    "words", [["reconcile"], ["ledger", "stats"], ["report"], ["dead-letters", "list"]]
)
def test_settings_of_another_scope_than_the_ledgers_are_named(
    target: TargetUnderTest, words: list[str]
) -> None:
    target.run(a_schema(), a_record(1))

    own = command(target, *words)
    target.config["namespace"] = "eu"
    other = command(target, *words)

    assert "The ledger has nothing of" not in own.stderr
    assert (
        f"has nothing of `{target.config['api_url'][:-3]} eu`. It has" in other.stderr
    )
    assert "Compare `api_url` and `namespace`" in other.stderr


@pytest.mark.parametrize("seconds", [86_400, 10**400])
def test_reconcile_does_not_wait_for_the_quota_of_another_day(
    sandbox: Sandbox, target: TargetUnderTest, seconds: int
) -> None:
    target.run(A_SCHEMA, *trials(1))
    spent = Fault(kind="status", status=429, on="read", retry_after=seconds)
    sandbox.faults.set([spent])

    done = command(target, "reconcile", "--days", "1")

    assert done.returncode == 75
    assert "cannot be read: 429" in done.stderr


@pytest.mark.usefixtures("without_margin")
def test_equal_sides_reconcile_over_all_pages(target: TargetUnderTest) -> None:
    target.run(A_SCHEMA, *trials(*range(405)))

    code, found = reconciled(target)
    table = command(target, "reconcile", "--days", "1")

    assert (code, found["in_ledger"], found["there"]) == (0, 405, 405)
    assert table.stdout.splitlines()[2:] == [
        "in the ledger: 405",
        "at Stairoids: 405",
        "missing there: 0",
        "unknown here: 0",
    ]


@pytest.mark.usefixtures("without_margin")
def test_signal_of_a_state_that_returned_reconciles(target: TargetUnderTest) -> None:
    for plan in ("a", "b", "a"):
        target.run(A_SCHEMA, a_record(1, plan=plan))

    code, found = reconciled(target)

    assert (code, found["in_ledger"], found["there"]) == (0, 3, 3)


@pytest.mark.usefixtures("without_margin")
def test_signal_of_a_forgotten_stream_is_known_in_another_namespace(
    target: TargetUnderTest,
) -> None:
    target.run(A_SCHEMA, *trials(1, 2), namespace="us")
    target.run(A_SCHEMA, *trials(3), namespace="eu")
    command(target, "ledger", "forget", "--stream", "trials", "--yes", namespace="eu")

    done = command(target, "reconcile", "--format", "json", namespace="us")

    found = json.loads(done.stdout)
    assert (done.returncode, found["there"], found["unknown"]) == (0, 3, [])


@pytest.mark.usefixtures("without_margin")
def test_unknown_signal_of_a_known_type_is_listed(
    sandbox: Sandbox, target: TargetUnderTest
) -> None:
    target.run(A_SCHEMA, *trials(1, 2))
    with Client(sandbox) as client:
        client.send(type="trials", source="singer")
        client.send(type="other", source="singer")

    code, found = reconciled(target)
    command(target, "ledger", "allow", "--source", "singer")
    allowed_code, allowed = reconciled(target)

    assert (code, found["missing"]) == (1, [])
    assert found["unknown"] == [sandbox.signals[2].id]
    assert (allowed_code, allowed["not_compared"]) == (0, ["singer"])


@pytest.mark.usefixtures("without_margin")
def test_missing_signals_are_listed(tmp_path: Path) -> None:
    with Sandbox(list_lag_seconds=3600) as sandbox:
        target = TargetUnderTest(tmp_path, sandbox.url)
        target.run(A_SCHEMA, *trials(*range(12)))

        done = command(target, "reconcile", "--days", "7")

    assert done.returncode == 1
    assert "missing there: 12\n  sig_" in done.stdout
    assert "  and 2 more: see `--format json`\n" in done.stdout
    assert "@" not in done.stdout


@pytest.mark.usefixtures("without_margin")
def test_young_signal_is_not_missing_if_our_clock_is_ahead(tmp_path: Path) -> None:
    with Sandbox(list_lag_seconds=3600, clock_offset_seconds=-7200) as sandbox:
        target = TargetUnderTest(tmp_path, sandbox.url)
        target.run(A_SCHEMA, *trials(1))

        code, found = reconciled(target)

    assert (code, found["in_ledger"], found["missing"]) == (0, 0, [])


@pytest.mark.usefixtures("without_margin")
def test_new_ledger_knows_no_signal_there(target: TargetUnderTest) -> None:
    target.run(A_SCHEMA, *trials(1, 2))
    lose_ledger(target)
    target.run(A_SCHEMA)

    code, found = reconciled(target)

    assert (code, found["in_ledger"], len(found["unknown"])) == (1, 0, 2)


def test_young_signals_are_not_compared(target: TargetUnderTest) -> None:
    target.run(A_SCHEMA, *trials(1, 2))

    code, found = reconciled(target)

    assert (code, found["in_ledger"], found["there"]) == (0, 0, 0)


@pytest.mark.usefixtures("without_margin")
def test_rebuilt_ledger_reconciles(target: TargetUnderTest) -> None:
    target.run(A_SCHEMA, *trials(1, 2))
    lose_ledger(target)
    rebuild(target, A_SCHEMA, *trials(1, 2))

    code, found = reconciled(target)

    assert (code, found["in_ledger"], found["there"]) == (0, 2, 2)


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        (Fault(kind="status", status=403, on="read"), "403"),
        (Fault(kind="html", on="read"), "does not look like the Stairoids API"),
    ],
    ids=["403", "html"],
)
def test_reconcile_stops_if_stairoids_cannot_be_read(
    sandbox: Sandbox, target: TargetUnderTest, fault: Fault, words: str
) -> None:
    target.run(A_SCHEMA, *trials(1))
    sandbox.faults.add(fault)

    done = command(target, "reconcile", "--days", "7")

    assert (done.returncode, done.stdout) == (1, "")
    assert words in done.stderr


# find


def found_signals(target: TargetUnderTest, *words: str) -> list[dict[str, Any]]:
    done = command(target, "find", *words, "--format", "json")
    assert done.returncode == 0, done.stderr
    return list(json.loads(done.stdout))


def test_signals_of_a_person_are_found_by_the_address(
    sandbox: Sandbox, target: TargetUnderTest
) -> None:
    target.run(A_SCHEMA, a_record(1, email="Ann@a.com", plan="a"))
    target.run(A_SCHEMA, a_record(1, email="ann@a.com", plan="b"))
    target.run(A_SCHEMA, a_record(1, email="bob@a.com", plan="b"), a_record(2))

    found = found_signals(target, "--email", "ANN@a.com")
    table = command(target, "find", "--email", "ann@a.com").stdout

    ids = [sandbox.signals[place].id for place in (0, 1)]
    assert [signal.pop("at") for signal in found]
    assert found == [
        {
            "stream": "trials",
            "key": "[1]",
            "type": "trials",
            "outcome": "accepted",
            "run": run,
            "signal_id": signal_id,
        }
        for run, signal_id in zip((1, 2), ids, strict=True)
    ]
    assert table.splitlines()[0].split()[2:] == [
        *("stream", "key", "type", "outcome", "run", "signal", "id")
    ]


@pytest.mark.parametrize("keep_keys", [True, False])
def test_signals_of_a_record_are_found_by_its_key(
    target: TargetUnderTest, *, keep_keys: bool
) -> None:
    target.config["keep_keys"] = keep_keys
    target.run(a_schema(), a_record(1), a_record(12))
    pair_of = a_schema("deals", key=["id", "email"], plan="string")
    target.run(pair_of, a_record(12, "deals", email="p@deals.com", plan="a"))
    text_key = a_record(0, "texts", id="12", email="t@texts.com")
    target.run(a_schema("texts", plan="string"), text_key)

    numbers = found_signals(target, "--key", "12")
    pair = found_signals(target, "--key", '["12","p@deals.com"]')

    assert [signal["stream"] for signal in numbers] == ["trials", "texts"]
    assert [signal["stream"] for signal in pair] == ["deals"]
    assert found_signals(target, "--key", "13") == []


@pytest.mark.parametrize("keep_keys", [True, False])
def test_record_is_found_by_its_key_in_the_form_of_each_command(
    target: TargetUnderTest, *, keep_keys: bool
) -> None:
    target.config["keep_keys"] = keep_keys
    schema = a_schema(key=["id", "region"], region="string")
    target.run(schema, a_record(2, region="a=b"), a_record(3, region="eu", email=None))

    (accepted,) = found_signals(target, "--email", "u2@example.com")
    explained = text_of([schema, a_record(2, region="a=b")])
    explain = command(target, "explain", text=explained).stdout.split("  ")[2]
    listed = command(target, "dead-letters", "list", "--with-key").stdout
    dead_letter = re.split(" {2,}", listed.splitlines()[1])[2]

    assert (explain, dead_letter) == ("id=2, region=a=b", "id=3, region=eu")
    assert found_signals(target, "--key", explain) == [accepted]
    assert found_signals(target, "--key", accepted["key"]) == [accepted]
    (invalid,) = found_signals(target, "--key", dead_letter)
    assert invalid["outcome"] == "invalid"


def test_key_with_the_name_of_another_column_finds_nothing(
    target: TargetUnderTest,
) -> None:
    target.run(a_schema("deals", key=["deal_id"], deal_id="integer"))
    target.run(a_schema(), a_record(2))

    assert [s["stream"] for s in found_signals(target, "--key", "id=2")] == ["trials"]
    assert found_signals(target, "--key", "deal_id=2") == []
    assert found_signals(target, "--key", "id=2, email=2") == []


def test_key_of_a_mapping_is_found_by_the_names_of_its_columns(
    target: TargetUnderTest,
) -> None:
    target.config["signals"] = [{"stream": "trials", "key": ["email"]}]
    target.run(a_schema(), a_record(2))

    (found,) = found_signals(target, "--key", "email=u2@example.com")
    assert found["key"] == '["u2@example.com"]'
    assert found_signals(target, "--key", "id=u2@example.com") == []


def test_dead_letters_and_open_claims_are_found_too(
    sandbox: Sandbox, target: TargetUnderTest
) -> None:
    sandbox.faults.add(Fault(kind="status", status=422, containing="u2@"))
    sandbox.faults.add(Fault(kind="drop_after_accept", containing="u3@"))
    records = [a_record(n) for n in (1, 2, 3)]
    target.run(a_schema(), *records, outage_seconds=0, max_in_flight=1)

    outcomes = [
        signal["outcome"]
        for n in (1, 2, 3)
        for signal in found_signals(target, "--email", f"u{n}@example.com")
    ]

    assert outcomes == ["accepted", "rejected", "claimed"]


def test_find_needs_an_address_or_a_key(target: TargetUnderTest) -> None:
    target.run(a_schema(), a_record(1))

    assert command(target, "find").returncode == 2
    assert "not an email address" in command(target, "find", "--email", "ann").stderr
    nobody = command(target, "find", "--email", "nobody@example.com")
    assert "has no such signal. To see why a record is not sent" in nobody.stdout
    assert "`stairoids-signals explain MESSAGES --config " in nobody.stdout
    no_key = command(target, "find", "--key", "9").stdout
    assert "Write a key as `42`, `trial_id=42`, or a JSON array" in no_key


@pytest.mark.usefixtures("short_backoff")
def test_rebuild_goes_on_while_some_pages_fail(
    sandbox: Sandbox, target: TargetUnderTest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each page that comes ends an outage, because a rebuild sends nothing."""
    monkeypatch.setattr(first_run, "PAGE", 20)
    messages = [A_SCHEMA, *trials(*range(1, 101))]
    target.run(*messages)
    lose_ledger(target)
    sandbox.faults.add(Fault(kind="status", status=502, on="read", count=1))
    sandbox.faults.add(Fault(kind="slow", delay_ms=300, on="read"))
    sandbox.faults.add(
        Fault(kind="status", status=502, on="read", probability=0.5, seed=1)
    )

    assert rebuild(target, *messages, outage_seconds=1) == (100, 0, 0)
