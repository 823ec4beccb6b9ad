"""What would be sent is seen, suggested, checked and tested before it is."""

from __future__ import annotations

import json
import os
import re
import subprocess
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from target_stairoids.dry_run.preview import Quota
from tests.support.paths import DATA
from tests.support.singer_io import BIN, a_record, a_schema, text_of

if TYPE_CHECKING:
    from pathlib import Path

    from stairoids_sandbox.server import Sandbox
    from tests.support.singer_io import TargetUnderTest

STREAMS = sorted(path.name for path in DATA.glob("*.jsonl"))
POSTGRES = DATA / "meltanolabs-tap-postgres_full.jsonl"
#: As `docs/mapping.md` has it.
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


def run(
    target: TargetUnderTest,
    *words: str | Path,
    text: str = "",
    env: dict[str, str] | None = None,
    **config: Any,
) -> subprocess.CompletedProcess[str]:
    path = target.folder / "config.json"
    path.write_text(json.dumps({**target.config, **config}))
    return subprocess.run(
        [BIN / "stairoids-signals", *words, "--config", path],
        input=text,
        capture_output=True,
        text=True,
        check=False,
        cwd=target.folder,
        env={**os.environ, **(env or {})},
    )


def previewed(target: TargetUnderTest, file: Path, **config: Any) -> dict[str, Any]:
    done = run(target, "preview", file, "--format", "json", **config)
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout))


def test_preview_shows_what_would_be_sent_and_touches_nothing(
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
            "last_name": 'O\'Neil "Z" 1',
        },
        "properties": {"stage": "qualified", "plan": "pro", "mrr": 1.1},
    }
    assert sandbox.requests == []
    assert not (target.folder / "ledger.db").exists()
    assert not (target.folder / "report.json").exists()


def test_preview_counts_what_the_run_then_does(target: TargetUnderTest) -> None:
    mapping = yaml.safe_load(TEN_LINES)
    before = previewed(target, POSTGRES, **mapping)

    done = target.run_text(POSTGRES.read_text(encoding="utf-8"), **mapping)
    after = previewed(target, POSTGRES, **mapping)

    assert before["to_send"] == done.outcomes["accepted"] > 0
    assert after["to_send"] == 0
    assert before["minutes"] == {"100000 a minute": 0.0}


def test_preview_knows_a_stream_that_a_baseline_has_made_known(
    target: TargetUnderTest,
) -> None:
    """The setting is often left as it was for the first run."""
    target.run(a_schema(), a_record(1), a_record(2), first_run="baseline")
    messages = [a_schema(), a_record(1, email="new@example.com"), a_record(2)]

    done = run(
        target,
        "preview",
        "--format",
        "json",
        text=text_of(messages),
        first_run="baseline",
    )

    outcomes = {o["outcome"]: o["signals"] for o in json.loads(done.stdout)["outcomes"]}
    assert outcomes == {"would_send": 1, "duplicate": 1}


def test_preview_for_people_names_fields_reasons_and_time(
    target: TargetUnderTest,
) -> None:
    messages = text_of([a_schema(company_website="string"), a_record(1), a_record(2)])

    done = run(target, "preview", text=messages, requests_per_minute=60)

    assert "Stream trials, mapping trials" in done.stdout
    assert "named like an email address: `email`" in done.stdout
    assert "2 records not filtered: 0% have account.domain, " in done.stdout
    assert "u1@example.com" in done.stdout
    assert "2 signals would be sent.\n" in done.stdout
    assert "that takes about 2 s (60 a minute).\n" in done.stdout
    assert done.stderr == ""


def test_preview_says_where_the_source_is_from_and_what_is_left_out(
    target: TargetUnderTest,
) -> None:
    logs = [a_schema("logs"), a_record(stream="logs")]
    messages = text_of([a_schema(), a_record(email=None), *logs])
    given: dict[str, Any] = {"signals": [{"stream": "logs", "type": None}]}

    unset = run(target, "preview", text=messages, **given)
    done = run(target, "preview", text=messages, source="billing", **given)

    assert re.search("singer +the extractor's name, else `singer`: `so", unset.stdout)
    assert re.search("billing +the setting `source`\n", done.stdout)
    assert "  is left out: its mapping has `type: null`.\n" in done.stdout
    assert "0 signals would be sent.\nNothing was sent" in done.stdout
    assert done.stderr == ""


