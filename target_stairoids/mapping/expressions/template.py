"""Templates, compiled once and read for every record.

Jinja parses a template. Paths, filters and `or` become lookups and calls. Jinja's
sandbox evaluates the rest, at ten times the cost. The name `record` means the whole
record, for column names that are no identifiers: `record["Full name"]`. A wrong
template raises `TemplateError`.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from decimal import Decimal
from functools import lru_cache, wraps
from inspect import signature
from itertools import chain
from operator import methodcaller
from typing import Any, TypeVar

from jinja2 import Template as JinjaTemplate
from jinja2 import TemplateSyntaxError, meta, nodes
from jinja2.parser import Parser
from jinja2.runtime import LoopContext
from markupsafe import Markup

from stairoids_common.config_errors import suggestion
from target_stairoids.exceptions import ConfigError, InvalidSignalError
from target_stairoids.mapping.expressions.comparisons import value_of
from target_stairoids.mapping.expressions.errors import (
    TemplateError,
    syntax_error,
    without_values,
)
from target_stairoids.mapping.expressions.filters import FILTERS
from target_stairoids.mapping.expressions.jinja_env import (
    TEST_PLACES,
    NullSafeOperators,
    environment,
    filter_of,
    make_strict,
)
from target_stairoids.mapping.expressions.paths import (
    RECORD,
    Path,
    path_in,
    paths_of,
    reads_of,
)
from target_stairoids.mapping.values import holds

Fields = dict[str, Any]
#: Reads a value of a record's columns; `InvalidSignalError` if it cannot be evaluated.
Reader = Callable[[Fields], Any]
_Tree = TypeVar("_Tree", bound=nodes.Node)
_Result = TypeVar("_Result")

#: Attributes of Jinja's filters that need more than the value and its arguments.
_NEED_JINJA = frozenset({"jinja_pass_arg", "jinja_async_variant"})
#: The methods of the values that JSON has, and of Jinja's `loop`.
_METHODS = {
    name
    for kind in (str, int, float, Decimal, list, dict, LoopContext)
    for name in dir(kind)
    if name[0] != "_"
}
#: Filter -> the kind of function that one of its arguments names, and which one.
_NAMING_FILTERS = {
    "map": ("filter", 0),
    **{name: ("test", place) for name, place in TEST_PLACES.items()},
}
_SHOWN = 60  # characters of a template that is nested too deeply
_NO_FUNCTIONS = "; use a column or a filter, such as `email | lower`"
_INDEXED = frozenset({list, str})
_BRACES = re.compile(r"\{[{%#]|[}%#]\}")


@dataclass(frozen=True, slots=True)
class Template:
    """A compiled template, with the paths that it reads.

    Attributes:
        required: These paths, without those of `record.get("x")`. Also the paths in the
            items of a list that a filter reads, with the index 0: `("lines", 0, "sku")`
            for `lines | map(attribute='sku')`.
    """

    read: Reader
    paths: frozenset[Path] = frozenset()
    reads_record: bool = False
    required: frozenset[Path] = frozenset()


def constant(value: object) -> Reader:
    """Return a reader that gives the same value for every record."""
    return lambda _record: value


def _on_any_stack(call: Callable[..., _Result]) -> Callable[..., _Result]:
    """Return a function that takes as deep templates from each caller.

    `RecursionError` depends on the depth of the caller. A thread has its own stack.
    """

    @wraps(call)
    def called(*args: str, **options: bool) -> _Result:
        try:
            return call(*args, **options)
        except RecursionError:
            with ThreadPoolExecutor(1) as thread:
                return thread.submit(call, *args, **options).result()

    return called


def _with_errors(compile_text: Callable[..., Template]) -> Callable[..., Template]:
    """Return a function that raises `TemplateError` for each mistake in a template."""
    compile_deeply = _on_any_stack(compile_text)

    def compiled(text: str, field: str, **options: bool) -> Template:
        try:
            return compile_deeply(text, field, **options)
        except TemplateSyntaxError as error:
            raise syntax_error(error, text) from None
        except (RecursionError, SyntaxError):  # of Python, which Jinja writes
            problem = "the template is nested too deeply"
            raise TemplateError(text[:_SHOWN], problem) from None

    return compiled


@lru_cache(maxsize=4096)  # a SCHEMA may come again with one more column
@_with_errors
def compile_template(text: str, field: str, *, is_strict: bool = False) -> Template:
    """Compile a template. A lone `{{ expression }}` keeps the type of its value.

    With `is_strict` it fails for a value that one of its filters cannot read.
    """
    tree = _parsed(text, lambda: environment().parse(text))
    for node in tree.find_all(nodes.Filter) if is_strict else ():
        make_strict(node)
    end = 0
    for _, kind, part in environment().lex(text):
        start = max(text.find(part, end), end)
        if kind == "data" and (mark := _BRACES.search(part)):
            problem = f"`{mark[0]}` opens or ends nothing"
            raise TemplateError(text, problem, place=start + mark.start())
        end = start + len(part)
    pieces = [
        node
        for part in tree.body
        for node in (part.nodes if isinstance(part, nodes.Output) else [part])
    ]
    texts = [piece.data for piece in pieces if isinstance(piece, nodes.TemplateData)]
    others = [piece for piece in pieces if not isinstance(piece, nodes.TemplateData)]
    if not others:
        return Template(constant("".join(texts)))
    if (
        len(others) == 1
        and isinstance(others[0], nodes.Expr)
        and not any(map(str.strip, texts))
    ):
        return _expression(others[0], field)
    names = {name.name for name in tree.find_all(nodes.Name)}
    own = names - meta.find_undeclared_variables(tree)  # as in `{% set x = 1 %}`
    reads = reads_of(tree, own)
    compiled = _by_jinja(tree)
    read = _guarded(lambda record: compiled.render(_context(record)), field)
    return Template(read, *reads)


def paths_in(text: str | None) -> frozenset[Path]:
    """Return the paths that a template reads; none if it is null or wrong."""
    try:
        return compile_template(text or "", "").paths
    except TemplateError:
        return frozenset()


@_with_errors
def compile_condition(text: str, field: str) -> Template:
    """Compile an expression such as `plan != 'free'`, written without braces."""
    whole = re.fullmatch(r"\s*\{\{(.*)\}\}\s*", text, re.DOTALL)
    if whole and "{{" not in whole[1]:
        return compile_template(text, field)
    if "{{" in text:
        problem = "a condition has no braces, as in `plan == 'pro'`"
        raise TemplateError(text, problem, place=text.index("{{"))

    def parse() -> nodes.Expr:
        parser = Parser(environment(), text, state="variable")
        found = parser.parse_expression()
        if not parser.stream.eos:
            found_instead = parser.stream.current.value
            remedy = "; write `==` to compare" if found_instead == "=" else ""
            parser.fail(f"unexpected `{found_instead}`{remedy}")
        return found

    tree = _parsed(text, parse)
    _check_condition(tree, text)
    return _expression(tree, field)


def _check_condition(node: nodes.Node, text: str) -> None:
    """Refuse a part of a condition that reads nothing, as in `x == 'a' or 'b'`."""
    if isinstance(node, nodes.And | nodes.Or | nodes.Not):
        for part in node.iter_child_nodes():
            _check_condition(part, text)
    elif not any(True for _ in paths_of(node)):
        problem = "a part reads no column, as in `plan == 'a' or 'b'`"
        problem += "; write `plan in ['a', 'b']`"
        raise TemplateError(text, problem, place=0)


def _parsed(text: str, parse: Callable[[], _Tree]) -> _Tree:
    """Return the parsed tree, in which every filter and test exists."""
    tree = parse()
    whole = nodes.Output([tree]) if isinstance(tree, nodes.Expr) else tree
    for form, name, problem in chain(_wrong_names(whole), _wrong_calls(whole)):
        found = re.search(form % f"({re.escape(name)})", text)
        place = found.start(1) if found else max(text.find(name), 0)
        raise TemplateError(text, problem, place=place)
    for tag in whole.find_all(
        (nodes.Include, nodes.Extends, nodes.Import, nodes.FromImport)
    ):
        name = type(tag).__name__.lower()
        problem = f"`{name}` needs another template; there is none"
        raise TemplateError(text, problem, place=0)
    return tree


def _wrong_names(tree: nodes.Node) -> Iterator[tuple[str, str, str]]:
    """Yield filters and tests that cannot be called: place, name and problem.

    The place is a regular expression with `%s` for the name.
    """
    functions = {"filter": environment().filters, "test": environment().tests}
    places = {"filter": r"\|\s*%s\b", "test": r"\bis\s+(?:not\s+)?%s\b"}
    for node in tree.find_all((nodes.Filter, nodes.Test)):
        named = [(type(node).__name__.lower(), node.name)]
        kind, place = _NAMING_FILTERS.get(node.name, ("", 0))
        match node.args[place : place + 1]:
            case [nodes.Const(value=str(inner))] if kind:
                named.append((kind, inner))
        for kind, name in named:
            if name not in functions[kind]:
                known = (n for n in functions[kind] if n[0] != "_")
                hint = suggestion(name, known)
                form = places[kind] if name == node.name else "['\"]%s['\"]"
                yield form, name, f"there is no {kind} `{name}`{hint}"
        if problem := _wrong_arguments(node, functions[named[0][0]].get(node.name)):
            kind, name = named[0]
            yield places[kind], name, f"the {kind} `{name}`: {problem}"


def _wrong_arguments(node: nodes.Expr, function: Callable[..., Any] | None) -> str:
    """Return why the arguments do not fit a filter or test; "" if they may."""
    # The signature of a filter with an asynchronous form is that of another function.
    if function is None or hasattr(function, "jinja_async_variant"):
        return ""
    assert isinstance(node, nodes.Filter | nodes.Test)  # noqa: S101 - for mypy
    if node.dyn_args or node.dyn_kwargs:
        return ""
    match node.args:
        case [nodes.Const(value=form)] if node.name == "iso8601":
            if not re.search("%[a-zA-Z]", str(form)):
                return "the form of a time has codes, such as `%d/%m/%Y %H:%M`"
    count = 1 + len(node.args) + hasattr(function, "jinja_pass_arg")
    try:
        signature(function).bind(
            *[None] * count, **dict.fromkeys(str(k.key) for k in node.kwargs)
        )
    except TypeError as error:
        return str(error)
    except ValueError:  # a builtin without a signature
        pass
    return ""


def _wrong_calls(tree: nodes.Node) -> Iterator[tuple[str, str, str]]:
    """Yield the calls of unknown functions and methods, as `_wrong_names` does."""
    known = {macro.name for macro in tree.find_all(nodes.Macro)} | {"caller", "loop"}
    for call in tree.find_all(nodes.Call):
        match call.node:
            case nodes.Name(name=name) if name not in known:
                hint = f"; did you mean the filter `| {name}`?"
                hint = hint if name in environment().filters else _NO_FUNCTIONS
                yield r"(?<![.\w])%s\s*\(", name, f"there is no function `{name}`{hint}"
            case nodes.Getattr(attr=name) if name not in _METHODS:
                hint = suggestion(name, _METHODS)
                yield r"\.\s*%s\s*\(", name, f"there is no method `{name}`{hint}"


# Readers


def _expression(node: nodes.Expr, field: str) -> Template:
    reads = reads_of(node)  # before Jinja changes the tree
    node = _by_words(node) if field == "when" else node
    read = _plain_reader(node) or _jinja_reader(node)
    read = read if path_in(node) else _guarded(read, field)
    return Template(read, *reads)


def _by_words(node: nodes.Expr) -> nodes.Expr:
    """Return a condition in which a part that is a text such as `no` is false."""
    match node:
        case nodes.And() | nodes.Or():
            node.left, node.right = _by_words(node.left), _by_words(node.right)
        case nodes.Not():
            node.node = _by_words(node.node)
        case _:
            return filter_of(node, "_is_yes", [])
    return node


def _plain_reader(node: nodes.Node) -> Reader | None:
    """Return a reader made of lookups and calls; None if Jinja must evaluate it."""
    if path := path_in(node):
        return path_reader(path)
    match node:
        case nodes.Const(value=value):
            return constant(value)
        case nodes.Or(left=left, right=right):
            one, other = _plain_reader(left), _plain_reader(right)
            if one and other:
                return lambda r: found if holds(found := one(r)) else other(r)
        case nodes.Filter(
            node=nodes.Node() as inner, kwargs=[], dyn_args=None, dyn_kwargs=None
        ):
            return _filter_reader(node, inner)
    return None


def path_reader(path: Path) -> Reader:
    """Return a reader of a path; its value is null if the record lacks the path."""
    if len(path) == 1:
        return methodcaller("get", path[0])

    def read(record: Fields) -> object:
        value: Any = record
        for part in path:
            if type(value) is dict:
                value = value.get(part)
            elif type(part) is int and type(value) in _INDEXED and part < len(value):
                value = value[part]
            else:
                return None
        return value

    return read


def _filter_reader(node: nodes.Filter, inner: nodes.Node) -> Reader | None:
    # Our own filters need no guard: a plain reader never gives an undefined value.
    function = FILTERS.get(node.name) or environment().filters[node.name]
    read = _plain_reader(inner)
    is_plain = all(isinstance(argument, nodes.Const) for argument in node.args)
    if read is None or not is_plain or not _NEED_JINJA.isdisjoint(vars(function)):
        return None
    args = [argument.as_const() for argument in node.args]
    return lambda record: function(read(record), *args)


def _jinja_reader(node: nodes.Expr) -> Reader:
    result = nodes.Assign(nodes.Name("result", "store"), node, lineno=1)
    template = _by_jinja(nodes.Template([result], lineno=1))

    def read(record: Fields) -> object:
        # Like jinja2's `TemplateExpression`, which copies the record three times.
        context = template.new_context(_context(record), shared=True)
        deque(template.root_render_func(context), maxlen=0)
        return value_of(context.vars["result"])

    return read


def _by_jinja(tree: nodes.Template) -> JinjaTemplate:
    tree = NullSafeOperators().visit(tree)
    tree.set_environment(environment())
    return environment().from_string(tree)


def _context(record: Fields) -> Fields:
    return {**record, RECORD: record}


def _guarded(read: Reader, field: str) -> Reader:
    """Return a reader that turns any failure into `InvalidSignalError`."""

    def guarded(record: Fields) -> object:
        try:
            value = read(record)
            # `tojson` and `escape` give text of a class that marks it as safe HTML.
            return str(value) if isinstance(value, Markup) else value
        except ImportError as error:
            raise ConfigError(
                f"The package `{error.name}` is not installed. `{field}` needs it. "
                "Install the plugin again."
            ) from error
        except Exception as error:  # a template may fail in any way
            raise InvalidSignalError(
                f"{field}: cannot be evaluated: {without_values(error)}"
            ) from error

    return guarded
