"""What can go wrong between a delivery and a record.

WebhooksError
├── ConfigError                 a setting is missing or wrong   -> name it, exit 1
├── MalformedBodyError          a signed body is no JSON object -> keep it, marked
├── StairoidsError              Stairoids refused a call        -> tell the operator
└── StoreError
    ├── StoreMissingError       there is nothing to read yet    -> start the receiver
    ├── StoreUnavailableError   not stored, or unreadable now   -> 503, try again
    ├── StoreResetError         the bookmark is of another past -> a person decides
    └── StoreVersionError       written by another version      -> upgrade

Pick the class by what the caller does next, not by where the fault appeared.
"""

from __future__ import annotations


class WebhooksError(Exception):
    """Root of every error this package raises on purpose.

    Its text is one sentence for the operator. It never holds a secret, a body or
    a person's data, because it ends up in logs.
    """


class ConfigError(WebhooksError):
    """A setting, flag or environment variable is missing or wrong."""


class MalformedBodyError(WebhooksError):
    """A signed body is not one JSON object; its text says in what way."""


class StairoidsError(WebhooksError):
    """Stairoids, or the way to it, refused what the operator asked for."""


class StoreError(WebhooksError):
    """Root of what can go wrong with the store."""


class StoreMissingError(StoreError):
    """There is no store where the settings say."""


class StoreUnavailableError(StoreError):
    """Nothing was stored or read; the same call may succeed later."""


class StoreResetError(StoreError):
    """The bookmark does not belong to the history of this store."""


class StoreVersionError(StoreError):
    """The store was written by a version this one cannot read."""
