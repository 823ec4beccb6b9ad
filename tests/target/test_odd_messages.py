"""Messages that are not as Singer has them end the run with one sentence."""

from __future__ import annotations

import gzip
import json
import os
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.commands import signals
from tests.support.singer_io import (
    Message,
    TargetUnderTest,
    a_record,
    a_schema,
    a_state,
    text_of,
)

if TYPE_CHECKING:
    from pathlib import Path

    from stairoids_sandbox import Sandbox


def schema_with(properties: object = None, **parts: object) -> Message:
    """Return a SCHEMA with other properties, or with other parts of the message."""
    message = a_schema()
    if properties is not None:
        message["schema"]["properties"].update(properties)
    return {**message, **parts}


NO_TYPE = "is neither a text nor a list of texts"
ODD_SCHEMAS: dict[str, tuple[Message, str]] = {
    "a type that is null": (
        schema_with({"plan": {"type": None}}),
        f"`properties.plan.type` {NO_TYPE}",
    ),
    "a type in a list that is null": (
        schema_with({"plan": {"type": ["string", None]}}),
        f"`properties.plan.type` {NO_TYPE}",
    ),
    "a type that is an object": (
        schema_with({"user": {"properties": {"id": {"type": {}}}}}),
        f"`properties.user.properties.id.type` {NO_TYPE}",
    ),
    "a type of the items of a list that is a number": (
        schema_with({"emails": {"type": "array", "items": {"type": 5}}}),
        f"`properties.emails.items.type` {NO_TYPE}",
    ),
    "inner properties of items that are a list": (
        schema_with({"emails": {"type": "array", "items": {"properties": []}}}),
        "`properties.emails.items.properties` is not an object",
    ),
    "anyOf that is null": (
        schema_with({"plan": {"anyOf": None}}),
        "`properties.plan.anyOf` is not a list",
    ),
    "an alternative that is no object": (
        schema_with({"plan": {"oneOf": ["string"]}}),
        "`properties.plan.oneOf` is not an object",
    ),
    "a column that is null": (
        schema_with({"plan": None}),
        "`properties.plan` is not an object",
    ),
    "properties that are null": (
        schema_with(schema={"type": "object", "properties": None}),
        "`properties` is not an object",
    ),
    "properties that are a list": (
        schema_with(schema={"properties": ["id"]}),
        "`properties` is not an object",
    ),
    "inner properties that are null": (
        schema_with({"user": {"type": "object", "properties": None}}),
        "`properties.user.properties` is not an object",
    ),
    "a nested key": (
        schema_with(key_properties=[["id"]]),
        "`key_properties` is not a list of texts",
    ),
    "a key that is a text": (
        schema_with(key_properties="id"),
        "`key_properties` is not a list of texts",
    ),
    "a key in another case": (
        schema_with(key_properties=["ID"]),
        "its key `ID` is not one of its properties; did you mean `id`",
    ),
    "a key with a space beside a column in another case": (
        schema_with(
            key_properties=[" id"], schema={"properties": {"ID": {}, "id": {}}}
        ),
        "its key ` id` is not one of its properties; did you mean `id`",
    ),
    "a key without the column's BOM": (
        schema_with(schema={"properties": {"\ufeffid": {}, "email": {}}}),
        "its key `id` is not one of its properties; did you mean `\\ufeffid`",
    ),
    "a key that is no column": (
        schema_with(key_properties=["customer"]),
        "its key `customer` is not one of its properties",
    ),
    "a key in another case of a schema that allows more": (
        schema_with(
            key_properties=["Id"],
            schema={"properties": {"id": {}}, "additionalProperties": True},
        ),
        "its key `Id` is not one of its properties; did you mean `id`",
    ),
    "a bookmark that is a text": (
        schema_with(bookmark_properties="id"),
        "`bookmark_properties` is not a list of texts",
    ),
    "a bookmark that is an object": (
        schema_with(bookmark_properties=[{"id": 1}]),
        "`bookmark_properties` is not a list of texts",
    ),
    "half a surrogate pair": (
        schema_with({"\ud800": {}}),
        "`properties` has a name that is not Unicode",
    ),
}


@pytest.mark.parametrize(("schema", "problem"), ODD_SCHEMAS.values(), ids=ODD_SCHEMAS)
def test_odd_schema_is_one_sentence_with_the_stream_and_the_part(
    sandbox: Sandbox, target: TargetUnderTest, schema: Message, problem: str
) -> None:
    run = target.run(a_schema("leads"), a_record(stream="leads"), a_state(), schema)

    assert run.exit_code == 1
    assert run.error == f"The SCHEMA of stream `trials` is wrong: {problem}."
    assert run.states == [{"at": 1}]
    assert len(sandbox.signals) == 1


