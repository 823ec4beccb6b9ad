"""`stairoids-signals ledger`: forget, prune, erase, copy and baseline."""

from __future__ import annotations

import json
import sqlite3
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import Engine, event, select

from stairoids_sandbox import Fault
from target_stairoids.dedup.outcome import Outcome
from target_stairoids.ledger import dead_letters, lookup, maintenance
from target_stairoids.ledger.ledger import Ledger
from target_stairoids.ledger.schema import streams
from target_stairoids.settings import Settings
from tests.support.commands import signals
from tests.support.ledger_builders import (
    API,
    a_dead_letter,
    a_version,
    add_dead_letters,
)
from tests.support.singer_io import (
    Message,
    TargetUnderTest,
    a_record,
    a_schema,
    text_of,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from stairoids_sandbox.server import Sandbox


def test_forgotten_stream_is_sent_again(
    sandbox: Sandbox, target: TargetUnderTest
) -> None:
    messages = [a_schema(), a_record(), a_schema("leads"), a_record(stream="leads")]
    target.run(*messages)

    done = signals(target, "ledger", "forget", "--stream", "trials", "--yes")
    again = target.run(*messages)

    assert done.stdout == "Forgot 1 signal of `trials`.\n"
    assert again.report["streams"] == {
        "trials": {"accepted": 1},
        "leads": {"duplicate": 1},
    }
    assert len(sandbox.signals) == 3


def test_unknown_stream_is_named(target: TargetUnderTest) -> None:
    target.run(a_schema(), a_record())

    done = signals(target, "ledger", "forget", "--stream", "trails", "--yes")

    assert done.returncode == 1
    assert "knows no stream `trails`; did you mean `trials`?" in done.stderr


def test_pruning_keeps_the_latest_version_of_each_entity(
    target: TargetUnderTest,
) -> None:
    for plan in ("a", "b", "c"):
        target.run(a_schema(plan="string"), a_record(plan=plan))
    settings = Settings.from_config(target.config)
    now = datetime.now(UTC)

    with Ledger.open(settings.ledger_url, settings.scope) as ledger:
        kept = maintenance.prune(ledger, older_than=now - timedelta(days=30))
        removed = maintenance.prune(ledger, older_than=now)

    again = target.run(a_schema(plan="string"), a_record(plan="c"))
    assert (kept, removed) == (0, 2)
    assert again.outcomes == {"duplicate": 1}


@pytest.mark.parametrize("plans", ["ab", "aba"])
def test_pruning_keeps_the_rows_of_a_key(
    sandbox: Sandbox, target: TargetUnderTest, plans: str
) -> None:
    """They are of one person, so the ledger has one latest version for both."""
    both = [a_schema(plan="string"), *(a_record(plan=plan) for plan in "ab")]
    for plan in plans:
        target.run(a_schema(plan="string"), a_record(plan=plan))
    target.run(*both)
    settings, sent = Settings.from_config(target.config), len(sandbox.signals)

    with Ledger.open(settings.ledger_url, settings.scope) as ledger:
        maintenance.prune(ledger, older_than=datetime.now(UTC))
    target.run(*both)
    target.run(both[0], both[2], both[1])

    assert len(sandbox.signals) == sent


def test_young_versions_are_not_pruned(target: TargetUnderTest) -> None:
    target.run(a_schema(), a_record())

    done = signals(target, "ledger", "prune", "--older-than", "30d", "--yes")
    today = signals(
        target, "ledger", "prune", "--older-than", "30m", "--yes"
    )  # months, perhaps

    assert done.stdout == "Removed 0 old versions.\n"
    assert today.returncode == 2
    assert "less than 1 day." in today.stderr


def test_erased_person_is_nowhere_in_the_files(target: TargetUnderTest) -> None:
    mapping = {"stream": "trials", "account": {"domain": "{{ 'no host' }}"}}
    target.run(
        a_schema(),
        a_record(1, email="Ann.Canary@example.com"),
        a_record(2, email="bob@example.com"),
        signals=[mapping],
    )

    done = signals(
        target, "ledger", "erase", "--email", "ann.canary@example.com", "--yes"
    )

    assert done.stdout.startswith("Erased 1 claim, dead letter or key.\n")
    left = b"".join(p.read_bytes() for p in target.folder.glob("ledger.db*"))
    assert b"anary" not in left
    assert b"bob@example.com" in left


def test_erased_person_of_a_killed_run_gets_no_second_signal(
    sandbox: Sandbox, target: TargetUnderTest
) -> None:
    sandbox.faults.add(Fault(kind="drop_after_accept", count=1))
    messages = [a_schema(), a_record(1, email="ann@example.com")]
    killed = target.run(*messages, outage_seconds=0)

    done = signals(target, "ledger", "erase", "--email", "ann@example.com", "--yes")
    run = target.run(*messages)

    assert killed.outcomes == {"pending": 1}
    assert done.stdout.startswith("Erased 1 claim, dead letter or key.\n")
    assert run.outcomes == {"duplicate": 1}
    assert len(sandbox.signals) == 1


@pytest.mark.parametrize(
    "email", ["Ann.Canary@acme.con", "ann.canary@x..com", "ÄNN.Canary@x..com"]
)
def test_address_that_no_signal_can_have_is_erased(
    target: TargetUnderTest, email: str
) -> None:
    run = target.run(a_schema(), a_record(1, email=email))

    done = signals(target, "ledger", "erase", "--email", email, "--yes")

    assert run.outcomes == {"invalid": 1}
    assert done.stdout.startswith("Erased 1 claim, dead letter or key.\n")
    left = b"".join(p.read_bytes() for p in target.folder.glob("ledger.db*"))
    assert b"anary" not in left


@pytest.mark.parametrize(
    "email", ["jos\xe9@m\xfcnchen.de", "jos\xe9@xn--mnchen-3ya.de"]
)
def test_each_spelling_of_an_address_is_erased(
    target: TargetUnderTest, email: str
) -> None:
    spellings = (
        "jos\xe9@M\xdcNCHEN.de",
        "jose\u0301@m\xfcnchen.de",
        "jos\xe9@xn--mnchen-3ya.de",
    )
    records = [a_record(n, email=one, at="soon") for n, one in enumerate(spellings)]
    mapping = {"stream": "trials", "occurred_at": "{{ at }}"}
    run = target.run(a_schema(at="string"), *records, signals=[mapping])

    done = signals(target, "ledger", "erase", "--email", email, "--yes")

    assert run.outcomes == {"invalid": 3}
    assert done.stdout.startswith("Erased 3 claims, dead letters and keys.\n")


@pytest.mark.parametrize("odd", [r'"\ud800"', "NaN"])
def test_address_beside_a_value_that_is_not_json_is_erased(
    target: TargetUnderTest, odd: str
) -> None:
    record = rf'{{"id": 1, "email": "J\u00f6rg@acme.con", "plan": {odd}}}'
    message = f'{{"type": "RECORD", "stream": "trials", "record": {record}}}'
    target.run_text(f"{json.dumps(a_schema(plan='string'))}\n{message}\n")

    done = signals(target, "ledger", "erase", "--email", "jörg@acme.con", "--yes")

    assert done.stdout.startswith("Erased 1 claim, dead letter or key.\n")


def test_text_that_is_no_email_cannot_be_erased(target: TargetUnderTest) -> None:
    target.run(a_schema(), a_record(1))

    done = signals(target, "ledger", "erase", "--email", "not an address", "--yes")

    assert done.returncode == 1
    assert "mail address" in done.stderr


def test_ledger_is_not_copied_onto_itself(target: TargetUnderTest) -> None:
    target.run(a_schema(), a_record(1))

    same = signals(target, "ledger", "copy", "--to", target.config["ledger_url"])
    wrong = signals(target, "ledger", "copy", "--to", "ledger2.db")

    assert (same.returncode, wrong.returncode) == (1, 1)
    assert "--to is the URL of this ledger. Name an empty one." in same.stderr
    assert "Error: --to: `ledger_url` is not an SQLAlchemy URL" in wrong.stderr


def test_copied_ledger_has_all_outcomes(
    sandbox: Sandbox, target: TargetUnderTest
) -> None:
    target.run(a_schema(), a_record(1), a_record(2, email=None))
    url = f"sqlite:///{target.folder / 'other.db'}"

    done = signals(target, "ledger", "copy", "--to", url)
    run = target.run(a_schema(), a_record(1), a_record(3), ledger_url=url)
    twice = signals(target, "ledger", "copy", "--to", url)

    assert done.returncode == 0, done.stderr
    assert "settled: 1" in done.stdout
    assert run.outcomes == {"duplicate": 1, "accepted": 1}
    assert len(sandbox.signals) == 2
    assert twice.returncode == 1
    assert "is not empty" in twice.stderr


def test_baseline_settles_also_new_records_of_a_known_stream(
    sandbox: Sandbox, target: TargetUnderTest
) -> None:
    target.config["first_run"] = "guard"
    target.run(a_schema(), a_record(1))

    messages = text_of([a_schema(), a_record(1), a_record(2)])
    done = signals(target, "ledger", "baseline", text=messages)
    run = target.run(a_schema(), a_record(1), a_record(2), a_record(3))

    assert done.returncode == 0, done.stderr
    assert "= 1 duplicate + 1 baselined (2 records read" in done.stderr
    assert "METRIC" not in done.stderr
    assert run.outcomes == {"duplicate": 2, "accepted": 1}
    assert len(sandbox.signals) == 2


# Renames


def test_renamed_stream_keeps_the_dead_letters_of_its_new_name(
    target: TargetUnderTest,
) -> None:
    old, new = (
        [a_schema(name), a_record(9, name, email=None), *people(name)]
        for name in ("trials", "leads")
    )
    target.run(old[0], *old[2:])
    stopped = target.run(*new)

    done = signals(target, "ledger", "rename", "trials", "leads")

    assert stopped.outcomes == {"invalid": 1, "pending": 5}
    assert done.returncode == 0
    listed = signals(target, "dead-letters", "list", "--format", "json").stdout
    assert [json.loads(line)["id"] for line in listed.splitlines()] == [1]
    assert target.run(new[0], *new[2:]).outcomes == {"duplicate": 5}


def test_rerun_of_a_renamed_stream_adds_no_second_dead_letter(
    target: TargetUnderTest,
) -> None:
    """Its first run under the new name was set aside. Number 9 failed before, too."""
    bad = [a_record(number, "leads", email=None) for number in (8, 9)]
    target.run(a_schema(), *people(), a_record(9, email=None))
    target.run(a_schema("leads"), *people("leads"), *bad)
    signals(target, "ledger", "rename", "trials", "leads")

    def ids() -> list[int]:
        listed = signals(target, "dead-letters", "list", "--format", "json").stdout
        return [json.loads(line)["id"] for line in listed.splitlines()]

    renamed = ids()
    target.run(a_schema("leads"), *people("leads"), *bad)
    again = ids()
    target.run(a_schema("leads"), a_record(8, "leads"))

    assert renamed == again == [1, 2]
    assert ids() == [1]


@pytest.mark.parametrize(
    ("words", "items", "lacking"),
    [
        (["leads"], [{"stream": "trials"}], "`stream: leads`"),
        (["leads"], [{"stream": "leads"}], ""),
        (["leads"], [{"stream": "*"}], ""),
        (["leads"], [], ""),
        (["--source", "singer", "crm"], [{"stream": "trials"}], "`source: crm`"),
        (["--source", "singer", "crm"], [{"stream": "*", "source": "crm"}], ""),
        (["--mapping", "trials", "x"], [], "`name: x`"),
        (["--mapping", "trials", "x"], [{"stream": "trials", "type": "x"}], ""),
        (
            ["leads", "--source", "singer", "crm"],
            [{"stream": "trials"}],
            "`stream: leads` and `source: crm`",
        ),
    ],
)
def test_rename_names_the_fields_that_the_config_lacks(
    target: TargetUnderTest, words: list[str], items: list[Any], lacking: str
) -> None:
    target.run(a_schema(), a_record(1))

    done = signals(target, "ledger", "rename", "trials", *words, signals=items)

    sentence = "The config does not have the new name yet. Set "
    assert done.returncode == 0, done.stderr
    assert (sentence in done.stdout) == bool(lacking)
    assert f"{lacking} for this stream" in done.stdout or not lacking


def test_rename_that_is_refused_changes_no_part(target: TargetUnderTest) -> None:
    target.run(a_schema(), a_record(1), a_schema("leads"), a_record(2, "leads"))
    words = "ledger", "rename", "trials", "leads", "--source", "singer", "crm"

    refused = [signals(target, *words).stderr for _ in range(2)]

    assert refused[0] == refused[1]
    assert "Stream `leads` has signals of its own." in refused[0]


@pytest.mark.parametrize(
    "words", [["leads"], ["--mapping", "trials", "x"], ["--source", "singer", "crm"]]
)
def test_nothing_is_renamed_while_a_run_is_at_work(
    target: TargetUnderTest, words: list[str]
) -> None:
    target.run(a_schema(), a_record(1))

    settings = Settings.from_config(target.config)
    with Ledger.open(settings.ledger_url, settings.scope) as ledger:
        ledger.begin_run()
        refused = signals(target, "ledger", "rename", "trials", *words)
    done = signals(target, "ledger", "rename", "trials", *words)

    assert refused.returncode == 1
    assert "Run 2 of this ledger is at work." in refused.stderr
    assert done.returncode == 0, done.stderr  # that run was killed


@pytest.mark.parametrize("name", [{}, {"name": "out"}])
def test_person_of_a_renamed_stream_can_leave_the_suppression_list(
    target: TargetUnderTest, name: dict[str, str]
) -> None:
    """The run that was set aside has put the person on the list as well."""

    def run_of(stream: str, *, is_out: bool) -> dict[str, int]:
        mapping = {"stream": stream, "type": "plan", "name": "sends"}
        lists = {"stream": stream, "suppress": "{{ email }}", "when": "is_out"} | name
        target.config["signals"] = [mapping, lists]
        out = a_record(9, stream, is_out=is_out)
        schema = a_schema(stream, is_out="boolean")
        return target.run(schema, out, *people(stream)).outcomes

    run_of("trials", is_out=True)
    stopped = run_of("leads", is_out=True)
    signals(target, "ledger", "rename", "trials", "leads")
    back = run_of("leads", is_out=False)

    assert stopped == {"pending": 5, "filtered": 7}
    assert back == {"accepted": 1, "duplicate": 5, "filtered": 6}


def test_renamed_mapping_keeps_one_dead_letter_of_each_record(
    target: TargetUnderTest,
) -> None:
    messages = [a_schema(), a_record(9, email=None), *people()]
    target.run(*messages, signals=[{"stream": "trials", "name": "old"}])
    target.config["signals"] = [{"stream": "trials", "name": "new"}]
    stopped = target.run(*messages)

    done = signals(target, "ledger", "rename", "trials", "--mapping", "old", "new")

    assert stopped.outcomes == {"invalid": 1, "pending": 5}
    assert (done.returncode, done.stderr) == (0, "")
    listed = signals(target, "dead-letters", "list", "--format", "json").stdout
    assert [json.loads(line)["id"] for line in listed.splitlines()] == [1]
    assert target.run(*messages).outcomes == {"duplicate": 5, "invalid": 1}


def test_stream_is_not_renamed_to_one_whose_signals_may_have_been_sent(
    sandbox: Sandbox, target: TargetUnderTest
) -> None:
    target.run(a_schema(), *people())
    sandbox.faults.add(Fault(kind="drop_after_accept"))
    killed = target.run(a_schema("leads"), a_record(9, "leads"), outage_seconds=0)

    done = signals(target, "ledger", "rename", "trials", "leads")

    assert killed.outcomes == {"pending": 1}
    assert done.returncode == 1
    assert done.stderr.endswith("Stream `leads` has signals of its own.\n")


def test_stream_is_not_renamed_if_two_of_its_mappings_would_have_one_name(
    target: TargetUnderTest,
) -> None:
    names = "trials", "leads"
    target.config["signals"] = [{"stream": "trials", "name": name} for name in names]
    target.run(a_schema(), *people())
    target.config["signals"] = [{"stream": "leads"}]

    done = signals(target, "ledger", "rename", "trials", "leads")

    assert done.returncode == 1
    assert "Mapping `leads` has signals of its own." in done.stderr
    target.config["signals"] = [{"stream": "leads", "name": name} for name in names]
    assert signals(target, "ledger", "rename", "trials", "leads").returncode == 0
    known = target.run(a_schema("leads"), *people("leads"))
    assert known.outcomes == {"duplicate": 10}


def people(stream: str = "trials") -> list[Message]:
    return [a_record(number, stream) for number in range(1, 6)]


# Large ledgers


PARAMETERS = 3_000  # as many as the lookup of a block of records needs


@pytest.fixture
def few_parameters(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let SQLite take few parameters, so that few rows need several statements."""
    monkeypatch.setattr(lookup, "PARAMETERS", PARAMETERS)

    def limit(connection: sqlite3.Connection, _record: object) -> None:
        connection.setlimit(sqlite3.SQLITE_LIMIT_VARIABLE_NUMBER, PARAMETERS)

    event.listen(Engine, "connect", limit)
    yield
    event.remove(Engine, "connect", limit)


@pytest.mark.slow
@pytest.mark.usefixtures("few_parameters")
def test_any_number_of_dead_letters_can_be_listed_resolved_and_discarded(
    tmp_path: Path,
) -> None:
    numbers = range(1, PARAMETERS + 2)
    with Ledger.create(f"sqlite:///{tmp_path}/ledger.db", API) as ledger:
        ledger.begin_run()
        number, _ = ledger.open_stream("trials", {})
        unknown = [
            a_dead_letter(a_version(f"v{n}", stream=number), outcome=Outcome.UNKNOWN)
            for n in numbers
        ]
        add_dead_letters(ledger, *unknown)
        listed = dead_letters.dead_letters_of(ledger, ids=numbers)
        with ledger.transaction() as transaction:
            resolved = dead_letters.resolve(transaction, numbers, Outcome.REJECTED)
            dead_letters.discard(transaction, numbers)
        left = dead_letters.dead_letters_of(ledger)

    assert [row.id for row in listed] == resolved == [*numbers]
    assert left == []


@pytest.mark.usefixtures("few_parameters")
def test_any_number_of_dead_letters_is_closed_by_filtered_records(
    target: TargetUnderTest,
) -> None:
    target.config["signals"] = [{"stream": "trials", "when": "{{ not gone }}"}]
    numbers = range(PARAMETERS)
    target.run(a_schema(gone="boolean"), *[a_record(n, email=None) for n in numbers])

    run = target.run(
        a_schema(gone="boolean"), *[a_record(n, gone=True) for n in numbers]
    )

    assert run.outcomes == {"filtered": PARAMETERS}
    assert signals(target, "dead-letters", "export").stdout == ""


@pytest.mark.slow
@pytest.mark.usefixtures("few_parameters")
def test_run_with_any_number_of_streams_can_end(tmp_path: Path) -> None:
    with Ledger.create(f"sqlite:///{tmp_path}/ledger.db", API) as ledger:
        run = ledger.begin_run()
        number, _ = ledger.open_stream("s1", {})
        others = {f"s{number}": True for number in range(PARAMETERS)}
        ledger.end_run(0, {}, complete=others)
        query = select(streams.c.complete_run).filter_by(stream=number)
        assert ledger.value(query) == run


def test_copy_of_more_rows_than_are_in_memory_at_once_has_them_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(maintenance, "_AT_ONCE", 7)
    urls = [f"sqlite:///{tmp_path}/{name}.db" for name in ("one", "two")]
    one, two = (Ledger.create(url, API) for url in urls)
    with one, two:
        number, _ = one.open_stream("trials", {})
        versions = [a_version(f"v{n}", stream=number) for n in range(30)]
        add_dead_letters(one, *map(a_dead_letter, versions))

        copied = maintenance.copy(one, two)

        assert copied["stairoids_dead_letters"] == 30
        rows, others = map(dead_letters.dead_letters_of, (one, two))
        assert [*map(tuple, others)] == [*map(tuple, rows)]
