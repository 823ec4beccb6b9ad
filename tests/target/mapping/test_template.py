"""Templates: paths, filters, Jinja, null and errors."""

from __future__ import annotations

from contextlib import suppress
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from target_stairoids.exceptions import InvalidSignalError
from target_stairoids.mapping.expressions.errors import TemplateError
from target_stairoids.mapping.expressions.template import (
    compile_condition,
    compile_template,
)

RECORD: dict[str, Any] = {
    "email": "Jane@ACME.com",
    "plan": "pro",
    "seats": 5,
    "huge": 10**9,
    "wide": "%1000000000d",
    "mrr": Decimal("1.10"),
    "none_of_it": None,
    "blank": " ",
    "tags": None,
    "labels": ["new", "vip"],
    "order": {"items": [{"sku": "a"}, {"sku": "b"}], "keys": 3, "pop": None},
    "Full name": "Ada Lovelace",
    "$email": "x@acme.com",
    "range": 7,
    "self": "me",
}


def value_of(template: str) -> object:
    return compile_template(template, "properties.p").read(RECORD)


@pytest.mark.parametrize(
    ("template", "value"),
    [
        ("{{ email | lower }}", "jane@acme.com"),
        ("{{ email | domain }}", "acme.com"),
        ("{{ email | domain | upper }}", "ACME.COM"),
        ("{{ mrr }}", Decimal("1.10")),
        ("{{ mrr | float }}", Decimal("1.1")),
        ("{{ '2024_01' | int }}", None),  # Python reads 202401
        ("{{ '1_0.5' | float }}", None),
        ("{{ seats * 2 }}", 10),
        ("{{ mrr * seats }}", Decimal("5.50")),
        ("{{ mrr * 1.1 }}", Decimal("1.210")),
        ("{{ 0.2 + mrr }}", Decimal("1.30")),
        ("{{ mrr - 0.1 }}", Decimal("1.00")),
        ("{{ mrr / 0.5 }}", Decimal("2.20")),
        ("{{ mrr // 0.5 }}", Decimal(2)),
        ("{{ -mrr // 0.5 }}", Decimal(-3)),
        ("{{ -7 // 2.0 }}", -4),
        ("{{ -7 % 2.5 }}", Decimal("0.5")),
        ("{{ mrr % -0.5 }}", Decimal("-0.40")),
        ("{{ (mrr | float) * 2.0 }}", Decimal("2.20")),
        ("{{ seats / 2 + mrr }}", Decimal("3.60")),
        ("{{ 2 ** -1 + mrr }}", Decimal("1.60")),
        ("{{ [mrr, 0.5] | sum }}", Decimal("1.60")),
        ("{{ [mrr] | sum(start=0.5) }}", Decimal("1.60")),
        ("{{ [mrr, 1.1] | unique | length }}", 1),
        ("{{ (seats | round(1, 'floor')) + mrr }}", Decimal("6.10")),
        ("{{ [mrr] | select('eq', 1.1) }}", [Decimal("1.10")]),
        ("{{ mrr is eq 1.1 and mrr is in [1.1] and {'a': mrr} == {'a': 1.1} }}", True),
        ("{{ mrr.compare(1.1) }}", 0),
        ("{{ (seats | float) - mrr }}", Decimal("3.90")),
        ("{{ mrr == 1.1 and 1.1 == mrr and mrr in [1.1] }}", True),
        ("{{ mrr >= 1.1 and mrr <= 1.1 and mrr != 1.2 }}", True),
        ("{{ (mrr | float) == mrr }}", True),
        ("{{ seats > 3 }}", True),
        ("{{ 'big' if seats > 3 else 'small' }}", "big"),
        ("{{ order.items[0].sku }}", "a"),
        ("{{ order.items.1.sku }}", "b"),
        ("{{ order.items[2].sku }}", None),
        ("{{ plan[0] }}{{ plan[9] }}", "p"),
        ("{{ plan[0] }}", "p"),
        ("{{ plan[9] }}", None),
        ("{{ order['keys'] }}", 3),
        ("{{ order.pop }}", None),
        ("{{ record.get('Full name') ~ record.get('x', '!') }}", "Ada Lovelace!"),
        ("{{ order.get('keys') }}", 3),
        (
            "{% for k, v in order.items() if k == 'keys' %}{{ k }}{{ v }}{% endfor %}",
            "keys3",
        ),
        ("{{ order.keys() | list }}", ["items", "keys", "pop"]),
        ("{{ none_of_it.get('x') }}", None),
        ("{{ missing.items() }}", None),
        ("{{ order.items | map(attribute='sku') | join('+') }}", "a+b"),
        ("{{ order.items | length }}", 2),
        ("{{ record['Full name'] | first_name }}", "Ada"),
        ('{{ record["$email"] }}', "x@acme.com"),
        ("{{ record | attr('$email') }}", "x@acme.com"),
        ("{{ record | attr('Full name') | first_name }}", "Ada"),
        ("{{ record | attr('$' ~ 'email') }}", "x@acme.com"),
        ("{{ record | attr('tags') | attr('x') }}", None),
        ("{{ order | attr('keys') + 1 }}", 4),
        ("{{ order['items'] | map('attr', 'sku') | join }}", "ab"),
        ("{{ record.seats }}", 5),
        ("{{ range }}", 7),
        ("{{ self }}", "me"),
        ("{{ lipsum }}", None),
        ("{{ '}}' }}", "}}"),
        ("{{ email.lower() }}", "jane@acme.com"),
        ("{{ none_of_it or plan }}", "pro"),
        ("{{ blank or plan }}", "pro"),
        ("{{ blank or none_of_it }}", None),
        ("{{ blank or plan ~ '!' }}", "pro!"),
        ("{{ (blank or plan) ~ '!' }}", "pro!"),
        ("{{ 'x' if blank or none_of_it else 'y' }}", "y"),
        ("{{ 'x' if blank else 'y' }}", "y"),
        ("{{ plan if not blank }}", "pro"),
        ("{{ (blank and plan) or 'y' }}", "y"),
        ("{{ seats * 0 and plan }}", 0),
        ("{{ blank | default('free', true) }}", "free"),
        ("{{ (blank ~ '') | default('free', true) }}", "free"),
        ("{{ [blank, plan] | select }}", ["pro"]),
        ("{{ [blank, plan] | reject }}", [" "]),
        ("{{ [{'a': blank}, {'a': plan}] | selectattr('a') | length }}", 1),
        ("{% if blank %}x{% elif blank %}y{% else %}z{% endif %}", "z"),
        ("{% for tag in [blank, plan] if tag %}{{ tag }}{% endfor %}", "pro"),
        ("{{ missing | default('free') }}", "free"),
        ("{{ none_of_it | default('free') }}", "free"),
        ("{{ plan | default('free') }}", "pro"),
        ("{{ '' | default('free', true) }}", "free"),
        ("{% if seats > 3 %}big{% endif %}", "big"),
        ("{% for tag in labels %}{{ tag }},{% endfor %}", "new,vip,"),
        ("{% set n = 3 %}{{ n }}{{ plan }}", "3pro"),
        ("a {# comment #}b", "a b"),
        ("{{ plan }} has {{ seats }}", "pro has 5"),
        ("{{ plan }}\n", "pro"),
    ],
)
def test_template_reads_a_record(template: str, value: object) -> None:
    assert value_of(template) == value