@pytest.mark.parametrize(
    ("signals", "a_minute", "a_day", "minutes"),
    [
        (0, 60, 10_000, 0),
        (60, 60, 10_000, 1),
        (10_000, 60, 10_000, 10_000 / 60),
        (10_060, 60, 10_000, 1441),
        (50_000, 1_000, None, 50),
    ],
)
def test_time_that_sending_takes_knows_the_quota_of_the_day(
    signals: int, a_minute: int, a_day: int | None, minutes: float
) -> None:
    assert Quota(a_minute, a_day).minutes(signals) == pytest.approx(minutes)


def test_preview_groups_what_cannot_be_sent(target: TargetUnderTest) -> None:
    records = [a_record(n, email=None) for n in range(3)]

    done = run(target, "preview", text=text_of([a_schema(), *records]))

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


def test_same_record_twice_is_one_signal_over_any_distance(
    target: TargetUnderTest,
) -> None:
    records = [a_record(n % 700) for n in range(1_400)]

    done = run(
        target, "preview", "--format", "json", text=text_of([a_schema(), *records])
    )

    assert json.loads(done.stdout)["to_send"] == 700


def test_no_environment_makes_a_preview_send(
    target: TargetUnderTest, sandbox: Sandbox
) -> None:
    """Meltano exports every setting."""
    done = run(
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
    ("item", "said"),
    [
        (
            {"contact": {"email": "{{ emial }}"}},
            "`emial` is not a property of `crm-contacts`; did you mean `email`?",
        ),
        ({"contact": {"email": "{{ email | }}"}}, "               ^"),
        (
            {"contact": {"email": "{{ email | lowre }}"}},
            "there is no filter `lowre`; did you mean `lower`?",
        ),
        ({"properties": []}, "`properties` of its mapping selects nothing"),
        ({"when": "stage = 'x'"}, "unexpected `=`"),
    ],
)
def test_broken_mapping_is_told_how_to_be_mended(
    target: TargetUnderTest, item: dict[str, Any], said: str
) -> None:
    done = run(
        target, "preview", POSTGRES, signals=[{"stream": "crm-contacts", **item}]
    )

    assert done.returncode == 1
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_hidden_glob_is_told(target: TargetUnderTest) -> None:
    signals = [{"stream": "crm-*"}, {"stream": "crm-contacts"}]

    done = run(target, "preview", POSTGRES, signals=signals)

    assert done.returncode == 1
    assert "`crm-contacts` in `signals` is never used: `crm-*`" in done.stderr


def test_field_that_no_record_had_is_told(target: TargetUnderTest) -> None:
    item = {"stream": "trials", "contact": {"email": "{{ user.emial }}"}}
    messages = [a_schema(user="object"), a_record(user={"email": "a@acme.com"})]

    done = run(target, "preview", text=text_of(messages), signals=[item])

    assert "Stream `trials`: no record had `user.emial`" in done.stderr


@pytest.mark.parametrize("file", STREAMS)
def test_every_real_stream_previews_without_a_mapping(
    target: TargetUnderTest, file: str
) -> None:
    seen = previewed(target, DATA / file)

    assert seen["streams"]


@pytest.mark.parametrize("file", STREAMS)
def test_suggested_mapping_says_what_is_inferred(
    target: TargetUnderTest, file: str
) -> None:
    suggested = yaml.safe_load(run(target, "suggest", DATA / file).stdout)

    inferred = previewed(target, DATA / file)
    mapped = previewed(target, DATA / file, signals=suggested["signals"] or [])

    assert mapped["signals"] == inferred["signals"]
    assert mapped["outcomes"] == inferred["outcomes"]


def test_suggestion_needs_no_config() -> None:
    done = subprocess.run(
        [BIN / "stairoids-signals", "suggest", POSTGRES],
        capture_output=True,
        text=True,
        check=True,
    )

    assert "# crm-contacts: 200 records, 94% with an e-mail address" in done.stdout
    assert 'email: "{{ email | email }}"' in done.stdout


CATALOG = {
    "streams": [
        {
            "tap_stream_id": "crm-contacts",
            "schema": {"properties": {"id": {}, "email": {"type": "string"}}},
            "metadata": [
                {"breadcrumb": [], "metadata": {"table-key-properties": ["id"]}}
            ],
        }
    ]
}


def test_check_is_harmless(target: TargetUnderTest, sandbox: Sandbox) -> None:
    catalog = target.folder / "catalog.json"
    catalog.write_text(json.dumps(CATALOG))

    done = run(target, "check", "--catalog", catalog)

    assert done.returncode == 0, done.stderr
    assert "mapping  fits 1 stream" in done.stdout
    assert "crm-contacts -> crm-contacts: by contact.email" in done.stdout
    assert f"api      {sandbox.url} responses" in done.stdout
    assert sandbox.signals == []


