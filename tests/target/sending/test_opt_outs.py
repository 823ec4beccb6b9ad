"""Suppression from data: a mapping with `suppress` keeps people from any signal."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from stairoids_sandbox import Fault
from tests.support.commands import signals
from tests.support.connectors import on_both_connectors
from tests.support.singer_io import (
    TargetUnderTest,
    a_record,
    a_schema,
    a_state,
    text_of,
    wait_until,
)

if TYPE_CHECKING:
    from stairoids_sandbox import Sandbox
    from tests.support.singer_io import Message, Run

OPT_OUTS: dict[str, Any] = {"stream": "opt_outs", "suppress": "{{ email }}"}
TRIALS: dict[str, Any] = {"stream": "trials"}
SIGNALS = [OPT_OUTS, TRIALS]


def opt_outs(*emails: str | None, first: int = 1, **fields: object) -> list[Message]:
    """Return an opt-out for each address."""
    types = dict.fromkeys(fields, "string")
    return [
        a_schema("opt_outs", **types),
        *(
            a_record(n, "opt_outs", email=email, **fields)
            for n, email in enumerate(emails, first)
        ),
    ]


def sent_to(sandbox: Sandbox) -> list[str]:
    return [s.body["contact"]["email"] for s in sandbox.signals]


@pytest.fixture(autouse=True)
def _mapping(target: TargetUnderTest) -> None:
    target.config["signals"] = SIGNALS


def reasons(run: Run) -> dict[str, int]:
    return {entry["reason"]: entry["count"] for entry in run.report["reasons"]}


@pytest.mark.parametrize(
    "value",
    [
        "u1@example.com",
        " U1@Example.com ",
        "mailto:u1@example.com",
        "Ann <u1@example.com>",
        "example.com",
        "@example.com",
        "https://www.example.com/",
        "mail.example.com",
        "u1@EXAMPLE.com.",
    ],
)
def test_opt_out_suppresses_signals_of_later_records_and_runs(
    sandbox: Sandbox, target: TargetUnderTest, value: str
) -> None:
    elsewhere = a_record(2, email="u2@birch.com")

    run = target.run(*opt_outs(value), a_schema(), a_record(1), elsewhere)
    later = target.run(a_schema(), a_record(1, plan="pro"), a_record(1, plan="free"))

    assert run.outcomes == {"filtered": 2, "accepted": 1}
    assert reasons(run) == {"added to the suppression list": 1, "suppressed": 1}
    assert later.outcomes == {"filtered": 2}
    assert sent_to(sandbox) == ["u2@birch.com"]


def test_opt_out_counts_in_each_namespace(
    sandbox: Sandbox, target: TargetUnderTest
) -> None:
    target.run(*opt_outs("u1@example.com"))

    run = target.run(a_schema(), a_record(1), a_record(2), namespace="us")

    assert run.outcomes == {"accepted": 1, "filtered": 1}
    assert sent_to(sandbox) == ["u2@example.com"]


def test_opt_out_counts_for_signals_that_are_queued_already(
    sandbox: Sandbox, target: TargetUnderTest
) -> None:
    records = [a_record(n) for n in range(1, 6)]

    run = target.run(
        a_schema(), *records, *opt_outs("u3@example.com", "u5@example.com"), a_state()
    )

    assert run.outcomes == {"accepted": 3, "filtered": 4}
    assert "u3@example.com" not in sent_to(sandbox)
    assert run.states == [{"at": 1}]


@pytest.mark.slow
def test_opt_out_counts_for_signals_that_wait_in_another_run(
    sandbox: Sandbox, target: TargetUnderTest
) -> None:
    """The list is read again before each request, also for one that is repeated."""
    sandbox.faults.add(Fault(kind="status", status=429, retry_after=1, count=1))
    process = target.start(
        text_of([a_schema(), a_record(1), a_record(2)]), max_in_flight=1
    )
    wait_until(lambda: len(sandbox.requests) == 1)

    target.run(*opt_outs("u1@example.com"), report_path=None)
    _, errors = process.communicate(timeout=60)

    assert process.returncode == 0, errors
    assert target.report()["outcomes"]["filtered"] == 1
    assert sent_to(sandbox) == ["u2@example.com"]


@pytest.mark.parametrize("is_by_data", [True, False])
@pytest.mark.slow
def test_claim_of_a_killed_run_is_not_sent_to_a_suppressed_person(
    sandbox: Sandbox, target: TargetUnderTest, *, is_by_data: bool
) -> None:
    sandbox.faults.add(Fault(kind="status", status=503, retry_after=30))
    process = target.start(text_of([a_schema(), a_record(1)]))
    wait_until(lambda: len(sandbox.requests) == 1)
    process.kill()
    process.communicate()
    sandbox.faults.set([])
    target.config["request_timeout_seconds"] = 1

    if is_by_data:
        run = target.run(*opt_outs("u1@example.com"))
    else:
        run = target.run(a_schema(), suppress=["u1@example.com"])

    # The lookup comes first. Without a later signal, it proves nothing.
    outcome = "pending" if is_by_data else "unknown"
    assert run.report["recovered"] == {outcome: 1}
    assert sandbox.signals == []


@pytest.mark.parametrize(
    ("listed", "email"),
    [
        ("ann@münchen.de", "Ann@xn--mnchen-3ya.de"),
        ("xn--mnchen-3ya.de", "ann@münchen.de"),
        ("acme.co.uk", "ann@mail.acme.co.uk"),
    ],
)
def test_entries_and_signals_have_one_spelling(
    target: TargetUnderTest, listed: str, email: str
) -> None:
    record = a_record(1, email=email)

    by_data = target.run(*opt_outs(listed), a_schema(), record)
    signals(target, "ledger", "forget", "--stream", "opt_outs", "--yes")
    by_config = target.run(a_schema(), record, suppress=[listed])

    assert by_data.outcomes == {"filtered": 2}
    assert by_config.outcomes == {"filtered": 1}


def test_mapping_test_covers_opt_outs(target: TargetUnderTest) -> None:
    tests = target.folder / "tests.yml"
    tests.write_text(
        "tests:\n- {name: opt-out, stream: opt_outs, record: {email: ann@birch.com},"
        " outcome: filtered, reason: added to the suppression list}\n"
    )

    done = signals(target, "test", tests)

    assert "1 passed" in done.stdout


@pytest.mark.parametrize(
    "stream", ["opt_outs", "public-unsubscribes", "email_bounces", "do_not_contact"]
)
def test_opt_outs_without_a_mapping_send_nothing(
    sandbox: Sandbox, target: TargetUnderTest, stream: str
) -> None:
    target.config["signals"] = []

    run = target.run(a_schema(stream), a_record(stream=stream))

    assert run.outcomes == {"filtered": 1}
    assert sandbox.signals == []


@pytest.mark.parametrize("glob", ["*opt_outs", "opt_*", "*"])
def test_opt_outs_may_be_mapped_by_a_pattern(
    target: TargetUnderTest, glob: str
) -> None:
    target.config["signals"] = [TRIALS, {**OPT_OUTS, "stream": glob}]

    run = target.run(*opt_outs("u1@example.com"), a_schema(), a_record(1))

    assert run.outcomes == {"filtered": 2}
    assert reasons(run) == {"added to the suppression list": 1, "suppressed": 1}


def test_repeated_opt_outs_add_nothing(target: TargetUnderTest) -> None:
    target.run(*opt_outs("ann@birch.com", "oak.example"))

    run = target.run(*opt_outs("ann@birch.com", "oak.example"))

    assert reasons(run) == {"is on the suppression list": 2}


@pytest.mark.parametrize(
    "removal",
    [
        {"_sdc_deleted_at": "2026-01-01T00:00:00Z"},
        {"_sdc_deleted_at": "2026-01-01T00:00:00Z", "email": None},
        {"_ab_cdc_deleted_at": "2026-01-01T00:00:00Z"},
        {"_fivetran_deleted": True},
        {"__deleted": "true", "email": None},
        {"deleted_at": "2026-01-01"},
        {"is_deleted": True},
        {"active": "no"},
    ],
)
def test_deleted_or_excluded_row_takes_its_entry_off_the_list(
    target: TargetUnderTest, removal: dict[str, Any]
) -> None:
    item = {**OPT_OUTS, "when": "active != 'no'"} if "active" in removal else OPT_OUTS
    target.config["signals"] = [item, TRIALS]
    schema = a_schema("opt_outs", **dict.fromkeys(removal, "string"))
    target.run(schema, a_record(1, "opt_outs"), a_schema(), a_record(1))

    run = target.run(
        schema, a_record(1, "opt_outs", **removal), a_schema(), a_record(1)
    )

    assert run.outcomes == {"filtered": 1, "accepted": 1}
    assert reasons(run) == {"removed from the suppression list": 1}


NOT_DELETED = [
    *(None, False, "false", "f", 0, "", "0000-00-00"),
    *("1970-01-01T00:00:00Z", "0001-01-01 00:00:00", "N/A", "-", "never"),
    *("2099-01-01", "\u274c"),
]


@pytest.mark.parametrize("flag", NOT_DELETED)
def test_row_that_is_not_deleted_stays_on_the_list(
    target: TargetUnderTest, flag: object
) -> None:
    schema = a_schema("opt_outs", is_deleted="string")

    run = target.run(schema, a_record(1, "opt_outs", is_deleted=flag))

    assert reasons(run) == {"added to the suppression list": 1}


def test_person_stays_suppressed_as_long_as_any_row_says_so(
    sandbox: Sandbox, target: TargetUnderTest
) -> None:
    schema = a_schema("opt_outs", _sdc_deleted_at="string")
    other = {"stream": "bounces", "suppress": "{{ email }}"}
    target.config["signals"] = [*SIGNALS, other]
    email = "ann@birch.com"
    target.run(
        *opt_outs(email, email.upper()),
        a_schema("bounces"),
        a_record(1, "bounces", email=email),
    )

    def run_without(stream: str, number: int) -> dict[str, int]:
        gone = a_record(number, stream, email=email, _sdc_deleted_at="2026-01-01")
        schema["stream"] = stream
        record = a_record(number, email=email)
        return target.run(schema, gone, a_schema(), record).outcomes

    assert run_without("opt_outs", 1) == {"filtered": 2}
    assert run_without("bounces", 1) == {"filtered": 2}
    assert run_without("opt_outs", 2) == {"filtered": 1, "accepted": 1}
    assert sent_to(sandbox) == [email]


def test_two_rows_with_one_key_suppress_two_people(target: TargetUnderTest) -> None:
    target.config["signals"] = [{**OPT_OUTS, "when": "active != 'no'"}, TRIALS]
    people = [("ann@birch.com", "yes"), ("bob@birch.com", "no")]

    run = target.run(
        a_schema("opt_outs", active="string"),
        *(a_record(7, "opt_outs", email=e, active=active) for e, active in people),
        a_schema(),
        *(a_record(n, email=email) for n, (email, _) in enumerate(people)),
    )

    assert run.report["streams"]["trials"] == {"filtered": 1, "accepted": 1}


def test_one_stream_may_suppress_and_send(
    sandbox: Sandbox, target: TargetUnderTest
) -> None:
    target.config["signals"] = [
        {"stream": "users", "suppress": "{{ email }}", "when": "unsubscribed"},
        {"stream": "users", "type": "user"},
    ]
    schema = a_schema("users", unsubscribed="boolean")
    users = [a_record(n, "users", unsubscribed=n == 2) for n in (1, 2)]

    run = target.run(schema, *users)
    back = target.run(schema, a_record(2, "users", unsubscribed=False))

    assert run.outcomes == {"accepted": 1, "filtered": 3}
    assert sent_to(sandbox) == ["u1@example.com", "u2@example.com"]
    assert back.outcomes == {"accepted": 1, "filtered": 1}


@pytest.mark.parametrize(
    "value",
    [
        *(None, "", "Ann", "a@b..com", "ann@birch.com, bob@birch.com", "*@birch.com"),
        *("ann@birch.con", "https://www.linkedin.com/in/ann", "bit.ly/ann"),
        *("!ann@birch.com", "-ann@birch.com", "# ann@birch.com", "-birch.com"),
    ],
)
def test_opt_out_without_address_and_domain_is_a_dead_letter(
    target: TargetUnderTest, value: str | None
) -> None:
    run = target.run(*opt_outs(value, "bob@birch.com"))

    assert run.outcomes == {"filtered": 1, "invalid": 1}
    assert "suppress: neither an email address nor a domain" in reasons(run)


@pytest.mark.parametrize("first", [0, 2])
def test_run_stops_before_its_signals_if_no_opt_out_can_be_read(
    sandbox: Sandbox, target: TargetUnderTest, first: int
) -> None:
    valid = opt_outs(*(f"u{n}@birch.com" for n in range(first)))
    unread = opt_outs(*["phone only"] * 25, first=1 + first)
    trials = [a_schema(), a_record(1), a_state()]

    run = target.run(*valid, *unread, *trials)
    again = target.run(*valid, *unread, *trials)
    target.config["signals"] = [OPT_OUTS | {"when": "'@' in email"}, TRIALS]
    corrected = target.run(*valid, *unread, *trials)

    assert (run.exit_code, again.exit_code) == (1, 1)
    assert "nearly all its opt-outs are invalid" in run.error
    assert (run.states, again.states) == ([], [])
    assert run.outcomes["pending"] == 1
    assert corrected.exit_code == 0
    assert len(sandbox.signals) == 1


@pytest.mark.parametrize(("invalid", "valid"), [(24, 0), (25, 3), (200, 25)])
def test_run_goes_on_if_some_opt_outs_cannot_be_read(
    sandbox: Sandbox, target: TargetUnderTest, invalid: int, valid: int
) -> None:
    emails = ["phone only"] * invalid + [f"u{n}@birch.com" for n in range(valid)]

    run = target.run(*opt_outs(*emails), a_schema(), a_record(1))

    assert run.exit_code == 0
    assert len(sandbox.signals) == 1


def test_replay_sends_signals_beside_opt_outs_that_stay_invalid(
    sandbox: Sandbox, target: TargetUnderTest
) -> None:
    target.config["signals"] = [OPT_OUTS, TRIALS | {"contact": {"email": "{{ mail }}"}}]
    valid = [f"u{n}@birch.com" for n in range(20)]
    trial = a_record(1, email="lead@oak.com", mail=None)
    target.run(*opt_outs(*["phone only"] * 30, *valid), a_schema(mail="string"), trial)

    target.config["signals"] = SIGNALS
    signals(target, "dead-letters", "replay")

    assert sent_to(sandbox) == ["lead@oak.com"]


def test_preview_shows_opt_outs_that_would_stop_the_run(
    target: TargetUnderTest,
) -> None:
    rows = target.folder / "rows.jsonl"
    emails = ["phone only"] * 30
    rows.write_text(text_of([*opt_outs(*emails), a_schema(), a_record(1)]))

    shown = signals(target, "preview", str(rows))

    assert shown.returncode == 1
    assert "nearly all its opt-outs are invalid" in shown.stdout + shown.stderr
    assert "Stream trials" in shown.stdout


def test_deleted_opt_out_whose_condition_cannot_be_read_leaves_the_list(
    target: TargetUnderTest,
) -> None:
    target.config["signals"] = [OPT_OUTS | {"when": "level > 3"}, TRIALS]
    added = opt_outs("u1@example.com", level=None)
    target.config["signals"][0]["when"] = "level is none or level > 3"
    target.run(*added)

    run = target.run(
        a_schema("opt_outs", level="string", is_deleted="boolean"),
        a_record(1, "opt_outs", email="u1@example.com", level="x", is_deleted=True),
    )

    assert run.exit_code == 0
    assert reasons(run) == {"removed from the suppression list": 1}


def test_corrected_opt_out_that_was_a_dead_letter_is_replayed(
    target: TargetUnderTest,
) -> None:
    target.run(*opt_outs("Ann (ann at birch.com)"))
    exported = signals(target, "dead-letters", "export").stdout
    corrected = exported.replace("Ann (ann at birch.com)", "ann@birch.com")

    run = target.run_text(corrected)
    left = signals(target, "dead-letters", "list", "--format", "json")

    assert reasons(run) == {"added to the suppression list": 1}
    assert left.stdout == ""


@on_both_connectors
def test_person_who_got_signals_before_is_filtered_not_duplicate(
    target: TargetUnderTest,
) -> None:
    target.run(a_schema(), a_record(1), a_record(2), a_record(3))

    run = target.run(
        *opt_outs("u1@example.com"),
        a_schema(),
        a_record(1),
        a_record(2),
        a_record(3),
        suppress=["u2@example.com"],
    )

    assert run.report["streams"]["trials"] == {"filtered": 2, "duplicate": 1}


@on_both_connectors
@pytest.mark.parametrize("more", [{}, {"_sdc_batched_at": "2026-01-01"}])
@pytest.mark.parametrize("bookmark", [None, "at"])
def test_record_that_a_new_condition_excludes_is_filtered_not_duplicate(
    target: TargetUnderTest, bookmark: str | None, more: dict[str, Any]
) -> None:
    schema = a_schema(bookmark=bookmark, at="string", plan="string")
    records = [a_record(n, at="2026-01-01", plan=f"p{n}", **more) for n in (1, 2)]
    target.config["signals"] = [TRIALS]
    target.run(schema, *records)
    target.config["signals"] = [{**TRIALS, "when": "plan != 'p1'"}]

    first, second = target.run(schema, *records), target.run(schema, *records)
    target.config["signals"] = [TRIALS]
    without = target.run(schema, *records)

    assert first.outcomes == second.outcomes == {"filtered": 1, "duplicate": 1}
    assert set(without.outcomes) <= {"duplicate", "accepted"}


def test_ledger_and_logs_have_no_address_of_a_suppressed_person(
    target: TargetUnderTest, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    target.run(*opt_outs("canary@birch.com"))

    files = target.folder.glob("ledger.db*")

    assert not any(b"canary" in path.read_bytes() for path in files)
    assert "canary" not in caplog.text
    assert "Suppression list: 1 added." in caplog.text


def test_erased_person_stays_suppressed(
    sandbox: Sandbox, target: TargetUnderTest
) -> None:
    target.run(*opt_outs("u1@example.com"))

    erased = signals(target, "ledger", "erase", "--email", "U1@example.com", "--yes")
    other = signals(target, "ledger", "erase", "--email", "u2@example.com", "--yes")
    target.run(a_schema(), a_record(1))

    assert "stays on the suppression list" in erased.stdout
    assert "suppression list" not in other.stdout
    assert sandbox.signals == []


def test_forgotten_stream_leaves_the_suppression_list(
    target: TargetUnderTest,
) -> None:
    target.run(*opt_outs("u1@example.com", "u2@example.com"))

    done = signals(target, "ledger", "forget", "--stream", "opt_outs", "--yes")
    run = target.run(a_schema(), a_record(1))

    assert "2 entries of the suppression list" in done.stdout
    assert run.outcomes == {"accepted": 1}


def test_copied_ledger_keeps_people_suppressed(
    sandbox: Sandbox, target: TargetUnderTest
) -> None:
    target.run(*opt_outs("u1@example.com"))
    url = f"sqlite:///{target.folder / 'other.db'}"

    signals(target, "ledger", "copy", "--to", url)
    run = target.run(a_schema(), a_record(1), ledger_url=url)

    assert run.outcomes == {"filtered": 1}
    assert sandbox.signals == []


@pytest.mark.parametrize("command", ["preview", "explain"])
def test_dry_runs_show_opt_outs_and_keep_nothing(
    target: TargetUnderTest, command: str
) -> None:
    target.run(*opt_outs("u1@example.com"))
    messages = text_of(
        [
            *opt_outs("u2@example.com", first=2),
            a_schema(),
            *(a_record(n) for n in (1, 2, 3)),
        ]
    )

    shown = signals(target, command, text=messages)
    run = target.run_text(messages)

    assert shown.returncode == 0, shown.stderr
    assert "added to the suppression list" in shown.stdout
    assert shown.stdout.count("would_send") == 1
    assert run.outcomes == {"filtered": 3, "accepted": 1}
    assert "added to the suppression list" in reasons(run)


def test_dry_run_frees_only_people_without_another_entry(
    target: TargetUnderTest,
) -> None:
    target.run(*opt_outs("u1@example.com", "u1@example.com", "u2@example.com"))
    schema = a_schema("opt_outs", _sdc_deleted_at="string")
    gone = [a_record(n, "opt_outs", email=None, _sdc_deleted_at="2026") for n in (1, 3)]
    messages = text_of([schema, *gone, a_schema(), a_record(1), a_record(2)])

    shown = signals(target, "explain", "--format", "json", text=messages)

    rows = [json.loads(line) for line in shown.stdout.splitlines()]
    outcomes = [row["outcome"] for row in rows if row["stream"] == "trials"]
    assert outcomes == ["filtered", "would_send"]


def test_mapping_with_suppress_takes_no_fields_of_a_signal(
    target: TargetUnderTest,
) -> None:
    item = {**OPT_OUTS, "type": "opt_out"}

    shown = signals(target, "check", signals=[item])

    assert shown.returncode == 1
    assert "`signals[0].type` has no use" in shown.stderr


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("email", "`email` is a text and not a column"),
        ("ann@birch.com", "`suppress` of its mapping reads no column"),
        ("{{ mail }}", "`mail` is not a property of `opt_outs`; did you mean `email`?"),
        ("{{ email", "`suppress`"),
    ],
)
def test_mistake_in_suppress_stops_the_run_at_the_schema(
    target: TargetUnderTest, text: str, error: str
) -> None:
    schema = a_schema("opt_outs")
    schema["schema"]["additionalProperties"] = False

    run = target.run(schema, signals=[{**OPT_OUTS, "suppress": text}])

    assert run.exit_code == 1
    assert error in run.error


def test_check_names_the_streams_that_suppress(target: TargetUnderTest) -> None:
    catalog = target.folder / "schemas.jsonl"
    catalog.write_text(text_of([a_schema("opt_outs"), a_schema()]))

    checked = signals(target, "check", "--catalog", catalog)

    assert "opt_outs -> suppress: puts people on the suppression list" in checked.stdout


@pytest.mark.slow
def test_opt_outs_in_a_postgresql_ledger(
    sandbox: Sandbox, target: TargetUnderTest, postgres_url: str
) -> None:
    target.config["ledger_url"] = postgres_url
    schema = a_schema("opt_outs", _sdc_deleted_at="string")
    target.run(*opt_outs("u1@example.com", "u1@example.com", "u2@example.com"))
    gone = [a_record(n, "opt_outs", email=None, _sdc_deleted_at="2026") for n in (1, 3)]

    run = target.run(schema, *gone, a_schema(), a_record(1), a_record(2))

    assert reasons(run)["removed from the suppression list"] == 2
    assert sent_to(sandbox) == ["u2@example.com"]


def test_undecodable_opt_out_stops_the_run_without_a_traceback(
    target: TargetUnderTest,
) -> None:
    odd = '{"type": "RECORD", "stream": "opt_outs", "record": {"id": 9, "x": 1e%s}}'

    messages = [a_schema(), a_record(1), *opt_outs("u2@example.com")]
    run = target.run(*messages, odd % ("9" * 30), a_state())

    assert run.exit_code in {0, 1}
    assert run.outcomes.get("accepted") == 1


def test_dead_letter_of_an_opt_out_is_replayed(
    sandbox: Sandbox, target: TargetUnderTest
) -> None:
    broken = {"stream": "opt_outs", "suppress": "{{ email | int + 1 }}"}
    target.config["signals"] = [broken, TRIALS]
    failed = target.run(*opt_outs("u1@example.com"))
    target.config["signals"] = SIGNALS

    replay = signals(target, "dead-letters", "replay")
    later = target.run(a_schema(), a_record(1))

    assert failed.outcomes == {"invalid": 1}
    assert replay.returncode == 0, replay.stderr
    assert later.outcomes == {"filtered": 1}
    assert not sandbox.signals
