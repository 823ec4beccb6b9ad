"""`stairoids-signals preview`, `suggest` and `explain`."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from target_stairoids.reporting.run_status import Plan
from tests.support.commands import command, signals, target_main
from tests.support.paths import DATA
from tests.support.singer_io import a_record, a_schema, text_of

if TYPE_CHECKING:
    from pathlib import Path

    from stairoids_sandbox import Sandbox
    from tests.support.singer_io import Message, TargetUnderTest

STREAMS = sorted(path.name for path in DATA.glob("*.jsonl"))
POSTGRES = DATA / "meltanolabs-tap-postgres_full.jsonl"
#: The mapping of `docs/reference/mapping.md`.
TEN_LINES = """
signals:
- stream: crm-contacts
  type: contact_qualified
  source: crm
  contact: {email: "{{ email }}", first_name: "{{ full_name | first_name }}"}
  occurred_at: "{{ signed_up }}"
  properties: [stage, {plan: "{{ props.plan }}", mrr: "{{ mrr | float }}"}]
  when: "stage == 'qualified'"
  key: [id]
  send: once
"""


def previewed(target: TargetUnderTest, file: Path, **config: Any) -> dict[str, Any]:
    done = signals(target, "preview", file, "--format", "json", **config)
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout))


def test_preview_shows_signals_and_writes_nothing(
    target: TargetUnderTest, sandbox: Sandbox
) -> None:
    mapping = yaml.safe_load(TEN_LINES)

    seen = previewed(target, POSTGRES, **mapping)

    (contact,) = seen["streams"]["crm-contacts"]
    assert contact["fields"]["contact.email"] == {
        "template": "{{ email }}",
        "why": "mapping",
    }
    assert contact["fields"]["contact.last_name"]["why"].startswith("named like")
    assert contact["records"] > 0
    assert contact["coverage"]["occurred_at"] == 1.0
    assert contact["coverage"]["account.domain"] == 0.0
    assert seen["signals"][0] == {
        "stream": "crm-contacts",
        "type": "contact_qualified",
        "source": "crm",
        "occurred_at": "2026-01-01T00:59:59.123456Z",
        "contact": {
            "email": "user1@example.com",
            "first_name": "Zoë",
            "last_name": "O'Neil 1",
        },
        "properties": {"stage": "qualified", "plan": "pro", "mrr": 1.1},
    }
    assert sandbox.requests == []
    assert not (target.folder / "ledger.db").exists()
    assert not (target.folder / "report.json").exists()


@pytest.mark.slow
def test_preview_counts_the_signals_that_the_run_sends(target: TargetUnderTest) -> None:
    mapping = yaml.safe_load(TEN_LINES)
    before = previewed(target, POSTGRES, **mapping)

    done = target.run_text(POSTGRES.read_text(encoding="utf-8"), **mapping)
    after = previewed(target, POSTGRES, **mapping)

    assert before["to_send"] == done.outcomes["accepted"] > 0
    assert after["to_send"] == 0
    assert before["minutes"] == {"100000 per minute": 0.0}


def test_preview_knows_the_baseline_of_a_stream(
    target: TargetUnderTest,
) -> None:
    """Users often keep the setting of the first run."""
    target.run(a_schema(), a_record(1), a_record(2), first_run="baseline")
    messages = [a_schema(), a_record(1, email="new@example.com"), a_record(2)]

    done = signals(
        target,
        "preview",
        "--format",
        "json",
        text=text_of(messages),
        first_run="baseline",
    )

    outcomes = {o["outcome"]: o["signals"] for o in json.loads(done.stdout)["outcomes"]}
    assert outcomes == {"would_send": 1, "duplicate": 1}


def test_preview_table_has_fields_reasons_and_time(
    target: TargetUnderTest,
) -> None:
    messages = text_of([a_schema(company_website="string"), a_record(1), a_record(2)])

    limits: dict[str, Any] = {"requests_per_minute": 60, "max_signals_per_run": 1}
    done = signals(target, "preview", text=messages, **limits)

    assert "Stream trials, mapping trials" in done.stdout
    assert "named like an email address: `email`" in done.stdout
    assert "2 records not filtered: 0% have account.domain, " in done.stdout
    assert "u1@example.com" in done.stdout
    assert "2 signals would be sent.\nEach run sends at most 1 (" in done.stdout
    assert "that takes about 2 s (60 per minute).\n" in done.stdout
    assert done.stderr == ""


def test_preview_and_suggest_name_the_reason_of_a_stream_of_own_staff(
    target: TargetUnderTest,
) -> None:
    text = text_of([a_schema("owners"), a_record(1, "owners")])
    reason = "is named like a list of your own staff."

    assert f"is left out: it {reason}\n" in signals(target, "preview", text=text).stdout
    assert f"# owners {reason}\n" in signals(target, "suggest", text=text).stdout


def test_suggest_prints_the_rule_about_deletion_and_consent(
    target: TargetUnderTest,
) -> None:
    schema = a_schema(is_deleted="boolean", gdpr_consent="string", ssn="string")
    deleted = a_record(1, is_deleted=True, gdpr_consent="yes", ssn="canary")

    done = signals(target, "suggest", text=text_of([schema, deleted]))

    rule = 'when: "not (is_deleted | opted_out or gdpr_consent | refused)"'
    assert rule in done.stdout
    assert "properties: [id, is_deleted, gdpr_consent]\n" in done.stdout
    assert "`ssn`" in done.stderr


#: A lead in good order, and others with values that cannot be read.
LEADS = [
    a_schema(
        "leads",
        **dict.fromkeys(["website", "first_name", "signed_up", "plan"], "string"),
    ),
    a_record(
        1,
        "leads",
        email="ada@acme.com",
        website="https://www.acme.com/x",
        first_name="Ada",
        signed_up="2026-01-31",
        plan="pro",
    ),
    a_record(
        2,
        "leads",
        email="ada at acme",
        website="birch",
        first_name="1234",
        signed_up="31/01/26",
        plan=" ",
    ),
    a_record(3, "leads", email="N/A", website=None, first_name="", plan="pro"),
    a_record(4, "leads", email="bob@gmail.com", signed_up="9999-12-31", plan="pro"),
]


def test_preview_counts_empty_fields_and_unreadable_values(
    target: TargetUnderTest,
) -> None:
    item = {"stream": "leads", "occurred_at": "{{ signed_up }}"}
    target.config["signals"] = [item]
    text = text_of(LEADS)

    shown = signals(target, "preview", text=text).stdout
    done = signals(target, "preview", "--format", "json", text=text)

    (lead,) = json.loads(done.stdout)["streams"]["leads"]
    assert lead["empty"] == {
        "account.domain": 3,
        "account.name": 4,
        "contact.email": 2,
        "contact.first_name": 3,
        "contact.last_name": 4,
        "occurred_at": 3,
        "properties.plan": 1,
    }
    assert lead["unreadable"] == {
        "email": 1,
        "first_name": 1,
        "signed_up": 2,
        "website": 1,
    }
    assert "  Left empty: account.domain (3), account.name (4), contact" in shown
    assert "  Cannot be read: email (1), website (1), first_name (1), sig" in shown


def test_preview_lists_the_columns_left_out_for_privacy(
    target: TargetUnderTest,
) -> None:
    text = text_of([a_schema(ssn="string"), a_record(ssn="078-05-1120")])

    shown = signals(target, "preview", text=text).stdout
    done = signals(target, "preview", "--format", "json", text=text)

    (trial,) = json.loads(done.stdout)["streams"]["trials"]
    assert trial["private"] == ["ssn"]
    assert "  Left out for privacy: ssn\n" in shown


def test_suggest_names_suppress_for_a_stream_of_opt_outs(
    target: TargetUnderTest,
) -> None:
    text = text_of([a_schema("crm-opt_outs"), a_record(stream="crm-opt_outs")])

    done = signals(target, "suggest", text=text)

    assert "crm-opt_outs is named like a list of people who opted out" in done.stdout
    assert '#   suppress: "{{ }}"' in done.stdout


def test_preview_counts_opt_outs_that_cannot_be_read(target: TargetUnderTest) -> None:
    item = {"stream": "leads", "suppress": "{{ email or website }}"}

    done = signals(
        target, "preview", "--format", "json", text=text_of(LEADS), signals=[item]
    )

    found = json.loads(done.stdout)
    (mapping,) = found["streams"]["leads"]
    assert mapping["unreadable"] == {"email": 1, "website": 1}
    assert mapping["empty"] == {}
    assert found["to_send"] == 0


def test_preview_explains_the_source_and_streams_left_out(
    target: TargetUnderTest,
) -> None:
    logs = [a_schema("logs"), a_record(stream="logs")]
    messages = text_of([a_schema(), a_record(email=None), *logs])
    given: dict[str, Any] = {"signals": [{"stream": "logs", "type": None}]}

    unset = signals(target, "preview", text=messages, **given)
    done = signals(target, "preview", text=messages, source="billing", **given)

    why = "the setting `source`, else the extractor's name or `singer`"
    assert re.search(f"singer +{why}\n", unset.stdout)
    assert re.search(f"billing +{why}\n", done.stdout)
    assert "  is left out: its mapping has `type: null`.\n" in done.stdout
    assert "0 signals would be sent.\nNothing was sent" in done.stdout
    assert done.stderr == ""


@pytest.mark.parametrize(
    ("requests", "per_minute", "per_day", "minutes"),
    [
        (0, 60, 10_000, 0),
        (60, 60, 10_000, 1),
        (10_000, 60, 10_000, 10_000 / 60),
        (10_060, 60, 10_000, 1441),
        (50_000, 1_000, None, 50),
    ],
)
def test_quota_of_the_day_is_part_of_the_time_to_send(
    requests: int, per_minute: int, per_day: int | None, minutes: float
) -> None:
    assert Plan(per_minute, per_day).minutes(requests) == pytest.approx(minutes)


def test_preview_groups_invalid_records_by_reason(target: TargetUnderTest) -> None:
    records = [a_record(n, email=None) for n in range(3)]

    done = signals(target, "preview", text=text_of([a_schema(), *records]))

    (row,) = [line.split() for line in done.stdout.splitlines() if "invalid" in line]
    assert row[:3] == ["trials", "invalid", "3"]
    assert row[3:] == [
        "neither",
        "account.domain",
        "nor",
        "contact.email",
        "is",
        "known",
    ]


@pytest.mark.parametrize(
    ("condition", "is_shown"),
    [("plan == 'Pro'", True), ("plan == 'pro' and id < 2", False), (None, False)],
)
def test_preview_says_that_a_condition_filters_everything(
    target: TargetUnderTest, condition: str | None, *, is_shown: bool
) -> None:
    text = text_of(
        [a_schema(plan="string"), *[a_record(n, plan="pro") for n in (1, 2)]]
    )

    done = signals(
        target, "preview", text=text, signals=[{"stream": "trials", "when": condition}]
    )

    assert ("  `when` filters all 2 records. Upper" in done.stdout) == is_shown


def test_preview_counts_a_repeated_record_once(
    target: TargetUnderTest,
) -> None:
    records = [a_record(n % 700) for n in range(1_400)]

    done = signals(
        target, "preview", "--format", "json", text=text_of([a_schema(), *records])
    )

    assert json.loads(done.stdout)["to_send"] == 700


@pytest.mark.parametrize(
    ("words", "exit_code"),
    [(["preview"], 0), (["explain"], 0), (["send", "--limit", "1"], 1)],
)
def test_dry_run_that_a_variable_asks_for_ends_only_commands_that_send(
    target: TargetUnderTest, sandbox: Sandbox, words: list[str], exit_code: int
) -> None:
    """The config file is read, and not the variable."""
    messages = target.folder / "messages.jsonl"
    messages.write_text(text_of([a_schema(), a_record()]))

    done = signals(target, *words, messages, env={"TARGET_STAIROIDS_DRY_RUN": "true"})

    assert done.returncode == exit_code, done.stderr
    assert done.stderr.count("`TARGET_STAIROIDS_DRY_RUN` is set, but it is not") > 0
    assert sandbox.signals == []


def test_target_refuses_to_send_while_a_variable_asks_for_a_dry_run(
    target: TargetUnderTest, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, messages = target.folder / "config.json", target.folder / "messages.jsonl"
    config.write_text(json.dumps(target.config))
    messages.write_text(text_of([a_schema(), a_record()]))
    monkeypatch.setenv("TARGET_STAIROIDS_DRY_RUN", "true")

    done = target_main("--config", config, "--input", messages)

    assert done.returncode == 1
    assert "`TARGET_STAIROIDS_DRY_RUN` is set, but it is not read." in done.stderr
    assert sandbox.signals == []


def test_preview_sends_nothing_if_the_environment_says_dry_run_false(
    target: TargetUnderTest, sandbox: Sandbox
) -> None:
    """Meltano exports every setting."""
    done = signals(
        target,
        "preview",
        "--config",
        "ENV",
        text=text_of([a_schema(), a_record()]),
        env={"TARGET_STAIROIDS_DRY_RUN": "false"},
    )

    assert "1 signal would be sent" in done.stdout
    assert sandbox.requests == []


@pytest.mark.parametrize(
    ("item", "error"),
    [
        (
            {"contact": {"email": "{{ emial }}"}},
            "`emial` is not a property of `crm-contacts`; did you mean `email`?",
        ),
        ({"contact": {"email": "{{ email | }}"}}, "expected token 'name', got"),
        (
            {"contact": {"email": "{{ email | lowre }}"}},
            "there is no filter `lowre`; did you mean `lower`?",
        ),
        ({"properties": []}, "`properties` of its mapping selects nothing"),
        ({"when": "stage = 'x'"}, "unexpected `=`; write `==` to compare"),
        ({"when": "{{ stage }} == 'x'"}, "no braces, as in `plan == 'pro'`"),
    ],
)
def test_preview_explains_a_wrong_mapping(
    target: TargetUnderTest, item: dict[str, Any], error: str
) -> None:
    done = signals(
        target, "preview", POSTGRES, signals=[{"stream": "crm-contacts", **item}]
    )

    assert done.returncode == 1
    assert error in done.stderr


def test_preview_refuses_a_mapping_hidden_by_a_glob(target: TargetUnderTest) -> None:
    items = [{"stream": "crm-*"}, {"stream": "crm-contacts"}]

    done = signals(target, "preview", POSTGRES, signals=items)

    assert done.returncode == 1
    assert "`crm-contacts` in `signals` is never used: `crm-*`" in done.stderr


def test_preview_warns_about_a_field_that_no_record_has(
    target: TargetUnderTest,
) -> None:
    item = {"stream": "trials", "contact": {"email": "{{ user.emial }}"}}
    messages = [a_schema(user="object"), a_record(user={"email": "a@acme.com"})]

    done = signals(target, "preview", text=text_of(messages), signals=[item])

    assert "Stream `trials`: no record had `user.emial`" in done.stderr


@pytest.mark.parametrize("file", STREAMS)
def test_suggested_mapping_makes_the_inferred_signals(
    target: TargetUnderTest, file: str
) -> None:
    suggested = yaml.safe_load(signals(target, "suggest", DATA / file).stdout)

    inferred = previewed(target, DATA / file)
    mapped = previewed(target, DATA / file, signals=suggested["signals"] or [])

    assert inferred["streams"]
    assert mapped["signals"] == inferred["signals"]
    assert mapped["outcomes"] == inferred["outcomes"]


@pytest.mark.parametrize("schema", [{}, {"type": ["null", "object", "string"]}])
@pytest.mark.parametrize("value", ["gold", {"email": "bob@b.co", "role": 1}, [1]])
def test_suggested_mapping_sends_no_part_of_an_inner_object(
    target: TargetUnderTest, tmp_path: Path, schema: dict[str, Any], value: object
) -> None:
    message = a_schema()
    message["schema"]["properties"]["member"] = schema
    path = tmp_path / "messages.jsonl"
    path.write_text(text_of([message, a_record(member=value)]), encoding="utf-8")
    suggested = yaml.safe_load(signals(target, "suggest", path).stdout)

    inferred = previewed(target, path)
    mapped = previewed(target, path, signals=suggested["signals"])

    (signal,) = inferred["signals"]
    assert mapped["signals"] == [signal]
    assert signal["properties"].get("member") == (value if value == "gold" else None)


def test_suggested_mapping_without_properties_is_one(target: TargetUnderTest) -> None:
    text = text_of(
        [a_schema(key=["email"]), {**a_record(), "record": {"email": "a@b.co"}}]
    )
    text = text.replace('"id": {"type": "integer"}, ', "")
    suggested = yaml.safe_load(signals(target, "suggest", text=text).stdout)

    run = target.run_text(text, signals=suggested["signals"])

    assert suggested["signals"][0]["properties"] is None
    assert run.outcomes == {"accepted": 1}


def test_suggested_mappings_match_their_own_streams_only(
    sandbox: Sandbox, target: TargetUnderTest, tmp_path: Path
) -> None:
    names = [
        "Sheet [2024]",
        "a*b",
        "axb",
        "x?",
        "xy",
        "[!a]",
        "{email}",
        "é: #1",
        "- y",
    ]
    messages = tmp_path / "messages.jsonl"
    messages.write_text(
        text_of(m for name in names for m in (a_schema(name), a_record(stream=name)))
    )
    suggested = yaml.safe_load(signals(target, "suggest", messages).stdout)

    run = target.run_text(messages.read_text(), signals=suggested["signals"])

    assert run.outcomes == {"accepted": len(names)}
    assert sorted(signal.body["type"] for signal in sandbox.signals) == sorted(names)


def test_suggest_names_paths_that_are_empty_or_too_deep(
    target: TargetUnderTest,
) -> None:
    found: dict[str, Any] = {"type": "object"}
    for name in ("email", "contact", "user", "data"):
        found = {"type": "object", "properties": {name: found}}
    record = {"data": {"user": {"contact": {"email": "ann@acme.com"}}}}
    schemas = {"listed": found, "open": {"properties": {"data": {}}}}
    messages: list[Message] = []
    for name, schema in schemas.items():
        head = {"type": "SCHEMA", "stream": name, "schema": schema}
        messages += [
            {**head, "key_properties": []},
            {"type": "RECORD", "stream": name, "record": record},
        ]
    text = text_of(messages)

    printed = signals(target, "suggest", text=text).stdout

    assert "# Inference reads objects in objects. Write a deeper path as" in printed
    assert "# Replace the paths: these fields are empty in all records." in printed


def test_suggest_reads_no_config_that_lies_in_the_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "config.json").write_text('{"path": "of-the-tap.jsonl"}')
    monkeypatch.chdir(tmp_path)

    assert command("suggest", POSTGRES).returncode == 0


@pytest.mark.parametrize(("name", "code"), [("suggest", 1), ("preview", 0)])
def test_input_without_a_stream_is_named(
    target: TargetUnderTest, name: str, code: int
) -> None:
    done = signals(target, name, text='{"type": "STATE", "value": {}}')

    assert (done.returncode, "signals:" in done.stdout) == (code, False)
    assert "no SCHEMA, so there is no stream. Did the tap fail?" in done.stderr


def test_explain_shows_a_key_with_a_fraction(target: TargetUnderTest) -> None:
    text = text_of([a_schema(), a_record(1.5)])  # type: ignore[arg-type]

    done = signals(target, "explain", text=text)

    assert done.stdout.split()[:3] == ["would_send", "trials", "id=1.5"]


def test_explain_does_not_say_that_a_state_behind_once_was_sent(
    target: TargetUnderTest,
) -> None:
    items = [{"stream": "trials", "send": "once"}]
    target.config["signals"] = items
    target.run(a_schema(plan="string"), a_record(1, plan="a"))
    messages = text_of([a_schema(plan="string"), a_record(1, plan="b")])

    done = signals(target, "explain", text=messages)

    assert done.stdout.startswith("duplicate   trials  id=1  nothing to do: a state of")
    assert "this state" not in done.stdout


@pytest.mark.parametrize(
    "messages", [[], [a_schema()], [{"type": "STATE", "value": {}}]]
)
def test_explain_says_that_there_are_no_records(
    target: TargetUnderTest, messages: list[Message]
) -> None:
    done = signals(target, "explain", text=text_of(messages))

    assert (done.returncode, done.stdout) == (0, "")
    assert "The messages have no records, so there are no outcomes." in done.stderr


@pytest.mark.parametrize(
    "words",
    [
        ["preview", "--online"],
        ["preview", "--against", "config.json"],
        ["send", "--limit", "1"],
    ],
)
def test_warnings_about_the_config_are_printed_once(
    target: TargetUnderTest, monkeypatch: pytest.MonkeyPatch, words: list[str]
) -> None:
    monkeypatch.setenv("TARGET_STAIROIDS_MAX_EVENT_AGE_DAYS", "9")
    messages = target.folder / "messages.jsonl"
    messages.write_text(text_of([a_schema(ssn="string"), a_record(1, ssn="x")]))
    old = target.folder / "config.json"
    words = [w.replace("config.json", str(old)) for w in words]
    old.write_text(json.dumps(target.config))

    done = signals(target, *words, messages)

    assert done.returncode == 0, done.stderr
    assert done.stderr.count("`TARGET_STAIROIDS_MAX_EVENT_AGE_DAYS` is set, but") == 1
    assert done.stderr.count("inference leaves out `ssn`") == 1


def test_suggest_says_that_a_stream_has_no_records(target: TargetUnderTest) -> None:
    done = signals(target, "suggest", text=text_of([a_schema()]))

    assert "# trials: no records, so only the names of the columns" in done.stdout


def test_suggest_needs_no_config() -> None:
    done = command("suggest", POSTGRES)

    assert "# crm-contacts: 200 records, 94% with an email address" in done.stdout
    assert 'email: "{{ email }}"' in done.stdout


def test_explain_shows_key_outcome_and_reason_of_each_record(
    sandbox: Sandbox, target: TargetUnderTest
) -> None:
    item = {"stream": "trials", "when": "plan != 'free'"}
    schema = a_schema(plan="string", updated_at="string", bookmark="updated_at")
    seen = [
        a_record(1, plan="pro", updated_at="2026-01-01"),
        a_record(2, plan="pro", updated_at="2026-01-01"),
        a_record(3, plan="free", updated_at="2026-01-01"),
        a_record(4, plan="pro", updated_at="2026-01-01", email=None),
    ]
    target.run(schema, *seen, signals=[item])
    touched = a_record(2, plan="pro", updated_at="2026-01-02")
    new = a_record(5, plan="pro", updated_at="2026-01-02")
    changed = a_record(1, plan="team", updated_at="2026-01-02")
    messages = text_of([schema, *seen, touched, new, changed])

    table = signals(target, "explain", text=messages, signals=[item])
    asked = ["--only", "filtered", "--only", "invalid", "--format", "json"]
    lines = signals(target, "explain", *asked, text=messages, signals=[item])

    assert [line.split()[::2][:2] for line in table.stdout.splitlines()] == [
        ["duplicate", "id=1"],
        ["duplicate", "id=2"],
        ["filtered", "id=3"],
        ["invalid", "id=4"],
        ["unchanged", "id=2"],
        ["would_send", "id=5"],
        ["would_send", "id=1"],
    ]
    assert table.stdout.endswith("id=1  its content changed\n")
    assert [json.loads(line) for line in lines.stdout.splitlines()] == [
        {
            "outcome": "filtered",
            "stream": "trials",
            "mapping": "trials",
            "key": {"id": 3},
            "reason": "by `when`",
        },
        {
            "outcome": "invalid",
            "stream": "trials",
            "mapping": "trials",
            "key": {"id": 4},
            "reason": "neither account.domain nor contact.email is known",
        },
    ]
    assert len(sandbox.signals) == 2
    assert "u1@example.com" not in table.stdout + table.stderr


def test_record_that_the_ledger_does_not_know_is_new(target: TargetUnderTest) -> None:
    messages = text_of([a_schema(), a_record(1)])
    lines = []
    for words in (["preview"], ["explain"], ["explain", "--only", "would_send"]):
        lines += signals(target, *words, text=messages).stdout.splitlines()
    target.run(a_schema(), a_record(1))
    changed = text_of([a_schema(), a_record(1, email="ada@example.com")])
    lines += signals(target, "explain", text=changed).stdout.splitlines()

    shown = [" ".join(line.split()) for line in lines if "would_send" in line]
    assert shown == [
        "trials would_send 1 new",
        "would_send trials id=1 new",
        "would_send trials id=1 new",
        "would_send trials id=1 another person has its key",
    ]


@pytest.mark.parametrize("name", ["preview", "suggest", "explain"])
def test_dead_letters_of_a_dry_run_fail_no_command(
    target: TargetUnderTest, tmp_path: Path, name: str
) -> None:
    messages = tmp_path / "messages.jsonl"
    messages.write_text(text_of([a_schema(), a_record(1, email=None)]))

    done = signals(target, name, messages, fail_on_dead_letters=True)
    run = target.run_text(messages.read_text(), dry_run=True, fail_on_dead_letters=True)

    assert (done.returncode, run.exit_code) == (0, 0)
    assert "E108" not in done.stderr


def test_coverage_counts_the_columns_of_a_later_schema(target: TargetUnderTest) -> None:
    first, second = (
        {
            "type": "SCHEMA",
            "stream": "trials",
            "key_properties": ["id"],
            "schema": {"properties": {n: {"type": "string"} for n in ("id", *names)}},
        }
        for names in (["website"], ["website", "email"])
    )
    site = {"website": "acme.com"}
    records = [
        {"type": "RECORD", "stream": "trials", "record": {"id": "1", **site}},
        {
            "type": "RECORD",
            "stream": "trials",
            "record": {"id": "2", "email": "ann@acme.com", **site},
        },
    ]
    text = text_of([first, records[0], second, records[1]])

    done = signals(target, "preview", text=text)

    assert "50% have contact.email" in done.stdout


def test_suggested_key_is_one_that_a_mapping_may_name(target: TargetUnderTest) -> None:
    columns = {"properties": {"email": {}}, "additionalProperties": True}
    messages = text_of([{**a_schema(), "schema": columns}, a_record(1)])
    suggested = signals(target, "suggest", "--format", "json", text=messages)

    done = signals(target, "preview", text=messages, **json.loads(suggested.stdout))

    assert done.returncode == 0, done.stderr
    assert "1 signal would be sent." in done.stdout
