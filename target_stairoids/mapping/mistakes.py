"""Find texts in a mapping that surely mean a column, although they lack the braces."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Container
from typing import Any

from stairoids_common.config_errors import suggestion
from target_stairoids.mapping.expressions.errors import TemplateError
from target_stairoids.mapping.expressions.template import (
    Path,
    compile_condition,
    path_text,
)
from target_stairoids.mapping.schema import StreamSchema, inner_properties

_IN_BRACES = re.compile(r"\{\{.*?\}\}|\{%.*?%\}|\{#.*?#\}", re.DOTALL)
#: The placeholders of other tools: `{x}`, `${x}`, `$x`, `%(x)s`.
_PLACEHOLDER = re.compile(r"\$?\{([^{}]+)\}|\$(\w+)|%\((\w+)\)s")


def mistake_in(text: str, field: str, columns: Collection[str]) -> str | None:
    """Return why a text of the mapping is surely a mistake; None if it may be right.

    Args:
        columns: The columns of the stream; empty if they are unknown.
    """
    constant = _IN_BRACES.sub("", text)
    for found in _PLACEHOLDER.finditer(constant):
        inner = next(filter(None, found.groups()))
        if meant := _expression_in(inner, columns):
            return f"`{found[0]}` is no placeholder; did you mean `{{{{ {meant} }}}}`?"
        if found[0].startswith("${"):
            return f"`{found[0]}` is no placeholder, and no variable is read here."
    if constant != text or not text.strip() or field in {"type", "source"}:
        return None
    if meant := _expression_in(text, columns or [field.partition(".")[2] or field]):
        return (
            f"`{text}` is a text and not a column; did you mean `{{{{ {meant} }}}}`? "
            f"If you mean the text, write `{{{{ {text.strip()!r} }}}}`."
        )
    return None


def _expression_in(text: str, columns: Collection[str]) -> str | None:
    """Return the expression that a text is, if it reads these columns only."""
    names = {name.strip().casefold(): name for name in columns}
    if name := names.get(text.strip().casefold()):
        return path_text((name,))
    try:
        paths = compile_condition(text, "").paths
    except (TemplateError, RecursionError):
        return None
    reads = {str(path[0]) if path else "" for path in paths}
    return text.strip() if reads and reads <= set(columns) else None


def nested_hint(name: str, known: Container[str]) -> str:
    """Return how to read a field inside an object, if a name looks like one."""
    head, dot, tail = name.partition(".")
    if not dot or head not in known:
        return ""
    path = path_text((head, *tail.split(".")))
    return f"; for a field inside an object write `{tail}: '{{{{ {path} }}}}'`"


def unknown_path(schema: StreamSchema, path: Path, *, must_be_listed: bool) -> str:
    """Return the problem of a path that a SCHEMA excludes; "" without a problem.

    Args:
        must_be_listed: Whether a column that an open SCHEMA does not list is excluded.
    """
    place, known = schema.name, schema.properties
    is_closed = bool(known) if must_be_listed else not schema.is_open
    for part in map(str, path):
        if is_closed and part not in known:
            hint = nested_hint(part, known) or suggestion(part, known)
            return f"`{part}` is not a property of `{place}`{hint}"
        column: Any = known.get(part)
        place, known = part, inner_properties(column) or {}
        is_closed = bool(known) and column.get("additionalProperties") is False
        if not is_closed:
            return ""
    return ""


def literal(text: str) -> str:
    """Return the template that gives a text, also a text with braces."""
    return (
        f"{{{{ {json.dumps(text, ensure_ascii=False)} }}}}"
        if re.search(r"[{}$%]", text)
        else text
    )
