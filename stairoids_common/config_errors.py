"""Describe the mistakes in a config without repeating its values.

A value may be a secret, and error messages end up in logs.
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Callable, Collection, Container, Iterable, Iterator, Mapping
from contextlib import suppress
from fnmatch import fnmatchcase
from typing import Any

from jsonschema import Draft202012Validator
from jsonschema.exceptions import ValidationError

Json = Any  # any JSON value; narrowed where it is read

_BROKEN_RULES = {
    "type": "must be of type {}",
    "enum": "must be one of {}",
    "minimum": "must be at least {}",
    "maximum": "must be at most {}",
    "minLength": "must not be empty",
    "minItems": "must not be empty",
    "pattern": "must not be empty",  # each one asks for a character
}

WILDCARD = re.compile(r"[*?\[]")  # of a pattern of streams
_TYPO = 0.8  # `trails` and `trials` have 0.83
_SIMILAR = 0.75  # `trails` and `trials` have 0.83, `leads` and `deals` 0.6

DEEPEST = 100  # levels; programs walk some hundreds before their stack ends

#: A text that is JSON, or is meant to be. A template begins with two braces.
_JSON = re.compile(r"\s*(?:\[|\{(?!\{))")


class WrongConfigError(ValueError):
    """A config cannot be read, or a setting is wrong: a sentence for each mistake."""

    def __init__(self, *errors: str) -> None:
        self.errors = errors
        super().__init__(errors[0] if len(errors) == 1 else one_a_line(errors))


def one_a_line(errors: Iterable[str]) -> str:
    """Return mistakes as whole sentences, each on a line of its own."""
    return "\n".join(e if e.endswith((".", "?")) else f"{e}." for e in errors)


def config_errors(config: Mapping[str, Json], schema: Mapping[str, Json]) -> list[str]:
    """Return one sentence for each mistake in a config.

    A setting that is null counts as not set. `$schema` is for editors.
    """
    odd = dict.fromkeys(_odd_texts(config, ""))
    return schema_errors(config, schema) + [
        f"`{where}` has the character NUL, or half of a surrogate pair" for where in odd
    ]


def schema_errors(config: Mapping[str, Json], schema: Mapping[str, Json]) -> list[str]:
    """Return one sentence for each mistake that breaks a schema."""
    given = {n: v for n, v in config.items() if v is not None and n != "$schema"}
    validator = Draft202012Validator(schema)
    return sorted({s for e in validator.iter_errors(given) for s in _sentences(e)})


def _odd_texts(value: Json, where: str) -> Iterator[str]:
    """Yield the place of each text that no database stores."""
    match value:
        case str() if re.search("[\0\ud800-\udfff]", value):
            yield where
        case dict():
            for name, inner in value.items():
                yield from _odd_texts(name, where or "the config")
                yield from _odd_texts(inner, _join(where, name))
        case list():
            for number, inner in enumerate(value):
                yield from _odd_texts(inner, f"{where}[{number}]")


def json_of(content: str | bytes, *, is_by_hand: bool = True) -> Json:
    """Return a value from JSON text. `json_problem` describes each `ValueError` of it.

    A name is twice in an object by mistake, if a person wrote it by hand. Programs
    write such objects too, and mean the last value.
    """
    pairs = _unique if is_by_hand else None
    with suppress(RecursionError):
        found = json.loads(content, object_pairs_hook=pairs, parse_constant=_not_json)
        if not is_too_deep(found):
            return found
    raise WrongConfigError("it is nested too deeply")


def is_too_deep(value: Json) -> bool:
    """Return whether programs cannot walk objects and lists by recursion."""
    layer: list[Json] = [[value]]
    for _ in range(DEEPEST + 1):
        values = [p.values() if isinstance(p, dict) else p for p in layer]
        layer = [v for part in values for v in part if isinstance(v, dict | list)]
    return bool(layer)


def json_problem(error: Exception) -> str:
    """Return the end of a sentence about an error of `json_of`."""
    if isinstance(error, json.JSONDecodeError):
        where = f"line {error.lineno}, column {error.colno}"
        return f", {where}: not JSON{_comma_in(error)}"
    return f": {error}" if isinstance(error, WrongConfigError) else ": not JSON"


def _comma_in(error: json.JSONDecodeError) -> str:
    """Return the comma that is missing or one too many, or ""."""
    before = error.doc[: error.pos].rstrip(", \t\r\n")  # newer Pythons stop at it
    has_value = not before.endswith((":", "{", "["))
    if has_value and re.match(r"\s*,\s*[}\]]", error.doc[len(before) :]):
        return "; remove the comma before the bracket"
    is_cut = not error.doc[error.pos :].strip()
    is_missing = "',' delimiter" in error.msg and not is_cut
    return "; a comma or a bracket is missing before it" if is_missing else ""


def _unique(pairs: list[tuple[str, Json]]) -> dict[str, Json]:
    """Return an object; refuse a name that is in it twice, of which JSON keeps one."""
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise WrongConfigError(f"`{twice}` is set twice")
    return found


def _not_json(constant: str) -> Json:
    """Refuse NaN and Infinity, which Python reads and JSON lacks."""
    raise ValueError(constant)


def _sentences(error: ValidationError) -> Iterable[str]:
    """Return one sentence for each field that an error is about."""
    where = "".join(
        f"[{part}]" if isinstance(part, int) else f".{part}"
        for part in error.absolute_path
    ).lstrip(".")
    rule: Json = error.validator_value
    given: Json = error.instance
    match error.validator:
        case "required":
            missing = (_join(where, name) for name in rule if name not in given)
            return [f"`{name}` is required" for name in missing]
        case "additionalProperties":
            schema: Json = error.schema
            known = schema["properties"]
            return [
                f"`{_join(where, name)}` is not a setting{suggestion(name, known)}"
                for name in given
                if name not in known
            ]
    return [_describe(error, where)]


def _describe(error: ValidationError, where: str) -> str:
    rule: Json = error.validator_value
    given: Json = error.instance
    is_nested = re.search("'(array|object)'", str([rule]))  # also one of its types
    if is_nested and isinstance(given, str) and _JSON.match(given):
        try:
            json_of(given)
        except ValueError as problem:
            return f"`{where}`{json_problem(problem)}"
    if rule in ("boolean", ["boolean", "null"]):
        return f"`{where}` must be true or false"
    text = _BROKEN_RULES.get(str(error.validator), "has a form that is not allowed")
    if error.validator == "anyOf" and not isinstance(given, list | dict):
        text += f" (allowed: {' or '.join(_forms(rule))})"
    *others, last = allowed = [*map(str, rule if isinstance(rule, list) else [rule])]
    text = text.format(" or ".join(filter(None, [", ".join(others), last])))
    is_word = error.validator == "enum" and isinstance(given, str)
    return f"`{where}` {text}{suggestion(given, allowed) if is_word else ''}"


def _forms(parts: Iterable[Json]) -> Iterable[str]:
    """Return the values and types that the parts of an `anyOf` allow, each once."""
    lists = (p.get("enum") or p.get("const") or p["type"] for p in parts)
    return dict.fromkeys(
        form for found in lists for form in ([found] if type(found) is str else found)
    )


def _join(where: str, name: str) -> str:
    return f"{where}.{name}" if where else name


def suggestion(name: str, known: Iterable[str]) -> str:
    """Return "; did you mean `x`?" for the known name most like this one, or ""."""
    known = list(known)
    folded = {one.casefold() for one in known}
    for close in difflib.get_close_matches(name.casefold(), folded, n=1):
        alike = nearest(name, (one for one in known if one.casefold() == close))
        return f"; did you mean `{alike}`?"
    return ""


def nearest(name: str, known: Iterable[str]) -> str | None:
    """Return the known name that is most like this one, the same name first."""
    return next(iter(difflib.get_close_matches(name, list(known), 1, 0)), None)


def misspelt(
    stream: str,
    patterns: Collection[str],
    seen: Container[str],
    is_near: Callable[[str, str], bool],
) -> str | None:
    """Return the name that may be a misspelling of a stream that no pattern matches.

    A name of a stream in `seen` is right.
    """
    if any(stream == pattern or fnmatchcase(stream, pattern) for pattern in patterns):
        return None
    names = [p for p in patterns if not WILDCARD.search(p) and p not in seen]
    return next((name for name in names if is_near(name, stream)), None)


def is_typo(name: str, other: str) -> bool:
    """Return whether names differ by one or two signs, or by a prefix `public-`."""
    names = name.casefold(), other.casefold()
    ends = {re.split(r"[-.]", text)[-1] for text in names}
    parts = [re.split(r"[\W_]+", text) for text in names]
    if len(parts[0]) != len(parts[1]):  # `tri_als`
        parts = [["".join(words)] for words in parts]
    lacks_prefix = len(ends) == 1 and not ends.isdisjoint(names)
    return lacks_prefix or all(map(is_misspelt_word, *parts))


def is_misspelt_word(one: str, two: str) -> bool:
    """Return whether words in lower case are the same, but for one or two signs."""
    digits = {re.sub(r"\D", "", text) for text in (one, two)}
    is_as_long = abs(len(one) - len(two)) <= 1 and one[:1] == two[:1]
    alike = difflib.SequenceMatcher(None, one, two).ratio()
    return is_as_long and len(digits) == 1 and alike >= _TYPO


def is_near(name: str, other: str) -> bool:
    """Return whether two names are alike, or one is the end of the other."""
    parts, others = (re.split(r"[-._]", text.casefold()) for text in (name, other))
    if parts == others or parts[-1:] == others or others[-1:] == parts:
        return True
    # A common prefix such as `public-` does not count.
    while len(parts) > 1 and len(others) > 1 and parts[0] == others[0]:
        parts, others = parts[1:], others[1:]
    alike = difflib.SequenceMatcher(None, "-".join(parts), "-".join(others))
    return alike.ratio() >= _SIMILAR
