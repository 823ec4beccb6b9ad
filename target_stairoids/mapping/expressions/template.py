"""Templates, compiled once and read for every record.

Jinja parses a template. Paths, filters and `or` become lookups and calls. Jinja's
sandbox evaluates the rest, at ten times the cost. The name `record` means the whole
record, for column names that are no identifiers: `record["Full name"]`. A wrong
template raises `TemplateError`.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable, Collection, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from decimal import Decimal
from functools import lru_cache, wraps
from inspect import signature
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
#: Parts of a template that may call functions, or ask for another template.
_CALLS = (
    *(nodes.Filter, nodes.Test, nodes.Call),
    *(nodes.Include, nodes.Extends, nodes.Import, nodes.FromImport),
)
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
    for start, kind, part in environment().lex(text):
        if kind == "data" and (mark := _BRACES.search(part)):
            number = start + part.count("\n", 0, mark.start())
            raise TemplateError(text, f"`{mark[0]}` opens or ends nothing", number)
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
        raise TemplateError(text, problem, 1 + text.partition("{{")[0].count("\n"))

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
        raise TemplateError(text, problem, node.lineno)


def _parsed(text: str, parse: Callable[[], _Tree]) -> _Tree:
    """Return the parsed tree, in which every function exists and can be called."""
    tree = parse()
    whole = nodes.Output([tree]) if isinstance(tree, nodes.Expr) else tree
    own = {macro.name for macro in whole.find_all(nodes.Macro)} | {"caller", "loop"}
    for node in whole.find_all(_CALLS):
        if problem := _wrong_call(node, own):
            raise TemplateError(text, problem, node.lineno)
    return tree


def _wrong_call(node: nodes.Node, own: Collection[str]) -> str:
    """Return why a call would fail for every record; "" if it may work.

    `own` are the functions of the template.
    """
    filters: Mapping[str, Any] = environment().filters
    tests: Mapping[str, Any] = environment().tests
    known = {"filter": filters, "test": tests, "function": own, "method": _METHODS}
    for kind, name in _called(node):
        if name not in known[kind]:
            hint = suggestion(name, (n for n in known[kind] if n[0] != "_"))
            if kind == "function":
                hint = f"; did you mean the filter `| {name}`?"
                hint = hint if name in filters else _NO_FUNCTIONS
            return f"there is no {kind} `{name}`{hint}"
    match node:
        case nodes.Filter(name="iso8601", args=[nodes.Const(value=form)]) if (
            not re.search("%[a-zA-Z]", str(form))
        ):
            hint = "the form of a time has codes, such as `%d/%m/%Y %H:%M`"
            return f"the filter `iso8601`: {hint}"
        case nodes.Filter(name=name):
            return _wrong_arguments(node, filters[name])
        case nodes.Test(name=name):
            return _wrong_arguments(node, tests[name])
        case nodes.Call():
            return ""
    return f"`{type(node).__name__.lower()}` needs another template; there is none"


def _called(node: nodes.Node) -> Iterator[tuple[str, str]]:
    """Yield the kind and the name of each function that a node calls."""
    match node:
        case nodes.Call(node=nodes.Name(name=name)):
            yield "function", name
        case nodes.Call(node=nodes.Getattr(attr=name)):
            yield "method", name
        case nodes.Test(name=name):
            yield "test", name
        case nodes.Filter(name=name, args=args):
            yield "filter", name
            kind, place = "test", TEST_PLACES.get(name, len(args))
            if name == "map":
                kind, place = "filter", 0
            for argument in args[place:][:1]:
                if isinstance(argument, nodes.Const):
                    yield kind, str(argument.value)


def _wrong_arguments(
    node: nodes.Filter | nodes.Test, function: Callable[..., Any]
) -> str:
    """Return why the arguments do not fit a filter or test; "" if they may."""
    # The signature of a filter with an asynchronous form is that of another function.
    if hasattr(function, "jinja_async_variant") or node.dyn_args or node.dyn_kwargs:
        return ""
    args = [None] * (1 + len(node.args) + hasattr(function, "jinja_pass_arg"))
    try:
        signature(function).bind(*args, **{str(k.key): None for k in node.kwargs})
    except TypeError as error:
        return f"the {type(node).__name__.lower()} `{node.name}`: {error}"
    except ValueError:  # a builtin without a signature
        pass
    return ""


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
