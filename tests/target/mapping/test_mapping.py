"""Mappings: how records become signals, and the errors found at the SCHEMA."""

from __future__ import annotations

import math
import re
from decimal import Decimal
from typing import Any

import pytest

from target_stairoids.exceptions import ConfigError, InvalidSignalError
from target_stairoids.mapping.config import (
    mappings_for,
)
from tests.support.mapping_builders import (
    TEXT,
    TRIALS,
    a_map,
    a_shape,
    items_of,
    properties_of,
)


def test_mapping_fills_every_field_of_a_signal() -> None:
    compiled_mapping = a_map(
        type="product_trial_started",
        source="billing",
        account={"domain": "{{ company_website }}", "name": "{{ company_name }}"},
        contact={
            "email": "{{ user.email }}",
            "first_name": "{{ user.name.first }}",
            "last_name": "{{ user.name.last }}",
        },
        occurred_at="{{ updated_at }}",
        properties=["plan", {"size": "{{ seats }}"}],
    )

    signal = compiled_mapping.signal_from(
        {
            "trial_id": 1,
            "company_website": "https://www.Acme.com/",
            "company_name": " Acme ",
            "user": {
                "email": "Jane@ACME.com",
                "name": {"first": "Jane", "last": "Doe"},
            },
            "updated_at": "2024-06-15T14:23:00+02:00",
            "plan": "pro",
            "seats": 5,
        }
    )

    assert signal.body() == {
        "type": "product_trial_started",
        "source": "billing",
        "account": {"domain": "acme.com", "name": "Acme"},
        "contact": {"email": "Jane@acme.com", "first_name": "Jane", "last_name": "Doe"},
        "properties": {"plan": "pro", "size": 5},
        "occurred_at": "2024-06-15T12:23:00Z",
    }


def test_fields_that_a_mapping_leaves_out_are_inferred() -> None:
    compiled_mapping = a_map(type="trial")

    signal = compiled_mapping.signal_from(
        {"trial_id": 1, "email": "jane@acme.com", "company_website": "acme.com"}
    )

    assert signal.body() == {
        "type": "trial",
        "source": "tests",
        "account": {"domain": "acme.com"},
        "contact": {"email": "jane@acme.com"},
        "properties": {"trial_id": 1},
    }


def test_stream_without_mapping_is_inferred() -> None:
    (compiled_mapping,) = mappings_for(
        a_shape(), items_of({"stream": "other", "type": "x"}), "tests"
    )

    assert compiled_mapping.name == "public-trials"
    assert compiled_mapping.signal_from({}).type == "public-trials"
    assert compiled_mapping.signal_from({}).source == "tests"
    assert compiled_mapping.key == ("trial_id",)
    assert compiled_mapping.send == "on_change"
    assert compiled_mapping.ignore_changes == {"updated_at"}


@pytest.mark.parametrize(
    ("template", "value"),
    [
        ("{{ seats }}", 5),
        ("  {{ seats }} ", 5),
        ("{{ user.mrr }}", Decimal("1.10")),
        ("{{ user.is_admin }}", False),
        ("{{ user.missing.deep }}", None),
        ("{{ plan.of.a.text }}", None),
        ("{{ company_name }}", None),
        ("constant", "constant"),
        ("{ beats }", "{ beats }"),
        ("{{ plan }}-{{ seats }}", "free-5"),
        ("{{ plan }} ({{ company_name }})", "free ()"),
        ("{{ user.mrr }} EUR", "1.10 EUR"),
        ("{{ user.is_admin }}!", "false!"),
    ],
)
def test_single_expression_keeps_its_type_and_other_templates_are_text(
    template: str, value: object
) -> None:
    record = {
        "seats": 5,
        "plan": "free",
        "company_name": None,
        "user": {"plan": "pro", "mrr": Decimal("1.10"), "is_admin": False},
    }

    found = properties_of(record, properties={"p": template})

    assert found == ({} if value is None else {"p": value})


@pytest.mark.parametrize("field", ["contact.email", "occurred_at", "properties.p"])
def test_wrong_template_is_found_at_the_schema(field: str) -> None:
    group, _, name = field.partition(".")
    template = "{{ email"
    item: dict[str, Any] = {group: {name: template} if name else template}

    with pytest.raises(ConfigError, match=f"^Stream `public-trials`: `{field}`"):
        a_map(**item)


def test_type_and_source_may_be_templates() -> None:
    compiled_mapping = a_map(
        type="plan_{{ plan }}", source="{{ user.via }}", name="plan"
    )

    signal = compiled_mapping.signal_from({"plan": "pro", "user": {"via": "web"}})

    assert (signal.type, signal.source) == ("plan_pro", "web")


