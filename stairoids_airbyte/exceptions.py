"""The errors that end a connector, one class for each failure type of Airbyte.

ConnectorError          a message, a failure type, an exit code
├── WrongConfigError    config, catalog or state are wrong  -> fix them
├── UnfinishedError     the same sync may succeed later     -> run again
└── BrokenError         another fault                       -> see the message

The errors of the plugins are converted to these. No message holds a record's values
or a secret, because all messages end up in logs.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import ClassVar

from stairoids_common.text import visible
from tap_stairoids_webhooks.exceptions import WebhooksError
from target_stairoids.exceptions import StairoidsError

_Kinds = tuple[type[Exception], ...]
#: This command reads Singer messages only.
_BASELINE = re.compile(
    r"pipe the (whole output of the )?tap into `stairoids-signals ledger baseline[^`]*`"
    "( once)?"
)
_BASELINE_HERE = (
    "set a new `namespace`, and `first_run: baseline` for one sync with all records"
)


class ConnectorError(Exception):
    """Root of every expected error that ends a connector, with one sentence.

    `failure_type` is Airbyte's name for errors of this kind.
    """

    failure_type: ClassVar[str]

    def __init__(self, message: str, *, exit_code: int = 1) -> None:
        self.exit_code = exit_code
        super().__init__(visible(_BASELINE.sub(_BASELINE_HERE, message)))


class WrongConfigError(ConnectorError):
    """Config, catalog or state are wrong. The same sync would fail again."""

    failure_type = "config_error"


class UnfinishedError(ConnectorError):
    """Something is left to do. The next sync resumes it."""

    failure_type = "transient_error"


class BrokenError(ConnectorError):
    """Input, ledger, store or stdout do not work."""

    failure_type = "system_error"


@contextmanager
def converted_errors(*, wrong: _Kinds, unfinished: _Kinds) -> Iterator[None]:
    """Convert the errors of a plugin, by their nearest class, else to `BrokenError`."""
    kinds: dict[type, type[ConnectorError]] = dict.fromkeys(wrong, WrongConfigError)
    kinds |= dict.fromkeys(unfinished, UnfinishedError)
    try:
        yield
    except (StairoidsError, WebhooksError) as error:
        nearest = (kinds[one] for one in type(error).__mro__ if one in kinds)
        kind = next(nearest, BrokenError)
        raise kind(str(error), exit_code=getattr(error, "exit_code", 1)) from error
