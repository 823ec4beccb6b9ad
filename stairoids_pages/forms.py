"""Read forms, but only those of our own pages.

A foreign page can make a browser send a form here, but it cannot read our pages. So
each form holds a secret token. The header `Origin` is checked too.
"""

from __future__ import annotations

import hmac
import secrets
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl

from starlette.requests import ClientDisconnect

from stairoids_pages.exceptions import FormRefusedError

if TYPE_CHECKING:
    from starlette.requests import Request

_MAX_BYTES = 65_536
_MAX_FIELDS = 50
_TYPE = "application/x-www-form-urlencoded"
TOKEN_FIELD = "form_token"  # noqa: S105 -- a name, not a token


class Forms:
    """Make form tokens, and read the forms that hold them.

    The tokens are valid until the process ends.
    """

    def __init__(self) -> None:
        self._key = secrets.token_bytes(32)

    def token(self, session: str = "") -> str:
        """Return the token for the forms of one session."""
        return hmac.digest(self._key, session.encode(), "sha256").hex()

    async def read(self, request: Request, *, session: str = "") -> dict[str, str]:
        """Read the fields of a form, without its token.

        Raises:
            FormRefusedError: It is too large, no form, or of another session.
        """
        origin = request.headers.get("origin")
        if origin is not None and origin != f"http://{request.headers.get('host')}":
            raise FormRefusedError(403, "Another site sent this form.")
        media_type = request.headers.get("content-type", "").partition(";")[0]
        if media_type.strip().lower() != _TYPE:
            raise FormRefusedError(415, f"A form must be sent as {_TYPE}.")
        fields = _fields_of(await _body_of(request))
        given = fields.pop(TOKEN_FIELD, "").encode()
        if not hmac.compare_digest(given, self.token(session).encode()):
            msg = "This form is out of date. Go back, reload the page and try again."
            raise FormRefusedError(403, msg)
        return fields


async def _body_of(request: Request) -> bytes:
    body = b""
    try:
        async for chunk in request.stream():
            body += chunk
            if len(body) > _MAX_BYTES:
                raise FormRefusedError(413, "This form is too large.")
    except ClientDisconnect:
        raise FormRefusedError(400, "This form is incomplete.") from None
    return body


def _fields_of(body: bytes) -> dict[str, str]:
    try:
        return dict(
            parse_qsl(
                body.decode("ascii"),
                keep_blank_values=True,
                errors="strict",
                max_num_fields=_MAX_FIELDS,
            )
        )
    except ValueError:
        raise FormRefusedError(400, "This form cannot be read.") from None
