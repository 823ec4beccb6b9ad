"""Find texts in a mapping that surely mean a column, although they lack the braces."""

from __future__ import annotations

import json
import re
from collections.abc import (
    Callable,
    Collection,
    Container,
    Iterable,
    Iterator,
    Mapping,
    Sequence,
)
from contextlib import suppress
from typing import Any

from stairoids_common.config_errors import nearest, suggestion
from target_stairoids.exceptions import ConfigError
from target_stairoids.mapping.expressions.errors import TemplateError
from target_stairoids.mapping.expressions.paths import Path, path_text
from target_stairoids.mapping.expressions.template import Template, compile_condition
from target_stairoids.mapping.people_and_companies import clean_domain, clean_email
from target_stairoids.mapping.schema import StreamSchema, inner_properties, types_of
from target_stairoids.mapping.times import likely_event_time_from

_IN_BRACES = re.compile(r"\{\{.*?\}\}|\{%.*?%\}|\{#.*?#\}", re.DOTALL)
#: The placeholders of other tools: `{x}`, `${x}`, `$x`, `%(x)s`.
_PLACEHOLDER = re.compile(r"\$?\{([^{}]+)\}|\$(\w+)|%\((\w+)\)s")


#: A column with the marks of other languages: `<email>`, `$.email`, `row["email"]`.
_NEAR_COLUMN = re.compile(
    r"\W*(?:(record|row|item|data|fields|doc|this|it|message|payload|event|source)"
    r"(?:\.|\[['\"]))?(\w+)\W*"
)


def where(stream: str, field: str) -> str:
    """Return the place of a field of a mapping, in words."""
    return f"Stream `{stream}`: `{field}` of its mapping"


def checked_template(
    compile_text: Callable[[str, str], Template], text: str, field: str, stream: str
) -> Template:
    """Compile a template or condition; `ConfigError` names its place and mistake."""
    try:
        return compile_text(text, field)
    except TemplateError as error:
        raise ConfigError(f"{where(stream, field)}: {error}") from None


def mistake_in(text: str, field: str, columns: Collection[str]) -> str | None:
    """Return why a text is surely a mistake; without columns, none is known."""
    if not text.strip() and not field.startswith("properties."):
        return "it is blank. Write `null` to leave the field out."
    if field == "type" and text.strip().lower() == "null":
        return "it is the text `null`. Write `null` without quotes."
    constant = _IN_BRACES.sub("", text)
    for found in _PLACEHOLDER.finditer(constant):
        inner = next(filter(None, found.groups()))
        if meant := _expression_in(inner, columns):
            return f"`{found[0]}` is no placeholder; did you mean `{{{{ {meant} }}}}`?"
        if found[0].startswith("${"):
            return f"`{found[0]}` is no placeholder, and no variable is read here."
    if constant != text or not text.strip() or field in {"type", "source"}:
        return None
    near = _NEAR_COLUMN.fullmatch(text.strip())
    is_near = near and near[2] in columns and near[1] not in columns
    named = near[2] if near and is_near else text
    if meant := _expression_in(named, columns or [field.partition(".")[2] or field]):
        return (
            f"`{text}` is a text and not a column; did you mean `{{{{ {meant} }}}}`? "
            f"If you mean the text, write `{{{{ {text.strip()!r} }}}}`."
        )
    if rule := _broken_rule(text, field):
        return f"`{text}` is {rule}. Write a column as `{{{{ column }}}}`."
    return None


def _broken_rule(text: str, field: str) -> str:
    """Return the rule that a text breaks for each record; "" if it breaks none."""
    if field == "contact.email" and not clean_email(text):
        return "not an email address such as ann@example.com"
    if field == "account.domain" and not clean_domain(text):
        return "not a domain such as example.com"
    if field == "occurred_at" and not likely_event_time_from(text):
        return "not a date and time such as 2026-01-31T12:00:00Z"
    return ""


def _expression_in(text: str, columns: Collection[str]) -> str | None:
    """Return the expression that a text is, if it reads these columns only."""
    text = text.strip()
    if text in columns:
        return path_text((text,))
    with suppress(TemplateError, RecursionError):
        paths = compile_condition(text, "").paths
        reads = {str(path[0]) if path else "" for path in paths}
        if reads and reads <= set(columns):
            return text
    name = _alike(text, columns)
    return path_text((name,)) if name is not None else None


def _alike(name: str, known: Iterable[str]) -> str | None:
    """Return a name alike without marks: `first_name` for `First name`."""
    return nearest(name, (one for one in known if _bare(one) == _bare(name)))


def _bare(text: str) -> str:
    return re.sub(r"[\s._-]", "", text).casefold()


def nested_hint(name: str, known: Container[str]) -> str:
    """Return how to read a field inside an object, if a name looks like one."""
    head, dot, tail = name.partition(".")
    if not dot or head not in known:
        return ""
    path = path_text((head, *tail.split(".")))
    return f"; for a field inside an object write `{tail}: '{{{{ {path} }}}}'`"


def _names_in(known: Mapping[str, Any]) -> Iterator[tuple[str, ...]]:
    """Yield the paths of all columns and of the fields inside them."""
    for name, column in known.items():
        yield (name,)
        for path in _names_in(inner_properties(column) or {}):
            yield (name, *path)


def _meant(
    wanted: Sequence[str], place: int, known: Mapping[str, Any], text: str
) -> tuple[str, ...]:
    """Return the path that is meant by one whose part at a place is unknown, if any.

    That is a name with a mark, such as `e-mail`, if it stands in the text. Or it is
    alike without marks, such as `user__email` for `user.email`.
    """
    paths = {".".join(path): path for path in _names_in(known)}
    marked = {
        name: path
        for name, path in paths.items()
        if not path[-1].isidentifier() and wanted[place] in re.split(r"\W+", path[-1])
    }
    written = max((name for name in marked if name in text), key=len, default=None)
    starts = (".".join(wanted[:end]) for end in range(len(wanted), place, -1))
    same = (_alike(start, paths) for start in starts)
    shortest = min(marked, key=lambda name: len(marked[name]), default=None)
    return next((paths[name] for name in (written, *same, shortest) if name), ())


def unknown_path(
    schema: StreamSchema, path: Path, text: str, *, must_be_listed: bool
) -> str:
    """Return the problem of a path that a SCHEMA excludes; "" without a problem.

    `text` is the template that reads the path.
    """
    place, known = schema.name, schema.properties
    is_closed = bool(known) if must_be_listed else not schema.is_open
    column: Any = None
    for index, part in enumerate(map(str, path)):
        if isinstance(path[index], int) and "array" in types_of(column):
            column = column.get("items")
        elif is_closed and part not in known:
            hint = nested_hint(part, known)
            names = [*map(str, path)]
            if not hint and (meant := _meant(names, index, schema.properties, text)):
                is_plain = all(map(str.isidentifier, meant))
                words = "did you mean" if is_plain else "for a name with a mark write"
                hint = f"; {words} `{path_text(meant)}`{'?' * is_plain}"
            hint = hint or suggestion(part, known)
            return f"`{part}` is not a property of `{place}`{hint}"
        else:
            place, column = part, known.get(part)
        known = inner_properties(column) or {}
        is_closed = bool(known) and column.get("additionalProperties") is False
        if not is_closed and "array" not in types_of(column):
            return ""
    return ""


def literal(text: str) -> str:
    """Return the template that gives a text, also a text with braces."""
    return (
        f"{{{{ {json.dumps(text, ensure_ascii=False)} }}}}"
        if re.search(r"[{}$%]", text)
        else text
    )
