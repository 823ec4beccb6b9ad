"""The fields of a record that a template reads, as paths into it."""

from __future__ import annotations

import json
import re
from collections.abc import Container, Iterator, Mapping
from typing import Any, TypeVar

from jinja2 import nodes

_Kind = TypeVar("_Kind", bound=nodes.Node)
#: The names and indexes that lead to a value of a record: `("user", "email")`.
Path = tuple[str | int, ...]
#: The fields of `Template` after `read`.
Reads = tuple[frozenset[Path], bool, frozenset[Path]]

#: The name of the whole record in a template.
RECORD = "record"
#: Names that Jinja does not read as a column.
_RESERVED = {
    *("record", "true", "false", "none", "True", "False", "None", "self"),
    *("and", "or", "not", "in", "is", "if", "else"),
}
#: Filters that take a field's name for the items of a list -> the place of the name.
_ITEM_FILTERS = {
    **dict.fromkeys(("selectattr", "rejectattr", "groupby", "sum"), 0),
    **dict.fromkeys(("join", "max", "min", "unique"), 1),
    "sort": 2,
    "map": None,
}
#: Filters of a list that return some or all of its items.
_SAME_ITEMS = {
    *("list", "reject", "rejectattr", "reverse", "select", "selectattr", "sort"),
    "unique",
}


def path_text(path: Path) -> str:
    """Return the expression that reads a path."""
    parts = [str(part) for part in path]
    if all(re.fullmatch(r"[^\W\d]\w*", p) for p in parts) and parts[0] not in _RESERVED:
        return ".".join(parts)
    return RECORD + "".join(f"[{json.dumps(p, ensure_ascii=False)}]" for p in parts)


def has_path(record: Mapping[str, Any], path: Path) -> bool:
    """Return whether a record has a field at a path."""
    value: Any = record
    for part in path:
        if isinstance(value, list):
            return True  # items of lists differ
        if not isinstance(value, dict) or part not in value:
            return False
        value = value[part]
    return True


def reads_of(tree: nodes.Node, own: Container[str] = ()) -> Reads:
    """Return the fields of a template: its paths but those of its own names."""
    paths, needed = (
        frozenset(paths_of(tree, own, by_method=by_method))
        for by_method in (True, False)
    )
    in_items = {p for p in _paths_in_items(tree) if p[0] not in own}
    return paths - {()}, () in paths, (paths & needed) - {()} | in_items


def paths_of(
    node: nodes.Node,
    own: Container[str] = (),
    *,
    by_method: bool = True,
    is_called: bool = False,
) -> Iterator[Path]:
    """Yield the paths of a record that a tree reads; () is the record as a whole."""
    path = path_in(node, by_method=by_method)
    if path is None:
        called = node.node if isinstance(node, nodes.Call) else None
        for child in node.iter_child_nodes():
            is_called = child is called
            yield from paths_of(child, own, by_method=by_method, is_called=is_called)
    elif next(n.name for n in _all_in(node, nodes.Name)) not in own:
        yield path[:-1] if is_called else path  # without the method's name


def _all_in(node: nodes.Node, kind: type[_Kind]) -> Iterator[_Kind]:
    if isinstance(node, kind):
        yield node
    yield from node.find_all(kind)


def path_in(node: nodes.Node | None, *, by_method: bool = False) -> Path | None:
    """Return the path that a node is, also by `get` or `in`; None for other nodes."""
    match node:
        case nodes.Name(name=name, ctx="load"):
            return () if name == RECORD else (name,)
        case nodes.Getattr(node=inner, attr=part):
            pass
        case nodes.Getitem(node=inner, arg=nodes.Const(value=str() | int() as part)):
            pass
        case nodes.Filter(
            name="attr", node=inner, args=[nodes.Const(value=str() as part)], kwargs=[]
        ):
            pass
        case nodes.Call(
            node=nodes.Getattr(node=inner, attr="get"),
            args=[nodes.Const(value=part)]
            | [nodes.Const(value=part), nodes.Const() | nodes.Dict(items=[])],
        ) if by_method:
            pass
        case nodes.Compare(
            expr=nodes.Const(value=str() as part),
            ops=[nodes.Operand(op="in" | "notin", expr=inner)],
        ) if by_method and path_in(inner) == ():
            pass
        case _:
            return None
    start = path_in(inner, by_method=by_method)
    return None if start is None else (*start, part)


def _paths_in_items(tree: nodes.Node) -> Iterator[Path]:
    """Yield the paths of the fields that filters such as `map` read in a list."""
    for node in _all_in(tree, nodes.Filter):
        items = node.node
        while isinstance(items, nodes.Filter) and items.name in _SAME_ITEMS:
            items = items.node
        if not (start := path_in(items)):
            continue
        for name in _item_fields(node):
            parts = (int(p) if p.isdecimal() else p for p in name.split("."))
            yield (*start, 0, *parts)


def _item_fields(node: nodes.Filter) -> Iterator[str]:
    """Yield the fields of the items that a filter names, without optional ones."""
    if node.name not in _ITEM_FILTERS:
        return
    options = {str(option.key): option.value for option in node.kwargs}
    place = _ITEM_FILTERS[node.name]
    given = options.get("attribute")
    match node.args:
        case [nodes.Const(value="attr"), given] if place is None:
            pass
        case args if place is not None and len(args) > place:
            given = args[place]
    if isinstance(given, nodes.Const) and isinstance(given.value, str):
        names = given.value.split(",") if node.name == "sort" else [given.value]
        yield from names if "default" not in options else []
