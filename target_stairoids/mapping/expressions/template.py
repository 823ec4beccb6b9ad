"""Templates: what a mapping says of a value, compiled once, read for every record.

Jinja parses; what is made of paths, filters and `or` is then read with look-ups and
calls, and the rest is evaluated by Jinja in its sandbox. `record` is the whole record,
for names that are no identifiers: `record["Full name"]`.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from jinja2 import UndefinedError, meta, nodes
from jinja2.exceptions import SecurityError
from markupsafe import Markup

from target_stairoids.exceptions import InvalidSignalError
from target_stairoids.mapping.expressions.errors import expression_tree, template_tree
from target_stairoids.mapping.expressions.filters import FILTERS
from target_stairoids.mapping.expressions.jinja_env import (
    NothingIsHarmless,
    environment,
    value_of,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from jinja2 import Template as JinjaTemplate

Fields = dict[str, Any]
Path = tuple[str | int, ...]

_RECORD = "record"


@dataclass(frozen=True, slots=True)
class Template:
    """A compiled template.

    Attributes:
        read: Fields -> value. Raises `InvalidSignalError` if it cannot be evaluated.
        paths: What it reads of a record; a path begins with the field's name.
        field: The record's field that it is, if it is nothing else.
    """

    read: Callable[[Fields], Any]
    paths: frozenset[Path]
    field: str | None = None

    def through(self, normalise: Callable[[Any], Any]) -> Callable[[Fields], Any]:
        """Return a reader of the normalised value; a bare field costs one look-up."""
        read, field = self.read, self.field
        if field is not None:
            return lambda record: normalise(record.get(field))
        return lambda record: normalise(read(record))


def path_reader(path: Path) -> Callable[[Fields], Any]:
    """Return what reads a path of a record; nothing where the path ends early."""
    if len(path) == 1:
        name = str(path[0])
        return lambda record: record.get(name)

    def read(record: Fields) -> object:
        value: Any = record
        for part in path:
            if type(value) is dict:
                value = value.get(part)
            elif type(value) is list and type(part) is int and part < len(value):
                value = value[part]
            else:
                return None
        return value

    return read


def constant(value: object) -> Callable[[Fields], Any]:
    """Return a reader that looks at no record."""
    return lambda _record: value


def compile_template(text: str, field: str) -> Template:
    """Compile the template of a signal's field.

    One whole `{{ expression }}` keeps the type of its value; anything else is text.

    Raises:
        TemplateError: It cannot be understood.
    """
    tree = template_tree(text)
    pieces = [node for part in tree.body for node in _pieces(part)]
    texts = [piece.data for piece in pieces if isinstance(piece, nodes.TemplateData)]
    if len(texts) == len(pieces):
        return Template(constant("".join(texts)), frozenset())
    told = [p for p in pieces if not _is_blank(p)]
    if len(told) == 1 and isinstance(told[0], nodes.Expr):
        return _expression(told[0], field)
    compiled = _compiled(tree)
    read = _guarded(lambda record: compiled.render(_context(record)), field)
    return Template(read, frozenset(_paths(tree)))


def compile_condition(text: str, field: str) -> Template:
    """Compile an expression such as `plan != 'free'`, written without braces.

    Raises:
        TemplateError: It cannot be understood.
    """
    if text.lstrip().startswith("{{"):
        return compile_template(text, field)
    return _expression(expression_tree(text), field)


def _pieces(node: nodes.Node) -> Sequence[nodes.Node]:
    return node.nodes if isinstance(node, nodes.Output) else [node]


def _is_blank(node: nodes.Node) -> bool:
    return isinstance(node, nodes.TemplateData) and not node.data.strip()


# Paths


def _paths(tree: nodes.Node) -> Iterator[Path]:
    """Yield the paths of a record that a tree reads, the longest of each."""
    inner: set[int] = set()
    own = _declared(tree)
    methods = {id(call.node) for call in tree.find_all(nodes.Call)}
    for node in tree.find_all((nodes.Getattr, nodes.Getitem, nodes.Name)):
        if id(node) in inner:
            continue
        inner.update(id(part) for part in node.find_all(nodes.Node))
        path = _path(node)
        if path is None:
            yield from _paths(node) if not isinstance(node, nodes.Name) else ()
        elif path and path[0] not in own:
            yield path[:-1] if id(node) in methods else path


def _declared(tree: nodes.Node) -> set[str]:
    """Return the names that a template makes itself, as in `{% set x = 1 %}`."""
    used = {n.name for n in tree.find_all(nodes.Name) if n.ctx == "load"}
    if not isinstance(tree, nodes.Template):
        return set()
    return used - meta.find_undeclared_variables(tree)


def _path(node: nodes.Node) -> Path | None:
    """Return the path that a node is, or None if it is more than that."""
    match node:
        case nodes.Name(name=name, ctx="load"):
            return () if name == _RECORD else (name,)
        case nodes.Getattr(node=inner, attr=part):
            pass
        case nodes.Getitem(node=inner, arg=nodes.Const(value=str() | int() as part)):
            pass
        case _:
            return None
    start = _path(inner)
    return None if start is None else (*start, part)


# Reading


def _expression(node: nodes.Expr, field: str) -> Template:
    paths = frozenset(_paths(nodes.Tuple([node], "load")))
    read = _plain(node) or _by_jinja(node)
    if path := _path(node):
        return Template(read, paths, str(path[0]) if len(path) == 1 else None)
    return Template(_guarded(read, field), paths)


def _plain(node: nodes.Node) -> Callable[[Fields], Any] | None:
    """Return a reader made of look-ups and calls, if that is all it takes."""
    if path := _path(node):
        return path_reader(path)
    match node:
        case nodes.Const(value=value):
            return constant(value)
        case nodes.Filter(
            node=nodes.Node() as inner,
            name=name,
            args=args,
            kwargs=[],
            dyn_args=None,
            dyn_kwargs=None,
        ) if _is_function(name) and all(isinstance(a, nodes.Const) for a in args):
            return _filtered(inner, name, [arg.as_const() for arg in args])
        case nodes.Or(left=left, right=right):
            one, other = _plain(left), _plain(right)
            if one and other:
                return lambda record: one(record) or other(record)
    return None


def _filtered(
    inner: nodes.Node, filter_name: str, values: list[Any]
) -> Callable[[Fields], Any] | None:
    # Ours as they are: what is read plainly is never one of Jinja's undefined values.
    function = FILTERS.get(filter_name) or environment().filters[filter_name]
    if not values and isinstance(inner, nodes.Name) and inner.name != _RECORD:
        field = inner.name
        return lambda record: function(record.get(field))
    read = _plain(inner)
    if read is None:
        return None
    return lambda record: function(read(record), *values)


def _is_function(filter_name: str) -> bool:
    """Say whether a filter needs nothing but the value and its arguments."""
    function = environment().filters[filter_name]
    return not hasattr(function, "jinja_pass_arg") and not hasattr(
        function, "jinja_async_variant"
    )


def _by_jinja(node: nodes.Expr) -> Callable[[Fields], Any]:
    result = nodes.Assign(nodes.Name("result", "store"), node, lineno=1)
    template = _compiled(nodes.Template([result], lineno=1))

    def read(record: Fields) -> object:
        # As `TemplateExpression` does it, but the record is copied once, not thrice.
        context = template.new_context(_context(record), shared=True)
        deque(template.root_render_func(context), maxlen=0)
        return value_of(context.vars["result"])

    return read


def _compiled(tree: nodes.Template) -> JinjaTemplate:
    tree = NothingIsHarmless().visit(tree)
    tree.set_environment(environment())
    return environment().from_string(tree)


def _context(record: Fields) -> Fields:
    return {**record, _RECORD: record}


def _guarded(read: Callable[[Fields], Any], field: str) -> Callable[[Fields], Any]:
    """Turn any failure of one record into the reason it is invalid."""

    def guarded(record: Fields) -> object:
        try:
            value = read(record)
            # `tojson` and `escape` mark their texts as safe for HTML, by a class.
            return str(value) if isinstance(value, Markup) else value
        except Exception as error:
            said = _in_words(error)
            reason = f"{field}: cannot be evaluated: {said}"
            raise InvalidSignalError(reason) from error

    return guarded


#: What went wrong, where the error itself may repeat the record's values.
_WORDS: dict[type[Exception], str] = {
    ZeroDivisionError: "division by zero",
    OverflowError: "a number is too large",
    MemoryError: "a value is too large",
    RecursionError: "a value is nested too deeply",
    SecurityError: "it does what is not allowed",
    UndefinedError: "it asks something of what is not there",
    ValueError: "a value has the wrong form",
}


def _in_words(error: Exception) -> str:
    kind = type(error)
    # A TypeError names types only.
    return str(error) if kind is TypeError else _WORDS.get(kind, kind.__name__)
