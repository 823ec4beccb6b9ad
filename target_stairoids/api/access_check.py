"""Check whether the API is reachable and accepts the key. Nothing is sent."""

from __future__ import annotations

from contextlib import closing

from target_stairoids.api.client import Client, Response, ResponseKind
from target_stairoids.exceptions import AccessRefusedError
from target_stairoids.settings import Settings


def check_reachable(settings: Settings) -> None:
    """Raise `AccessRefusedError` if the API's address does not respond.

    The key is not sent.
    """
    with closing(_client(settings, api_key="")) as client:
        _check_response(settings, client.reach())


def check_key(settings: Settings) -> str:
    """Send the key, by listing one signal, and return the result in a sentence.

    Raises:
        AccessRefusedError: Stairoids does not know the key, or does not respond.
    """
    with closing(_client(settings, api_key=settings.api_key)) as client:
        response = client.list_signals({"limit": 1})
    _check_response(settings, response)
    if response.status == 401:
        raise AccessRefusedError(
            f"Stairoids refuses the key: {response.reason} at {settings.api_url}. "
            "Check `api_key` (it needs the `read_write` scope) and `api_url`."
        )
    if response.kind is ResponseKind.ACCEPTED:
        return "The key is known and may read."
    return (
        f"Asked to read, Stairoids answered {response.reason}: whether the key may "
        "send shows at the first signal, and unknown signals are left to a person."
    )


def _client(settings: Settings, *, api_key: str) -> Client:
    return Client(settings.api_url, api_key, timeout=settings.request_timeout_seconds)


def _check_response(settings: Settings, response: Response) -> None:
    if response.status is None:
        raise AccessRefusedError(
            f"{settings.api_url} cannot be reached: {response.failure}. See `api_url`."
        )
