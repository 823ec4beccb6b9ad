"""Errors of the pages."""

from __future__ import annotations


class FormRefusedError(Exception):
    """A form that did not come from a page of ours, or cannot be read.

    Args:
        status: The HTTP status of the response.
        message: One sentence for the person who sent the form.
    """

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
