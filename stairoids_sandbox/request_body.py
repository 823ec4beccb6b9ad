"""The body of a request: JSON, declared as such and not too large."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from stairoids_sandbox.exceptions import ApiError, invalid

if TYPE_CHECKING:
    from starlette.requests import Request

MAX_BODY_BYTES = 1_048_576  # our own; no limit is documented

_decode = msgspec.json.Decoder().decode


async def json_body(request: Request) -> tuple[Any, bytes]:
    """Read a request's JSON and the bytes it came in.

    Raises:
        ApiError: 415, 413 or 400.
    """
    content_type = request.headers.get("content-type") or ""
    if content_type.partition(";")[0].strip().lower() != "application/json":
        msg = "Content-Type must be application/json."
        raise ApiError(415, "unsupported_media_type", msg)
    raw = bytearray()
    async for chunk in request.stream():
        raw += chunk
        if len(raw) > MAX_BODY_BYTES:
            msg = f"The request body exceeds {MAX_BODY_BYTES} bytes."
            raise ApiError(413, "payload_too_large", msg)
    try:
        return _decode(raw), bytes(raw)
    except (msgspec.DecodeError, RecursionError) as error:
        msg = "The request body is not valid JSON."
        raise invalid(msg) from error
