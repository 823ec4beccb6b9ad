"""`stairoids-signals test`: mapping tests."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.commands import signals

if TYPE_CHECKING:
    from tests.support.singer_io import TargetUnderTest

TESTS = """
tests:
- name: a paid trial is sent
  stream: trials
  record: {id: 1, email: ada@acme.com, plan: pro, started: 2026-01-02}
  signals:
  - type: trial
    source: billing
    account: {domain: acme.com}
    contact: {email: ada@acme.com}
    occurred_at: 2026-01-02T00:00:00Z
    properties: {plan: pro}
- name: a free trial is filtered
  stream: trials
  record: {id: 2, email: ada@acme.com, plan: free}
  outcome: filtered
- name: a trial without a person is invalid
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


def test_mapping_tests_need_no_key_and_no_network(target: TargetUnderTest) -> None:
    file = target.folder / "tests.yml"
    file.write_text(TESTS)
    del target.config["api_key"]

    done = signals(target, "test", file, signals=[MAPPED], api_url="http://127.0.0.1:1")

    assert done.returncode == 0, done.stdout
    assert done.stdout.splitlines()[-1] == "3 passed, 0 failed"
    assert not (target.folder / "ledger.db").exists()


def test_failed_mapping_test_shows_the_difference(target: TargetUnderTest) -> None:
    file = target.folder / "tests.yml"
    file.write_text(TESTS)

    done = signals(
        target, "test", file, signals=[{**MAPPED, "source": "crm", "when": "plan"}]
    )

    assert done.returncode == 1
    lines = [line.strip() for line in done.stdout.splitlines()]
    assert "FAILED  a paid trial is sent" in lines
    assert "-  source: billing" in lines
    assert "+  source: crm" in lines
    assert "-outcome: filtered" in lines
    assert lines[-1] == "1 passed, 2 failed"


def test_wrong_config_is_told_once_and_fails_no_test(target: TargetUnderTest) -> None:
    file = target.folder / "tests.yml"
    file.write_text(TESTS)

    done = signals(target, "test", file, namespce="eu")

    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.count("did you mean `namespace`?") == 1


def test_variable_is_warned_about_once(
    target: TargetUnderTest, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = target.folder / "tests.yml"
    file.write_text(TESTS)
    monkeypatch.setenv("TARGET_STAIROIDS_SOURCE", "other")

    done = signals(target, "test", file, signals=[MAPPED])

    assert done.stderr.count("`TARGET_STAIROIDS_SOURCE` is set, but it is not") == 1


def test_private_column_is_named_once_for_all_tests(target: TargetUnderTest) -> None:
    file = target.folder / "tests.yml"
    file.write_text(TESTS.replace("record: {", "record: {ssn: x, "))

    done = signals(target, "test", file, signals=[{**MAPPED, "properties": "*"}])

    assert done.stderr.count("inference leaves out `ssn`") == 1


def test_names_in_a_mapping_test_are_texts(target: TargetUnderTest) -> None:
    """YAML reads a bare `1` as a number, and `on` as a boolean."""
    file = target.folder / "tests.yml"
    file.write_text(
        """
tests:
- name: odd names
  stream: trials
  record:
    <<: &r {1: a, on: b, null: c, 2025-01-02: d, email: u@acme.com, p: {no: e}}
    numbers: [12:30, 01067, 1_0, 0x1, 1, -2.50, 1e3, .5, 5.]
  signals:
  - type: trials
    source: crm
    account: {domain: acme.com}
    contact: {email: u@acme.com}
    properties:
      {1: a, on: b, "null": c, 2025-01-02: d, p.no: e, numbers:
        '["12:30","01067","1_0","0x1",1,-2.5,1000.0,0.5,5.0]'}
- name: merged
  stream: trials
  record: {<<: *r, email: "@"}
  outcome: invalid
"""
    )
    mapping = {"stream": "trials", "properties": ["*", "p", "numbers"], "source": "crm"}

    done = signals(target, "test", file, signals=[mapping])

    assert done.stdout.splitlines()[-1] == "2 passed, 0 failed"


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("tests: [", "not YAML"),
        ("[]", "not an object with `tests`"),
        ("tests: []", "`tests` must not be empty"),
        ("tests: [{x: !!binary eA==}]", "have a value that JSON lacks"),
        ("tests: [{x: !!set {a}}]", "have a value that JSON lacks"),
        ("tests: [&a [*a]]", "have a value that JSON lacks"),
        ("tests: [{name: a, name: b}]", "not YAML: `name` is set twice"),
        ("tests: [{{}: 1}]", "not YAML: while constructing a mapping"),
        ("tests: [{name: a, stream: s}]", "`tests[0].record` is required"),
        ("tests: [{name: a, stream: s, record: {}}]", "either `signals` or `outcome`"),
        (
            "tests: [{name: a, stream: s, record: {}, signal: []}]",
            "`tests[0].signal` is not a setting; did you mean `signals`?",
        ),
    ],
)
def test_wrong_file_of_mapping_tests_is_an_error(
    target: TargetUnderTest, text: str, error: str
) -> None:
    file = target.folder / "tests.yml"
    file.write_text(text)

    done = signals(target, "test", file)

    assert done.returncode == 1
    assert error in done.stderr


def test_number_is_not_the_boolean_that_is_expected(target: TargetUnderTest) -> None:
    file = target.folder / "tests.yml"
    file.write_text(TESTS.replace("plan: pro}", "plan: true}", 1))
    done = signals(target, "test", file, signals=[MAPPED])
    file.write_text(
        file.read_text().replace("properties: {plan: pro}", "properties: {plan: 1}")
    )
    wrong = signals(target, "test", file, signals=[MAPPED])

    assert "FAILED  a paid trial is sent" in done.stdout
    assert "FAILED  a paid trial is sent" in wrong.stdout