@pytest.mark.parametrize(
    ("key", "now"),
    [(["email"], "`email`"), (["id", "email"], "`id` and `email`"), ([], "none")],
)
def test_records_with_another_key_in_one_input_are_not_sent_again(
    sandbox: Sandbox, target: TargetUnderTest, key: list[str], now: str
) -> None:
    first = [a_schema(), a_record(), a_state()]

    run = target.run(*first, a_schema(key=key), a_record(), a_state(2))

    assert run.error == (
        "The SCHEMA of stream `trials` is wrong: "
        f"its key is {now}, and was `id` before in this input."
    )
    assert run.states == [{"at": 1}]
    assert len(sandbox.signals) == 1


@pytest.mark.parametrize(
    ("before", "key", "send", "refusal"),
    [
        ([a_schema(), a_record(2)], ["email"], "on_change", "was `id` before"),
        ([], [], "once", "`send: once` needs a key"),
    ],
)
def test_ledger_keeps_no_schema_that_is_refused(
    target: TargetUnderTest,
    before: list[Message],
    key: list[str],
    send: str,
    refusal: str,
) -> None:
    target.run(a_schema(plan="string"), a_record(plan=10**400))
    mapping = {"stream": "trials", "send": send}

    run = target.run(*before, a_schema(key=key), a_record(3), signals=[mapping])

    exported = signals(target, "dead-letters", "export").stdout.splitlines()
    assert refusal in run.error
    assert json.loads(exported[0])["key_properties"] == ["id"]


def test_order_of_key_columns_is_no_other_key(
    sandbox: Sandbox, target: TargetUnderTest
) -> None:
    one, other = a_schema(key=["id", "email"]), a_schema(key=["email", "id"])

    first = target.run(one, a_record(1), other, a_record(1), a_record(2))
    again = target.run(other, a_record(1), one, a_record(2))

    assert (first.exit_code, first.outcomes) == (0, {"accepted": 2, "duplicate": 1})
    assert (again.exit_code, again.outcomes) == (0, {"duplicate": 2})
    assert len(sandbox.signals) == 2


def test_key_of_the_mapping_holds_for_each_schema(
    sandbox: Sandbox, target: TargetUnderTest
) -> None:
    first = [a_schema(), a_record(), a_state()]
    signals = [{"stream": "trials", "key": ["id"]}]

    run = target.run(*first, a_schema(key=["email"]), a_record(), signals=signals)

    assert run.exit_code == 0
    assert len(sandbox.signals) == 1


@pytest.mark.parametrize("stream", [None, 1, ["trials"], {}])
@pytest.mark.parametrize("kind", ["SCHEMA", "BATCH", "RECORD"])
def test_stream_that_is_no_text_is_one_sentence(
    target: TargetUnderTest, kind: str, stream: object
) -> None:
    message = {**schema_with(stream=stream), "record": {"id": 1}, "type": kind}

    run = target.run({**message, "encoding": {"format": "jsonl"}, "manifest": []})

    assert run.exit_code == 1
    assert "stream" in run.error


@pytest.mark.parametrize("stream", ["", " ", "\ud800"])
def test_stream_without_a_name_in_unicode_is_one_sentence(
    target: TargetUnderTest, stream: str
) -> None:
    run = target.run(schema_with(stream=stream))

    assert run.error == "The `stream` of a SCHEMA message is not a text."


@pytest.mark.parametrize(
    "schema",
    [
        schema_with({"plan": {}, "any": {"type": []}}),
        schema_with(bookmark_properties=[None]),
        schema_with(bookmark_properties=None, key_properties=None),
        *(
            schema_with(
                key_properties=["other"],
                schema={
                    "properties": {"id": {}, "email": {}},
                    "additionalProperties": more,
                },
            )
            for more in (True, {}, {"type": "string"})
        ),
    ],
)
def test_schema_that_real_taps_print_is_accepted(
    target: TargetUnderTest, schema: Message
) -> None:
    assert target.run(schema, a_record(other="x")).outcomes == {"accepted": 1}


