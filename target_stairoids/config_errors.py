"""Mistakes: what is wrong with a config, said without repeating any of its values."""

from __future__ import annotations

import difflib
import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jsonschema import Draft202012Validator

from target_stairoids.exceptions import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from jsonschema.exceptions import ValidationError

Json = Any  # what JSON can hold; narrowed where it is read

_NEAR = 0.75  # `trails` is to `trials` 0.83, `leads` to `deals` 0.6


def check_config_file(path: str) -> None:
    """Make sure that a config file can be read, and holds a JSON object.

    Raises:
        ConfigError: It names the file and the place, and quotes nothing.
    """
    try:
        config = json.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        msg = f"{path}: no such file"
        raise ConfigError(msg) from error
    except OSError as error:
        msg = f"{path} cannot be read: {error.strerror}"
        raise ConfigError(msg) from error
    except json.JSONDecodeError as error:
        msg = f"{path}, line {error.lineno}, column {error.colno}: not JSON"
        raise ConfigError(msg) from None  # the cause holds the whole text
    except (ValueError, RecursionError):
        msg = f"{path}: not JSON"
        raise ConfigError(msg) from None
    if not isinstance(config, dict):
        msg = f"{path}: not a JSON object"
        raise ConfigError(msg)


def config_errors(config: Mapping[str, Json], schema: Mapping[str, Json]) -> list[str]:
    """Say what is wrong with a config without repeating any of its values.

    Returns:
        One sentence for each mistake; an empty list if there is none.
    """
    found = Draft202012Validator(schema).iter_errors(dict(config))
    return sorted(_describe(error) for error in found)


def _describe(error: ValidationError) -> str:
    where = "".join(
        f"[{part}]" if isinstance(part, int) else f".{part}"
        for part in error.absolute_path
    ).lstrip(".")
    rule: Json = error.validator_value
    given: Json = error.instance
    match error.validator:
        case "required":
            missing = (_join(where, name) for name in rule if name not in given)
            text = ", ".join(f"`{name}`" for name in missing) + " is required"
        case "additionalProperties":
            schema: Json = error.schema
            known = schema["properties"]
            text = "; ".join(
                f"`{_join(where, name)}` is not a setting{suggestion(name, known)}"
                for name in given
                if name not in known
            )
        case "type":
            text = f"`{where}` must be of type {_listed(rule)}"
        case "enum":
            text = f"`{where}` must be one of {_listed(rule)}"
        case "minimum":
            text = f"`{where}` must be at least {rule}"
        case "maximum":
            text = f"`{where}` must be at most {rule}"
        case "minLength" | "minItems":
            text = f"`{where}` must not be empty"
        case _:
            text = f"`{where}` is not of a form that is understood here"
    return text


def _join(where: str, name: str) -> str:
    return f"{where}.{name}" if where else name


def _listed(values: object) -> str:
    items = values if isinstance(values, list) else [values]
    return " or ".join(str(item) for item in items)


def suggestion(name: str, known: Iterable[str]) -> str:
    """Return "; did you mean `x`?" for the known name most like this one, or ""."""
    close = difflib.get_close_matches(name, list(known), n=1)
    return f"; did you mean `{close[0]}`?" if close else ""


def is_near(name: str, other: str) -> bool:
    """Say whether one stream's name may be a misspelling of another.

    A schema that both names begin with makes them no more alike, and one that only
    one of them begins with makes them no less alike.
    """
    parts, others = (re.split(r"[-._]", text.casefold()) for text in (name, other))
    if parts == others or parts[-1:] == others or others[-1:] == parts:
        return True
    while len(parts) > 1 and len(others) > 1 and parts[0] == others[0]:
        parts, others = parts[1:], others[1:]
    alike = difflib.SequenceMatcher(None, "-".join(parts), "-".join(others))
    return alike.ratio() >= _NEAR
