"""Signals: each one keeps the rules of the API, or has a reason why it is invalid."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import jsonschema
import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from target_stairoids.exceptions import InvalidSignalError
from target_stairoids.mapping.config import mappings_for
from target_stairoids.mapping.schema import StreamSchema
from target_stairoids.mapping.signal import Signal
from target_stairoids.mapping.signals_setting import MappingItem

if TYPE_CHECKING:
    from target_stairoids.mapping.signal import CompiledMapping

LABEL = r"[a-z0-9]([a-z0-9-]*[a-z0-9])?"
HOST = rf"({LABEL}\.)+[a-z]{LABEL}"
LOCAL = r"[^\s@.|\x00-\x1f]+(\.[^\s@.|\x00-\x1f]+)*"
#: The rules of the API's two pages about signals, and those of DNS for hosts.
SIGNAL_SCHEMA: dict[str, Any] = {
    "type": "object",
    "required": ["type", "source"],
    "additionalProperties": False,
    "anyOf": [
        {"required": ["account"], "properties": {"account": {"required": ["domain"]}}},
        {"required": ["contact"], "properties": {"contact": {"required": ["email"]}}},
    ],
    "properties": {
        "type": {"type": "string", "minLength": 1},
        "source": {"type": "string", "minLength": 1},
        "account": {
            "type": "object",
            "minProperties": 1,
            "additionalProperties": False,
            "properties": {
                "domain": {"type": "string", "pattern": rf"^{HOST}$"},
                "name": {"type": "string", "minLength": 1},
            },
        },
        "contact": {
            "type": "object",
            "minProperties": 1,
            "additionalProperties": False,
            "properties": {
                "email": {"type": "string", "pattern": rf"^{LOCAL}@{HOST}$"},
                "first_name": {"type": "string", "minLength": 1},
                "last_name": {"type": "string", "minLength": 1},
            },
        },
        "properties": {
            "type": "object",
            "minProperties": 1,
            "additionalProperties": {"type": ["string", "number", "boolean"]},
        },
        "occurred_at": {"type": "string", "pattern": r"^\d{4}-\d\d-\d\dT.*Z$"},
    },
}

HALF_A_PAIR = "\ud83d"


def a_signal(**more: Any) -> Signal:
    fields: dict[str, Any] = {
        "type": "trial",
        "source": "tests",
        "account": {"domain": "acme.com"},
        "contact": {},
        "properties": {},
    }
    return Signal(**fields | more)


@pytest.mark.parametrize(
    ("number", "text"),
    [
        ("1.10", b"1.10"),
        ("1e-38", b"1E-38"),
        ("18446744073709551615", b"18446744073709551615"),
        ("0." + "1234567890" * 4, b"0." + b"1234567890" * 4),
        ("1234567890" * 4, b"1234567890" * 4),
    ],
)
def test_decimals_keep_all_digits(number: str, text: bytes) -> None:
    signal = a_signal(properties={"n": Decimal(number)})

    assert b'"properties":{"n":' + text + b"}" in signal.checked_text()


def test_body_has_the_documented_form() -> None:
    signal = Signal(
        type="product_trial_started",
        source="internal_app",
        account={"domain": "acmecorp.com", "name": "Acme Corp"},
        contact={"email": "jane@acmecorp.com", "first_name": "Jane"},
        properties={"plan": "pro"},
        occurred_at="2024-06-15T14:23:00Z",
    )

    assert json.loads(signal.checked_text()) == {
        "type": "product_trial_started",
        "source": "internal_app",
        "account": {"domain": "acmecorp.com", "name": "Acme Corp"},
        "contact": {"email": "jane@acmecorp.com", "first_name": "Jane"},
        "properties": {"plan": "pro"},
        "occurred_at": "2024-06-15T14:23:00Z",
    }


def test_empty_fields_are_left_out_of_the_body() -> None:
    assert a_signal().body() == {
        "type": "trial",
        "source": "tests",
        "account": {"domain": "acme.com"},
    }


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"type": ""}, "type: must not be empty"),
        ({"source": ""}, "source: must not be empty"),
        ({"type": "a\0"}, "type: has the character NUL"),
        ({"account": {}}, "neither account.domain nor contact.email is known"),
        (
            {"account": {"name": "Acme"}},
            "neither account.domain nor contact.email is known",
        ),
        (
            {"account": {}, "contact": {"first_name": "Jane"}},
            "neither account.domain nor contact.email is known",
        ),
        (
            {"account": {"domain": "Acme Inc."}},
            "account.domain: not a domain such as example.com",
        ),
        (
            {"account": {"domain": "acme\x00.com"}},
            "account.domain: has the character NUL",
        ),
        (
            {"contact": {"email": "canary"}},
            "contact.email: not an email address such as ann@example.com",
        ),
        (
            {"account": {"domain": "acme.local"}},
            "account.domain: not a domain such as example.com",
        ),
        (
            {"account": {"domain": "report.xlsx"}},
            "account.domain: not a domain such as example.com",
        ),
        (
            {"contact": {"email": "ann@acme.con"}},
            "contact.email: not an email address such as ann@example.com",
        ),
        ({"account": {"domain": "a.b", "name": ""}}, "account.name: must not be empty"),
        (
            {"properties": {"canary": HALF_A_PAIR}},
            "a text holds half a surrogate pair, which is not Unicode",
        ),
        (
            {"properties": {HALF_A_PAIR: 1}},
            "a text holds half a surrogate pair, which is not Unicode",
        ),
        (
            {"properties": {"p": None}},
            "properties.p: neither text, number nor boolean",
        ),
        (
            {"occurred_at": "soon"},
            "occurred_at: not a date and time in ISO 8601",
        ),
    ],
)  # fmt: skip
def test_reason_names_the_field_and_the_broken_rule(
    fields: dict[str, Any], reason: str
) -> None:
    with pytest.raises(InvalidSignalError) as refused:
        a_signal(**fields).checked_text()

    assert refused.value.reason == reason


@pytest.mark.parametrize("identifier", ["domain", "email"])
def test_domain_or_email_is_enough(identifier: str) -> None:
    only = {
        "domain": {"account": {"domain": "acme.com"}},
        "email": {"account": {}, "contact": {"email": "jane@acme.com"}},
    }

    assert a_signal(**only[identifier]).checked_text()


def test_one_megabyte_of_text_is_kept() -> None:
    text = a_signal(properties={"p": "x" * 1_000_000}).checked_text()

    assert len(json.loads(text)["properties"]["p"]) == 1_000_000


def test_ten_thousand_properties_are_kept() -> None:
    signal = a_signal(properties={f"p{i}": i for i in range(10_000)})

    assert len(json.loads(signal.checked_text())["properties"]) == 10_000


FIELDS = {
    "id": {"type": "string"},
    "email": {"type": ["string", "null"]},
    "website": {"type": ["string", "null"]},
    "company": {"type": ["string", "null"]},
    "first_name": {"type": ["string", "null"]},
    "event_time": {"type": ["string", "null"]},
    "user": {"type": ["object", "null"]},
    "plan": {},
}
INFERRED = mappings_for(
    StreamSchema(name="s", properties=FIELDS, key_properties=("id",)), [], "tests"
)[0]
MAPPED = mappings_for(
    StreamSchema(name="s", properties=FIELDS, key_properties=("id",)),
    [
        msgspec.convert(
            {
                "stream": "*",
                "type": "{{ id }}",
                "source": "s_{{ plan | slug }}",
                "account": {
                    "domain": "{{ website | domain or email | company_domain }}",
                    "name": "{{ company }} / {{ id }}",
                },
                "contact": {
                    "email": "{{ user.email or email }}",
                    "first_name": "{{ company | first_name | upper }}",
                    "last_name": "{{ company ~ plan | title }}",
                },
                "occurred_at": "{{ event_time | iso8601('%d.%m.%Y') or event_time }}",
                "properties": [
                    "plan",
                    "user",
                    {
                        "p": "{{ plan.a.b }}",
                        "n": "{{ plan | float * 2 }}",
                        "i": "{{ user.seats | int(0) + 1 }}",
                        "t": "{% for x in user %}{{ x }}{% endfor %}",
                        "h": "{{ email | sha256 }}",
                        "w": "{{ record }}",
                    },
                ],
                "when": "plan > 3 or user.seats in plan or id != plan",
            },
            MappingItem,
        )
    ],
    "tests",
)[0]
any_character = st.characters(min_codepoint=0, max_codepoint=0x10FFFF)
texts = st.text(any_character, max_size=12) | st.sampled_from(
    ["jane@acme.com", "https://www.acme.com/x", "2024-06-15T14:23:00+14:00", "n/a"]
)
scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.decimals(allow_nan=False)
    | st.floats()
    | st.datetimes(timezones=st.timezones()).map(str)
    | texts
)
values = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4)
    ),
    max_leaves=8,
)


words = st.sampled_from(["", "a", "acme.com", "a@acme.com", "a@b", "\n", " "])


@pytest.mark.slow
@given(
    st.fixed_dictionaries(
        {},
        optional={
            "type": words,
            "source": words,
            "account": st.dictionaries(st.sampled_from(["domain", "name"]), words),
            "contact": st.dictionaries(st.sampled_from(["email", "last_name"]), words),
            "properties": st.dictionaries(words, values, max_size=3),
            "occurred_at": words | st.just("2024-06-15T14:23:00Z"),
        },
    )
)
def test_checked_signal_keeps_the_rules_of_the_api(fields: dict[str, Any]) -> None:
    signal = a_signal(**fields)
    is_valid = jsonschema.Draft202012Validator(SIGNAL_SCHEMA).is_valid(signal.body())

    try:
        signal.checked_text()
    except InvalidSignalError:
        return
    assert is_valid


@pytest.mark.slow
@pytest.mark.parametrize(
    "compiled_mapping",
    [INFERRED, MAPPED],
    ids=["inferred", "mapped"],
)
@settings(max_examples=50, deadline=None)
@given(st.fixed_dictionaries({}, optional=dict.fromkeys(FIELDS, values)))
def test_any_record_becomes_a_valid_signal_or_is_invalid(
    compiled_mapping: CompiledMapping, record: dict[str, Any]
) -> None:
    try:
        compiled_mapping.why_filtered(record)
        text = compiled_mapping.signal_from(record).checked_text()
    except InvalidSignalError:
        return

    body = json.loads(text, parse_constant=_no_json)
    jsonschema.validate(body, SIGNAL_SCHEMA)
    assert "account_id" not in body


def _no_json(constant: str) -> None:
    pytest.fail(f"{constant} is no JSON")
