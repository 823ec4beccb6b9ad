"""``/``: what is served here, in plain text."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.responses import PlainTextResponse
from starlette.routing import Route

if TYPE_CHECKING:
    from starlette.requests import Request

_INDEX = """\
stairoids-sandbox: the documented Stairoids API on this machine.

POST GET     /v1/signals       GET /v1/signals/{id}
POST GET     /v1/webhooks      DELETE /v1/webhooks/{id}
POST GET     /v1/automations

GET POST     /_sandbox/faults
GET          /_sandbox/signals  /_sandbox/deliveries  /_sandbox/stats
POST         /_sandbox/deliveries/{id}/send-again
"""


def index_routes() -> list[Route]:
    """List what to serve."""
    return [Route("/", _index, methods=["GET"])]


async def _index(_request: Request) -> PlainTextResponse:
    return PlainTextResponse(_INDEX)
