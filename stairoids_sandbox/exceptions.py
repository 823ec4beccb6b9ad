"""Errors of the sandbox.

SandboxError
├── ApiError         refuse a request with the documented error envelope
├── UsageError       change an argument or an option, then start again
└── NotRunningError  call it while the sandbox runs
"""

from __future__ import annotations


class SandboxError(Exception):
    """Root of every error that this package raises on purpose."""


class UsageError(SandboxError):
    """An argument or option is wrong. The message names it and the right values."""


class NotRunningError(SandboxError):
    """The sandbox has not started, or has stopped."""


class ApiError(SandboxError):
    """A request that the API refuses.

    Args:
        status: The HTTP status of the response.
        code: The machine-readable ``error.code``.
        message: The human-readable ``error.message``.
        param: The wrong field, if it is a single one.
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
    """Return the 400 for a request that breaks the documented contract."""
    return ApiError(400, "validation_error", message, param=param)
