"""Signals about a company of which only the name is known."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from stairoids_sandbox import Fault, Sandbox
from tests.support.commands import signals as command
from tests.support.singer_io import (
    Message,
    TargetUnderTest,
    a_record,
    a_schema,
    text_of,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

BY_NAME = {"stream": "trials", "account": {"name": "{{ company }}"}}
SCHEMA = a_schema(company="string", website="string", plan="string")


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    with Sandbox(accepts_names=True) as running:
        yield running


def companies(*names: str | None, **fields: Any) -> list[Message]:
    return [
        a_record(n, email=None, company=name, **fields) for n, name in enumerate(names)
    ]


def test_name_is_enough_if_the_mapping_names_only_it(
    sandbox: Sandbox, target: TargetUnderTest
) -> None:
    target.config["signals"] = [BY_NAME]
    messages = [SCHEMA, *companies("Acme", "Birch", None)]

    run, again = target.run(*messages), target.run(*messages)
    changed = target.run(SCHEMA, *companies("Acme", "Birch", plan="pro"))

    assert run.outcomes == {"accepted": 2, "invalid": 1}
    assert again.outcomes == {"duplicate": 2, "invalid": 1}
    assert changed.outcomes == {"accepted": 2}
    assert [s.body["account"] for s in sandbox.signals[:2]] == [
        {"name": "Acme"},
        {"name": "Birch"},
    ]


@pytest.mark.parametrize(
    "mapping",
    [
        {},
        {"account": {"domain": "{{ website }}", "name": "{{ company }}"}},
        {"account": {"name": "{{ company }}"}, "contact": {"email": "{{ email }}"}},
        {"account": {"domain": None}},
    ],
    ids=["inferred", "with a domain", "with an address", "inferred name"],
)
def test_name_is_not_enough_otherwise(
    sandbox: Sandbox, target: TargetUnderTest, mapping: dict[str, Any]
) -> None:
    run = target.run(
        SCHEMA, *companies("Acme"), signals=[{"stream": "trials", **mapping}]
    )

    assert run.outcomes == {"invalid": 1}
    assert not sandbox.signals


def test_stream_without_address_and_domain_is_sent_by_name(
    sandbox: Sandbox, target: TargetUnderTest
) -> None:
    schema = a_schema(company="string")
    del schema["schema"]["properties"]["email"]
    record: Message = {"type": "RECORD", "stream": "trials"}
    record["record"] = {"id": 1, "company": "Acme"}

    left_out = target.run(schema, record)
    run = target.run(schema, record, signals=[BY_NAME])

    assert left_out.outcomes == {"filtered": 1}
    assert run.outcomes == {"accepted": 1}
    assert sandbox.signals[0].body["account"] == {"name": "Acme"}


def test_row_without_a_person_returns_to_a_key_that_people_share(
    sandbox: Sandbox, target: TargetUnderTest
) -> None:
    target.config["signals"] = [BY_NAME]
    company = a_record(1, email=None, company="Acme")
    people = [a_record(1, email=f"{name}@example.com") for name in ("ann", "bob")]

    target.run(SCHEMA, company)
    target.run(SCHEMA, *people)
    again = target.run(SCHEMA, company)

    assert again.outcomes == {"duplicate": 1}
    assert len(sandbox.signals) == 3


def test_known_domain_is_sent_as_well(
    sandbox: Sandbox, target: TargetUnderTest
) -> None:
    record = companies("Acme", website="acme.com")

    run = target.run(SCHEMA, *record, signals=[BY_NAME])

    assert run.outcomes == {"accepted": 1}
    found = sandbox.signals[0].body["account"]
    assert found == {"domain": "acme.com", "name": "Acme"}


def test_rejected_name_is_a_dead_letter(
    sandbox: Sandbox, target: TargetUnderTest
) -> None:
    sandbox.faults.add(Fault(kind="status", status=400, containing="Birch"))

    run = target.run(
        SCHEMA, *companies("Acme", "Birch"), signals=[BY_NAME], first_run="guard"
    )

    assert (run.exit_code, run.outcomes) == (0, {"accepted": 1, "rejected": 1})


def test_null_keys_with_once_are_sent_once_for_each_company(
    sandbox: Sandbox, target: TargetUnderTest
) -> None:
    target.config["signals"] = [{**BY_NAME, "send": "once"}]
    records = [
        {**r, "record": {**r["record"], "id": None}} for r in companies("Acme", "Birch")
    ]

    run, again = target.run(SCHEMA, *records), target.run(SCHEMA, *records)

    assert (run.outcomes, again.outcomes) == ({"accepted": 2}, {"duplicate": 2})
    assert len(sandbox.signals) == 2


def test_companies_that_share_a_key_are_each_sent_once(
    sandbox: Sandbox, target: TargetUnderTest
) -> None:
    target.config["signals"] = [BY_NAME]
    records = [a_record(1, email=None, company=name) for name in ("Acme", "Birch")]

    run, again = target.run(SCHEMA, *records), target.run(SCHEMA, *records)

    assert (run.outcomes, again.outcomes) == ({"accepted": 2}, {"duplicate": 2})
    assert len(sandbox.signals) == 2


def test_lost_responses_are_looked_up_by_the_name(
    sandbox: Sandbox, target: TargetUnderTest
) -> None:
    sandbox.faults.add(Fault(kind="drop_after_accept", count=2))

    run = target.run(
        SCHEMA, *companies("Acme", "Birch", "Cedar", "Dill"), signals=[BY_NAME]
    )

    assert run.outcomes == {"accepted": 4}
    assert len(sandbox.signals) == 4


def test_people_who_share_the_key_of_a_company_do_not_close_its_dead_letter(
    sandbox: Sandbox, target: TargetUnderTest
) -> None:
    target.config["signals"] = [BY_NAME]
    schema = a_schema(company="string", at="string", bookmark="at")
    sandbox.faults.add(Fault(kind="status", status=422, count=1))
    target.run(schema, a_record(1, email=None, company="Acme", at="2026-01-02"))
    people = [f"{name}@{name}.com" for name in ("ann", "bob")]
    target.run(schema, *(a_record(1, email=e, at="2026-01-01") for e in people))

    replayed = command(target, "dead-letters", "replay")

    assert "1 signal = 1 accepted" in replayed.stderr
    assert sandbox.signals[-1].body["account"] == {"name": "Acme"}


def test_lost_ledger_is_rebuilt_by_the_name(target: TargetUnderTest) -> None:
    target.config |= {"signals": [BY_NAME], "first_run": "guard"}
    target.run(SCHEMA, *companies("Acme", "Birch"))
    for path in target.folder.glob("ledger.db*"):
        path.unlink()
    messages = target.folder / "messages.jsonl"
    messages.write_text(text_of([SCHEMA, *companies("Acme", "Birch", "Cedar")]))

    done = command(target, "ledger", "rebuild", messages)
    run = target.run(SCHEMA, *companies("Acme", "Birch", "Cedar"))

    assert done.stdout.startswith("found there: 2\nnot there: 1 ")
    assert run.outcomes == {"duplicate": 2, "accepted": 1}


def test_check_says_that_the_name_is_used(target: TargetUnderTest) -> None:
    catalog = target.folder / "messages.jsonl"
    schema = a_schema(company="string")
    catalog.write_text(text_of([schema]))

    done = command(target, "check", "--catalog", catalog, signals=[BY_NAME])

    assert ": by account.domain, contact.email, account.name" in done.stdout