def test_schema_that_the_sdk_cannot_flatten_is_one_sentence(
    target: TargetUnderTest,
) -> None:
    schema = schema_with({"user": {"anyOf": [{"properties": {}}, {"type": "null"}]}})

    run = target.run(
        schema, a_record(), flattening_enabled=True, flattening_max_depth=1
    )

    assert run.exit_code == 1
    assert "stream `trials` does not fit the flattening" in run.error


def test_schema_that_is_nested_too_deeply_is_one_sentence(
    target: TargetUnderTest,
) -> None:
    column: Message = {"type": "string"}
    for _ in range(250):
        column = {"type": "object", "properties": {"a": column}}

    run = target.run(schema_with({"user": column}), a_record())

    assert run.exit_code == 1
    assert run.error == "The SCHEMA of stream `trials` is nested too deeply."


RECORDS = "".join(json.dumps(a_record(n)["record"]) + "\n" for n in (1, 2)).encode()


def batch(file: Path | str, **parts: object) -> Message:
    return {
        "type": "BATCH",
        "stream": "trials",
        "encoding": {"format": "jsonl", "compression": "gzip"},
        "manifest": [file if isinstance(file, str) else file.as_uri()],
        **parts,
    }


DAMAGED: dict[str, tuple[bytes | None, str]] = {
    "missing": (None, "`b.gz` cannot be read: No such file or directory."),
    "not gzip": (RECORDS, "`b.gz` cannot be read: it is not in gzip."),
    "cut off": (gzip.compress(RECORDS)[:-9], "`b.gz` cannot be read: it was cut off."),
    "damaged": (b"\x1f\x8b\x08" + b"x" * 30, "`b.gz` cannot be read: it "),
    "not JSON": (
        gzip.compress(b"PAR1\n"),
        "Line 1 of the BATCH file `b.gz` of stream ",
    ),
    "a list": (gzip.compress(RECORDS + b"[1]"), "Line 3 of the BATCH file `b.gz` of "),
    "no key": (gzip.compress(b'{"id": 1}\n{"email": "a"}'), "lacks the key `id`"),
}


@pytest.mark.parametrize(("content", "problem"), DAMAGED.values(), ids=DAMAGED)
def test_damaged_batch_file_is_one_sentence(
    target: TargetUnderTest, tmp_path: Path, content: bytes | None, problem: str
) -> None:
    file = tmp_path / "b.gz"
    if content is not None:
        file.write_bytes(content)

    run = target.run(a_schema(), batch(file), a_state())

    assert run.exit_code == 1
    assert problem in run.error
    assert run.states == []


@pytest.mark.parametrize(
    ("parts", "problem"),
    [
        ({"encoding": {"format": "parquet"}}, "is not in the format `jsonl`"),
        ({"encoding": {"format": "jsonl", "compression": "zstd"}}, "`jsonl`"),
        ({"encoding": {"compression": "gzip"}}, "is not in the format `jsonl`"),
        ({"encoding": "jsonl"}, "is not in the format `jsonl`"),
        ({"manifest": "file:///b.gz"}, "is no list of files"),
        ({"manifest": [None]}, "is no list of files"),
        ({"manifest": ["nowhere://x/b.gz"]}, "`b.gz` cannot be read"),
        ({"manifest": [""]}, "cannot be read"),
    ],
)
def test_odd_batch_is_one_sentence(
    target: TargetUnderTest, parts: dict[str, Any], problem: str
) -> None:
    run = target.run(a_schema(), batch("", **parts), a_state())

    assert run.exit_code == 1
    assert problem in run.error
    assert run.states == []


@pytest.mark.slow
def test_batch_of_many_records_is_sent_while_it_is_read(
    target: TargetUnderTest, tmp_path: Path
) -> None:
    file = tmp_path / "b.jsonl"
    lines = [json.dumps(a_record(n)["record"]) for n in range(1000)]
    file.write_text("\n".join(lines) + "\n\n")
    plain = batch(str(file), encoding={"format": "jsonl"})

    run = target.run(a_schema(), plain, a_state())

    assert run.outcomes == {"accepted": 1000}
    assert run.states == [{"at": 1}]


@pytest.mark.parametrize("value", ["text", 1, True, [], [1], ""])
def test_state_that_is_no_object_is_one_sentence(
    sandbox: Sandbox, target: TargetUnderTest, value: object
) -> None:
    run = target.run(a_schema(), a_record(), {"type": "STATE", "value": value})

    assert run.exit_code == 1
    assert run.error == "The `value` of a STATE message is not an object."
    assert run.states == []
    assert len(sandbox.signals) == 1