@pytest.mark.parametrize(
    ("template", "value"),
    [
        ("{{ none_of_it | upper }}", None),
        ("{{ missing | trim }}", None),
        ("{{ missing.deep.down | replace('a', 'b') }}", None),
        ("{{ none_of_it | domain }}", None),
        ("{{ none_of_it.upper() }}", None),
        ("{{ missing.deep.upper().split('@')[1] }}", None),
        ("{{ none_of_it[:3] }}", None),
        ("{{ missing.deep[1:] }}", None),
        ("{{ plan[:2] }}", "pr"),
        ("{{ none_of_it in 'pro free' }}", False),
        ("{{ missing not in 'pro free' }}", True),
        ("<{{ none_of_it.upper() }}>", "<>"),
        ("{{ none_of_it ~ '-' ~ plan }}", "-pro"),
        ("<{{ none_of_it }}>", "<>"),
        ("<{{ missing }}>", "<>"),
        ("{{ none_of_it > 3 }}", False),
        ("{{ 3 > none_of_it }}", False),
        ("{{ 'a' in tags }}", False),
        ("{{ 'a' not in tags }}", True),
        ("{{ none_of_it == none }}", True),
        ("{{ missing == none }}", True),
        ("{{ none_of_it != 3 }}", True),
        ("{{ missing is defined }}", False),
        ("{{ plan if none_of_it }}", None),
        ("{{ (plan if none_of_it) | default('free') }}", "free"),
        ("{{ (order if none_of_it).keys }}", None),
        ("{{ (seats if none_of_it) > 3 }}", False),
        ("<{{ plan if none_of_it }}>", "<>"),
        ("{{ plan ~ (plan if none_of_it) }}", "pro"),
        ("{{ [plan, none_of_it, missing, seats > 3] | join(' ') }}", "pro true"),
        ("{{ order.items | join(',', attribute='size') }}", ""),
        ("{{ '%s:%s' % (plan, none_of_it) }}", "pro:"),
        ("{{ '%s' % none_of_it }}", ""),
        ("{{ '%(keys)s' % order }}", "3"),
        ("{{ '%s:%s' | format(plan, none_of_it) }}", "pro:"),
        ("{{ '{}:{x}'.format(plan, x=none_of_it) }}", "pro:"),
        ("{{ plan | replace('p', none_of_it) }}", "ro"),
    ],
)
def test_null_and_missing_columns_are_null_safe(template: str, value: object) -> None:
    assert value_of(template) == value


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (True, "true"),
        (False, "false"),
        (1.5, "1.5"),
        (Decimal("1.10"), "1.10"),
        (18446744073709551615, "18446744073709551615"),
        ({"a": 1}, '{"a": 1}'),
        ([1, "x"], '[1, "x"]'),
        ([Decimal("1.10"), "é"], '[1.10, "é"]'),
        ({"a": Decimal("1.10")}, '{"a": 1.10}'),
    ],
)
@pytest.mark.parametrize("template", ["{{ v }}", "{{ v | string }}", "{{ '' ~ v }}"])
def test_value_in_a_text_is_written_as_in_json(
    value: object, text: str, template: str
) -> None:
    found = compile_template(f"= {template}", "properties.p")

    assert found.read({"v": value}) == f"= {text}"


