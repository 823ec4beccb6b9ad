"""The errors that this package raises on purpose, with the next step of the caller.

WebhooksError
├── ConfigError                 fix the setting and start again
├── MalformedBodyError          store the body and mark the event as malformed
├── RefusedLineError            count the line of an import and go on
├── RefusedRequestError         send its HTTP response
├── StairoidsError              show the response of Stairoids to the operator
└── StoreError
    ├── StoreMissingError       start the receiver, or name another store
    ├── StoreUnavailableError   respond 503, or run again later
    ├── StoreResetError         ask a person whether to read everything again
    └── StoreVersionError       use the release that wrote the store

Choose a class by the next step of the caller, not by the place of the fault.
"""

from __future__ import annotations

from typing import ClassVar


class WebhooksError(Exception):
    """Root of the tree.

    The text is one sentence for the operator. It never holds a secret, a body or
    personal data, because it is written to logs.

    Attributes:
        id: A name of the error that stays the same when its text changes.
    """

    id: ClassVar[str] = "webhooks-error"


class ConfigError(WebhooksError):
    """A setting, a flag or an environment variable is missing or wrong."""

    id = "config-wrong"


class MalformedBodyError(WebhooksError):
    """A signed body is not one JSON object; the text is the reason."""

    id = "body-malformed"


class RefusedLineError(WebhooksError):
    """A line of an imported file is not stored; the text is one word for counts."""

    id = "line-refused"


class RefusedRequestError(WebhooksError):
    """A request gets a response other than 2xx.

    Args:
        status: The HTTP status.
        reason: One word for counts.
        headers: Headers that go with the status.
        text: Body of the response. Default: the reason.
    """

    id = "request-refused"

    def __init__(
        self,
        status: int,
        reason: str,
        *headers: tuple[bytes, bytes],
        text: str | None = None,
    ) -> None:
        super().__init__(reason)
        self.status = status
        self.reason = reason
        self.headers = headers
        self.text = text or reason


class StairoidsError(WebhooksError):
    """Stairoids refused a call, or could not be reached."""

    id = "stairoids-refused"


class StoreError(WebhooksError):
    """Root of the errors of the event store."""

    id = "store-error"


class StoreMissingError(StoreError):
    """There is no store at this URL."""

    id = "store-missing"


class StoreUnavailableError(StoreError):
    """Nothing was stored or read; the same call may succeed later."""

    id = "store-unavailable"


class StoreResetError(StoreError):
    """A bookmark does not belong to the history of this store."""

    id = "store-reset"


class StoreVersionError(StoreError):
    """Another release wrote the store, with another schema."""

    id = "store-version"
