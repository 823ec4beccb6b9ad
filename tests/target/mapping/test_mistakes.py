"""Mistakes in a mapping that are found when the SCHEMA arrives."""

from __future__ import annotations

from typing import Any

import pytest

from stairoids_common.error_ids import with_id
from target_stairoids.exceptions import ConfigError
from target_stairoids.mapping.config import check_brackets, glob_of
from target_stairoids.mapping.expressions.template import compile_template
from target_stairoids.mapping.schema import StreamSchema
from target_stairoids.mapping.signals_setting import MappingItem
from tests.support.mapping_builders import TEXT, a_map, a_shape

PEOPLE = a_shape(
    "people",
    {
        **dict.fromkeys(
            ["id", "email", "first_name", "plan", "Full name", "Website"], TEXT
        ),
        "user": {"type": "object", "properties": {"email": TEXT}},
    },
    key=("id",),
)
OPEN = a_shape("people", {}, key=())


def mistake(schema: StreamSchema = PEOPLE, **item: Any) -> str:
    with pytest.raises(ConfigError) as refused:
        a_map(schema, **item)
    sentence = str(refused.value)
    assert sentence.startswith("Stream `people`: `")
    return sentence


def item_with(field: str, value: str) -> dict[str, Any]:
    group, _, name = field.partition(".")
    return {group: {name: value} if name else value}


@pytest.mark.parametrize(
    "field",
    [
        *("contact.email", "contact.first_name", "contact.last_name", "account.domain"),
        *("account.name", "properties.x", "occurred_at"),
    ],
)
@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("first_name", "first_name"),
        (" First_Name ", "first_name"),
        ("first name", "first_name"),
        ("FirstName", "first_name"),
        ("website", "Website"),
        ("Full name", 'record["Full name"]'),
        ("user.email", "user.email"),
        ("record['Full name']", "record['Full name']"),
        ("email | lower", "email | lower"),
        ("email or user.email", "email or user.email"),
        ("<email>", "email"),
        ("$.email", "email"),
        (":email", "email"),
        ("row['email']", "email"),
        ("record.email", "email"),
    ],
)
def test_text_that_is_a_column_or_an_expression_is_a_mistake(
    field: str, text: str, meant: str
) -> None:
    sentence = mistake(**item_with(field, text))

    assert f"`{field}` of its mapping: `{text}` is a text and not a column" in sentence
    assert f"did you mean `{{{{ {meant} }}}}`?" in sentence


@pytest.mark.parametrize(
    ("field", "text", "rule"),
    [
        ("contact.email", "emial", "not an email address"),
        ("contact.email", "ada@x..com", "not an email address"),
        ("account.domain", "acme", "not a domain"),
        ("account.domain", "acme.com, birch.com", "not a domain"),
        ("occurred_at", "now", "not a date and time"),
        ("occurred_at", "2025-13-01", "not a date and time"),
    ],
)
def test_text_that_makes_each_record_invalid_is_a_mistake(
    field: str, text: str, rule: str
) -> None:
    assert f"`{text}` is {rule}" in mistake(**item_with(field, text))


@pytest.mark.parametrize(
    "field",
    [
        *("type", "occurred_at", "contact.email", "contact.last_name"),
        *("account.domain", "account.name"),
    ],
)
@pytest.mark.parametrize("text", [" ", "\t\n"])
def test_blank_text_is_a_mistake(field: str, text: str) -> None:
    assert "it is blank. Write `null`" in mistake(**item_with(field, text))


def test_type_that_is_the_text_null_is_a_mistake() -> None:
    assert "Write `null` without quotes" in mistake(type="null")


@pytest.mark.parametrize(
    ("template", "problem"),
    [
        (
            "{{ plan | iso8601('dd/mm/yyyy') }}",
            "`iso8601`: the form of a time has codes, such as `%d/%m/%Y %H:%M`",
        ),
        ("{{ plan | iso8601('100%') }}", "`iso8601`: the form of a time has codes"),
        ("{{ email | replace('a') }}", "`replace`: missing a required argument: 'new'"),
        ("{{ plan | round(1, 2, 3) }}", "`round`: too many positional arguments"),
        ("{{ plan | default(nope=1) }}", "`default`: got an unexpected keyword"),
        ("{{ plan is divisibleby }}", "the test `divisibleby`: missing a required"),
        ("{{ user | map('lowre') }}", "no filter `lowre`; did you mean `lower`?"),
        ("{{ user | select('nne') }}", "there is no test `nne`"),
        ("{{ user | rejectattr('a', 'nne') }}", "there is no test `nne`"),
    ],
)
def test_filter_or_test_that_cannot_be_called_is_a_mistake(
    template: str, problem: str
) -> None:
    assert problem in mistake(**item_with("properties.x", template))