def test_json_has_all_digits_of_a_decimal() -> None:
    template = compile_template("{{ v | tojson }}", "properties.p")

    assert template.read({"v": [Decimal("1.10")]}) == "[1.10]"


@pytest.mark.parametrize(
    ("template", "value"),
    [
        ("{{ labels | map('upper') }}", ["NEW", "VIP"]),
        ("<{{ labels | reverse }}>", '<["vip", "new"]>'),
        ("{{ labels | select('eq', 'vip') ~ '' }}", '["vip"]'),
    ],
)
def test_filter_of_a_list_returns_a_list(template: str, value: object) -> None:
    assert value_of(template) == value


def test_long_chains_of_or_are_compiled_at_once() -> None:
    """Code that names each left side twice would double with each `or`."""
    chain = " or ".join(f"plan == 'x{n}'" for n in range(40))

    assert value_of(f"{{{{ {chain} or plan }}}}") == "pro"


@pytest.mark.parametrize(
    ("template", "problem"),
    [
        ("{{ r / 0 }}", "division by zero"),
        ("{{ r % 0 }}", "cannot be computed"),
        ("{{ 10.0 ** 10000000 * r }}", "is too large"),
    ],
)
def test_error_of_a_decimal_is_in_words(template: str, problem: str) -> None:
    compiled = compile_template(template, "properties.p")

    with pytest.raises(InvalidSignalError, match=problem):
        compiled.read({"r": Decimal("1.5")})


