"""Read the query string of a GET request. Unknown parameters are refused."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stairoids_sandbox.exceptions import invalid

if TYPE_CHECKING:
    from collections.abc import Collection

    from starlette.requests import Request


def parameters(request: Request, known: Collection[str]) -> dict[str, str]:
    """Return the parameters of a request.

    Raises:
        ApiError: 400; one is unknown or given twice.
    """
    found: dict[str, str] = {}
    for name, value in request.query_params.multi_items():
        if name not in known or name in found:
            shown = name[:100]
            msg = f"Query parameter {shown} is unknown or given twice."
            raise invalid(msg, param=shown)
        found[name] = value
    return found


def limit_from(found: dict[str, str], *, default: int, maximum: int) -> int:
    """Return the parameter ``limit``.

    Raises:
        ApiError: 400; it is not an integer between 1 and ``maximum``.
    """
    text = found.get("limit")
    if text is None:
        return default
    if text.isdecimal() and text.isascii() and len(text) < 6:
        limit = int(text)
        if 1 <= limit <= maximum:
            return limit
    msg = f"limit must be an integer from 1 to {maximum}."
    raise invalid(msg, param="limit")


def sequence_from(cursor: str) -> int | None:
    """Return the sequence that a cursor stands for; None if it is no cursor."""
    return int(cursor[:18]) if cursor.isascii() and cursor.isdecimal() else None