@pytest.mark.parametrize(
    ("condition", "problem"),
    [
        ("plan is pro", "there is no test `pro`"),
        ("plan | lowre", "there is no filter `lowre`"),
        ("now()", "there is no function `now`"),
        ("plan == 'pro' or 'team'", "a part reads no column"),
        ("not 'plan'", "a part reads no column"),
        ("'plan' == 'pro'", "a part reads no column"),
        ("true", "a part reads no column"),
    ],
)
def test_condition_that_is_one_wrong_call_is_a_mistake(
    condition: str, problem: str
) -> None:
    assert problem in mistake(when=condition)


@pytest.mark.parametrize("field", ["contact.first_name", "properties.x", "type"])
@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("{plan}", "{plan}"),
        ("${PLAN}", "${PLAN}"),
        ("${ plan }", "${ plan }"),
        ("$plan", "$plan"),
        ("%(plan)s", "%(plan)s"),
        ("the {plan} plan", "{plan}"),
        ("{{ email }} {plan}", "{plan}"),
    ],
)
def test_placeholder_of_another_tool_is_a_mistake(
    field: str, text: str, found: str
) -> None:
    sentence = mistake(**item_with(field, text))

    assert f"`{found}` is no placeholder; did you mean `{{{{ plan }}}}`?" in sentence


@pytest.mark.parametrize(
    ("field", "text"),
    [
        ("contact.email", "email"),
        ("contact.first_name", "First_Name"),
        ("occurred_at", "occurred_at"),
        ("properties.plan", "plan"),
    ],
)
def test_text_that_is_the_name_of_its_field_is_a_mistake_in_an_open_schema(
    field: str, text: str
) -> None:
    meant = f"did you mean `{{{{ {text.lower()} }}}}`?"

    assert meant in mistake(OPEN, **item_with(field, text))


@pytest.mark.parametrize(
    ("field", "text"),
    [
        ("type", "plan"),
        ("source", "plan"),
        ("contact.email", "sales@acme.com"),
        ("contact.first_name", "Ada"),
        ("account.domain", "acme.com"),
        ("account.name", "Acme (Plan)"),
        ("properties.x", ""),
        ("occurred_at", "2025-11-05"),
        ("properties.plan", "pro"),
        ("properties.x", "{{ 'plan' }}"),
        ("properties.x", "New lead, of plan 3"),
        ("properties.x", '{"a": 1}'),
        ("properties.x", "{seats} for $5"),
        ("properties.x", "5"),
        ("properties.x", "{{ plan }} {x}"),
    ],
)
def test_constant_is_no_mistake(field: str, text: str) -> None:
    a_map(PEOPLE, **item_with(field, text))


@pytest.mark.parametrize(
    ("field", "text"),
    [
        ("when", f"{'(' * 99}plan{')' * 99}"),
        ("type", f"{{{{ {'(' * 99}email{')' * 99} }}}}"),
        ("contact.email", f"{{{{ email{' | upper' * 999} }}}}"),
        ("properties.x", "{% for x in email %}" * 30 + "{% endfor %}" * 30),
        ("occurred_at", "{% if email %}" * 100 + "{% endif %}" * 100),
    ],
    ids=["condition", "brackets", "filters", "loops", "branches"],
)
def test_template_that_is_nested_too_deeply_is_a_mistake(field: str, text: str) -> None:
    assert "nested too deeply" in mistake(**item_with(field, text))


@pytest.mark.parametrize("levels", [60, 99])
def test_depth_of_a_template_is_limited_alike_for_each_caller(levels: int) -> None:
    """The stack of `check` is not as deep as the stack of a run."""
    text = f"{{{{ {'(' * levels}email{')' * levels} | iso8601 }}}}"

    def compiled_below(callers: int) -> str:
        if callers:
            return compiled_below(callers - 1)
        try:
            a_map(PEOPLE, occurred_at=text)
        except ConfigError as error:
            return str(error)
        return ""

    compile_template.cache_clear()
    deep = compiled_below(400)
    compile_template.cache_clear()
    assert deep == compiled_below(0)
    assert ("nested too deeply" in deep) is (levels == 99)


@pytest.mark.parametrize(
    "template",
    [
        *("{{ email | replace }}", "{{ email is in }}", "{{ email.lowr() }}"),
        *("{% include 'x' %}", "{% nope %}", "{# x", "{{ }}", "{{ (email }}"),
        *("{{ email = 1 }}", "{% block a %}{% endblock %}" * 2),
    ],
)
def test_each_mistake_in_a_template_has_an_id(template: str) -> None:
    assert "[E" in with_id(mistake(**item_with("contact.email", template)))


