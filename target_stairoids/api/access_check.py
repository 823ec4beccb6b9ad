"""Check whether the API is reachable and accepts the key. Nothing is sent."""

from __future__ import annotations

from contextlib import closing

from target_stairoids.api.client import (
    UNDECIDED,
    Client,
    ResponseKind,
    is_other_api,
    refusal,
)
from target_stairoids.api.signal_lookup import listed
from target_stairoids.exceptions import IncompleteError
from target_stairoids.settings import Settings


def check_key(settings: Settings) -> str:
    """Send the key, by listing one signal, and return the result in a sentence.

    Raises:
        AccessRefusedError: Stairoids does not know the key, or it is another API.
        IncompleteError: There is an outage.
    """
    with closing(Client.of(settings)) as client:
        response = client.list_signals({"limit": 1})
    if response.status is None:
        raise IncompleteError(
            f"{settings.api_url} cannot be reached: {response.failure}. Check "
            "`api_url`, or run again later."
        )
    if response.kind in UNDECIDED:
        raise IncompleteError(
            f"The key cannot be checked: {response.reason}. Run again later."
        )
    if response.kind is ResponseKind.ACCEPTED and listed(response) is not None:
        return "The key is known and may read."
    if response.status == 401 or is_other_api(response):
        raise refusal(response, settings.api_url)
    hint = " Compare `api_url` with its default." if response.status == 404 else ""
    return (
        f"The response to a read was {response.reason}: whether the key may send shows "
        f"at the first signal, and unknown signals are left to a person.{hint}"
    )
