"""Singer messages, stream maps and errors of input and mapping, end to end."""

from __future__ import annotations

import gzip
import json
import re
import signal
from typing import TYPE_CHECKING, Any

import pytest
from singer_sdk.exceptions import (
    MissingKeyPropertiesError,
    RecordsWithoutSchemaException,
)

from stairoids_common.config_errors import WrongConfigError
from tests.support.connectors import on_both_connectors
from tests.support.singer_io import (
    Message,
    TargetUnderTest,
    a_record,
    a_schema,
    a_state,
    interrupted,
    text_of,
)

if TYPE_CHECKING:
    from pathlib import Path

    from stairoids_sandbox import Sandbox


def emails(sandbox: Sandbox) -> list[str]:
    return [s.body["contact"]["email"] for s in sandbox.signals]


@pytest.mark.parametrize(
    ("bad", "error"),
    [
        ("not json", "Line 4 of the input is not JSON"),
        ('{"type":"RECORD","record":{"id":1}', "Line 4 of the input has only a part"),
        ('{"type":"RECORD","stream":"tri', "Line 4 of the input has only a part"),
        ('["RECORD"]', "Line 4 of the input is not a Singer message"),
        ('{"id": 1}', "Rows in JSON need a tap, such as `tap-jsonl`."),
        ('{"type":"FANCY"}', "unknown type `FANCY`"),
        ('{"type":"RECORD","stream":"trials"}', "lacks its record"),
        ('{"type":"SCHEMA","stream":"x"}', "A SCHEMA message lacks `schema`"),
        ('{"type":"STATE"}', "A STATE message lacks `value`"),
    ],
)
def test_bad_message_ends_the_run_after_everything_before_it(
    sandbox: Sandbox,
    target: TargetUnderTest,
    caplog: pytest.LogCaptureFixture,
    bad: str,
    error: str,
) -> None:
    run = target.run(a_schema(), a_record(1), a_state(1), bad, a_record(2), a_state(2))

    assert run.exit_code == 1
    assert error in run.error
    assert "Line 4" in run.error or "message 4 of the input" in caplog.text
    assert run.outcomes == {"accepted": 1}
    assert run.states == [{"at": 1}]
    assert emails(sandbox) == ["u1@example.com"]


@pytest.mark.parametrize(
    ("bad", "error"),
    [
        (a_record(2, stream="strange"), RecordsWithoutSchemaException),
        (
            {"type": "RECORD", "stream": "trials", "record": {"email": "x@y.example"}},
            MissingKeyPropertiesError,
        ),
    ],
    ids=["before its schema", "without its key"],
)
def test_record_without_schema_or_key_raises_the_error_of_the_sdk(
    sandbox: Sandbox, target: TargetUnderTest, bad: Message, error: type[Exception]
) -> None:
    with pytest.raises(error):
        target.run(a_schema(), a_record(1), bad)

    assert emails(sandbox) == ["u1@example.com"]


def test_records_in_batch_files_are_sent(
    sandbox: Sandbox, target: TargetUnderTest, tmp_path: Path
) -> None:
    file = tmp_path / "batch.json.gz"
    lines = [json.dumps(a_record(n)["record"]) for n in (1, 2, 3)]
    file.write_bytes(gzip.compress("\n".join(lines).encode()))
    batch = {
        "type": "BATCH",
        "stream": "trials",
        "encoding": {"format": "jsonl", "compression": "gzip"},
        "manifest": [file.as_uri()],
    }

    run = target.run(a_schema(), batch, a_state())

    assert run.outcomes == {"accepted": 3}
    assert run.states == [{"at": 1}]
    assert len(sandbox.signals) == 3


@pytest.mark.parametrize("size", [20_000, 100])
def test_sigterm_ends_the_run_amid_batch_files(
    sandbox: Sandbox, target: TargetUnderTest, tmp_path: Path, size: int
) -> None:
    batches, count = list[Message](), 20_000
    for start in range(0, count, size):
        file, numbers = tmp_path / f"{start}.jsonl", range(start, start + size)
        file.write_text("".join(f'{{"id":{n},"email":"{n}@a.com"}}\n' for n in numbers))
        batch = {
            "type": "BATCH",
            "stream": "trials",
            "encoding": {"format": "jsonl"},
            "manifest": [file.as_uri()] * 2,
        }
        batches.append(batch)

    with interrupted(lambda: len(sandbox.signals) > 0, signal.SIGTERM):
        run = target.run(a_schema(), *batches, a_state())

    assert (run.exit_code, run.states) == (128 + signal.SIGTERM, [])
    assert 0 < run.report["read"] < count


