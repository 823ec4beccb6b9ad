"""Settings of the receiver and of the commands, and their environment variables.

Every setting of `ReceiverSettings` is an option of `stairoids-webhooks serve` and an
environment variable with the prefix `STAIROIDS_WEBHOOKS_`. Secrets are environment
variables only, because other users can see a command line. Each function raises
`ConfigError` if a value is missing or wrong.
"""

from __future__ import annotations

import logging
import re
from typing import Annotated, Literal
from urllib.parse import unquote

import msgspec
from msgspec import Meta

from stairoids_common.config_errors import WrongConfigError
from stairoids_common.environment import (
    check_variables,
    environment_config,
    secret_error,
    variable_or_file,
)
from stairoids_common.settings import struct_schema
from tap_stairoids_webhooks.exceptions import ConfigError

logger = logging.getLogger(__name__)

PREFIX = "STAIROIDS_WEBHOOKS_"
API_KEY_VARIABLE = "STAIROIDS_API_KEY"
API_URL_VARIABLE = "STAIROIDS_API_URL"
SECRET_VARIABLE = "STAIROIDS_WEBHOOK_SECRET"  # noqa: S105 -- a name, not a secret
SECRETS_VARIABLE = "STAIROIDS_WEBHOOK_SECRETS"
ADMIN_TOKEN_VARIABLE = "STAIROIDS_WEBHOOKS_ADMIN_TOKEN"  # noqa: S105 -- a name, not a token
SECRET_SETTINGS = ("admin_token",)
DEFAULT_API_URL = "https://api.stairoids.com/v1"
DEFAULT_PATH = "/webhooks/stairoids"
HEALTH_PATH = "/healthz"
READY_PATH = "/readyz"
DEFAULT_STORE_URL = "sqlite:///.stairoids/webhooks.db"
DEFAULT_FORWARDER = "forward"
_NAMED_URL = re.compile(r"(?:([\w.-]+)=)?([^=]*:.*)")
_MIN_TOKEN_LENGTH = 16
#: The settings of `serve` only. The server of `create_app` has an address and logs of
#: its own.
_OF_SERVE = {"host", "port", "admin_port", "allow_http", "log_level", "log_format"}
_Port = Annotated[int, Meta(ge=0, le=65535)]
_Secrets = Annotated[tuple[Annotated[str, Meta(min_length=1)], ...], Meta(min_length=1)]


class ReceiverSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Settings of the receiver; each description is the help text of the option.

    Attributes:
        host: Address to listen on.
        port: Port to listen on. 0 takes a free one.
        path: Path of the webhook. /webhook/stairoids always works too.
        max_body: Largest body that is accepted, in bytes.
        min_free: With fewer bytes free on the store's disk, respond 503.
        admin_port: Port on 127.0.0.1 for the pages, /readyz and /metrics.
        forward: Deliver the events to this URL as well, or to several NAME=URL with
            white space between them.
        allow_http: Forward to an http:// URL beyond this machine too.
        log_level: Lowest level that is logged on stderr.
        log_format: Log lines for people, or one JSON object per line.
        store_url: The event store: sqlite:///PATH or postgresql://HOST/DATABASE.
    """

    host: str = "127.0.0.1"
    port: _Port = 8880
    path: str = DEFAULT_PATH
    max_body: Annotated[int, Meta(ge=1)] = 5 * 1024 * 1024
    min_free: Annotated[int, Meta(ge=0)] = 100 * 1024 * 1024
    admin_port: _Port | None = None
    forward: str | None = None
    allow_http: bool = False
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    log_format: Literal["text", "json"] = "text"
    store_url: str = DEFAULT_STORE_URL


def receiver_settings() -> ReceiverSettings:
    """Read the settings of an ASGI application from the environment only."""
    known = struct_schema(ReceiverSettings)["properties"]
    try:
        check_variables(PREFIX, (*known, *SECRET_SETTINGS), warns=True)
        ours = {name: spec for name, spec in known.items() if name not in _OF_SERVE}
        found = environment_config({"properties": ours}, PREFIX)
    except WrongConfigError as error:
        raise ConfigError(str(error)) from None
    settings = msgspec.convert(found, ReceiverSettings, strict=False)
    check_path(f"{PREFIX}PATH", settings.path, HEALTH_PATH, READY_PATH)
    if settings.forward is not None:
        raise ConfigError(
            "STAIROIDS_WEBHOOKS_FORWARD: run stairoids-webhooks forward beside this app"
        )
    return settings


def check_path(name: str, path: str, *taken: str) -> None:
    """Refuse the value of a setting that is no path, or that is taken."""
    is_taken = unquote(path).rstrip("/") in taken
    if not re.fullmatch(r"/[^?#\s]*", path) or is_taken:
        raise ConfigError(f"{name} must be a path such as /hooks, not {path!r}")


def forwarders_in(text: str) -> dict[str, str]:
    """Return URL by name from `URL`, or from `NAME=URL NAME=URL`."""
    pairs = [_NAMED_URL.fullmatch(part) for part in text.split()]
    found = {match[1] or DEFAULT_FORWARDER: match[2] for match in pairs if match}
    if len(found) != len(pairs) or not pairs:
        msg = "--forward needs a URL, or several NAME=URL with different names"
        raise ConfigError(msg)
    return found


def secrets() -> list[str]:
    """Read the webhook secrets, the newest first."""
    if several := _secret(SECRETS_VARIABLE):
        if _secret(SECRET_VARIABLE):
            logger.warning(
                "%s and %s are both set: the secrets of %s count, %s is not read",
                *(SECRETS_VARIABLE, SECRET_VARIABLE) * 2,
            )
        try:
            return _checked(
                SECRETS_VARIABLE, *msgspec.json.decode(several, type=_Secrets)
            )
        except ValueError:
            # Not chained, because the decoder's error may repeat the text.
            msg = (
                f'{SECRETS_VARIABLE} must be a JSON array such as ["new", "old"], with'
                " one or more non-empty strings"
            )
        raise ConfigError(msg)
    if one := _secret(SECRET_VARIABLE):
        return _checked(SECRET_VARIABLE, one)
    raise ConfigError(
        f"no webhook secret: set {SECRET_VARIABLE}, or {SECRETS_VARIABLE}"
        " to a JSON array of several, or one of these names with _FILE to a path"
    )


def _checked(name: str, *secrets: str) -> list[str]:
    """Return secrets, and refuse one that is a wrong copy."""
    for secret in secrets:
        if error := secret_error(name, secret):
            raise ConfigError(error)
    return list(secrets)


def _secret(name: str) -> str | None:
    """Return the text of a variable, or of the file that NAME_FILE names."""
    try:
        return variable_or_file(name, is_secret=True)
    except WrongConfigError as error:
        raise ConfigError(str(error)) from None


def admin_token() -> str:
    """Read the admin token."""
    token = _secret(ADMIN_TOKEN_VARIABLE) or ""
    _checked(ADMIN_TOKEN_VARIABLE, token)
    if len(token) >= _MIN_TOKEN_LENGTH and token.isascii() and token.isprintable():
        return token
    form = f"{_MIN_TOKEN_LENGTH} characters of ASCII in one line"
    if token:
        raise ConfigError(
            f"{ADMIN_TOKEN_VARIABLE} is no good token: it needs at least {form}"
        )
    raise ConfigError(f"--admin-port needs {ADMIN_TOKEN_VARIABLE}: at least {form}")


def api_key() -> str:
    """Read the API key of Stairoids."""
    key = _secret(API_KEY_VARIABLE)
    if not key:
        raise ConfigError(f"no API key: set {API_KEY_VARIABLE}")
    _checked(API_KEY_VARIABLE, key)
    if not (key.isascii() and key.isprintable()):
        raise ConfigError(
            f"{API_KEY_VARIABLE} holds characters no HTTP header can carry: copy the"
            " key again"
        )
    return key
