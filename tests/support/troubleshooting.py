"""Troubleshooting: the messages a package has for its user, and the page about them.

Both directions use it: what the page has is in the code, and what the code says is on
the page. `…` stands for what differs, in the messages found here as on the page.
"""

from __future__ import annotations

import ast
import re
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

from tests.support.paths import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PAGE = ROOT / "docs/troubleshooting.md"
GAP = "…"
#: How the headings begin under which a package's messages are.
_SECTIONS = {
    "target_stairoids": ("target-", "stairoids-sig", "Messages", "Signals", "Warnings"),
    "tap_stairoids_webhooks": ("The receiver", "The other commands", "The tap"),
    "stairoids_sandbox": ("stairoids-sandbox",),
}
PACKAGES = tuple(_SECTIONS)
_DEPTH = 4  # calls that a text may be handed through
_PLACEHOLDER = re.compile(r"%(?:\.\d+)?[a-z]")
_CLICKS = {"ClickException", "UsageError", "BadParameter"}
_LEVELS = {"warning", "error", "exception", "critical", "log"}
_FUNCTIONS = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """What a user may read, and the line of code that says it."""

    text: str
    place: str

    @property
    def is_searchable(self) -> bool:
        """False if nothing of it is always the same, as in `%s`."""
        return len(re.findall(r"[A-Za-z]{2,}", self.text)) > 1


@cache
def messages_of(package: str, *, internal: tuple[str, ...] = ()) -> list[Message]:
    """Return every error and warning of a package.

    They are what its exceptions hold, what it logs as a warning or worse, and what
    its commands print on stderr.

    Args:
        package: Its folder.
        internal: Names of exceptions whose text nobody is shown.
    """
    code = _Code(ROOT / package)
    shown = _exceptions_of(ROOT / package) - set(internal)
    found = {
        Message(text=text.removeprefix("Error: "), place=place)
        for place, argument, function in code.told(shown)
        for text in code.texts(argument, function)
    }
    return sorted(
        (message for message in found if message.is_searchable),
        key=lambda message: (message.place, message.text),
    )


@cache
def documented(package: str) -> list[str]:
    """Return the messages of a package that the page's tables explain."""
    cells = re.findall(r"^\| (.*?) \| ", _part_about(package), re.MULTILINE)
    rows = [row for cell in cells for row in cell.split(f"; {GAP}: ")]
    headings = {"message", "reason", "---"}
    return [row for row in dict.fromkeys(rows) if row not in headings]