def test_activate_version_changes_nothing(target: TargetUnderTest) -> None:
    version = {"type": "ACTIVATE_VERSION", "stream": "trials", "version": 1}

    run = target.run(a_schema(), version, a_record(), version)

    assert run.outcomes == {"accepted": 1}


def test_signals_keep_their_order_across_a_schema_change(
    sandbox: Sandbox, target: TargetUnderTest
) -> None:
    mail = {"email": "one@example.com"}

    run = target.run(
        a_schema(), a_record(1, **mail), a_schema(plan="string"),
        a_record(2, plan="pro", **mail), a_schema(), a_record(3, **mail),
    )  # fmt: skip

    assert [s.body["properties"]["id"] for s in sandbox.signals] == [1, 2, 3]
    assert run.outcomes == {"accepted": 3}


def test_stream_maps_are_applied_before_the_mapping(
    sandbox: Sandbox, target: TargetUnderTest
) -> None:
    maps = {
        "trials": {
            "__alias__": "starts",
            "__filter__": "plan != 'free'",
            "email": "email.lower()",
        }
    }

    run = target.run(
        a_schema(plan="string"),
        a_record(1, plan="free"),
        a_record(2, plan="pro", email="ANN@EXAMPLE.COM"),
        stream_maps=maps,
    )

    assert run.outcomes == {"filtered": 1, "accepted": 1}
    assert [(s.body["type"], s.body["contact"]["email"]) for s in sandbox.signals] == [
        ("starts", "ann@example.com")
    ]


def test_error_about_a_stream_map_names_the_stream_and_no_value(
    target: TargetUnderTest,
) -> None:
    run = target.run(
        a_schema(),
        a_record(1, email=None),
        stream_maps={"trials": {"email": "email.lower()"}},
    )

    assert run.exit_code == 1
    assert "Stream `trials`" in run.error
    assert "`stream_maps`" in run.error
    assert "`email.lower()`" in run.error


@pytest.mark.parametrize(
    ("stream_map", "problem"),
    [
        ({"plan": "int(plan)"}, "fails for a record (ValueError)"),
        ({"email": "emial.lower()"}, "no column `emial`; did you mean `email`?"),
        ({"__filter__": "[x for x in plna]"}, "`__filter__`: there is no column"),
        ({"email": "lowr(email)"}, "are wrong. `email`: there is no function `lowr`"),
        ({"emial": None}, "there is no column `emial`; did you mean `email`?"),
        ({"__filtr__": "plan"}, "no option `__filtr__`; did you mean `__filter__`?"),
        ({"__FILTER__": "plan"}, "; did you mean `__filter__`?"),
        ({"_filter_": "plan"}, "; did you mean `__filter__`?"),
        ({"__filter__ ": "plan"}, "; did you mean `__filter__`?"),
        ({"__filter__": "plan = 'free'"}, "`=` compares nothing; did you mean `==`?"),
        ({"email": "record['emial']"}, "fails for a record (KeyError)"),
        ({"email": "email.lower("}, "are wrong. Failed to parse expression"),
        ({"email": "email", "__else__": None}, "are wrong. Invalid key properties"),
    ],
)
def test_error_about_a_stream_map_names_its_mistake(
    target: TargetUnderTest, stream_map: dict[str, Any], problem: str
) -> None:
    run = target.run(
        a_schema(plan="string"),
        a_record(1, plan="pro"),
        stream_maps={"trials": stream_map},
    )

    assert run.exit_code == 1
    is_late = "for a record" in problem
    assert f"Stream `trials`: {'an' if is_late else 'its'}" in run.error
    assert problem in run.error