@pytest.mark.parametrize(
    ("template", "problem"),
    [
        ("{{ now() }}", "there is no function `now`"),
        ("{{ range(3) }}", "there is no function `range`"),
        ('{{ env_var("x") }}', "there is no function `env_var`"),
        ("{{ dict(a=1) }}", "there is no function `dict`"),
        ("{{ lower(email) }}", "`lower`; did you mean the filter `| lower`?"),
        ("{{ email or\n   today() }}", "there is no function `today`"),
        ("{{ email.lowr() }}", "there is no method `lowr`; did you mean `lower`?"),
        ("{% include 'other' %}", "`include` needs another template"),
        ("{% from 'x' import y %}", "`fromimport` needs another template"),
    ],
)
@pytest.mark.parametrize("schema", [PEOPLE, OPEN], ids=["listed", "open"])
def test_unknown_function_is_a_mistake_with_its_place(
    template: str, problem: str, schema: StreamSchema
) -> None:
    for field in ("contact.email", "properties.x", "type"):
        sentence = mistake(schema, **item_with(field, template))

        assert f"`{field}` of its mapping: " in sentence
        assert problem in sentence
        assert sentence.endswith(f"\n    {template.splitlines()[-1]}")
        assert ("(line 2)" in sentence) is ("\n" in template)


def test_unknown_function_in_a_condition_is_a_mistake() -> None:
    assert "no function `now`" in mistake(when="email and now() > 3")


@pytest.mark.parametrize(
    "condition",
    [
        "{{ plan }} == 'pro'",
        "plan == '{{ plan }}'",
        "{{ plan }} and {{ email }}",
        "not {{ plan }}",
    ],
)
def test_braces_inside_a_condition_are_a_mistake(condition: str) -> None:
    assert "`when` of its mapping: a condition has no braces" in mistake(when=condition)


def test_condition_in_braces_is_no_mistake() -> None:
    mapping = a_map(PEOPLE, when=" {{ plan == 'pro' }} ")

    assert [mapping.why_filtered({"plan": plan}) for plan in ("pro", "free")] == [
        "",
        "by `when`",
    ]


def test_variable_of_the_environment_is_no_text_of_a_signal() -> None:
    assert "no variable is read here" in mistake(source="${SOURCE}")


@pytest.mark.parametrize(
    "template",
    [
        "{% macro twice(x) %}{{ x }}{{ x }}{% endmacro %}{{ twice(plan) }}",
        "{% for t in plan %}{{ loop.cycle('a', 'b') }}{% endfor %}",
        "{{ plan.upper().strip() }}",
    ],
)
def test_function_that_exists_is_no_mistake(template: str) -> None:
    a_map(PEOPLE, properties={"x": template})


@pytest.mark.parametrize("field", ["record.get('plann')", "'plann' in record"])
def test_column_that_a_template_asks_for_need_not_exist(field: str) -> None:
    assert "is not a property of" in mistake(properties={"x": "{{ record.plann }}"})
    a_map(PEOPLE, properties={"x": f"{{{{ {field} }}}}"})


@pytest.mark.parametrize("name", ["idd", "account_id", "user.mail"])
def test_misspelt_key_is_a_mistake_although_the_schema_allows_more(name: str) -> None:
    schema = StreamSchema(
        name="people",
        properties={**PEOPLE.properties, "user": {**PEOPLE.properties["user"],
                                                  "additionalProperties": False}},
        key_properties=("id",),
        allows_more=True,
    )  # fmt: skip

    assert "is not a property of" in mistake(schema, key=[name])
    a_map(schema, key=["id", "user.email"])


def test_key_in_another_case_is_a_mistake_with_its_remedy() -> None:
    assert "did you mean `email`?" in mistake(key=["EMAIL"])


@pytest.mark.parametrize(
    "text",
    ["email", " email ", "{email}", "$email", "${email}", "%(email)s", "<email>"],
)
@pytest.mark.parametrize("names", [["email", "e-mail", "E_Mail"], ["E Mail", "email"]])
def test_column_of_exactly_this_name_is_suggested_first(
    text: str, names: list[str]
) -> None:
    schema = a_shape("people", dict.fromkeys(names, TEXT))

    sentence = mistake(schema, contact={"email": text})

    assert "did you mean `{{ email }}`?" in sentence


def an_object(name: str) -> dict[str, Any]:
    inner = {name: TEXT}
    return {"type": "object", "properties": inner, "additionalProperties": False}