def test_empty_list_of_a_filter_is_false() -> None:
    condition = compile_condition("labels | select('eq', 'gone')", "when")

    assert not condition.read(RECORD)


@pytest.mark.parametrize("template", ["<{{ plan.upper }}>", "{{ plan.upper ~ '' }}"])
def test_method_that_is_not_called_is_no_text(template: str) -> None:
    with pytest.raises(InvalidSignalError, match=r"without its `\(\)`"):
        value_of(template)


@pytest.mark.parametrize(
    ("condition", "holds"),
    [
        ("plan == 'pro'", True),
        ("plan != 'pro'", False),
        ("seats > 3 and plan in ['pro', 'team']", True),
        ("1 < seats <= 5", True),
        ("'vip' in labels", True),
        ("none_of_it < 4", False),
        ("not none_of_it", True),
        ("email.endswith('.com')", True),
        ("{{ plan == 'pro' }}", True),
        ("missing", False),
        ("blank and plan", False),
        ("not blank", True),
        ("not none_of_it.endswith('@example.com')", True),
    ],
)
def test_condition(condition: str, *, holds: bool) -> None:
    assert bool(compile_condition(condition, "when").read(RECORD)) is holds


COMPARED = {
    "seats": "12",
    "none_left": "0",
    "count": 12,
    "is_test": True,
    "agreed": "False",
    "blank": " ",
    "unknown": "n/a",
    "noon": "2026-01-31T12:00:00+02:00",
    "ten": "2026-01-31T10:00:00Z",
    "later": "2026-01-31T10:00:00.500Z",
    "mail_date": "Sat, 31 Jan 2026 10:00:00 GMT",
    "american": "1/31/2026",
    "german": "1.2.2026",
    "spring": "Mar 1, 2026",
    "invoice": "2026-01-31-0001",
    "new_year": "2025-12-31 23:30:00-05:00",
    "nanosecond": "2026-01-31T10:00:00.000000001Z",
    "crossed": "\u274c",
    "ticked": "\u2705",
    "lines": [{"qty": 2}, {"qty": None}],
}


@pytest.mark.parametrize(
    ("condition", "holds"),
    [
        ("seats == 13", False),
        ("seats == '12'", True),
        ("seats != 0", True),
        ("seats in [12, '12']", True),
        ("seats not in ['12', 12]", False),
        ("seats > '11'", True),
        ("is_test == true", True),
        ("is_test != 'pro'", True),
        ("agreed == true", False),
        ("blank < '3'", False),
        ("blank == none", False),
        ("noon == ten", True),
        ("noon > ten", False),
        ("ten < later", True),
        ("mail_date <= ten", True),
        ("mail_date >= '2025-12-31'", True),
        ("noon >= '2026'", True),
        ("noon < '2026-02'", True),
        ("noon < '2025-12'", False),
        ("american == '2026-01-31'", False),
        ("german < '31.1.2026'", False),
        ("german == '01.02.2026'", True),
        ("german >= '2026'", True),
        ("german < '2026-02'", False),
        ("german > 'Jan 31, 2026'", True),
        ("spring < 'Feb 1, 2027'", True),
        ("ten < nanosecond", True),
        ("nanosecond == '2026-01-31T11:00:00.00000000100+01:00'", True),
        ("nanosecond < '2026-01-31T10:00:00.00000001Z'", True),
        ("invoice == '2026-01-31-0002'", False),
        ("invoice >= '2026'", True),
        ("new_year >= '2026'", False),
        ("new_year < '2026-01'", True),
        ("crossed", False),
        ("not crossed", True),
        ("ticked", True),
        ("(agreed | int(0)) > 3", False),
        ("(unknown | int) > 3", False),
        ("(blank | float) > 3", False),
        ("(agreed | int) == none", True),
        ("lines | selectattr('qty', 'gt', 1) | list", True),
    ],
)
def test_comparison_of_texts_knows_times_and_blanks(
    condition: str, *, holds: bool
) -> None:
    assert bool(compile_condition(condition, "when").read(COMPARED)) is holds