@pytest.mark.parametrize(
    ("item", "field", "name", "hint"),
    [
        ({"contact": {"email": "{{ emial }}"}}, "contact.email", "emial", "email"),
        ({"account": {"domain": "{{ zzz.domain }}"}}, "account.domain", "zzz", None),
        ({"occurred_at": "{{ update_at }}"}, "occurred_at", "update_at", "updated_at"),
        ({"properties": ["Plan"]}, "properties", "Plan", "plan"),
        ({"properties": {"p": "{{ paln }}"}}, "properties.p", "paln", "plan"),
        ({"skip": ["seat"]}, "skip", "seat", "seats"),
        ({"key": ["trialid"]}, "key", "trialid", "trial_id"),
    ],
)
def test_unknown_column_is_an_error_with_a_suggestion(
    item: dict[str, Any], field: str, name: str, hint: str | None
) -> None:
    with pytest.raises(ConfigError) as refused:
        a_map(**item)

    assert str(refused.value) == (
        f"Stream `public-trials`: `{field}` of its mapping: `{name}` is not a "
        f"property of `public-trials`{f'; did you mean `{hint}`?' if hint else ''}"
    )


@pytest.mark.parametrize(
    ("template", "meant"),
    [
        ("{{ e-mail }}", 'record["e-mail"]'),
        ("{{ record.e-mail }}", 'record["e-mail"]'),
        ("{{ user.first-name }}", 'record["user"]["first-name"]'),
        ("{{ address/city }}", 'record["address/city"]'),
        ("{{ company.site }}", 'record["company.site"]'),
    ],
)
def test_error_names_the_expression_of_a_column_with_a_mark(
    template: str, meant: str
) -> None:
    schema = {
        "e-mail": {"type": "string"},
        "user": {"type": "object", "properties": {"first-name": {"type": "string"}}},
        "address/city": {"type": "string"},
        "company.site": {"type": "string"},
    }
    with pytest.raises(ConfigError, match=re.escape(f"write `{meant}`")):
        a_map(a_shape(properties=schema, key=()), contact={"first_name": template})


def test_open_schema_allows_unknown_columns() -> None:
    compiled_mapping = a_map(
        a_shape(properties={}, key=()),
        contact={"email": "{{ anything.at_all }}"},
        properties=["whatever", {"x": "{{ y }}"}],
        key=["z"],
        ignore_changes=["w"],
    )

    signal = compiled_mapping.signal_from(
        {"anything": {"at_all": "jane@acme.com"}, "whatever": 1, "y": 2}
    )

    assert signal.contact == {"email": "jane@acme.com"}
    assert signal.properties == {"whatever": 1, "x": 2}


@pytest.mark.parametrize(
    ("item", "is_left_out"),
    [
        ({}, False),
        ({"type": None}, True),
        ({"account": None, "contact": None}, True),
        ({"account": {"domain": None}, "contact": None}, True),
        ({"contact": None}, False),
        ({"account": None}, False),
    ],
)
def test_mapping_without_type_or_without_email_and_domain_is_left_out(
    item: dict[str, Any], *, is_left_out: bool
) -> None:
    assert a_map(**item).is_left_out is is_left_out


def test_stream_without_email_and_domain_is_left_out() -> None:
    assert a_map(a_shape(properties={"id": TEXT, "name": TEXT}, key=())).is_left_out


def test_inferred_value_that_is_wrong_costs_the_field_and_not_the_record() -> None:
    schema = a_shape(
        properties={"email": TEXT, "website": TEXT, "event_time": TEXT}, key=()
    )
    record = {"email": "jane@acme.com", "website": "n/a", "event_time": "soon"}

    signal = a_map(schema).signal_from(record)

    assert signal.body() == {
        "type": "public-trials",
        "source": "tests",
        "account": {"domain": "acme.com"},
        "contact": {"email": "jane@acme.com"},
        "properties": {"event_time": "soon"},
    }


def test_next_inferred_column_is_used_when_the_first_has_no_value() -> None:
    schema = a_shape(properties={"work_email": TEXT, "email": TEXT}, key=())

    emails = [
        a_map(schema).signal_from({"work_email": first, "email": "b@acme.com"}).contact
        for first in ["a@acme.com", None, "", "  ", "unknown"]
    ]

    assert emails == [{"email": "a@acme.com"}] + [{"email": "b@acme.com"}] * 4


