"""Read the JSON body of a request into a struct."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, TypeVar

import msgspec

from stairoids_sandbox.exceptions import ApiError, invalid

if TYPE_CHECKING:
    from starlette.types import Receive, Scope

MAX_BODY_BYTES = 1_048_576  # the real limit is not documented
_T = TypeVar("_T")
_PROBLEM = re.compile(r"(.*?)(?: - at `\$\.?(.*)`)?", re.DOTALL)
_FIELD = re.compile(r"Object (contains unknown|missing required) field `(.*)`")


async def read_body(
    scope: Scope, receive: Receive, decoder: msgspec.json.Decoder[_T]
) -> tuple[_T, bytes]:
    """Return a request's body as the decoder's type, and as bytes.

    Raises:
        ApiError: 415, 413 or 400.
    """
    if not _declares_json(scope):
        msg = "Content-Type must be application/json."
        raise ApiError(415, "unsupported_media_type", msg)
    raw = await _read(receive)
    try:
        return decoder.decode(raw), raw
    except msgspec.ValidationError as error:
        raise _refusal(error) from error
    except (msgspec.DecodeError, RecursionError) as error:
        raise invalid("The request body is not valid JSON.") from error


async def _read(receive: Receive) -> bytes:
    raw: bytes = b""
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise invalid("The request body is incomplete.")
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


def _refusal(error: msgspec.ValidationError) -> ApiError:
    """Return the 400 for a body of the wrong type, with the field as ``param``."""
    problem, path = _PROBLEM.fullmatch(str(error)).groups()  # type: ignore[union-attr]  # the pattern fits every text
    names = [path] if path else []
    field = _FIELD.fullmatch(problem)
    if field:
        names.append(field[2])
    param = ".".join(names)[:100]
    if param == "account_id":
        msg = "account_id is not accepted; name the account by account.domain."
    elif field:
        is_unknown = field[1] == "contains unknown"
        msg = f"Unknown field {param}." if is_unknown else f"{param} is required."
    elif "matching regex" in problem:
        msg = f"{param} must be a non-empty string."
    else:
        msg = f"{param or 'The request body'}: {problem[0].lower()}{problem[1:]}."
    return invalid(msg, param=param or None)