@pytest.mark.parametrize(
    "condition",
    [
        "seats == 12",
        "none_left != 0",
        "seats in [11, 12]",
        "none_left not in [0]",
        "count != '12'",
        "count not in ['12', '13']",
        "is_test != 'true'",
        "is_test == 'Yes'",
        "is_test not in ['1']",
        "agreed == false",
        "seats > '3'",
        "'9' < seats",
        "american > '2025-12-31'",
        "agreed < ten",
        "american < '2/1/2026'",
        "american < '2026'",
        "[seats] | select('eq', 12)",
    ],
)
def test_comparison_that_a_text_would_make_wrong_fails(condition: str) -> None:
    with pytest.raises(InvalidSignalError, match="compar") as refused:
        compile_condition(condition, "when").read(COMPARED)

    assert "write `column | " in refused.value.reason


@pytest.mark.parametrize(
    "condition",
    [
        "(agreed | int) > 3",
        "not (agreed | float < 3)",
        "american | iso8601 < noon | iso8601",
        "american | iso8601('%d/%m/%Y') < noon",
        "{{ 'big' if (agreed | int) > 50 else 'small' }}",
    ],
)
def test_comparison_of_a_value_that_a_filter_cannot_read_fails(condition: str) -> None:
    with pytest.raises(InvalidSignalError, match="cannot read a value that is compar"):
        compile_condition(condition, "when").read(COMPARED)


@pytest.mark.parametrize(
    ("template", "paths"),
    [
        ("{{ email }}", {("email",)}),
        ("{{ user.email or email | lower }}", {("user", "email"), ("email",)}),
        ("{{ order.items[0].sku ~ plan }}", {("order", "items", 0, "sku"), ("plan",)}),
        ("{{ record['Full name'] }}", {("Full name",)}),
        ("{{ record | attr('Full name') }}", {("Full name",)}),
        ("{{ record.plan }}", {("plan",)}),
        ("{{ email.lower() }}", {("email",)}),
        ("{% set x = plan %}{{ x }}", {("plan",)}),
        ("{% for t in labels %}{{ t }}{% endfor %}", {("labels",)}),
        ("{{ record }}", set()),
        ("{{ record.keys() }}", set()),
        ("plain", set()),
    ],
)
def test_paths_of_a_template(template: str, paths: set[Any]) -> None:
    assert compile_template(template, "properties.p").paths == paths


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("{{ email | }}", "expected token 'name', got 'end of print statement'"),
        ("{{ email", "unexpected end of template"),
        ("{{ }}", "expected an expression, got 'end of print statement'"),
        ("{{ a b }}", "expected token 'end of print statement', got 'b'"),
        ("{{ Full name }}", 'as `record["First name"]`'),
        ("{{ 1 + }}", "unexpected 'end of print statement'"),
        ("{% if %}x{% endif %}", "expected an expression"),
        ("email }}", "`}}` opens or ends nothing"),
        ("{ email }}", "`}}` opens or ends nothing"),
        ("{{ $email }}", "unexpected char '$'; write a name with a space or a mark as"),
        ("{{ a & b }}", "unexpected char '&'"),
        ("{{ a | domian }}", "no filter `domian`; did you mean `domain`?"),
        ("{{ a | defned or a is defned }}", "no filter `defned`"),
        ("{{ b }} }} {{ b }}", "`}}` opens or ends nothing"),
        ("{{ foo | map('foo') }}", "no filter `foo`"),
        ("{{ is_x and b is is_x }}", "no test `is_x`"),
        ("{{ now or x.now or now() }}", "no function `now`"),
        ("{{ a.foo or a.foo() }}", "no method `foo`"),
        ("{{ a is defned }}", "no test `defned`; did you mean `defined`?"),
    ],
)
def test_error_shows_its_line(text: str, problem: str) -> None:
    with pytest.raises(TemplateError) as refused:
        compile_template(text, "properties.p")

    sentence, line = str(refused.value).split("\n")
    assert problem in sentence
    assert line == f"    {text}"


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("two {{ x | ) }}", "unexpected ')'"),
        ("two }} three", "`}}` opens or ends nothing"),
        ("two {{ x | map('lowre') }}", "there is no filter `lowre`"),
        ("two {{ x.lowr() }}", "there is no method `lowr`"),
        ("two {% include 'x' %}", "`include` needs another template; there is none"),
    ],
)
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_error_in_a_later_line_has_the_line_number(
    line: str, problem: str, end: str
) -> None:
    text = end.join(["one {{ x }} of", "", line, "three"])

    with pytest.raises(TemplateError) as refused:
        compile_template(text, "properties.p")

    sentence, shown = str(refused.value).split("\n")
    assert sentence.startswith(problem)
    assert sentence.endswith(" (line 3)")
    assert shown == f"    {line}"