@pytest.mark.parametrize("guarded", ["late if 'late' in record else email", "email"])
def test_stream_map_may_name_a_column_that_no_schema_has(
    target: TargetUnderTest, guarded: str
) -> None:
    run = target.run(
        a_schema(),
        a_record(1, late="ann@acme.com", _sdc_extracted_at="2026-01-01"),
        stream_maps={"trials": {"email": guarded, "seen": "_sdc_extracted_at"}},
    )

    assert run.outcomes == {"accepted": 1}


def test_flattening_without_a_depth_is_a_mistake_in_the_config(
    target: TargetUnderTest,
) -> None:
    with pytest.raises(WrongConfigError, match="flattening_max_depth is required"):
        target.run(a_schema(), a_record(1), flattening_enabled=True)


def test_stream_map_of_no_stream_is_warned_about(
    target: TargetUnderTest, caplog: pytest.LogCaptureFixture
) -> None:
    maps = {name: {"email": "email"} for name in ("trails", "tri*")}

    target.run(a_schema(), a_record(1), stream_maps=maps)

    named = re.findall("No stream matched `(.*)` in `stream_maps`", caplog.text)
    assert named == ["trails"]


@pytest.mark.parametrize(
    "maps",
    [
        {"trails": {"ssn": None}},
        {"trails": None},
        {"starts": {"__source__": "trails", "__filter__": "plan != 'free'"}},
        {"public-trials": {"__filter__": "plan != 'free'"}, "deal*": {"ssn": None}},
    ],
)
def test_stream_near_a_misspelt_stream_map_is_refused(
    sandbox: Sandbox, target: TargetUnderTest, maps: dict[str, Any]
) -> None:
    run = target.run(a_schema(ssn="string"), a_record(1, ssn="1"), stream_maps=maps)

    assert run.exit_code == 1
    assert "is nearly the stream `trials`, and matched no stream so far" in run.error
    assert sandbox.signals == []


@pytest.mark.parametrize(
    "maps",
    [
        {"trial": {"plan": "'x'"}, "trials": {}},
        {"trails": None, "tri*": {"email": "email"}},
        {"trials_old": {}, "starts": {"__source__": "trials"}},
        {"trails": {}, "__else__": None},
        {"tickets": {}, "trai*": {}},
        {"trials": {"updated_at": None, "plans_left": None}, "t*": {"emial": None}},
        {"trials": {"__typename": None, "__deleted": "'x'", "__source_id__": "id"}},
        {"trials": {"contact.email": None, "__id": None, "_resource_": "id"}},
        {"ad_trials": {}, "trials_2024": {}, "trial_lines": {}, "burials": {}},
    ],
)
def test_stream_with_its_own_stream_map_or_a_plain_other_name_is_not_refused(
    target: TargetUnderTest, maps: dict[str, Any]
) -> None:
    run = target.run(a_schema(), a_record(1), stream_maps=maps)

    assert run.exit_code == 0, run.error


def test_failed_flattening_is_not_blamed_on_a_stream_map(
    target: TargetUnderTest,
) -> None:
    """The SDK cannot flatten a column with the name of a word of JSON Schema."""
    schema = a_schema(additionalProperties="string")
    schema["schema"]["additionalProperties"] = True
    run = target.run(
        schema,
        a_record(1, additionalProperties="x"),
        stream_maps={"trials": {"email": "email"}},
        flattening_enabled=True,
        flattening_max_depth=1,
    )

    assert run.exit_code == 1
    assert "does not fit the flattening of its SCHEMA" in run.error


def test_date_from_a_stream_map_is_a_text(
    sandbox: Sandbox, target: TargetUnderTest
) -> None:
    stream_map = {"day": "datetime.date(2025, 1, 2)", "plan": "float(plan)"}

    run = target.run(
        a_schema(plan="number"),
        a_record(1, plan=2.50),
        stream_maps={"trials": stream_map},
        signals=[{"stream": "trials", "occurred_at": "{{ day }}"}],
    )

    assert run.outcomes == {"accepted": 1}
    (signal,) = sandbox.signals
    assert signal.body["occurred_at"] == "2025-01-02T00:00:00Z"
    assert signal.body["properties"] == {"id": 1, "plan": 2.5}


