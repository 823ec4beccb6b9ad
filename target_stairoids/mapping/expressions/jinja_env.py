"""Jinja's sandboxed environment, adapted to records.

* A field wins over a method of the same name: `order.items` is the field.
* A missing field is null. A filter, a method or a slice of null returns null, text
  shows it as "", and every comparison of size with it is false.
* A filter that returns a generator in Jinja returns a list: an empty one is false.
* A number with a fraction is a decimal, as in the record: `rate == 0.1` holds for 0.1.
* Blank text is false, as "" is.
* Lists, objects and booleans become the text that JSON has for them.
* No number of a record asks for a text that fills the memory: `x | center(seats)`.
"""

from __future__ import annotations

import functools
import math
import operator
import re
from collections.abc import Callable, Iterator, Mapping
from decimal import Decimal
from itertools import chain
from typing import Any

import msgspec
from jinja2 import ChainableUndefined, Environment, nodes, pass_environment
from jinja2.filters import make_attrgetter
from jinja2.runtime import Context
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import missing
from jinja2.visitor import NodeTransformer
from typing_extensions import override

from target_stairoids.exceptions import InvalidSignalError
from target_stairoids.mapping.expressions.comparisons import (
    SIZES,
    TESTS,
    compare,
    test_of,
    value_of,
)
from target_stairoids.mapping.expressions.filters import FILTERS
from target_stairoids.mapping.privacy import is_yes
from target_stairoids.mapping.values import holds, is_blank, is_filled, json_bytes

Json = Any  # any JSON value; narrowed where it is read

_LARGEST = 10_000  # characters, items or bits
#: Filters and methods with a number that decides the size of the result.
_SIZED = frozenset(
    {"batch", "center", "expandtabs", "indent", "ljust", "rjust", "round", "slice"}
    | {"to_bytes", "tojson", "zfill"}
)
#: A format with a width of seven digits, or of another argument: `%9999999s`, `%*d`.
_WIDE = re.compile(r"%[^a-zA-Z%]*(\d{7}|\*)|\{[^{}]*(\d{7}|\{)")

#: Filters with a test -> its place. If they name none, they test the truth of a value.
TEST_PLACES = {"select": 0, "reject": 0, "selectattr": 1, "rejectattr": 1}


#: Node -> its part that is tested for truth.
_TESTED: Mapping[type[nodes.Node], str] = {
    **dict.fromkeys((nodes.If, nodes.CondExpr, nodes.For), "test"),
    **dict.fromkeys((nodes.Or, nodes.And), "left"),
    nodes.Not: "node",
}


class NullSafeOperators(NodeTransformer):
    """Replaces some operators by filters that know texts and null.

    Blank text is false wherever a truth is tested.
    """

    @override
    def visit(self, node: nodes.Node, *args: Any, **kwargs: Any) -> Any:
        self.generic_visit(node)
        field = _TESTED.get(type(node))
        if field and (tested := getattr(node, field)):
            setattr(node, field, filter_of(tested, "_unless_blank", []))
        match node:
            case nodes.BinExpr(operator="*" | "**" | "/" | "//" | "%" as name):
                return filter_of(node.left, f"_{name}", [node.right])
            case nodes.Concat():
                return filter_of(node.nodes[0], "_concat", node.nodes[1:])
            case nodes.Compare():
                return _comparison(node)
            case nodes.Const(value=float()):
                return filter_of(node, "_exact", [])
            case nodes.CondExpr(expr2=None):
                node.expr2 = nodes.Const(None)  # Jinja's own default is no JSON value
            case nodes.Getitem(arg=nodes.Slice()):
                node.node = filter_of(node.node, "_unless_null", [])
            case nodes.Call(
                node=nodes.Getattr(
                    node=owner, attr="get" | "items" | "keys" | "values" as name
                )
            ):  # the method, and not a field
                node.node = filter_of(owner, "_method", [nodes.Const(name)])
            case nodes.Filter() if TEST_PLACES.get(node.name) == len(node.args):
                node.args.append(nodes.Const("_holds"))
        return node