@pytest.mark.parametrize("part", ["plan == '{{ x }}'", "x.lowr()", "'b'"])
def test_error_in_a_later_line_of_a_condition_has_the_line_number(part: str) -> None:
    with pytest.raises(TemplateError) as refused:
        compile_condition(f"plan == 'a'\nor {part}", "when")

    assert str(refused.value).endswith(f" (line 2)\n    or {part}")


@pytest.mark.parametrize("condition", ["plan = 'x'", "plan ==", "(plan", ""])
def test_error_in_a_condition_shows_its_line(condition: str) -> None:
    with pytest.raises(TemplateError) as refused:
        compile_condition(condition, "when")

    assert str(refused.value).split("\n")[-1] == f"    {condition}"


@pytest.mark.parametrize(
    "template",
    [
        "{{ ''.__class__.__mro__ }}",
        "{{ email.__class__ }}",
        "{{ record.__class__ }}",
        "{{ labels.__init__.__globals__ }}",
    ],
)
def test_sandbox_gives_no_access_to_python_objects(template: str) -> None:
    assert not value_of(template)


@pytest.mark.parametrize(
    ("template", "problem"),
    [
        ("{{ plan + seats }}", "can only concatenate str"),
        ("{{ labels.append('x') }}", "not allowed"),
        ("{{ seats.upper() }}", "does not exist"),
        ("{{ labels.items() }}", "does not exist"),
        ("{{ seats / 0 }}", "division by zero"),
        ("{{ plan * 99999999999999 }}", "needs numbers"),
    ],
)
def test_template_that_fails_makes_the_record_invalid_without_its_values(
    template: str, problem: str
) -> None:
    with pytest.raises(InvalidSignalError) as refused:
        value_of(template)

    assert refused.value.reason.startswith("properties.p: cannot be evaluated: ")
    assert "Error" not in refused.value.reason
    assert problem in refused.value.reason
    assert "Jane" not in refused.value.reason


@given(st.text(max_size=30) | st.text("{}%#|.'\" ()[]abin=+", max_size=20))
def test_any_text_is_a_template_or_an_error(text: str) -> None:
    with suppress(InvalidSignalError, TemplateError):
        compile_template(text, "properties.p").read(RECORD)


