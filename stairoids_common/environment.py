"""Read settings from environment variables, and refuse misspelt variables.

The functions raise `WrongConfigError`, whose sentences name the variable.
"""

from __future__ import annotations

import difflib
import logging
import math
import os
import re
from collections.abc import Collection, Iterable, Mapping
from functools import cache
from pathlib import Path

from stairoids_common.config_errors import (
    Json,
    WrongConfigError,
    config_errors,
    json_of,
)

logger = logging.getLogger(__name__)

_BOOLEANS = dict.fromkeys(("1", "true", "t", "yes", "y", "on"), True) | dict.fromkeys(
    ("0", "false", "f", "no", "n", "off"), False
)
_NEARLY = 0.75  # `prot` and `port` have 0.75, `prod_api_key` and `api_key` 0.74
#: Kubernetes sets these for a service with the name of the plugin or the receiver.
_OF_KUBERNETES = re.compile(r"SERVICE_(HOST|PORT.*)|PORT(_\d+_.*)?")
_SERVICE_URL = re.compile(r"(tcp|udp|sctp)://\S+")
_NEARLY_PREFIX = 0.7  # `STAIROIDS_` and `TARGET_STAIROIDS_` have 0.74
_PREFIXES = (
    "STAIROIDS_WEBHOOKS_",
    "TAP_STAIROIDS_SIGNALS_",
    "TAP_STAIROIDS_WEBHOOKS_",
    "TARGET_STAIROIDS_",
)
_NEARLY_SHARED = 0.93  # `STAIROIDS_API_KYE` has 0.94, `STAIROIDS_API_KEY_EU` 0.92
#: Setting -> variable that several programs read.
SHARED_VARIABLES = {"api_key": "STAIROIDS_API_KEY", "api_url": "STAIROIDS_API_URL"}
_SECRETS = "STAIROIDS_WEBHOOK_SECRET", "STAIROIDS_WEBHOOK_SECRETS"
_OR_FILE = *SHARED_VARIABLES.values(), *_SECRETS
_SHARED = {"STAIROIDS_CONFIG", *_OR_FILE, *(f"{name}_FILE" for name in _OR_FILE)}


def variable(name: str, *, is_secret: bool = False) -> str | None:
    """Return the text of an environment variable; None if it is not set or blank.

    A port that Kubernetes sets for a service, such as `tcp://10.0.0.1:80`, is None.
    White space around it and one pair of quotes are removed: `docker --env-file` keeps
    the quotes, and a file of Windows leaves a carriage return. With `is_secret` the
    white space stays, so that `secret_error` finds it.
    """
    text = os.environ.get(name, "").strip("\ufeff")
    inner = text.strip()
    if len(inner) > 1 and inner[0] == inner[-1] and inner[0] in "\"'":
        text = text.replace(inner, inner[1:-1])
    if name.endswith("_PORT") and _SERVICE_URL.fullmatch(inner):
        return None
    return (text if is_secret else text.strip()) if text.strip() else None


def variable_or_file(name: str, *, is_secret: bool = False) -> str | None:
    """Return the text of a variable, or of the file that `NAME_FILE` names."""
    path = variable(f"{name}_FILE")
    if path is None:
        return variable(name, is_secret=is_secret)
    if variable(name):
        raise WrongConfigError(f"{name} and {name}_FILE are both set: unset one")
    try:
        text = Path(path).read_text(encoding="utf-8-sig").rstrip("\r\n")
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "not UTF-8"
        why = f"{name}_FILE cannot be read: {path} ({reason})"
        raise WrongConfigError(why) from None
    if not text:
        raise WrongConfigError(f"{name}_FILE: {path} is empty")
    return text if is_secret else text.strip()


def secret_error(name: str, secret: str) -> str | None:
    """Return why a secret in a setting or variable is a wrong copy, if it is one."""
    if secret != secret.strip():
        return (
            f"`{name}` begins or ends with white space, such as a space or the end of "
            "a line. Remove it."
        )
    if not secret.isprintable():
        return f"`{name}` has a line break or a character that cannot be printed"
    return None


def environment_config(schema: Mapping[str, Json], prefix: str) -> dict[str, Json]:
    """Return the settings in the environment. No `.env` file is read.

    The SDK takes any text that it does not know as false: a misspelt `dry_run` would
    send.
    """
    config: dict[str, Json] = {}
    errors: list[str] = []
    for name, spec in schema["properties"].items():
        variable_name = _variable_of(name, prefix)
        text = variable_or_file(variable_name, is_secret="secret" in spec)
        if text is not None:
            config[name] = value_of(text, spec)
            only = {"properties": {variable_name: spec}}
            errors += config_errors({variable_name: config[name]}, only)
    if errors:
        raise WrongConfigError(*errors)
    return config