def test_check_finds_a_mapping_that_does_not_fit(target: TargetUnderTest) -> None:
    catalog = target.folder / "catalog.json"
    catalog.write_text(json.dumps(CATALOG))
    signals = [{"stream": "*", "contact": {"email": "{{ emial }}"}}]

    done = run(target, "check", "--catalog", catalog, signals=signals)

    assert done.returncode == 1
    assert "did you mean `email`?" in done.stderr


@pytest.mark.parametrize("text", ["", "[]", "hello", '{"streams": [{}]}', "[1]"])
def test_check_needs_a_catalog_that_is_one(target: TargetUnderTest, text: str) -> None:
    catalog = target.folder / "catalog.json"
    catalog.write_text(text)

    done = run(target, "check", "--catalog", catalog)

    assert done.returncode == 1
    assert "Traceback" not in done.stderr


def test_check_tells_an_api_that_is_not_there(target: TargetUnderTest) -> None:
    done = run(target, "check", api_url="http://127.0.0.1:1/v1")

    assert done.returncode == 1
    assert "http://127.0.0.1:1/v1 cannot be reached" in done.stderr
    assert "`api_url`" in done.stderr


TESTS = """
tests:
- name: a paid trial is told
  stream: trials
  record: {id: 1, email: ada@acme.com, plan: pro, started: 2026-01-02}
  signals:
  - type: trial
    source: billing
    contact: {email: ada@acme.com}
    occurred_at: 2026-01-02T00:00:00Z
    properties: {plan: pro}
- name: a free one is not
  stream: trials
  record: {id: 2, email: ada@acme.com, plan: free}
  outcome: filtered
- name: nobody cannot be told
  stream: trials
  record: {id: 3, email: null, plan: pro}
  outcome: invalid
  reason: contact.email
"""
MAPPED = {
    "stream": "trials",
    "type": "trial",
    "source": "billing",
    "occurred_at": "{{ started }}",
    "properties": ["plan"],
    "when": "plan != 'free'",
}


def test_mapping_tests_pass_without_key_and_network(target: TargetUnderTest) -> None:
    file = target.folder / "tests.yml"
    file.write_text(TESTS)
    del target.config["api_key"]

    done = run(target, "test", file, signals=[MAPPED], api_url="http://127.0.0.1:1")

    assert done.returncode == 0, done.stdout
    assert done.stdout.splitlines()[-1] == "3 passed, 0 failed"
    assert not (target.folder / "ledger.db").exists()


def test_mapping_test_that_fails_shows_the_difference(target: TargetUnderTest) -> None:
    file = target.folder / "tests.yml"
    file.write_text(TESTS)

    done = run(target, "test", file, signals=[{**MAPPED, "source": "crm", "when": "1"}])

    assert done.returncode == 1
    lines = [line.strip() for line in done.stdout.splitlines()]
    assert "FAILED  a paid trial is told" in lines
    assert "-  source: billing" in lines
    assert "+  source: crm" in lines
    assert "-outcome: filtered" in lines
    assert lines[-1] == "1 passed, 2 failed"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("tests: [", "not YAML"),
        ("[]", "not an object with `tests`"),
        ("tests: []", "`tests` must not be empty"),
        ("tests: [{name: a, stream: s}]", "`tests[0].record` is required"),
        ("tests: [{name: a, stream: s, record: {}}]", "either `signals` or `outcome`"),
        (
            "tests: [{name: a, stream: s, record: {}, signal: []}]",
            "`tests[0].signal` is not a setting; did you mean `signals`?",
        ),
    ],
)
def test_mapping_tests_that_are_none_are_told_so(
    target: TargetUnderTest, text: str, said: str
) -> None:
    file = target.folder / "tests.yml"
    file.write_text(text)

    done = run(target, "test", file)

    assert done.returncode == 1
    assert said in done.stderr


def test_each_record_is_explained_by_its_key(
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

    table = run(target, "explain", text=messages, signals=[item])
    asked = ["--only", "filtered", "--only", "invalid", "--format", "json"]
    lines = run(target, "explain", *asked, text=messages, signals=[item])

    assert [line.split()[::2][:2] for line in table.stdout.splitlines()] == [
        ["duplicate", "id=1"],
        ["duplicate", "id=2"],
        ["filtered", "id=3"],
        ["invalid", "id=4"],
        ["unchanged", "id=2"],
        ["would_send", "id=5"],
        ["would_send", "id=1"],
    ]
    assert table.stdout.endswith("id=1  says something else than before\n")
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