def test_mapped_value_that_is_wrong_makes_the_record_invalid() -> None:
    signal = a_map(account={"domain": "{{ company_name }}"}).signal_from(
        {"company_name": "Acme Inc."}
    )

    with pytest.raises(InvalidSignalError, match=r"account\.domain"):
        signal.checked_text()


def test_mapped_time_that_is_wrong_makes_the_record_invalid() -> None:
    compiled_mapping = a_map(occurred_at="{{ plan }}")

    with pytest.raises(InvalidSignalError, match="occurred_at"):
        compiled_mapping.signal_from({"email": "jane@acme.com", "plan": "pro"})


@pytest.mark.parametrize(
    ("item", "key"),
    [
        ({}, ("trial_id",)),
        ({"key": ["email"]}, ("email",)),
        ({"key": ["plan", "seats"]}, ("plan", "seats")),
    ],
)
def test_key_of_a_mapping_replaces_the_key_of_the_stream(
    item: dict[str, Any], key: tuple[str, ...]
) -> None:
    assert a_map(**item).key == key


def test_changes_of_a_computed_property_may_be_ignored() -> None:
    compiled_mapping = a_map(
        properties={"size": "{{ seats }}"}, ignore_changes=["size"]
    )

    assert compiled_mapping.ignore_changes == {"size"}


@pytest.mark.parametrize("name", ["seats", "size", "size.width", "seats.x"])
def test_known_property_in_ignore_changes_is_no_warning(name: str) -> None:
    compiled_mapping = a_map(
        properties=["seats", {"size": {"width": "{{ seats }}"}}], ignore_changes=[name]
    )

    assert not compiled_mapping.warnings


@pytest.mark.parametrize(
    ("item", "ignored"),
    [
        ({}, {"updated_at"}),
        ({"properties": ["plan", "updated_at"]}, {"updated_at"}),
        ({"properties": ["plan"]}, set()),
        ({"properties": None}, set()),
        ({"ignore_changes": []}, set()),
        ({"ignore_changes": ["seats"]}, {"seats"}),
    ],
)
def test_changes_of_an_update_time_are_ignored_by_default(
    item: dict[str, Any], ignored: set[str]
) -> None:
    assert a_map(**item).ignore_changes == ignored


@pytest.mark.parametrize(
    "changed",
    [
        {"type": "other"},
        {"type": "trial", "properties": None},
        {"type": "trial", "send": "once"},
        {"type": "trial", "contact": {"email": "{{ email }}"}},
    ],
)
def test_mapping_digest_changes_with_the_mapping(changed: dict[str, Any]) -> None:
    assert a_map(**changed).mapping_digest != a_map(type="trial").mapping_digest


def test_mapping_digest_does_not_change_with_the_order_of_keys() -> None:
    one = a_map(type="trial", properties={"a": "1", "b": "2"})
    other = a_map(properties={"b": "2", "a": "1"}, type="trial")

    assert one.mapping_digest == other.mapping_digest


def test_origins_have_the_template_and_the_reason_of_each_field() -> None:
    compiled_mapping = a_map(type="trial", contact={"email": "{{ user.mail }}"})

    told = {f: (o.template, o.why) for f, o in compiled_mapping.origins.items()}
    assert told == {
        "type": ("trial", "mapping"),
        "source": (
            "tests",
            "the setting `source`, else the extractor's name or `singer`",
        ),
        "contact.email": ("{{ user.mail }}", "mapping"),
        "account.domain": (
            "{{ company_website | company_domain }}",
            "named like a company's domain or site: `company_website`",
        ),
        "account.name": ("{{ company_name }}", "named like a company: `company_name`"),
        "properties": (
            '["trial_id", "email", "plan", "seats", "updated_at"]',
            "all other scalars",
        ),
        "ignore_changes": ('["updated_at"]', "named like the time of a row's change"),
    }


def test_when_selects_the_records_that_become_signals() -> None:
    compiled_mapping = a_map(when="plan != 'free' and seats > 3")

    wanted = [
        not compiled_mapping.why_filtered({"plan": plan, "seats": seats})
        for plan, seats in [("pro", 5), ("free", 5), ("pro", 3), ("pro", None)]
    ]

    assert wanted == [True, False, False, False]


@pytest.mark.parametrize("plan", [None, "", " \t", "false", "no", "0", "0.00", False])
@pytest.mark.parametrize(
    ("when", "is_sent"),
    [
        ("plan", False),
        ("plan and seats > 3", False),
        ("seats > 3 and (plan or seats > 9)", False),
        ("{{ plan and seats > 3 }}", False),
        ("not plan", True),
        ("not (plan and seats > 3)", True),
        ("plan or seats > 3", True),
        ("(plan or 'x') == 'x' or plan in ['false', 'no', '0', '0.00']", True),
    ],
)
def test_part_of_a_condition_that_is_blank_or_says_no_does_not_hold(
    plan: object, when: str, *, is_sent: bool
) -> None:
    why = a_map(when=when).why_filtered({"plan": plan, "seats": 5})

    assert (why == "") is is_sent