def value_of(text: str, spec: Mapping[str, Json]) -> Json:
    """Return the value that a text stands for by its schema; the text if for none."""
    types = spec.get("type", "string")
    types = {types} if isinstance(types, str) else set(types)
    if "string" in types:
        return text
    if "boolean" in types:
        return _BOOLEANS.get(text.strip().lower(), text)
    try:
        value = json_of(text)
    except ValueError:
        # A secret may have a comma.
        is_list = spec.get("items", {}).get("type") == "string" and "secret" not in spec
        if is_list and not text.lstrip().startswith(("[", "{")):
            return [part.strip() for part in text.split(",") if part.strip()]
        return text
    if types & {"integer", "number"}:
        is_float = isinstance(value, float) and math.isfinite(value)
        return value if is_float or type(value) is int else text
    return value if isinstance(value, (list, dict)) else text


def check_variables(prefix: str, names: Iterable[str], *, warns: bool) -> None:
    """Refuse each variable that is nearly the variable of a setting.

    The variables of Meltano and of loaders that inherit from this one are left alone.
    With `warns`, the other variables with this prefix are logged.
    """
    known = {_variable_of(name, "") for name in (*names, "loglevel")}
    ours = {prefix + name + end for name in known for end in ("", "_FILE")}
    errors = []
    for name in sorted(os.environ.keys() - ours):
        if near := _nearest(name, prefix, known):
            text = f"`{name}` is not a variable of a setting"
            meant = f"did you mean `{prefix}{near}`?{_unset_in_meltano(name, prefix)}"
            errors.append(f"{text}; {meant}")
        elif (
            warns and name.startswith(prefix) and not _is_of_others(name, prefix, known)
        ):
            logger.warning("`%s` is not a variable of a setting. It is ignored.", name)
    if errors:
        raise WrongConfigError(*errors)


def warn_of_shared_variables() -> None:
    """Log each variable that is nearly one that several programs read."""
    for name in sorted(os.environ.keys() - _SHARED):
        if shared := _nearest_shared(name.upper()):
            logger.warning(
                "`%s` is not read by this program; did you mean `%s`?", name, shared
            )


@cache
def _nearest_shared(name: str) -> str | None:
    return next(iter(difflib.get_close_matches(name, _SHARED, 1, _NEARLY_SHARED)), None)


def _nearest(name: str, prefix: str, known: Collection[str]) -> str | None:
    """Return the end of the variable that a name nearly has, such as `DRY_RUN`."""
    plain = re.sub(r"[^A-Z0-9]+", "_", name.upper())
    rest = plain.removeprefix(prefix)
    if name in _SHARED:
        return None
    if not plain.startswith(prefix):
        ends = (s for s in known if plain.endswith(f"_{s}") and "STAIR" in plain)
        return next((s for s in ends if _is_like(plain.removesuffix(s), prefix)), None)
    if rest in known:  # in another case, or with other separators
        return rest
    if _is_of_others(name, prefix, known):
        return None
    return next(iter(difflib.get_close_matches(rest, known, 1, _NEARLY)), None)


def _is_like(head: str, prefix: str) -> bool:
    alike = difflib.SequenceMatcher(None, head, prefix).ratio() >= _NEARLY_PREFIX
    is_turned = sorted(head.split("_")) == sorted(prefix.split("_"))
    return (alike or is_turned) and head not in _PREFIXES


def _is_of_others(name: str, prefix: str, known: Collection[str]) -> bool:
    """Return whether a variable with this prefix belongs to another program.

    Meltano's own settings begin with `_`, such as `_LOAD_SCHEMA`. A loader
    `target-stairoids-eu` that inherits from this one has `TARGET_STAIROIDS_EU_API_KEY`.
    """
    rest = name.removeprefix(prefix).removesuffix("_FILE")
    if "__" in f"_{rest}" or _OF_KUBERNETES.fullmatch(rest):
        return True
    is_of_heir = any(rest.endswith(f"_{setting}") for setting in known)
    return is_of_heir and is_in_meltano()


def _unset_in_meltano(name: str, prefix: str) -> str:
    """Return how to unset a misspelt setting that Meltano passes as a variable."""
    if not (name.startswith(prefix) and is_in_meltano()):
        return ""
    plugin = prefix.lower().strip("_").replace("_", "-")
    setting = name.removeprefix(prefix).lower()
    command = f"meltano config unset {plugin} {setting}"
    return f" If it is a setting in Meltano, run `{command}`."


def is_in_meltano() -> bool:
    """Return whether Meltano started this process."""
    return any(name.startswith("MELTANO_") for name in os.environ)


def _variable_of(name: str, prefix: str) -> str:
    return prefix + name.upper().replace("-", "_")
