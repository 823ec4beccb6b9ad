"""Readiness: can a run begin? Asked without harm to anybody."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING

from target_stairoids.api.client import Client, ResponseKind
from target_stairoids.exceptions import AccessRefusedError
from target_stairoids.ledger.ledger import Ledger

if TYPE_CHECKING:
    from target_stairoids.api.client import Response
    from target_stairoids.settings import Settings


def writable_ledger(settings: Settings) -> str:
    """Return the ledger's name, once it was seen that it can be written.

    Raises:
        StairoidsError: It cannot be opened or written.
    """
    with Ledger(settings.ledger_url, settings.scope) as ledger:
        with ledger.transaction():
            pass
        return ledger.name


def reach(settings: Settings) -> None:
    """Make sure that something responses at the API's address; the key stays here.

    Raises:
        AccessRefusedError: Nothing does.
    """
    with closing(_client(settings, api_key="")) as client:
        _check_answer(settings, client.reach())


def look_at_key(settings: Settings) -> str:
    """Let Stairoids look at the key, by asking to read one signal.

    Returns:
        What it says of the key, in a sentence.

    Raises:
        AccessRefusedError: Stairoids does not know the key, or nothing responses.
    """
    with closing(_client(settings, api_key=settings.api_key)) as client:
        response = client.list_signals({"limit": 1})
    _check_answer(settings, response)
    if response.status == 401:
        msg = (
            f"Stairoids refuses us: {response.reason} at {settings.api_url}. Check "
            "`api_key` (it needs the `read_write` scope) and `api_url`."
        )
        raise AccessRefusedError(msg)
    if response.kind is ResponseKind.ACCEPTED:
        return "The key is known and may read."
    return (
        f"Asked to read, Stairoids answered {response.reason}: whether the key may "
        "send shows at the first signal, and unknown signals are left to a person."
    )


def _client(settings: Settings, *, api_key: str) -> Client:
    return Client(settings.api_url, api_key, timeout=settings.request_timeout_seconds)


def _check_answer(settings: Settings, response: Response) -> None:
    if response.status is None:
        msg = (
            f"{settings.api_url} cannot be reached: {response.trouble}. See `api_url`."
        )
        raise AccessRefusedError(msg)