@pytest.mark.parametrize("plan", ["true", "yes", "1", "0.5", "10", "pro", [1]])
@pytest.mark.parametrize("when", ["plan", "plan and seats > 3", "not not plan"])
def test_part_of_a_condition_that_is_filled_holds(plan: object, when: str) -> None:
    assert not a_map(when=when).why_filtered({"plan": plan, "seats": 5})


@pytest.mark.parametrize(("number", "kind"), [("3", "int"), ("0.5", "float")])
def test_when_that_cannot_be_evaluated_makes_the_record_invalid(
    number: str, kind: str
) -> None:
    compiled_mapping = a_map(when=f"seats > {number}")

    with pytest.raises(InvalidSignalError) as refused:
        compiled_mapping.why_filtered({"seats": "canary"})

    assert refused.value.reason == (
        "when: cannot be evaluated: "
        f"'>' not supported between instances of 'str' and '{kind}'; "
        "write `column | int` or `column | float` for the number in a text"
    )


def test_error_in_a_template_shows_its_line() -> None:
    with pytest.raises(ConfigError) as refused:
        a_map(account={"domain": "{{ company_website | domian }}"})

    assert str(refused.value) == (
        "Stream `public-trials`: `account.domain` of its mapping: "
        "there is no filter `domian`; did you mean `domain`?\n"
        "    {{ company_website | domian }}"
    )


@pytest.mark.parametrize(
    "item",
    [
        {"properties": []},
        {"properties": {}},
        {"properties": ["plan"], "skip": ["plan"]},
        {"stream": "public-trials", "properties": "*", "skip": list(TRIALS)},
    ],
)
def test_properties_that_select_nothing_are_refused(item: dict[str, Any]) -> None:
    with pytest.raises(
        ConfigError, match="`properties` of its mapping selects nothing"
    ):
        mappings_for(a_shape(), items_of({"stream": "*", **item}), "tests")


def test_error_of_a_nested_column_shows_the_template_for_it() -> None:
    with pytest.raises(ConfigError) as refused:
        a_map(properties=["user.plan"])

    assert str(refused.value).endswith(
        "`user.plan` is not a property of `public-trials`; for a field inside an "
        "object write `plan: '{{ user.plan }}'`"
    )


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        ("{{ record | tojson }}", '{"tags": ["<b>"]}'),
        ("{{ tags[0] | escape }}", "&lt;b&gt;"),
        ("{{ tags | map('escape') | list }}", '["&lt;b&gt;"]'),
    ],
)
def test_text_that_jinja_marks_as_safe_html_is_plain_text(
    template: str, expected: str
) -> None:
    schema = a_shape(properties={"tags": {"type": "array"}}, key=())
    compiled_mapping = a_map(schema, properties={"x": template})

    found = compiled_mapping.signal_from({"tags": ["<b>"]}).properties["x"]

    assert type(found) is str
    assert found == expected.replace("<b>", "\\u003cb\\u003e")


@pytest.mark.parametrize(
    ("template", "properties"),
    [
        ("{{ tags | map('upper') }}", {"x": '["A"]'}),
        ("{{ {1: tags[0], none: 'n'} }}", {"x.1": "a", "x.None": "n"}),
    ],
)
def test_odd_value_of_a_template_is_a_property(
    template: str, properties: dict[str, str]
) -> None:
    schema = a_shape(properties={"tags": {"type": "array"}}, key=())
    compiled_mapping = a_map(schema, properties={"x": template})

    assert compiled_mapping.signal_from({"tags": ["a"]}).properties == properties


@pytest.mark.parametrize(
    ("template", "reason"),
    [
        ("{{ [tags[0].upper] }}", "without its"),
        ("{{ [{1: 2}] }}", "no text"),
        ("{{ (tags[1], 2) }}", "double"),
    ],
)
def test_value_of_a_template_that_json_lacks_makes_the_record_invalid(
    template: str, reason: str
) -> None:
    schema = a_shape(properties={"tags": {"type": "array"}}, key=())
    compiled_mapping = a_map(schema, properties={"x": template})

    with pytest.raises(InvalidSignalError, match=reason):
        compiled_mapping.signal_from({"tags": ["a", math.inf]})