@pytest.mark.slow
@pytest.mark.parametrize("encoding", ["latin-1", "ascii", "utf-16"])
def test_state_is_utf_8_in_every_locale(target: TargetUnderTest, encoding: str) -> None:
    env = {"PATH": os.environ["PATH"], "PYTHONIOENCODING": encoding}

    done = target.shell(
        text_of([a_schema("é日"), a_record(stream="é日"), a_state("é日")]), env=env
    )

    assert done.returncode == 0
    assert target.states_in(done.stdout) == [{"at": "é日"}]


@pytest.mark.parametrize(
    "database", ["sqlite", pytest.param("postgres", marks=pytest.mark.slow)]
)
@pytest.mark.parametrize("value", ["x\0", "\ud83d"])
def test_odd_text_in_one_record_stops_no_other(
    target: TargetUnderTest,
    request: pytest.FixtureRequest,
    database: str,
    value: str,
) -> None:
    config: dict[str, Any] = {}
    if database == "postgres":
        config["ledger_url"] = request.getfixturevalue("postgres")
    schema = a_schema(plan="string", updated_at="string")
    schema["bookmark_properties"] = ["updated_at"]

    run = target.run(
        schema,
        a_record(1, email="a@acme.com", plan="a", updated_at="2025-01-01"),
        a_record(2, email="b@acme.com", plan="b", updated_at=value),
        a_record(3, email="c@acme.com", plan=value, updated_at="2025-01-02"),
        a_record(4, email="d@acme.com", plan="d", updated_at="2025-01-03"),
        signals=[{"stream": "trials", "type": "{{ plan }}", "properties": None}],
        namespace=f"{value!a}",
        **config,
    )

    assert run.exit_code == 0
    assert run.outcomes == {"accepted": 3, "invalid": 1}


@pytest.mark.parametrize(
    "database", ["sqlite", pytest.param("postgres", marks=pytest.mark.slow)]
)
@pytest.mark.parametrize(("odd", "shown"), [("\0", "\\u0000"), ("\ud83d", "\\ud83d")])
def test_odd_text_in_an_error_is_stored_with_the_run(
    target: TargetUnderTest,
    request: pytest.FixtureRequest,
    database: str,
    odd: str,
    shown: str,
) -> None:
    if database == "postgres":
        target.config["ledger_url"] = request.getfixturevalue("postgres_url")
    plan = f"{{{json.dumps(odd)}:1e999}}"
    record = f'{{"id":2,"email":"b@acme.com","plan":{plan}}}'

    run = target.run(
        a_schema(plan="object"),
        f'{{"type":"RECORD","stream":"trials","record":{record}}}',
        {"type": odd},
        signals=[{"stream": "trials", "properties": {"plan": "{{ plan }}"}}],
    )

    assert run.exit_code == 1
    assert "a message of the unknown type" in run.error
    assert run.outcomes == {"invalid": 1}
    report = signals(target, "report", "--format", "json").stdout
    listed = signals(target, "dead-letters", "list", "--format", "json").stdout
    assert f"unknown type `{shown}`" in json.loads(report)["runs"][0]["reason"]
    assert json.loads(listed)["reason"].startswith(f"properties.plan.{shown}: ")


FORGED = "trials\nERROR forged\r\x1b[31m\u202etxt\u2028ERROR"


@pytest.mark.slow
@pytest.mark.parametrize(
    "words",
    [
        ["preview"],
        ["suggest"],
        ["explain"],
        ["dead-letters", "list"],
        ["report"],
        ["report", "--format", "json"],
        ["preview", "--format", "json"],
        ["suggest", "--format", "json"],
        ["ledger", "allow", FORGED],
        ["ledger", "forget", "--stream", FORGED, "--yes"],
        ["ledger", "rename", FORGED, "trials"],
    ],
    ids=" ".join,
)
def test_name_of_a_stream_looks_like_no_line_of_its_own(
    target: TargetUnderTest, words: list[str]
) -> None:
    messages = [
        {**message, "stream": FORGED}
        for message in (
            a_schema(iban="string"),
            a_record(1, email="no"),
        )
    ]
    run = target.shell(text_of(messages))
    done = signals(target, *words, text=text_of(messages))

    for text in (run.stderr, done.stderr, done.stdout):
        assert "\r" not in text
        assert "\x1b[31m" not in text
        assert not {*"\u202e\u2028"} & {*text}
        assert not any(line.startswith("ERROR") for line in text.splitlines())