@pytest.mark.parametrize(
    ("text", "columns", "hint"),
    [
        ("{{ user.email }}", {"user__ssn": TEXT, "user__email": TEXT}, "`user__email`"),
        ("{{ user.email }}", {"user_id": TEXT, "user_email": TEXT}, "`user_email`"),
        ("{{ user.email }}", {"userId": TEXT, "userEmail": TEXT}, "`userEmail`"),
        (
            "{{ user.email }}",
            {"user.id": TEXT, "user.email": TEXT},
            'record["user.email"]',
        ),
        ("{{ user.data.email | lower }}", {"user__data": TEXT}, "`user__data`"),
        ("{{ user__email }}", {"user": an_object("email")}, "`user.email`"),
        ("{{ user.eMail }}", {"user": an_object("email")}, "`user.email`"),
        ("{{ user.e-mail }}", {"user": an_object("e-mail")}, '["user"]["e-mail"]'),
        ("{{ user.emial }}", {"user": an_object("email")}, "did you mean `email`?"),
        ("user.email", {"user__ssn": TEXT, "user__email": TEXT}, "{{ user__email }}"),
        ("data.email", {"email": TEXT, "data": an_object("email")}, "{{ data.email }}"),
        ("{{ e-post }}", {"e-mail": TEXT, "e-post": TEXT}, '`record["e-post"]`'),
        (
            "{{ e-mail }}",
            {"user": an_object("e-mail"), "e-mail": TEXT},
            '`record["e-mail"]`',
        ),
        (
            "{{ user.e-mail }}",
            {"e-mail": TEXT, "user": an_object("e-mail")},
            '`record["user"]["e-mail"]`',
        ),
        ("{{ EMail }}", {"eMail": TEXT, "email": TEXT}, "`eMail`"),
        ("{{ Emial }}", {"Email": TEXT, "email": TEXT}, "`Email`"),
    ],
)
def test_column_that_a_flattened_or_nested_name_means_is_suggested(
    text: str, columns: dict[str, Any], hint: str
) -> None:
    sentence = mistake(a_shape("people", columns), contact={"email": text})

    assert hint in sentence


def test_ignored_change_of_an_absent_column_is_a_warning() -> None:
    mapping = a_map(PEOPLE, ignore_changes=["plan", "plam", "x"], properties={"x": "1"})

    assert mapping.ignore_changes == {"plan", "plam", "x"}
    assert mapping.warnings == (
        (
            "Stream `people`: `ignore_changes` of its mapping: `plam` is not a "
            "property of `people`; did you mean `plan`?"
        ),
    )


@pytest.mark.parametrize(
    ("glob", "stream", "meant"),
    [
        ("Sheet [2024]", "Sheet [2024]", "Sheet [[]2024]"),
        ("Sheet [2024]*", "Sheet [2024] final", "Sheet [[]2024]*"),
        ("[a]", "[a]", "[[]a]"),
    ],
)
def test_glob_that_does_not_match_because_of_brackets_is_a_mistake(
    glob: str, stream: str, meant: str
) -> None:
    with pytest.raises(ConfigError) as refused:
        check_brackets(stream, [MappingItem(stream=glob), MappingItem(stream="*")])

    assert f"did you mean `{meant}`?" in str(refused.value)
    check_brackets(stream, [MappingItem(stream=meant)])
    assert glob_of(stream, [MappingItem(stream=meant)]) == meant


def test_stream_with_braces_in_its_name_is_its_own_type() -> None:
    for name in ("{{ email }}", "{email}", "a{%b", "${id}"):
        mapping = a_map(a_shape(name, dict(PEOPLE.properties), key=("id",)))

        assert mapping.signal_from({}).type == name
        assert mapping.name == name
        a_map(
            a_shape(name, dict(PEOPLE.properties), key=("id",)),
            type=mapping.origins["type"].template,
        )


LINE = {
    "type": "object",
    "properties": {"sku": TEXT, "size": {"type": "object"}},
    "additionalProperties": False,
}
ORDERS = a_shape(
    "people", {"id": TEXT, "lines": {"type": "array", "items": LINE}}, key=("id",)
)


@pytest.mark.parametrize(
    "expression",
    [
        "record | attr('skku')",
        "lines[0].skku",
        "lines[0] | attr('skku')",
        "lines | map(attribute='skku')",
        "lines | map('attr', 'skku')",
        "lines | sort(attribute='sku,skku')",
        "lines | selectattr('sku') | map(attribute='skku')",
        "lines | rejectattr('skku')",
        "lines | groupby('skku')",
        "lines | sum('skku')",
        "lines | max(attribute='skku')",
        "lines | unique(attribute='skku')",
        "lines | join(' ', 'skku')",
    ],
)
def test_misspelt_name_that_a_filter_takes_is_a_mistake(expression: str) -> None:
    sentence = mistake(ORDERS, properties={"x": f"{{{{ {expression} }}}}"})

    assert "`properties.x` of its mapping: `skku` is not a property of `" in sentence


@pytest.mark.parametrize(
    "expression",
    [
        "record | attr('lines')",
        "lines | map(attribute='sku')",
        "lines | map(attribute='size.height')",
        "lines | map(attribute='skku', default='')",
        "id | list | map(attribute='skku')",
    ],
)
def test_name_that_a_filter_takes_may_exist(expression: str) -> None:
    compiled = a_map(ORDERS, properties={"x": f"{{{{ {expression} }}}}"})

    assert compiled.paths
