"""Build responses in the documented envelopes and bodies."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
from starlette.responses import Response
from typing_extensions import override

from stairoids_common.time import rfc3339
from stairoids_sandbox.ids import new_id

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from datetime import datetime

    from stairoids_sandbox.exceptions import ApiError
    from stairoids_sandbox.state.models import Account, Contact, Signal

_encode = msgspec.json.Encoder().encode


class JsonResponse(Response):
    """A response with JSON content."""

    media_type = "application/json"

    @override
    def render(self, content: object) -> bytes:
        return _encode(content)


def error_response(error: ApiError) -> JsonResponse:
    """Return the documented error envelope."""
    details = {
        "code": error.code,
        "message": error.message,
        "request_id": new_id("req"),
    }
    if error.param is not None:
        details["param"] = error.param
    headers = {}
    if error.retry_after is not None:
        headers["Retry-After"] = str(error.retry_after)
    return JsonResponse({"error": details}, status_code=error.status, headers=headers)


def enveloped(data: object, moment: datetime, **meta: object) -> dict[str, Any]:
    """Put data into the documented success envelope, with the time of the response."""
    return {
        "data": data,
        "meta": {
            **meta,
            "request_id": new_id("req"),
            "timestamp": rfc3339(moment),
        },
    }


def _flat(signal: Signal) -> dict[str, Any]:
    return {
        "id": signal.id,
        "type": signal.type,
        "source": signal.source,
        "status": "received",
        "account_id": signal.account.id if signal.account else None,
        "contact_id": signal.contact.id if signal.contact else None,
        "created_at": rfc3339(signal.created_at),
    }


def _enveloped(signal: Signal) -> dict[str, Any]:
    return enveloped(
        {
            "id": signal.id,
            "type": signal.type,
            "account_id": signal.account.id if signal.account else None,
            "created_at": rfc3339(signal.created_at),
        },
        signal.created_at,
    )


def nested(signal: Signal) -> dict[str, Any]:
    """Return a signal as `GET /v1/signals/{id}` shows it, with ``occurred_at``."""
    return {
        "id": signal.id,
        "type": signal.type,
        "account": _account(signal.account) if signal.account else None,
        "contact": _contact(signal.contact) if signal.contact else None,
        "score": signal.score,
        "source": signal.source,
        "properties": signal.properties,
        "occurred_at": rfc3339(signal.occurred_at),
        "created_at": rfc3339(signal.created_at),
    }


#: The documentation shows three different 201 bodies.
ACCEPTED_BODIES: Mapping[str, Callable[[Signal], dict[str, Any]]] = {
    "flat": _flat,
    "nested": nested,
    "enveloped": _enveloped,
}


def _account(account: Account) -> dict[str, Any]:
    return {
        "id": account.id,
        "domain": account.domain,
        "name": account.name,
        "score": account.score,
    }


def _contact(contact: Contact) -> dict[str, Any]:
    return {"id": contact.id, "email": contact.email, "score": contact.score}
