"""Settings: their names and defaults, and how secrets are read."""

from __future__ import annotations

import json
import logging
from typing import TYPE_CHECKING

from tap_stairoids_webhooks.exceptions import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping

logger = logging.getLogger(__name__)

DEFAULT_API_URL = "https://api.stairoids.com/v1"
DEFAULT_PATH = "/webhooks/stairoids"
DEFAULT_MAX_BODY_BYTES = 5 * 1024 * 1024
DEFAULT_MIN_FREE_BYTES = 100 * 1024 * 1024
EVENT_TYPES = (
    "signal.created",
    "signal.scored",
    "account.score_changed",
    "contact.score_changed",
    "automation.triggered",
)
DEFAULT_STORE_URL = "sqlite:///.stairoids/webhooks.db"
SECRET_VARIABLE = "STAIROIDS_WEBHOOK_SECRET"  # noqa: S105 -- a name, not a secret
SECRETS_VARIABLE = "STAIROIDS_WEBHOOK_SECRETS"
ADMIN_TOKEN_VARIABLE = "STAIROIDS_WEBHOOKS_ADMIN_TOKEN"  # noqa: S105 -- a name
_MIN_TOKEN_LENGTH = 16


def secrets_from(environ: Mapping[str, str]) -> list[str]:
    """Read the webhook secrets, the newest first; warn if one of them is not read.

    Raises:
        ConfigError: None is given, or not in the documented form.
    """
    if several := environ.get(SECRETS_VARIABLE):
        if environ.get(SECRET_VARIABLE):
            logger.warning(
                "%s and %s are both set: the secrets of %s count, %s is not read",
                *(SECRETS_VARIABLE, SECRET_VARIABLE) * 2,
            )
        try:
            return checked_secrets(json.loads(several), name=SECRETS_VARIABLE)
        except json.JSONDecodeError:
            # Not chained: the decoder's error carries the text it read.
            msg = f'{SECRETS_VARIABLE} must be a JSON array such as ["new", "old"]'
        raise ConfigError(msg)
    if one := environ.get(SECRET_VARIABLE):
        return [one]
    msg = (
        f"no webhook secret: set {SECRET_VARIABLE}, or {SECRETS_VARIABLE}"
        " to a JSON array of several"
    )
    raise ConfigError(msg)


def admin_token_from(environ: Mapping[str, str]) -> str:
    """Read the token of the admin listener.

    Raises:
        ConfigError: There is none, or one that could be guessed.
    """
    token = environ.get(ADMIN_TOKEN_VARIABLE, "")
    if len(token) >= _MIN_TOKEN_LENGTH and token.isascii() and token.isprintable():
        return token
    msg = (
        f"--admin-port needs {ADMIN_TOKEN_VARIABLE}: at least {_MIN_TOKEN_LENGTH}"
        " characters of ASCII in one line"
    )
    raise ConfigError(msg)


def checked_secrets(value: object, *, name: str) -> list[str]:
    """Recognise a list of secrets; a message about it never repeats one.

    Raises:
        ConfigError: It is not a list of non-empty strings.
    """
    if (
        isinstance(value, list)
        and value
        and all(isinstance(secret, str) and secret for secret in value)
    ):
        return list(value)
    msg = f"{name} must be a list of one or more non-empty strings"
    raise ConfigError(msg)
