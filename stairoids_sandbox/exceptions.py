"""What the sandbox refuses.

SandboxError
├── ApiError        a request is at fault       -> answered in the error envelope
├── UsageError      how the sandbox was set up  -> it does not start; change the option
└── NotRunningError it has stopped              -> ask before the ``with`` block ends
"""

from __future__ import annotations


class SandboxError(Exception):
    """Root of every error this package raises on purpose."""


class UsageError(SandboxError):
    """An option is wrong; the message says which and what fits."""


class NotRunningError(SandboxError):
    """The sandbox was asked to act before it started or after it stopped."""


class ApiError(SandboxError):
    """A request the API refuses.

    Args:
        status: The HTTP status of the answer.
        code: The machine-readable ``error.code``.
        message: The human-readable ``error.message``.
        param: The one field to blame, if there is one.
        retry_after: Seconds for the ``Retry-After`` header.
    """

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        *,
        param: str | None = None,
        retry_after: int | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.param = param
        self.retry_after = retry_after


def invalid(message: str, *, param: str | None = None) -> ApiError:
    """Say that a request does not fit the documented contract: 400."""
    return ApiError(400, "validation_error", message, param=param)
