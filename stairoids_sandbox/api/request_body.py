"""The body of a request: JSON, declared as such and not too large."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from stairoids_sandbox.exceptions import ApiError, invalid

if TYPE_CHECKING:
    from starlette.types import Receive, Scope

MAX_BODY_BYTES = 1_048_576  # our own; no limit is documented

_decode = msgspec.json.Decoder().decode


async def json_body(scope: Scope, receive: Receive) -> tuple[Any, bytes]:
    """Read a request's JSON and the bytes it came in.

    Raises:
        ApiError: 415, 413 or 400.
    """
    if not _declares_json(scope):
        msg = "Content-Type must be application/json."
        raise ApiError(415, "unsupported_media_type", msg)
    raw = await _read(receive)
    try:
        return _decode(raw), raw
    except (msgspec.DecodeError, RecursionError) as error:
        msg = "The request body is not valid JSON."
        raise invalid(msg) from error


async def _read(receive: Receive) -> bytes:
    raw: bytes = b""
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            msg = "The request body is incomplete."
            raise invalid(msg)
        chunk: bytes = message["body"]
        raw += chunk
        if len(raw) > MAX_BODY_BYTES:
            msg = f"The request body exceeds {MAX_BODY_BYTES} bytes."
            raise ApiError(413, "payload_too_large", msg)
        if not message["more_body"]:
            return raw


def _declares_json(scope: Scope) -> bool:
    for name, value in scope["headers"]:
        if name == b"content-type":
            media_type: bytes = value.partition(b";")[0].strip().lower()
            return media_type == b"application/json"
    return False