def _part_about(package: str) -> str:
    """Return the sections of the page about a package."""
    _, *parts = re.split(r"^## ", PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return "\n".join(part for part in parts if part.startswith(_SECTIONS[package]))


@cache
def all_texts(package: str) -> list[str]:
    """Return every text in a package's code, whatever becomes of it."""
    trees = (
        ast.parse(path.read_text(encoding="utf-8"))
        for path in (ROOT / package).rglob("*.py")
    )
    nodes = (node for tree in trees for node in ast.walk(tree))
    found = (text_of(node) for node in nodes if isinstance(node, ast.expr))
    return [text for text in found if text]


def missing_in_page(package: str, messages: list[Message]) -> list[str]:
    """Return the messages of a package that the page lacks, each with its place."""
    listed = re.findall(r"^\* `(.*?)`", _part_about(package), re.MULTILINE)
    rows = [*documented(package), *listed]
    return [
        f"{message.place}: {message.text}"
        for message in messages
        if not any(has(message.text, row) for row in rows)
    ]


def has(text: str, row: str) -> bool:
    """Say whether a message is one that a row stands for: its words, in this order."""
    pieces = [piece.strip(" `,.") for piece in row.replace("\\|", "|").split(GAP)]
    pattern = ".*".join(re.escape(piece) for piece in pieces if piece)
    if len(re.findall(r"\w+", row)) < 2:  # a word that is part of many
        return re.match(rf"{pattern}(?!\w)", text) is not None
    return bool(pattern) and re.search(pattern, text) is not None


def text_of(node: ast.expr) -> str | None:
    """Return the text that an expression is, with a gap for each value in it."""
    match node:
        case ast.Constant(value=str(text)):
            return _PLACEHOLDER.sub(GAP, text)
        case ast.JoinedStr(values=values):
            return "".join(
                part.value
                if isinstance(part, ast.Constant) and isinstance(part.value, str)
                else GAP
                for part in values
            )
        case ast.Call(func=ast.Name(id="LogLine"), args=[first], keywords=fields):
            return f"{text_of(first)}: {' '.join(map(_field, fields))}"
        case ast.BinOp(left=left, op=ast.Add(), right=right):
            return f"{text_of(left) or GAP}{text_of(right) or GAP}"
        case _:
            return None


def _field(field: ast.keyword) -> str:
    if field.arg is None:  # **counts
        return GAP
    value = GAP
    if isinstance(field.value, ast.Constant):
        value = ast.unparse(field.value)
    return f"{field.arg}={value}"


def _exceptions_of(package: Path) -> set[str]:
    tree = ast.parse((package / "exceptions.py").read_text(encoding="utf-8"))
    return {node.name for node in ast.walk(tree) if isinstance(node, ast.ClassDef)}


class _Code:
    """The modules of a package, and where in them a text comes from."""

    def __init__(self, package: Path) -> None:
        self._calls: list[tuple[str, ast.Call, _FUNCTIONS | None]] = []
        self._functions: dict[str, list[_FUNCTIONS]] = {}
        for path in sorted(package.rglob("*.py")):
            tree = ast.parse(path.read_text(encoding="utf-8"))
            for node, function in _walk(tree, None):
                if isinstance(node, ast.Call):
                    place = f"{path.relative_to(package.parent)}:{node.lineno}"
                    self._calls.append((place, node, function))
                elif isinstance(node, _FUNCTIONS):
                    self._functions.setdefault(node.name, []).append(node)

    def told(
        self, exceptions: set[str]
    ) -> Iterator[tuple[str, ast.expr, _FUNCTIONS | None]]:
        """Yield each place where a user is told something, and what."""
        for place, call, function in self._calls:
            name = _name_of(call)
            takes = 1
            match call.func:
                case ast.Attribute(value=value) if name in _LEVELS:
                    if not ast.unparse(value).endswith("logger"):
                        continue
                    takes += name == "log"
                case ast.Attribute(value=ast.Name(id="problems")) if name == "append":
                    pass
                case _ if name == "echo":
                    if "err=True" not in map(ast.unparse, call.keywords):
                        continue
                case _ if name not in exceptions | _CLICKS:
                    continue
            if len(call.args) >= takes:
                yield place, call.args[takes - 1], function

    def texts(
        self, node: ast.expr, function: _FUNCTIONS | None, depth: int = _DEPTH
    ) -> list[str]:
        """Return what an expression may say, through names, parameters and calls."""
        match node:
            case ast.IfExp(body=one, orelse=other):
                found = [*self.texts(one, function), *self.texts(other, function)]
            case ast.Name(id=name) if function is not None:
                found = self._assigned(name, node, function, depth)
            case ast.Call() if (name := _name_of(node)) in self._functions and depth:
                found = self._returned(name, depth)
            case ast.JoinedStr():
                found = self._filled(node, function, depth)
            case _:
                found = [text] if (text := text_of(node)) else []
        return list(dict.fromkeys(found))

    def _assigned(
        self, name: str, at: ast.Name, function: _FUNCTIONS, depth: int
    ) -> list[str]:
        """Return what a name may hold: what it was given before, or handed over."""
        found = []
        for node, is_certain in _assignments(name, at, function):
            found += self.texts(node.value, function, depth)
            if is_certain:
                return found
        return found or self._handed_over(name, function, depth)

    def _handed_over(self, name: str, function: _FUNCTIONS, depth: int) -> list[str]:
        """Return what callers give for a parameter."""
        names = [p.arg for p in (*function.args.posonlyargs, *function.args.args)]
        if name not in names or not depth:
            return []
        place = names.index(name) - (names[0] in {"self", "cls"})
        found = []
        for _, call, caller in self._calls:
            if _name_of(call) != function.name:
                continue
            given = [k.value for k in call.keywords if k.arg == name]
            for value in given or call.args[place : place + 1]:
                found += self.texts(value, caller, depth - 1)
        return found

    def _returned(self, name: str, depth: int) -> list[str]:
        found = []
        for function in self._functions[name]:
            for node in ast.walk(function):
                if isinstance(node, ast.Return) and node.value is not None:
                    found += self.texts(node.value, function, depth - 1)
        return found

    def _filled(
        self, node: ast.JoinedStr, function: _FUNCTIONS | None, depth: int
    ) -> list[str]:
        """Return an f-string, with what callers hand over for its parameters."""
        found = [""]
        for part in node.values:
            texts = [GAP]
            match part:
                case ast.Constant(value=str(text)):
                    texts = [text]
                case ast.FormattedValue(value=ast.Name(id=name)) if function:
                    texts = self._handed_over(name, function, depth) or [GAP]
            found = [before + text for before in found for text in texts]
        return found


def _assignments(
    name: str, at: ast.Name, function: _FUNCTIONS
) -> list[tuple[ast.Assign, bool]]:
    """Return what gives a name its value before it is used, the nearest first.

    Each with whether it does so on every way there: then those before do not count.
    """
    found = []
    for node in ast.walk(function):
        for block in (getattr(node, field, None) for field in ("body", "orelse")):
            if not isinstance(block, list):
                continue
            leads_there = any(
                s.lineno <= at.lineno <= (s.end_lineno or 0) for s in block
            )
            found += [
                (s, leads_there)
                for s in block
                if isinstance(s, ast.Assign)
                and s.lineno < at.lineno
                and [ast.unparse(target) for target in s.targets] == [name]
            ]
    return sorted(found, key=lambda pair: pair[0].lineno, reverse=True)


def _name_of(call: ast.Call) -> str:
    match call.func:
        case ast.Name(id=name) | ast.Attribute(attr=name):
            return name
        case _:
            return ""


def _walk(
    node: ast.AST, function: _FUNCTIONS | None
) -> Iterator[tuple[ast.AST, _FUNCTIONS | None]]:
    """Yield all nodes, each with the function around it."""
    yield node, function
    inner = node if isinstance(node, _FUNCTIONS) else function
    for child in ast.iter_child_nodes(node):
        yield from _walk(child, inner)
