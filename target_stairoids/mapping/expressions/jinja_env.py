"""The environment: Jinja's sandbox, made fit for records.

Records are not Jinja's usual food, so a few of its habits are changed:

* a field wins over a method of the same name: `order.items` is the field;
* null and a missing field are both nothing; nothing passes through filters as nothing,
  is written as an empty text and is neither smaller nor greater than anything;
* there are no global functions, so that a field named `range` is a field.
"""

from __future__ import annotations

import functools
import json
import operator
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from jinja2 import ChainableUndefined, nodes
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.visitor import NodeTransformer
from typing_extensions import override

from target_stairoids.mapping.expressions.filters import FILTERS

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

Json = Any  # what JSON can hold; narrowed where it is read

_HIDDEN_COMPARE = "_compare"
_HIDDEN_TEXT = "_text"
_COMPARISONS: Mapping[str, Callable[[Any, Any], Any]] = {
    "lt": operator.lt,
    "lteq": operator.le,
    "gt": operator.gt,
    "gteq": operator.ge,
    "eq": operator.eq,
    "ne": operator.ne,
    "in": lambda one, many: one in many,
    "notin": lambda one, many: one not in many,
}
#: What nothing is asked; equality is its own matter: nothing equals nothing.
_OF_NOTHING = frozenset({"lt", "lteq", "gt", "gteq"})


class NothingIsHarmless(NodeTransformer):
    """Let comparisons and `~` know what to do with nothing."""

    def visit_Compare(self, node: nodes.Compare) -> nodes.Node:  # noqa: N802 - Jinja's name
        """Compare by a function that knows nothing."""
        self.generic_visit(node)
        pairs: list[nodes.Expr] = []
        for operand in node.ops:
            pairs += [nodes.Const(operand.op), operand.expr]
        return nodes.Filter(
            node.expr, _HIDDEN_COMPARE, pairs, [], None, None, lineno=node.lineno
        )

    def visit_Concat(self, node: nodes.Concat) -> nodes.Node:  # noqa: N802 - Jinja's name
        """Let `~` join texts in which nothing is an empty one."""
        self.generic_visit(node)
        node.nodes = [
            nodes.Filter(part, _HIDDEN_TEXT, [], [], None, None, lineno=node.lineno)
            for part in node.nodes
        ]
        return node


def _compare(value: Json, *pairs: Json) -> bool:
    """Say whether a chain of comparisons holds, as `1 < seats <= 5`."""
    one = value_of(value)
    for op, given in zip(pairs[::2], pairs[1::2], strict=True):
        other = value_of(given)
        if one is None and op in _OF_NOTHING:
            return False
        if other is None and op not in {"eq", "ne"}:
            if op != "notin":
                return False
        elif not _COMPARISONS[op](one, other):
            return False
        one = other
    return True


def value_of(value: Json) -> Json:
    """Return a value as records have it: what is not defined is null."""
    return None if isinstance(value, ChainableUndefined) else value


def _text(value: Json) -> str:
    """Return what a text shows of a value."""
    match value_of(value):
        case None:
            return ""
        case bool() as is_true:
            return "true" if is_true else "false"
        case str() as text:
            return text
        case int() | float() | Decimal() as number:
            return str(number)
        case other:
            return json.dumps(other, default=str)


class _Environment(ImmutableSandboxedEnvironment):
    """Jinja's sandbox, over records, which no template may change."""

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
    """Return the environment; there is one, because making it is slow."""
    sandbox = _Environment(
        undefined=ChainableUndefined, finalize=_text, keep_trailing_newline=True
    )
    sandbox.globals.clear()
    for name, function in sandbox.filters.items():
        sandbox.filters[name] = _of_something(function)
    sandbox.filters |= {name: _without_undefined(f) for name, f in FILTERS.items()}
    sandbox.filters |= {_HIDDEN_COMPARE: _compare, _HIDDEN_TEXT: _text}
    return sandbox


def _of_something(function: Callable[..., Any]) -> Callable[..., Any]:
    """Let one of Jinja's filters pass nothing on as nothing."""
    place = 1 if hasattr(function, "jinja_pass_arg") else 0

    @functools.wraps(function)
    def filtered(*args: Any, **options: Any) -> Json:
        value = value_of(args[place])
        return None if value is None else function(*args, **options)

    return filtered


def _without_undefined(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def filtered(value: Json, *args: Any, **options: Any) -> Json:
        return function(value_of(value), *args, **options)

    return filtered
