"""Read a config from JSON files and from the environment.

The functions raise `WrongConfigError`, whose sentences name the file or the variable.
"""

from __future__ import annotations

import errno
import logging
import re
import socket
from collections.abc import Mapping, Sequence
from functools import cache
from ipaddress import ip_address
from pathlib import Path

from stairoids_common.config_errors import Json, WrongConfigError, json_of, json_problem
from stairoids_common.environment import (
    SHARED_VARIABLES,
    check_variables,
    environment_config,
    is_in_meltano,
    value_of,
    variable,
    variable_or_file,
)

logger = logging.getLogger(__name__)

ENVIRONMENT = "ENV"  # in place of a file
_DEFAULT_FILE = "config.json"
#: The error if no config is named.
NO_CONFIG = (
    "There is no config.json here, and STAIROIDS_CONFIG is not set. Add --config."
)
#: Settings without which a person may get a signal that he was not to get.
_HOLD_BACK = {"dry_run", "suppress", "suppress_path", "max_signals_per_run"}
_BACKLOG = 2048  # connections that wait for a server
#: The first line of YAML: `signals:`, `- stream: x`, `---` or a comment.
_YAML = re.compile(rb"(?:\xef\xbb\xbf)?\s*(?:---|#|- |[\w.-]+:)")


def default_inputs() -> tuple[str, ...]:
    """Return STAIROIDS_CONFIG, else `config.json` in the working directory if there."""
    if named := variable("STAIROIDS_CONFIG"):
        return (named,)
    return (_DEFAULT_FILE,) if Path(_DEFAULT_FILE).is_file() else ()


def read_config(
    inputs: Sequence[str],
    schema: Mapping[str, Json],
    prefix: str,
    *,
    may_send: bool = True,
) -> dict[str, Json]:
    """Return the settings of all inputs: paths of JSON files, or `ENV`.

    The environment precedes files, and later files earlier ones. The prefix is that of
    the variables, such as `TARGET_STAIROIDS_`. A variable that asks for a dry run and
    is not read is refused, unless the program sends nothing: not `may_send`.
    """
    config: dict[str, Json] = {}
    for path in inputs:
        if path != ENVIRONMENT:
            config |= understood(read_file(path), schema)
    is_read = ENVIRONMENT in inputs
    check_variables(prefix, schema["properties"], warns=is_read)
    if is_read:
        config |= environment_config(schema, prefix)
    else:
        _warn_of_unread(config, schema, prefix, may_send=may_send)
    for name, variable_name in SHARED_VARIABLES.items():
        if name in schema["properties"] and (
            text := variable_or_file(variable_name, is_secret=True)
        ):
            config.setdefault(name, text)
    return config


def _warn_of_unread(
    config: Mapping[str, Json],
    schema: Mapping[str, Json],
    prefix: str,
    *,
    may_send: bool,
) -> None:
    """Log each variable that `--config ENV` would read as another value.

    Meltano reads the variables of declared settings and writes them into the config. A
    variable that holds signals back is an error, if the run would send.
    """
    declared = config if is_in_meltano() else {}
    for name, spec in schema["properties"].items():
        text = variable(prefix + name.upper())
        if text is None or name in declared:
            continue
        found = value_of(text, spec)
        if found != config.get(name, spec.get("default")):
            remedy = "Add `--config ENV` to read the environment."
            if is_in_meltano():
                remedy = f"Declare the setting `{name}` of the plugin in `meltano.yml`."
            warning = f"`{prefix}{name.upper()}` is set, but it is not read. {remedy}"
            holds_back = found and name in _HOLD_BACK and not config.get(name)
            if holds_back and may_send and not config.get("dry_run"):
                raise WrongConfigError(warning)
            logger.warning("%s", warning)


def understood(
    config: Mapping[str, Json], schema: Mapping[str, Json]
) -> dict[str, Json]:
    """Return a config without settings that are not set, and with the right types.

    Null means not set, except for a field that may be null. Text such as `"true"` in
    place of another type is read as from the environment, because Meltano passes
    undeclared settings as text. `$schema` is for editors.
    """
    found: dict[str, Json] = {}
    for name, value in config.items():
        spec = schema["properties"].get(name, {})
        if value is None or name == "$schema":
            continue
        if not isinstance(value, str):
            found[name] = _without_null(value, spec)
        elif value.strip() or "string" in spec.get("type", "string"):
            found[name] = _without_null(value_of(value, spec), spec)
    return found


def _without_null(value: Json, spec: Mapping[str, Json]) -> Json:
    """Return a value without its fields that are null and may not be."""
    if isinstance(value, list) and "items" in spec:
        return [_without_null(item, spec["items"]) for item in value]
    if not isinstance(value, dict) or not spec.get("properties"):
        return value
    fields = spec["properties"]
    return {
        name: _without_null(inner, fields.get(name, {}))
        for name, inner in value.items()
        if inner is not None or "null" in fields.get(name, {}).get("type", ["null"])
    }


def local_path(path: str) -> Path:
    """Return the path of a setting, in which `~` is a folder, or raise `OSError`."""
    if found := re.search(r"\$\{?\w+\}?|%\w+%", path):
        raise OSError(0, f"`{found[0]}`, and no variable is read in a path")
    try:
        return Path(path).expanduser()
    except RuntimeError:
        raise OSError(0, "the folder of an unknown user (`~`)") from None


def is_loopback(host: str) -> bool:
    """Return whether a host name or address is of this machine, where http is safe."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def listening_socket(host: str, port: int) -> socket.socket:
    """Return a socket that listens, or raise `OSError` with the reason."""
    try:
        family, *_, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        place = str(address[0]), port
        return socket.create_server(place, family=family, backlog=_BACKLOG)
    except UnicodeError:
        raise OSError(errno.EINVAL, "no name of a host") from None
    except OSError as error:  # Python repeats the address
        reason = str(error.strerror).partition(" (while ")[0]
        raise OSError(error.errno, reason) from None


def read_file(path: str) -> dict[str, Json]:
    """Return the JSON object in a file, which may begin with a byte order mark."""
    if not path.strip():
        raise WrongConfigError("--config is empty. Name a JSON file, or write ENV.")
    if path.lstrip()[0] in "{[":  # not repeated, because it may hold a secret
        raise WrongConfigError("--config has JSON. Name a file with it, or write ENV.")
    try:
        place = local_path(path)
        content = _of_pipe(place) if place.is_fifo() else place.read_bytes()
    except FileNotFoundError:
        hint = "; did you mean `ENV`?" if path.upper() == ENVIRONMENT else ""
        if path == variable("STAIROIDS_CONFIG"):
            hint = " (STAIROIDS_CONFIG)"
        raise WrongConfigError(f"{path}: no such file{hint}") from None
    except OSError as failure:
        raise WrongConfigError(f"{path} cannot be read: {failure.strerror}") from None
    try:
        return object_in(content, path)
    except WrongConfigError as failure:
        if not _YAML.match(content):
            raise
        hint = "A config file is JSON. YAML is for `meltano.yml`."
        raise WrongConfigError(f"{failure}. {hint}") from None


@cache
def _of_pipe(path: Path) -> bytes:
    """Return the content of a pipe, which can be read once: `--config <(decrypt x)`."""
    return path.read_bytes()


def object_in(content: bytes, name: str) -> dict[str, Json]:
    """Return the JSON object in the content of a file; errors have its name."""
    try:
        found = json_of(content)
    except ValueError as failure:
        error = name + json_problem(failure)
    else:
        if isinstance(found, dict):
            return found
        error = f"{name}: not a JSON object"
    raise WrongConfigError(error)
