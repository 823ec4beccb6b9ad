"""The errors that this package raises on purpose, in one tree.

The class of an error is the next step of the caller, not the place of the fault.
"""

from __future__ import annotations


class WebhooksError(Exception):
    """Root of the tree. The text is for logs: no secret, body or personal data."""


class ConfigError(WebhooksError):
    """A setting or an environment variable is wrong: fix it and start again."""


class MalformedBodyError(WebhooksError):
    """A signed body is not one JSON object: store it and mark it as malformed."""


class RefusedLineError(WebhooksError):
    """A line of an imported file is refused, for one word: count it and go on."""

    def __init__(self, *, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class RefusedRequestError(WebhooksError):
    """A request is refused, for one word: send its response, by default this word."""

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
    """Stairoids refused a call or did not respond: show this to the operator."""


class StoreError(WebhooksError):
    """Root of the errors of the event store."""


class StoreMissingError(StoreError):
    """There is no store: start the receiver, or name another store."""


class StoreUnavailableError(StoreError):
    """Nothing was stored or read: respond 503, or run again later."""


class StoreForbiddenError(StoreUnavailableError):
    """This user may not read or write the store: give it the right."""


class RowRefusedError(StoreError):
    """The store works, and refuses a row: try the other rows without it."""


class StoreResetError(StoreError):
    """A bookmark is not of this store: a person decides to read everything again."""


class UnverifiedEventError(StoreError):
    """None of the given secrets signed an event: add its secret and run again."""


class StoreVersionError(StoreError):
    """Another release wrote the store: use that release, or another store."""
