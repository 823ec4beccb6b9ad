"""Parsing: a template's text becomes a tree, or an error that shows the place."""

from __future__ import annotations

import functools
import itertools
import re
from typing import TYPE_CHECKING, TypeVar

from jinja2 import TemplateSyntaxError, nodes
from jinja2.parser import Parser

from stairoids_common.config_errors import suggestion
from target_stairoids.mapping.expressions.jinja_env import environment

if TYPE_CHECKING:
    from collections.abc import Callable

_MARK = re.compile(r"\{[{%#]|[}%#]\}")
_Tree = TypeVar("_Tree", bound=nodes.Node)


class TemplateError(Exception):
    """A template is wrong; the text says what and shows where."""


def template_tree(text: str) -> nodes.Template:
    """Return the tree of a text with `{{ }}` in it.

    Raises:
        TemplateError: It cannot be understood.
    """
    tree = _parse(text, lambda: environment().parse(text))
    for piece in tree.find_all(nodes.TemplateData):
        if mark := _MARK.search(piece.data):
            what = f"`{mark[0]}` opens or ends nothing"
            raise TemplateError(_shown(text, text.rfind(mark[0]), what))
    return tree


def expression_tree(text: str) -> nodes.Expr:
    """Return the tree of an expression without braces.

    Raises:
        TemplateError: It cannot be understood.
    """

    def parse() -> nodes.Expr:
        parser = Parser(environment(), text, state="variable")
        found = parser.parse_expression()
        if not parser.stream.eos:
            parser.fail(f"unexpected `{parser.stream.current.value}`")
        return found

    return _parse(text, parse, state="variable")


def _parse(text: str, parse: Callable[[], _Tree], state: str | None = None) -> _Tree:
    """Return what is parsed; names of filters and tests are checked."""
    try:
        tree = parse()
    except TemplateSyntaxError as error:
        place = _place_of(error, text, state)
        raise TemplateError(_shown(text, place, _said(error))) from None
    known = environment()
    for kind, have, before in (
        ("Filter", known.filters, r"\|\s*"),
        ("Test", known.tests, r"\bis\s+(?:not\s+)?"),
    ):
        for node in tree.find_all(getattr(nodes, kind)):
            if node.name not in have:
                what = f"there is no {kind.lower()} `{node.name}`"
                hint = suggestion(node.name, (n for n in have if n[0] != "_"))
                found = re.search(rf"{before}({re.escape(node.name)})\b", text)
                place = found.start(1) if found else 0
                raise TemplateError(_shown(text, place, what + hint))
    return tree


def _said(error: TemplateSyntaxError) -> str:
    message = str(error.message)
    return re.sub(r" at \d+$", "", message[:1].lower() + message[1:]).rstrip(".")


def _place_of(error: TemplateSyntaxError, text: str, state: str | None) -> int:
    """Return where in a text the parser gave up: Jinja itself tells only the line."""
    at = re.search(r" at (\d+)$", str(error.message))
    if at:
        return int(at[1])
    # The longest beginning whose end is not at fault: cut tokens off until what is
    # left fails only because it ends.
    ends = [0]
    try:
        for _, _, token in environment().lexer.tokeniter(text, None, state=state):
            ends.append(ends[-1] + len(token))
    except TemplateSyntaxError:
        pass
    for start, end in itertools.pairwise(ends):
        if _fails_within(text[:end], state):
            blanks = len(text[start:end]) - len(text[start:end].lstrip())
            return start + blanks
    return ends[-1]


def _fails_within(text: str, state: str | None) -> bool:
    """Say whether a beginning is wrong already, and not only incomplete."""
    parser_of = functools.partial(Parser, environment())
    try:
        if state:
            parser = parser_of(text, state=state)
            parser.parse_expression()
            return not parser.stream.eos
        parser_of(text).parse()
    except TemplateSyntaxError as error:
        said = str(error.message).lower()
        return "end of template" not in said and "tag name expected" not in said
    return False


def _shown(text: str, place: int, what: str) -> str:
    """Return a mistake with its line and a caret under its place."""
    place = max(0, min(place, len(text)))
    before = text[:place]
    number = before.count("\n") + 1
    column = len(before) - (before.rfind("\n") + 1)
    line = (text.split("\n") or [""])[number - 1]
    where = f" (line {number})" if "\n" in text.strip() else ""
    return f"{what}{where}\n    {line}\n    {' ' * column}^"