@on_both_connectors
def test_error_in_a_mapping_is_found_at_the_schema(
    sandbox: Sandbox, target: TargetUnderTest
) -> None:
    signals = [{"stream": "trials", "contact": {"email": "{{ emial }}"}}]

    run = target.run(a_schema(), a_record(), signals=signals)

    assert run.exit_code == 1
    assert "`emial` is not a property of `trials`; did you mean `email`?" in run.error
    assert not sandbox.requests


def test_ignored_change_of_an_absent_column_is_warned_about_once(
    target: TargetUnderTest, caplog: pytest.LogCaptureFixture
) -> None:
    items = [{"stream": "trials", "ignore_changes": ["region"]}]

    run = target.run(
        a_schema(), a_record(1), a_schema(plan="string"), a_record(2), signals=items
    )

    assert run.outcomes == {"accepted": 2}
    assert caplog.text.count("`region` is not a property of `trials`") == 1


def test_stream_that_a_glob_misses_because_of_brackets_sends_nothing(
    sandbox: Sandbox, target: TargetUnderTest
) -> None:
    name = "Sheet [2024]"

    run = target.run(
        a_schema(name), a_record(stream=name), signals=[{"stream": name, "type": "x"}]
    )

    assert run.exit_code == 1
    assert "did you mean `Sheet [[]2024]`?" in run.error
    assert sandbox.signals == []


def test_typo_in_the_stream_of_a_mapping_sends_nothing(
    sandbox: Sandbox, target: TargetUnderTest
) -> None:
    items = [{"stream": "trails", "contact": {"email": "{{ email }}"}}]

    run = target.run(a_schema(), a_record(), signals=items)

    assert run.exit_code == 1
    assert "Correct `trails`" in run.error
    assert sandbox.signals == []


@on_both_connectors
@pytest.mark.parametrize("number", ["1e9999999999999999999", "-1E-9999999999999999999"])
def test_number_out_of_bounds_ends_the_run_after_everything_before_it(
    target: TargetUnderTest, number: str
) -> None:
    line = f'{{"type":"RECORD","stream":"trials","record":{{"id":2,"n":{number}}}}}'

    run = target.run(a_schema(), a_record(1), line, a_record(3))

    assert run.exit_code == 1
    assert "Stream `trials`: A record" in run.error
    assert "number out of bounds" in run.error
    assert run.outcomes == {"accepted": 1}


def test_number_out_of_bounds_in_a_last_line_without_an_end_loses_no_outcome(
    target: TargetUnderTest,
) -> None:
    record = '{"id":2,"n":1e9999999999999999999}'
    last = f'{{"type":"RECORD","stream":"trials","record":{record}}}'

    run = target.run_text(text_of([a_schema(), a_record(1), a_state()]) + last)

    assert run.exit_code == 1
    assert "number out of bounds" in run.error
    assert run.outcomes == {"accepted": 1}
    assert run.states == [{"at": 1}]


@pytest.mark.parametrize("column", ["id", "n"])
def test_integer_of_thousands_of_digits_is_a_dead_letter(
    target: TargetUnderTest, column: str
) -> None:
    record = f'{{"id":2,"email":"a@b.example","{column}":{"9" * 5000}}}'
    line = f'{{"type":"RECORD","stream":"trials","record":{record}}}'

    run = target.run(a_schema(n="number"), a_record(1), line, a_record(3), a_state())

    assert run.exit_code == 0
    assert run.outcomes == {"accepted": 2, "invalid": 1}
    assert run.states == [{"at": 1}]


def test_schema_that_grows_is_compiled_when_a_record_comes(
    sandbox: Sandbox, target: TargetUnderTest, caplog: pytest.LogCaptureFixture
) -> None:
    columns = [f"c{number}" for number in range(30)]
    growing = [
        a_schema(stream, **dict.fromkeys(columns[:count], "string"))
        for stream in ("trials", "products")
        for count in range(len(columns) + 1)
    ]
    for message in growing:
        if message["stream"] == "products":
            del message["schema"]["properties"]["email"]

    run = target.run(*growing, a_record(1, c29="x"))

    assert run.outcomes == {"accepted": 1}
    assert sandbox.signals[0].body["properties"]["c29"] == "x"
    told = [text for text in caplog.messages if "is left out" in text]
    assert len(told) == 1, "each SCHEMA was compiled"