def _comparison(node: nodes.Compare) -> nodes.Filter:
    """Return the filter that compares.

    A comparison of size is strict, but a word such as `N/A` counts as null.
    """
    values = [node.expr, *(each.expr for each in node.ops)]
    for value in values if any(each.op in SIZES for each in node.ops) else ():
        match value:
            case nodes.Filter(node=nodes.Expr() as inner) if make_strict(value):
                value.node = filter_of(inner, "known", [])
    pairs = [(nodes.Const(each.op), each.expr) for each in node.ops]
    return filter_of(node.expr, "_compare", [*chain.from_iterable(pairs)])


def make_strict(node: nodes.Node) -> bool:
    """Let a filter fail for a value that it cannot read, unless it has a default.

    Return whether it has none.
    """
    match node:
        case (
            nodes.Filter(name="int" | "float", args=[], kwargs=[])
            | nodes.Filter(name="iso8601")
        ):
            node.name = f"_{node.name}"
            return True
    return False


class TooLongError(Exception):
    """A value of a record asks for a text or a number that would fill the memory."""


def _check_arguments(name: str, value: object, *arguments: object) -> None:
    """Refuse arguments of a filter or method with which its result would be huge."""
    texts = [each for each in (value, *arguments) if isinstance(each, str)]
    sizes = [abs(each) for each in arguments if isinstance(each, int)]
    is_wide = name.startswith("format") and any(map(_WIDE.search, texts))
    if is_wide or (name in _SIZED and max(sizes, default=0) > _LARGEST):
        raise TooLongError


def _power(base: Json, exponent: Json) -> Json:
    if isinstance(base, int) and isinstance(exponent, int):
        _check_arguments("round", base, base.bit_length() * exponent)
    return base**exponent


def filter_of(node: nodes.Node, name: str, args: list[nodes.Expr]) -> nodes.Filter:
    """Return the call of a filter."""
    return nodes.Filter(node, name, args, [], None, None, lineno=node.lineno)


def _exact(value: Json) -> Json:
    """Return a decimal for a float. A record has decimals: 0.1."""
    is_float = isinstance(value, float) and math.isfinite(value)
    return Decimal(repr(value)) if is_float else value


def _exactly(function: Callable[..., Json]) -> Callable[..., Json]:
    return lambda *args: _exact(function(*args))


def _times(value: Json, other: Json) -> Json:
    """Return a product of numbers. Python would repeat a text such as `49.99`."""
    if isinstance(value, str | list) or isinstance(other, str | list):
        raise TypeError("`*` needs numbers; write `| float` behind a text")
    return value * other


def _method(value: Json, name: str) -> Json:
    """Return a method of an object; an undefined value for other values."""
    owner = value_of(value)
    is_object = isinstance(owner, dict)
    return getattr(owner, name) if is_object else ChainableUndefined(None, owner, name)


def _is_of_null(value: ChainableUndefined) -> bool:
    """Return whether an undefined value is a method of null or of a missing field."""
    owner = value._undefined_obj  # noqa: SLF001 - Jinja's only record of it
    return owner is None or owner is missing


def _text(value: Json) -> str:
    value = value_of(value)
    if value is None:
        return ""
    return str(value) if isinstance(value, str | float | Decimal) else _json(value)


def _json(value: Json, indent: int | None = None, **_: object) -> str:
    """Return a value as JSON text, on one line if there is no indent."""
    return msgspec.json.format(json_bytes(value), indent=indent or 0).decode()


def _concat(*values: Json) -> str:
    return "".join(map(_text, values))


@pass_environment
def _attr(sandbox: Environment, value: Json, name: Json) -> Json:
    return sandbox.getattr(value, str(name))


@pass_environment
def _join(
    sandbox: Environment, values: Json, separator: Json = "", attribute: Json = None
) -> str:
    """Return the text of all values that are not null, like Jinja's `join`."""
    if attribute is not None:
        values = map(make_attrgetter(sandbox, attribute), values)
    parts: list[str] = []
    for value in values:
        if value_of(value) is not None:
            parts += [_text(separator), _text(value)]
    return "".join(parts[1:])


def _shown(value: Json) -> Json:
    """Return "" for null, which Python shows as `None` in a text."""
    if isinstance(value, tuple):
        return tuple(map(_shown, value))
    return "" if value_of(value) is None else value


