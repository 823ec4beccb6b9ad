"""Accept signals: keep them, score them and match them to accounts and contacts.

Only the server's thread changes the workspace, so it has no locks. Other threads read
copies.
"""

from __future__ import annotations

from collections import defaultdict
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import msgspec

from stairoids_common.time import rfc3339
from stairoids_sandbox.exceptions import ApiError, invalid
from stairoids_sandbox.ids import new_id
from stairoids_sandbox.state.accounts import Accounts, domain_of
from stairoids_sandbox.state.models import Signal
from stairoids_sandbox.state.signal_index import SignalIndex
from stairoids_sandbox.state.signal_log import StoredSignal
from stairoids_sandbox.state.signal_request import SignalRequest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from stairoids_sandbox.state.keys import ApiKey
    from stairoids_sandbox.state.signal_log import SignalLog

# The documented default weights. Scores do not decay here.
_WEIGHTS = {
    "meeting_booked": 25,
    "deal_created": 20,
    "form_submit": 18,
    "crm_stage_change": 12,
    "linkedin_connection": 8,
    "email_click": 6,
    "email_open": 3,
    "page_visit": 2,
}
_CUSTOM_WEIGHT = 5  # the weight of a custom type is not documented


class Workspace:
    """The signals, accounts and contacts of all workspaces.

    Each workspace has its own accounts and contacts.

    Args:
        log: Stores accepted signals; None keeps them in memory only.
        on_accepted: Called with each new signal, once it is stored.
        excluded_domains: Signals of these domains are refused.
        clock_offset_seconds: How far the workspace's clock is ahead.
        accepts_names: Whether ``account.name`` is enough to name a company.
    """

    def __init__(
        self,
        *,
        log: SignalLog | None,
        on_accepted: Callable[[Signal], None],
        excluded_domains: Iterable[str] = (),
        clock_offset_seconds: float = 0.0,
        accepts_names: bool = False,
    ) -> None:
        self._offset = timedelta(seconds=clock_offset_seconds)
        self._accepts_names = accepts_names
        self.signals = SignalIndex()
        self._accounts: defaultdict[str, Accounts] = defaultdict(Accounts)
        self._log = log
        self._on_accepted = on_accepted
        self._excluded = frozenset(domain.lower() for domain in excluded_domains)
        for stored in log.all() if log else ():
            request = msgspec.json.decode(stored.body, type=SignalRequest)
            self._add(request, stored, datetime.fromisoformat(stored.created_at))

    def now(self) -> datetime:
        """Return the time of the workspace's clock, without a fraction of a second."""
        return self.exact_now().replace(microsecond=0)

    def exact_now(self) -> datetime:
        """Return the time of the workspace's clock."""
        return datetime.now(UTC) + self._offset

    def accept(self, request: SignalRequest, *, raw: bytes, key: ApiKey) -> Signal:
        """Accept a signal. When this returns, it is stored and scored.

        Args:
            request: The signal.
            raw: The bytes of the request's body.
            key: The API key of the request.

        Raises:
            ApiError: 400 if it names no person and no company, 422 if its domain is
                excluded, 503 if it could not be stored.
        """
        name = request.account.name if self._accepts_names else ""
        if not (request.account.domain or request.contact.email or name):
            msg = "At least one of account.domain or contact.email is required."
            raise invalid(msg)
        if self._excluded and domain_of(request) in self._excluded:
            msg = "The account's domain is on the list of excluded domains."
            raise ApiError(422, "domain_excluded", msg)
        created_at = self.now()
        stored = StoredSignal(
            sequence=len(self.signals) + 1,
            id=new_id("sig"),
            created_at=rfc3339(created_at),
            key_name=key.name,
            key_scope=key.scope,
            workspace=key.workspace,
            body=raw,
        )
        if self._log is not None:
            self._log.append(stored)
        signal = self._add(request, stored, created_at)
        self._on_accepted(signal)
        return signal

    def _add(
        self, request: SignalRequest, stored: StoredSignal, created_at: datetime
    ) -> Signal:
        accounts = self._accounts[stored.workspace]
        signal = Signal(
            id=stored.id,
            sequence=stored.sequence,
            type=request.type,
            source=request.source or None,
            account=accounts.account_for(request),
            contact=accounts.contact_for(request),
            properties=request.properties,
            score=_WEIGHTS.get(request.type, _CUSTOM_WEIGHT),
            occurred_at=request.time() or created_at,
            created_at=created_at,
            raw=stored.body,
            key_name=stored.key_name,
            key_scope=stored.key_scope,
            workspace=stored.workspace,
        )
        for scored in (signal.account, signal.contact):
            if scored is not None:
                scored.score += signal.score
        self.signals.add(signal)
        return signal