@pytest.mark.parametrize(
    ("template", "paths", "reads_record"),
    [
        ("{{ record_type }}", {("record_type",)}, False),
        ("{{ record['Full name'] }}", {("Full name",)}, False),
        ("{{ record.plan | upper }} plan", {("plan",)}, False),
        ("{{ record | tojson }}", set(), True),
        ("all: {{ record }}", set(), True),
        ("{{ record.get('plan') }}", {("plan",)}, False),
        ("{{ record.get('plan', 'free').upper() }}", {("plan",)}, False),
        ("{{ record.get('user', {}).get('plan') }}", {("user", "plan")}, False),
        ("{{ 'plan' in record and record.plan }}", {("plan",)}, False),
        ("{% set plan = record.get('plan') %}{{ plan }}", {("plan",)}, False),
        ("{% set plan = record.plan %}{{ plan[:10] }}", {("plan",)}, False),
        (
            "{% for x in xs %}{{ x.a }}{{ record.x }}{% endfor %}",
            {("xs",), ("x",)},
            False,
        ),
        ("{{ record.get('plan', record) }}", set(), True),
        ("{{ record.get(plan) }}", {("plan",)}, True),
        ("{{ record[plan] }}", {("plan",)}, True),
        ("{% for name in record %}{{ name }}{% endfor %}", set(), True),
        ("a record of a plan", set(), False),
    ],
)
def test_template_knows_whether_it_reads_the_whole_record(
    template: str, paths: set[tuple[str, ...]], *, reads_record: bool
) -> None:
    compiled = compile_template(template, "type")

    assert compiled.paths == paths
    assert compiled.reads_record == reads_record


@pytest.mark.parametrize("template", ["{{ plan * 2 }}", "{{ 3 * labels }}"])
def test_product_with_a_text_or_a_list_is_no_repetition(template: str) -> None:
    with pytest.raises(InvalidSignalError, match=r"`\*` needs numbers"):
        value_of(template)


@pytest.mark.parametrize(
    "template",
    [
        "{{ plan | center(huge) }}",
        "{{ 2 ** huge }}",
        "{{ wide % seats }}",
        "{{ wide.format(seats) ~ (wide | format(seats)) }}",
        "{{ plan | center(10**9) }}",
        "{{ plan.center(1000000000) }}",
        "{{ plan.ljust(10**9, 'x') ~ 'x' }}",
        "{{ plan.zfill(width=10**9) }}",
        "{{ labels | tojson(indent=10**9) }}",
        "{{ (plan ~ '\n' ~ plan) | indent(10**9) }}",
        "{{ '%1000000000s' % plan }}",
        "{{ '%*d' | format(10**9, seats) }}",
        "{{ '{:>1000000000}'.format(plan) }}",
        "{{ '{:>{}}'.format(plan, 10**9) }}",
        "{{ labels | map('center', 10**9) | join }}",
        "{{ labels | batch(10**9, 'x') | list }}",
        "{{ 5 | round(-(10**9)) }}",
        "{{ 3 ** 999999999 }}",
        "{{ plan.replace('', 'x'.center(1000000)) }}",
        "{% set x = plan.center(999999) %}{{ x ~ x }}",
        "{% set x = plan.center(999999) %}{{ x + x }}",
        "{% set x = plan.center(999999) %}{{ x }}{{ x }}",
        "{% macro m(x) %}{{ x }}{{ x }}{% endmacro %}{{ m(plan.center(999999)) }}",
    ],
)
def test_expression_that_makes_a_huge_text_fails(template: str) -> None:
    with pytest.raises(InvalidSignalError, match=r"makes a text or a number .* long$"):
        value_of(template)


@pytest.mark.parametrize(
    ("template", "value"),
    [
        ("{{ plan | center(9) | length }}", 9),
        ("{{ 'Order 12345678: %5s' % plan }}", "Order 12345678:   pro"),
        ("{{ '%d' | format(1700000000000) }}", "1700000000000"),
        ("{{ missing | default(1700000000000) }}", 1700000000000),
        ("{{ 250000 | round }}", 250000),
        ("{{ (250000 | round(2)) | int }}", 250000),
        ("{{ 250000 | tojson }}", "250000"),
        ("{{ 1700000000000 | round(-3) }}", 1700000000000),
        ("{{ 7 % 4 + 2 ** 3 }}", 11),
        ("{{ ['a'] + ['b'] }}", ["a", "b"]),
    ],
)
def test_other_expression_has_no_limit(template: str, value: object) -> None:
    assert value_of(template) == value