def _remainder(value: Json, other: Json) -> Json:
    """Return a remainder, or the text that a format makes of a value."""
    if isinstance(value, str):
        _check_arguments("format", value)
        other = _shown(other)
    found = value % other
    has_other_sign = isinstance(found, Decimal) and found * other < 0
    return found + other if has_other_sign else found


def _quotient(value: Json, other: Json) -> Json:
    """Return a whole quotient, rounded down also for a negative decimal."""
    found = value // other
    is_cut = isinstance(found, Decimal) and (value - found * other) * other < 0
    return found - 1 if is_cut else found


class _Environment(ImmutableSandboxedEnvironment):
    """Jinja's sandbox, in which no template may change a record."""

    @override
    def call(self, context: Context, obj: Any, /, *args: Any, **options: Any) -> Json:
        if isinstance(obj, ChainableUndefined) and _is_of_null(obj):
            return None
        owner = getattr(getattr(obj, "__wrapped__", obj), "__self__", None)
        name = getattr(obj, "__name__", "")
        if name == "format":
            args, options = _shown(args), {n: _shown(v) for n, v in options.items()}
        _check_arguments(name, owner, *args, *options.values())
        return super().call(context, obj, *args, **options)

    @override
    def getattr(self, obj: Any, attribute: str) -> Json:
        if isinstance(obj, dict):
            return obj.get(attribute)
        return super().getattr(obj, attribute)

    @override
    def getitem(self, obj: Any, argument: Any) -> Json:
        if isinstance(obj, dict):
            return obj.get(argument)
        return super().getitem(obj, argument)


@functools.cache
def environment() -> ImmutableSandboxedEnvironment:
    """Return the environment, which is made once because that is slow."""
    sandbox = _Environment(
        undefined=ChainableUndefined, finalize=_text, keep_trailing_newline=True
    )
    sandbox.globals.clear()
    sandbox.policies["json.dumps_function"] = _json
    sandbox.filters |= {"attr": _attr, "join": _join, "string": _text}
    for name, function in sandbox.filters.items():
        sandbox.filters[name] = _null_safe(function, name)
    for name, function in FILTERS.items():  # null for an undefined value
        sandbox.filters[name] = _null_safe(function)
    sandbox.filters |= {
        "_*": _times,
        "_**": _exactly(_power),
        "_%": _remainder,
        "_/": _exactly(operator.truediv),
        "_//": _quotient,
        "_exact": _exact,
        **{f"_{n}": _null_safe(_strictly(n)) for n in ("int", "float", "iso8601")},
        "_is_yes": _null_safe(is_yes),
        "_method": _method,
        "_unless_blank": lambda value: None if is_blank(value) else value,
        "_unless_null": lambda v: ChainableUndefined() if v is None else v,
        "_compare": compare,
        "_concat": _concat,
    }
    sandbox.tests["_holds"] = holds
    for op, names in TESTS.items():
        sandbox.tests |= dict.fromkeys(names, test_of(op))
    return sandbox


def _strictly(name: str) -> Callable[..., Json]:
    def read(value: Json, *args: Json, **options: Json) -> Json:
        found = FILTERS[name](value, *args, **options)
        if found is None and is_filled(value):
            raise InvalidSignalError(f"`{name}` cannot read a value that is compared")
        return found

    return read


def _null_safe(
    function: Callable[..., Any], of_jinja: str | None = None
) -> Callable[..., Any]:
    """Return a filter that gets null for an undefined value.

    Args:
        of_jinja: Its name, if it is one of Jinja's own. It returns null for null, and
            its arguments and its result may not be too long.
    """
    place = 1 if hasattr(function, "jinja_pass_arg") else 0

    @functools.wraps(function)
    def filtered(*args: Any, **options: Any) -> Json:
        value = value_of(args[place])
        args = (*args[:place], value, *args[place + 1 :])
        if of_jinja is None:
            return function(*args, **options)
        if value is None:
            return None
        _check_arguments(of_jinja, *args[place:], *options.values())
        if of_jinja in {"format", "replace"}:
            args = _shown(args)
        found = _exact(function(*args, **options))
        return list(found) if isinstance(found, Iterator) else found

    return filtered
